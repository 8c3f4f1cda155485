"""Limits of an encoder: how many tokens of a text it takes, and which token ids it knows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from dao.errors import UserError
from dao.learner.basics.wording import listed
from dao.learner.batches.token_types import separator, type_separator
from dao.learner.batches.tokens import Tokens, pad_id, tokenize
from dao.learner.encoder.pooling import numbers_positions

__all__ = [
    "check_ids",
    "check_pairs",
    "check_vocabulary",
    "embeddings",
    "most_tokens",
    "token_limit",
]

TOKENS_NAMED = 5
"""Unknown tokens that an error lists."""


def token_limit(wanted: int, tokenizer: PreTrainedTokenizerBase, base: PreTrainedModel) -> int:
    """Number of tokens at which texts are cut: `wanted`, or the model's positions if fewer."""
    most = most_tokens(tokenizer, base)
    return wanted if most is None else min(wanted, most)


def most_tokens(tokenizer: PreTrainedTokenizerBase, base: PreTrainedModel) -> int | None:
    """Largest number of tokens that tokenizer and model take; None where neither names one."""
    limits = [int(tokenizer.model_max_length)]
    positions = getattr(base.config, "max_position_embeddings", None)
    if positions and positions > 0:
        # Models that number positions themselves start behind the id of the padding.
        spent = 0 if numbers_positions(base) else (base.config.pad_token_id or 0) + 1
        limits.append(int(positions) - spent)
    least = min(limits)
    return least if least < VERY_LARGE_INTEGER else None


def embeddings(base: nn.Module) -> int | None:
    """Number of token ids for which a model has an embedding; None where it is unknown."""
    try:
        table = base.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        return None
    number = getattr(table, "num_embeddings", None)
    return None if number is None else int(number)


def check_pairs(
    tokenizer: PreTrainedTokenizerBase, base: PreTrainedModel, texts: Sequence[str], limit: int
) -> None:
    """Refuse pairs of texts, or an encoder for them, where the second text cannot be told apart.

    Raises:
        UserError: as `type_separator` and `tokenize`; or the limit leaves no room for both texts.
    """
    special = tokenizer.num_special_tokens_to_add(pair=True)
    if limit < special + 2:
        raise UserError(
            f"`encoder.max_length` should leave room for both texts of a pair. Found {limit} "
            f"tokens, of which the tokenizer takes {special} itself. Raise it."
        )
    type_separator(tokenizer, base)
    end = separator(tokenizer)
    word = "" if end is None else str(tokenizer.convert_ids_to_tokens(end)).lower()
    # Tokenising every text would take long, and only a text with this word can be a problem.
    doubtful = [text for text in texts if word and word in text.lower()]
    tokenize(doubtful, tokenizer, limit, pairs=True)


def check_vocabulary(
    tokenizer: PreTrainedTokenizerBase,
    number: int | None,
    texts: Sequence[str],
    limit: int,
    *,
    pairs: bool = False,
) -> None:
    """Refuse texts with a token that the model has no embedding for, and such a padding token.

    Args:
        tokenizer: of the encoder.
        number: of the encoder's embeddings; None where it is not known.
        texts: those that are to be used. They are looked at only where the tokenizer has tokens
            without an embedding at all.
        limit: tokens at which texts are cut.
        pairs: whether the texts are pairs of `dao.learner.basics.pairs`.

    Raises:
        UserError: naming the tokens.
    """
    if number is None or max(tokenizer.get_vocab().values(), default=0) < number:
        return
    if pad_id(tokenizer) >= number:
        raise _beyond(tokenizer, [pad_id(tokenizer)], number)
    check_ids(tokenize(texts, tokenizer, limit, pairs=pairs), tokenizer, number)


def check_ids(tokens: Tokens, tokenizer: PreTrainedTokenizerBase, number: int | None) -> None:
    """Refuse token ids without an embedding.

    Raises:
        UserError: naming the tokens.
    """
    ids = tokens.values
    if number is not None and ids.max(initial=0) >= number:
        raise _beyond(tokenizer, np.unique(ids[ids >= number]).tolist(), number)


def _beyond(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], number: int) -> UserError:
    tokens = [f"{tokenizer.convert_ids_to_tokens(i)!r} ({i})" for i in ids]
    return UserError(
        f"The encoder should have an embedding for every token id of the texts. Found {number} "
        f"embeddings, so ids up to {number - 1}, and the tokens {listed(tokens, TOKENS_NAMED)}. "
        f"Use the tokenizer that the encoder was trained with, or add embeddings with "
        f"model.resize_token_embeddings(len(tokenizer)), train them and save the folder again."
    )
