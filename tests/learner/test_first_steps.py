"""Weights settled by the first steps: by hand, per task, and what then stands."""

import copy

import pytest
import torch
from torch import Tensor, nn

from dao.learner.weighting.first_steps import InitialLosses, MeasuredThenFrozen

TASKS = ("a", "b")


def constant(a: float | None, b: float | None) -> dict[str, Tensor | None]:
    one = torch.ones((), requires_grad=True)
    return {t: None if v is None else v * one for t, v in zip(TASKS, (a, b), strict=True)}


def weights(weighting: nn.Module) -> dict[str, float]:
    return {task: row.weight.item() for task, row in weighting.last.items()}


def test_norm0_divides_by_the_mean_so_far_and_then_stands():
    weighting = InitialLosses(TASKS, steps=2)
    seen = []
    for losses in ((2.0, 10.0), (4.0, 30.0), (100.0, 1e6)):
        total = weighting.backward(constant(*losses))
        seen.append((weights(weighting), total.item()))
    assert seen[0] == ({"a": 1 / 2, "b": 1 / 10}, 2)
    assert seen[1][0] == pytest.approx({"a": 1 / 3, "b": 1 / 20})
    assert seen[2][0] == seen[1][0]
    assert seen[2][1] == pytest.approx(100 / 3 + 1e6 / 20)


def test_norm0_counts_the_steps_of_each_task():
    weighting = InitialLosses(TASKS, steps=2)
    for losses in ((2.0, None), (4.0, None), (100.0, 5.0), (None, 7.0), (None, 1e3)):
        weighting.backward(constant(*losses))
    assert weighting.total.tolist() == [6, 12]
    assert weighting.count.tolist() == [2, 2]
    weighting.backward(constant(1.0, 1.0))
    assert weights(weighting) == pytest.approx({"a": 1 / 3, "b": 1 / 6})


def test_norm0_takes_signs_zeros_and_what_is_not_finite():
    weighting = InitialLosses(TASKS, steps=2)
    weighting.backward(constant(-4.0, 0.0))
    assert weights(weighting) == {"a": 1 / 4, "b": 1}
    weighting.backward(constant(float("inf"), 0.0))
    assert weights(weighting) == {"a": 1 / 4, "b": 1}
    assert weighting.count.tolist() == [1, 2]


class Line(nn.Module):
    """Losses whose gradients on the shared parameter have the norms asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.ones(1))

    def losses(self, a: float | None, b: float | None) -> dict[str, Tensor | None]:
        pairs = zip(TASKS, (a, b), strict=True)
        return {task: None if n is None else n * self.shared.sum() for task, n in pairs}


def test_autoscale_evens_out_geometric_means_of_norms_and_freezes_them():
    line = Line()
    weighting = MeasuredThenFrozen(TASKS, 2, lambda: [line.shared])
    measured = []
    for norms in ((1.0, 4.0), (1.0, 16.0), (100.0, 1.0)):
        line.shared.grad = None
        weighting.backward(line.losses(*norms))
        measured.append((weights(weighting), weighting.measured, line.shared.grad.item()))
    # 1 : 1/4, then 1 : 1/8 (the geometric mean of 4 and 16), both with the sum 2; then frozen.
    assert measured[0][0] == pytest.approx({"a": 1.6, "b": 0.4})
    assert measured[0][2] == pytest.approx(3.2)
    assert measured[1][0] == pytest.approx({"a": 16 / 9, "b": 2 / 9})
    assert measured[2][0] == measured[1][0]
    assert [row[1] for row in measured] == [True, True, False]
    assert measured[2][2] == pytest.approx(100 * 16 / 9 + 2 / 9)


def test_autoscale_measures_a_late_task_on_its_own_and_counts_it_as_average_before():
    line = Line()
    weighting = MeasuredThenFrozen(TASKS, 1, lambda: [line.shared])
    weighting.backward(line.losses(8.0, None))
    assert weights(weighting) == {"a": 1}
    assert not weighting.is_due(line.losses(8.0, None))
    assert weighting.is_due(line.losses(8.0, 2.0))
    weighting.backward(line.losses(8.0, 2.0))
    assert weights(weighting) == pytest.approx({"a": 0.4, "b": 1.6})
    assert weighting.last["b"].norm.item() == 2
    assert weighting.last["a"].norm.isnan()


def test_autoscale_leaves_out_a_gradient_of_zero():
    line = Line()
    weighting = MeasuredThenFrozen(TASKS, 1, lambda: [line.shared])
    weighting.backward(line.losses(8.0, 0.0))
    assert weights(weighting) == {"a": 1, "b": 1}
    assert weighting.count.tolist() == [1, 0]


def test_a_state_loaded_in_the_first_steps_settles_alike():
    line = Line()
    whole = MeasuredThenFrozen(TASKS, 3, lambda: [line.shared])
    whole.backward(line.losses(1.0, 4.0))
    again = MeasuredThenFrozen(TASKS, 3, lambda: [line.shared])
    again.load_state_dict(copy.deepcopy(whole.state_dict()))
    for weighting in (whole, again):
        for norms in ((2.0, 9.0), (3.0, 1.0), (1e6, 1.0)):
            weighting.backward(line.losses(*norms))
    assert weights(again) == weights(whole)
    assert again.seen.tolist() == [3, 3]
