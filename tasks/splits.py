"""Train, validation and test without a text in two of them."""

import hashlib
import re
from collections.abc import Sequence

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
) -> tuple[pd.DataFrame, dict[str, int], list[str]]:
    unassigned = frame["split"].isna()
    notes = []
    if not unassigned.all():
        notes.append(f"{(~unassigned).sum()} rows by their split column")
    if unassigned.any():
        frame["split"] = frame["split"].fillna("train")
        _move(frame, unassigned, tasks, "test", 0.1, seed)
        _move(frame, unassigned, tasks, "validation", 1 / 9, seed)
        notes.append(f"{unassigned.sum()} rows 80/10/10 by text, seed {seed}")
    frame, duplicates = _remove_duplicates(frame, frame["text"].map(group_key))
    for to in ("test", "validation"):
        for task in tasks:
            labelled = frame[task].notna()
            if not (labelled & (frame["split"] == to)).any():
                _move(frame, labelled, tasks, to, 0.1, seed)
                notes.append(f"{to} for {task}: 10 % of its training texts, seed {seed}")
    return frame, duplicates, notes


def _move(
    frame: pd.DataFrame, among: pd.Series, tasks: Sequence[str], to: str, share: float, seed: int
) -> None:
    """Move a share of the training texts found `among` these rows, with all their rows."""
    groups = frame["text"].map(group_key)
    train = frame["split"] == "train"
    # A class counts by name, a score by its presence.
    targets = frame[list(tasks)].map(
        lambda value: value if isinstance(value, str) else "" if value is None else "number"
    )
    strata = targets.agg("/".join, axis=1)
    pool = among & train
    chosen = _choose(groups[pool], strata[pool], share=share, seed=seed, to=to)
    frame.loc[train & groups.isin(chosen), "split"] = to


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
    return frame[~(from_train | from_validation)].reset_index(drop=True), counts
