from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dao.learner.kinds import Task

STEP = 1e-6
Rows = list[list[float]]


@pytest.fixture
def agrees() -> Callable[[Task, Rows, Tensor, Callable[[Rows], float]], None]:
    """Assert that a loss and its gradient are those of a reference in Python's own floats."""

    def check(
        task: Task, outputs: Rows, targets: Tensor, reference: Callable[[Rows], float]
    ) -> None:
        leaf = torch.tensor(outputs, requires_grad=True)
        loss = task.loss(leaf, targets)
        loss.backward()
        assert loss.shape == ()
        assert loss.item() == pytest.approx(reference(outputs), rel=1e-6)
        for i, row in enumerate(outputs):
            for j in range(len(row)):
                above, below = ([list(r) for r in outputs] for _ in range(2))
                above[i][j] += STEP
                below[i][j] -= STEP
                slope = (reference(above) - reference(below)) / (2 * STEP)
                assert leaf.grad[i, j].item() == pytest.approx(slope, rel=1e-4, abs=1e-6)

    return check
