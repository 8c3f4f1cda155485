"""Copies, pickles and loaded models that hold the loss train by themselves."""

import copy
import functools
import io
import pickle

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from dao import DAOLoss

TASKS = ["cls", "reg"]
PARAMS = {
    "parameters()": lambda toy: toy.encoder.parameters(),
    "parameters": lambda toy: toy.encoder.parameters,
    "partial": lambda toy: functools.partial(nn.Module.parameters, toy.encoder),
}


class Whole(nn.Module):
    """A model that holds its loss; `first` registers the loss before the encoder."""

    def __init__(self, toy, balance, first=False):
        super().__init__()
        for name, part in [("balance", balance), ("toy", toy)][:: 1 if first else -1]:
            setattr(self, name, part)

    def forward(self, x, label, score):
        z = self.balance.tap(self.toy.encoder(x))
        return self.balance(self.toy.losses(z, label, score))


def step(model, data):
    """One step of SGD; the weights, and the parameters after it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(*data).backward()
    optimizer.step()
    rows = model.balance.telemetry()
    return {t: row["weight"] for t, row in rows.items()}, [p.detach() for p in model.parameters()]


def by_pickle(model):
    return pickle.loads(pickle.dumps(model))


def by_torch(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("params", PARAMS)
@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, by_pickle, by_torch, lambda m: AveragedModel(m).module]
)
def test_a_copy_trains_by_itself(toy, make_batch, params, duplicate, first):
    balance = DAOLoss(TASKS, params=PARAMS[params](toy), refresh_every=1)
    model = Whole(toy, balance, first)
    model(*make_batch(seed=5)).backward()
    model.zero_grad()
    other = duplicate(model)
    assert other.state_dict().keys() == model.state_dict().keys()
    assert len(list(other.parameters())) == len(list(model.parameters()))
    before = [p.detach().clone() for p in model.parameters()]
    weights, moved = step(other, make_batch())
    assert all(map(torch.equal, before, model.parameters()))
    assert model.balance.state.count.tolist() == [1, 1]
    expected, wanted = step(model, make_batch())
    assert weights == expected
    assert all(map(torch.equal, moved, wanted))


def test_a_deep_copy_of_the_loss_alone_goes_on_with_the_model(toy, losses):
    for params in (toy.encoder.parameters, toy.encoder.parameters()):
        balance = DAOLoss(TASKS, params=params, refresh_every=1)
        balance.weights(losses)
        other = copy.deepcopy(balance)
        assert torch.equal(other.weights(losses)["cls"], balance.weights(losses)["cls"])
        other.reset()
        assert balance.state.count.tolist() == [2, 2]


def test_a_shallow_copy_shares_everything(toy, losses):
    balance = DAOLoss(TASKS, params=toy.shared())
    copy.copy(balance).weights(losses)
    assert balance.state.count.tolist() == [1, 1]


def test_a_tapped_activation_is_not_copied(toy, make_batch):
    model = Whole(toy, DAOLoss(TASKS, source="rep"))
    model.balance.tap(toy.encoder(make_batch()[0]))
    for duplicate in (copy.deepcopy, by_pickle, by_torch):
        with pytest.raises(RuntimeError, match="Found none"):
            duplicate(model).balance({"cls": torch.ones((), requires_grad=True)})


def test_a_lambda_cannot_follow_and_says_so(toy, make_batch):
    model = Whole(toy, DAOLoss(TASKS, params=lambda: toy.encoder.parameters()))
    with pytest.raises(RuntimeError, match=r"a lambda still returns those of the original"):
        copy.deepcopy(model)(*make_batch())
    with pytest.raises((AttributeError, pickle.PicklingError), match="<lambda>"):
        pickle.dumps(model)


def spawned(model, data, queue):
    """Runs in a process of its own."""
    weights, moved = step(model, data)
    queue.put((weights, [p.tolist() for p in moved]))


@pytest.mark.slow
@pytest.mark.usefixtures("warm_spawns")
@pytest.mark.parametrize("params", ["parameters()"])
def test_a_spawned_process_takes_the_step_of_its_parent(toy, make_batch, params):
    model = Whole(toy, DAOLoss(TASKS, params=PARAMS[params](toy)))
    context = torch.multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    child = context.Process(target=spawned, args=(copy.deepcopy(model), make_batch(), queue))
    child.start()
    weights, moved = queue.get()
    child.join(timeout=60)
    expected, wanted = step(model, make_batch())
    assert weights == expected
    assert moved == [p.tolist() for p in wanted]


def test_a_loss_without_saved_state_starts_afresh_after_a_loader(toy, losses):
    """`from_pretrained` builds on the meta device, then gives each missing buffer raw memory."""
    with torch.device("meta"):
        balance = DAOLoss(TASKS, params=toy.encoder.parameters, priors={"cls": 3.0})
    emptied = copy.deepcopy(balance).to_empty(device="cpu")
    assert emptied.state.prior.tolist() == [3.0, 1.0]
    for garbage in (0, 7e-310, -4, 140713669221312):
        loaded = copy.deepcopy(balance)
        for name, buffer in list(loaded.state.named_buffers()):
            setattr(loaded.state, name, torch.full_like(buffer, garbage, device="cpu"))
        expected = DAOLoss(TASKS, params=toy.encoder.parameters, priors={"cls": 3.0})
        saved = copy.deepcopy(loaded).state_dict()
        assert torch.equal(saved["state.prior"], expected.state.prior)
        assert loaded.is_due(losses)
        assert loaded.weights(losses) == expected.weights(losses)
        assert loaded.state.count.tolist() == [1, 1]


def test_a_loader_that_replaces_buffers_by_saved_ones_keeps_them(toy, losses):
    trained = DAOLoss(TASKS, params=toy.shared(), refresh_every=1)
    trained.weights(losses)
    with torch.device("meta"):
        fresh = DAOLoss(TASKS, params=toy.shared(), refresh_every=1)
    for name, buffer in trained.state.named_buffers():
        setattr(fresh.state, name, buffer.clone())
    fresh.weights(losses)
    assert fresh.state.count.tolist() == [2, 2]
    with torch.device("meta"):
        other = DAOLoss(TASKS, params=toy.shared(), refresh_every=1)
    other.load_state_dict(trained.state_dict(), assign=True)
    other.weights(losses)
    assert other.state.count.tolist() == [2, 2]
