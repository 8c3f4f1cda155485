"""Means that are kept from step to step, a task each."""

import torch
from torch import Tensor

__all__ = ["blend", "mean_where"]


def mean_where(chosen: Tensor, values: Tensor) -> Tensor:
    """Mean of the chosen values, a scalar; 0 for none.

    Args:
        chosen: Which count, shape ``(K,)``.
        values: Shape ``(K,)``; those that do not count may be anything.

    Example:
        >>> import torch
        >>> mean_where(torch.tensor([True, True, False]), torch.tensor([1.0, 2.0, torch.nan]))
        tensor(1.5000)
    """
    kept = torch.where(chosen, values, torch.zeros_like(values))
    return kept.sum() / chosen.sum().clamp(min=1)


def blend(mean: Tensor, count: Tensor, value: Tensor, ema: float) -> None:
    """One step of running means, in place, where ``value`` is finite; all of shape ``(K,)``.

    Args:
        mean: The means.
        count: The values in each so far.
        value: One more of each; NaN or infinite where there is none.
        ema: What remains of the gap between an old mean and a constant value.

    Example:
        >>> import torch
        >>> mean, count = torch.tensor([4.0]), torch.tensor([1])
        >>> blend(mean, count, torch.tensor([8.0]), ema=0.9)
        >>> mean, count  # the second value: a plain mean still
        (tensor([6.]), tensor([2]))
    """
    fresh = value.isfinite()
    count += fresh
    pace = (1 / count.clamp(min=1).double()).clamp(min=1 - ema)
    # Written as a difference, a constant value leaves the mean as it is to the last bit.
    mean.copy_(torch.where(fresh, mean + pace * (value - mean), mean))
