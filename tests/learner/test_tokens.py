"""Token ids: cut, never empty, the same from the disk; what is damaged is made anew."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from dao.learner.batches import token_cache, tokens
from dao.learner.batches.token_cache import TokenCache, cache_key, read_tokens, write_tokens
from dao.learner.batches.tokens import Tokens, cut_line, tokenize
from dao.learner.settings.config import Config, load_config

TEXTS = ["profit rose", "", "profit rose sharply [EOS]", "loss"]


@pytest.fixture
def tokenizer(tiny_phi: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_phi)


def listed(found: Tokens) -> list[list[int]]:
    return [row.tolist() for row in found]


def test_texts_are_cut_and_never_empty(tokenizer):
    found = tokenize(TEXTS, tokenizer, limit=3)
    assert listed(found) == [[3, 8], [tokenizer.eos_token_id], [3, 8, 12], [4]]
    assert found.lengths.tolist() == [2, 1, 3, 1]
    assert len(tokenize([], tokenizer, 3)) == 0


@pytest.mark.parametrize("chunk", [1, 3, 10])
def test_texts_that_are_cut_are_counted(tokenizer, monkeypatch: pytest.MonkeyPatch, chunk: int):
    monkeypatch.setattr(tokens, "CHUNK", chunk)
    texts = ["profit rose", "profit rose sharply", "profit rose sharply loss", "", "loss " * 50]
    assert tokenize(texts, tokenizer, 3).cut == 2
    assert tokenize(texts, tokenizer, 50).cut == 0
    assert tokenize(texts, tokenizer, 49).cut == 1
    assert tokenize([], tokenizer, 3).cut == 0


def test_a_line_says_how_many_texts_were_cut_and_what_to_set():
    rows = {"train": 192, "validation": 24, "test": 24}
    assert cut_line(rows, rows, 128, 512) == (
        "240 of 240 texts were cut at 128 tokens (train 192, validation 24, test 24); to use more "
        "of each, train with encoder.max_length above 128 (this encoder takes at most 512)"
    )
    assert cut_line({"": 1}, {"": 2}, 64, 64) == (
        "1 of 2 texts was cut at 64 tokens, the most that this encoder takes"
    )
    assert cut_line({"": 2}, {"": 2}, 64, None).endswith("(this encoder names no maximum)")
    assert cut_line({"train": 0, "test": 0}, {"train": 9, "test": 9}, 64, 512) == ""


def test_chunks_change_nothing(tokenizer, monkeypatch: pytest.MonkeyPatch):
    whole = listed(tokenize(TEXTS, tokenizer, 3))
    monkeypatch.setattr(tokens, "CHUNK", 3)
    assert listed(tokenize(TEXTS, tokenizer, 3)) == whole


def test_rows_are_views_and_cannot_be_changed(tokenizer):
    found = tokenize(TEXTS, tokenizer, 3)
    assert np.shares_memory(found[0], found[0])
    assert found[-1].tolist() == [4]
    assert [row.tolist() for row in found[1:3]] == [[2], [3, 8, 12]]
    with pytest.raises(ValueError, match="read-only"):
        found[0][0] = 1
    with pytest.raises(IndexError):
        found[4]


class Counting:
    """Counts the texts that are tokenised, and keeps what is noted."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts, self.notes = 0, []
        self.cache = TokenCache(folder, self.notes.append)
        monkeypatch.setattr(token_cache, "tokenize", self._count)

    def _count(self, texts, tokenizer, limit, *_, **_further):
        self.texts += len(texts)
        return tokenize(texts, tokenizer, limit)


@pytest.fixture
def counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counting:
    return Counting(tmp_path / "cache" / "tokens", monkeypatch)


def test_texts_are_tokenised_once(tokenizer, counting: Counting):
    first = counting.cache.tokenize(TEXTS, tokenizer, 3)
    again = counting.cache.tokenize(TEXTS, tokenizer, 3)
    assert counting.texts == 4
    assert listed(first) == listed(again) == listed(tokenize(TEXTS, tokenizer, 3))
    assert first.cut == again.cut == 1
    assert counting.notes == []
    (path,) = counting.cache.folder.iterdir()
    assert path.name == cache_key(TEXTS, tokenizer, 3) + ".arrow"


def test_what_decides_the_ids_decides_the_key(tokenizer, tiny_bert: Path):
    key = cache_key(TEXTS, tokenizer, 3)
    tokenizer(["profit rose"], truncation=True, max_length=1)
    assert cache_key(TEXTS, tokenizer, 3) == key  # calls leave traces in the tokenizer
    others = [
        cache_key(TEXTS, tokenizer, 4),
        cache_key(TEXTS[:3], tokenizer, 3),
        cache_key([TEXTS[0] + TEXTS[1], *TEXTS[2:]], tokenizer, 3),
        cache_key(["profit ros", "e", *TEXTS[2:]], tokenizer, 3),
        cache_key(TEXTS, AutoTokenizer.from_pretrained(tiny_bert), 3),  # another pad token
    ]
    tokenizer.truncation_side = "left"
    others.append(cache_key(TEXTS, tokenizer, 3))
    tokenizer.truncation_side = "right"
    tokenizer.add_tokens(["sharply slightly"])
    others.append(cache_key(TEXTS, tokenizer, 3))
    assert len({key, *others}) == len(others) + 1


def spoil(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "cut":
        content = content[: len(content) // 2]
    elif how == "empty":
        content = bytearray()
    elif how == "a bit":
        content[content.index(np.array([3, 8, 12], np.int32).tobytes())] ^= 1
    elif how == "rows":
        write_tokens(path, Tokens(pa.array([[1]], pa.large_list(pa.int32()))))
        return
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["cut", "empty", "a bit", "rows"])
def test_a_damaged_file_is_made_anew(tokenizer, counting: Counting, how: str):
    counting.cache.tokenize(TEXTS, tokenizer, 3)
    (path,) = counting.cache.folder.iterdir()
    whole = path.read_bytes()
    spoil(path, how)
    assert read_tokens(path, 4) is None
    found = counting.cache.tokenize(TEXTS, tokenizer, 3)
    assert listed(found) == listed(tokenize(TEXTS, tokenizer, 3))
    assert counting.texts == 8
    assert counting.notes == [f"token ids: {path} is damaged and is made anew"]
    assert path.read_bytes() == whole


def test_a_folder_that_cannot_be_written_is_told_once(tokenizer, counting: Counting):
    counting.cache.folder.parent.mkdir()
    counting.cache.folder.write_text("a file stands here")
    for _ in range(2):
        found = counting.cache.tokenize(TEXTS, tokenizer, 3)
    assert listed(found) == listed(tokenize(TEXTS, tokenizer, 3))
    (note,) = counting.notes
    assert note.startswith("token ids are not cached: ")
    assert "cannot be written" in note


def test_an_interrupted_write_leaves_nothing(
    tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_tokens(tmp_path / "x.arrow", tokenize(TEXTS, tokenizer, 3))
    assert list(tmp_path.iterdir()) == []


def test_writers_and_readers_do_not_disturb_each_other(tokenizer, tmp_path: Path):
    found, path = tokenize(TEXTS, tokenizer, 3), tmp_path / "x.arrow"
    write_tokens(path, found)

    def work(_: int) -> bool:
        write_tokens(path, found)
        read = read_tokens(path, 4)
        return read is not None and listed(read) == listed(found)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(100)))
    assert list(tmp_path.iterdir()) == [path]


def test_a_tokenizer_in_python_is_not_cached(tokenizer, counting: Counting):
    class Slow:
        pad_token_id, eos_token_id = None, 2

        def __call__(self, texts, **options):
            return {"input_ids": tokenizer(texts, **options)["input_ids"]}

    found = counting.cache.tokenize(TEXTS, Slow(), 3)
    assert listed(found) == listed(tokenize(TEXTS, tokenizer, 3))
    assert found.cut == 1
    assert len(counting.notes) == 1
    assert not counting.cache.folder.exists()


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Config().cache_folder == tmp_path / "dao"
    assert load_config(overrides=["cache=~/x"]).cache_folder == Path.home() / "x"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert Config().cache_folder == Path.home() / ".cache" / "dao"
