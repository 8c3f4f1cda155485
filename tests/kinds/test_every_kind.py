"""What holds of every kind: weights of rows, states, row scores, records."""

import json
from collections.abc import Mapping
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from dao.errors import UserError
from dao.learner.inference.threshold_report import sweep_run
from dao.learner.kinds import KINDS, Task
from dao.learner.kinds.binary import Binary
from dao.learner.kinds.classification import Classification
from dao.learner.kinds.multilabel import Multilabel
from dao.learner.kinds.ordinal import Ordinal
from dao.learner.kinds.parts.thresholds import Thresholded
from dao.learner.kinds.recorded import recorded_tasks, restored_tasks
from dao.learner.kinds.regression import Regression

ABC = ["a", "b", "c"]
DENSE = {"low": -1.0, "high": 3.0, "weights": [0.5, 2.0, 0.25, 4.0]}
CLASSES = ["a", None, "c", "b", "a", "c", "b"]
MARKS = ["yes", "no", None, "no", "yes", "yes", "no"]
TAGS = [("a",), (), None, ("a", "b", "c"), ("c",), ("b", "c"), ("a",)]
NUMBERS = [0.25, -1.0, None, 3.0, 2.5, 0.5, 9.0]
SAMPLES: Mapping[str, tuple[Task, list]] = {
    "binary": (Binary("t", "x", ["no", "yes"]), MARKS),
    "binary-weighted": (Binary("t", "x", ["no", "yes"], [0.5, 3.0], threshold=0.3), MARKS),
    "classification": (Classification("t", "x", ABC, show=["weighted_f1"]), CLASSES),
    "classification-weighted": (
        Classification("t", "x", ABC, [0.5, 2.0, 1.5], label_smoothing=0.1, positive="c"),
        CLASSES,
    ),
    "classification-focal": (Classification("t", "x", ABC, [1, 2, 3], loss_kind="focal"), CLASSES),
    "classification-cut": (Classification("t", "x", ABC, thresholds=[0.0, 1.0]), CLASSES),
    "multilabel": (Multilabel("t", "x", ABC, "|", "none", 0.4, "macro_f1"), TAGS),
    "ordinal": (Ordinal("t", "x", ABC, "accuracy", ["accuracy"]), CLASSES),
    "ordinal-kappa": (Ordinal("t", "x", ABC), CLASSES),
    "regression": (Regression("t", "x", 1.0, 2.0, 3.0), NUMBERS),
    "regression-mae": (Regression("t", "x", 1.0, 2.0, loss_kind="mae"), NUMBERS),
    "regression-huber": (Regression("t", "x", 1.0, 2.0, loss_kind="huber"), NUMBERS),
    "regression-dense": (Regression("t", "x", 1.0, 2.0, row_weight=DENSE), NUMBERS),
}
every = pytest.mark.parametrize("sample", SAMPLES)


def encoded(sample: str) -> tuple[Task, Tensor, Tensor]:
    task, values = SAMPLES[sample]
    torch.manual_seed(3)
    return task, torch.randn(len(values), task.outputs), task.encode(values)


def test_every_kind_has_a_sample():
    assert {task.kind for task, _ in SAMPLES.values()} == set(KINDS)


@every
def test_missing_targets_are_found_and_weigh_nothing(sample: str):
    task, _, targets = encoded(sample)
    present = [value is not None for value in SAMPLES[sample][1]]
    assert task.labelled(targets).tolist() == present
    weights = task.row_weights(targets)
    assert weights.dtype == torch.float64
    assert (weights > 0).tolist() == present
    assert (weights[~torch.tensor(present)] == 0).all()


@every
@pytest.mark.parametrize("ends", [(0, 1, 6), (0, 2, 4, 6), (0, 1, 2, 3, 4, 5, 6)])
def test_the_loss_of_a_batch_is_the_mean_of_its_parts_by_row_weights(sample: str, ends):
    task, outputs, targets = encoded(sample)
    known = task.labelled(targets)
    outputs, targets = outputs[known], targets[known]
    parts = [slice(*pair) for pair in pairwise(ends)]
    shares = [task.row_weights(targets[part]).sum().item() for part in parts]
    losses = [task.loss(outputs[part], targets[part]).item() for part in parts]
    whole = sum(s * loss for s, loss in zip(shares, losses, strict=True)) / sum(shares)
    assert task.loss(outputs, targets).item() == pytest.approx(whole, rel=1e-5)
    assert len(set(losses)) == len(losses)  # a mean of equal losses would show nothing


@every
def test_half_precision_outputs_have_the_loss_of_their_values(sample: str):
    task, outputs, targets = encoded(sample)
    known = task.labelled(targets)
    outputs, targets = outputs[known].bfloat16(), targets[known]
    assert task.loss(outputs, targets) == task.loss(outputs.float(), targets)
    assert task.predict(outputs).keys() == task.predict(outputs.float()).keys()


@every
def test_row_scores_have_the_mean_that_is_the_figure_of_rows(sample: str):
    task, outputs, targets = encoded(sample)
    scores = task.scores_of_rows(outputs, targets)
    present = task.labelled(targets).tolist()
    assert [score is not None for score in scores] == present
    known = [score for score in scores if score is not None]
    figures = task.metrics(outputs, targets)
    assert figures["n"] == len(known)
    assert sum(known) / len(known) == pytest.approx(figures[task.row_figure], rel=1e-6)
    if task.row_better == "higher":
        assert set(known) <= {0.0, 1.0}


@every
def test_figures_are_json_and_all_that_a_kind_can_show_is_among_them(sample: str):
    task, outputs, targets = encoded(sample)
    figures = task.metrics(outputs, targets)
    json.dumps(figures, allow_nan=False)
    shown = {f.key for f in task.own_figures if task.positive or not f.key.startswith("rare_")}
    assert shown <= set(figures)
    assert {task.selects_by, task.row_figure, task.main_figure} <= set(figures)
    assert task.score(figures) == max(-1.0, figures[task.selects_by])
    assert task.score({}) is None
    assert task.score({task.selects_by: -40.0}) == -1.0


@every
def test_whether_there_is_a_score_depends_on_the_targets_alone(sample: str):
    task, _, targets = encoded(sample)
    known = targets[task.labelled(targets)]
    # All alike, all alike and the lowest, and of several kinds.
    for rows in (known[:1].repeat(4, *[1] * (known.ndim - 1)), known[:2] * 0, known):
        there = set()
        for seed in range(3):
            torch.manual_seed(seed)
            random = torch.randn(1, task.outputs).expand(len(rows), -1)
            for outputs in (random, 9 * random.sign(), torch.randn(len(rows), task.outputs)):
                there.add(task.score(task.metrics(outputs, rows)) is None)
        assert len(there) == 1


@every
def test_no_target_no_figures(sample: str):
    task, outputs, _ = encoded(sample)
    missing = task.encode([None, None])
    assert task.metrics(outputs[:2], missing) == {"n": 0}
    assert task.scores_of_rows(outputs[:2], missing) == [None, None]


@every
def test_the_truth_as_prediction_is_right_everywhere(sample: str):
    # As the best reachable figures are taken: encoded targets in double precision.
    task, _, targets = encoded(sample)
    figures = task.measure(task.encode(SAMPLES[sample][1]).double().numpy(), targets)
    best = 0.0 if task.row_better == "lower" else 1.0
    assert figures[task.row_figure] == best
    if task.selects_by in figures:  # the area under a curve needs probabilities
        assert figures[task.selects_by] == 1.0


@every
def test_states_survive_json(sample: str):
    task, outputs, targets = encoded(sample)
    state = json.loads(json.dumps(task.to_dict(), allow_nan=False))
    again = restored_tasks({"t": state})["t"]
    assert type(again) is type(task)
    assert again.to_dict() == task.to_dict()
    assert again.outputs == task.outputs
    assert again.predict(outputs) == task.predict(outputs)
    assert torch.equal(again.row_weights(targets), task.row_weights(targets))


@every
def test_a_changed_task_differs_in_that_alone(sample: str):
    task, _, _ = encoded(sample)
    other = task.changed(column="elsewhere")
    assert other.to_dict() == task.to_dict() | {"column": "elsewhere"}
    assert task.column == "x"


@every
def test_records_read_back(sample: str):
    task, _, _ = encoded(sample)
    metrics = json.loads(json.dumps({"tasks": {"t": task.described()}}))
    found = recorded_tasks(metrics, {})["t"]
    assert found.figures == task.figures
    for field in found._fields:
        if field != "figures":
            assert getattr(found, field) == getattr(task, field), field


@every
def test_the_first_column_of_predictions_is_the_task_and_reads_back(sample: str):
    task, outputs, _ = encoded(sample)
    columns = task.predict(outputs)
    assert next(iter(columns)) == "t"
    assert all(name.startswith("t_p_") for name in list(columns)[1:])
    assert {len(column) for column in columns.values()} == {len(outputs)}
    if sample == "classification-cut":
        return  # its cells are scores
    parse = task.unseen_parser()
    read = task.encode(task.unseen_values([parse(cell) for cell in columns["t"]]))
    assert read.double().numpy() == pytest.approx(task.decide(outputs), rel=1e-6)


@every
def test_probabilities_lie_between_0_and_1_and_of_one_choice_sum_to_1(sample: str):
    task, outputs, _ = encoded(sample)
    columns = list(task.predict(outputs * 20).values())[1:]
    rows = list(zip(*columns, strict=True))
    assert all(0 <= p <= 1 for row in rows for p in row)
    if rows and task.kind != "multilabel":
        assert [sum(row) for row in rows] == pytest.approx([1.0] * len(rows), abs=1e-6)


@every
def test_a_kind_without_a_class_of_interest_has_no_threshold_to_sweep(sample: str):
    task, outputs, targets = encoded(sample)
    assert isinstance(task, Thresholded) == (task.kind in ("binary", "classification"))
    if isinstance(task, Thresholded):
        return
    assert task.positive is None
    assert task.tuned(outputs, targets) is task
    with pytest.raises(UserError, match=r"Found none that is rare in t\."):
        sweep_run(None, task, None, None)
