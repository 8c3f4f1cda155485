"""One run beside plain models: a sentence, a picture, and the tasks in which it is not better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from matplotlib.axes import Axes

from dao.learner.basics.limits import IN_A_LINE, TOGETHER
from dao.learner.basics.numbers import number
from dao.learner.basics.wording import count
from dao.learner.experiment.findings.runs import Run
from dao.learner.experiment.pictures.figures import INK, NARROW, Panel, head
from dao.learner.kinds.parts.figures import Figure
from dao.learner.scoring.plain_models import best_plain, better_ones, not_beaten

__all__ = ["MODEL", "Beside", "beside_panels", "in_one_sentence", "mains", "not_better"]

MODEL = "this model"
BEST = "best reachable"
ROOM = 0.22  # of the range on the right, for the figures beside the points


class Beside(NamedTuple):
    """The main figure of a task on the test rows, and that of others.

    Attributes:
        task: its name.
        figure: which figure it is.
        value: of the model; None where it is not defined.
        plain: plain model -> its figure.
        reachable: the best that can be reached, where it is known.
    """

    task: str
    figure: Figure
    value: float | None
    plain: Mapping[str, float]
    reachable: float | None

    @property
    def best(self) -> tuple[str, float] | None:
        """The best plain model with its figure."""
        rows = {name: {self.figure.key: value} for name, value in self.plain.items()}
        return best_plain(rows, self.figure.key, self.figure.arrow)

    @property
    def better(self) -> bool | None:
        """Whether the model is better than the best plain one; None where one has no figure."""
        if self.value is None or self.best is None:
            return None
        return bool(better_ones(self.best[1], {MODEL: self.value}, self.figure.better))


def mains(run: Run) -> list[Beside]:
    """The main figure of each task as metrics.json has it."""
    metrics, found = run.metrics, []
    for name, task in run.tasks.items():
        figure, key = task.main, task.main.key
        plain = metrics["baselines"].get("test", {}).get(name, {})
        known = {label: of[key] for label, of in plain.items() if of.get(key) is not None}
        best = metrics["best_reachable"].get("test", {}).get(name, {}).get(key)
        value = metrics["splits"]["test"].get(name, {}).get(key)
        found.append(Beside(name, figure, value, known, best))
    return found


def in_one_sentence(run: Run, found: Sequence[Beside]) -> str:
    """What was trained, on how much, and what it reached beside the best plain models."""
    rows = run.metrics.get("data", {}).get("rows", {})
    texts = f" from {rows['train']:,} texts" if "train" in rows else ""
    on = f"on {rows['test']:,} test texts" if "test" in rows else "on the test texts"
    names = [f"{each.task} ({run.tasks[each.task].kind})" for each in found]
    learned = _joined(names) if len(names) <= IN_A_LINE else count(len(names), "task")
    return f"This model learned {learned}{texts}; {on} it {_reached(found)}."


def _reached(found: Sequence[Beside]) -> str:
    """Figures of few tasks; of many, in how many the model is better than plain models."""
    if len(found) > TOGETHER:
        known = [each for each in found if each.better is not None]
        above = sum(bool(each.better) for each in known)
        return (
            f"is better than the best plain model in the main figure of {above or 'none'} of "
            f"{count(len(known), 'task')}"
        )
    told = [f"{each.task} {each.figure.label} {_number(each.value)}" for each in found]
    best = [f"{_number(each.best[1])} ({each.best[0]})" for each in found if each.best]
    models = "models" if best[1:] else "model"
    beside = f", where the best plain {models} reached {_joined(best)}" if best else ""
    return f"reached {_joined(told)}{beside}"


def _joined(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if parts[1:] else parts[0]


def _number(value: float | None) -> str:
    return "undefined" if value is None else number(value)


def not_better(found: Sequence[Beside]) -> list[str]:
    """A line for each task in which the best plain model is as good as the model, or better."""
    told = [
        not_beaten(each.task, each.figure, each.value, each.best) for each in found if each.best
    ]
    return [line for line in told if line]


def beside_panels(found: Sequence[Beside]) -> list[Panel]:
    """The model, plain models and the best reachable in each task's main figure."""
    return [_panel(each) for each in found if each.value is not None]


def _panel(each: Beside) -> Panel:
    rows = {MODEL: float(each.value or 0.0), **each.plain}
    if each.reachable is not None:
        rows[BEST] = each.reachable
    told = "; ".join(f"{name} {number(value)}" for name, value in rows.items())
    what = f"{each.task} {each.figure.label} on the test rows, {each.figure.better} is better"
    return Panel(
        partial(_draw, rows=rows, each=each),
        f"{what}. {told}.",
        (NARROW[0], 0.95 + 0.24 * max(len(rows), 3)),
    )


def _draw(axes: Axes, rows: Mapping[str, float], each: Beside) -> None:
    for place, (name, value) in enumerate(rows.items()):
        own = name == MODEL
        colour = "#0072B2" if own else INK
        axes.plot([value], [place], "o" if own else "D", color=colour, markersize=8 if own else 5)
        axes.annotate(
            number(value), (value, place), xytext=(7, 0), textcoords="offset points", va="center",
            fontsize=8, color=INK,
        )  # fmt: skip
    low, high = min(rows.values()), max(rows.values())
    span = (high - low) or abs(high) or 1.0
    axes.set_xlim(low - 0.08 * span, high + ROOM * span)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", visible=False)
    axes.locator_params(axis="x", nbins=4)
    axes.spines["left"].set_visible(False)
    figure = each.figure
    head(axes, f"{each.task} {figure.label} ({figure.unit})")
    axes.set_xlabel(
        "better \N{RIGHTWARDS ARROW}" if figure.better == "higher" else "\N{LEFTWARDS ARROW} better"
    )
