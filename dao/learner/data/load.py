"""One table from files, hub data sets, or the data that a project registers."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from dao.errors import UserError
from dao.learner.basics.wording import shown
from dao.learner.data.decide import looked_at
from dao.learner.data.numbers import decided_plainly
from dao.learner.data.reading.absent import Missing, blanked, dashed, refuse_no_classes
from dao.learner.data.reading.filters import Where, matching
from dao.learner.data.reading.sources import Raw
from dao.learner.data.reading.standard import (
    require_named,
    require_text_and_target,
    standard,
    without_other_splits,
)
from dao.learner.data.reading.table import Columns, Table
from dao.learner.data.refusals import each
from dao.learner.data.registered import about_named, limits_of, read_default, read_source
from dao.learner.data.report import GIVEN, described, notes
from dao.learner.data.splits import FRACTIONS, group_key, make_splits
from dao.learner.kinds import KINDS, Task, TaskSettings
from dao.learner.kinds.base import SPLITS, Parser, Recoding

__all__ = [
    "Columns",
    "Table",
    "assemble",
    "ceilings",
    "check",
    "fit",
    "load",
    "notes",
    "nothing",
]


def load(
    sources: Sequence[str],
    columns: Columns,
    *,
    tasks: Mapping[str, TaskSettings],
    split_seed: int = 0,
    fractions: Sequence[float] = FRACTIONS,
    where: Where | None = None,
    synthetic: Mapping[str, Any] | None = None,
    split_tasks: Mapping[str, TaskSettings] | None = None,
) -> Table:
    """Read every source into one table with disjoint splits.

    A row may carry the target of one task only, and so may a source. Rows without text and rows
    without any target are dropped, and so are splits of hub data sets that are neither train,
    validation nor test. Rows without a split are split by text, each class alike; a task
    that then has no row in validation or test gets 10 % of its training texts there. A text in
    two splits leaves the one it was to be learned in. A row that two sources share counts once. The
    report counts all of it, and `notes` puts it into words.

    Args:
        sources: Files, data that are registered by name (`dao.learner.settings.named`), or hub
            data sets (see `reading.sources.read`); none for the registered default.
        columns: Names of the columns.
        tasks: Settings of the tasks to load targets for; a kind that is not given is proposed.
        split_seed: Seed of the splits made here.
        fractions: Shares of train, validation and test in the splits made here.
        where: Column -> value or values: only such rows are read.
        synthetic: Settings of the registered data.
        split_tasks: Tasks whose targets decide the split, where these are not `tasks` alone: one
            task then has the rows that it has among the others.

    Raises:
        UserError: A source, a column or a cell cannot be used; the message names it.
    """
    raw = [read_source(source, columns) for source in sources] or [read_default(synthetic or {})]
    every = {**(split_tasks or {}), **tasks}
    require_text_and_target(raw, columns, list(every))
    require_named(raw, columns, list(every))
    chosen, others = matching(raw, where or {})
    columns = dashed([part.frame for part in chosen], columns)
    kept, left_out = without_other_splits(chosen, columns)
    kept, every, proposed, written = decided_plainly(kept, columns, every)
    tasks = {name: every[name] for name in tasks}
    kinds = {name: KINDS[settings.kind] for name, settings in every.items()}
    parsers = {name: kind.parser(every[name]) for name, kind in kinds.items()}
    frame, dropped = assemble(kept, columns, parsers)
    dropped["dropped"] |= others
    _refuse_useless(frame, columns, every)
    frame, made = make_splits(
        frame, kinds, split_seed, fractions, names=columns.targets, rules=columns.rules
    )
    made["split"] = left_out + made["split"]
    others_only = [name for name in every if name not in tasks]
    if others_only:
        # The domain is a column of every row beside being one of the other tasks.
        frame, more = _usable(frame.drop(columns=[n for n in others_only if n != "domain"]), tasks)
        dropped["dropped"]["without target"] += more["dropped"]["without target"]
    recodings = _recoded(frame, tasks)
    own = frame.drop(columns=others_only, errors="ignore")  # what decides the fingerprint
    report = described(raw, own, {name: kinds[name] for name in tasks}) | dropped | made
    if columns.second:
        report["pairs"] = list(columns.texts)
    if recodings:
        report["cut"] = {n: _about(tasks[n], found.about, raw) for n, found in recodings.items()}
    report |= _kinds(tasks, proposed, looked_at(kept, columns))
    if written:
        report["written"] = written
    if not sources:
        report["expected_limits"] = limits_of(synthetic or {}, tasks)
    report |= about_named(sources, tasks, filtered=any(others.values()))
    table = Table(frame, columns, report, tasks, recodings)
    check(table)
    return table


def _refuse_useless(
    frame: pd.DataFrame, columns: Columns, tasks: Mapping[str, TaskSettings]
) -> None:
    for name, settings in tasks.items():
        if frame[name].isna().all():
            raise nothing([name], columns)
        if columns.rules > 1 and settings.shared_values:
            refuse_no_classes(frame, columns, name)


def _kinds(
    tasks: Mapping[str, TaskSettings], proposed: Mapping[str, str], rows: str
) -> dict[str, Any]:
    """What the report says of the kind of each task, and on which rows proposals rest."""
    kinds = {
        name: {
            "column": settings.column,
            "kind": settings.kind,
            "reason": proposed.get(name, GIVEN),
        }
        for name, settings in tasks.items()
    }
    return {"kinds": kinds} | ({"kinds_from": rows} if proposed else {})


def fit(table: Table) -> dict[str, Task]:
    """The tasks of a table as its training rows have them.

    Raises:
        UserError: They teach nothing, or other rows hold what they never show; all such tasks are
            named.
    """

    def fitted(name: str, settings: TaskSettings) -> Task:
        values = {split: table.values(name, split) for split in SPLITS}
        removed = table.report["duplicates"]["rows removed from train"]
        kind = KINDS[settings.kind]
        return kind.fit(name, settings, values, table.recodings.get(name), removed)

    return each(table.tasks, fitted)


def assemble(
    raw: Sequence[Raw], columns: Columns, targets: Mapping[str, Parser]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Every row with text and a target, as the table has it, and the report's entry on the others.

    Raises:
        UserError: A cell cannot be used.
    """
    missing = Missing(columns.missing, columns.dashes)
    parts = [standard(part, columns, targets, missing) for part in raw]
    repeated: dict[str, int] = {}
    if columns.rules > 1:
        parts, repeated = _once(raw, parts, columns, list(targets))
    frame, dropped = _usable(_stack(parts), list(targets))
    used = {"id", "text", "split", "domain", *targets}
    if columns.rules > 4:
        frame = blanked(frame, [name for name in frame if name not in used], missing, columns)
    further = {"missing": missing.counts, "empty": missing.empty, "repeated": repeated}
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
    keys = list(dict.fromkeys(["text", "split", "domain", *tasks]))
    rows = pd.concat([part[keys] for part in parts], keys=range(len(parts)), names=["part", "row"])
    given = [
        part["id"] if columns.id in own.frame else part["text"]
        for own, part in zip(raw, parts, strict=True)
    ]
    rows["id"] = pd.concat(given).to_numpy()
    rows = rows.reset_index("part")
    rows["copy"] = rows.groupby([*keys, "id", "part"], dropna=False, sort=False).cumcount()
    repeats = rows.duplicated([*keys, "id", "copy"]).to_numpy()
    kept: list[pd.DataFrame] = []
    counts: dict[str, int] = {}
    start = 0
    for own, part in zip(raw, parts, strict=True):
        again = repeats[start : start + len(part)]
        start += len(part)
        kept.append(part[~again].reset_index(drop=True) if again.any() else part)
        if again.any():
            counts[own.source] = counts.get(own.source, 0) + int(again.sum())
    return kept, counts


def _recoded(frame: pd.DataFrame, tasks: Mapping[str, TaskSettings]) -> dict[str, Recoding]:
    """Make targets of cells in place, where a kind does so, and say with what."""
    found = {}
    training = frame["split"] == "train"
    for name, settings in tasks.items():
        cells = frame[name][training].dropna().tolist()
        recoding = KINDS[settings.kind].recoding(name, settings, cells)
        if recoding is not None:
            values = recoding.values(frame[name].tolist())
            frame[name] = pd.Series(values, index=frame.index, dtype=object)
            found[name] = recoding
    return found


def _about(settings: TaskSettings, about: Mapping[str, Any], raw: Sequence[Raw]) -> dict[str, Any]:
    """What a recoding did, with the column that it leaves unread."""
    unused = [name for name in settings.unread if any(name in part.frame for part in raw)]
    return {**about, "unused": unused}


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
    """Figures of predicting the noise-free truth: the best that any model can expect.

    The truth of a column `label` lies in a column `clean_label`; tasks without one are left out.

    Raises:
        UserError: The truth is no target.
    """
    rows = table.rows(split)
    best = {}
    for name, task in tasks.items():
        truth = f"clean_{task.column}"
        if truth in rows:
            known = rows[rows[truth].notna()]
            predicted = task.encode(_truths(truth, known[truth].tolist(), task)).double().numpy()
            best[name] = task.measure(predicted, task.encode(known[name].tolist()))
    return best


def _truths(column: str, cells: Sequence[object], task: Task) -> list[Any]:
    parse, found = task.unseen_parser(), []
    for cell in cells:
        try:
            found.append(parse(cell))
        except ValueError as error:
            raise UserError(
                f"`{column}` should be {error}. Found {shown(cell)}. Correct it, or rename the "
                f"column, which is taken for the truth behind `{task.column}`."
            ) from None
    return task.unseen_values(found)


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


def _usable(frame: pd.DataFrame, tasks: Collection[str]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Rows with text and a target, and the count of the others for the report."""
    textless = frame["text"].isna()
    aimless = frame[list(tasks)].isna().all(axis=1) & ~textless
    kept = frame[~textless & ~aimless].reset_index(drop=True)
    if "domain" in kept and kept["domain"].isna().all():
        kept = kept.drop(columns="domain")
    dropped = {"without text": int(textless.sum()), "without target": int(aimless.sum())}
    return kept, {"dropped": dropped}
