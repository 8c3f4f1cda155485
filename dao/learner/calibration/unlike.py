"""Which texts are unlike the training texts, by the tokens that those never had."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from dao.learner.batches.tokens import end_ids
from dao.learner.kinds.base import Array

__all__ = ["Familiar", "familiar"]

QUANTILE = 0.99
"""Share of the validation texts that count as like the training texts, at least."""
FEW = 0.1
"""Share of unseen tokens that says nothing of a text: a name or a number that is new."""


@dataclass(frozen=True)
class Familiar:
    """The tokens of the training texts, and how many others a text may have.

    Attributes:
        seen: which token ids some training text has, (ids,) bool; ids beyond have none.
        passed_over: ids that say nothing of a text, such as those of its two ends.
        limit: share of unseen tokens above which a text is unlike the training texts.
    """

    seen: Array
    passed_over: frozenset[int]
    limit: float

    def shares(self, rows: Iterable[Sequence[int]]) -> Array:
        """The share of each text's tokens that no training text has, (n,); 1 for no token."""
        return np.array([self._share(np.asarray(row)) for row in rows], dtype=float)

    def unlike(self, rows: Iterable[Sequence[int]]) -> Array:
        """Which texts have a larger share of unseen tokens than the limit, (n,)."""
        return np.asarray(self.shares(rows) > self.limit)

    def _share(self, ids: Array) -> float:
        ids = ids[~np.isin(ids, [*self.passed_over])]
        known = ids[ids < len(self.seen)]
        return 1 - float(self.seen[known].sum()) / len(ids) if len(ids) else 1.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON; `seen` in bits, the first id in the highest bit of the first byte."""
        return {
            "seen": b64encode(np.packbits(self.seen).tobytes()).decode(),
            "passed_over": sorted(self.passed_over),
            "limit": self.limit,
            "quantile": QUANTILE,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Familiar:
        """What `to_dict` described."""
        bits = np.frombuffer(b64decode(state["seen"]), np.uint8)
        return cls(
            np.unpackbits(bits).astype(bool), frozenset(state["passed_over"]), state["limit"]
        )


def familiar(
    training: Array, validation: Sequence[Sequence[int]], tokenizer: PreTrainedTokenizerBase
) -> Familiar:
    """What the training texts are like.

    A token that stands for unknown characters is never a seen one. The special tokens of the
    tokenizer, such as those of a text's two ends, are passed over.

    Args:
        training: token ids of all training texts, one after another.
        validation: token ids of each validation text; the limit is the 99th percentile of their
            shares of unseen tokens, or the next larger of these shares, and at least 10 %.
        tokenizer: of both.
    """
    seen, passed_over = np.bincount(training) > 0, end_ids(tokenizer)
    unknown = tokenizer.unk_token_id
    if unknown is not None and unknown not in passed_over:
        seen[unknown : unknown + 1] = False
    made = Familiar(seen, passed_over, 1.0)
    shares = made.shares(validation)
    limit = float(np.quantile(shares, QUANTILE, method="higher")) if len(shares) else 1.0
    return replace(made, limit=max(limit, FEW))
