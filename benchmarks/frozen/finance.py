"""Sentences of a table as mean-pooled states of the embedded MiniLM, computed once and kept."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from benchmarks.frozen.tables import Table
from dao.errors import UserError
from dao.learner.basics.folders import shared_cache
from dao.learner.encoder.find import EMBEDDED, locate

__all__ = ["load_sentences"]

COLUMNS = ("text", "label", "score")
BATCH = 64


@cache
def load_sentences(path: str) -> Table:
    """A table with the columns text, label and score: tasks `cls` and `reg` on MiniLM states.

    Rows with the same text (in letters and digits) form a group. Only states are kept in the
    cache, under the digests of the file and of the encoder.

    Raises:
        UserError: there is no such file, or it lacks a column.
    """
    if not Path(path).is_file():
        raise UserError(f"--data should be a CSV file. Found {path!r}, which is none. Correct it.")
    data = pd.read_csv(path, keep_default_na=False, na_values={"label": "", "score": ""})
    missing = [name for name in COLUMNS if name not in data]
    if missing:
        raise UserError(
            f"{path} should have the columns {', '.join(COLUMNS)}. Found no {missing[0]!r}. "
            f"Rename it."
        )
    texts = data["text"].astype(str).tolist()
    names = sorted(data["label"].dropna().unique())
    classes = data["label"].map({name: index for index, name in enumerate(names)})
    plain = [re.sub(r"[\W_]+", " ", text.lower()).strip() for text in texts]
    return Table(
        inputs=_states(path, texts),
        numbers={"reg": torch.tensor(data["score"].to_numpy(float))},
        classes={"cls": torch.tensor(classes.fillna(-1).to_numpy(int))},
        groups=torch.tensor(pd.factorize(pd.Series(plain))[0]),
    )


def _states(path: str, texts: list[str]) -> Tensor:
    digest = hashlib.sha256(Path(path).read_bytes() + EMBEDDED.encode()).hexdigest()
    kept = shared_cache() / "studies" / f"states-{digest[:16]}.pt"
    if kept.is_file():
        found: Tensor = torch.load(kept, weights_only=True)
        return found
    kept.parent.mkdir(parents=True, exist_ok=True)
    states = _pooled(texts)
    partial = kept.with_suffix(".partial")
    torch.save(states, partial)
    partial.replace(kept)
    return states


@torch.inference_mode()
def _pooled(texts: list[str]) -> Tensor:
    from transformers import AutoModel, AutoTokenizer

    folder = locate(EMBEDDED).path
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModel.from_pretrained(folder).eval()
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    states = torch.empty(len(texts), model.config.hidden_size)
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        batch = tokenizer(
            [texts[row] for row in rows], padding=True, truncation=True, max_length=256,
            return_tensors="pt",
        )  # fmt: skip
        mask = batch["attention_mask"][:, :, None]
        hidden = model(**batch).last_hidden_state
        states[rows] = ((hidden * mask).sum(1) / mask.sum(1)).float()
    return states.clone()
