"""Losses in any unit train as well as standardised ones; a bound on the weights undoes this.

Eight regressions with target variances from .01 to 20,000 on one small trunk. A run's figure is the
mean over the tasks of the relative change of the test error against a run with equal weights on
standardised targets, the same data, initialisation and batches; in percent, positive is better.
"""

from functools import cache

import pytest
import torch
from torch import Tensor, nn

from dao import DAOLoss

SPREAD = torch.tensor([0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 80.0, 20_000**0.5])
TASKS = [f"target {k}" for k in range(len(SPREAD))]
SEEDS = range(2)
ROWS, TRAINING, FEATURES, WIDTH, NOISE = 480, 300, 8, 16, 0.3
STEPS, BATCH, RATE = 200, 32, 0.01


def generated(seed: int) -> tuple[Tensor, Tensor]:
    """Features, and targets that are smooth functions of them with noise, in their units."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(ROWS, FEATURES, generator=g)
    hidden = torch.tanh(1.5 * FEATURES**-0.5 * x @ torch.randn(FEATURES, 16, generator=g))
    y = hidden @ torch.randn(16, len(SPREAD), generator=g)
    y = (y - y.mean(0)) / y.std(0) + NOISE * torch.randn(y.shape, generator=g)
    return x, y / y.std(0) * SPREAD


def errors(seed: int, unit: Tensor, **options: float | None) -> Tensor:
    """Test errors by task, in parts of the target's variance, after training on losses in `unit`.

    The network itself predicts standardised targets: what has a unit is the losses.
    """
    x, y = generated(seed)
    y = (y - y[:TRAINING].mean(0)) / y[:TRAINING].std(0)
    torch.manual_seed(seed)
    trunk = nn.Sequential(nn.Linear(FEATURES, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh())
    model = nn.Sequential(trunk, nn.Linear(WIDTH, len(SPREAD)))
    balance = DAOLoss(TASKS, params=trunk.parameters(), **options)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)
    for _ in range(STEPS):
        rows = torch.randint(TRAINING, (BATCH,))
        losses = (unit * (model(x[rows]) - y[rows])).square().mean(0)
        balance(dict(zip(TASKS, losses.unbind(), strict=True))).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    with torch.no_grad():
        return (model(x[TRAINING:]) - y[TRAINING:]).square().mean(0)


def mean_change(seed: int, unit: Tensor, **options: float | None) -> float:
    """Mean over the tasks of the error's change against equal weights on standardised targets."""
    return -100 * (errors(seed, unit, **options) / reference(seed) - 1).mean().item()


@cache
def reference(seed: int) -> Tensor:
    """Errors with equal weights on standardised targets."""
    return errors(seed, torch.ones(len(SPREAD)), alpha=0.0)


def test_the_targets_are_what_they_are_meant_to_be():
    variances = generated(0)[1].var(0)
    assert variances[0].item() == pytest.approx(0.01, rel=1e-4)
    assert variances[-1].item() == pytest.approx(20_000, rel=1e-4)


@pytest.mark.slow
def test_losses_in_their_own_units_train_as_well_as_standardised_ones():
    changes = [mean_change(seed, SPREAD) for seed in SEEDS]
    assert sum(changes) / len(changes) > -2


@pytest.mark.slow
def test_a_bound_on_the_weights_undoes_this_and_is_told():
    with pytest.warns(UserWarning, match="`max_ratio=10000` holds the weight of") as told:
        changes = [mean_change(seed, SPREAD, max_ratio=1e4) for seed in SEEDS]
    assert sum(changes) / len(changes) < -12
    assert len(told) == len(SEEDS)
