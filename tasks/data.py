"""One table from files, hub data sets or the synthetic headlines."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dao.errors import UserError
from tasks import TASKS
from tasks.absent import Missing, refuse_no_classes
from tasks.base import Task
from tasks.cuts import Cut, cut_frame, thresholds_of
from tasks.filters import Where, matching
from tasks.report import described, digest, notes
from tasks.sources import Raw, read
from tasks.splits import FRACTIONS, group_key, make_splits
from tasks.standard import require_named, require_text_and_target, standard, without_other_splits
from tasks.synthetic import headlines, limits
from tasks.table import SPLITS, Columns, Table

__all__ = ["Columns", "Table", "assemble", "ceilings", "check", "load", "notes", "nothing"]


def load(
    sources: Sequence[str],
    columns: Columns,
    *,
    tasks: Sequence[str],
    split_seed: int = 0,
    fractions: Sequence[float] = FRACTIONS,
    where: Where | None = None,
    cut: Cut | None = None,
    synthetic: Mapping[str, Any] | None = None,
) -> Table:
    """Read every source into one table with disjoint splits.

    A row may carry the target of one task only, and so may a source. Rows without text and rows
    without any target are dropped, and so are splits of hub data sets that are neither train,
    validation nor test. Rows without a split are split by text, each class alike; a task
    that then has no row in validation or test gets 10 % of its training texts there. A text in
    two splits leaves the one it was to be learned in. A row that two sources share counts once. The
    report counts all of it, and `notes` puts it into words.

    Args:
        sources: Files or hub data sets (see `tasks.sources.read`); none for the synthetic
            headlines that come with the project.
        columns: Names of the columns.
        tasks: Names of the tasks to load targets for, keys of `columns.targets`.
        split_seed: Seed of the splits made here.
        fractions: Shares of train, validation and test in the splits made here.
        where: Column -> value or values: only such rows are read.
        cut: Makes the classes of the task `cls` out of the scores of `reg`, whose column has to
            be in `columns`; a number of classes, or the thresholds. The label column is not read.
        synthetic: Arguments for `tasks.synthetic.headlines`.

    Raises:
        UserError: A source, a column or a cell cannot be used; the message names it.
    """
    _refuse_unknown(tasks, columns)
    cut = cut if "cls" in tasks else None
    wanted = tasks if cut is None else ["reg"]
    synthetic = synthetic or {}
    raw = [read(source, columns) for source in sources] or [_synthetic(synthetic)]
    require_text_and_target(raw, columns, wanted)
    require_named(raw, columns, wanted)
    chosen, others = matching(raw, where or {})
    kept, left_out = without_other_splits(chosen, columns)
    frame, dropped = assemble(kept, columns, wanted)
    dropped["dropped"] |= others
    for task in wanted:
        if frame[task].isna().all():
            raise nothing([task], columns)
    if "cls" in wanted and columns.rules > 1:
        refuse_no_classes(frame, columns)
    frame, made = make_splits(
        frame, wanted, split_seed, fractions, names=columns.targets, rules=columns.rules
    )
    made["split"] = left_out + made["split"]
    thresholds, derived = None, {}
    if cut is not None:
        training = frame["reg"][frame["split"] == "train"].dropna().tolist()
        thresholds = thresholds_of(cut, training, columns.column("reg"))
        frame, derived = cut_frame(frame, raw, columns, tasks, thresholds)
    report = described(raw, frame, tasks) | dropped | made | derived
    if not sources:
        known = [task for task in tasks if task in wanted]
        report["expected_limits"] = _limits(synthetic, known)
    table = Table(frame, columns, report, thresholds)
    check(table)
    return table


def assemble(
    raw: Sequence[Raw], columns: Columns, tasks: Sequence[str]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Every row with text and a target, as the table has it, and the report's entry on the others.

    Raises:
        UserError: A cell cannot be used.
    """
    missing = Missing(columns.missing)
    parts = [standard(part, columns, tasks, missing) for part in raw]
    repeated: dict[str, int] = {}
    if columns.rules > 1:
        parts, repeated = _once(raw, parts, columns, tasks)
    frame, dropped = _usable(_stack(parts), tasks)
    further = {"missing": missing.counts, "repeated": repeated}
    return frame, dropped | {name: found for name, found in further.items() if found}


def _once(
    raw: Sequence[Raw], parts: list[pd.DataFrame], columns: Columns, tasks: Sequence[str]
) -> tuple[list[pd.DataFrame], dict[str, int]]:
    """The sources without rows that an earlier source has as well, and how many these were.

    Rows are the same in text, targets, split, domain, and the user's own id if there is one. A row
    that one source has twice and another once counts twice.
    """
    if len(parts) == 1:
        return parts, {}
    keys = ["text", "split", "domain", *tasks]
    rows = pd.concat([part[keys] for part in parts], keys=range(len(parts)), names=["part", "row"])
    given = [
        part["id"] if columns.id in own.frame else part["text"]
        for own, part in zip(raw, parts, strict=True)
    ]
    rows["id"] = pd.concat(given).to_numpy()
    rows = rows.reset_index("part")
    rows["copy"] = rows.groupby([*keys, "id", "part"], dropna=False, sort=False).cumcount()
    repeats = rows.duplicated([*keys, "id", "copy"]).to_numpy()
    kept, counts, start = [], {}, 0
    for own, part in zip(raw, parts, strict=True):
        again = repeats[start : start + len(part)]
        start += len(part)
        kept.append(part[~again].reset_index(drop=True) if again.any() else part)
        if again.any():
            counts[own.source] = counts.get(own.source, 0) + int(again.sum())
    return kept, counts


def nothing(tasks: Sequence[str], columns: Columns) -> UserError:
    """The error for targets of which no row has any."""
    names = " or ".join(f"`{columns.column(task)}`" for task in tasks)
    return UserError(
        f"{names} should have a value in some row with text. Found only empty cells. "
        f"Fill some, or {columns.advice(tasks)}"
    )


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
    return Raw("the synthetic headlines", frame, digest(frame))


def _limits(options: Mapping[str, Any], tasks: Sequence[str]) -> dict[str, dict[str, float]]:
    noise = {name: options[name] for name in ("label_noise", "score_noise") if name in options}
    return {task: best for task, best in limits(**noise).items() if task in tasks}


def _refuse_unknown(tasks: Sequence[str], columns: Columns) -> None:
    for name in tasks:
        if name not in TASKS or name not in columns.targets:
            known = ", ".join(key for key in columns.targets if key in TASKS)
            raise UserError(f"`tasks` should be some of {known}. Found {name!r}.")


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
