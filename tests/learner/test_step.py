"""An optimizer step of several batches: the gradient of one large batch, counted as one step."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from dao.errors import UserError
from dao.learner.batches.batching import Batch, micro_batches
from dao.learner.settings.config import load_config
from dao.learner.training.step import StepRecord, parts_of, task_losses
from dao.learner.weighting.weighting import Balanced, make_weighting

ROWS = 13


class Squares:
    """A task of squared errors in float64, in which every row counts as much as its target says."""

    outputs = 1

    def row_weights(self, targets: Tensor) -> Tensor:
        return torch.where(targets.isnan(), 0.0, 1 + targets.square())

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        weights = self.row_weights(targets)
        return (weights * (outputs[:, 0] - targets).square()).sum() / weights.sum()


TASKS = {"one": Squares(), "two": Squares()}
FULL = {
    "one": torch.arange(ROWS, dtype=torch.float64) % 2,
    "two": torch.linspace(-2, 2, ROWS, dtype=torch.float64),
}
SPARSE = {  # the second in the first rows alone
    "one": torch.where(torch.arange(ROWS) > 1, FULL["one"], torch.nan),
    "two": torch.where(torch.arange(ROWS) < 3, FULL["two"], torch.nan),
}
CPU = torch.device("cpu")


class Toy:
    """A shared layer and two heads, in float64, and the settings' weighting."""

    def __init__(self, targets: Mapping[str, Tensor], factor: float = 1.0, **flags: object) -> None:
        self.factors = {"one": 1.0, "two": factor}
        torch.manual_seed(0)
        self.shared = nn.Linear(4, 3).double()
        self.heads = {name: nn.Linear(3, t.outputs).double() for name, t in TASKS.items()}
        self.inputs = torch.randn(ROWS, 4, dtype=torch.float64)
        self.targets = targets
        self.row_weights = {n: t.row_weights(targets[n]) for n, t in TASKS.items()}
        cfg = load_config(flags=flags)
        self.weighting = make_weighting(
            cfg, list(TASKS), lambda: list(self.shared.parameters()), self.parameters, CPU
        )

    def parameters(self) -> list[nn.Parameter]:
        return [p for m in (self.shared, *self.heads.values()) for p in m.parameters()]

    def losses(self, rows: tuple[int, ...]) -> dict[str, Tensor | None]:
        own = self.inputs[list(rows)]
        targets = {name: values[list(rows)] for name, values in self.targets.items()}
        batch = Batch(rows, own, own, targets, 0)
        z = self.weighting.tap(torch.tanh(self.shared(own)))
        outputs = {name: head(z) for name, head in self.heads.items()}
        return task_losses(TASKS, outputs, batch, self.row_weights, self.factors)

    def step(self, rows: tuple[int, ...], size: int) -> tuple[StepRecord, list[Tensor]]:
        for parameter in self.parameters():
            parameter.grad = None
        done = StepRecord()
        for some in micro_batches(rows, [1] * ROWS, size):
            parts = {} if some == rows else parts_of(self.row_weights, rows, some)
            done.add(self.weighting.accumulate(self.losses(some), parts), self.weighting, parts, {})
        self.weighting.end_step()
        return done, [p.grad.clone() for p in self.parameters()]


@pytest.mark.parametrize("weighting", ["equal", "fixed:1,30"])
@pytest.mark.parametrize("targets", [FULL, SPARSE], ids=["full", "sparse"])
@pytest.mark.parametrize("size", [1, 3, 5, 12])
def test_batches_add_up_to_the_gradient_of_all_their_rows(targets, size: int, weighting: str):
    rows = tuple(torch.randperm(ROWS, generator=torch.Generator().manual_seed(1)).tolist())
    count = -(-ROWS // size)
    flags = {"weighting": weighting, "train.accumulate": count}
    whole, expected = Toy(targets, weighting=weighting).step(rows, ROWS)
    parts, found = Toy(targets, **flags).step(rows, size)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(parts.loss.double(), whole.loss.double(), rtol=1e-6, atol=0)
    for name in TASKS:
        a, b = parts.tasks[name], whole.tasks[name]
        torch.testing.assert_close(a.loss, b.loss, rtol=1e-12, atol=0)
        assert a.weight == b.weight


def test_a_loss_factor_multiplies_the_loss_and_its_gradient():
    rows = tuple(range(ROWS))
    plain, expected = Toy(FULL, weighting="fixed:1,100").step(rows, ROWS)
    scaled, found = Toy(FULL, factor=100.0, weighting="equal").step(rows, ROWS)
    ratio = scaled.tasks["two"].loss / plain.tasks["two"].loss
    torch.testing.assert_close(ratio.item(), 100.0, rtol=1e-12, atol=0)
    for one, other in zip(found, expected, strict=True):  # whose weights sum to 2
        torch.testing.assert_close(one, other * 101 / 2, rtol=1e-12, atol=1e-14)


def test_parts_by_hand():
    weights = {"one": torch.tensor([1.0, 3.0, 0.0, 4.0]), "two": torch.tensor([0.0, 0.0, 0.0, 1.0])}
    assert parts_of(weights, (0, 1, 2, 3), (1, 2)) == {"one": 0.375, "two": 0.0}
    assert parts_of(weights, (0, 1, 2), (0,)) == {"one": 0.25}  # no row of this step has the other
    assert parts_of(weights, (1, 1, 0), (1,)) == {"one": 3 / 7}  # a row that was drawn twice


def test_dao_weighs_the_batches_of_a_step_alike_and_the_next_by_all_their_norms():
    toy = Toy(FULL, **{"weighting": "dao", "train.accumulate": 4, "dao.ema": 0.0})
    rows = tuple(range(12))
    weights = []
    for _ in range(3):
        within = set()
        for some in micro_batches(rows, [1] * ROWS, 3):
            toy.weighting.accumulate(toy.losses(some), parts_of(toy.row_weights, rows, some))
            within.add(tuple(record.weight.item() for record in toy.weighting.last.values()))
        toy.weighting.end_step()
        assert len(within) == 1
        weights.append(within.pop())
    assert len(set(weights)) > 1
    assert sum(weights[-1]) == pytest.approx(2)


def test_norms_are_those_of_a_batch_and_not_of_its_part():
    toy = Toy(SPARSE, **{"weighting": "dao", "train.accumulate": 2, "dao.source": "params"})
    losses = toy.losses((0, 1, 2, 3))
    toy.weighting.accumulate(losses, {"one": 0.125, "two": 0.5})
    (alone,) = torch.autograd.grad(toy.losses((0, 1, 2, 3))["one"], [toy.shared.weight])
    bias = torch.autograd.grad(toy.losses((0, 1, 2, 3))["one"], [toy.shared.bias])[0]
    expected = torch.sqrt(alone.square().sum() + bias.square().sum())
    torch.testing.assert_close(toy.weighting.last["one"].norm, expected, rtol=1e-6, atol=0)


def test_a_short_step_and_a_task_that_batches_lack_count_as_whole_steps():
    toy = Toy(SPARSE, **{"weighting": "dao", "train.accumulate": 4, "dao.refresh_every": 3})
    assert isinstance(toy.weighting, Balanced)
    measured = []
    for rows in (range(12), range(3), range(4), range(12), range(12)):  # of 4, 1, 2, 4, 4 batches
        done, _ = toy.step(tuple(rows), 3)
        measured.append(done.measured)
    state = toy.weighting.loss.state
    assert state.step.item() == 5 * 4
    assert state.turns.tolist() == [
        5 * 4,
        5 * 4,
    ]  # the second: in the first batch of each alone
    assert measured == [True, True, False, True, False]  # steps 0, 1 and 3 of every 3


def test_a_weighting_that_takes_one_batch_says_so():
    toy = Toy(FULL, weighting="uw_so")
    losses = toy.losses((0, 1))
    with pytest.raises(UserError, match=r"`train\.accumulate` should be 1.*Scalarized"):
        toy.weighting.accumulate(losses, {"one": 0.5, "two": 0.5})
    assert toy.weighting.accumulate(losses, {}).isfinite()
