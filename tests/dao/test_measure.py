import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from dao import DAOLoss, UserError, adapter_norm

TASKS = ["cls", "reg"]


@pytest.fixture
def count_backwards(toy):
    """How often a gradient passed through the encoder's last layer to what is below."""
    calls = []
    toy.encoder[2].register_full_backward_hook(lambda *_: calls.append(1))
    return lambda: len(calls)


@pytest.mark.parametrize(
    ("source", "measuring", "held"), [("params", 3, 1), ("rep", 1, 1), ("last", 1, 1)]
)
def test_number_of_encoder_backwards(toy, make_batch, count_backwards, source, measuring, held):
    balance = DAOLoss(
        TASKS, source=source, params=toy.shared(), module=toy.encoder[2], refresh_every=3
    )
    x, label, score = make_batch()
    counts = []
    for _ in range(6):
        before = count_backwards()
        z = balance.tap(toy.encoder(x))
        balance(toy.losses(z, label, score)).backward()
        counts.append(count_backwards() - before)
    assert counts == [measuring, measuring, held, measuring, held, held]


@pytest.mark.parametrize("source", ["params", "rep"])
def test_weights_touch_no_grad_no_accumulation_hook_and_no_randomness(toy, make_batch, source):
    fired = []
    for p in toy.parameters():
        p.register_post_accumulate_grad_hook(fired.append)
    balance = DAOLoss(TASKS, source=source, params=toy.shared())
    x, label, score = make_batch()
    losses = toy.losses(balance.tap(toy.encoder(x)), label, score)
    before = torch.get_rng_state()
    lam = balance.weights(losses)
    assert torch.equal(torch.get_rng_state(), before)
    assert not fired
    assert all(p.grad is None for p in toy.parameters())
    assert not any(w.requires_grad for w in lam.values())


def test_dropout_masks_do_not_depend_on_measuring(toy, make_batch):
    x, label, score = make_batch()
    dropout, results = nn.Dropout(0.5), []
    for refresh in (1, 1000):
        torch.manual_seed(3)
        balance = DAOLoss(TASKS, params=toy.shared(), alpha=0.0, refresh_every=refresh)
        results.append(
            [balance(toy.losses(dropout(toy.encoder(x)), label, score)).item() for _ in range(5)]
        )
    assert results[0] == results[1]


@pytest.mark.parametrize("kind", ["adapter", "frobenius"])
def test_representation_norm(toy, make_batch, kind):
    x, label, score = make_batch()
    balance = DAOLoss(TASKS, source="rep", rep_norm=kind)
    z = balance.tap(toy.encoder(x))
    losses = toy.losses(z, label, score)
    gradients = {t: torch.autograd.grad(v, z, retain_graph=True)[0] for t, v in losses.items()}
    balance.weights(losses)
    for task, g in gradients.items():
        expected = adapter_norm(g, z) if kind == "adapter" else g.double().norm()
        assert balance.telemetry()[task]["norm"] == pytest.approx(expected.item(), rel=1e-6)


def test_frobenius_squares_of_micro_batches_add_up_to_the_batch(toy, make_batch):
    x, label, score = make_batch(8)

    def square(rows):
        balance = DAOLoss(TASKS, source="rep", rep_norm="frobenius")
        z = balance.tap(toy.encoder(x[rows]))
        losses = toy.losses(z, label[rows], score[rows])
        balance.weights({t: loss * len(z) / 8 for t, loss in losses.items()})
        return balance.telemetry()["cls"]["norm"] ** 2

    parts = square(slice(0, 3)) + square(slice(3, 8))
    assert parts == pytest.approx(square(slice(0, 8)), rel=1e-5)


def test_a_forgotten_tap_is_a_clear_error(toy, losses):
    balance = DAOLoss(TASKS, source="rep")
    with pytest.raises(RuntimeError, match=r"Call `z = balance\.tap"):
        balance(losses)
    balance.tap(torch.ones(8, 6, requires_grad=True))
    with pytest.raises(RuntimeError, match="use what `tap` returns"):
        balance(losses)


def test_a_tap_does_not_outlive_its_step(toy, make_batch):
    x, label, score = make_batch()
    balance = DAOLoss(TASKS, source="rep", refresh_every=1)
    losses = toy.losses(balance.tap(toy.encoder(x)), label, score)
    balance(losses)
    copy.deepcopy(balance)
    with pytest.raises(RuntimeError, match=r"Call `z = balance\.tap"):
        balance(losses)


def test_frozen_and_repeated_parameters_are_passed_over(toy, losses):
    twice = toy.shared() + toy.shared() + [torch.ones(3)]
    once = DAOLoss(TASKS, params=toy.shared()).weights(losses)
    assert torch.equal(DAOLoss(TASKS, params=twice).weights(losses)["cls"], once["cls"])
    for nothing in ([], toy.encoder[1].parameters):
        with pytest.raises(UserError, match="`params` should hold a parameter"):
            DAOLoss(TASKS, params=nothing)(losses)


def test_a_generator_of_parameters_lasts(toy, losses):
    balance = DAOLoss(TASKS, params=toy.encoder.parameters(), refresh_every=1)
    balance.weights(losses)
    balance.weights(losses)
    assert balance.state.count.tolist() == [2, 2]


def test_a_task_apart_from_the_shared_parameters_counts_as_average(toy, losses):
    apart = torch.ones((), requires_grad=True)
    balance = DAOLoss([*TASKS, "own"], params=toy.shared())
    with pytest.warns(UserWarning, match="'own' does not depend on `params`"):
        lam = balance.weights(losses | {"own": apart * 2})
    assert balance.state.count.tolist() == [1, 1, 0]
    assert (lam["own"] / (lam["cls"] * lam["reg"]).sqrt()).item() == pytest.approx(1)


def test_params_hidden_by_reentrant_checkpointing_are_a_clear_error(toy, make_batch):
    x, label, score = make_batch()
    z = checkpoint(toy.encoder, x.requires_grad_(), use_reentrant=True)
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        DAOLoss(TASKS, params=toy.shared())(toy.losses(z, label, score))


def balanced_gradients(toy, make_batch, encode, source="rep"):
    """Weights and encoder gradients of one step."""
    x, label, score = make_batch()
    balance = DAOLoss(TASKS, source=source, params=toy.shared())
    toy.zero_grad()
    z = balance.tap(encode(x.requires_grad_()))
    balance(toy.losses(z, label, score)).backward()
    return balance.last["cls"].weight, [p.grad.clone() for p in toy.shared()]


@pytest.mark.parametrize(
    ("source", "reentrant"), [("rep", True), ("rep", False), ("params", False)]
)
def test_checkpointing_equals_eager(toy, make_batch, source, reentrant):
    plain, expected = balanced_gradients(toy, make_batch, toy.encoder, source)

    def encode(x):
        return checkpoint(toy.encoder, x, use_reentrant=reentrant)

    lam, got = balanced_gradients(toy, make_batch, encode, source)
    torch.testing.assert_close(lam, plain)
    torch.testing.assert_close(got, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend", ["eager", "aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]
)
def test_a_compiled_encoder_equals_eager(toy, make_batch, backend):
    from torch._inductor import config

    plain, expected = balanced_gradients(toy, make_batch, toy.encoder)
    # Else two processes start, which import torch and compile one kernel each.
    with config.patch(compile_threads=1):
        compiled = torch.compile(toy.encoder, backend=backend)
        lam, got = balanced_gradients(toy, make_batch, compiled)
    torch.testing.assert_close(lam, plain)
    torch.testing.assert_close(got, expected)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["rep", "params"])
def test_a_model_compiled_as_a_whole_runs_the_balance_uncompiled(toy, make_batch, source):
    plain, expected = balanced_gradients(toy, make_batch, toy.encoder, source)
    balance = DAOLoss(TASKS, source=source, params=toy.shared())

    @torch.compile(backend="eager")
    def step(x, label, score):
        return balance(toy.losses(balance.tap(toy.encoder(x)), label, score))

    toy.zero_grad()
    step(*make_batch()).backward()
    torch.testing.assert_close(balance.last["cls"].weight, plain)
    torch.testing.assert_close([p.grad for p in toy.shared()], expected)


class Donated(torch.autograd.Function):
    """A graph of torch.compile that gives its buffers away: which graphs do is torch's choice."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError(
            "This backward function was compiled with non-empty donated buffers which requires "
            "create_graph=False and retain_graph=False."
        )


def test_params_behind_a_compiled_encoder_are_a_clear_error(toy, make_batch):
    with pytest.raises(RuntimeError, match="donated_buffer = False"):
        balanced_gradients(toy, make_batch, lambda x: Donated.apply(toy.encoder(x)), "params")


@pytest.mark.parametrize("source", ["params", "rep"])
def test_autocast_gives_nearly_the_same_weights(toy, make_batch, source):
    plain, _ = balanced_gradients(toy, make_batch, toy.encoder, source)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lam, gradients = balanced_gradients(toy, make_batch, toy.encoder, source)
    assert lam.item() == pytest.approx(plain.item(), rel=0.03)
    assert all(g.isfinite().all() for g in gradients)


def test_a_gradient_scaler_scales_the_result_only(toy, losses):
    everything = list(toy.parameters())
    total = DAOLoss(TASKS, params=toy.shared())(losses)
    expected = torch.autograd.grad(total, everything, retain_graph=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
    scaler.scale(total).backward()
    optimizer = torch.optim.SGD(everything, lr=0.1)
    scaler.unscale_(optimizer)
    for p, want in zip(everything, expected, strict=True):
        torch.testing.assert_close(p.grad, want)


@pytest.fixture
def accelerate():
    """The library without the settings that an earlier user of it left in the process."""
    library = pytest.importorskip("accelerate")
    library.state.AcceleratorState._reset_state(True)
    yield library
    library.state.AcceleratorState._reset_state(True)


def test_a_tap_inside_forward_survives_the_casts_of_accelerate(toy, make_batch, accelerate):
    plain, _ = balanced_gradients(toy, make_batch, toy.encoder)
    balance = DAOLoss(TASKS, source="rep")

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.toy, self.balance = toy, balance

        def forward(self, x, label, score):
            return self.toy.losses(self.balance.tap(self.toy.encoder(x)), label, score)

    accelerator = accelerate.Accelerator(mixed_precision="bf16", cpu=True)
    model = accelerator.prepare(Model())
    toy.zero_grad()
    accelerator.backward(balance(model(*make_batch())))
    assert balance.last["cls"].weight.item() == pytest.approx(plain.item(), rel=0.03)
    assert all(p.grad.isfinite().all() for p in toy.parameters())


def test_a_module_in_place_of_its_parameters_is_refused(toy):
    with pytest.raises(UserError, match=r"`params` should be parameters.*module Sequential"):
        DAOLoss(TASKS, params=toy.encoder)
