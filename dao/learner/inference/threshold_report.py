"""A finished run's threshold sweep: threshold.json, the curves as a picture, a table."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor

from dao.errors import UserError
from dao.learner.basics.numbers import aligned, number
from dao.learner.basics.tables import titled
from dao.learner.inference.predictor import Predictor
from dao.learner.kinds import Task
from dao.learner.kinds.certainty.probable import Probable
from dao.learner.kinds.parts.baselines import LINEAR
from dao.learner.kinds.parts.thresholds import Thresholded
from dao.learner.scoring.assessment import TableLike
from dao.learner.scoring.threshold import Part, curve, sweep
from dao.learner.storage.files import write_atomically

__all__ = ["FILES", "sweep_run", "sweep_table"]

FILES = ("threshold.json", "precision_recall.png")
FIGURES = ("precision", "recall", "f1")
SPLITS = ("validation", "test")


def sweep_run(
    predictor: Predictor[Any], task: Task, table: TableLike, folder: Path
) -> dict[str, Any]:
    """Sweep the threshold of a finished run and leave both files in a folder.

    Args:
        predictor: the run's model on any engine.
        task: with the class.
        table: the data of the run.
        folder: for the files; it is there.

    Returns:
        The content of threshold.json.

    Raises:
        UserError: the task has no class of its own interest; as `sweep`.
    """
    if task.positive is None or not isinstance(task, Thresholded):
        raise UserError(
            f"A threshold should be for one class. Found none that is rare in {task.name}. Train "
            f"with {task.name}.positive=CLASS."
        )

    # A threshold decides on probabilities as they are before a temperature scales them.
    task = task.at_one_half()
    task = task.at(1.0) if isinstance(task, Probable) else task

    def outputs(texts: list[str]) -> Tensor:
        found: Tensor = predictor(texts)[task.name]
        return found

    train = table.rows("train")
    learnt = train["text"].tolist(), task.encode(train[task.name].tolist())
    parts = {s: _marked(outputs, task, table, s) for s in SPLITS}
    found: dict[str, Any] = {"task": task.name, "positive": task.positive}
    found |= sweep(parts["validation"], parts["test"], task.name)
    # The plain model chooses its threshold in the same way, so that the comparison is fair.
    plain = {s: _marked(lambda texts: task.linear(learnt, texts), task, table, s) for s in SPLITS}
    found["plain"] = {"name": LINEAR, **sweep(plain["validation"], plain["test"], task.name)}
    write_atomically(folder / FILES[0], json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    write_atomically(folder / FILES[1], _picture(parts, found))
    return found


def sweep_table(found: Mapping[str, Any]) -> Table:
    """Figures of the class on both splits, as usual and at the chosen threshold."""
    title = f"{found['positive']}: threshold {number(found['threshold'])}, chosen on validation"
    heads = ("", "n", "of the class", "called so", *(f"{name} ↑" for name in FIGURES))
    table = titled(title, heads)
    for split in SPLITS:
        _add_rows(table, found, split, split)
    _add_rows(table, found["plain"], "test", f"test, {found['plain']['name']}")
    return table


def _add_rows(table: Table, found: Mapping[str, Any], split: str, label: str) -> None:
    part = found[split]
    for key, by in (("usual", found["usual"]), ("chosen", f"from {found['threshold']:.4g} on")):
        row = part[key]
        numbers = (str(part["n"]), str(part["positive"]), str(row["called"]))
        table.add_row(f"{label}, {by}", *numbers, *aligned([row[name] for name in FIGURES]))


def _marked(
    predict: Callable[[list[str]], Tensor], task: Task, table: TableLike, split: str
) -> Part:
    rows = table.rows(split)
    targets = task.encode(rows[task.name].tolist())
    known = task.labelled(targets)
    outputs = predict(rows["text"].tolist())[known]
    scores = task.predict(outputs)[f"{task.name}_p_{task.positive}"]
    index = task.encode([task.positive])
    positive = (targets[known] == index).numpy()
    return Part(positive, np.asarray(scores), task.decide(outputs) == index.item())


def _picture(parts: Mapping[str, Part], found: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # perforatedai sets styles of its own for the whole process
        figure = Figure(figsize=(5.2, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for (split, marked), style in zip(parts.items(), ("--", "-"), strict=True):
            area = found[split]["pr_auc"]
            (line,) = axes.plot(
                *curve(marked.positive, marked.scores), style, label=f"{split} (area {area:.3f})"
            )
            for key, marker in (("usual", "o"), ("chosen", "*")):
                at = found[split][key]
                axes.plot(at["recall"], at["precision"], marker, color=line.get_color())
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
        axes.set_title(
            f"{found['positive']}: {found['usual']} (●), {found['threshold']:.3g} (★)",
            parse_math=False,
        )
        axes.legend()
        axes.grid(alpha=0.3)
        figure.savefig(file, format="png", dpi=130)
    return file.getvalue()
