"""What is said, once, where a task is balanced less than asked; and where silence is right."""

import warnings
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from dao import DAOLoss
from dao.notices import Seen, drifted

TASKS = ["cls", "reg"]


@contextmanager
def told():
    """The texts of all warnings."""
    texts = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield texts
    texts += [str(warning.message) for warning in caught]


def steps(balance, toy, make_batch, count, change=lambda losses: losses):
    for seed in range(count):
        x, label, score = make_batch(seed=seed)
        balance(change(toy.losses(balance.tap(toy.encoder(x)), label, score)))


def test_a_bound_that_binds_is_told_once_with_the_tasks_it_moves(toy, make_batch):
    tasks = [*TASKS, "big", "huge"]
    balance = DAOLoss(tasks, params=toy.shared(), max_ratio=100, refresh_every=1)
    free = DAOLoss(tasks, params=toy.shared(), refresh_every=1)

    def more(losses):
        return losses | {"big": 1e4 * losses["reg"], "huge": 1e9 * losses["cls"]}

    with told() as texts:
        steps(balance, toy, make_batch, 5, more)
        steps(free, toy, make_batch, 1, more)
    rows = [row["weight"] for row in free.telemetry().values()]
    assert texts == [
        "`max_ratio=100` holds the weight of big, huge up: without this bound the largest weight "
        f"would be {max(rows) / min(rows):.3g} times the smallest. Such a task pulls harder than "
        "the others. Give None as `max_ratio` to balance them."
    ]


def test_a_bound_that_never_binds_is_silent(toy, make_batch):
    balance = DAOLoss(TASKS, params=toy.shared(), max_ratio=1e4, refresh_every=1)
    with told() as texts:
        steps(balance, toy, make_batch, 5)
        balance.eval()
        steps(balance, toy, make_batch, 1)
    assert texts == []


def test_a_bound_among_present_tasks_only(toy, make_batch):
    for absent, count in (("hold", 1), ("renormalize", 0)):
        balance = DAOLoss(TASKS, params=toy.shared(), max_ratio=10, absent=absent, refresh_every=1)

        def one(losses, absent=absent):
            scaled = losses | {"reg": 1e6 * losses["reg"]}
            return scaled if absent == "hold" else {"reg": scaled["reg"]}

        with told() as texts:
            steps(balance, toy, make_batch, 3, one)
        assert len(texts) == count


@pytest.mark.parametrize("source", ["params", "rep", "last"])
def test_a_head_apart_from_what_is_shared_is_told_in_the_first_step(toy, make_batch, source):
    places = {"params": "`params`", "rep": "the tapped representation", "last": "`module`"}
    balance = DAOLoss([*TASKS, "own"], source=source, params=toy.shared(), module=toy.encoder[2])
    early = nn.Linear(6, 1)

    def more(losses):
        hidden = toy.encoder[0](torch.ones(2, 4))
        reached = hidden if source != "params" else hidden.detach()
        return losses | {"own": early(reached).square().mean()}

    for count in (1, 0):  # told once
        with told() as texts:
            steps(balance, toy, make_batch, count or 60, more)
        assert len(texts) == count
        assert all(f"'own' does not depend on {places[source]}, so" in text for text in texts)


@pytest.mark.parametrize(("source", "measured"), [("params", 4), ("rep", 59)])
def test_heads_that_start_at_zero_are_no_false_alarm(toy, make_batch, source, measured):
    for p in toy.heads.parameters():
        nn.init.zeros_(p)
    optimizer = torch.optim.SGD(toy.parameters(), lr=0.1)
    balance = DAOLoss(TASKS, source=source, params=toy.shared())
    with told() as texts:
        for seed in range(60):
            x, label, score = make_batch(seed=seed)
            balance(toy.losses(balance.tap(toy.encoder(x)), label, score)).backward()
            optimizer.step()
            optimizer.zero_grad()
            # Not wrong for being silent: the first step has measured zero.
            assert balance.state.count.tolist() == [0, 0] or seed > 0
    assert texts == []
    assert balance.state.count.tolist() == [measured, measured]


def test_a_gradient_that_is_always_zero_is_told_after_some_steps(toy, make_batch):
    balance = DAOLoss(TASKS, params=toy.shared(), refresh_every=1)
    with told() as texts:
        steps(balance, toy, make_batch, 30, lambda losses: losses | {"reg": 0 * losses["reg"]})
    assert len(texts) == 1
    assert (
        "The gradient of 'reg' at `params` has been exactly zero at every measurement" in texts[0]
    )


def test_a_hinge_that_every_row_satisfies_is_told_once_and_in_its_own_words(toy, make_batch):
    balance = DAOLoss(TASKS, params=toy.shared(), refresh_every=1)

    def hinge(losses):
        return losses | {"reg": (losses["reg"] - 1e3).relu()}

    with told() as texts:
        steps(balance, toy, make_batch, 3)
        held = balance.state.log_ema.clone()
        steps(balance, toy, make_batch, 20, hinge)
    assert len(texts) == 1
    assert "'reg' at `params` is exactly zero in this batch, and was larger before" in texts[0]
    assert balance.state.log_ema[1] == held[1]


def test_each_silent_task_is_told(toy, make_batch):
    balance = DAOLoss(TASKS, params=toy.shared(), refresh_every=1)
    with told() as texts:
        steps(balance, toy, make_batch, 3)
        for task in TASKS * 2:
            steps(balance, toy, make_batch, 2, lambda f, t=task: f | {t: 0 * f[t]})
    assert [text.split("'")[1] for text in texts] == TASKS


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_a_loss_that_jumps_is_told_once_and_followed_in_the_time_that_is_said(
    toy, make_batch, scale
):
    balance = DAOLoss(TASKS, params=toy.shared(), refresh_every=1)

    def jump(losses):
        return losses | {"reg": scale * losses["reg"]}

    def share():
        return balance.telemetry()["reg"]["share"]

    with told() as texts:
        steps(balance, toy, make_batch, 30)
        assert 0.1 < share() < 0.9
        steps(balance, toy, make_batch, 1, jump)
        assert share() > 0.99 if scale > 1 else share() < 0.01
        steps(balance, toy, make_batch, 13, jump)
        assert not 0.1 < share() < 0.9  # half of the time that is said
        steps(balance, toy, make_batch, 14, jump)
        assert 0.2 < share() < 0.8
    (text,) = texts
    assert 26 <= int(text.split("in about ")[1].split()[0]) <= 29
    assert f"its weight too {'large' if scale > 1 else 'small'} by" in text
    # A tenth of the jump was taken in at once; batches differ by a factor of some two.
    assert 0.2 < float(text.split(" is ")[1].split()[0]) / scale**0.9 < 5


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_a_loss_of_another_scale_from_the_start_is_balanced_in_silence(toy, make_batch, scale):
    balance = DAOLoss(TASKS, params=toy.shared())
    with told() as texts:
        steps(balance, toy, make_batch, 60, lambda f: f | {"reg": scale * f["reg"]})
    assert texts == []
    assert 0.1 < balance.telemetry()["reg"]["share"] < 0.9


def test_without_memory_a_jump_is_followed_at_once_and_in_silence(toy, make_batch):
    balance = DAOLoss.paper(TASKS, toy.shared())
    with told() as texts:
        steps(balance, toy, make_batch, 3)
        steps(balance, toy, make_batch, 1, lambda f: f | {"reg": 1e8 * f["reg"]})
    assert texts == []
    assert balance.telemetry()["reg"]["share"] == pytest.approx(0.5)


def _constant(losses):
    return losses | {"cls": losses["cls"].detach()}


def _broken(losses):
    return losses | {"reg": losses["reg"] * torch.nan}


def _silent(losses):
    return losses | {"cls": torch.ones((), requires_grad=True) * 1}


TROUBLES = {
    "without a graph": (_constant, {}, False),
    "NaN": (_broken, {}, False),
    "not depending on the parameters": (_silent, {"refresh_every": 1}, False),
    "bound": (lambda losses: losses, {"max_ratio": 1.0001, "refresh_every": 1}, False),
    "frozen": (lambda losses: losses, {}, True),
}


@pytest.mark.parametrize("through", ["call", "weights"])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_warning_is_given_once_and_names_the_line_that_called(
    toy, make_batch, trouble: str, through: str
):
    change, options, frozen = TROUBLES[trouble]
    if frozen:
        toy.encoder.requires_grad_(False)
    balance = DAOLoss(TASKS, params=toy.shared, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for seed in range(3):
            x, label, score = make_batch(seed=seed)
            losses = change(toy.losses(toy.encoder(x), label, score))
            balance(losses) if through == "call" else balance.weights(losses)
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize(("source", "alpha", "expected"), [
    ("params", 1.0, True), ("rep", 1.0, True), ("params", 0.0, False),
])  # fmt: skip
def test_a_weight_that_leaves_its_start_is_told_once(toy, make_batch, source, alpha, expected):
    """A task whose loss fades, as that of a task that is learnt."""
    balance = DAOLoss(
        TASKS, params=toy.shared(), source=source, refresh_every=1, alpha=alpha, ema=0.5
    )
    with told() as texts:
        for seed in range(60):
            x, label, score = make_batch(seed=seed)
            losses = toy.losses(balance.tap(toy.encoder(x)), label, score)
            balance(losses | {"reg": losses["reg"] * 0.8 ** min(seed, 40)})  # 1.3e-4, from .21
    drift = [text for text in texts if "what it began with" in text]
    assert texts == drift
    assert [text.split("'")[1] for text in drift] == ["reg"] * expected
    assert all("gradient vanishes" in text for text in drift)


def test_a_weight_that_falls_is_told_without_advice_on_priors():
    rows = {
        "a": Seen(1e4, 9.2, 90, 99, 0.0), "b": Seen(1.0, 0.0, 90, 99, 0.0),
        "c": Seen(1.0, 0.1, 90, 99, 0.0), "d": Seen(1.0, 0.1, 3, 99),
    }  # fmt: skip
    ((task, text),) = drifted(rows, alpha=1.0).items()
    assert task == "a"
    assert "is 0.00011 times what it began with, as its gradient grows" in text
    assert "priors" not in text
    assert drifted(rows, alpha=0.5) == {}  # half as far: a hundredfold


def test_a_bound_keeps_a_weight_from_leaving_its_start(toy, make_batch):
    balance = DAOLoss(TASKS, params=toy.shared(), refresh_every=1, max_ratio=10.0, ema=0.5)
    with told() as texts:
        for seed in range(60):
            x, label, score = make_batch(seed=seed)
            losses = toy.losses(toy.encoder(x), label, score)
            balance(losses | {"reg": losses["reg"] * 0.8**seed})
    assert len(texts) == 1
    assert "`max_ratio=10` holds" in texts[0]


def test_the_start_is_kept_in_the_state(toy, make_batch):
    first = DAOLoss(TASKS, params=toy.shared(), refresh_every=1)
    steps(first, toy, make_batch, 7)
    assert first.state.log_start.isnan().all()
    steps(first, toy, make_batch, 1)
    assert first.state.log_start.tolist() == first.state.log_ema.tolist()
    start = first.state.log_start.clone()
    steps(first, toy, make_batch, 5)
    second = DAOLoss(TASKS[::-1], params=toy.shared(), refresh_every=1)
    second.load_state_dict(first.state_dict())
    assert second.state.log_start.tolist() == start.flip(0).tolist()
    earlier = {k: v for k, v in first.state_dict().items() if not k.endswith("log_start")}
    second.load_state_dict(earlier)
    assert second.state.log_start.isnan().all()
    second.reset()
    assert second.state.log_start.isnan().all()
