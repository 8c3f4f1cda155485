"""Train, validation and test without a text in two of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dao.errors import UserError
from tasks.progress import ticking
from tasks.table import SPLITS, count
from tasks.words import former_key, group_key

__all__ = ["FRACTIONS", "group_key", "make_splits"]

FRACTIONS = (0.8, 0.1, 0.1)
"""Train, validation and test, of texts that nobody has put anywhere."""


def make_splits(
    frame: pd.DataFrame, tasks: Sequence[str], seed: int, fractions: Sequence[float] = FRACTIONS
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Complete the splits and rid them of duplicates.

    Args:
        frame: Columns `text`, `split` (None where nobody has decided) and one per task.
        tasks: Names of the tasks.
        seed: Seed of the decisions made here.
        fractions: Shares of train, validation and test among the texts without a split; their
            sum is 1.

    Returns:
        The rows that remain, each with a split, and the entries for the report.

    Raises:
        UserError: There are too few texts to fill every split.
    """
    keys = [group_key(text) for text in ticking(frame["text"].tolist(), "comparing texts")]
    groups = pd.Series(keys, index=frame.index, dtype=object)
    texts = _Texts(groups, _strata(frame, tasks), seed)
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
        for task in tasks:
            labelled = frame[task].notna()
            if not (labelled & (frame["split"] == to)).any():
                frame["split"], moved = texts.fill(frame["split"], labelled, to)
                notes.append(f"{to} for {task}: {moved}, seed {seed}")
    return frame.reset_index(drop=True), {"duplicates": duplicates, "split": notes}


@dataclass(frozen=True)
class _Texts:
    """Which rows move together (their group), and what keeps its share (their stratum).

    What moves depends on the texts and the seed, not on the order of the rows.
    """

    groups: pd.Series
    strata: pd.Series
    seed: int

    def divide(self, split: pd.Series, among: pd.Series, fractions: Sequence[float]) -> pd.Series:
        """Move these shares of the texts `among` these rows to test and to validation."""
        _, validation, test = fractions
        for to, share in (("test", test), ("validation", validation / (1 - test))):
            members = self._training(split, among)
            split = self._move(split, members, _quota(members, share), to)
        return split

    def fill(self, split: pd.Series, among: pd.Series, to: str) -> tuple[pd.Series, str]:
        """Move a tenth of the training texts `among` these rows, at least one.

        Returns:
            The splits, and what moved in words.

        Raises:
            UserError: There is no training text to spare.
        """
        members = self._training(split, among)
        texts = sum(map(len, members.values()))
        quota = _quota(members, 1 / 10)
        if not any(quota.values()):
            largest = max(members, key=lambda name: len(members[name]), default="")
            if len(members.get(largest, ())) < 2:
                raise UserError(
                    f"The data should have enough texts to take a {to} split from train. "
                    f"Found {texts}. Add rows, or mark some as {to} in the split column."
                )
            quota[largest] = 1
        filled = self._move(split, members, quota, to)
        rows, share = count((filled != split).sum()), 100 * sum(quota.values()) / texts
        return filled, f"{rows} moved from train ({share:.0f} % of its texts)"

    def _training(self, split: pd.Series, among: pd.Series) -> dict[str, list[str]]:
        """Stratum -> groups of the training rows `among` these."""
        rows = split.index[(split == "train") & among]
        stratum = self.strata[rows].groupby(self.groups[rows]).min()
        return {name: list(part.index) for name, part in stratum.groupby(stratum)}

    def _move(
        self, split: pd.Series, members: dict[str, list[str]], quota: dict[str, int], to: str
    ) -> pd.Series:
        """Move so many groups of each stratum, each with all its training rows."""
        chosen: set[str] = set()
        for name, keys in members.items():
            chosen.update(sorted(keys, key=lambda key: self._order(key, to))[: quota[name]])
        return split.mask((split == "train") & self.groups[split.index].isin(chosen), to)

    def _order(self, key: str, to: str) -> str:
        order = hashlib.sha256(f"{self.seed}/{to}/{former_key(key)}".encode())
        return f"{order.hexdigest()} {key}"


def _quota(members: dict[str, list[str]], share: float) -> dict[str, int]:
    return {name: round(share * len(keys)) for name, keys in members.items()}


def _strata(frame: pd.DataFrame, tasks: Sequence[str]) -> pd.Series:
    """A class counts by its name, a score by its presence."""
    marks = [
        [value if isinstance(value, str) else "" if value is None else "number" for value in column]
        for column in (frame[task] for task in tasks)
    ]
    return pd.Series(["/".join(row) for row in zip(*marks, strict=True)], index=frame.index)


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
