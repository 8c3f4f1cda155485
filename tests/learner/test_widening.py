"""Wider feed-forward blocks: the same function at first, with parameters that then train."""

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModel, DistilBertConfig, DistilBertModel, LlamaConfig, LlamaModel

from dao.errors import UserError
from dao.learner.dendrites.controls import added_parameters, added_units
from dao.learner.dendrites.targets import target_modules
from dao.learner.encoder.find import locate
from dao.learner.encoder.load import freeze_pooler
from dao.learner.model.model import build
from dao.learner.model.widening import parameters_per_unit, widen
from dao.learner.settings.config import load_config

CPU = torch.device("cpu")
OUTPUTS = {"cls": 3, "reg": 1}


@pytest.fixture(params=["bert", "phi", "distilbert", "llama"])
def base(request, tiny_bert: Path, tiny_phi: Path):
    if request.param in ("bert", "phi"):
        folder = {"bert": tiny_bert, "phi": tiny_phi}[request.param]
        return AutoModel.from_pretrained(folder).eval()
    torch.manual_seed(0)
    if request.param == "distilbert":
        return DistilBertModel(
            DistilBertConfig(vocab_size=64, dim=32, hidden_dim=64, n_layers=2, n_heads=4)
        ).eval()
    return LlamaModel(
        LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                    num_attention_heads=4)
    ).eval()  # fmt: skip


def test_a_wider_encoder_computes_what_it_did_and_is_read_back(base, tmp_path: Path):
    ids = torch.arange(4, 16).view(2, 6)
    before, count = base(ids).last_hidden_state, sum(p.numel() for p in base.parameters())
    per_unit, state = parameters_per_unit(base), torch.get_rng_state()
    widen(base, 5, seed=3)
    assert torch.get_rng_state().equal(state)
    torch.testing.assert_close(base(ids).last_hidden_state, before, rtol=1e-5, atol=1e-6)
    assert sum(p.numel() for p in base.parameters()) == count + 5 * per_unit
    with torch.no_grad():  # what the units read, and with it what they compute, is not nothing
        for parameter in base.parameters():
            parameter.add_(0.01)
    base.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    assert again(ids).last_hidden_state.equal(base(ids).last_hidden_state)


def test_the_new_units_write_nothing_and_then_learn(tiny_bert: Path):
    base = AutoModel.from_pretrained(tiny_bert)
    layer = base.encoder.layer[0]
    old = layer.intermediate.dense.weight.detach().clone()
    widen(base, 4, seed=0)
    new = layer.intermediate.dense.weight[64:]
    assert layer.intermediate.dense.weight[:64].equal(old)
    assert 0.01 < float(new.detach().std()) < 0.03  # BERT's initializer_range is .02
    assert float(layer.output.dense.weight[:, 64:].detach().abs().max()) == 0
    assert float(layer.intermediate.dense.bias[64:].detach().abs().max()) == 0
    base(torch.arange(4, 16).view(2, 6)).last_hidden_state.square().sum().backward()
    assert float(layer.output.dense.weight.grad[:, 64:].abs().min()) > 0


def test_parameters_of_a_unit_by_hand(tiny_bert: Path):
    # Two layers of width 32: 32 weights and a bias into the unit, 32 weights out of it.
    assert parameters_per_unit(AutoModel.from_pretrained(tiny_bert)) == 2 * (32 + 1 + 32)


@pytest.mark.parametrize("where", ["linear", "heads"])
@pytest.mark.parametrize("points", [[0.5], [0.3, 0.6]])
def test_capacity_takes_the_fewest_units_with_as_many_parameters(tiny_bert, where, points):
    flags = {"encoder.name": str(tiny_bert), "encoder.tune": "full", "dendrites.enabled": True,
             "dendrites.where": where, "dendrites.grow_at": points}  # fmt: skip
    real, _, _ = build(load_config(flags=flags).encoder, OUTPUTS, CPU, 0)
    targets = [real.get_submodule(name) for name in target_modules(real, where)]
    assert all(p.requires_grad for layer in targets for p in layer.parameters())
    wanted = real.count()["trainable"] + added_parameters(targets, len(points))
    cfg = load_config(flags={**flags, "dendrites.control": "capacity"})
    units = added_units(cfg, OUTPUTS)
    counts = [
        build(cfg.encoder, OUTPUTS, CPU, 0, wider=n)[0].count()["trainable"]
        for n in (units - 1, units)
    ]
    assert counts[0] < wanted <= counts[1]
    assert added_units(load_config(flags=flags), OUTPUTS) == 0


def test_all_other_weights_start_as_in_the_other_arms(tiny_bert: Path):
    cfg = load_config(flags={"encoder.name": str(tiny_bert), "encoder.tune": "full"})
    plain, wide = (build(cfg.encoder, OUTPUTS, CPU, 7, wider=n)[0] for n in (0, 3))
    assert all(p.equal(q) for p, q in zip(plain.heads.parameters(), wide.heads.parameters(),
                                          strict=True))  # fmt: skip


def test_what_cannot_be_widened_is_refused_in_one_line(tiny_gpt2: Path):
    base = AutoModel.from_pretrained(tiny_gpt2)
    with pytest.raises(UserError, match=r"capacity.*Found in gpt2") as caught:
        parameters_per_unit(base)
    assert "\n" not in str(caught.value)
    square = nn.Module()
    square.config = DistilBertConfig(dim=32, hidden_dim=32)
    with pytest.raises(UserError, match="as wide as the token states, 32"):
        parameters_per_unit(square)


def test_the_pooler_is_no_part_of_the_count(tiny_bert: Path):
    base = AutoModel.from_pretrained(locate(str(tiny_bert)).path)
    freeze_pooler(base)
    assert not any("pooler" in n for n, p in base.named_parameters() if p.requires_grad)
