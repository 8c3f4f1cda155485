"""The timetable: the same in every arm, complete, and with room for growth."""

import math
import random

import pytest
import torch

from dao.errors import UserError
from dao.learner.settings.config import Config, load_config
from dao.learner.training.plan import Plateau, make_plan

LENGTHS = [5 + i % 40 for i in range(100)]


def plan(**flags: object):
    return make_plan(LENGTHS, load_config(flags={"train.batch_size": 10, **flags}))


def test_steps_epochs_and_validations():
    p = plan(**{"train.epochs": 3, "train.validations_per_epoch": 2})
    assert (p.steps, p.total) == ((10, 10, 10), 30)
    assert p.validations == (5, 10, 15, 20, 25, 30)
    steps = list(p.batches())
    assert [(s, e) for s, e, _ in steps][9:11] == [(10, 1), (11, 2)]
    for epoch in (1, 2, 3):
        assert sorted(r for _, e, rows in steps if e == epoch for r in rows) == list(range(100))


@pytest.mark.parametrize(
    ("limit", "count"), [(1, 1), (2, 2), (7, 2), (11, 4), (40, 8), (41, 10), (42, 10), (50, 10)]
)
def test_a_last_epoch_cut_short_does_not_thin_the_validations(limit: int, count: int):
    cfg = load_config(flags={"train.batch_size": 10, "train.validations_per_epoch": 2})
    p = make_plan(LENGTHS, cfg, limit)
    assert (p.total, len(p.validations)) == (limit, count)
    assert p.validations[-1] == limit
    assert len(set(p.validations)) == count
    dense = cfg.model_copy(update={"train": cfg.train.model_copy(update={
        "validations_per_epoch": 10})})  # fmt: skip
    assert make_plan(LENGTHS, dense, limit).validations == tuple(range(1, limit + 1))


def test_a_number_of_validations_does_not_depend_on_epochs():
    cfg = load_config(flags={"train.batch_size": 10})
    assert make_plan(LENGTHS, cfg, 500, 5).validations == (100, 200, 300, 400, 500)
    assert make_plan(LENGTHS, cfg, 3, 5).validations == (1, 2, 3)


def test_four_arms_see_the_same_batches():
    arms = [
        {"weighting": "dao" if dao else "equal", "dendrites.enabled": dendrites}
        for dao in (False, True)
        for dendrites in (False, True)
    ]
    assert len({tuple(plan(**arm).batches()) for arm in arms}) == 1


def test_early_stopping_counts_the_validations_since_the_best():
    p = plan(**{"train.epochs": 3, "train.early_stopping": 2})
    assert p.validations == (5, 10, 15, 20, 25, 30)
    stops = {best: [s for s in range(1, 31) if p.stops_after(s, best)] for best in (5, 10, 25)}
    assert stops == {5: [*range(15, 31)], 10: [*range(20, 31)], 25: []}
    assert not any(plan(**{"train.epochs": 3}).stops_after(s, 5) for s in range(31))


BY_TOKENS = {"train.batch_tokens": 44, "train.epochs": 5}


@pytest.mark.parametrize("flags", [{}, BY_TOKENS])
def test_resuming_continues_the_same_sequence(flags: dict[str, object]):
    p = plan(**flags)
    steps = list(p.batches())
    assert [step for step, _, _ in steps] == list(range(1, p.total + 1))
    for done in {*range(0, p.total, 9), p.steps[0], p.total}:
        assert list(p.batches(done)) == steps[done:]


def test_epochs_cut_by_tokens_have_steps_of_their_own():
    p = plan(**BY_TOKENS, **{"train.validations_per_epoch": 2, "train.warmup": 0.2})
    steps = list(p.batches())
    counts = [sum(e == epoch for _, e, _ in steps) for epoch in range(1, 6)]
    assert list(p.steps) == counts
    assert len(set(counts)) > 1
    assert p.total == sum(counts)
    assert p.warmup == round(0.2 * p.total)
    assert (len(p.validations), p.validations[-1]) == (10, p.total)
    assert p.rate(p.total) > 0
    for epoch in range(1, 6):
        assert sorted(r for _, e, rows in steps if e == epoch for r in rows) == list(range(100))


def test_a_growth_finds_its_place_among_uneven_epochs():
    p = plan(**BY_TOKENS, **{"dendrites.enabled": True, "dendrites.grow_at": [0.4]})
    assert p.growths == (min(p.validations, key=lambda v: abs(v - 0.4 * p.total)),)


def test_a_row_that_fits_no_batch_is_refused():
    with pytest.raises(UserError, match="Found 40, and a row of 44 tokens"):
        plan(**{"train.batch_tokens": 40})


def test_rate_rises_falls_and_restarts_after_growth():
    p = plan(**{"train.epochs": 10, "train.warmup": 0.3})
    rates = [p.rate(step) for step in range(1, 101)]
    assert rates[0] == pytest.approx(1 / 30)
    assert max(rates) == rates[29] == 1.0
    assert rates[-1] == pytest.approx(1 / 70)
    assert p.rate(51, grown_at=50) == pytest.approx(p.rate(51) / 10)
    assert p.rate(60, grown_at=50) == p.rate(60)


def test_growth_falls_on_the_nearest_validation_before_the_last():
    p = plan(**{"dendrites.enabled": True, "dendrites.grow_at": [0.4], "train.epochs": 2,
                "train.validations_per_epoch": 2})  # fmt: skip
    assert p.growths == (10,)
    assert plan(**{"dendrites.grow_at": [0.4]}).growths == ()
    for rows in (90, 101, 130):  # an odd number of steps rounds the first validation down
        short = load_config(flags={"dendrites.enabled": True, "train.epochs": 1,
                                   "train.batch_size": 10})  # fmt: skip
        p = make_plan(LENGTHS[:1] * rows, short)
        assert p.growths == p.validations[:1]


@pytest.mark.parametrize(("points", "epochs"), [([0.5], 1), ([0.3, 0.4], 2)])
def test_growth_without_training_behind_it_is_refused(points: list[float], epochs: int):
    with pytest.raises(UserError, match=r"dendrites\.grow_at.*raise train\."):
        plan(**{"dendrites.enabled": True, "dendrites.grow_at": points, "train.epochs": epochs,
                "train.validations_per_epoch": 1})  # fmt: skip


def test_few_steps_still_validate_at_the_end():
    p = make_plan([4, 5, 6], Config())
    assert set(p.steps) == {1}
    assert p.validations == tuple(range(1, p.total + 1))


def rates(**flags: object) -> list[float]:
    p = plan(**{"train.epochs": 4, "train.batch_size": 25, "train.warmup": 0.25, **flags})
    assert (p.total, p.warmup) == (16, 4)
    return [p.rate(step) for step in range(1, 17)]


def test_schedules_by_hand():
    up = [0.25, 0.5, 0.75]
    assert rates() == pytest.approx([*up, 1, *(1 - i / 12 for i in range(12))])
    assert rates(**{"train.schedule": "constant"}) == [*up, *[1.0] * 13]
    cosine = rates(**{"train.schedule": "cosine"})
    assert cosine[:5] == [*up, 1.0, 1.0]
    assert cosine[10] == pytest.approx(0.5)  # 6 of the 12 steps after the warm-up are done
    assert cosine[15] == pytest.approx((1 + math.cos(math.pi * 11 / 12)) / 2)
    assert sorted(cosine[3:], reverse=True) == cosine[3:]


def test_the_step_schedule_falls_at_the_ends_of_epochs():
    every = rates(**{"train.schedule": "step", "train.gamma": 0.1})
    assert every == pytest.approx([0.25, 0.5, 0.75, 1] + [0.1] * 4 + [0.01] * 4 + [0.001] * 4)
    second = {"train.schedule": "step", "train.gamma": 0.5, "train.step_size": 2}
    assert rates(**second) == pytest.approx([0.25, 0.5, 0.75, *[1] * 5, *[0.5] * 8])
    grown = plan(**{"train.epochs": 4, "train.batch_size": 25, "train.warmup": 0.4, **second})
    assert grown.warmup == 6
    after = [grown.rate(step, grown_at=8) for step in (9, 10, 11)]
    assert after == pytest.approx([0.25, 0.5, 0.5])


def test_no_schedule_falls_below_its_floor():
    up = [0.25, 0.5, 0.75]
    floored = rates(**{"train.rate_floor": 0.5})
    assert floored == pytest.approx([*up, 1, *(max(0.5, 1 - i / 12) for i in range(12))])
    assert rates(**{"train.schedule": "cosine", "train.rate_floor": 0.3})[-1] == 0.3
    step = {"train.schedule": "step", "train.gamma": 0.1, "train.rate_floor": 0.05}
    assert rates(**step) == pytest.approx([*up, 1, *[0.1] * 4, *[0.05] * 8])
    grown = plan(**{"train.epochs": 10, "train.warmup": 0.3, "train.rate_floor": 0.5})
    after = [grown.rate(step, grown_at=90) for step in range(91, 101)]
    assert after == pytest.approx([0.5 * i / 10 for i in range(1, 11)])


def test_a_plateau_multiplies_the_rate():
    p = plan(**{"train.schedule": "plateau", "train.gamma": 0.5, "train.rate_floor": 0.2,
                "train.epochs": 4, "train.warmup": 0})  # fmt: skip
    assert [p.rate(step, cuts=cuts) for step in (1, 40) for cuts in range(4)] == [
        1.0, 0.5, 0.25, 0.2, 1.0, 0.5, 0.25, 0.2,
    ]  # fmt: skip


@pytest.mark.parametrize("patience", [0, 1, 3])
def test_a_plateau_is_that_of_torch(patience: int):
    rng = random.Random(patience)
    weight = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=patience, threshold=0.0, eps=0.0
    )
    best, now = -math.inf, Plateau()
    for _ in range(60):
        score = rng.random()
        now = now.after(patience, better=score > best, grown=False)
        best = max(best, score)
        scheduler.step(score)
        assert optimizer.param_groups[0]["lr"] == 0.5**now.cuts
    assert now.cuts > 5


def test_a_growth_begins_the_count_anew():
    now = Plateau(cuts=3, since=1)
    assert now.after(2, better=False, grown=True) == Plateau()
    assert now.after(2, better=True, grown=False) == Plateau(3, 0)
