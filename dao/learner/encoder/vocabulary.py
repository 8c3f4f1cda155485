"""A tokenizer learned from texts: word pieces, or single characters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from dao.errors import UserError

__all__ = ["SPECIAL", "train_tokenizer"]

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Special tokens of BERT (Devlin et al. 2019), with the ids 0 to 4."""
CONTINUED = "##"  # in front of a piece that does not begin its word
ALPHABET = 1000  # characters at most that may begin or continue a word; rarer ones are unknown
OFTEN = 2  # times that two pieces have to meet to become one


def train_tokenizer(
    texts: Sequence[str], kind: Literal["wordpiece", "characters"], vocabulary: int, limit: int
) -> PreTrainedTokenizerFast:
    """Learn a vocabulary; equal texts give an equal one. A text becomes [CLS] ... [SEP].

    A pair becomes [CLS] ... [SEP] ... [SEP], its second text with its [SEP] of token type 1.

    Args:
        texts: to learn from.
        kind: `wordpiece`, pieces of lower-cased words without accents as BERT has them;
            `characters`, every character but white space a token of its own.
        vocabulary: entries at most, with the special ones. Each character of word pieces takes
            two, one where it begins a word and one where it continues it; the most frequent get
            them.
        limit: tokens that the model has positions for.

    Raises:
        UserError: the texts have no character to learn.
    """
    made = _pieces(texts, vocabulary) if kind == "wordpiece" else _characters(texts, vocabulary)
    if made.get_vocab_size() == len(SPECIAL):
        raise UserError(
            f"The training texts should have characters to learn a tokenizer from. Found "
            f"{len(texts)} texts without any. Name the text column with data.text=COLUMN."
        )
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", SPECIAL.index("[CLS]")), ("[SEP]", SPECIAL.index("[SEP]"))],
    )
    pad, unknown, first, last, mask = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token=pad, unk_token=unknown, cls_token=first, sep_token=last,
        mask_token=mask, model_max_length=limit,
    )  # fmt: skip


def _pieces(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    words = pre_tokenizers.BertPreTokenizer()
    normal = normalizers.BertNormalizer(lowercase=True)
    split = [
        [word for word, _ in words.pre_tokenize_str(normal.normalize_str(text))] for text in texts
    ]
    counts = Counter(character for row in split for word in row for character in word)
    room = min(ALPHABET, (vocabulary - len(SPECIAL)) // 2)
    common = sorted(counts, key=lambda character: (-counts[character], character))[:room]
    # The library numbers the continuing characters in the order of a hash table, another one in
    # each process, and breaks ties by these numbers; named beforehand, they have an order.
    continued = [CONTINUED + character for character in sorted(common)]
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    learner.train_from_iterator(
        _spelt(split, frozenset(common)),
        trainers.WordPieceTrainer(
            vocab_size=vocabulary,
            special_tokens=[*SPECIAL, *continued],
            min_frequency=OFTEN,
            show_progress=False,
        ),
    )
    made = Tokenizer(models.WordPiece(learner.get_vocab(), unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normal, words
    made.decoder = decoders.WordPiece()
    return made


def _spelt(split: Sequence[Sequence[str]], common: frozenset[str]) -> Iterator[str]:
    for row in split:
        yield " ".join(word for word in row if common.issuperset(word))


def _characters(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    made = Tokenizer(models.WordLevel({}, unk_token="[UNK]"))
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("."), "isolated")]
    )
    made.train_from_iterator(
        texts,
        trainers.WordLevelTrainer(
            vocab_size=vocabulary, special_tokens=list(SPECIAL), show_progress=False
        ),
    )
    return made
