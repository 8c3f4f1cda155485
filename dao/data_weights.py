"""Per-sample weights against imbalance: rare classes and rare target values count more.

Pure functions. The DAO paper (arXiv 2408.11856) multiplies each task's loss by a data weight; its
published summaries do not give the formula. These weights follow class-balanced losses (CVPR 2019)
and label distribution smoothing (ICML 2021) instead.
"""

import math

import torch
from torch import Tensor

from dao.errors import UserError

__all__ = [
    "balanced_thresholds",
    "class_balanced_weights",
    "label_density_weights",
    "weighted_loss",
]


def class_balanced_weights(
    counts: Tensor, *, beta: float = 0.999, clip: tuple[float, float] = (0.1, 10.0)
) -> Tensor:
    r"""A weight per class that falls with its number of samples.

    .. math:: c_y = \mathrm{clip}\left(a \frac{1 - \beta}{1 - \beta^{N_y}}\right)

    with :math:`N_y` the samples of class y and the factor a such that the mean over all samples is
    1. Index it by labels for per-sample weights, or give it to ``cross_entropy(weight=...)``.

    Args:
        counts: Samples per class, shape ``(C,)``, at least one positive; a class without samples
            is treated as if it had one.
        beta: 0 for equal weights; towards 1 for weights like ``1 / N``.
        clip: Least and largest weight, around 1.

    Returns:
        Float64 weights, shape ``(C,)``.

    Raises:
        UserError: An argument is out of range.

    Example:
        >>> import torch
        >>> labels = torch.tensor([0, 0, 0, 1])
        >>> table = class_balanced_weights(torch.bincount(labels))
        >>> table[labels]
        tensor([0.6670, 0.6670, 0.6670, 1.9990], dtype=torch.float64)
    """
    if not 0 <= beta < 1:
        raise UserError(f"`beta` should be in [0, 1). Found {beta}. Use 0 for equal weights.")
    if counts.ndim != 1 or not (counts >= 0).all() or counts.sum() == 0:
        raise UserError(
            f"`counts` should be samples per class, shape (C,). Found {counts.tolist()}. "
            "Use `torch.bincount(labels, minlength=C)`."
        )
    seen = counts.double().clamp(min=1)
    raw = torch.ones_like(seen) if beta == 0 else (1 - beta) / -torch.expm1(seen * math.log(beta))
    return _unit_mean(raw, counts.double() / counts.sum(), clip)


def label_density_weights(
    targets: Tensor,
    *,
    bins: int = 41,
    sigma: float = 2.0,
    gamma: float = 0.5,
    clip: tuple[float, float] = (0.1, 10.0),
) -> Tensor:
    r"""A weight per sample that falls with the density of its continuous target.

    .. math:: r_i = \mathrm{clip}\left(a \, \rho(y_i)^{-\gamma}\right)

    with :math:`\rho` the histogram of the targets, smoothed by a Gaussian, and the factor a such
    that the mean weight is 1. At the ends of the range the kernel is cut off and renormalised, so
    evenly spread targets all weigh 1.

    Args:
        targets: Shape ``(N,)``, e.g. all training targets; NaN for a missing one.
        bins: Cells of the histogram between the least and the largest target.
        sigma: Width of the Gaussian, in cells.
        gamma: 0 for equal weights, 1 for inverse density.
        clip: Least and largest weight, around 1.

    Returns:
        Float64 weights, shape ``(N,)``; 0 where the target is missing, mean 1 elsewhere.

    Raises:
        UserError: An argument is out of range, or there is no target.

    Example:
        >>> import torch
        >>> label_density_weights(torch.tensor([0.0, 0.0, 0.0, 1.0, float("nan")]))
        tensor([0.8453, 0.8453, 0.8453, 1.4641, 0.0000], dtype=torch.float64)
    """
    if bins < 1 or sigma <= 0 or gamma < 0:
        raise UserError(
            "`bins` should be >= 1, `sigma` > 0 and `gamma` >= 0. "
            f"Found {bins}, {sigma} and {gamma}. The defaults suit a score."
        )
    known = targets.isfinite()
    values = targets[known].double()
    if targets.ndim != 1 or not len(values):
        raise UserError(
            f"`targets` should hold finite values, shape (N,). Found shape {tuple(targets.shape)}, "
            f"{len(values)} finite. Leave the task out instead."
        )
    low, high = values.min(), values.max()
    cell = ((values - low) / (high - low).clamp(min=1e-300) * bins).long().clamp(max=bins - 1)
    position = torch.arange(bins, dtype=torch.float64, device=values.device)
    kernel = torch.exp(-0.5 * ((position[:, None] - position) / sigma).square())
    counts = torch.bincount(cell, minlength=bins).double()
    density = kernel @ counts / kernel.sum(1)
    raw = density[cell] ** -gamma
    weights = torch.zeros(targets.shape, dtype=torch.float64, device=targets.device)
    weights[known] = _unit_mean(raw, torch.full_like(raw, 1 / len(raw)), clip)
    return weights


def weighted_loss(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    r"""Splits a weighted batch loss into a loss and a data weight.

    .. math:: L = \frac{\sum_i c_i l_i}{\sum_i c_i}, \qquad w = \frac{1}{n} \sum_i c_i, \qquad
              w L = \frac{1}{n} \sum_i c_i l_i

    Give L as the loss and w as the data weight of :class:`dao.DAOLoss`: a factor inside the loss
    would be cancelled by weights that undo the scale of gradients, a factor applied after is not.

    Args:
        values: Losses per sample, shape ``(n,)``.
        weights: Their weights, shape ``(n,)``, >= 0, not all 0.

    Returns:
        The loss, a scalar with the graph of `values`, and the detached data weight.

    Example:
        >>> import torch
        >>> weighted_loss(torch.tensor([1.0, 4.0]), torch.tensor([4.0, 2.0]))
        (tensor(2.), tensor(3.))
    """
    weights = weights.detach().to(values)
    return (weights * values).sum() / weights.sum(), weights.mean()


def balanced_thresholds(scores: Tensor, classes: int) -> Tensor:
    """Thresholds that cut a continuous score into classes of about equal size.

    Each lies halfway between two neighbouring distinct scores, so that rounding moves no sample
    and equal scores share a class; with ties the nearest possible cut is taken. Without randomness.

    Args:
        scores: Shape ``(N,)``; NaN is left out.
        classes: Number of classes, at least 2.

    Returns:
        Increasing float64 thresholds, shape ``(classes - 1,)``, for ``torch.bucketize``.

    Raises:
        UserError: There are fewer distinct scores than classes.

    Example:
        >>> import torch
        >>> scores = torch.tensor([-0.9, -0.4, 0.0, 0.0, 0.3, 0.8], dtype=torch.float64)
        >>> cuts = balanced_thresholds(scores, 3)
        >>> torch.bucketize(scores, cuts)
        tensor([0, 0, 1, 1, 2, 2])
    """
    values, counts = torch.unique(scores[scores.isfinite()].double(), return_counts=True)
    if classes < 2 or len(values) < classes:
        raise UserError(
            "`classes` should be from 2 to the number of distinct scores. "
            f"Found {classes} for {len(values)}. Ask for fewer classes."
        )
    below = counts.cumsum(0)[:-1]
    cuts: list[int] = []
    for k in range(1, classes):
        # Every later threshold still needs a gap of its own.
        first, last = (cuts[-1] + 1 if cuts else 0), len(below) - (classes - 1 - k)
        miss = (below[first:last] - counts.sum() * k / classes).abs()
        cuts.append(first + int(miss.argmin()))
    chosen = torch.tensor(cuts, device=values.device)
    middle: Tensor = (values[chosen] + values[chosen + 1]) / 2
    return middle


def _unit_mean(raw: Tensor, part: Tensor, clip: tuple[float, float]) -> Tensor:
    """Scales positive values so that, after clipping, their mean weighted by ``part`` is 1."""
    least, largest = clip
    if not 0 < least <= 1 <= largest:
        raise UserError(f"`clip` should be (low, high) around 1, low > 0. Found {clip}.")
    # The clipped mean rises with the scale; bisection ends at the last bit in under 100 halvings.
    low, high = least / raw.max(), largest / raw.min()
    for _ in range(100):
        middle = (low * high).sqrt()
        above = ((middle * raw).clamp(least, largest) * part).sum() > 1
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (high * raw).clamp(least, largest)
