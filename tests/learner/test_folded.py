"""The folded LoRA product: float64 reference, gradients, and when it is not taken."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from dao.learner.encoder.folded import FoldedLinear, folded_linear


def tensors(dtype: torch.dtype, rows: tuple[int, ...] = (3, 5)) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"x": (*rows, 24), "weight": (16, 24), "bias": (16,), "down": (4, 24), "up": (16, 4)}
    made = {n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in shapes.items()}
    made = {n: t.to(dtype) for n, t in made.items()}
    return {n: t.requires_grad_(n in ("x", "down", "up")) for n, t in made.items()}


def apart(x, weight, bias, down, up, scale):
    return nn.functional.linear(x, weight, bias) + x @ down.T @ up.T * scale


def test_finite_differences():
    given = tensors(torch.float64)
    assert torch.autograd.gradcheck(lambda *a: folded_linear(*a, 0.7), tuple(given.values()))


def test_equal_to_three_products_in_float64():
    given = tensors(torch.float64)
    learnt = [given[n] for n in ("x", "down", "up")]
    found, expected = (f(**given, scale=0.7) for f in (folded_linear, apart))
    torch.testing.assert_close(found, expected)
    gradients = (torch.autograd.grad(y.sin().sum(), learnt) for y in (found, expected))
    torch.testing.assert_close(*gradients)


def test_types_of_results_and_gradients_in_bf16():
    given = tensors(torch.float32)
    low = given["x"].detach().bfloat16().requires_grad_()
    found = folded_linear(**{**given, "x": low}, scale=0.7)
    assert found.dtype == torch.bfloat16
    found.float().square().sum().backward()
    assert low.grad.dtype == torch.bfloat16
    assert given["down"].grad.dtype == given["up"].grad.dtype == torch.float32
    exact = tensors(torch.float32)
    apart(**exact, scale=0.7).square().sum().backward()
    for name in ("down", "up"):
        found, expected = given[name].grad.flatten(), exact[name].grad.flatten()
        assert nn.functional.cosine_similarity(found, expected, dim=0) > 0.999


def test_a_small_update_is_not_lost_in_bf16():
    # bf16 has steps of 2**-9 at 0.5; an update of 1e-4 to each weight still shows in their sum.
    x = torch.ones(1, 256, dtype=torch.bfloat16)
    weight = torch.empty(512, 256).uniform_(-0.9, 0.9, generator=torch.Generator().manual_seed(0))
    down, up = torch.full((1, 256), 1e-2), torch.full((512, 1), 1e-2)
    moved = folded_linear(x, weight, None, down, up, 1.0) - folded_linear(
        x, weight, None, down, -up, 1.0
    )
    assert moved.float().mean().item() == pytest.approx(2 * 256e-4, rel=0.2)


def test_gradients_of_several_losses_at_once():
    given = tensors(torch.float64)
    found = folded_linear(**given, scale=0.7).flatten(0, 1)[:2].sum(1)
    batched = torch.autograd.grad(
        found, given["up"], torch.eye(2).double(), is_grads_batched=True, retain_graph=True
    )[0]
    singly = [torch.autograd.grad(f, given["up"], retain_graph=True)[0] for f in found]
    torch.testing.assert_close(batched, torch.stack(singly))


def adapted(**options: object) -> nn.Module:
    torch.manual_seed(0)
    lora = LoraConfig(r=4, target_modules=["0"], **options)
    lora._register_custom_module({nn.Linear: FoldedLinear})
    model = get_peft_model(nn.Sequential(nn.Linear(8, 8), nn.Tanh()), lora)
    nn.init.normal_(model.base_model.model[0].lora_B["default"].weight)
    return model


def test_peft_layers_are_folded_and_agree_with_peft(monkeypatch: pytest.MonkeyPatch):
    model = adapted()
    layer = model.base_model.model[0]
    assert isinstance(layer, FoldedLinear)
    x = torch.randn(2, 3, 8)
    folded = model(x)
    assert "_Folded" in type(layer(x).grad_fn).__name__
    monkeypatch.delattr(FoldedLinear, "forward")
    torch.testing.assert_close(folded, model(x))


class Bent(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).tanh()


@pytest.mark.parametrize("reason", ["dropout", "not linear", "watched", "merged", "off"])
def test_where_the_fold_would_not_be_exact_the_products_stay_apart(
    reason: str, monkeypatch: pytest.MonkeyPatch
):
    model = adapted(lora_dropout=0.5 if reason == "dropout" else 0.0)
    layer = model.base_model.model[0]
    x = torch.randn(2, 3, 8)
    seen: list[int] = []
    if reason == "not linear":
        bent = Bent(4, 8, bias=False)
        bent.load_state_dict(layer.lora_B["default"].state_dict())
        layer.lora_B["default"] = bent
    elif reason == "watched":
        layer.lora_B["default"].register_forward_hook(lambda *_: seen.append(1))
    elif reason == "merged":
        layer.merge()
    elif reason == "off":
        layer.enable_adapters(False)
    torch.manual_seed(1)
    found = model(x)
    assert len(seen) == (reason == "watched")
    reference = copy.deepcopy(model)
    monkeypatch.delattr(FoldedLinear, "forward")
    torch.manual_seed(1)
    torch.testing.assert_close(found, reference(x))
