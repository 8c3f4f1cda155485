"""How much each task pulls on the shared parameters, and the weights that even it out.

Pure functions. Norms and weights are float64: a float32 square underflows for a gradient of 1e-25
and overflows for one of 1e25, and both occur when losses live on very different scales.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor

from dao.errors import UserError

__all__ = [
    "TOTALS",
    "adapter_norm",
    "flat_numbers",
    "frobenius_norm",
    "gradient_norm",
    "inverse_norm_weights",
    "task_gradients",
]

TOTALS = ("tasks", "one", "keep", "unit")
"""Names of totals: :func:`inverse_norm_weights` says what they mean."""

# Numbers in float64 at a time: 2 MiB on a CPU; elsewhere 128, as every piece is a kernel call.
_PIECE, _PIECE_ELSEWHERE = 2**18, 2**24

_HINTS = {
    "storage of size 0": "FullyShardedDataParallel frees its parameters after one backward. "
    "Shard with `torch.distributed.fsdp.fully_shard` and use `source='rep'`.",
    "donated": "The graph was made by torch.compile, which frees its buffers after one backward. "
    "Set `torch._functorch.config.donated_buffer = False`, or use `source='rep'`.",
    "reentrant": "Reentrant gradient checkpointing hides the parameters from autograd.grad. "
    "Checkpoint with `use_reentrant=False`, or use `source='rep'`.",
}


def inverse_norm_weights(
    log_norms: Tensor,
    *,
    alpha: float = 1.0,
    prior: Tensor | None = None,
    max_ratio: float | None = None,
    total: float | Literal["tasks", "one", "keep", "unit"] | None = None,
) -> Tensor:
    r"""Weights that undo differences between gradient norms.

    .. math:: \lambda_k = S \frac{p_k n_k^{-\alpha}}{\sum_j p_j n_j^{-\alpha}}

    For two tasks, ``alpha=1`` and ``total=1`` this is ``n_2 / (n_1 + n_2)``, the rule of DAO
    (arXiv 2408.11856, as published summaries give it), which is also what IMTL-G (ICLR 2021)
    gives for two tasks at any angle. For more tasks the two differ: these weights make
    all weighted norms equal, IMTL-G makes the projections on the mean direction equal.

    Args:
        log_norms: Natural logarithms of the norms :math:`n_k`, shape ``(K,)``, finite.
        alpha: 1 evens the norms out, 0 ignores them, 0.5 goes half the way (on a log scale).
        prior: What each task is worth to the user, :math:`p_k > 0`, shape ``(K,)``. Default 1.
        max_ratio: Upper bound of largest weight / smallest weight; the small ones are lifted.
        total: The sum :math:`S` of the weights: a number, ``"one"``, or ``"tasks"`` for K, which is
            the default. Or what :math:`S` has to bring about: ``"unit"`` for
            :math:`\sum_k \lambda_k n_k = 1`, ``"keep"`` for
            :math:`\sum_k \lambda_k n_k = \sum_k n_k`.

    Returns:
        The weights, float64, shape ``(K,)``; alike when nothing tells the tasks apart, and then
        exactly 1 by default and with ``"keep"``.

    Raises:
        UserError: `total` is another word.

    Example:
        >>> import torch
        >>> inverse_norm_weights(torch.tensor([3.0, 1.0]).log(), total=1)
        tensor([0.2500, 0.7500], dtype=torch.float64)
        >>> inverse_norm_weights(torch.tensor([3.0, 1.0]).log(), total="unit")  # x [3, 1]: 1/2 each
        tensor([0.1667, 0.5000], dtype=torch.float64)
    """
    if isinstance(total, str) and total not in TOTALS:
        raise UserError(
            f"`total` should be a number or one of {TOTALS}. Found {total!r}. Choose one of them."
        )
    score = -alpha * log_norms.double()
    if prior is not None:
        score = score + prior.double().log()
    score = score - score.max()
    if max_ratio is not None:
        score = score.clamp(min=-math.log(max_ratio))
    if total in ("keep", "unit"):
        # In logarithms: a sum of norms can be 1e-30 or 1e30, and its inverse a weight.
        logs = log_norms.double()
        goal = _log_of_sum(logs) if total == "keep" else 0.0
        return (score + (goal - _log_of_sum(score + logs))).exp()
    named = len(score) if total != "one" else 1.0
    whole = named if total is None or isinstance(total, str) else total
    share = score.exp()
    # Sorted before it is summed, so that the order of the tasks cannot change the last bit;
    # multiplied before it is divided, so that equal tasks get exactly S / K.
    return share * whole / share.sort().values.sum()


def _log_of_sum(logs: Tensor) -> Tensor:
    # Sorted, so that the order of the tasks cannot change the last bit.
    return torch.logsumexp(logs.sort().values, dim=0)


def task_gradients(
    loss: Tensor, inputs: Sequence[Tensor], *, factor: float | None = None
) -> list[Tensor | None]:
    """Gradient of one loss, keeping the graph and touching no ``.grad``.

    Args:
        loss: A scalar that requires grad.
        inputs: Tensors that require grad.
        factor: What the gradient is multiplied by from the start, to keep it within the range of
            float16; default 1.

    Returns:
        One gradient per input, None where the loss does not depend on it.

    Raises:
        RuntimeError: The graph cannot be walked twice; the message says how to change that.

    Example:
        >>> import torch
        >>> x, y = torch.ones(2, requires_grad=True), torch.ones(1, requires_grad=True)
        >>> task_gradients((3 * x).sum(), [x, y])
        [tensor([3., 3.]), None]
    """
    seed = None if factor is None else torch.full_like(loss, factor)
    try:
        return list(torch.autograd.grad(loss, inputs, seed, retain_graph=True, allow_unused=True))
    except RuntimeError as error:
        for word, hint in _HINTS.items():
            if word in str(error):
                raise RuntimeError(f"Gradient norms cannot be measured. {hint}") from error
        raise


def gradient_norm(gradients: Iterable[Tensor | None]) -> Tensor:
    """Euclidean norm of several gradients seen as one long vector.

    Args:
        gradients: Tensors of any shape and floating or complex type, dense or sparse; None counts
            as zero.

    Returns:
        A float64 scalar; 0 if there is no tensor at all.

    Example:
        >>> import torch
        >>> gradient_norm([torch.tensor([3e25]), None, torch.tensor([4e25])])
        tensor(5.0000e+25, dtype=torch.float64)
    """
    parts = [frobenius_norm(g) for g in gradients if g is not None]
    if not parts:
        return torch.zeros((), dtype=torch.float64)
    return frobenius_norm(torch.stack([part.to(parts[0].device) for part in parts]))


def frobenius_norm(gradient: Tensor) -> Tensor:
    """Euclidean norm of the gradient at the representation.

    Cheap, but it ignores that samples pulling in opposite directions cancel in the parameters, and
    so follows the full norm only loosely; :func:`adapter_norm` costs the same and follows it well.

    Args:
        gradient: Gradient at the representation, any shape; see :func:`gradient_norm`.

    Returns:
        A float64 scalar, without a graph.

    Example:
        >>> import torch
        >>> frobenius_norm(torch.tensor([[3.0], [-4.0]]))
        tensor(5., dtype=torch.float64)
    """
    # In pieces: float64 means a copy, which for a whole embedding would be felt.
    size = _PIECE if gradient.device.type == "cpu" else _PIECE_ELSEWHERE
    pieces = torch.split(flat_numbers(gradient), size)
    norms = [torch.linalg.vector_norm(piece, dtype=torch.float64) for piece in pieces]
    norm: Tensor = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
    return norm


def flat_numbers(gradient: Tensor) -> Tensor:
    """The numbers of a gradient that are not zero of necessity, as one real vector.

    Args:
        gradient: Any shape, floating or complex, dense or sparse. A sparse one may name a place
            several times, as that of ``nn.Embedding(sparse=True)`` does for a repeated word; the
            values there are added up.

    Example:
        >>> import torch
        >>> twice = torch.sparse_coo_tensor([[1, 1]], [3.0, 4.0], (1000,))
        >>> flat_numbers(twice), flat_numbers(torch.tensor([1 + 2j]))
        (tensor([7.]), tensor([1., 2.]))
    """
    gradient = gradient.detach()
    if gradient.layout == torch.sparse_coo:
        gradient = gradient.coalesce().values()
    elif gradient.layout != torch.strided:
        gradient = gradient.to_dense()
    if gradient.is_complex():
        gradient = torch.view_as_real(gradient.resolve_conj())
    return gradient.reshape(-1)


def adapter_norm(gradient: Tensor, representation: Tensor) -> Tensor:
    r"""Gradient norm of an imagined linear adapter on the representation.

    With :math:`z_i` the representation and :math:`g_i` its gradient, this is the norm of the
    gradient with respect to A and b of :math:`z + A z + b` at A = 0, b = 0:

    .. math:: n^2 = \left\|\sum_i g_i z_i^T\right\|^2 + \left\|\sum_i g_i\right\|^2
                  = \sum_{ij} (g_i \cdot g_j)(z_i \cdot z_j + 1)

    Like a true parameter gradient it is a sum over samples, so opposite samples cancel.

    Args:
        gradient: Shape ``(..., H)``; all leading dimensions are samples.
        representation: The same shape.

    Returns:
        A float64 scalar.

    Example:
        >>> import torch
        >>> adapter_norm(torch.tensor([[3.0], [-3.0]]), torch.tensor([[1.0], [1.0]]))
        tensor(0., dtype=torch.float64)
    """
    g = gradient.detach().double().reshape(-1, gradient.shape[-1])
    z = representation.detach().double().reshape(-1, gradient.shape[-1])
    if len(g) < g.shape[1]:
        # Fewer samples than features: the N x N form never builds the H x H matrix.
        return ((g @ g.T) * (z @ z.T + 1)).sum().clamp(min=0).sqrt()
    return frobenius_norm(torch.cat([g.T @ z, g.sum(0)[:, None]], dim=1))
