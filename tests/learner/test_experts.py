"""Several adapters in one product are peft's own sum of them; the router sees the text."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from dao.errors import UserError
from dao.learner.dendrites.controls import arm_encoder
from dao.learner.encoder.gated import GatedLinear
from dao.learner.experts.routing import routed_right
from dao.learner.model.experts import expert_tensors, load_experts, save_experts, train_only
from dao.learner.model.model import MultiTaskModel, build
from dao.learner.model.router import check_varies, mixing_weights, router_loss
from dao.learner.settings.config import Config, load_config
from dao.learner.settings.decisive import check_settings, completed, decisive

CPU = torch.device("cpu")
OUTPUTS = {"cls": 3, "reg": 1}
THREE = "experts.names=[news,forum,blog]"


def settings(folder: Path, *more: str, names: str = THREE) -> Config:
    overrides = [names, f"encoder.name={folder}", "encoder.precision=fp32", *more]
    return load_config(None, overrides)


def make(folder: Path, *more: str, names: str = THREE) -> MultiTaskModel:
    cfg = settings(folder, *more, names=names)
    model, _, _ = build(cfg.encoder, OUTPUTS, CPU, 0, cfg.experts)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:  # B and the router start at zero
            parameter.data.normal_(std=0.1, generator=generator)
    return model.train()


def batch(rows: int = 4, length: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(3, 60, (rows, length), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    mask[1, length // 2 :] = 0
    return ids, mask


def results(model: MultiTaskModel) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Outputs, and the gradients of everything that trains."""
    outputs = model(*batch())
    loss = torch.stack([outputs[task].square().sum() for task in OUTPUTS]).sum()
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()))
    return outputs, dict(zip(named, found, strict=True))


def by_peft(self: GatedLinear, x: torch.Tensor) -> torch.Tensor:
    """peft's forward, adapter by adapter, with the row's weight on each one's product."""
    # Frozen weights that are added to at every forward stay in fp32, where peft would have bf16.
    result = self.base_layer(x) if x.dtype == torch.float32 else self._plain(x)
    weights = self.gate.factors.view(len(x), len(self.gate.names), -1)[:, :, 0]
    for number, name in enumerate(self.gate.names):
        product = self.lora_B[name](self.lora_A[name](x.float()))
        result = result + (product * weights[:, number].view(-1, 1, 1)).to(x.dtype)
    return result


@pytest.mark.parametrize(
    ("folder", "more"),
    [
        ("tiny_phi", []),
        ("tiny_bert", []),
        ("tiny_gpt2", []),
        ("tiny_phi", ["encoder.quantize=nf4"]),
        ("tiny_phi", ["encoder.quantize=int8"]),
    ],
    ids=["phi", "bert", "gpt2", "phi-nf4", "phi-int8"],
)
def test_one_product_is_the_sum_that_peft_takes(request, monkeypatch, folder, more):
    model = make(request.getfixturevalue(folder), *more)
    layers = {"tiny_phi": 8, "tiny_bert": 6, "tiny_gpt2": 2}[folder]
    assert sum(isinstance(m, GatedLinear) for m in model.modules()) == layers
    outputs, gradients = results(model)
    monkeypatch.setattr(GatedLinear, "forward", by_peft)
    expected, wanted = results(model)
    for task in OUTPUTS:
        torch.testing.assert_close(outputs[task], expected[task], rtol=1e-6, atol=1e-6)
    assert gradients.keys() == wanted.keys()
    for name, gradient in gradients.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-5)


def test_in_bf16_it_is_that_sum_but_for_the_rounding(tiny_phi: Path, monkeypatch):
    model = make(tiny_phi, "encoder.precision=bf16")
    with torch.no_grad():
        outputs = model(*batch())
        monkeypatch.setattr(GatedLinear, "forward", by_peft)
        expected = model(*batch())
    for task in OUTPUTS:
        torch.testing.assert_close(outputs[task], expected[task], rtol=0.02, atol=0.02)


def test_an_expert_alone_is_its_adapter_in_peft(tiny_phi: Path, tmp_path: Path):
    from peft import PeftModel
    from transformers import PhiModel

    model = make(tiny_phi).eval()
    assert model.experts is not None
    save_experts(model.encoder, model.experts, str(tiny_phi), tmp_path)
    ids, mask = batch()
    for name in model.experts.names:
        model.experts.alone = name
        alone = PeftModel.from_pretrained(
            PhiModel.from_pretrained(tiny_phi), tmp_path / "experts" / name
        ).eval()
        with torch.no_grad():
            states = alone(input_ids=ids, attention_mask=mask).last_hidden_state
            found = model._states(ids, mask)
            model.experts.route(lambda: model.embed(ids), found, mask)
            real = mask.bool()  # padding is numbered otherwise, and seen by nothing
            torch.testing.assert_close(found()[real], states[real], rtol=1e-5, atol=1e-5)


def test_without_experts_the_encoder_is_the_frozen_one(tiny_phi: Path):
    from transformers import PhiModel

    model = make(tiny_phi, "experts.router=states").eval()
    ids, mask = batch()
    plain = PhiModel.from_pretrained(tiny_phi).eval()
    with torch.no_grad():
        states = plain(input_ids=ids, attention_mask=mask).last_hidden_state
    weights = mask[:, :, None].float()
    mean = (states * weights).sum(1) / weights.sum(1)
    torch.testing.assert_close(model.router_input(ids, mask), mean, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("more", [[], ["encoder.quantize=nf4"]], ids=["fp32", "nf4"])
@pytest.mark.parametrize("reads", ["embeddings", "states"])
def test_a_row_does_not_depend_on_the_others(tiny_phi: Path, reads: str, more: list[str]):
    model = make(tiny_phi, f"experts.router={reads}", *more).eval()
    ids, mask = batch(rows=32)
    with torch.no_grad():
        together = model(ids, mask)
        single = [model(ids[i : i + 1], mask[i : i + 1]) for i in range(32)]
    for name, values in together.items():
        apart = torch.cat([row[name] for row in single])
        torch.testing.assert_close(values, apart, rtol=1e-5, atol=1e-6)


def test_padding_on_the_left_changes_nothing_for_the_router(tiny_bert: Path):
    model = make(tiny_bert)
    ids, mask = batch()
    moved = torch.cat([torch.zeros_like(ids), ids], 1), torch.cat([torch.zeros_like(mask), mask], 1)
    torch.testing.assert_close(model.router_input(*moved), model.router_input(ids, mask))


def test_gradient_checkpointing_changes_nothing(tiny_phi: Path):
    _, plain = results(make(tiny_phi))
    _, again = results(make(tiny_phi, "encoder.gradient_checkpointing=true"))
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient)


def test_dropout_drops_in_training_alone(tiny_phi: Path):
    model = make(tiny_phi, "encoder.lora.dropout=0.5")
    ids, mask = batch()
    assert not torch.equal(model(ids, mask)["cls"], model(ids, mask)["cls"])
    model.eval()
    assert torch.equal(model(ids, mask)["cls"], model(ids, mask)["cls"])


def test_only_what_is_asked_for_trains(tiny_phi: Path):
    model = make(tiny_phi)
    assert model.experts is not None
    train_only(model.encoder, ["forum"], model.experts, router=False)
    training = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {n for n in training if "lora_" in n} == {
        n for n, _ in model.named_parameters() if ".forum." in n
    }
    assert not {n for n in training if "router" in n}
    train_only(model.encoder, [], model.experts, router=True)
    assert len(model.shared_parameters()) == 4  # norm and layer of the router


def test_hard_routing_is_the_heaviest_expert_alone(tiny_phi: Path):
    model = make(tiny_phi, "experts.routing=hard").eval()
    assert model.experts is not None
    ids, mask = batch()
    with torch.no_grad():
        found = model(ids, mask)
    assert sorted(found["experts"].unique().tolist()) == [0.0, 1.0]
    for row, chosen in enumerate(found["experts"].argmax(1).tolist()):
        model.experts.alone = model.experts.names[chosen]
        with torch.no_grad():
            alone = model(ids[row : row + 1], mask[row : row + 1])
        torch.testing.assert_close(alone["cls"][0], found["cls"][row], rtol=1e-5, atol=1e-6)
        assert "experts" not in alone


# -- the router ----------------------------------------------------------------------------------


def test_the_balance_by_hand():
    logits = torch.tensor([[0.0, 0.0], [0.0, 0.0], [math.log(3), 0.0]])
    domains = torch.tensor([0, 1, 0])
    found = router_loss(logits, domains)
    used = (0.5 + 0.5 + 0.75) / 3
    mix = 2 / 3
    balance = mix * math.log(mix / used) + (1 - mix) * math.log((1 - mix) / (1 - used))
    assert found.balance.item() == pytest.approx(balance, rel=1e-5)
    entropy = (math.log(2) + math.log(2) - math.log(0.75)) / 3
    assert found.domain.item() == pytest.approx(entropy, rel=1e-5)
    assert found.accuracy.item() == pytest.approx(2 / 3)  # the first of equals is taken


def test_a_router_that_is_right_pays_nothing_whatever_the_mix():
    logits = torch.tensor([[40.0, 0.0]] * 199 + [[0.0, 40.0]])
    found = router_loss(logits, torch.tensor([0] * 199 + [1]))
    assert abs(found.balance.item()) < 1e-6
    assert found.domain.item() < 1e-6
    one_domain = router_loss(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))
    assert one_domain.balance.item() == pytest.approx(math.log(3))


def test_weights_sum_to_one():
    logits = torch.randn(5, 3)
    for routing in ("soft", "hard"):
        torch.testing.assert_close(mixing_weights(logits, routing).sum(1), torch.ones(5))


def test_an_input_that_is_always_the_same_is_refused(tiny_phi: Path):
    model = make(tiny_phi)
    with torch.no_grad():
        model.base.get_input_embeddings().weight[:] = 1.5
    ids, mask = batch()
    with pytest.raises(UserError, match="is the same for 4 different texts"):
        check_varies(model.router_input(ids, mask), "embeddings")
    check_varies(make(tiny_phi).router_input(ids, mask), "embeddings")


def test_the_first_token_alone_would_be_refused(tiny_phi: Path):
    """What a causal model says of position 0 knows nothing of the text behind it."""
    model = make(tiny_phi, "experts.router=states")
    ids, mask = batch()
    ids[:, 0] = 3
    assert model.experts is not None
    model.experts.gate.close()
    first = model._states(ids, mask)()[:, 0]
    with pytest.raises(UserError, match="is the same"):
        check_varies(first, "states")


def test_routing_figures_by_hand():
    weights = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
    found = routed_right(weights, torch.tensor([0, 1, 1, -1]), ["news", "forum"])
    assert found["n"] == 3
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["domains"]["forum"] == {"n": 2, "share": 2 / 3, "accuracy": 0.5}
    assert found["usage"]["news"] == pytest.approx(0.6)
    assert routed_right(weights, torch.full((4,), -1), ["news", "forum"])["accuracy"] is None


# -- files and settings --------------------------------------------------------------------------


def test_what_is_saved_is_what_is_loaded(tiny_phi: Path, tmp_path: Path):
    model = make(tiny_phi).eval()
    assert model.experts is not None
    save_experts(model.encoder, model.experts, "somewhere/tiny", tmp_path)
    other = make(tiny_phi).eval()
    with torch.no_grad():
        for parameter in other.shared_parameters():
            parameter.zero_()
    assert other.experts is not None
    load_experts(other.encoder, other.experts, tmp_path)
    other.heads.load_state_dict(model.heads.state_dict())
    ids, mask = batch()
    for name, values in model(ids, mask).items():
        assert torch.equal(values, other(ids, mask)[name])


def test_files_of_other_experts_are_refused(tiny_phi: Path, tmp_path: Path):
    model, wide = make(tiny_phi), make(tiny_phi, "encoder.lora.r=3")
    assert model.experts is not None
    assert wide.experts is not None
    save_experts(wide.encoder, wide.experts, "somewhere/tiny", tmp_path)
    with pytest.raises(UserError, match=r"news should hold the weights of this model. 16 tensors"):
        load_experts(model.encoder, model.experts, tmp_path)


def test_an_expert_named_like_a_layer_is_refused(tiny_phi: Path):
    model = make(tiny_phi, names="experts.names=[q_proj,forum]")
    with pytest.raises(UserError, match=r"not be names of the encoder's parts"):
        expert_tensors(model.encoder, "forum")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("experts.names=[news]", "two or more domains"),
        ("experts.names=[news,news]", "two or more domains"),
        ("experts.names=[news,a.b]", "should be of letters, digits, _ and -"),
        ("experts.names=[news,router]", "and not all, default, heads, joint, merged, router"),
        ("experts.names=[news,all]", "Rename 'all'"),
        ("experts.names=[news,values]", "words that torch uses"),
        ("experts.names=[news,lora]", "a part of lora_"),
        ("encoder.tune=full", "which has no LoRA"),
        ("train.packing=true", "Found train.packing"),
        ("dendrites.enabled=true", "Found dendrites"),
        ("experts.control=double", "experts.control"),
        ("train.schedule=step", "Found step, which counts epochs"),
        ("train.schedule=plateau", "Found plateau, which counts validations"),
    ],
)
def test_what_cannot_be_combined_is_refused_in_one_line(override: str, said: str):
    with pytest.raises(UserError) as caught:
        load_config(None, ["experts.names=[news,forum]", override])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_control_without_experts_is_refused():
    with pytest.raises(UserError, match="should stand in for experts"):
        load_config(None, ["experts.control=single"])


def test_the_single_lora_has_the_parameters_of_experts_and_router(tiny_phi: Path):
    experts = make(tiny_phi).count()["trainable"]
    cfg = settings(tiny_phi, "experts.control=single")
    encoder = arm_encoder(cfg, OUTPUTS)
    single = build(encoder, OUTPUTS, CPU, 0)[0]
    per_rank = (
        sum(p.numel() for n, p in single.named_parameters() if "lora_" in n) // encoder.lora.r
    )
    assert 0 <= single.count()["trainable"] - experts < per_rank
    assert encoder.lora.alpha / encoder.lora.r == cfg.encoder.lora.alpha / cfg.encoder.lora.r


def test_svd_takes_the_sum_of_the_ranks_or_the_narrowest_layer(tiny_phi: Path):
    from dao.learner.experts.merging import _svd_rank

    assert _svd_rank(make(tiny_phi)) == 24
    assert _svd_rank(make(tiny_phi, "encoder.lora.r=20")) == 32


def test_a_layer_that_sees_no_rows_is_refused(tiny_phi: Path):
    model = make(tiny_phi)
    layer = next(m for m in model.modules() if isinstance(m, GatedLinear))
    layer.gate.open(torch.full((4, 3), 1 / 3))
    with pytest.raises(UserError, match="row by row"):
        layer(torch.zeros(36, 32))
    assert isinstance(layer.base_layer, nn.Linear)


def test_a_checkpoint_from_before_experts_can_be_continued():
    found, now = decisive(Config()), decisive(Config())
    del found["experts"]
    check_settings(completed(found), now)
    with pytest.raises(UserError, match=r"`train.lr` changed"):
        check_settings(completed({**found, "train": {**found["train"], "lr": 0.1}}), now)
