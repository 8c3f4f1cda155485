"""Pairs of texts as one row of tokens: the separator, and the token type of the second text."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BatchEncoding, PreTrainedTokenizerBase

from dao.errors import UserError
from dao.learner.basics.pairs import split
from dao.learner.batches.packing import Segments

__all__ = [
    "between",
    "encode",
    "newlines",
    "pairs_about",
    "pairs_line",
    "refuse_inner",
    "separator",
    "token_types",
    "type_separator",
]

PROBE = ("a", "b")


def encode(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    pairs: bool,
    **options: bool | int | str,
) -> BatchEncoding:
    """The tokenizer's output for texts, or for `pairs`, of which it gets both texts apart.

    A tokenizer that puts nothing between the two, as GPT-2's, gets a newline to put there.
    `longest_first` cuts the longer text of a pair.
    """
    if not pairs:
        return tokenizer(list(texts), **options)
    ones, others = zip(*map(split, texts), strict=True)
    behind, before = newlines(tokenizer)
    ones = tuple(text + behind for text in ones)
    others = tuple(before + text for text in others)
    if options.get("truncation"):
        options["truncation"] = "longest_first"
    return tokenizer(list(ones), list(others), return_token_type_ids=True, **options)


def newlines(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """What is put behind the first text of a pair and before the second: a newline, or nothing.

    It stands next to the end of a text that is never cut.
    """
    if between(tokenizer):
        return "", ""
    return ("\n", "") if tokenizer.truncation_side == "left" else ("", "\n")


def between(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids that the tokenizer itself puts between the two texts of a pair."""
    one, other = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in PROBE)
    whole = tokenizer(*PROBE)["input_ids"]
    rest: list[int] = whole[_place(whole, one) + len(one) :]
    return rest[: _place(rest, other)]


def _place(ids: Sequence[int], part: Sequence[int]) -> int:
    """Where `part` begins; at the end if it is not there."""
    starts = range(len(ids) - len(part) + 1)
    return next((i for i in starts if ids[i : i + len(part)] == part), len(ids))


def separator(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The id after which tokens are of type 1; None where the tokenizer knows no such types.

    Raises:
        UserError: the types of this tokenizer do not change at its separator.
    """
    found = tokenizer(*PROBE, return_token_type_ids=True)
    ids, types, gap = found["input_ids"], found.get("token_type_ids") or [], between(tokenizer)
    if not gap or not any(types):
        return None
    if token_types(torch.tensor([ids]), gap[0])[0].tolist() != types:
        raise UserError(
            f"A tokenizer for pairs should give the tokens after its separator the type 1. Found "
            f"types {types} for the tokens {tokenizer.convert_ids_to_tokens(ids)}. Use another "
            f"encoder, or one column of text that holds both."
        )
    return int(gap[0])


def type_separator(tokenizer: PreTrainedTokenizerBase, base: nn.Module) -> int | None:
    """As `separator`; None as well for a model without an embedding for a second token type.

    Raises:
        UserError: as `separator`.
    """
    takes = "token_type_ids" in inspect.signature(base.forward).parameters
    types = getattr(base.config, "type_vocab_size", None) or 0
    return separator(tokenizer) if takes and types > 1 else None


def token_types(ids: Tensor, separator: int, segments: Segments | None = None) -> Tensor:
    """Token types of pairs: 0 up to the first separator, 1 behind it.

    The types follow from the ids alone, so that caches and exports keep only ids.

    Args:
        ids: (batch, length) of token ids.
        separator: the id that ends the first text.
        segments: of packed lines; types begin anew with every segment.

    Returns:
        0 or 1, shaped as `ids`.

    Example:
        >>> token_types(torch.tensor([[1, 7, 2, 8, 2]]), separator=2).tolist()
        [[0, 0, 0, 1, 1]]
    """
    ends = (ids == separator).long()
    before = ends.cumsum(1) - ends
    if segments is not None:
        rows = segments.ids
        begins = functional.pad(rows[:, 1:] != rows[:, :-1], (1, 0), value=True)
        before = before - torch.where(begins, before, 0).cummax(1).values
    return (before > 0).long()


def refuse_inner(
    texts: Sequence[str], found: BatchEncoding, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Refuse pairs whose first text holds the separator, which would hide where the second begins.

    Args:
        texts: pairs.
        found: their tokens.
        tokenizer: that made them.

    Raises:
        UserError: naming the text.
    """
    end = separator(tokenizer)
    types = found.get("token_type_ids")
    if end is None or types is None:
        return
    for text, ids, kinds in zip(texts, found["input_ids"], types, strict=True):
        if 1 in kinds and ids.index(end) + 1 != kinds.index(1):
            word = tokenizer.convert_ids_to_tokens(end)
            raise UserError(
                f"The first text of a pair should be without {word!r}, by which the encoder tells "
                f"the two apart. Found it in {split(text)[0][:60]!r}. Remove it."
            )


def pairs_line(tokenizer: PreTrainedTokenizerBase, names: Sequence[str], typed: bool) -> str:
    """How an encoder gets the two texts of a row, in a line.

    Args:
        tokenizer: of the encoder.
        names: of the two columns.
        typed: whether the second text has token type 1.
    """
    gap = between(tokenizer)
    put = " ".join(map(str, tokenizer.convert_ids_to_tokens(gap))) if gap else "a newline"
    types = "token types 0 and 1" if typed else "no token types"
    return f"pairs of `{names[0]}` and `{names[1]}`: {put} between the two, {types}"


def pairs_about(tokenizer: PreTrainedTokenizerBase, names: Sequence[str]) -> dict[str, Any]:
    """What the description of an exported model says of its pairs of texts.

    Args:
        tokenizer: of the model.
        names: of the two columns that it learnt from.
    """
    behind, before = newlines(tokenizer)
    texts = (
        f"text{f' + {behind!r}' if behind else ''}, {f'{before!r} + ' if before else ''}text_pair"
    )
    call = f"tokenizer({texts}, truncation='longest_first', max_length=token_limit)"
    return {"text": names[0], "text_pair": names[1], "tokens": call, "token_types": "in the graph"}
