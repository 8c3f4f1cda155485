"""Batches: complete, of similar length, within their budget, decided by the seed alone."""

import zlib

import pytest
import torch

from dao.errors import UserError
from dao.learner.batches.batching import Examples, collate, epoch_batches, sorted_batches
from dao.learner.batches.tokens import tokenize

LENGTHS = torch.randint(3, 90, (701,), generator=torch.Generator().manual_seed(0)).tolist()

FROZEN = [(3, 4, 6), (0, 8, 7), (5, 2, 10), (1, 9)]
FROZEN_MANY = 0x2A9CD433  # of 88 batches in two windows


def test_every_row_once_and_full_batches():
    batches = epoch_batches(LENGTHS, 8, seed=1, epoch=0)
    assert sorted(row for batch in batches for row in batch) == list(range(701))
    assert sorted(map(len, batches))[:2] == [5, 8]


def test_order_depends_on_seed_and_epoch_only():
    first = epoch_batches(LENGTHS, 8, seed=1, epoch=0)
    torch.randn(3)  # the global generator has no part in it
    assert epoch_batches(LENGTHS, 8, seed=1, epoch=0) == first
    assert epoch_batches(LENGTHS, 8, seed=1, epoch=1) != first
    assert epoch_batches(LENGTHS, 8, seed=2, epoch=0) != first


def test_batches_by_row_count_stay_what_they_were():
    lengths = [5, 9, 4, 7, 7, 3, 8, 6, 5, 9, 4]
    assert epoch_batches(lengths, 3, seed=1, epoch=2) == FROZEN
    many = epoch_batches([3 + i * 7 % 83 for i in range(701)], 8, seed=1, epoch=2)
    assert zlib.crc32(repr(many).encode()) == FROZEN_MANY


def padded(batch: tuple[int, ...]) -> int:
    return len(batch) * max(LENGTHS[i] for i in batch)


@pytest.mark.parametrize("budget", [89, 90, 300, 1024, 10**6])
def test_batches_by_tokens_are_complete_and_within_their_budget(budget: int):
    batches = epoch_batches(LENGTHS, 8, seed=1, epoch=0, batch_tokens=budget)
    assert sorted(row for batch in batches for row in batch) == list(range(701))
    assert max(map(padded, batches)) <= budget
    assert epoch_batches(LENGTHS, 3, seed=1, epoch=0, batch_tokens=budget) == batches


def test_batches_by_tokens_fill_their_budget():
    batches = epoch_batches(LENGTHS, 8, seed=1, epoch=0, batch_tokens=512)
    filled = sum(map(padded, batches)) / (512 * len(batches))
    real = sum(LENGTHS) / sum(map(padded, batches))
    assert filled > 0.9
    assert real > 0.9
    assert len({len(batch) for batch in batches}) > 5
    other = epoch_batches(LENGTHS, 8, seed=1, epoch=1, batch_tokens=512)
    assert batches != other


def test_batches_by_tokens_by_hand():
    batches = epoch_batches([2, 5, 3, 2, 4], 8, seed=0, epoch=0, batch_tokens=6)
    # Ascending 2 2 3 4 5: three rows of 2, 2, 3 would be 9 padded tokens, two of 3, 4 would be 8.
    assert sorted(map(sorted, batches)) == [[0, 3], [1], [2], [4]]


def test_a_budget_below_the_longest_row_is_refused():
    with pytest.raises(UserError, match=r"`train\.batch_tokens`.*Found 88, and a row of 89 tokens"):
        epoch_batches(LENGTHS, 8, seed=1, epoch=0, batch_tokens=88)


def test_rows_of_a_batch_are_of_similar_length():
    def waste(batches):
        cells = sum(len(b) * max(LENGTHS[i] for i in b) for b in batches)
        return cells / sum(LENGTHS)

    order = torch.randperm(701, generator=torch.Generator().manual_seed(0)).tolist()
    unsorted = [order[i : i + 8] for i in range(0, 701, 8)]
    assert waste(epoch_batches(LENGTHS, 8, 0, 0)) < 1.1 < 1.5 < waste(unsorted)


def test_evaluation_starts_with_the_longest():
    batches = list(sorted_batches([3, 9, 5, 9], 2))
    assert batches == [(1, 3), (2, 0)]


def test_padding():
    examples = Examples([[7, 8, 9], [5]], {"cls": torch.tensor([1, -100])})
    batch = collate(examples, (1, 0), 0, torch.device("cpu"))
    assert batch.input_ids.tolist() == [[5, 0, 0], [7, 8, 9]]
    assert batch.attention_mask.tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch.targets["cls"].tolist() == [-100, 1]
    assert batch.tokens == 4


def test_digest_tells_rows_and_order_apart():
    examples = Examples([[1], [2]], {})
    device = torch.device("cpu")
    digests = {collate(examples, rows, 0, device).digest for rows in ((0, 1), (1, 0), (0,))}
    assert len(digests) == 3


def test_arrow_rows_make_the_same_batch_as_lists(tiny_phi):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_phi)
    tokens = tokenize(["profit rose", "loss", "sales fell sharply"], tokenizer, limit=9)
    targets = {"reg": torch.tensor([0.5, 1.5, 2.5])}
    device = torch.device("cpu")
    arrow = Examples(tokens, targets)
    lists = Examples([[int(i) for i in row] for row in tokens], targets)
    assert arrow.lengths == lists.lengths == [2, 1, 3]
    one, other = (collate(examples, (2, 0), 0, device) for examples in (arrow, lists))
    assert one.input_ids.equal(other.input_ids)
    assert one.input_ids.dtype == torch.long
    assert one.attention_mask.equal(other.attention_mask)
    assert one.targets["reg"].tolist() == [2.5, 0.5]
    assert (one.digest, one.tokens) == (other.digest, other.tokens)
