"""The list of layers, LoRA in the last of them, and passing over those that are frozen."""

from pathlib import Path

import pytest
import torch
from torch import nn

from dao.errors import UserError
from dao.learner.encoder.layers import Boundary, first_adapted, handed, layer_list, stopped
from dao.learner.model.model import MultiTaskModel, build
from dao.learner.settings.config import load_config

CPU = torch.device("cpu")


def make(folder: Path, last: int | None, *overrides: str) -> MultiTaskModel:
    settings = [f"encoder.name={folder}", *overrides]
    settings += [] if last is None else [f"encoder.lora.last_layers={last}"]
    cfg = load_config(overrides=settings).encoder
    return build(cfg, {"cls": 3}, CPU, seed=0)[0]


class Stack(nn.Module):
    """Layer i adds 10**i; each holds a list of experts that is longer than the list of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(1), nn.Linear(1, 1)])
        self.blocks = nn.ModuleList(Add(10.0**i) for i in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Add(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.runs = 0
        self.value = nn.Parameter(torch.tensor(value))
        self.experts = nn.ModuleList(nn.Linear(1, 1) for _ in range(9))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        return x + self.value


def test_the_layers_are_the_longest_list_of_modules_alike_that_is_not_inside_another():
    path, layers = layer_list(Stack())
    assert (path, len(layers)) == ("blocks", 3)
    with pytest.raises(UserError, match="Found no such list in Linear"):
        layer_list(nn.Linear(2, 2))


def test_the_first_adapted_layer_by_hand():
    model = Stack().requires_grad_(False)
    assert first_adapted(model, "blocks") == 0  # nothing to train, so no boundary
    model.blocks[2].value.requires_grad_(True)
    assert first_adapted(model, "blocks") == 2
    model.blocks[1].experts[8].weight.requires_grad_(True)
    assert first_adapted(model, "blocks") == 1
    model.norms[1].weight.requires_grad_(True)  # acts where it likes
    assert first_adapted(model, "blocks") == 0


def test_layers_are_passed_over_and_come_back():
    model, x = Stack(), torch.zeros(1, 1, 1)
    names = [name for name, _ in model.named_modules()]
    boundary = Boundary("blocks", 2, 1, torch.float32, None)
    assert model(x).item() == 111
    with stopped(model, "blocks", 2) as caught:
        assert model(x).item() == 11
    assert [state.item() for state in caught] == [11]
    assert [block.runs for block in model.blocks] == [2, 2, 1]
    with handed(model, boundary, torch.full((1, 1, 1), 5.0)):
        assert model(x).item() == 105
        assert [block.runs for block in model.blocks] == [2, 2, 2]
        assert [name for name, _ in model.named_modules()] == names
    with pytest.raises(ZeroDivisionError), handed(model, boundary, x):
        raise ZeroDivisionError
    assert model(x).item() == 111
    assert not any("forward" in module.__dict__ for module in model.modules())
    assert not model.blocks[1]._forward_hooks


@pytest.mark.parametrize("kind", ["phi", "bert"])
def test_lora_in_the_last_layers_only(kind: str, request: pytest.FixtureRequest, tmp_path: Path):
    folder = request.getfixturevalue(f"tiny_{kind}")
    full, upper = make(folder, None), make(folder, 1)
    path = {"phi": "layers.1.", "bert": "encoder.layer.1."}[kind]
    names = {n for n, p in full.named_parameters() if p.requires_grad and "lora" in n}
    found = {n for n, p in upper.named_parameters() if p.requires_grad and "lora" in n}
    assert found == {n for n in names if path in n}
    assert len(names) == 2 * len(found) > 0
    assert {n for n, _ in make(folder, 2).named_parameters()} == {
        n for n, _ in full.named_parameters()
    }
    upper.encoder.save_pretrained(tmp_path)
    from peft import PeftModel
    from transformers import AutoModel

    again = PeftModel.from_pretrained(AutoModel.from_pretrained(folder), tmp_path)
    assert sum("lora" in n for n, _ in again.named_parameters()) == len(found)


def test_more_layers_than_there_are_is_refused(tiny_phi: Path):
    with pytest.raises(UserError, match=r"last_layers.*Found 3; phi has 2 here"):
        make(tiny_phi, 3)
