"""Runs of a benchmark: each in a process, made once, its output in a log beside it."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch
from rich.console import Console

from dao.errors import UserError
from dao.learner.settings.config import Config
from dao.learner.storage.record import RunFolder

__all__ = ["ended", "failure", "made", "train_all", "train_quietly"]


def train_quietly(cfg: Config, threads: int) -> None:
    """Train in this process, its output in a log; if it stops, the reason in a file beside it."""
    import tasks
    from dao.learner.pipeline.start import train

    tasks.register()
    torch.set_num_threads(threads)
    folder = Path(cfg.output)
    folder.parent.mkdir(parents=True, exist_ok=True)
    failure(cfg).unlink(missing_ok=True)
    with (
        folder.with_suffix(".log").open("w") as stream,
        contextlib.redirect_stdout(stream),
        contextlib.redirect_stderr(stream),
    ):
        try:
            train(cfg, overwrite=True)
        except Exception as error:  # one run must not take the others with it
            traceback.print_exc(file=stream)
            failure(cfg).write_text(f"{error}\n", encoding="utf-8")


def failure(cfg: Config) -> Path:
    """Where the reason is for which a run stopped by itself."""
    return Path(cfg.output).with_suffix(".failed")


def ended(cfg: Config) -> bool:
    """Whether the run was made, or stopped by itself after these settings were written.

    Raises:
        UserError: the folder holds a finished run of other settings.
    """
    if not made(cfg):
        # One that failed before it wrote its settings costs nothing to try again.
        written = (cfg.folder / "config.yaml").is_file()
        return failure(cfg).exists() and written and _same_settings(cfg)
    if not _same_settings(cfg):
        raise UserError(
            f"{cfg.output} should hold a run of the settings asked for. Found others in its "
            f"config.yaml. Give another --runs, or remove it."
        )
    return True


def _same_settings(cfg: Config) -> bool:
    """Whether the folder's settings are these, but for where files go."""
    # What `data.rules` changes shows in the data's fingerprint.
    ignored = {**dict.fromkeys(("output", "cache", "device"), True), "data": {"rules"}}
    found = RunFolder(cfg.folder).config()
    return found.model_dump(exclude=ignored) == cfg.model_dump(exclude=ignored)


def train_all(todo: Sequence[Config], jobs: int, threads: int, console: Console) -> None:
    """Make the runs, `jobs` at a time, and tell of each one's end."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        started = {pool.submit(train_quietly, cfg, threads): cfg for cfg in todo}
        for done, future in enumerate(as_completed(started), 1):
            future.result()
            cfg = started[future]
            reason = failure(cfg).read_text().strip() if failure(cfg).exists() else ""
            line = f"{done}/{len(todo)} {cfg.output} {reason}"
            console.print(line, highlight=False)


def made(cfg: Config) -> bool:
    """Whether a run came to its end."""
    return (Path(cfg.output) / "metrics.json").exists()
