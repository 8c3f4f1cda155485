"""Sentences to train on: the texts of a file, or random ones with real lengths."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pandas as pd
import torch
from transformers import PreTrainedTokenizerBase

from dao.errors import UserError
from dao.learner.batches.tokens import tokenize

__all__ = ["drawn", "read"]

# Financial PhraseBank in BERT word pieces with both special tokens: median 28, 95 % up to 58,
# longest 150. (quantile, length); between two of them every length is as likely.
QUANTILES = (
    (0.0, 4), (0.05, 13), (0.25, 20), (0.5, 28), (0.75, 39), (0.95, 58), (0.99, 78), (1.0, 150),
)  # fmt: skip


def drawn(count: int, vocabulary: int, limit: int, seed: int) -> list[list[int]]:
    """`count` sentences of random tokens whose lengths follow Financial PhraseBank, cut at `limit`.

    Example:
        >>> lengths = sorted(len(ids) for ids in drawn(4000, 30000, 128, seed=0))
        >>> abs(lengths[2000] - 28) <= 1, abs(lengths[3800] - 58) <= 3, lengths[-1] <= 128
        (True, True, True)
    """
    generator = torch.Generator().manual_seed(seed)
    sentences = []
    for u in torch.rand(count, generator=generator).tolist():
        length = min(limit, round(_quantile(u)))
        sentences.append(torch.randint(vocabulary, (length,), generator=generator).tolist())
    return sentences


def _quantile(u: float) -> float:
    for (below, short), (above, long) in pairwise(QUANTILES):
        if u <= above:
            return short + (u - below) / (above - below) * (long - short)
    return QUANTILES[-1][1]


def read(
    file: Path, count: int, tokenizer: PreTrainedTokenizerBase, limit: int, seed: int
) -> list[list[int]]:
    """`count` texts of a CSV with a column `text`, shuffled; if it has fewer, they come again.

    Raises:
        UserError: there is no such file, column or text.
    """
    try:
        frame = pd.read_csv(file)
    except (OSError, ValueError) as error:
        raise UserError(f"`--data` should be a CSV. Found {file}: {error}.") from None
    if "text" not in frame.columns or frame["text"].dropna().empty:
        found = ", ".join(map(str, frame.columns))
        raise UserError(f"`--data` should have texts in a column `text`. Found columns {found}.")
    ids = tokenize(frame["text"].dropna().astype(str).tolist(), tokenizer, limit)
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    while len(order) < count:
        order += torch.randperm(len(ids), generator=generator).tolist()
    return [ids[i].tolist() for i in order[:count]]
