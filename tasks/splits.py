"""Train, validation and test without a text in two of them."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dao.errors import UserError
from tasks.table import SPLITS

__all__ = ["group_key", "make_splits", "parse_split"]

ALIASES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "eval"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def parse_split(cell: object) -> str:
    """Turn a user's word for a split into train, validation or test.

    Raises:
        ValueError: The word is none of the known ones.
    """
    split = ALIASES.get(str(cell).strip().lower())
    if split is None:
        raise ValueError("train, validation or test (or training, valid, val, dev, eval, testing)")
    return split


def group_key(text: str) -> str:
    """What two copies of a text share: lower case, everything but letters and digits a space.

    Example:
        >>> group_key("Profit ROSE, by 4 %!") == group_key("profit rose by 4")
        True
    """
    return re.sub(r"[\W_]+", " ", text.lower()).strip() or text


def make_splits(
    frame: pd.DataFrame, tasks: Sequence[str], seed: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Complete the splits and rid them of duplicates.

    Args:
        frame: Columns `text`, `split` (None where nobody has decided) and one per task.
        tasks: Names of the tasks.
        seed: Seed of the decisions made here.

    Returns:
        The rows that remain, each with a split, and the entries for the report.

    Raises:
        UserError: There are too few texts to fill every split.
    """
    texts = _Texts(frame["text"].map(group_key), _strata(frame, tasks), seed)
    unassigned = frame["split"].isna()
    notes = []
    if not unassigned.all():
        notes.append(f"{(~unassigned).sum()} rows by their split column")
    if unassigned.any():
        frame["split"] = frame["split"].fillna("train")
        frame["split"] = texts.move(frame["split"], unassigned, to="test", share=1 / 10)
        frame["split"] = texts.move(frame["split"], unassigned, to="validation", share=1 / 9)
        notes.append(f"{unassigned.sum()} rows 80/10/10 by text, seed {seed}")
    frame, duplicates = _remove_duplicates(frame, texts.groups)
    for to in ("test", "validation"):
        for task in tasks:
            labelled = frame[task].notna()
            if not (labelled & (frame["split"] == to)).any():
                frame["split"] = texts.move(frame["split"], labelled, to=to, share=1 / 10)
                notes.append(f"{to} for {task}: 10 % of its training texts, seed {seed}")
    return frame.reset_index(drop=True), {"duplicates": duplicates, "split": notes}


@dataclass(frozen=True)
class _Texts:
    """Which rows move together (their group), and what keeps its share (their stratum)."""

    groups: pd.Series
    strata: pd.Series
    seed: int

    def move(self, split: pd.Series, among: pd.Series, *, to: str, share: float) -> pd.Series:
        """Move a share of the training texts found `among` these rows, with all their rows."""
        train = split == "train"
        pool = split.index[train & among]
        chosen = _choose(self.groups[pool], self.strata[pool], share=share, seed=self.seed, to=to)
        return split.mask(train & self.groups[split.index].isin(chosen), to)


def _strata(frame: pd.DataFrame, tasks: Sequence[str]) -> pd.Series:
    """A class counts by its name, a score by its presence."""
    marks = [
        [value if isinstance(value, str) else "" if value is None else "number" for value in column]
        for column in (frame[task] for task in tasks)
    ]
    return pd.Series(["/".join(row) for row in zip(*marks, strict=True)], index=frame.index)


def _choose(groups: pd.Series, strata: pd.Series, *, share: float, seed: int, to: str) -> set[str]:
    """Choose the training texts that move to another split, an equal share of each stratum.

    The choice depends on the texts and the seed, not on the order of the rows.

    Args:
        groups: Key of each training row's text; rows of one key belong together.
        strata: What the shares should be equal in, such as the class; one entry per row.
        share: Share of the texts to choose.
        seed: Seed of the choice.
        to: Name of the split to fill.

    Returns:
        The chosen keys.

    Raises:
        UserError: There are too few texts to take any.
    """
    stratum = strata.groupby(groups).min()
    members = {name: sorted(part.index) for name, part in stratum.groupby(stratum)}
    quota = {name: round(share * len(part)) for name, part in members.items()}
    if not any(quota.values()):
        largest = max(members, key=lambda name: len(members[name]), default=None)
        if largest is None or len(members[largest]) < 2:
            raise UserError(
                f"The data should have enough texts to take a {to} split from train. "
                f"Found {len(stratum)}. Add rows, or mark some as {to} in the split column."
            )
        quota[largest] = 1
    chosen: set[str] = set()
    for name, part in members.items():
        chosen.update(sorted(part, key=lambda key: _order(key, to, seed))[: quota[name]])
    return chosen


def _order(key: str, to: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}/{to}/{key}".encode()).hexdigest()


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
