"""What is drawn is what was found: intervals to the pixel, bands, growths where they were."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from dao.learner.experiment.arms import KNOWN, known_arms
from dao.learner.experiment.findings.runs import Run
from dao.learner.experiment.pictures import figures
from dao.learner.experiment.pictures.effect_figures import BCA, cost_panels, effect_panels
from dao.learner.experiment.pictures.figures import INK, Panel, arm_style, task_style
from dao.learner.experiment.pictures.training_figures import (
    dao_panels,
    growth_marks,
    loss_panels,
    validation_panels,
)
from dao.learner.settings.config import load_config

METRICS = {
    "accuracy": {
        "task": "cls", "key": "accuracy", "label": "Accuracy", "unit": "share", "better": "higher",
    },
    "mse": {"task": "reg", "key": "mse", "label": "MSE", "unit": "score²", "better": "lower"},
}  # fmt: skip
FOUND = {"metrics": METRICS, "tasks": ["cls", "reg"]}
DOTS = 260  # per inch: a projecting cap of the thickest line is then 11 pixels long


# -- intervals ------------------------------------------------------------------------------------


def rendered(panel: Panel) -> tuple[np.ndarray, Figure]:
    with figures._style():
        figure = figures._figure([panel], 1)
        figure.set_dpi(DOTS)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[::-1, :, :3] / 255, figure


def extent(pixels: np.ndarray, colour: str, axis: int) -> tuple[float, float]:
    """Where the pixels of a colour begin and end, along x (0) or y (1)."""
    close = np.abs(pixels - np.array(to_rgb(colour))).max(axis=2) < 0.02
    places = np.flatnonzero(close.any(axis=axis))
    return float(places.min()), float(places.max() + 1)


def effect(bca95, t95, mean) -> dict:
    return {
        "metric": "accuracy", "name": "DAO", "mean": mean, "t95": t95, "bca95": bca95,
        "significant": False, "verdict": "no significant difference",
    }  # fmt: skip


def test_an_interval_that_excludes_zero_does_so_in_the_picture():
    found = FOUND | {"effects": [effect([0.0002, 0.0091], [-0.0019, 0.0121], 0.0051)]}
    (panel,) = effect_panels(found, ["accuracy"])
    pixels, figure = rendered(panel)
    axes = figure.axes[0]
    box = axes.get_window_extent()
    inside = pixels[int(box.y0) + 2 : int(box.y1) - 2]  # without the legend
    expected = [axes.transData.transform((bound, 0))[0] for bound in (0.0002, 0.0091)]
    assert extent(inside, BCA["color"], 0) == pytest.approx(expected, abs=2)
    centre = round(axes.transData.transform((0, 0))[1])
    left, right = round(box.x0) + 6, round(box.x1)
    line = pixels[centre - 1 : centre + 1, left:right]
    expected = [axes.transData.transform((bound, 0))[0] - left for bound in (-0.0019, 0.0121)]
    assert extent(line, INK, 0) == pytest.approx(expected, abs=3)  # its ends are marks of 1 point


def test_the_interval_beside_a_cost_is_as_long_as_it_is():
    arms = {"dao": {"mean": {"accuracy": 0.7}, "t95": {"accuracy": [0.62, 0.78]}},
            "base": {"mean": {"accuracy": 0.5}, "t95": {"accuracy": [0.4, 0.9]}}}  # fmt: skip
    panel, *_ = cost_panels(
        FOUND | {"arms": arms}, ["accuracy"], {"time (s)": {"dao": 9.0, "base": 5.0}}
    )
    pixels, figure = rendered(panel)
    axes = figure.axes[0]
    box = axes.get_window_extent()
    inside = pixels[int(box.y0) : int(box.y1)]
    expected = [axes.transData.transform((9, y))[1] - int(box.y0) for y in (0.62, 0.78)]
    assert extent(inside, arm_style("dao")["color"], 1) == pytest.approx(expected, abs=1.5)


def test_the_check_of_pixels_finds_caps_that_stick_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(figures.STYLE, "lines.solid_capstyle", "projecting")
    with pytest.raises(AssertionError):
        test_an_interval_that_excludes_zero_does_so_in_the_picture()
    with pytest.raises(AssertionError):
        test_the_interval_beside_a_cost_is_as_long_as_it_is()


# -- training -------------------------------------------------------------------------------------


def run(arm: str, seed: int, values: dict[int, float], grown=(), *, losses=None, tasks=None) -> Run:
    """A run with validation figures by step, and losses of `cls` from step 1 on."""
    made = Run(arm, seed, Path(arm), load_config(flags=known_arms(["cls", "reg"]).get(arm, {})), {})
    made.__dict__["validations"] = [
        {"step": s, "grown": s in grown, "metrics": {"cls": {"accuracy": v}, "reg": {"mse": v}}}
        for s, v in values.items()
    ]
    for row in made.validations:
        row["metrics"] = {t: f for t, f in row["metrics"].items() if t in (tasks or row["metrics"])}
    made.__dict__["history"] = [
        {"step": s, "tasks": {"cls": {"loss": x}}} for s, x in enumerate(losses or [], start=1)
    ]
    return made


def drawn(panel: Panel):
    axes = Figure().add_subplot()
    panel.draw(axes)
    return axes


def test_growths_are_marked_in_the_arms_that_are_drawn_alone():
    runs = {
        "base": {0: run("base", 0, {5: 0.1, 9: 0.2}, [5])},
        "dendrites": {0: run("dendrites", 0, {5: 0.1, 9: 0.2}, [5])},
        "sham": {0: run("sham", 0, {4: 0.1, 9: 0.2}, [4], tasks=["cls"])},
        "cls": {0: run("cls", 0, {3: 0.1, 7: 0.2}, [3], tasks=["cls"])},
    }
    accuracy, mse = validation_panels(runs, FOUND, METRICS)
    names = drawn(accuracy).get_legend_handles_labels()[1]
    assert "dendrites added in dendrites" in names
    assert "dendrites added in sham" in names
    assert not any("restart" in name for name in names)
    lines = drawn(mse).lines
    assert any(list(line.get_xdata()) == [5, 5] for line in lines)
    assert not any(list(line.get_xdata()) in ([3, 3], [4, 4]) for line in lines)
    assert "step 3" not in accuracy.alt
    assert "step 4" not in mse.alt
    assert "step 5" in mse.alt


def test_an_arm_that_never_grew_is_said_to_have_no_growth():
    runs = {
        "plain": {0: run("plain", 0, {5: 0.1, 9: 0.2})},
        "sham": {0: run("sham", 0, {5: 0.1, 9: 0.2}, [5])},
    }
    assert growth_marks(runs) == {"dendrites added in sham": [5]}
    assert growth_marks({"plain": runs["plain"]}) == {}
    assert growth_marks({"sham": runs["sham"]}) == {"dendrites added": [5]}


def band(axes) -> np.ndarray:
    (found,) = axes.collections
    return found.get_paths()[0].vertices


def test_validations_have_the_mean_over_seeds_and_their_range():
    seeds = {0: run("dao", 0, {4: 0.2, 8: 0.6}), 1: run("dao", 1, {6: 0.4, 10: 0.6})}
    (panel,) = validation_panels({"dao": seeds}, FOUND, ["accuracy"])
    axes = drawn(panel)
    (line,) = axes.lines
    assert list(line.get_xdata()) == [5, 9]
    assert list(line.get_ydata()) == pytest.approx([0.3, 0.6])
    at_first = band(axes)[band(axes)[:, 0] == 5][:, 1]
    assert (at_first.min(), at_first.max()) == pytest.approx((0.2, 0.4))
    assert "band: lowest to highest seed" in axes.get_xlabel()


def test_losses_are_averaged_per_seed_before_their_range_is_taken():
    noisy = [1.0, 3.0] * 40  # a mean of 2 in each bin of two steps
    seeds = {s: run("dao", s, {}, losses=[x + s for x in noisy]) for s in (0, 1)}
    (panel,) = loss_panels({"dao": seeds}, ["cls"])
    axes = drawn(panel)
    assert list(axes.lines[0].get_ydata()) == pytest.approx([2.5] * 40)
    assert list(axes.lines[0].get_xdata()) == pytest.approx([1.5 + 2 * i for i in range(40)])
    bounds = band(axes)[:, 1]
    assert (bounds.min(), bounds.max()) == pytest.approx((2, 3))


def test_one_seed_has_a_line_and_no_band():
    (panel,) = loss_panels({"dao": {0: run("dao", 0, {}, losses=[1.0, 2.0])}}, ["cls"])
    axes = drawn(panel)
    assert not axes.collections
    assert axes.get_xlabel() == "optimizer step"


def test_eight_tasks_are_told_apart_by_colour_and_all_arms_by_their_style():
    names = [f"task {i}" for i in range(9)]
    seed = run("dao", 0, {})
    seed.__dict__["history"] = [
        {"step": s, "tasks": {n: {"loss": 1, "weight": 1, "norm": 2} for n in names}}
        for s in (1, 2)
    ]
    axes = drawn(dao_panels({"dao": {0: seed}}, names)[0])
    assert len({line.get_color() for line in axes.lines[:8]}) == 8
    styles = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
    assert len(styles) == 9
    arms = [*KNOWN, "cls", "reg"]
    assert len({json.dumps(task_style(i), sort_keys=True) for i in range(32)}) == 32
    assert len({json.dumps(arm_style(arm), sort_keys=True) for arm in arms}) == len(arms) >= 9
