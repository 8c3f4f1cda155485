"""What makes a step fast changes no number beyond rounding, against peft and transformers alone."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers.activations import NewGELUActivation

from dao import DAOLoss
from dao.errors import UserError
from dao.learner.batches.batching import Batch, Examples, collate
from dao.learner.encoder.folded import FoldedLinear
from dao.learner.model.model import MultiTaskModel, build
from dao.learner.settings.config import Config
from dao.learner.settings.encoder_section import Encoder, Lora
from dao.learner.storage.history import History, NonFiniteError

CPU = torch.device("cpu")
OUTPUTS = {"cls": 3, "reg": 1}
MINILM = "all-MiniLM-L6-v2"


def make(name: str, precision: str, *, folded: bool = True) -> MultiTaskModel:
    cfg = Encoder(name=name, precision=precision, lora=Lora(folded=folded))
    model, _, _ = build(cfg, OUTPUTS, CPU, seed=0)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.shared_parameters():  # B starts at zero, and with it half the gradients
        parameter.data.normal_(std=0.05, generator=generator)
    return model.train()


def random_batch(model: MultiTaskModel, rows: int, seed: int, *, left: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    size = model.encoder.config.vocab_size
    lengths = torch.randint(3, 40, (rows,), generator=generator).tolist()
    ids = [torch.randint(3, size, (n,), generator=generator).tolist() for n in lengths]
    targets = {
        "cls": torch.randint(0, 3, (rows,), generator=generator),
        "reg": torch.randn(rows, generator=generator),
    }
    batch = collate(Examples(ids, targets), range(rows), 0, CPU)
    if not left:
        return batch
    moved = [
        torch.stack([row.roll(x.shape[1] - n) for row, n in zip(x, lengths, strict=True)])
        for x in (batch.input_ids, batch.attention_mask)
    ]
    return dataclasses.replace(batch, input_ids=moved[0], attention_mask=moved[1])


def loss_and_gradients(model: MultiTaskModel, batch: Batch) -> tuple[float, torch.Tensor]:
    found = model(batch.input_ids, batch.attention_mask)
    loss = F.cross_entropy(found["cls"], batch.targets["cls"])
    loss = loss + F.mse_loss(found["reg"][:, 0], batch.targets["reg"])
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, parameters)
    return loss.item(), torch.cat([g.flatten() for g in gradients])


SLOW = pytest.param("minilm", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=["phi", "bert", SLOW])
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "minilm":
        return MINILM
    return str(request.getfixturevalue(f"tiny_{request.param}"))


@pytest.fixture(scope="module")
def plain(name: str) -> MultiTaskModel:
    """fp32, LoRA in three products by peft, activations by transformers, whole layers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dao.learner.model.model.fuse_activations", lambda model: None)
        model = make(name, "fp32", folded=False)
    assert not any(isinstance(module, FoldedLinear) for module in model.modules())
    model.at_pooled = []
    return model


@pytest.fixture(scope="module")
def fast(name: str) -> MultiTaskModel:
    return make(name, "fp32")


@pytest.fixture(scope="module")
def faster(name: str) -> MultiTaskModel:
    return make(name, "bf16")


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("rows", [1, 3])
def test_fp32(fast: MultiTaskModel, plain: MultiTaskModel, rows: int, left: bool):
    for seed in range(2):
        expected_loss, expected = loss_and_gradients(plain, random_batch(plain, rows, seed))
        loss, found = loss_and_gradients(fast, random_batch(fast, rows, seed, left=left))
        assert loss == pytest.approx(expected_loss, rel=1e-5)
        assert (found - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("rows", [1, 3])
def test_bf16(faster: MultiTaskModel, plain: MultiTaskModel, rows: int, left: bool):
    assert faster.encoder.get_input_embeddings().weight.dtype == torch.bfloat16
    assert all(p.dtype == torch.float32 for p in faster.parameters() if p.requires_grad)
    expected_loss, expected = loss_and_gradients(plain, random_batch(plain, rows, 0))
    loss, found = loss_and_gradients(faster, random_batch(faster, rows, 0, left=left))
    assert loss == pytest.approx(expected_loss, rel=2e-2)
    assert F.cosine_similarity(found, expected, dim=0) >= 0.999


def test_phi_has_no_slow_activation(tiny_phi: Path):
    model = make(str(tiny_phi), "fp32")
    kinds = {type(module) for module in model.modules()}
    assert torch.nn.GELU in kinds
    assert NewGELUActivation not in kinds


def test_a_step_between_measurements_reads_nothing_back():
    # A tensor on the meta device has no value: reading one raises.
    balance = DAOLoss(
        ["cls", "reg"], params=torch.nn.Linear(2, 2).parameters(), check_finite="measured"
    )
    losses = {task: torch.ones((), device="meta", requires_grad=True) for task in OUTPUTS}
    balance.state.turns += 3
    assert not balance.is_due(losses)
    balance(losses).backward()
    assert balance.last["cls"].loss.device.type == "meta"
    balance.state.turns += 46  # 50 calls lie behind
    assert balance.is_due(losses)
    with pytest.raises(UserError, match="a device without numbers"):
        balance(losses)


def test_history_names_the_first_step_that_was_not_finite():
    written: list[dict] = []
    history = History(CPU, written.append, every=3)
    balance = DAOLoss(["cls"], params=[torch.nn.Parameter(torch.ones(1))], alpha=0.0)
    for step in (1, 2, 3):
        history.begin()
        loss = torch.tensor(float(step), requires_grad=True)
        history.watch(step, {"cls": loss, "reg": None})
        history.add({"step": step, "tokens": 7}, loss, balance.last)
        assert len(written) == (3 if step == 3 else 0)
    assert [row["loss"] for row in written] == [1.0, 2.0, 3.0]
    assert all(row["tokens_per_s"] > 0 and row["memory_mib"] > 0 for row in written)
    history.watch(4, {"cls": torch.tensor(1.0)})
    history.watch(5, {"cls": torch.tensor(torch.inf)})
    history.watch(6, {"cls": torch.tensor(torch.nan)})
    with pytest.raises(NonFiniteError, match="cls is inf at step 5"):
        history.flush()


def test_speed_is_that_of_the_steps_since_the_last_reading(monkeypatch: pytest.MonkeyPatch):
    now = [1.0]
    monkeypatch.setattr("dao.learner.storage.history.time.perf_counter", lambda: now[0])
    written: list[dict] = []
    history = History(CPU, written.append, every=4)
    for step in range(1, 9):
        history.begin()
        now[0] += 1.0
        if step in (2, 3):
            history.flush()  # as a measurement does, in the middle of a step
        history.add({"step": step, "tokens": 10}, torch.tensor(1.0), {})
    history.flush()
    assert [row["tokens_per_s"] for row in written] == [10.0] * 8


def test_a_total_that_is_not_finite_stops_the_run():
    history = History(CPU, lambda row: None, every=1)
    with pytest.raises(NonFiniteError, match="weighted sum is nan at step 7"):
        history.add({"step": 7, "tokens": 1}, torch.tensor(torch.nan), {})


def test_fp16_is_refused_with_the_reason():
    with pytest.raises(ValueError, match="overflows in Phi's attention"):
        Config(encoder={"precision": "fp16"})
