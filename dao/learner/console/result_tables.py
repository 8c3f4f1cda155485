"""Tables of figures that stay readable with any number of tasks.

One or two tasks share one table. More of them get a table each; more than `ALIKE` tasks of one kind
with the same figures share a table in which each of them is a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from dao.learner.basics.limits import ACROSS, IN_A_LINE, TOGETHER
from dao.learner.basics.numbers import aligned
from dao.learner.basics.tables import figure_cells, titled
from dao.learner.basics.wording import listed
from dao.learner.console.calibration_tables import calibration_tables
from dao.learner.console.reference_tables import reference_tables
from dao.learner.console.terminal import styled
from dao.learner.kinds.recorded import headlines, part_name
from dao.learner.scoring.plain_models import best_plain

__all__ = [
    "figures_across",
    "left_out_slices",
    "main_columns",
    "results_tables",
    "routing_tables",
    "slices_tables",
    "tables_of",
    "tested",
    "variants_tables",
]

ALIKE = 4
"""Tasks of one kind above which each is a row of one table."""
SLICED = 12
"""Tasks up to which figures by the values of a column are shown."""
COLUMNS = 4
"""Columns by whose values the figures of more than `TOGETHER` tasks are shown."""
BEST = "best reachable (noise of known size)"

Headline = Mapping[str, Sequence[tuple[str, str]]]
Column = tuple[str, str, str]
"""A task, a figure and the arrow of its better direction."""
Groups = Mapping[str, Mapping[str, Any]]
"""Label of some rows -> task -> figures."""


class _Split(NamedTuple):
    """The part of metrics.json that is about one split."""

    name: str
    model: str
    figures: Mapping[str, Any]
    plain: Mapping[str, Any]
    reachable: Mapping[str, Any]


def tested(metrics: Mapping[str, Any]) -> list[str]:
    """The splits whose figures are told: all but validation, on which the model was selected."""
    return [split for split in metrics["splits"] if split != "validation"]


def tables_of(metrics: Mapping[str, Any], *, parts: bool = True) -> list[Table]:
    """The tables of a run, for a terminal or as Markdown.

    Args:
        metrics: The content of metrics.json.
        parts: Whether figures of parts of the rows are shown as well: by the values of other
            columns, and by routing.
    """
    tables = []
    for split in tested(metrics):
        tables += [*results_tables(metrics, split), *reference_tables(metrics, split)]
        tables += calibration_tables(metrics, split)
        if parts:
            tables += [*slices_tables(metrics, split), *routing_tables(metrics, split)]
    return tables


def results_tables(metrics: Mapping[str, Any], split: str) -> list[Table]:
    """The model's figures beside those of the plain models and the best reachable.

    Args:
        metrics: The content of metrics.json, which names the figures to show per task.
        split: Which part of the data the rows are about.
    """
    dendrites = metrics["dendrites"]
    this = "this model" + (
        ", no dendrites kept" if dendrites and not dendrites["dendrites_kept"] else ""
    )
    # Many tasks make a long name, which would leave little room for the figures.
    few = len(metrics["splits"][split]) <= TOGETHER
    shown_as = part_name(metrics, split)
    part = _Split(
        shown_as,
        f"{metrics['arm']} ({this})" if few else this,
        metrics["splits"][split],
        metrics["baselines"].get(split, {}),
        metrics["best_reachable"].get(split) or {},
    )
    headline = {t: shown for t, shown in headlines(metrics).items() if t in part.figures}
    if few:
        counts = ", ".join(f"{task} n={values['n']}" for task, values in part.figures.items())
        return [_full(part, f"{shown_as} ({counts})", headline, prefixed=True)]
    tables = []
    for kind, names in _groups(metrics, headline):
        if len(names) > ALIKE:
            tables.append(_by_task(part, kind, {n: headline[n] for n in names}, metrics))
            continue
        for name in names:
            title = f"{shown_as}: {name} ({kind}, n={part.figures[name]['n']})"
            tables.append(_full(part, title, {name: headline[name]}, prefixed=False))
    return tables


def _groups(metrics: Mapping[str, Any], headline: Headline) -> list[tuple[str, list[str]]]:
    """Kind and names of the tasks that have the same kind and the same figures."""
    found: dict[tuple[str, ...], list[str]] = {}
    for name, shown in headline.items():
        kind = metrics["tasks"][name]["kind"]
        found.setdefault((kind, _main(metrics, name)[0], *map(str, shown)), []).append(name)
    return [(str(key[0]), names) for key, names in found.items()]


def _main(metrics: Mapping[str, Any], task: str) -> tuple[str, str]:
    """The main figure of a task with its arrow; the first shown where the main one is not."""
    main = metrics["tasks"][task]["main_figure"] if "tasks" in metrics else ""
    shown = headlines(metrics)[task]
    return next((pair for pair in shown if pair[0] == main), shown[0])


def main_columns(metrics: Mapping[str, Any]) -> Headline:
    """Of one or two tasks all figures; of more, the main figure of each.

    Args:
        metrics: The content of metrics.json, or the part that `described` gives.
    """
    headline = headlines(metrics)
    if len(headline) <= TOGETHER:
        return headline
    return {task: [_main(metrics, task)] for task in headline}


def _full(part: _Split, title: str, headline: Headline, *, prefixed: bool) -> Table:
    """A row per model, a column per figure."""
    columns = [(t, m, a) for t, shown in headline.items() for m, a in shown]
    table = _table(title, [f"{t} {m} {a}" if prefixed else f"{m} {a}" for t, m, a in columns])
    _fill(table, _models(part, headline), columns)
    return table


def _models(part: _Split, tasks: Iterable[str]) -> list[tuple[str | Text, Mapping[str, Any]]]:
    kept = list(tasks)
    merged: dict[str, dict[str, Any]] = {}
    for task, rows in part.plain.items():
        for label, values in rows.items() if task in kept else ():
            merged.setdefault(label, {})[task] = values
    reachable = {t: found for t, found in part.reachable.items() if t in kept}
    best = [(BEST, reachable)] if reachable else []
    return [(styled(part.model, "bold"), part.figures), *merged.items(), *best]


def _by_task(part: _Split, kind: str, headline: Headline, metrics: Mapping[str, Any]) -> Table:
    """A row per task; the best plain model's figure stands beside the main one.

    An asterisk marks a plain model that is better than this one.
    """
    names = list(headline)
    main, arrow = _main(metrics, names[0])
    plain = {name: best_plain(part.plain.get(name, {}), main, arrow) for name in names}
    known = {name: found for name, found in plain.items() if found is not None}
    columns: list[tuple[str, list[str]]] = [("n", [str(part.figures[n]["n"]) for n in names])]
    for metric, sign in headline[names[0]]:
        values = [part.figures[name].get(metric) for name in names]
        columns.append((f"{metric} {sign}", aligned(values)))
        if metric == main and known:
            figures = aligned([known[n][1] if n in known else None for n in names])
            beaten = [_beats(known.get(n), v, arrow) for n, v in zip(names, values, strict=True)]
            cells = [f"* {f}" if better else f for f, better in zip(figures, beaten, strict=True)]
            columns.append((f"plain {main}", cells))
    if any(name in part.reachable for name in names):
        best = [part.reachable.get(name, {}).get(main) for name in names]
        columns.append((f"best {main}", aligned(best)))
    title = f"{part.name}: {len(names)} tasks of the kind {kind}; {part.model}"
    # Headings of two lines leave room for the tasks' names, which are never shortened.
    table = _table(title, [heading.replace(" ", "\n") for heading, _ in columns])
    table.columns[0].overflow = "fold"
    for place, name in enumerate(names):
        table.add_row(name, *(column[place] for _, column in columns))
    if known:
        who = listed(list(dict.fromkeys(name for name, _ in known.values())), most=IN_A_LINE)
        table.caption = f"plain: the best of {who}; * better than this model"
        table.caption_justify = "left"
    return table


def _beats(plain: tuple[str, float] | None, value: float | None, arrow: str) -> bool:
    if plain is None or value is None:
        return False
    return plain[1] > value if arrow == "↑" else plain[1] < value


def slices_tables(metrics: Mapping[str, Any], split: str) -> list[Table]:
    """The model's figures, broken down by the values of other columns.

    Of more than `TOGETHER` tasks only the main figures are shown, by the first columns; of more
    than `SLICED` tasks none.
    """
    slices = metrics.get("slices", {}).get(split)
    if not slices:
        return []
    headline, split = main_columns(metrics), part_name(metrics, split)
    if len(headline) <= TOGETHER:
        rows = {f"{c} = {v}": row for c, groups in slices.items() for v, row in groups.items()}
        return [_grouped(f"{split}, by column", headline, rows)]
    if len(headline) > SLICED:
        return []
    return [
        table
        for column, groups in list(slices.items())[:COLUMNS]
        for table in figures_across(f"{split}, main figures by {column}", headline, groups)
    ]


def left_out_slices(metrics: Mapping[str, Any], split: str) -> list[str]:
    """A line that says where to find the breakdowns that `slices_tables` leaves out."""
    slices, tasks = list(metrics.get("slices", {}).get(split) or ()), len(headlines(metrics))
    left_out = slices if tasks > SLICED else slices[COLUMNS:] if tasks > TOGETHER else []
    if not left_out:
        return []
    part = part_name(metrics, split)
    return [
        f"{part}, by {listed(left_out)}: the figures of the {tasks} tasks are under `slices` in "
        f"metrics.json, and in the report with --format json"
    ]


def routing_tables(metrics: Mapping[str, Any], split: str) -> list[Table]:
    """The figures with soft and with hard routing, over all rows and per domain."""
    routing = metrics.get("routing", {}).get(split)
    if not routing:
        return []
    variants = {name: routing[name] for name in ("soft", "hard")}
    return variants_tables(
        f"{part_name(metrics, split)}, by routing", main_columns(metrics), variants
    )


def variants_tables(
    title: str, headline: Headline, variants: Mapping[str, Mapping[str, Any]]
) -> list[Table]:
    """Figures of several ways to run a model, over all rows and per domain.

    Args:
        title: Of the tables.
        headline: Figures to show per task, each with its arrow; of many tasks the main one.
        variants: Name of the way -> figures of `all` rows and of the `domains`, task by task.
    """
    rows = {
        f"{name}, {group}": row
        for name, figures in variants.items()
        for group, row in {"all": figures["all"], **figures["domains"]}.items()
    }
    if len(headline) <= TOGETHER:
        return [_grouped(title, headline, rows)]
    return figures_across(title, headline, rows)


def _grouped(title: str, headline: Headline, rows: Groups) -> Table:
    """A row per group of rows, a column per figure, with the number of labels of each task."""
    counted = {task: [("n", ""), *shown] for task, shown in headline.items()}
    columns = [(t, m, a) for t, shown in counted.items() for m, a in shown]
    table = _table(title, [f"{t} {m} {a}" for t, m, a in columns])
    _fill(table, rows.items(), columns)
    return table


def figures_across(title: str, headline: Headline, groups: Groups) -> list[Table]:
    """A row per task and figure, a column per group of rows, way to run a model, or model."""
    labels, tables = list(groups), []
    shown = [(t, m, a) for t, own in headline.items() for m, a in own]
    for start in range(0, len(labels), ACROSS):
        heads = labels[start : start + ACROSS]
        table = _table(title, [f"{head} {_counts(groups[head])}" for head in heads])
        for task, metric, arrow in shown:
            values = [groups[head].get(task, {}).get(metric) for head in heads]
            table.add_row(f"{task} {metric} {arrow}", *aligned(values))
        tables.append(table)
    return tables


def _counts(row: Mapping[str, Any]) -> str:
    """How many labels the tasks have in a group of rows: one number, or the least and the most."""
    found = sorted({figures["n"] for figures in row.values() if "n" in figures})
    if not found:
        return ""
    return f"n={found[0]}" if len(found) == 1 else f"n={found[0]}-{found[-1]}"


def _table(title: str, columns: Iterable[str]) -> Table:
    return titled(title, ["", *(column.strip() for column in columns)])


def _fill(
    table: Table,
    rows: Iterable[tuple[str | Text, Mapping[str, Any]]],
    columns: Sequence[Column],
) -> None:
    """Add labelled rows of figures."""
    kept = list(rows)
    cells = figure_cells([row for _, row in kept], [(t, m) for t, m, _ in columns])
    for (label, _), own in zip(kept, cells, strict=True):
        table.add_row(label, *own)
