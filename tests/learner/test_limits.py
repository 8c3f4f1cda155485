"""Token ids without an embedding, and how many tokens an encoder takes."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from dao.errors import UserError
from dao.learner.batches.tokens import tokenize
from dao.learner.encoder.limits import (
    check_ids,
    check_vocabulary,
    embeddings,
    most_tokens,
    token_limit,
)
from dao.learner.inference.predictor import CutTexts, predictor_of
from dao.learner.model.model import build
from dao.learner.pipeline.preflight import check
from dao.learner.settings.config import load_config
from dao.learner.settings.encoder_section import Encoder


@pytest.fixture
def added(tiny_bert: Path) -> PreTrainedTokenizerBase:
    """A tokenizer with six tokens more than the 64 embeddings of the tiny BERT hold."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    tokenizer.add_tokens([f"ticker{i}" for i in range(70 - len(tokenizer))])
    return tokenizer


def test_texts_with_tokens_without_an_embedding_are_refused(added):
    last = [f"ticker{i}" for i in range(70 - 64 - 2, 70)]
    texts = ["profit rose", *(token for token in added.get_vocab() if token in last)]
    with pytest.raises(UserError, match=r"Found 64 embeddings, so ids up to 63, and the tokens 't"):
        check_vocabulary(added, 64, texts, 9)
    check_vocabulary(added, 64, ["profit rose", "loss fell"], 9)
    check_vocabulary(added, 70, texts, 9)
    check_vocabulary(added, None, texts, 9)


def test_the_message_names_tokens_and_counts_the_others(added):
    names = added.convert_ids_to_tokens(range(64, 70))
    with pytest.raises(UserError) as caught:
        check_ids(tokenize([" ".join(names)], added, 20), added, 64)
    assert f"{names[0]!r} (64), " in str(caught.value)
    assert f"{names[4]!r} (68) and 1 more. " in str(caught.value)
    assert names[5] not in str(caught.value)
    assert "resize_token_embeddings" in str(caught.value)


def test_a_padding_without_an_embedding_is_refused(added):
    added.pad_token = added.convert_ids_to_tokens(69)
    with pytest.raises(UserError, match=r"and the tokens 'ticker\d+' \(69\)\."):
        check_vocabulary(added, 64, ["profit rose"], 9)


@pytest.fixture
def folder(tiny_bert: Path, added, tmp_path: Path) -> Path:
    import shutil

    place = Path(shutil.copytree(tiny_bert, tmp_path / "added"))
    added.save_pretrained(place)
    return place


def test_a_run_is_refused_before_there_is_a_folder(folder: Path, added):
    name = added.convert_ids_to_tokens(66)
    cfg = load_config(flags={"encoder.name": str(folder), "tasks": "cls", "device": "cpu"})
    frame = pd.DataFrame({"text": ["profit rose", f"{name} rose"], "cls": ["a", "b"]})
    table = SimpleNamespace(frame=frame, report={}, rows=lambda split: frame)
    with pytest.raises(UserError, match=rf"the tokens '{name}' \(66\)\."):
        check(cfg, table, {"cls": None})
    table.frame = frame[:1]
    check(cfg, table, {"cls": None})


def test_a_text_to_predict_is_refused_as_well(folder: Path, added):
    model, tokenizer, limit = build(Encoder(name=str(folder)), {"cls": 2}, torch.device("cpu"), 0)
    predictor = predictor_of(model, tokenizer, limit)
    assert predictor(["profit rose"])["cls"].shape == (1, 2)
    with pytest.raises(UserError, match=r"Found 64 embeddings"):
        predictor([added.convert_ids_to_tokens(66)])


def test_texts_that_are_cut_are_noted(folder: Path):
    counted = CutTexts()
    model, tokenizer, _ = build(Encoder(name=str(folder)), {"cls": 2}, torch.device("cpu"), 0)
    made = predictor_of(model, tokenizer, 3)
    predictor = type(made)(model, tokenizer, 3, None, made.most, made.embeddings, counted)
    predictor(["profit rose", "profit rose " * 9])
    assert predictor.cut_lines() == [
        "1 of 2 texts was cut at 3 tokens; to use more of each, train with encoder.max_length "
        "above 3 (this encoder takes at most 64)"
    ]
    predictor(["profit rose"])
    assert (counted.texts, counted.cut) == (3, 1)


def test_the_most_that_an_encoder_takes(tiny_bert: Path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    model = build(Encoder(name=str(tiny_bert)), {"cls": 2}, torch.device("cpu"), 0)[0]
    base = model.base
    assert (embeddings(base), embeddings(nn.Linear(2, 2))) == (64, None)
    most = most_tokens(tokenizer, base)
    assert most is not None
    assert token_limit(10**6, tokenizer, base) == most
    assert token_limit(5, tokenizer, base) == 5
    base.config.max_position_embeddings = -1
    tokenizer.model_max_length = int(1e30)
    assert most_tokens(tokenizer, base) is None
    assert token_limit(10**6, tokenizer, base) == 10**6
