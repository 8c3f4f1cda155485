"""What was read, dropped and split: as figures for the record and in words for a person."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dao.learner.basics.limits import LISTED, TOGETHER
from dao.learner.basics.numbers import told_apart
from dao.learner.basics.wording import count, listed
from dao.learner.data.reading.absent import doubts
from dao.learner.data.reading.progress import ticking
from dao.learner.data.reading.sources import Raw
from dao.learner.kinds import KINDS, Task
from dao.learner.kinds.base import SPLITS
from dao.learner.kinds.proposal import RULE

GIVEN = "given"

__all__ = ["GIVEN", "described", "digest", "kind_notes", "notes", "said"]


def described(
    raw: Sequence[Raw], frame: pd.DataFrame, tasks: Mapping[str, type[Task]]
) -> dict[str, Any]:
    """The report's entries on the sources and the finished rows."""
    by_split = {split: frame[frame["split"] == split] for split in SPLITS}
    names = dict.fromkeys(("text", "split", "domain", *tasks))
    content = [name for name in names if name in frame]
    return {
        "sources": [
            {"source": part.source, "sha256": part.digest, "rows": len(part.frame)}
            | ({"said": list(part.said)} if part.said else {})
            for part in raw
        ],
        "rows": {split: len(rows) for split, rows in by_split.items()},
        "labelled": {
            task: {split: int(rows[task].notna().sum()) for split, rows in by_split.items()}
            for task in tasks
        },
        "targets": {
            task: kind.summary(by_split["train"][task].dropna().tolist())
            for task, kind in tasks.items()
        },
        "fingerprint": digest(frame[content]),
    }


def digest(frame: pd.DataFrame) -> str:
    """SHA-256 of the rows as JSON lines; their order counts, because batches are row numbers."""
    found, names = hashlib.sha256(), list(frame.columns)
    rows = zip(*(frame[name].tolist() for name in names), strict=True)
    for number, row in enumerate(ticking(rows, "fingerprint")):
        line = json.dumps(dict(zip(names, row, strict=True)), sort_keys=True, ensure_ascii=False)
        found.update(("\n" if number else "").encode() + line.encode())
    return found.hexdigest()


def notes(report: Mapping[str, Any]) -> list[str]:
    """A table's report as short lines for a person.

    Example:
        >>> notes({
        ...     "sources": [{"source": "my.csv", "rows": 12}],
        ...     "rows": {"train": 9, "validation": 1, "test": 1},
        ...     "labelled": {"cls": {"train": 9, "validation": 1, "test": 1}},
        ...     "targets": {"cls": {"down": 4, "up": 5}},
        ...     "dropped": {"without text": 1, "without target": 0},
        ...     "split": ["11 rows by their split column"],
        ... })  # doctest: +NORMALIZE_WHITESPACE
        ['my.csv: 12 rows',
         'rows: 9 train, 1 validation, 1 test',
         'labelled for cls: 9 train, 1 validation, 1 test',
         'cls in train: down 4, up 5',
         'dropped: 1 row without text',
         'split: 11 rows by their split column']
    """
    lines = [f"{part['source']}: {count(part['rows'])}" for part in report["sources"]]
    lines += said(report)
    lines += [f"{source}: {terms}" for source, terms in report.get("terms", {}).items()]
    if "pairs" in report:
        lines.append(f"every row is a pair of texts: {' and '.join(report['pairs'])}")
    lines += kind_notes(report)
    lines.append(f"rows: {_per_split(report['rows'])}")
    lines += _labels(report["labelled"], report["targets"])
    lines += [line for task, about in report.get("cut", {}).items() for line in _cut(task, about)]
    for task, found in report["targets"].items():
        lines += doubts(task, found)
    for column, words in report.get("missing", {}).items():
        counted = ", ".join(f"{word} in {count(rows)}" for word, rows in words.items())
        lines.append(f"missing in `{column}`: {counted}; data.missing says what counts")
    if empty := report.get("empty"):
        cells = [f"{number} in `{column}`" for column, number in empty.items()]
        lines.append(f"empty cells, which are missing values: {listed(cells)}")
    for source, rows in report.get("repeated", {}).items():
        lines.append(f"{source}: {count(rows)} left out that an earlier source has as well")
    dropped = [f"{count(rows)} {why}" for why, rows in report["dropped"].items() if rows]
    lines += [f"dropped: {', '.join(dropped)}"] if dropped else []
    lines += _removed(report.get("duplicates", {}))
    lines += [f"split: {note}" for note in report["split"]]
    lines += _references(report)
    return lines + _noise(report.get("expected_limits", {}), report.get("kinds", {}))


def _written(report: Mapping[str, Any]) -> list[str]:
    return [
        f"{task}: {', '.join(f'{how} in {count(rows)}' for how, rows in found.items())}, read as "
        f"numbers"
        for task, found in report.get("written", {}).items()
    ]


def said(report: Mapping[str, Any]) -> list[str]:
    """What a person should know of how files and numbers were read, and nobody asked for."""
    return [
        *(f"{p['source']}: {line}" for p in report["sources"] for line in p.get("said", ())),
        *_written(report),
    ]


def _references(report: Mapping[str, Any]) -> list[str]:
    """A line per figure of others that the results are told beside, or why there are none."""
    if "terms" in report and "references" not in report:
        return ["no figures of others beside the results: they are about all rows of one source"]
    return [
        f"{known['task']} {known['figure']} of {known['name']}: {_values(known)}"
        for known in report.get("references", ())
    ]


def _values(known: Mapping[str, Any]) -> str:
    whole = {} if known["whole"] is None else {"all rows": known["whole"]}
    parts = {value: figure for of in known["parts"].values() for value, figure in of.items()}
    return ", ".join(f"{where} {figure:.3f}" for where, figure in {**whole, **parts}.items())


def kind_notes(report: Mapping[str, Any]) -> list[str]:
    """A table of the tasks, where the kind of one was proposed, and how to say another."""
    kinds = report.get("kinds", {})
    if all(about["reason"] == GIVEN for about in kinds.values()):
        return []
    rows = [("task", "column", "kind", "why"), *((t, *k.values()) for t, k in kinds.items())]
    named = ",".join(f"{task}:{about['kind']}" for task, about in kinds.items())
    return [
        *_aligned(rows),
        f"kinds were proposed from {report.get('kinds_from', 'the training rows')} ({RULE}); "
        f"--tasks {named} sets them",
    ]


def _labels(
    labelled: Mapping[str, Mapping[str, int]], targets: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """How many labels each task has, and which; of more than a few tasks as a table."""
    if len(labelled) <= TOGETHER:
        lines = [f"labelled for {task}: {_per_split(rows)}" for task, rows in labelled.items()]
        return lines + [f"{task} in train: {_named(found)}" for task, found in targets.items()]
    head = ("labels of", *next(iter(labelled.values())), "in train")
    rows = [
        (task, *map(str, splits.values()), _named(targets[task]))
        for task, splits in labelled.items()
    ]
    return _aligned([head, *rows])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines whose columns are aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)) for row in rows)
    return [line.rstrip() for line in lines]


def _cut(task: str, about: Mapping[str, Any]) -> list[str]:
    """Where classes come from that no column holds."""
    ends = ", ".join(told_apart(about["thresholds"]))
    unused = "".join(f"; column `{name}` is not used" for name in about["unused"])
    return [f"{task}: cut from `{about['column']}` at {ends}{unused}"]


def _named(targets: Mapping[str, float]) -> str:
    first = dict(list(targets.items())[:LISTED])
    scores = told_apart([value for value in first.values() if isinstance(value, float)])
    values = scores or map(str, first.values())
    shown = [f"{name} {value}" for name, value in zip(first, values, strict=True)]
    more = len(targets) - len(first)
    return ", ".join([*shown, f"and {more} more"] if more else shown)


def _per_split(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {split}" for split, number in rows.items())


def _removed(duplicates: Mapping[str, int]) -> list[str]:
    removed = [
        f"{count(rows)} {what.removeprefix('rows ')}"
        for what, rows in duplicates.items()
        if rows and what.startswith("rows removed")
    ]
    why = "where their text is also in validation or test"
    return [f"duplicates: {', '.join(removed)}, {why}"] if removed else []


def _noise(
    limits: Mapping[str, Mapping[str, float]], kinds: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """The best figures that the noise in the targets leaves."""
    best = []
    for task, known in limits.items():
        for figure in KINDS[kinds[task]["kind"]].own_figures:
            if figure.key in known:
                label = figure.label if figure.label.isupper() else figure.label.lower()
                word, form = ("best", ".3f") if figure.better == "higher" else ("lowest", ".3g")
                best.append(f"{word} expected {label} {known[figure.key]:{form}}")
    return [f"noise of known size: {', '.join(best)}"] if best else []
