"""Language modelling on a run's own training texts, before its tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    get_linear_schedule_with_warmup,
)

from dao.errors import UserError
from dao.learner.batches.batching import epoch_batches
from dao.learner.batches.token_types import token_types, type_separator
from dao.learner.batches.tokens import tokenize

__all__ = ["pretrain"]

BATCH = 64
MASKED = 0.15  # share of tokens to be predicted (Devlin et al. 2019)
WARMUP = 0.1
CLIP = 1.0
IGNORED = -100  # a label that does not count, as the collator has it


def pretrain(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    *,
    epochs: int,
    lr: float,
    seed: int,
    limit: int,
    device: torch.device,
    note: Callable[[str], None],
    pairs: bool = False,
) -> list[float]:
    """Train an encoder in place to predict masked tokens, or the next one if it is causal.

    Args:
        model: BERT or a causal model, without a head; the head for it is dropped afterwards.
        tokenizer: with a mask token.
        texts: to learn from.
        epochs: passes over the texts; 0 for none.
        lr: AdamW's largest rate; a tenth of the steps warm up, then it falls to 0.
        seed: of the order of the texts, masks, dropout and the head's first weights.
        limit: tokens at which texts are cut.
        device: to train on; the model comes back to the CPU.
        note: told the loss of each epoch.
        pairs: whether the texts are pairs (`dao.learner.basics.pairs`), each one row of tokens.

    Returns:
        The mean loss of each epoch.

    Raises:
        UserError: the loss is no longer finite.
    """
    if not epochs:
        return []
    torch.manual_seed(seed)
    masked = model.config.model_type == "bert"
    whole = _with_head(model, AutoModelForMaskedLM if masked else AutoModelForCausalLM).to(device)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=masked, mlm_probability=MASKED)
    tokens = tokenize(texts, tokenizer, limit, pairs=pairs)
    rows = [{"input_ids": [int(i) for i in row]} for row in tokens]
    end = type_separator(tokenizer, model) if pairs else None
    if end is not None:  # of the ids as they are before some are masked
        for row in rows:
            row["token_type_ids"] = token_types(torch.tensor([row["input_ids"]]), end)[0].tolist()
    steps = epochs * -(-len(rows) // BATCH)
    optimizer = torch.optim.AdamW(whole.parameters(), lr=lr, fused=True)
    schedule = get_linear_schedule_with_warmup(optimizer, round(WARMUP * steps), steps)
    whole.train()
    losses = []
    for epoch in range(epochs):
        total = 0.0
        for batch in epoch_batches(tokens.lengths.tolist(), BATCH, seed, epoch):
            inputs = collator([rows[i] for i in batch]).to(device)
            total += len(batch) * _step(whole, inputs, masked, optimizer)
            schedule.step()
        losses.append(total / len(rows))
        if not math.isfinite(losses[-1]):
            raise UserError(
                f"The loss of language modelling should be finite. Found {losses[-1]} in epoch "
                f"{epoch + 1}. Lower encoder.scratch.pretrain_lr (now {lr})."
            )
        note(f"language modelling, epoch {epoch + 1} of {epochs}: loss {losses[-1]:.3f}")
    model.to("cpu").eval()
    return losses


def _with_head(model: PreTrainedModel, factory: Any) -> Any:  # noqa: ANN401
    """A model that predicts tokens and has `model` itself inside."""
    whole = factory.from_config(model.config)
    setattr(whole, whole.base_model_prefix, model)
    whole.tie_weights()
    return whole


def _step(
    whole: Any,  # noqa: ANN401  (its type depends on the architecture)
    batch: Mapping[str, Tensor],
    masked: bool,
    optimizer: torch.optim.Optimizer,
) -> float:
    """One batch; its mean loss, 0 where nothing was masked."""
    inputs = {name: values for name, values in batch.items() if name != "labels"}
    states = whole.base_model(**inputs).last_hidden_state
    labels = batch["labels"]
    if not masked:
        states, labels = states[:, :-1], labels[:, 1:]
    known = labels != IGNORED
    if not known.any():
        return 0.0
    # The head sees the tokens that count alone: of masked ones, that saves most of the time.
    head = whole.cls if masked else whole.lm_head
    loss = functional.cross_entropy(head(states[known]), labels[known])
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(whole.parameters(), CLIP)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())
