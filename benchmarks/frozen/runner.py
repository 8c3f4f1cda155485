"""Runs that are missing, several at a time, a JSON line each; and the plan they follow."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from dao.errors import UserError
from dao.learner.console.terminal import plain_console
from dao.learner.storage.provenance import provenance

__all__ = ["Keyed", "Lines", "complete", "keep_plan", "read_lines"]


class Keyed(Protocol):
    """A run, and what tells it from all others of its study."""

    @property
    def key(self) -> str:
        """Text in which every run differs from the others."""


AnyJob = TypeVar("AnyJob", bound=Keyed)
Run = Callable[[AnyJob], dict[str, Any]]

Lines = dict[str, dict[str, Any]]
"""What `run` gave, by the key of its job."""
LINES, PLAN = "runs.jsonl", "plan.json"


def keep_plan(folder: Path, about: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Write the plan before the first run; later, check that it is still the same.

    Args:
        folder: of the study's results.
        about: what is compared and how, in words.
        settings: all that decides the runs.

    Raises:
        UserError: the folder has runs of another plan.
    """
    path = folder / PLAN
    asked = json.loads(json.dumps(settings))
    if path.is_file():
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        differing = [key for key in {*plan["settings"], *asked} if plan["settings"].get(key) !=
                     asked.get(key)]  # fmt: skip
        if differing:
            raise UserError(
                f"{folder} should hold runs of this plan. Found another one: {min(differing)!r} "
                f"differs. Give another --output."
            )
        return plan
    machine = provenance(torch.device("cpu"))
    git = machine["git"] or {"commit": None}
    plan = {
        "about": about,
        "settings": asked,
        "revision": git["commit"],
        "torch": machine["packages"]["torch"],
        "python": machine["python"],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plan, indent=1) + "\n", encoding="utf-8")
    return plan


def read_lines(folder: Path) -> Lines:
    """The runs that are done; a line that was cut off in writing counts as none."""
    path = folder / LINES
    found: Lines = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        found[row["key"]] = row
    return found


def complete(jobs: Sequence[AnyJob], folder: Path, processes: int, run: Run[AnyJob]) -> Lines:
    """Make the runs that are missing, and give those that were asked for.

    Every run has one thread and is the same in any order and number of processes. Progress goes
    to stderr.

    Args:
        jobs: the runs.
        folder: of the study's results.
        processes: that run at once.
        run: makes a run; a function of a module, whose result has the job's `key`.
    """
    done = read_lines(folder)
    todo = list({job.key: job for job in jobs if job.key not in done}.values())
    if todo:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LINES).open("a+", encoding="utf-8") as file:
            _end_line(file)
            for row in _told(_outcomes(todo, processes, run), len(todo)):
                file.write(json.dumps(row, separators=(",", ":")) + "\n")
                file.flush()
                done[row["key"]] = row
    return {job.key: done[job.key] for job in jobs}


def _end_line(file: Any) -> None:  # noqa: ANN401
    file.seek(0)
    content = file.read()
    if content and not content.endswith("\n"):
        file.write("\n")


def _outcomes(todo: Sequence[AnyJob], processes: int, run: Run[AnyJob]) -> Iterator[dict[str, Any]]:
    if processes == 1:
        yield from map(run, todo)
        return
    # A server that has imported everything once, from which each process is a cheap copy.
    context = get_context("forkserver")
    context.set_forkserver_preload([run.__module__])
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        ending = [pool.submit(run, job) for job in todo]
        try:
            for future in as_completed(ending):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _told(rows: Iterator[dict[str, Any]], count: int) -> Iterator[dict[str, Any]]:
    console, began = plain_console(stderr=True), time.monotonic()
    said: Callable[..., None] = console.print
    for number, row in enumerate(rows, 1):
        if number in (1, count) or number % max(1, count // 50) == 0:
            left = (time.monotonic() - began) / number * (count - number) / 60
            said(f"{number}/{count}, about {left:.0f} min left: {row['key']}", highlight=False)
        yield row
