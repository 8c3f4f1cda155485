"""Finished runs as statistics and report see them: settings, course, test figures, predictions."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from dao.errors import UserError
from dao.learner.basics.numbers import is_known
from dao.learner.basics.pairs import join
from dao.learner.basics.spreadsheets import unguarded
from dao.learner.experiment.arm_settings import comparable_settings
from dao.learner.experiment.arms import KNOWN, known_arms, label
from dao.learner.experiment.findings.contrasts import SELECTION
from dao.learner.kinds.recorded import Recorded, recorded_tasks, selection
from dao.learner.settings.config import Config
from dao.learner.storage.record import RunFolder

__all__ = [
    "Run",
    "Runs",
    "experiment",
    "kept_without",
    "labels",
    "read_arm",
    "read_run",
    "read_runs",
]

SEED = re.compile(r"seed=(\d+)")


@dataclass(frozen=True)
class Run:
    """A run whose metrics.json is there; the larger files are read when they are asked for."""

    arm: str
    """Name of the arm's folder, or of the run's where it stands alone."""
    seed: int
    path: Path
    config: Config
    metrics: Mapping[str, Any]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings by their dotted names; see `comparable_settings`."""
        return comparable_settings(self.config)

    @cached_property
    def tasks(self) -> dict[str, Recorded]:
        """What is recorded of each task, by name."""
        return recorded_tasks(self.metrics, self.config.tasks)

    @property
    def dendrites(self) -> Mapping[str, Any]:
        """The record of the dendrites; empty where none grew."""
        return self.metrics.get("dendrites") or {}

    @property
    def paced(self) -> bool:
        """Whether its own validations decide when it ends, or when dendrites grow."""
        cfg = self.config
        grown = cfg.dendrites.enabled and cfg.dendrites.patience is not None
        return grown or cfg.train.early_stopping is not None

    @property
    def validation_score(self) -> float | None:
        """The validation score of the model that was kept; None where it was not recorded."""
        step = self.metrics["training"]["selected_after_step"]
        return next((row.get("score") for row in self.validations if row["step"] == step), None)

    @property
    def has_predictions(self) -> bool:
        """Whether the answers for the test rows are there; of runs that are kept they may not."""
        return "predictions" in self.__dict__ or (self.path / "predictions.csv").is_file()

    @cached_property
    def validations(self) -> list[dict[str, Any]]:
        """A row per validation."""
        return self._rows("validation.jsonl")

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """A row per training step; none where no history was kept."""
        return self._rows("history.jsonl") if (self.path / "history.jsonl").is_file() else []

    @cached_property
    def batches(self) -> list[str]:
        """A fingerprint of the rows of every training step."""
        return [row["batch"] for row in self.history]

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """predictions.csv, sorted by id; class names stay text and empty cells are missing.

        Pairs of texts are one string each, as `pairs.join` makes it.

        Raises:
            UserError: the file is missing or damaged.
        """
        words = [t for t, task in self.tasks.items() if task.view != "scatter"]
        texts = ["text", "text_pair"] if self.config.data.pairs else ["text"]
        text = dict.fromkeys(["id", *texts, *words, *(f"{t}_target" for t in words)], "str")
        try:
            frame = pd.read_csv(
                self.path / "predictions.csv", dtype=text, keep_default_na=False, na_values=[""]
            )
            for column in text.keys() & set(frame):
                frame[column] = frame[column].map(unguarded, na_action="ignore")
            if self.config.data.pairs:
                pairs = zip(frame["text"], frame.pop("text_pair"), strict=True)
                frame["text"] = [join(*pair) for pair in pairs]
            needed = ["id", "text", *(c for t in self.config.tasks for c in (t, f"{t}_target"))]
            others = [column for column in frame if column not in needed]
            return frame[needed + others].sort_values("id", kind="stable", ignore_index=True)
        except (OSError, ValueError, KeyError) as error:
            raise _unreadable(self.path, "predictions.csv", error) from None

    def test_rows(self, task: str) -> pd.DataFrame:
        """The test rows that have a target of the task: id, text, target, predicted, score.

        The score of a row is what it adds to the task's `row_figure`; runs of an earlier revision,
        which state none, had classes, right or wrong, and numbers, with a squared error.
        """
        columns = {f"{task}_target": "target", task: "predicted", f"{task}_row_score": "score"}
        there = [column for column in columns if column in self.predictions]
        frame = self.predictions[["id", "text", *there]].rename(columns=columns)
        frame = frame[frame["target"].notna()].reset_index(drop=True)
        if "score" not in frame:
            frame["score"] = _early_scores(frame, numbers=self.tasks[task].view == "scatter")
        return frame

    def positive(self, task: str) -> str | None:
        """The class of a task whose own figures are given; None without such a class.

        Raises:
            UserError: the run is of an earlier revision, and its tasks.json missing or damaged.
        """
        about = self.tasks[task]
        if about.positive is not None or about.selects_by != "rare_f1":
            return about.positive
        return str(RunFolder(self.path).read("tasks.json", task)[task].get("positive"))

    def figure(self, metric: str) -> float | None:
        """A test figure by `task.figure`, or the selection score on the test rows.

        None where the task is missing or the figure is no finite number.
        """
        figures = self.metrics["splits"]["test"]
        if metric == SELECTION:
            return selection(self.tasks, figures, self.config.train.select_weights)
        task, _, key = metric.partition(".")
        shown = self.tasks[task].figures if task in self.tasks else ()
        if key not in [figure.key for figure in shown]:
            return None
        value = figures.get(task, {}).get(key)
        return float(value) if is_known(value) else None

    def figures(self, metrics: Iterable[str]) -> dict[str, float | None]:
        """Test figures by `task.figure`."""
        return {metric: self.figure(metric) for metric in metrics}

    def _rows(self, name: str) -> list[dict[str, Any]]:
        try:
            return RunFolder(self.path).rows(name)
        except (OSError, ValueError) as error:
            raise _unreadable(self.path, name, error) from None


Runs = Mapping[str, Mapping[int, Run]]
"""Arm -> seed -> run."""


def labels(runs: Runs) -> dict[str, str]:
    """Arm -> what readers see in its place."""
    return {arm: label(arm, next(iter(own.values())).config.tasks) for arm, own in runs.items()}


def kept_without(runs: Iterable[Run]) -> list[str]:
    """A line about runs that are kept without their predictions; none where all have them."""
    bare = [not run.has_predictions for run in runs]
    if not any(bare):
        return []
    return [
        f"{sum(bare)} of {len(bare)} runs are kept without predictions.csv: that their test rows "
        f"are the same rests on the fingerprint of the data"
    ]


def _early_scores(frame: pd.DataFrame, *, numbers: bool) -> pd.Series:
    if not numbers:
        return (frame["predicted"] == frame["target"]).astype(float)
    return (frame["predicted"].astype(float) - frame["target"].astype(float)) ** 2


def _unreadable(path: Path, name: str, error: Exception) -> UserError:
    return UserError(
        f"A finished run should hold {name}. In {path} it cannot be read: {error}. "
        f"Train it again with --overwrite."
    )


def read_run(path: Path, arm: str | None = None) -> Run:
    """A finished run.

    Raises:
        UserError: there is none, or its files are damaged.
    """
    folder = RunFolder(path)
    folder.check_finished()
    config = folder.config()
    return Run(arm or path.resolve().name, config.seed, path, config, folder.read("metrics.json"))


def read_arm(path: Path) -> tuple[list[Run], list[int]]:
    """The finished runs in `seed=N` below a folder, by seed, and the seeds that are not finished.

    Raises:
        UserError: a run was trained with another seed than its folder's name says.
    """
    runs, unfinished = [], []
    for seed, folder in sorted(_seeds(path)):
        if not RunFolder(folder).finished:
            unfinished.append(seed)
            continue
        runs.append(read_run(folder, path.resolve().name))
        if runs[-1].seed != seed:
            raise UserError(
                f"`seed` should be that of the folder's name. Found {runs[-1].seed} in {folder}. "
                f"Train that run again."
            )
    return runs, unfinished


def experiment(folder: Path) -> tuple[dict[str, list[Run]], dict[str, list[int]]]:
    """Arm -> its finished runs, and arm -> seeds begun and not finished, in the order of tables.

    Arms of one task come in the order of the tasks, before the arm of the DAO paper.

    Raises:
        UserError: there is no finished run below the folder.
    """
    children = sorted(folder.iterdir()) if folder.is_dir() else []
    names = [child.name for child in children if child.is_dir() and any(_seeds(child))]
    found = {name: read_arm(folder / name) for name in names}
    order = _order(runs for runs, _ in found.values())
    found = {name: found[name] for name in sorted(found, key=lambda name: (order(name), name))}
    if not any(runs for runs, _ in found.values()):
        raise UserError(
            f"An experiment should hold finished runs as ARM/seed=N. Found none in {folder}. "
            f"Give the folder that an experiment wrote."
        )
    return {n: runs for n, (runs, _) in found.items()}, {n: rest for n, (_, rest) in found.items()}


def _order(arms: Iterable[list[Run]]) -> Callable[[str], int]:
    """The place of an arm in all tables; unknown ones come last."""
    configs = [runs[0].config for runs in arms if runs]
    tasks = max((list(cfg.tasks) for cfg in configs), key=len, default=[])
    known = list(known_arms(tasks, configs[0].dendrites.lr if configs else 1.0))
    known += [arm for arm in KNOWN if arm not in known]
    return lambda name: known.index(name) if name in known else len(known)


def read_runs(folder: Path, arms: Iterable[str], seeds: Collection[int]) -> Runs:
    """The finished runs of these arms and seeds; only arms that have one."""
    found = {
        arm: {run.seed: run for run in read_arm(folder / arm)[0] if run.seed in seeds}
        for arm in arms
    }
    return {arm: runs for arm, runs in found.items() if runs}


def _seeds(path: Path) -> Iterator[tuple[int, Path]]:
    for child in path.glob("seed=*"):
        if (match := SEED.fullmatch(child.name)) and child.is_dir():
            yield int(match[1]), child
