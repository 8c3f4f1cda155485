"""A model that taps its representation is exported and compiled like one that does not."""

import pytest
import torch
from torch import nn

from dao import DAOLoss

pytestmark = pytest.mark.slow

TASKS = ["cls", "reg"]


class Model(nn.Module):
    def __init__(self, toy, with_loss):
        super().__init__()
        self.toy, self.balance, self.with_loss = toy, DAOLoss(TASKS, source="rep"), with_loss

    def forward(self, x):
        z = self.balance.tap(self.toy.encoder(x))
        logits, guess = self.toy.heads["cls"](z), self.toy.heads["reg"](z)
        if self.with_loss:
            return self.balance({"cls": logits.square().mean(), "reg": guess.square().mean()})
        return logits, guess


@pytest.mark.parametrize("with_loss", [False, True])
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_model_computes_the_same_and_leaves_no_tap(
    toy, make_batch, strict, train, with_loss
):
    x = make_batch()[0]
    model = Model(toy, with_loss).train(train)
    exported = torch.export.export(model, (x,), strict=strict)
    assert model.balance._places.tapped.z is None
    assert model.balance.state.step == 0
    torch.testing.assert_close(exported.module()(x), model.eval()(x))


@pytest.mark.parametrize("with_loss", [False, True])
def test_a_model_in_eval_mode_compiles_in_one_graph(toy, make_batch, with_loss):
    x = make_batch()[0]
    model = Model(toy, with_loss).eval()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), model(x))


def test_a_compiled_model_still_taps_in_training(toy, make_batch):
    x = make_batch()[0]
    model = Model(toy, True)
    torch.compile(model, backend="eager")(x).backward()
    assert model.balance.state.count.tolist() == [1, 1]


def test_a_model_is_exported_to_onnx(toy, make_batch, tmp_path):
    pytest.importorskip("onnxscript")
    place = tmp_path / "model.onnx"
    x = make_batch()[0]
    torch.onnx.export(Model(toy, False).eval(), (x,), place, dynamo=True, verbose=False)
    assert place.stat().st_size > 0
