"""Pairs of texts: their tokens and token types, in batches, packed lines, caches and files."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from dao.errors import UserError
from dao.learner.basics.pairs import check_number, join, split, typed
from dao.learner.batches.batching import Examples, collate
from dao.learner.batches.token_cache import TokenCache
from dao.learner.batches.token_types import between, pairs_about, pairs_line, separator, token_types
from dao.learner.batches.tokens import tokenize
from dao.learner.encoder.limits import check_pairs
from dao.learner.encoder.pretraining import pretrain
from dao.learner.encoder.vocabulary import train_tokenizer
from dao.learner.inference.engines import make_engine
from dao.learner.inference.predictor import Predictor, predictor_of
from dao.learner.model.model import MultiTaskModel, build
from dao.learner.model.packing_check import check_packing
from dao.learner.model.prefix import cache_prefix
from dao.learner.scoring.scoring import predict
from dao.learner.settings.config import load_config

CPU = torch.device("cpu")
WORDS = "profit loss sales rose fell sharply"
PADDED = {"padding": True, "return_tensors": "pt", "return_token_type_ids": True}
PAIRS = [join("profit rose", "loss fell"), join("sales fell sharply", "profit"), join("loss", "x")]


def words() -> PreTrainedTokenizerFast:
    """Ids: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4, the words from 5 on."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split()]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocabulary)}, "[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip


def letters() -> PreTrainedTokenizerFast:
    """Every byte a token, nothing between two texts, as GPT-2's tokenizer has it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({sign: i for i, sign in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made)


def untyped() -> PreTrainedTokenizerFast:
    """Two ids between the texts and no token types, as RoBERTa's tokenizer has it."""
    tokenizer = words()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT of three layers whose token types are far apart."""
    folder = tmp_path_factory.mktemp("bert-of-pairs")
    words().save_pretrained(folder)
    config = BertConfig(
        vocab_size=16, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=32, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertModel(config)
    model.embeddings.token_type_embeddings.weight.data.normal_()
    model.save_pretrained(folder)
    return folder


def predictor(folder: Path, *overrides: str, pairs: bool = True) -> Predictor[MultiTaskModel]:
    fixed = [f"encoder.name={folder}", "encoder.precision=fp32", "encoder.lora.last_layers=1"]
    cfg = load_config(overrides=[*fixed, *overrides]).encoder
    built = build(cfg, {"cls": 3}, CPU, 0, pairs=pairs)
    torch.manual_seed(1)
    for parameter in built[0].shared_parameters():
        parameter.data.normal_(std=0.3)
    built[0].eval()
    return predictor_of(*built, pairs=pairs)


def rows(texts: list[str], tokenizer: PreTrainedTokenizerFast, limit: int = 32) -> list[list[int]]:
    return [row.tolist() for row in tokenize(texts, tokenizer, limit, pairs=True)]


def test_a_pair_in_one_string_and_back():
    assert split(join("a\nb", "c, d")) == ("a\nb", "c, d")
    with pytest.raises(UserError, match=r"A pair should hold two texts\. Found only 'a b'"):
        split("a b")


def test_tokens_of_pairs_by_hand():
    assert rows(PAIRS, words()) == [
        [2, 5, 8, 3, 6, 9, 3], [2, 7, 9, 10, 3, 5, 3], [2, 6, 3, 1, 3],
    ]  # fmt: skip
    assert between(words()) == [3]
    assert between(untyped()) == [3, 3]
    assert rows(PAIRS[:1], untyped()) == [[2, 5, 8, 3, 3, 6, 9, 3]]


def test_the_separator_of_a_text_that_is_no_pair_means_nothing():
    (row,) = tokenize([PAIRS[0]], words(), 32)
    assert row.tolist() == [2, 5, 1, 9, 3]


def test_a_newline_stands_where_the_tokenizer_puts_nothing():
    tokenizer = letters()
    assert between(tokenizer) == []
    (row,) = rows([join("ab", "cd")], tokenizer)
    assert tokenizer.decode(row) == "ab\ncd"
    (row,) = rows([join("abcdef", "cd")], tokenizer, limit=5)
    assert tokenizer.decode(row) == "abc\nc"
    tokenizer.truncation_side = "left"
    (row,) = rows([join("ab", "cdefgh")], tokenizer, limit=5)
    assert tokenizer.decode(row) == "b\nfgh"


def test_the_longer_text_is_cut_and_the_cut_ones_are_counted(monkeypatch: pytest.MonkeyPatch):
    texts = [join("profit " * 6, "loss loss"), join("loss", "profit"), join("loss", "sales " * 9)]
    found = tokenize(texts, words(), 8, pairs=True)
    assert [row.tolist() for row in found] == [
        [2, 5, 5, 5, 3, 6, 6, 3], [2, 6, 3, 5, 3], [2, 6, 3, 7, 7, 7, 7, 3],
    ]  # fmt: skip
    assert found.cut == 2
    exact = [join("profit profit profit", "loss loss")]
    assert tokenize(exact, words(), 8, pairs=True).cut == 0
    assert tokenize(exact, words(), 7, pairs=True).cut == 1


def test_token_types_by_hand_are_those_of_the_tokenizer():
    tokenizer = words()
    assert separator(tokenizer) == 3
    assert separator(untyped()) is None
    assert separator(letters()) is None
    found = tokenizer(*zip(*map(split, PAIRS), strict=True), **PADDED)
    mask = found["attention_mask"]
    types = token_types(found["input_ids"], 3)
    assert (types * mask).equal(found["token_type_ids"] * mask)
    assert types[0].tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_types_begin_anew_with_every_row_of_a_packed_line():
    ids = rows(PAIRS, words())
    packed = collate(Examples(ids, {}), range(3), 0, CPU, line_limit=20)
    assert packed.segments is not None
    types = token_types(packed.input_ids, 3, packed.segments)
    for row, tokens in enumerate(ids, start=1):
        own = packed.segments.ids == row
        assert packed.input_ids[own].tolist() == tokens
        first = tokens.index(3) + 1
        assert types[own].tolist() == [0] * first + [1] * (len(tokens) - first)


def test_outputs_are_those_of_the_encoder_with_the_tokenizers_types(bert: Path):
    made = predictor(bert)
    found = words()(*zip(*map(split, PAIRS), strict=True), **PADDED)
    with torch.no_grad():
        states = made.model.encoder(**found).last_hidden_state
        weights = found["attention_mask"].unsqueeze(-1)
        expected = made.model.heads["cls"]((states * weights).sum(1) / weights.sum(1))
    torch.testing.assert_close(made(PAIRS)["cls"], expected, rtol=1e-5, atol=1e-5)


def test_types_and_the_order_of_the_texts_matter(bert: Path):
    made = predictor(bert)
    swapped = [join(*split(text)[::-1]) for text in PAIRS]
    before = made(PAIRS)["cls"]
    assert (made(swapped)["cls"] - before).abs().max() > 0.01
    made.model.separator = None
    assert (made(PAIRS)["cls"] - before).abs().max() > 0.01


def test_single_texts_have_no_types(bert: Path):
    assert predictor(bert, pairs=False).model.separator is None
    assert predictor(bert).model.separator == 3


def test_a_model_without_types_takes_pairs(tiny_phi: Path, tiny_gpt2: Path):
    for folder in (tiny_phi, tiny_gpt2):
        made = predictor(folder)
        assert made.model.separator is None
        assert made(PAIRS)["cls"].shape == (3, 3)


def test_packed_pairs_give_what_pairs_alone_give(bert: Path):
    made = predictor(bert)
    check_packing(made.model, 20)
    examples = Examples(rows(PAIRS, words()), {})
    packed = collate(examples, range(3), 0, CPU, line_limit=20)
    with torch.no_grad():
        found = made.model(packed.input_ids, packed.attention_mask, segments=packed.segments)
    torch.testing.assert_close(found["cls"], made(PAIRS)["cls"], rtol=1e-5, atol=1e-5)


def test_cached_states_are_those_of_pairs(bert: Path, tmp_path: Path):
    made, single = predictor(bert), predictor(bert, pairs=False)
    examples = Examples(rows(PAIRS, words()), {})
    expected = predict(made.model, examples, 0)["cls"]
    for one in (single, made):  # the same ids: only the key keeps their files apart
        (cached,), figures = cache_prefix(one.model, [examples], 0, tmp_path, [].append)
        assert not figures["warm"]
    torch.testing.assert_close(predict(made.model, cached, 0)["cls"], expected)


@pytest.mark.parametrize("name", ["merged", "int8"])  # ONNX: `tests/cli/test_pairs.py`
def test_engines_give_the_outputs_of_the_trained_model(bert: Path, name: str):
    expected = predictor(bert)(PAIRS)["cls"]
    engine, _ = make_engine(name, predictor(bert))
    tolerance = 0.1 * float(expected.abs().max()) if name == "int8" else 1e-5
    assert (engine(PAIRS)["cls"] - expected).abs().max() <= tolerance


def test_the_token_cache_tells_pairs_from_texts(tmp_path: Path):
    cache, tokenizer = TokenCache(tmp_path, [].append), words()
    single = [row.tolist() for row in cache.tokenize(PAIRS, tokenizer, 32)]
    for _ in range(2):
        found = [row.tolist() for row in cache.tokenize(PAIRS, tokenizer, 32, pairs=True)]
        assert found == rows(PAIRS, tokenizer) != single


def test_a_separator_inside_the_first_text_is_refused():
    inner = join("profit [SEP] rose", "loss")
    with pytest.raises(UserError, match=r"without '\[SEP\]'.*Found it in 'profit \[SEP\] rose'"):
        tokenize([PAIRS[0], inner], words(), 32, pairs=True)
    tokenize([join("profit", "loss [SEP] rose")], words(), 32, pairs=True)
    tokenize([inner], untyped(), 32, pairs=True)


def test_what_makes_pairs_impossible_is_found_before_training(bert: Path):
    base = predictor(bert).model.base
    check_pairs(words(), base, PAIRS, 5)
    with pytest.raises(UserError, match=r"room for both texts of a pair\. Found 4"):
        check_pairs(words(), base, PAIRS, 4)
    with pytest.raises(UserError, match=r"\[SEP\]"):
        check_pairs(words(), base, [join("a [SEP]", "b")], 32)
    odd = words()
    odd.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", pair="[CLS]:1 $A [SEP] $B:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    with pytest.raises(UserError, match="after its separator the type 1"):
        check_pairs(odd, base, PAIRS, 32)


def test_a_tokenizer_from_scratch_knows_pairs():
    tokenizer = train_tokenizer(["profit rose", "loss fell"] * 3, "wordpiece", 100, 32)
    found = tokenizer("profit", "loss", return_token_type_ids=True)
    assert tokenizer.convert_ids_to_tokens(found["input_ids"]) == [
        "[CLS]", "profit", "[SEP]", "loss", "[SEP]",
    ]  # fmt: skip
    assert found["token_type_ids"] == [0, 0, 0, 1, 1]


def test_language_modelling_trains_both_token_types(bert: Path):
    model = BertModel.from_pretrained(bert)
    before = model.embeddings.token_type_embeddings.weight.detach().clone()
    (loss,) = pretrain(
        model, words(), PAIRS * 8, epochs=1, lr=0.01, seed=0, limit=32, device=CPU,
        note=[].append, pairs=True,
    )  # fmt: skip
    moved = (model.embeddings.token_type_embeddings.weight - before).abs().amax(1)
    assert loss > 0
    assert (moved > 1e-4).all()


def test_what_is_said_of_pairs():
    assert pairs_line(words(), ("a", "b"), typed=True) == (
        "pairs of `a` and `b`: [SEP] between the two, token types 0 and 1"
    )
    assert pairs_line(letters(), ("a", "b"), typed=False) == (
        "pairs of `a` and `b`: a newline between the two, no token types"
    )
    assert "tokenizer(text, '\\n' + text_pair, " in pairs_about(letters(), ("a", "b"))["tokens"]
    assert "tokenizer(text, text_pair, " in pairs_about(words(), ("a", "b"))["tokens"]
    left = letters()
    left.truncation_side = "left"
    assert "tokenizer(text + '\\n', text_pair, " in pairs_about(left, ("a", "b"))["tokens"]


def test_typed_texts_are_pairs_where_the_run_takes_pairs():
    assert typed(["a"], ["b"], ("x", "y")) == [join("a", "b")]
    assert typed(["a"], None, ("x",)) == ["a"]
    with pytest.raises(UserError, match="with --text-pair, because the run learnt from `x` and"):
        typed(["a"], None, ("x", "y"))
    with pytest.raises(UserError, match="without --text-pair, because the run learnt from `x`"):
        typed(["a"], ["b"], ("x",))
    with pytest.raises(UserError, match=r"U\+001F"):
        typed(["a\x1f"], ["b"], ("x", "y"))


def test_new_columns_are_as_many_as_the_old():
    check_number(("a", "b"), ("x", "y"))
    with pytest.raises(UserError, match=r"should be \[COLUMN,COLUMN\].*`x` and `y`. Found `a`"):
        check_number(("a",), ("x", "y"))
    with pytest.raises(UserError, match=r"should be COLUMN, because the run learnt from `x`"):
        check_number(("a", "b"), ("x",))


def test_no_task_has_the_name_of_the_second_text():
    with pytest.raises(UserError, match=r"a column of predictions\. Found 'text_pair'"):
        load_config(overrides=["tasks=text_pair:binary"])
