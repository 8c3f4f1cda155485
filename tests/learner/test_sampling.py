"""Which rows an epoch has: the wanted shares, every row, the seed and the epoch alone."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dao.errors import UserError
from dao.learner.batches.batching import epoch_batches, micro_batches
from dao.learner.batches.sampling import make_draws, sampling_counts
from dao.learner.settings.config import load_config
from dao.learner.training.plan import make_plan

MANY, FEW = 400, 10
APART = {"many": [1] * MANY + [0] * FEW, "few": [0] * MANY + [1] * FEW}
NESTED = {"many": [1] * 100, "few": [0] * 90 + [1] * 10}


def per_epoch(labels, sampling: str) -> list[float]:
    tasks = sampling_counts(labels, sampling)["tasks"]
    return [tasks[name]["rows_per_epoch"] for name in labels]


def plan(labels, sampling: str, **flags: object):
    flags = {"train.batch_size": 8, "train.epochs": 3, "train.sampling": sampling, **flags}
    lengths = [3 + row * 7 % 40 for row in range(len(labels["many"]))]
    return make_plan(lengths, load_config(flags=flags), labels=labels)


def test_shares_by_hand():
    assert per_epoch(APART, "proportional") == [400, 10]
    assert per_epoch(APART, "equal") == [205, 205]
    # sqrt(400) : sqrt(10) = 20 : 3.1623, of 410 rows
    assert per_epoch(APART, "temperature:2") == [354.0, 56.0]
    assert per_epoch(APART, "temperature:1") == [400, 10]
    assert per_epoch(APART, "temperature:inf") == [205, 205]


def test_a_row_of_several_tasks_comes_at_the_mean_of_their_rates():
    # 90 rows at 1/100, 10 rows at the mean of 1/100 and 1/10: 0.9 to 0.55, of 100 rows
    assert per_epoch(NESTED, "equal") == [100, round(100 * 0.55 / 1.45, 1)]
    pairs = {"many": [1] * 5 + [0] * 5, "few": [1] * 5 + [0] * 5, "other": [0] * 5 + [1] * 5}
    assert per_epoch(pairs, "equal") == [5, 5, 5]  # each has five labels already


def test_equal_draws_of_an_epoch_by_hand():
    draws = make_draws(APART, "equal", seed=0)
    times = Counter(draws.rows(0).tolist())
    assert sum(times[row] for row in range(MANY)) == 205
    assert {times[row] for row in range(MANY)} == {0, 1}
    assert sorted(times[row] for row in range(MANY, MANY + FEW)) == [20] * 5 + [21] * 5
    both = times + Counter(draws.rows(1).tolist())  # 410 of 400 rows, 410 of 10
    assert Counter(both[row] for row in range(MANY)) == {1: 390, 2: 10}
    assert {both[row] for row in range(MANY, MANY + FEW)} == {41}


@pytest.mark.parametrize("labels", [APART, NESTED])
@pytest.mark.parametrize("flags", [{}, {"train.batch_tokens": 90}])
def test_temperature_one_is_the_order_of_the_default(labels, flags: dict[str, object]):
    without = make_plan(
        plan(labels, "equal", **flags).lengths,
        load_config(flags={"train.batch_size": 8, "train.epochs": 3, **flags}),
    )
    for sampling in ("proportional", "temperature:1"):
        assert list(plan(labels, sampling, **flags).batches()) == list(without.batches())
    assert list(plan(labels, "equal", **flags).batches()) != list(without.batches())


def test_tasks_with_equally_many_labels_are_drawn_as_they_are():
    labels = {"many": [1] * 50 + [0] * 50, "few": [0] * 50 + [1] * 50}
    found, default = (list(plan(labels, s).batches()) for s in ("equal", "proportional"))
    assert found == default


tables = st.lists(st.integers(1, 7), min_size=1, max_size=60).map(
    lambda rows: {t: [row >> i & 1 for row in rows] for i, t in enumerate(("many", "few", "rare"))}
)
samplings = st.one_of(
    st.floats(1, 20).map(lambda t: f"temperature:{t}"), st.sampled_from(["equal", "proportional"])
)


@pytest.mark.slow
@given(tables, samplings, st.integers(0, 3), st.integers(0, 6))
def test_every_table_keeps_its_epoch_and_its_rows(labels, sampling: str, seed: int, epochs: int):
    draws = make_draws(labels, sampling, seed)
    size = len(labels["many"])
    expected = sampling_counts(labels, sampling)["tasks"]
    if draws is None:
        assert [expected[t]["rows_per_epoch"] for t in labels] == [sum(m) for m in labels.values()]
        return
    drawn = [draws.rows(epoch).tolist() for epoch in range(epochs + 1)]
    assert all(len(rows) == size and rows == sorted(rows) for rows in drawn)
    total = Counter(row for rows in drawn for row in rows)
    kinds: dict[tuple[int, ...], list[int]] = {}
    for row in range(size):
        kinds.setdefault(tuple(mask[row] for mask in labels.values()), []).append(total[row])
    for times in kinds.values():  # one order of all its rows after another
        assert max(times) - min(times) <= 1
    for task, mask in labels.items():  # a group is rounded up or down
        found = sum(total[row] for row in range(size) if mask[row]) / len(drawn)
        assert abs(found - expected[task]["rows_per_epoch"]) <= 2 * len(kinds) / len(drawn) + 0.05
    again = make_draws(labels, sampling, seed)
    assert again.rows(epochs).tolist() == drawn[-1]


@given(tables, st.floats(1, 20))
def test_a_higher_temperature_never_takes_from_the_smallest_task(labels, temperature: float):
    numbers = {t: sum(mask) for t, mask in labels.items() if sum(mask)}
    smallest = min(numbers, key=numbers.__getitem__)
    chosen = {t: labels[t] for t in numbers}
    counts = [
        sampling_counts(chosen, s)["tasks"][smallest]["rows_per_epoch"]
        for s in ("proportional", f"temperature:{temperature}", "equal")
    ]
    assert counts[0] - 0.1 <= counts[1] <= counts[2] + 0.1


def test_the_order_depends_on_seed_and_epoch_alone():
    first, again, other = (make_draws(APART, "equal", seed) for seed in (0, 0, 1))
    assert first.rows(3).tolist() == again.rows(3).tolist()  # no epoch before it was asked for
    assert first.rows(3).tolist() != other.rows(3).tolist()
    assert first.rows(3).tolist() != first.rows(2).tolist()


@pytest.mark.parametrize("flags", [{}, {"train.batch_tokens": 90}, {"train.accumulate": 3}])
def test_resuming_continues_the_same_sequence(flags: dict[str, object]):
    p = plan(APART, "equal", **flags)
    steps = list(p.batches())
    assert [step for step, _, _ in steps] == list(range(1, p.total + 1))
    for done in {1, p.steps[0] - 1, p.steps[0], p.steps[0] + 5, p.total}:
        assert list(p.batches(done)) == steps[done:]
    if not flags:
        assert p.steps == plan(APART, "proportional").steps


def test_a_batch_has_few_copies_of_a_row():
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 60, 4200).tolist()
    drawn = make_draws({"a": [1] * 4000 + [0] * 200, "b": [0] * 4000 + [1] * 200}, "equal", 0)
    batches = epoch_batches(lengths, 16, 0, 0, drawn=drawn.rows(0))
    copies = sum(len(batch) - len(set(batch)) for batch in batches)
    assert copies < 0.05 * 2100  # side by side as sorting leaves them, they would be a third
    padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
    assert padded < 1.15 * sum(lengths[row] for batch in batches for row in batch)


@pytest.mark.parametrize("budget", [60, 100, 400])
def test_drawn_rows_keep_to_a_budget_of_tokens(budget: int):
    lengths = [3 + row * 7 % 57 for row in range(MANY + FEW)]
    rows = make_draws(APART, "equal", 0).rows(0)
    steps = epoch_batches(lengths, 8, 0, 0, budget, accumulate=2, drawn=rows)
    assert sorted(row for step in steps for row in step) == rows.tolist()
    parts = [micro_batches(step, lengths, 8, budget) for step in steps]
    assert {len(found) for found in parts} <= {1, 2}
    assert max(len(b) * max(lengths[r] for r in b) for found in parts for b in found) <= budget


LENGTHS = [3 + i * 7 % 83 for i in range(701)]


@pytest.mark.parametrize("accumulate", [1, 2, 3, 16])
def test_a_step_of_several_batches_is_one_large_batch(accumulate: int):
    steps = epoch_batches(LENGTHS, 4, 1, 2, accumulate=accumulate)
    assert steps == epoch_batches(LENGTHS, 4 * accumulate, 1, 2)
    for step in steps:
        parts = micro_batches(step, LENGTHS, 4)
        assert [row for part in parts for row in part] == list(step)
        assert all(len(part) == 4 for part in parts[:-1])
        assert len(parts) <= accumulate


def test_steps_by_tokens_are_whole_batches():
    alone = epoch_batches(LENGTHS, 8, 1, 0, 300)
    assert all(micro_batches(batch, LENGTHS, 8, 300) == [batch] for batch in alone)
    steps = epoch_batches(LENGTHS, 8, 1, 0, 300, accumulate=3)
    parts = [micro_batches(step, LENGTHS, 8, 300) for step in steps]
    assert Counter(map(len, parts))[3] > 0.9 * len(steps)
    assert sorted(row for step in steps for row in step) == list(range(701))
    assert max(len(b) * max(LENGTHS[r] for r in b) for found in parts for b in found) <= 300


def test_a_plan_counts_optimizer_steps():
    labels = {"many": [1] * 100}
    p = plan(labels, "proportional", **{"train.accumulate": 4, "train.warmup": 0.5})
    assert (p.steps, p.total, p.warmup) == ((4, 4, 4), 12, 6)  # 100 rows, 32 in a step
    assert p.validations == (2, 4, 6, 8, 10, 12)
    assert [len(p.micro_batches(rows)) for _, _, rows in p.batches()].count(4) == 9
    large = plan(labels, "proportional", **{"train.batch_size": 32, "train.warmup": 0.5})
    assert list(large.batches()) == list(p.batches())


@pytest.mark.parametrize(
    "text", ["temperature", "temperature:", "temperature:0.5", "temperature:nan", "even", "equal:2"]
)
def test_another_sampling_is_refused(text: str):
    with pytest.raises(UserError, match=rf"`train\.sampling` should be .*T from 1 on.*{text}"):
        load_config(flags={"train.sampling": text})


@pytest.mark.parametrize("name", ["uw", "gradnorm", "famo", "torchjd:UPGrad"])
def test_a_weighting_that_needs_all_losses_at_once_is_refused(name: str):
    with pytest.raises(UserError, match=f"`weighting` should be dao, .*accumulate.*'{name}'"):
        load_config(overrides=["train.accumulate=2", f"weighting={name}"])
    assert load_config(overrides=["train.accumulate=1", f"weighting={name}"]).weighting == name
