"""Task gradients where float16 takes part, without losing the small and the large ones.

float16 reaches from 6e-8 to 65504, so the gradient of a small loss vanishes in it and that of a
large one overflows. What `torch.amp.GradScaler` does for training is done here for each task's
measurement: the loss is multiplied by a power of two before its backward, and the gradient is
divided by it afterwards.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from dao.importance import gradient_norm, task_gradients

__all__ = ["half_gradients", "holds_half"]

# Exponents of two. A norm of 2**ENOUGH leaves room for the much smaller elements of the gradient;
# a loss of 1 is tried at 2**FIRST, which suits norms around 1.
_ENOUGH, _FIRST, _DOWN, _UP = 6, 13, 8, 24
_TRIES = 12

_HALF = (torch.float16, torch.complex32)


def holds_half(losses: Iterable[Tensor]) -> bool:
    """Whether float16 takes part anywhere between the losses and what they were computed from.

    Autocast may be over when the loss is called, and parameters may be float32 within it, so the
    graph itself is asked. What happens inside of a compiled function is not seen, but what it takes
    and gives is.

    Args:
        losses: Tensors with a graph.

    Example:
        >>> import torch
        >>> x = torch.ones(2, requires_grad=True)
        >>> holds_half([x.sum()]), holds_half([x.half().float().sum()])
        (False, True)
    """
    losses = list(losses)
    if any(loss.dtype == torch.float16 for loss in losses):
        return True
    todo = [loss.grad_fn for loss in losses]
    seen = set(todo)
    while todo:
        node = todo.pop()
        if node is None:
            continue
        if _may_be_half(node):
            return True
        fresh = {before for before, _ in node.next_functions} - seen
        seen |= fresh
        todo.extend(fresh)
    return False


def _may_be_half(node: Any) -> bool:  # noqa: ANN401
    """Whether a step of the graph gives float16."""
    made = getattr(node, "_input_metadata", None)
    if made is not None:
        return any(tensor.dtype in _HALF for tensor in made)
    # Older torch does not tell. A parameter does, and any cast counts as one to float16: a factor
    # that is a power of two changes no digit of other gradients.
    return getattr(getattr(node, "variable", None), "dtype", None) in _HALF or (
        node.name().startswith("ToCopy")
    )


def half_gradients(loss: Tensor, inputs: Sequence[Tensor]) -> list[Tensor | None]:
    """:func:`dao.task_gradients` of a graph that holds float16.

    One backward for a usual loss. A gradient that is too large or too small for float16 is taken
    again with another factor, up to twelve times.

    Args:
        loss: A finite scalar that requires grad.
        inputs: Tensors that require grad.

    Returns:
        One gradient per input, at least float32; None where the loss does not depend on it. Not
        finite only if it is so at every factor.

    Example:
        >>> import torch
        >>> x = torch.ones(2, requires_grad=True)
        >>> loss = 2**-30 * x.half().float().sum()
        >>> task_gradients(loss, [x]), half_gradients(loss, [x])[0] * 2**30
        ([tensor([0., 0.])], tensor([1., 1.]))
    """
    top = 15 if loss.dtype == torch.float16 else 100  # what the factor itself may be
    exponent = min(top, _FIRST - math.frexp(float(loss.detach()))[1])
    best: list[Tensor | None] | None = None
    low, high = exponent, top + 1  # the factor of `best`, and the smallest that overflowed
    found: list[Tensor | None] = []
    for _ in range(_TRIES):
        found = task_gradients(loss, inputs, factor=2.0**exponent)
        if all(g is None for g in found):
            return found
        norm = float(gradient_norm(found))
        if not math.isfinite(norm):
            high = exponent
            exponent = exponent - _DOWN if best is None else (low + high) // 2
        else:
            best, low = found, exponent
            rise = _UP if norm == 0 else _ENOUGH + 1 - math.frexp(norm)[1]
            exponent = min(low + rise, top if high > top else (low + high) // 2)
        if best is not None and exponent <= low:
            break
    return [_divided(g, low) for g in best] if best is not None else found


def _divided(gradient: Tensor | None, exponent: int) -> Tensor | None:
    if gradient is None:
        return None
    return gradient.to(torch.promote_types(gradient.dtype, torch.float32)) / 2.0**exponent
