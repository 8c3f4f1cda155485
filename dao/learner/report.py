"""What a person reads: the table of results, the progress of a run, the model card."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import rich.box
from huggingface_hub import EvalResult, ModelCardData
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dao.learner.config import Config
from dao.learner.console import as_markdown, plain_console, styled
from dao.learner.dendrite_share import share_lines
from dao.learner.encoder import hub_id
from dao.learner.kinds.recorded import headlines
from dao.learner.numbers import aligned, number
from dao.learner.plain_models import worse_than_plain
from dao.learner.plan import Plan

__all__ = [
    "RichProgress",
    "markdown",
    "model_card",
    "results_table",
    "routing_lines",
    "routing_table",
    "slices_table",
    "summary",
    "variants_table",
]

TASK_TYPES = {"regression": "text-regression"}  # the hub's words; all else is classification
WIDE = 200  # columns of a table that goes to a file
UNWRAPPED = 2000  # of one in Markdown, where a wrapped cell would be another row


class RichProgress:
    """A bar with loss, weights, tokens/s and time left on stderr; a line per validation."""

    def __init__(self, notes: Iterable[str] = ()) -> None:
        self.console = plain_console(stderr=True, soft_wrap=True)
        for note in notes:
            self.note(note)
        self._bar = Progress(
            TextColumn("step {task.completed:.0f}/{task.total:.0f}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[note]}", markup=False),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self._task = self._bar.add_task("train", total=None, note="", visible=False)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def note(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, highlight=False)

    def step(self, row: Mapping[str, Any], plan: Plan) -> None:
        """Move the bar."""
        weights = " ".join(f"{task} x{v['weight']:.3g}" for task, v in row["tasks"].items())
        loss = number(row["loss"], decimals=3)
        note = f"loss {loss}  {weights}  {row['tokens_per_s']:,.0f} tokens/s"
        self._bar.update(
            self._task, completed=row["step"], total=plan.total, note=note, visible=True
        )

    def validation(self, row: Mapping[str, Any]) -> None:
        """Print one line."""
        marks = ("  best so far" if row["best"] else "") + (
            "  dendrites added" if row["grown"] else ""
        )
        self.console.print(
            f"epoch {row['epoch']}, step {row['step']}: validation score "
            f"{number(row['score'])}{marks}",
            highlight=False,
        )


def results_table(metrics: Mapping[str, Any], split: str) -> Table:
    """The model's row, the baselines' and the best reachable, one column per headline figure.

    Args:
        metrics: the content of metrics.json, which names the figures to show per task.
        split: which part of the data the rows are about.
    """
    figures = metrics["splits"][split]
    columns = [(t, m, a) for t, shown in headlines(metrics).items() for m, a in shown]
    counts = ", ".join(f"{task} n={values['n']}" for task, values in figures.items())
    table = _table(f"{split} ({counts})", [f"{t} {m} {a}" for t, m, a in columns])
    _fill(table, _rows(metrics, split, figures), columns)
    return table


def slices_table(metrics: Mapping[str, Any], split: str) -> Table | None:
    """The model's headline figures, broken down by the values of other columns."""
    slices = metrics["slices"].get(split)
    if not slices:
        return None
    headline = {task: [("n", ""), *shown] for task, shown in headlines(metrics).items()}
    columns = [(t, m, a) for t, shown in headline.items() for m, a in shown]
    table = _table(f"{split}, by column", [f"{t} {m} {a}" for t, m, a in columns])
    rows = (
        (f"{column} = {value}", row)
        for column, groups in slices.items()
        for value, row in groups.items()
    )
    _fill(table, rows, columns)
    return table


def routing_table(metrics: Mapping[str, Any], split: str) -> Table | None:
    """The headline figures with soft and with hard routing, over all rows and per domain."""
    routing = metrics.get("routing", {}).get(split)
    if not routing:
        return None
    variants = {name: routing[name] for name in ("soft", "hard")}
    return variants_table(f"{split}, by routing", headlines(metrics), variants)


def variants_table(
    title: str, headline: Mapping[str, Any], variants: Mapping[str, Mapping[str, Any]]
) -> Table:
    """Headline figures of several ways to run a model, over all rows and per domain.

    Args:
        title: of the table.
        headline: as in metrics.json.
        variants: name of the way -> figures of `all` rows and of the `domains`, task by task.
    """
    counted = {task: [("n", ""), *shown] for task, shown in headline.items()}
    columns = [(t, m, a) for t, shown in counted.items() for m, a in shown]
    table = _table(title, [f"{t} {m} {a}" for t, m, a in columns])
    rows = (
        (f"{name}, {group}", row)
        for name, figures in variants.items()
        for group, row in {"all": figures["all"], **figures["domains"]}.items()
    )
    _fill(table, rows, columns)
    return table


def routing_lines(metrics: Mapping[str, Any], split: str) -> list[str]:
    """How often the router was right on a split, and whom it used."""
    routing = metrics.get("routing", {}).get(split)
    if not routing:
        return []
    used = ", ".join(f"{name} {share:.3f}" for name, share in routing["usage"].items())
    if routing["accuracy"] is None:
        return [f"{split}: mean weight of the experts {used}; no known domain to compare with"]
    parts = [
        f"{name} {row['accuracy']:.3f} of {row['n']}" for name, row in routing["domains"].items()
    ]
    mix = ", ".join(f"{name} {row['share']:.3f}" for name, row in routing["domains"].items())
    return [
        f"{split}: the router is right in {routing['accuracy']:.3f} of {routing['n']} rows "
        f"({', '.join(parts)}); mean weight of the experts {used}; share of the domains {mix}"
    ]


def _table(title: str, columns: Iterable[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("")
    for column in columns:
        table.add_column(column.strip(), justify="right")
    return table


def _fill(
    table: Table,
    rows: Iterable[tuple[str | Text, Mapping[str, Any]]],
    columns: Sequence[tuple[str, str, str]],
) -> None:
    """Add labelled rows of figures; `columns` are of task, figure and arrow."""
    kept = list(rows)
    cells = [aligned([row.get(t, {}).get(m) for _, row in kept]) for t, m, _ in columns]
    for place, (label, _) in enumerate(kept):
        table.add_row(label, *(column[place] for column in cells))


def _rows(
    metrics: Mapping[str, Any], split: str, figures: Mapping[str, Any]
) -> Iterable[tuple[str | Text, Mapping[str, Any]]]:
    dendrites = metrics["dendrites"]
    none_kept = ", no dendrites kept" if dendrites and not dendrites["dendrites_kept"] else ""
    yield styled(f"{metrics['arm']} (this model{none_kept})", "bold"), figures
    merged: dict[str, dict[str, Any]] = {}
    for task, rows in metrics["baselines"].get(split, {}).items():
        for label, values in rows.items():
            merged.setdefault(label, {})[task] = values
    yield from merged.items()
    best = metrics["best_reachable"].get(split)
    if best:
        yield "best reachable (noise of known size)", best


def summary(metrics: Mapping[str, Any]) -> list[str]:
    """Where a plain model is better, and what DAO and dendrites did, in a few plain lines."""
    lines = [line for split in _tested(metrics) for line in worse_than_plain(metrics, split)]
    weights = metrics["loss_weights"]
    moves = ", ".join(
        f"{task} {number(w['first'], decimals=3)} → {number(w['last'], decimals=3)}"
        for task, w in weights.items()
    )
    lines += [f"loss weights, first → last step: {moves}"] if moves else []
    dendrites = metrics["dendrites"]
    if dendrites:
        sham = "sham " if dendrites.get("control") == "sham" else ""
        lines.append(
            f"{sham}dendrites: {dendrites['modules_wrapped']} modules wrapped, "
            f"{dendrites['dendrites_added']} added to each after step "
            f"{', '.join(map(str, dendrites['growth_steps']))}, "
            f"{dendrites['parameters_added']:,} parameters, "
            f"{dendrites['received_gradient']} received a gradient; "
            f"{dendrites['dendrites_kept']} kept in the selected model"
        )
        lines += share_lines(dendrites)
    lines += routing_lines(metrics, "test")
    training = metrics["training"]
    left_out = training.get("skipped_steps")
    skipped = f" ({left_out} left out: loss or gradient not finite)" if left_out else ""
    stages = (metrics.get("experts") or {}).get("stages")
    of = f"{training['steps']}{_stopped(training)}"
    if stages:
        of = f"{stages['joint']['steps']} of stage 3; {of} steps in all stages"
    lines.append(
        f"selected by validation after step {training['selected_after_step']} of "
        f"{of}{skipped}; trained in {training['seconds']:.0f} s, "
        f"{metrics['parameters']['trainable']:,} trainable parameters"
        f"{' without the dendrites' if dendrites else ''}"
    )
    return lines


def _stopped(training: Mapping[str, Any]) -> str:
    """What to say beside the steps of a run that `train.early_stopping` ended."""
    early = training.get("stopped_early")  # runs of earlier revisions have none
    return f" (stopped early; {early['of_steps']} were planned)" if early else ""


def _tested(metrics: Mapping[str, Any]) -> list[str]:
    return [split for split in metrics["splits"] if split != "validation"]


def markdown(table: Table) -> str:
    """The same table as Markdown; a cell is one line and shows its text as it is."""
    found = Table(title=_marked(table.title or ""), title_justify="left", box=rich.box.MARKDOWN)
    for column in table.columns:
        found.add_column(_marked(column.header), justify=column.justify)
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        found.add_row(*map(_marked, cells))
    paper = plain_console(width=UNWRAPPED, file=io.StringIO(), record=True)
    paper.print(found)
    return paper.export_text()


def _marked(cell: object) -> str:
    return as_markdown(str(cell))


def model_card(cfg: Config, metrics: Mapping[str, Any]) -> str:
    """README.md of a run folder: front matter for the hub, the results, how to use the files."""
    results = [
        EvalResult(
            task_type=TASK_TYPES.get(metrics["tasks"][task]["kind"], "text-classification"),
            dataset_type="table",
            dataset_name=metrics["name"],
            metric_type=metric,
            metric_value=figures[metric],
        )
        for task, figures in metrics["splits"]["test"].items()
        for metric, _ in headlines(metrics)[task]
        if figures[metric] is not None
    ]
    adapted = cfg.encoder.tune == "lora"
    part = "experts" if cfg.routed else "adapter" if adapted else "encoder"
    provenance = metrics["provenance"]
    scratch, name = provenance["scratch"], hub_id(provenance["encoder"]["name"])
    name = f"`base/` ({name})" if scratch and adapted else name
    what = f"a peft adapter of {name}" if adapted else f"{name} as trained"
    if cfg.routed:
        names = ", ".join(cfg.experts.names)
        what = f"{what} for each of {names}, `router.safetensors` what mixes them"
    data = ModelCardData(
        # A folder of this machine is no model of the hub.
        base_model=None if scratch or provenance["encoder"]["origin"] == "folder" else name,
        library_name="peft" if adapted else "transformers",
        tags=["multi-task", "lora"] if adapted else ["multi-task"],
        model_name=cfg.arm,
        eval_results=results,
    )
    table = markdown(results_table(metrics, "test"))
    kept = metrics["dendrites"] and metrics["dendrites"]["dendrites_kept"]
    worse = "".join(f"**{line}.**\n\n" for line in worse_than_plain(metrics, "test"))
    shares = "".join(
        f"{line[0].upper()}{line[1:]}.\n\n" for line in share_lines(metrics["dendrites"])
    )
    return (
        f"---\n{data.to_yaml()}\n---\n\n# {cfg.arm}, seed {cfg.seed}\n\n{worse}{table}\n{shares}"
        f"`{part}/` is {what}, `heads.safetensors` the task heads"
        f"{', `dendrites.safetensors` the dendrites' if kept else ''}. "
        f"`evaluate.py` loads them together"
        f"{'' if cfg.routed else f'; the {part} alone is the model without dendrites'}.\n"
    )
