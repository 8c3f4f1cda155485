"""The pure-torch twin: its formula, its names, its strictness."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from dao.errors import UserError
from dao.learner.dendrites.dendritic import ACTIVATIONS, LowRank, attach, has_lora, load, split


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(5, 6), nn.Tanh())
        self.heads = nn.ModuleDict({"cls": nn.Linear(6, 3), "reg": nn.Linear(6, 1)})

    def forward(self, x):
        hidden = self.encoder(x)
        return torch.cat([head(hidden) for head in self.heads.values()], dim=-1)


def tiny():
    torch.manual_seed(0)
    return Tiny()


def description(count, activation="sigmoid"):
    return {"activation": activation, "dendrites": {"encoder.0": count, "heads.cls": count}}


def filled(count, activation="sigmoid"):
    """A twin with random tensors, and these by the names that `load` takes."""
    model = attach(tiny(), description(count, activation))
    generator = torch.Generator().manual_seed(1)
    tensors = {
        name.replace(".main.", "."): torch.randn(p.shape, generator=generator)
        for name, p in model.named_parameters()
    }
    load(model, tensors)
    return model, tensors


@pytest.fixture
def x():
    return torch.randn(7, 5, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_formula_with_two_dendrites(activation):
    module = attach(
        nn.Sequential(nn.Linear(2, 1)), {"activation": activation, "dendrites": {"0": 2}}
    )[0]
    values = {"main": 0.5, "layers.0": -0.3, "layers.1": 0.7}
    for name, value in values.items():
        nn.init.constant_(module.get_submodule(name).weight, value)
        nn.init.constant_(module.get_submodule(name).bias, 0.1)
    with torch.no_grad():
        module.top.copy_(torch.tensor([[2.0], [-3.0]]))
        module.skip[1].copy_(torch.tensor([[0.4]]))
    act = ACTIVATIONS[activation]
    first = act(torch.tensor(-0.3 * 3 + 0.1))
    second = act(torch.tensor(0.7 * 3 + 0.1) + 0.4 * first)
    expected = 0.5 * 3 + 0.1 + 2 * first - 3 * second
    torch.testing.assert_close(module(torch.tensor([[1.0, 2.0]])), expected.reshape(1, 1))


class Adapted(nn.Module):
    """What the twin knows of peft's layer: its widths, and matrices that are not its children."""

    def __init__(self, inputs, outputs, rank):
        super().__init__()
        self.in_features, self.out_features = inputs, outputs
        self.base_layer = nn.Linear(inputs, outputs).requires_grad_(False).bfloat16()
        self.lora_A = nn.ModuleDict({"default": nn.Linear(inputs, rank, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(rank, outputs, bias=False)})

    def forward(self, x):
        update = self.lora_B["default"](self.lora_A["default"](x.float()))
        return (self.base_layer(x.bfloat16()) + update).to(x.dtype)


LOW_RANK = {"activation": "tanh", "dendrites": {"0": 2}, "rank": 1}


def adapted():
    torch.manual_seed(0)
    return nn.Sequential(Adapted(2, 1, 3))


def test_formula_with_two_low_rank_dendrites():
    model = attach(adapted(), LOW_RANK)
    module, x = model[0], torch.tensor([[1.0, 2.0]])
    assert {n for n, _ in module.named_parameters() if "main" not in n} == {
        *(f"layers.{i}.{part}" for i in (0, 1) for part in ("down", "up")),
        *("top", "skip.0", "skip.1"),
    }
    assert torch.equal(model(x), module.main(x))
    with torch.no_grad():
        module.layers[0].down.copy_(torch.tensor([[0.5, -1.0]]))
        module.layers[1].down.copy_(torch.tensor([[0.1, 0.2]]))
        module.layers[0].up.fill_(2.0)
        module.layers[1].up.fill_(3.0)
        module.top.copy_(torch.tensor([[2.0], [-3.0]]))
        module.skip[1].copy_(torch.tensor([[0.4]]))
    first = torch.tanh(torch.tensor(2 * (0.5 - 2.0)))
    second = torch.tanh(torch.tensor(3 * (0.1 + 0.4)) + 0.4 * first)
    expected = module.main(x) + 2 * first - 3 * second
    torch.testing.assert_close(model(x), expected)
    low = model(x.bfloat16())
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), expected, rtol=0.05, atol=0.05)


def test_low_rank_dendrites_are_loaded_strictly():
    model, random = adapted(), torch.get_rng_state()
    attach(model, LOW_RANK)
    assert torch.equal(torch.get_rng_state(), random)
    names = [n.replace(".main.", ".") for n, p in model.named_parameters() if p.requires_grad]
    places = dict(zip(names, [p for p in model.parameters() if p.requires_grad], strict=True))
    tensors = {n: torch.full_like(p, 0.5) for n, p in places.items()}
    plain, dendrites = split(tensors, LOW_RANK)
    assert set(plain) == {"0.lora_A.default.weight", "0.lora_B.default.weight"}
    load(model, dendrites)
    assert all(p.eq(0.5).all() == (n in dendrites) for n, p in places.items())
    for change in ({"0.layers.0.down": torch.ones(2, 2)}, {"0.layers.0.weight": torch.ones(1, 2)}):
        with pytest.raises(UserError, match="Found 1"):
            load(model, dendrites | change)
    del dendrites["0.layers.1.up"]
    with pytest.raises(UserError, match=r"missing, first '0\.layers\.1\.up'"):
        load(model, dendrites)


def test_a_layer_with_lora_is_known_by_its_matrices():
    assert has_lora(adapted()[0])
    assert not any(
        has_lora(m) for m in (None, nn.Linear(1, 1), adapted(), LowRank(1, 1, 1, torch.ones(1)))
    )
    no_matrix = adapted()[0]
    no_matrix.lora_A = nn.ModuleDict()
    assert not has_lora(no_matrix)
    # The wrapper shows its attributes, but is no such layer: else it would be wrapped again.
    assert not has_lora(attach(adapted(), LOW_RANK)[0])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_new_dendrites_change_nothing(count, x):
    torch.testing.assert_close(attach(tiny(), description(count))(x), tiny()(x), rtol=0, atol=0)


def test_state_dict_names():
    names = set(attach(tiny(), description(2)).heads["cls"].state_dict())
    assert names == {
        *(f"{layer}.{p}" for layer in ("main", "layers.0", "layers.1") for p in ("weight", "bias")),
        *("top", "skip.0", "skip.1"),
    }


def test_attributes_come_from_the_main_layer():
    module = attach(tiny(), description(1)).heads["cls"]
    assert module.out_features == 3
    assert module.weight is module.main.weight
    with pytest.raises(AttributeError, match="nonsense"):
        _ = module.nonsense
    assert torch.equal(copy.deepcopy(module).weight, module.weight)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_load_fills_every_tensor(count, x):
    model, tensors = filled(count)
    state = model.state_dict()
    assert all(torch.equal(state[name], tensors[name.replace(".main.", ".")]) for name in state)
    again = attach(tiny(), description(count))
    load(again, tensors)
    assert torch.equal(model(x), again(x))
    assert not torch.equal(model(x), tiny()(x))


def test_load_leaves_plain_weights_that_are_not_given():
    _, tensors = filled(1)
    _, dendrites = split(tensors, description(1))
    model = attach(tiny(), description(1))
    load(model, dendrites)
    assert torch.equal(model.heads["cls"].main.weight, tiny().heads["cls"].weight)
    assert torch.equal(model.heads["cls"].top, tensors["heads.cls.top"])


def test_split():
    _, tensors = filled(2)
    plain, dendrites = split(tensors, description(2))
    assert plain.keys() == dict(tiny().named_parameters()).keys()
    assert plain.keys() | dendrites.keys() == tensors.keys()
    assert not plain.keys() & dendrites.keys()


def test_dendrites_take_over_the_type_of_the_tensors():
    _, tensors = filled(1)
    tensors["heads.cls.top"] = tensors["heads.cls.top"].bfloat16()
    model = attach(tiny(), description(1))
    load(model, tensors)
    assert model.heads["cls"].top.dtype == torch.bfloat16
    assert model.heads["cls"].main.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("heads.cls.top"), r"1 missing, first 'heads\.cls\.top'"),
        (
            lambda t: t.pop("heads.cls.layers.1.bias"),
            r"missing, first 'heads\.cls\.layers\.1\.bias'",
        ),
        (lambda t: t.update({"heads.new.weight": torch.ones(1)}), r"unknown, first 'heads\.new"),
        (lambda t: t.update({"heads.cls.main.bias": torch.ones(3)}), r"unknown, .*main\.bias"),
        (lambda t: t.update({"heads.cls.top": torch.ones(1, 3)}), r"another shape, .*cls\.top"),
        (lambda t: t.update({"heads.reg.bias": torch.ones(2)}), r"another shape, .*reg\.bias"),
    ],
)
def test_load_is_strict_and_all_or_nothing(change, message):
    _, tensors = filled(2)
    change(tensors)
    model = attach(tiny(), description(2))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(UserError, match=message):
        load(model, tensors)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"activation": "gelu", "dendrites": {}}, "Found 'gelu'"),
        ({"activation": "relu", "dendrites": {"heads.x": 1}}, r"'heads\.x' .* no such module"),
        ({"activation": "relu", "dendrites": {"encoder": 1}}, "'encoder' .* Found Sequential"),
        (
            {"activation": "relu", "dendrites": {"encoder.0": 1}, "rank": 2},
            "'encoder.0' .* with LoRA of the model. Found Linear",
        ),
    ],
)
def test_attach_refuses(wrong, message):
    with pytest.raises(UserError, match=message):
        attach(tiny(), wrong)


def test_autocast(x):
    model, _ = filled(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = model(x)
    torch.testing.assert_close(low.float(), model(x), rtol=0.1, atol=0.2)


def test_compiles_to_one_graph(x):
    model, _ = filled(2)
    explained = torch._dynamo.explain(model)(x)
    assert (explained.graph_count, explained.graph_break_count) == (1, 0)


@pytest.mark.slow
def test_needs_torch_alone():
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['perforatedai', 'transformers', 'peft', 'numpy']))\n"
        "import dao.learner.dendrites.dendritic\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
