"""Train, validation and test without a text in two of them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pandas as pd

from dao.errors import UserError
from dao.learner.basics.wording import count
from dao.learner.data.reading.progress import ticking
from dao.learner.data.shares import choose, choose_one
from dao.learner.kinds import Task
from dao.learner.kinds.base import SPLITS
from dao.learner.kinds.parts.text import former_key, group_key

__all__ = ["FRACTIONS", "group_key", "make_splits"]

FRACTIONS = (0.8, 0.1, 0.1)
"""Train, validation and test, of texts that nobody has put anywhere."""


def make_splits(
    frame: pd.DataFrame,
    tasks: Mapping[str, type[Task]],
    seed: int,
    fractions: Sequence[float] = FRACTIONS,
    *,
    names: Mapping[str, str] | None = None,
    rules: int = 2,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Complete the splits and rid them of duplicates.

    Args:
        frame: Columns `text`, `split` (None where nobody has decided) and one per task.
        tasks: The kind of each task, by name.
        seed: Seed of the decisions made here.
        fractions: Shares of train, validation and test among the texts without a split; their
            sum is 1.
        names: The user's name of each task's column, for errors.
        rules: 1 splits and finds copies of texts as before shares held over all classes together.

    Returns:
        The rows that remain, each with a split, and the entries for the report.

    Raises:
        UserError: There are too few texts to fill every split.
    """
    key = group_key if rules > 1 else former_key
    keys = [key(text) for text in ticking(frame["text"].tolist(), "comparing texts")]
    groups = pd.Series(keys, index=frame.index, dtype=object)
    texts = _Texts(groups, _marks(frame, tasks), _held(frame, tasks), seed, rules)
    undecided = frame["split"].isna()
    notes = []
    if not undecided.all():
        notes.append(f"{count((~undecided).sum())} by their split column")
    if undecided.any():
        frame["split"] = texts.divide(frame["split"].fillna("train"), undecided, fractions)
        parts = ", ".join(f"{(frame['split'][undecided] == to).sum()} to {to}" for to in SPLITS)
        rows = count(undecided.sum())
        shares = "/".join(f"{100 * share:g}" for share in fractions)
        notes.append(f"{rows} without a split: {parts} ({shares} by text, seed {seed})")
    frame, duplicates = _remove_duplicates(frame, texts.groups)
    for to in ("test", "validation"):
        for task in sorted(tasks):
            labelled = frame[task].notna()
            if not (labelled & (frame["split"] == to)).any():
                filled = texts.fill(frame["split"], labelled, to)
                if filled is None:
                    rows = frame.index[labelled]
                    about = frame["split"][rows], texts.marks[task][rows], texts.groups[rows]
                    raise _too_few(*about, to, (names or {}).get(task, task), len(tasks) > 1)
                frame["split"], moved = filled
                notes.append(f"{to} for {task}: {moved}, seed {seed}")
    return frame.reset_index(drop=True), {"duplicates": duplicates, "split": notes}


@dataclass(frozen=True)
class _Texts:
    """Which rows move together (their group), and what keeps its share (their stratum).

    What moves depends on the texts and the seed, not on the order of the rows or of the tasks.

    Args:
        groups: The group of each row.
        marks: Of each row, a column per task: its class, or "number"; None without a target.
        held: Of each row, a column per task, or per label of it: that of which the last text has to
            stay in training; None without it.
        seed: Seed of the decisions.
        rules: 1: every stratum's share is rounded by itself, nothing more. 2: `shares`.
    """

    groups: pd.Series
    marks: pd.DataFrame
    held: pd.DataFrame
    seed: int
    rules: int

    @cached_property
    def strata(self) -> pd.Series:
        """The stratum of each row: its marks for all tasks."""
        columns = (self.marks[task].fillna("") for task in sorted(self.marks))
        rows = ["/".join(row) for row in zip(*columns, strict=True)]
        return pd.Series(rows, index=self.marks.index)

    def divide(self, split: pd.Series, among: pd.Series, fractions: Sequence[float]) -> pd.Series:
        """Move these shares of the texts `among` these rows to test and to validation."""
        _, validation, test = fractions
        for to, share in (("test", test), ("validation", validation / (1 - test))):
            chosen = self._chosen(split, self._training(split, among), share, to)
            split = self._move(split, chosen, to)
        return split

    def fill(self, split: pd.Series, among: pd.Series, to: str) -> tuple[pd.Series, str] | None:
        """Move a tenth of the training texts `among` these rows, at least one.

        Returns:
            The splits, and what moved in words; None if there is no training text to spare.
        """
        members = self._training(split, among)
        texts = sum(map(len, members.values()))
        chosen = self._chosen(split, members, 1 / 10, to)
        if not chosen:
            chosen = choose_one(members, partial(self._order, to), self._held(split))
        if not chosen:
            return None
        filled = self._move(split, chosen, to)
        rows, share = count((filled != split).sum()), 100 * len(chosen) / texts
        return filled, f"{rows} moved from train ({share:.0f} % of its texts)"

    def _training(self, split: pd.Series, among: pd.Series) -> dict[str, list[str]]:
        """Stratum -> groups of the training rows `among` these."""
        rows = split.index[(split == "train") & among]
        stratum = self.strata[rows].groupby(self.groups[rows]).min()
        return {name: list(part.index) for name, part in stratum.groupby(stratum)}

    def _chosen(
        self, split: pd.Series, members: dict[str, list[str]], share: float, to: str
    ) -> set[str]:
        order = partial(self._order, to)
        if self.rules > 1:
            return choose(members, share, order, self._held(split))
        parts = [sorted(keys, key=order)[: round(share * len(keys))] for keys in members.values()]
        return {key for keys in parts for key in keys}

    def _held(self, split: pd.Series) -> pd.DataFrame:
        """What the training rows hold, as `dao.learner.data.shares` takes it."""
        rows = split.index[split == "train"]
        return self.held.loc[rows].assign(key=self.groups[rows])

    def _move(self, split: pd.Series, chosen: set[str], to: str) -> pd.Series:
        """Move these groups, each with all its training rows."""
        return split.mask((split == "train") & self.groups[split.index].isin(chosen), to)

    def _order(self, to: str, key: str) -> str:
        order = hashlib.sha256(f"{self.seed}/{to}/{former_key(key)}".encode())
        return f"{order.hexdigest()} {key}"


def _marks(frame: pd.DataFrame, tasks: Mapping[str, type[Task]]) -> pd.DataFrame:
    """The group of each value: every split gets equal shares of each group."""
    marks = {
        task: [None if value is None else kind.stratum(value) for value in frame[task]]
        for task, kind in tasks.items()
    }
    return pd.DataFrame(marks, index=frame.index, dtype=object)


def _held(frame: pd.DataFrame, tasks: Mapping[str, type[Task]]) -> pd.DataFrame:
    """What may not vanish from training: a column per task, one per label of several labels."""
    held: dict[str, list[str | None]] = {}
    for task, kind in tasks.items():
        parts = [() if value is None else kind.parts(value) for value in frame[task]]
        if all(len(own) < 2 for own in parts):
            held[task] = [own[0] if own else None for own in parts]
            continue
        for label in dict.fromkeys(label for own in parts for label in own):
            held[f"{task}/{label}"] = [label if label in own else None for own in parts]
    return pd.DataFrame(held, index=frame.index, dtype=object)


def _too_few(
    split: pd.Series, marks: pd.Series, groups: pd.Series, to: str, column: str, others: bool
) -> UserError:
    """The error for a task of which no training text can move; of its labelled rows."""
    train = split == "train"
    texts, left = groups.nunique(), groups[train].nunique()
    one = "one score" if set(marks) == {"number"} else "one text of each class"
    classes = marks[train].nunique()
    of = f" of {classes} classes" if classes > 1 else ""
    return UserError(
        f"`{column}` should have enough texts to take a {to} split from train, which keeps {one}. "
        f"Found {count(texts, 'text')} with a value, {left}{of} in train. Add rows, or mark some "
        f"as {to} in the split column{', or leave this task out' if others else ''}."
    )


def _remove_duplicates(
    frame: pd.DataFrame, groups: pd.Series
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Drop rows whose text is also in a split that judges them.

    A text of the test split leaves train and validation; one of validation leaves train.

    Returns:
        The remaining rows and the counts for the report.
    """
    held = {name: set(groups[frame["split"] == name]) for name in SPLITS}
    from_validation = (frame["split"] == "validation") & groups.isin(held["test"])
    from_train = (frame["split"] == "train") & groups.isin(held["validation"] | held["test"])
    shared = (held["train"] & held["validation"]) | (held["train"] & held["test"])
    counts = {
        "texts in two splits": len(shared | (held["validation"] & held["test"])),
        "rows removed from train": int(from_train.sum()),
        "rows removed from validation": int(from_validation.sum()),
    }
    return frame[~(from_train | from_validation)].copy(), counts
