"""What a person reads: the progress of a run, a summary, the model card."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

import rich.box
from huggingface_hub import EvalResult, ModelCardData
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from dao.learner.basics.limits import IN_A_LINE, TOGETHER
from dao.learner.basics.numbers import number
from dao.learner.console.calibration_tables import calibration_lines
from dao.learner.console.result_tables import (
    left_out_slices,
    main_columns,
    tables_of,
    tested,
)
from dao.learner.console.terminal import as_markdown, plain_console
from dao.learner.dendrites.share import share_lines
from dao.learner.encoder.find import hub_id
from dao.learner.kinds import KINDS
from dao.learner.kinds.recorded import part_name
from dao.learner.scoring.plain_models import worse_than_plain
from dao.learner.settings.config import Config

__all__ = [
    "RichProgress",
    "markdown",
    "model_card",
    "routing_lines",
    "summary",
    "weights_note",
]

WIDE = 200  # columns of a table that goes to a file
UNWRAPPED = 2000  # columns of a table in Markdown, where a wrapped cell would be a second row


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

    def step(self, row: Mapping[str, Any], total: int) -> None:
        """Move the bar, which ends after `total` steps."""
        weights = weights_note({task: v["weight"] for task, v in row["tasks"].items()})
        loss = number(row["loss"], decimals=3)
        note = f"loss {loss}  {weights}  {row['tokens_per_s']:,.0f} tokens/s"
        self._bar.update(self._task, completed=row["step"], total=total, note=note, visible=True)

    def of_stage(self, name: str, before: int) -> Self:  # noqa: ARG002
        """The same bar, which begins anew."""
        return self

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


def routing_lines(metrics: Mapping[str, Any], split: str) -> list[str]:
    """How often the router chose the right expert on a split, and how much it used each."""
    routing = metrics.get("routing", {}).get(split)
    if not routing:
        return []
    shown_as = part_name(metrics, split)
    used = ", ".join(f"{name} {share:.3f}" for name, share in routing["usage"].items())
    if routing["accuracy"] is None:
        return [f"{shown_as}: mean weight of the experts {used}; no known domain to compare with"]
    parts = [
        f"{name} {row['accuracy']:.3f} of {row['n']}" for name, row in routing["domains"].items()
    ]
    mix = ", ".join(f"{name} {row['share']:.3f}" for name, row in routing["domains"].items())
    return [
        f"{shown_as}: the router is right in {routing['accuracy']:.3f} of {routing['n']} rows "
        f"({', '.join(parts)}); mean weight of the experts {used}; share of the domains {mix}"
    ]


def summary(metrics: Mapping[str, Any]) -> list[str]:
    """A few lines about a run: better plain models, loss weights, dendrites, router and steps."""
    lines = [line for split in tested(metrics) for line in worse_than_plain(metrics, split)]
    lines += [line for split in tested(metrics) for line in left_out_slices(metrics, split)]
    lines += [line for split in tested(metrics) for line in calibration_lines(metrics, split)]
    lines += _moves(metrics["loss_weights"])
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


def _moves(weights: Mapping[str, Mapping[str, float]]) -> list[str]:
    """First and last loss weights; of many tasks only the two with the extreme last weights."""
    ends = sorted(weights, key=lambda task: weights[task]["last"])
    few = len(ends) <= IN_A_LINE
    shown = list(weights) if few else [ends[0], ends[-1]]
    moves = ", ".join(
        f"{task} {number(weights[task]['first'], decimals=3)} → "
        f"{number(weights[task]['last'], decimals=3)}"
        for task in shown
    )
    of = "" if few else f", the lowest and the highest of {len(ends)} tasks in the end"
    return [f"loss weights, first → last step{of}: {moves}"] if moves else []


def weights_note(weights: Mapping[str, float | None]) -> str:
    """The loss weights of a step in a few words; of many tasks the smallest and the largest.

    Example:
        >>> weights_note({"topic": 1.25, "churn": 0.75})
        'topic x1.25 churn x0.75'
        >>> weights_note(dict(zip("abcdefg", [1.0, 0.5, 2.0, 1.0, 0.5, 1.0, 1.0])))
        '7 weights, b x0.5 to c x2'
    """
    known = {task: weight for task, weight in weights.items() if weight is not None}
    if len(known) <= IN_A_LINE:
        return " ".join(f"{task} x{weight:.3g}" for task, weight in known.items())
    low, high = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    return f"{len(known)} weights, {low} x{known[low]:.3g} to {high} x{known[high]:.3g}"


def _stopped(training: Mapping[str, Any]) -> str:
    """What to say beside the steps of a run that `train.early_stopping` ended."""
    early = training.get("stopped_early")  # runs of earlier revisions have none
    return f" (stopped early; {early['of_steps']} were planned)" if early else ""


def markdown(tables: Iterable[Table]) -> str:
    """The same tables as Markdown, one below the other."""
    return "\n".join(map(_markdown, tables))


def _markdown(table: Table) -> str:
    """The same table as Markdown; a cell is one line and shows its text as it is.

    A caption is a paragraph below the table.
    """
    found = Table(title=_marked(table.title or ""), title_justify="left", box=rich.box.MARKDOWN)
    for column in table.columns:
        found.add_column(_marked(column.header), justify=column.justify)
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        found.add_row(*map(_marked, cells))
    paper = plain_console(width=UNWRAPPED, file=io.StringIO(), record=True)
    paper.print(found)
    below = f"\n{_marked(table.caption)}\n" if table.caption else ""
    return paper.export_text() + below


def _marked(cell: object) -> str:
    return as_markdown(str(cell))


def _results(metrics: Mapping[str, Any]) -> list[EvalResult]:
    """The test figures for the hub; of many tasks the main ones, named after their tasks."""
    test, headline = metrics["splits"]["test"], main_columns(metrics)
    return [
        EvalResult(
            task_type=KINDS[metrics["tasks"][task]["kind"]].hub_type,
            dataset_type="table",
            dataset_name=metrics["name"],
            metric_type=metric,
            metric_value=test[task][metric],
            metric_name=f"{task} {metric}" if len(headline) > TOGETHER else None,
        )
        for task in test
        for metric, _ in headline[task]
        if test[task][metric] is not None
    ]


def model_card(cfg: Config, metrics: Mapping[str, Any]) -> str:
    """README.md of a run folder: front matter for the hub, the results, how to use the files."""
    results = _results(metrics)
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
        # The hub does not know a folder of this machine.
        base_model=None if scratch or provenance["encoder"]["origin"] == "folder" else name,
        library_name="peft" if adapted else "transformers",
        tags=["multi-task", "lora"] if adapted else ["multi-task"],
        model_name=cfg.arm,
        eval_results=results,
    )
    tables = markdown(tables_of(metrics, parts=False))
    kept = metrics["dendrites"] and metrics["dendrites"]["dendrites_kept"]
    worse = "".join(f"**{line}.**\n\n" for line in worse_than_plain(metrics, "test"))
    shares = "".join(
        f"{line[0].upper()}{line[1:]}.\n\n" for line in share_lines(metrics["dendrites"])
    )
    calibrated = "".join(f"- {as_markdown(s)}\n" for s in calibration_lines(metrics, "test"))
    calibrated += "\n" if calibrated else ""
    pairs = " and ".join(f"`{name}`" for name in cfg.data.text)
    pairs = f"Every input is a pair of texts: {pairs}.\n\n" if cfg.data.pairs else ""
    return (
        f"---\n{data.to_yaml()}\n---\n\n# {cfg.arm}, seed {cfg.seed}\n\n{worse}{tables}\n"
        f"{calibrated}{shares}{pairs}"
        f"`{part}/` is {what}, `heads.safetensors` the task heads"
        f"{', `dendrites.safetensors` the dendrites' if kept else ''}. "
        f"`dao.learner.load` loads them together"
        f"{'' if cfg.routed else f'; the {part} alone is the model without dendrites'}.\n\n"
        f"```python\nfrom dao.learner import load\n\nmodel = load(PATH_OR_HUB_ID)\n"
        f"model.predict([{_example(cfg)}])\n```\n"
    )


def _example(cfg: Config) -> str:
    """An input of the model, as Python writes it."""
    return '("a text", "its pair")' if cfg.data.pairs else '"a text"'
