"""Losses of one class among several, and weights against rare classes."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dao.data_weights import class_balanced_weights
from dao.errors import UserError

__all__ = ["class_weights", "focal_loss", "loss_notes"]

ALIKE = 0.01  # relative difference below which weights are called equal
UNCLIPPED = (1e-9, 1e9)


def focal_loss(
    outputs: Tensor,
    targets: Tensor,
    *,
    gamma: float,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    r"""Cross-entropy in which rows that are right already count less.

    .. math:: L = \frac{\sum_i (1 - p_i)^\gamma \, l_i}{\sum_i w_{y_i}}

    with :math:`p_i` the probability of the true class (Lin et al. 2017, arXiv 1708.02002, eq. 5),
    also where labels are smoothed, and :math:`l_i` the row's term of `cross_entropy` with the same
    weights and smoothing. So gamma 0 is `cross_entropy`.

    Args:
        outputs: Logits, shape ``(n, C)``.
        targets: Class indices, shape ``(n,)``, all present.
        gamma: How fast the weight of a row falls with its probability, >= 0.
        weight: Weight of each class, shape ``(C,)``; None for equal weights.
        label_smoothing: Share of the target that is spread over all classes, in [0, 1).

    Returns:
        A scalar.

    Example:
        >>> outputs = torch.log(torch.tensor([[0.75, 0.25]]))
        >>> focal_loss(outputs, torch.tensor([0]), gamma=2.0)  # 0.25 ** 2 * -log(0.75)
        tensor(0.0180)
    """
    terms = functional.cross_entropy(
        outputs, targets, weight=weight, label_smoothing=label_smoothing, reduction="none"
    )
    log_p = outputs.log_softmax(dim=-1).gather(-1, targets[:, None]).squeeze(-1)
    # Above 0, because below gamma 1 the slope at 0 is infinite.
    missed = (-torch.expm1(log_p)).clamp(min=1e-12)
    total = outputs.new_tensor(len(targets)) if weight is None else weight[targets].sum()
    return (missed**gamma * terms).sum() / total


def class_weights(
    rule: str, counts: Mapping[str, int], *, beta: float = 0.999
) -> list[float] | None:
    """The weight of each class in the loss.

    Args:
        rule: "none"; "balanced" for n / (classes x count of the class), the rule of
            `sklearn.utils.class_weight.compute_class_weight`; "effective" for the inverse of the
            effective number of samples, (1 - beta) / (1 - beta^count) (Cui et al. 2019, arXiv
            1901.05555, eq. 2), scaled to a mean of 1 over all samples.
        counts: Training rows of each class, all positive.
        beta: Of "effective"; in [0, 1).

    Raises:
        UserError: The rule is unknown, or `beta` out of range.

    Example:
        >>> class_weights("balanced", {"a": 3, "b": 1})
        [0.6666666666666666, 2.0]
    """
    from sklearn.utils.class_weight import compute_class_weight

    if rule == "none":
        return None
    if rule == "effective":
        found = class_balanced_weights(
            torch.tensor(list(counts.values())), beta=beta, clip=UNCLIPPED
        )
        return [float(weight) for weight in found]
    if rule != "balanced":
        raise UserError(f"`class_weights` should be none, balanced or effective. Found {rule!r}.")
    names = np.array(list(counts))
    labels = np.repeat(names, list(counts.values()))
    return [float(w) for w in compute_class_weight("balanced", classes=names, y=labels)]


def loss_notes(
    name: str, classes: Sequence[str], weights: Sequence[float] | None, described: str
) -> list[str]:
    """What is printed of a loss before training; nothing for plain cross-entropy.

    Example:
        >>> loss_notes("cls", ["a", "b"], [1.0, 1.001], "cross-entropy")[1]
        'warning: the class weights of cls are equal within 1 %, so they change nothing'
    """
    if weights is None:
        return [] if described == "cross-entropy" else [f"loss of {name}: {described}"]
    shown = ", ".join(f"{c} {w:.4g}" for c, w in zip(classes, weights, strict=True))
    lines = [f"loss of {name}: {described}, class weights {shown}"]
    if max(weights) <= (1 + ALIKE) * min(weights):
        lines.append(
            f"warning: the class weights of {name} are equal within 1 %, so they change nothing"
        )
    return lines
