"""Every engine gives the outputs of the trained model, within what its arithmetic allows."""

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from dao.errors import UserError
from dao.learner.batches.batching import Examples
from dao.learner.dendrites import dendritic
from dao.learner.dendrites.dendritic import DendriticModule
from dao.learner.dendrites.targets import LOW_RANK, target_modules
from dao.learner.inference.backends import onnx
from dao.learner.inference.backends.int8 import Int8Linear, quantize_linear
from dao.learner.inference.backends.merging import LinearWithDendrites, LinearWithLora, merge
from dao.learner.inference.engines import ENGINES, check_engine, make_engine, megabytes
from dao.learner.inference.predictor import Predictor
from dao.learner.model.model import build
from dao.learner.scoring.scoring import predict
from dao.learner.settings.config import load_config

CPU = torch.device("cpu")
LENGTHS = (3, 8, 1, 17, 5, 40, 11)
TEXTS = Examples([[3 + (7 * i + j * j) % 27 for j in range(n)] for i, n in enumerate(LENGTHS)], {})
# Largest difference from the trained model in fp32, and the smallest that proves other arithmetic.
BOUNDS = {
    "merged": (0, 1e-5),
    "bf16": (1e-5, 0.05),
    "int8": (1e-5, 0.1),
    "onnx": (0, 1e-4),
    "onnx-int8": (1e-5, 0.1),
}


def trained(folder: Path, where: str = "", **settings: object) -> Predictor:
    """A tiny model whose LoRA and dendrites do something."""
    fixed = {"precision": "fp32", **settings}
    cfg = load_config(overrides=[f"encoder.{k}={v}" for k, v in fixed.items()]).encoder
    cfg = cfg.model_copy(update={"name": str(folder)})
    model, tokenizer, limit = build(cfg, {"cls": 3, "reg": 1}, CPU, seed=0)
    if where:
        paths = dict.fromkeys(target_modules(model, where), 2)
        rank = {"rank": 8} if where == LOW_RANK else {}
        dendritic.attach(model, {"activation": "sigmoid", "dendrites": paths, **rank})
    generator = torch.Generator().manual_seed(1)
    for name, p in model.named_parameters():
        if p.requires_grad or ".top" in name or ".skip." in name:
            p.data = torch.randn(p.shape, generator=generator) * 0.1
    return Predictor(model.eval(), tokenizer, limit)


def one_layer(folder: Path, place: Path) -> Path:
    """A copy of an encoder of which the first layer alone is used."""
    shutil.copytree(folder, place)
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    return place


def outputs(predictor: Predictor, batch_size: int = 64) -> torch.Tensor:
    found = predict(predictor.model, TEXTS, 0, batch_size)
    assert list(found) == ["cls", "reg"]
    return torch.cat([*found.values()], 1)


@pytest.fixture(scope="module", params=["phi", "bert"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(f"tiny_{request.param}")


def assert_agrees(engine: Predictor, expected: torch.Tensor, name: str) -> None:
    assert expected.std(0).min() > 0.01  # the texts differ, so agreement means something
    smallest, largest = BOUNDS[name]
    for batch_size in (64, 3, 1):
        found = outputs(engine, batch_size)
        assert found.dtype == torch.float32
        assert smallest <= (found - expected).abs().max() <= largest


@pytest.mark.parametrize("where", ["", "lora_B+heads", LOW_RANK])
@pytest.mark.parametrize("name", ["merged", "bf16", "int8"])
def test_engines_agree_with_the_trained_model(folder: Path, name: str, where: str):
    predictor = trained(folder, where)
    expected = outputs(predictor)
    engine, note = make_engine(name, predictor)
    assert note
    assert_agrees(engine, expected, name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("beside", "where"),
    [(False, "lora_B+heads"), (True, LOW_RANK)],
    ids=["one-file", "weights-beside"],
)
def test_onnx_agrees_with_the_trained_model(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    beside: bool,
    where: str,
):
    # An export takes seconds, so each architecture tries one way to store the weights, and one set
    # of dendrites.
    folder = request.getfixturevalue("tiny_bert" if beside else "tiny_phi")
    predictor = trained(one_layer(folder, tmp_path / "encoder"), where)
    if beside:
        monkeypatch.setattr(onnx, "LARGEST_FILE", 0)
    else:
        request.getfixturevalue("exports_once")  # both engines start from the same file
    expected = outputs(predictor)
    exports = tmp_path / "exports"
    exports.mkdir()
    sizes = []
    for name in ("onnx", "onnx-int8"):
        engine, _ = make_engine(name, copy.deepcopy(predictor), exports)
        assert_agrees(engine, expected, name)
        sizes.append(megabytes(engine.model))
    assert len(list(exports.iterdir())) == (4 if beside else 2)
    weights = 4e-6 * sum(p.numel() for p in predictor.model.parameters())
    assert sizes[0] > weights
    assert sizes[1] < sizes[0]


def test_eager_is_the_model_itself(folder: Path):
    predictor = trained(folder, "lora_B+heads")
    engine, note = make_engine("eager", predictor)
    assert engine is predictor
    assert note == ""


@pytest.mark.parametrize(
    ("where", "layer", "note"),
    [
        ("", nn.Linear, "LoRA merged into 6 of 6 layers"),
        ("heads", nn.Linear, "LoRA merged into 6 of 6 layers"),
        ("lora_B", LinearWithDendrites, "LoRA merged into 0 of 6 layers, 6 but for the dendrites"),
        ("lora", LinearWithLora, "LoRA merged into 0 of 6 layers, 6 not at all because of"),
        (LOW_RANK, DendriticModule, "LoRA merged into 6 of 6 layers, 6 of them beside low-rank"),
    ],
)
def test_what_is_merged_is_told_and_no_peft_is_left(
    tiny_bert: Path, where: str, layer: type, note: str
):
    predictor = trained(tiny_bert, where)
    expected = outputs(predictor)
    assert str(merge(predictor.model)).startswith(note)
    modules = dict(predictor.model.encoder.named_modules())
    assert all(not type(module).__module__.startswith("peft") for module in modules.values())
    assert type(modules["encoder.layer.0.attention.self.query"]) is layer
    torch.testing.assert_close(outputs(predictor), expected, rtol=0, atol=1e-5)


def test_one_layer_with_dendrites_leaves_the_others_merged(tiny_bert: Path):
    predictor = trained(tiny_bert)
    path = next(p for p in target_modules(predictor.model, "lora_B") if "layer.1" in p)
    description = {"activation": "tanh", "dendrites": {path: 1}}
    model = dendritic.attach(predictor.model, description)
    for gates in (model.get_submodule(path).top, *model.get_submodule(path).layers.parameters()):
        gates.data.fill_(0.3)
    expected = outputs(predictor)
    merged = merge(model)
    assert (merged.layers, merged.whole, merged.linear) == (6, 5, 1)
    torch.testing.assert_close(outputs(predictor), expected, rtol=0, atol=1e-5)


def test_no_dendrite_kept_is_no_obstacle(tiny_bert: Path):
    predictor = trained(tiny_bert)
    paths = dict.fromkeys(target_modules(predictor.model, "lora_B"), 0)
    dendritic.attach(predictor.model, {"activation": "relu", "dendrites": paths})
    assert merge(predictor.model).whole == 6


@pytest.mark.parametrize("where", ["", LOW_RANK])
def test_a_model_trained_in_bf16_is_merged_in_fp32(tiny_phi: Path, where: str):
    predictor = trained(tiny_phi, where, precision="bf16")
    expected = outputs(predictor)
    merge(predictor.model)
    assert {p.dtype for p in predictor.model.parameters()} == {torch.float32}
    assert 0 < (outputs(predictor) - expected).abs().max() < 0.05


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_quantised_weights_are_refused(tiny_phi: Path, quantize: str):
    predictor = trained(tiny_phi, quantize=quantize)
    for name in ENGINES[1:]:
        with pytest.raises(UserError, match=r"unquantised weights.*--engine eager"):
            make_engine(name, predictor)


def test_fewer_bits_take_less_room(tiny_phi: Path):
    sizes = {n: megabytes(make_engine(n, trained(tiny_phi))[0].model) for n in ENGINES[:4]}
    parameters = sum(p.numel() for p in trained(tiny_phi).model.parameters())
    assert sizes["eager"] == pytest.approx(4e-6 * parameters, rel=0.01)
    assert sizes["merged"] < sizes["eager"]
    assert sizes["bf16"] == pytest.approx(sizes["merged"] / 2, rel=0.02)
    linear = sum(
        module.weight.numel()
        for module in trained(tiny_phi).model.encoder.modules()
        if type(module) is nn.Linear and module.weight.shape[0] > 8 < module.weight.shape[1]
    )
    assert sizes["int8"] < sizes["merged"] - 2.5e-6 * linear


def test_int8_product_by_hand():
    weight = torch.tensor([[1.0, -0.5], [0.25, 0.125]])
    layer = Int8Linear(weight, torch.tensor([0.5, -1.0]))
    x = torch.tensor([[[2.0, -1.0], [0.0, 0.5]]])
    exact = torch.tensor([[[3.0, -0.625], [0.25, -0.9375]]])
    # Half a step of x (2 / 127, 0.5 / 127) times the weights, and as much for their own steps.
    assert (layer(x) - exact).abs()[0].amax(1).lt(torch.tensor([0.03, 0.01])).all()
    assert layer(torch.zeros(2, 3, 2)).shape == (2, 3, 2)


def test_an_int8_output_does_not_depend_on_the_rest_of_the_batch():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 16, generator=generator) * torch.tensor([[1e-3], [1.0], [50.0], [7.0], [0]])
    layer = Int8Linear(torch.randn(24, 16, generator=generator), torch.zeros(24))
    torch.testing.assert_close(torch.cat([layer(row[None]) for row in x]), layer(x))
    relative = (layer(x) - x @ layer(torch.eye(16))).norm(dim=1) / x.norm(dim=1).clamp(min=1e-9)
    assert relative.max() < 0.1


def test_int8_knows_the_linear_layers_of_gpt2():
    torch.manual_seed(0)
    layer, x = nn.Sequential(Conv1D(24, 16)), torch.randn(5, 16)
    expected = layer(x)
    found = quantize_linear(layer)(x)
    assert isinstance(layer[0], Int8Linear)
    assert (found - expected).norm() < 0.02 * expected.norm()


def test_int8_weights_are_exact_multiples_of_their_scale():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(24, 16, generator=generator)
    found = Int8Linear(weight, None)(torch.eye(16)).T
    assert (found - weight).abs().max() <= weight.abs().max() / 63


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_extra_is_named(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, package: str):
    monkeypatch.setattr(onnx, "find_spec", lambda name: None if name == package else object())
    for name in ("onnx", "onnx-int8"):
        with pytest.raises(UserError, match=rf"Found no {package}\. .*\[onnx\]"):
            check_engine(name, trained(tiny_bert).model)


@pytest.mark.parametrize("name", ["int8", "onnx", "onnx-int8"])
def test_cpu_engines_refuse_another_device(tiny_bert: Path, name: str):
    model = trained(tiny_bert).model.to("meta")
    with pytest.raises(UserError, match=r"on the CPU.*Found device meta.*--device cpu"):
        check_engine(name, model)
