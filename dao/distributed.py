"""The same norms when the batch is spread over ranks.

A data-parallel wrapper averages gradients over the ranks *after* the weights were chosen, so norms
of a rank's own gradients would differ from rank to rank and from the norm of the average. These
functions average the gradients first: two ranks give the weights of one rank with the joined batch
(batches of equal size). Without ``torch.distributed``, or with one rank, nothing is sent.

Every rank must call them with the same tasks in the same order. A rank without a task sends zeros,
and the average runs over the ranks that have it, so an absent task neither hangs nor shrinks.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from dao.importance import adapter_norm, flat_numbers, frobenius_norm, gradient_norm

__all__ = [
    "keep_alive",
    "mean_adapter_norms",
    "mean_frobenius_norms",
    "mean_gradient_norm",
    "sum_over_ranks",
    "world_size",
]

_DOUBLE = (torch.float64, torch.complex128)


def world_size() -> int:
    """Number of ranks; 1 when ``torch.distributed`` is not in use.

    Example:
        >>> world_size()
        1
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def keep_alive(output: Tensor) -> Tensor:
    """Zero, with a graph: ``0 * output.sum()``.

    A data-parallel wrapper waits for the gradient of every parameter that forward used. Where a
    batch lacks a task, add this for the task's output, so that its head takes part with a gradient
    of zero. It does not help against a NaN output: 0 * NaN is NaN.

    Args:
        output: What the head of the absent task gave, any shape, finite.

    Returns:
        A scalar to add to the balanced loss.

    Example:
        >>> import torch
        >>> head = torch.nn.Linear(2, 1)
        >>> keep_alive(head(torch.ones(3, 2))).backward()
        >>> head.bias.grad
        tensor([0.])
    """
    return 0 * output.sum()


def sum_over_ranks(value: Tensor) -> Tensor:
    """Sum of a tensor over the ranks, on every rank.

    Args:
        value: The same shape and type on every rank; left as it is.

    Returns:
        The sum, on the device of ``value``.

    Example:
        >>> import torch
        >>> sum_over_ranks(torch.tensor([1.0, 2.0]))
        tensor([1., 2.])
    """
    if world_size() == 1:
        return value
    sent = value.to(_wire(value), copy=True)
    dist.all_reduce(sent)
    return sent.to(value.device)


def mean_gradient_norm(
    gradients: Sequence[Tensor | None], parameters: Sequence[Tensor], ranks: int
) -> Tensor:
    """Norm of one task's parameter gradient, averaged over the ranks that have the task.

    Args:
        gradients: One per parameter, None where there is none; all None on a rank without the task.
        parameters: The parameters, for their shapes.
        ranks: How many ranks have the task, at least 1.

    Returns:
        A float64 scalar.

    Example:
        >>> import torch
        >>> mean_gradient_norm([torch.tensor([3.0, 4.0])], [torch.zeros(2)], ranks=1)
        tensor(5., dtype=torch.float64)
    """
    if world_size() == 1:
        return gradient_norm(gradients)
    home = parameters[0].device
    dtype = torch.float64 if any(p.dtype in _DOUBLE for p in parameters) else torch.float32
    # Dense also where it is sparse: the ranks have different rows of an embedding.
    flat = torch.cat(
        [
            flat_numbers(torch.zeros_like(p) if g is None else g.to_dense()).to(home, dtype)
            for g, p in zip(gradients, parameters, strict=True)
        ]
    )
    return gradient_norm([sum_over_ranks(flat)]) / ranks


def mean_frobenius_norms(gradients: Sequence[Tensor], ranks: Sequence[int]) -> Tensor:
    """:func:`dao.frobenius_norm` of the joined batch, for each task.

    Args:
        gradients: Per task the gradient at the local representation; zeros without the task.
        ranks: Per task how many ranks have it, at least 1.

    Returns:
        Norms, float64, shape ``(K,)``.

    Example:
        >>> import torch
        >>> mean_frobenius_norms([torch.tensor([[3.0, 4.0]])], ranks=[1])
        tensor([5.], dtype=torch.float64)
    """
    squares = torch.stack([frobenius_norm(g).square() for g in gradients])
    return sum_over_ranks(squares).sqrt() / _like(ranks, squares)


def mean_adapter_norms(
    gradients: Sequence[Tensor], representation: Tensor, ranks: Sequence[int]
) -> Tensor:
    """:func:`dao.adapter_norm` of the joined batch, for each task.

    What travels is the smaller of K matrices ``H x (H + 1)`` and all rows of gradients and
    representation.

    Args:
        gradients: Per task the gradient at the local representation; zeros without the task.
        representation: The local representation, shape ``(..., H)``; rows may differ by rank.
        ranks: Per task how many ranks have it, at least 1.

    Returns:
        Norms, float64, shape ``(K,)``.

    Example:
        >>> import torch
        >>> mean_adapter_norms([torch.tensor([[3.0]])], torch.tensor([[0.0]]), ranks=[1])
        tensor([3.], dtype=torch.float64)
    """
    width = representation.shape[-1]
    g = torch.stack([q.detach().reshape(-1, width) for q in gradients]).double()
    z = representation.detach().reshape(-1, width).double()
    if world_size() == 1:
        return torch.stack([adapter_norm(q, z) for q in g])
    rows = _max_over_ranks(len(z))
    if (len(g) + 1) * rows * world_size() < len(g) * (width + 1):
        everything = _gather_rows(torch.cat([g, z[None]]), rows)
        norms = torch.stack([adapter_norm(q, everything[-1]) for q in everything[:-1]])
    else:
        matrices = torch.cat([g.transpose(1, 2) @ z, g.sum(1)[:, :, None]], dim=2)
        norms = torch.linalg.vector_norm(sum_over_ranks(matrices), dim=(1, 2))
    return norms / _like(ranks, norms)


def _wire(value: Tensor) -> torch.device:
    """NCCL carries tensors on the GPU only, even where the caller's state stayed on the CPU."""
    if "nccl" in dist.get_backend() and value.device.type == "cpu":
        return torch.device("cuda", torch.cuda.current_device())
    return value.device


def _max_over_ranks(value: int) -> int:
    sent = torch.tensor(value)
    sent = sent.to(_wire(sent))
    dist.all_reduce(sent, op=dist.ReduceOp.MAX)
    return int(sent)


def _gather_rows(blocks: Tensor, rows: int) -> Tensor:
    """Joins ``(K, N, H)`` blocks along N; rows of zeros pad short ranks and change no sum."""
    padded = torch.nn.functional.pad(blocks, (0, 0, 0, rows - blocks.shape[1])).to(_wire(blocks))
    parts = [torch.empty_like(padded) for _ in range(world_size())]
    dist.all_gather(parts, padded)
    return torch.cat(parts, dim=1).to(blocks.device)


def _like(values: Sequence[int], reference: Tensor) -> Tensor:
    return torch.tensor(values, dtype=reference.dtype, device=reference.device)
