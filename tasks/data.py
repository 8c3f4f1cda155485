"""One table from files, hub data sets or the synthetic headlines."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dao.errors import UserError
from tasks import TASKS
from tasks.base import Task
from tasks.sources import read
from tasks.splits import group_key, make_splits, parse_split
from tasks.standard import Raw, refuse_absent, standard
from tasks.synthetic import headlines
from tasks.table import SPLITS, Columns, Table

__all__ = ["Columns", "Table", "ceilings", "check", "load"]


def load(
    sources: Sequence[str],
    columns: Columns,
    *,
    tasks: Sequence[str],
    split_seed: int = 0,
    synthetic: Mapping[str, Any] | None = None,
    split: str | None = None,
) -> Table:
    """Read every source into one table with disjoint splits.

    A row may carry the target of one task only, and so may a source. Rows without text and rows
    without any target are dropped. Sources without a split column are split 80/10/10 by text,
    each class alike; a task that then has no row in validation or test gets 10 % of its training
    texts there. A text in two splits leaves the one it was to be learned in. The report counts
    all of it.

    Args:
        sources: Files or hub data sets (see `tasks.sources.read`); none for the synthetic
            headlines that come with the project.
        columns: Names of the columns.
        tasks: Names of the tasks to load targets for, keys of `columns.targets`.
        split_seed: Seed of the splits made here.
        synthetic: Arguments for `tasks.synthetic.headlines`.
        split: Put every row in this split and split nothing, for data that only tests a model.

    Raises:
        UserError: A source, a column or a cell cannot be used; the message names it.
    """
    _refuse_unknown(tasks, columns)
    raw = [Raw(source, *read(source, columns)) for source in sources] or [
        _synthetic(synthetic or {})
    ]
    refuse_absent(raw, columns, tasks)
    frame, report = _usable(_stack([standard(part, columns, tasks) for part in raw]), tasks)
    _refuse_empty(frame, columns, tasks)
    if split is None:
        frame, notes = make_splits(frame, tasks, split_seed)
        report |= notes
    else:
        frame["split"] = parse_split(split)
        report["split"] = [f"every row in {split}"]
    table = Table(frame, columns, _described(raw, frame, tasks) | report)
    check(table)
    return table


def check(table: Table) -> None:
    """Raise AssertionError if a text occurs in two splits."""
    keys = {split: set(table.rows(split)["text"].map(group_key)) for split in SPLITS}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        if shared := keys[one] & keys[other]:
            raise AssertionError(f"{len(shared)} texts are both in {one} and in {other}")


def ceilings(table: Table, tasks: Mapping[str, Task], split: str) -> dict[str, dict[str, Any]]:
    """Metrics of predicting the noise-free truth: the best figures any model can expect.

    The truth of a column `label` lies in a column `clean_label`; tasks without one are left out.
    """
    rows = table.rows(split)
    best = {}
    for name, task in tasks.items():
        truth = f"clean_{table.columns.targets[name]}"
        if truth in rows:
            known = rows[rows[truth].notna()]
            predicted = task.encode(known[truth].tolist()).double().numpy()
            best[name] = task.measure(predicted, task.encode(known[name].tolist()))
    return best


def _synthetic(options: Mapping[str, Any]) -> Raw:
    frame = headlines(**options).astype(object)
    return Raw("the synthetic headlines", frame, _digest(frame))


def _refuse_unknown(tasks: Sequence[str], columns: Columns) -> None:
    for name in tasks:
        if name not in TASKS or name not in columns.targets:
            known = ", ".join(key for key in columns.targets if key in TASKS)
            raise UserError(f"`tasks` should be some of {known}. Found {name!r}.")


def _refuse_empty(frame: pd.DataFrame, columns: Columns, tasks: Sequence[str]) -> None:
    for task in tasks:
        if frame[task].isna().all():
            raise UserError(
                f"`{columns.targets[task]}` should have a value in some row with text. Found only "
                f"empty cells. Name another column with data.{task}=COLUMN."
            )


def _stack(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """All rows under all columns, with distinct ids."""
    names = list(dict.fromkeys(name for part in parts for name in part.columns))
    for part in parts:
        for name in names:
            if name not in part:
                part[name] = pd.Series([None] * len(part), index=part.index, dtype=object)
    frame = pd.concat([part[names] for part in parts], ignore_index=True)
    repeat = frame.groupby("id").cumcount()
    frame["id"] = frame["id"].where(repeat == 0, frame["id"] + "#" + (repeat + 1).astype(str))
    return frame


def _usable(frame: pd.DataFrame, tasks: Sequence[str]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Rows with text and a target, and the count of the others for the report."""
    textless = frame["text"].isna()
    aimless = frame[list(tasks)].isna().all(axis=1) & ~textless
    kept = frame[~textless & ~aimless].reset_index(drop=True)
    if kept["domain"].isna().all():
        kept = kept.drop(columns="domain")
    dropped = {"without text": int(textless.sum()), "without target": int(aimless.sum())}
    return kept, {"dropped": dropped}


def _described(raw: Sequence[Raw], frame: pd.DataFrame, tasks: Sequence[str]) -> dict[str, Any]:
    by_split = {split: frame[frame["split"] == split] for split in SPLITS}
    content = [name for name in ("text", "split", "domain", *tasks) if name in frame]
    return {
        "sources": [
            {"source": part.source, "sha256": part.digest, "rows": len(part.frame)} for part in raw
        ],
        "rows": {split: len(rows) for split, rows in by_split.items()},
        "labelled": {
            task: {split: int(rows[task].notna().sum()) for split, rows in by_split.items()}
            for task in tasks
        },
        "fingerprint": _digest(frame[content]),
    }


def _digest(frame: pd.DataFrame) -> str:
    """SHA-256 of the rows as sorted JSON lines, so that their order does not count."""
    records = frame.to_dict("records")
    lines = sorted(json.dumps(row, sort_keys=True, ensure_ascii=False) for row in records)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
