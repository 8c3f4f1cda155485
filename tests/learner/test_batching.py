"""Batches: complete, of similar length, decided by the seed alone; padding on either side."""

import torch

from dao.learner.batching import Examples, collate, epoch_batches, sorted_batches, tokenize

LENGTHS = torch.randint(3, 90, (701,), generator=torch.Generator().manual_seed(0)).tolist()


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


def test_tokenize_cuts_and_never_returns_nothing(tiny_phi):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_phi)
    ids = tokenize(["profit rose", "", "profit rose sharply [EOS]"], tokenizer, limit=3)
    assert ids[0] == [3, 8]
    assert ids[1] == [tokenizer.eos_token_id]
    assert ids[2] == [3, 8, 12]
