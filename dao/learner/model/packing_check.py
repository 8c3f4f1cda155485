"""Whether an encoder keeps packed rows apart, tried out on three rows."""

from __future__ import annotations

import torch

from dao.errors import UserError
from dao.learner.batches.batching import Examples, collate
from dao.learner.model.model import MultiTaskModel

__all__ = ["check_packing", "check_positions"]

# How far packed outputs may be from plain ones, relative to the largest.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}


def check_packing(model: MultiTaskModel, limit: int) -> None:
    """Refuse an encoder whose outputs of packed rows differ from those of unpacked rows.

    Models differ in what they do with positions and masks that are given to them (attention within
    a window ignores half of such a mask, for one), so three rows are tried: one of `limit` tokens,
    two that share a line.

    Raises:
        UserError: the outputs differ, or the encoder does not take these inputs.
    """
    check_positions(model)
    if reason := _difference(model, limit):
        raise _refusal(model, reason)


def check_positions(model: MultiTaskModel) -> None:
    """Refuse an encoder whose architecture alone rules packed rows out; weights are not needed.

    Raises:
        UserError: as `check_packing`.
    """
    if reason := _obstacle(model):
        raise _refusal(model, reason)


def _refusal(model: MultiTaskModel, reason: str) -> UserError:
    kind = model.encoder.config.model_type
    return UserError(
        f"`train.packing` should have an encoder that takes positions and a mask for every "
        f"pair of tokens. Found {kind}, which {reason}. Leave it out; train.batch_tokens "
        f"also saves padding."
    )


def _obstacle(model: MultiTaskModel) -> str | None:
    if not model.numbers_positions:
        return "numbers its positions itself"
    if model.attention not in ("eager", "sdpa"):
        return f"computes attention by {model.attention}"
    return None


@torch.no_grad()
def _difference(model: MultiTaskModel, limit: int) -> str | None:
    generator = torch.Generator().manual_seed(0)
    words = model.base.get_input_embeddings().num_embeddings
    lengths = (limit, max(1, limit // 2), max(1, limit // 3))
    ids = [torch.randint(words, (n,), generator=generator).tolist() for n in lengths]
    examples, rows = Examples(ids, {}), range(len(ids))
    plain = collate(examples, rows, 0, model.device)
    packed = collate(examples, rows, 0, model.device, line_limit=limit)
    training = model.training
    model.eval()
    try:
        expected = model.represent(plain.input_ids, plain.attention_mask)
        found = model.represent(packed.input_ids, packed.attention_mask, packed.segments)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        return f"fails on them ({str(error).splitlines()[0]})"
    finally:
        model.train(training)
    gap = float((found - expected).abs().max() / expected.abs().max())
    # A gap that is NaN fails this comparison and is refused as well.
    return None if gap <= TOLERANCE[model.compute] else f"gives other outputs (by {gap:.1e})"
