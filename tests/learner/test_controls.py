"""The arms that dendrites are compared with."""

import pytest
import torch
from torch import nn

from dao.errors import UserError
from dao.learner.dendrites import dendritic
from dao.learner.dendrites.controls import added_parameters, arm_encoder
from dao.learner.dendrites.dendrites import (
    DendriteError,
    Dendrites,
    GrowthOptions,
    target_modules,
)
from dao.learner.dendrites.targets import LOW_RANK
from dao.learner.model.model import build
from dao.learner.settings.config import load_config

OUTPUTS = {"cls": 3, "reg": 1}
CPU = torch.device("cpu")


def settings(encoder, **more):
    flags = {"encoder.name": str(encoder), "dendrites.enabled": True, **more}
    return load_config(flags=flags)


def test_parameters_of_two_sets_by_hand():
    layer = nn.Linear(3, 2)  # 8 parameters; each set adds a copy and 2 gates, the second 2 more
    assert added_parameters([layer], 1) == 10
    assert added_parameters([layer], 2) == 22


def test_parameters_of_two_low_rank_sets_by_hand():
    layer = nn.Linear(3, 2)  # whose own parameters do not count: 1 x 3 and 2 x 1, and the gates
    assert added_parameters([layer], 1, rank=1) == 7
    assert added_parameters([layer], 2, rank=1) == 16


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.heads = nn.ModuleDict({"cls": nn.Linear(6, 3), "reg": nn.Linear(6, 1)})

    def forward(self, x):
        return {name: head(x) for name, head in self.heads.items()}


def grown(model, folder, sets=1, sham=False):
    dendrites = Dendrites(
        model,
        target_modules(model, "heads"),
        GrowthOptions(max_dendrites=sets, sham=sham),
        run_dir=folder,
        probe=lambda m: m(torch.ones(2, 6)),
    )
    for step in range(sets):
        dendrites.set_optimizer(torch.optim.SGD(model.parameters(), lr=0.1))
        dendrites.validation(0.5 + step, grow=True)
    return dendrites


@pytest.mark.parametrize("sets", [1, 2])
def test_the_count_is_that_of_dendrites_that_were_grown(tmp_path, sets):
    model = Small()
    expected = added_parameters(model.heads.values(), sets)
    assert grown(model, tmp_path, sets).report()["parameters_added"] == expected


@pytest.mark.parametrize("where", ["lora_B+heads", LOW_RANK])
@pytest.mark.parametrize("points", [(0.5,), (0.3, 0.6)])
def test_capacity_takes_the_lowest_rank_with_as_many_parameters(tiny_phi, points, where):
    options = {"dendrites.grow_at": points, "dendrites.where": where, "encoder.lora.r": 4}
    real = settings(tiny_phi, **options)
    cfg = settings(tiny_phi, **options, **{"dendrites.control": "capacity"})
    model, _, _ = build(arm_encoder(real, OUTPUTS), OUTPUTS, CPU, 0)
    targets = [model.get_submodule(name) for name in target_modules(model, where)]
    rank = 4 if where == LOW_RANK else None
    wanted = model.count()["trainable"] + added_parameters(targets, len(points), rank)
    encoder = arm_encoder(cfg, OUTPUTS)
    widened, _, _ = build(encoder, OUTPUTS, CPU, 0)
    lower = encoder.lora.model_copy(update={"r": encoder.lora.r - 1})
    narrower, _, _ = build(encoder.model_copy(update={"lora": lower}), OUTPUTS, CPU, 0)
    assert narrower.count()["trainable"] < wanted <= widened.count()["trainable"]
    assert encoder.lora.alpha / encoder.lora.r == cfg.encoder.lora.alpha / cfg.encoder.lora.r


def test_all_arms_compute_lora_in_the_same_products(tiny_phi):
    for control in ("none", "sham", "restart", "capacity"):
        cfg = settings(tiny_phi, **{"dendrites.control": control})
        assert not arm_encoder(cfg, OUTPUTS).lora.folded
        for where in ("heads", LOW_RANK):
            options = {"dendrites.where": where, "dendrites.control": control}
            assert arm_encoder(settings(tiny_phi, **options), OUTPUTS).lora.folded
    assert arm_encoder(load_config(None, [f"encoder.name={tiny_phi}"]), OUTPUTS).lora.folded


def test_a_sham_never_trains_and_changes_nothing(tmp_path):
    model, plain = Small(), Small()
    dendrites = grown(model, tmp_path, sets=2, sham=True)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    other = torch.optim.SGD(plain.parameters(), lr=0.1)
    x = torch.randn(8, 6)
    for _ in range(3):
        for m, o in ((model, optimizer), (plain, other)):
            sum(v.square().mean() for v in m(x).values()).backward()
            o.step()
            o.zero_grad()
    dendrites.check_sham()
    assert all(model(x)[name].equal(plain(x)[name]) for name in OUTPUTS)
    report = dendrites.report()
    assert report["dendrites_added"] == 2
    assert report["parameters_added"] == report["received_gradient"] == 0
    description, tensors = dendrites.twin_state()
    assert description["dendrites"] == {}
    assert set(tensors) == set(plain.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_low_rank_sham_keeps_every_bit_of_the_folded_model(tiny_phi, tmp_path, precision):
    cfg = settings(tiny_phi, **{"dendrites.where": LOW_RANK, "encoder.precision": precision})
    model, plain = (build(arm_encoder(cfg, OUTPUTS), OUTPUTS, CPU, 0)[0] for _ in range(2))
    ids = torch.arange(2, 26).view(4, 6)
    targets, rank = target_modules(model, LOW_RANK), cfg.dendrite_rank
    dendrites = Dendrites(
        model,
        targets,
        GrowthOptions(max_dendrites=2, sham=True, rank=rank),
        run_dir=tmp_path,
        probe=lambda m: m(ids, torch.ones_like(ids)),
    )
    for score in (0.1, 0.2):
        dendrites.set_optimizer(torch.optim.SGD(model.parameters(), lr=0.1))
        dendrites.validation(score, grow=True)
    for m in (model, plain):
        optimizer = torch.optim.AdamW([p for p in m.parameters() if p.requires_grad], lr=0.01)
        for _ in range(3):
            sum(v.square().mean() for v in m(ids, torch.ones_like(ids)).values()).backward()
            optimizer.step()
            optimizer.zero_grad()
    dendrites.check_sham()
    report = dendrites.report()
    assert (report["dendrites_added"], report["parameters_added"]) == (2, 0)
    start = dict(build(cfg.encoder, OUTPUTS, CPU, 0)[0].named_parameters())
    left = dict(dendrites.detach().named_parameters())
    assert all(p.equal(left[n]) for n, p in plain.named_parameters())
    assert any(not p.equal(start[n]) for n, p in left.items())


def test_a_sham_that_does_something_is_found(tmp_path):
    model = Small()
    dendrites = grown(model, tmp_path, sham=True)
    with torch.no_grad():
        model.heads["reg"].dendrites_to_top[-1].fill_(0.1)
    with pytest.raises(DendriteError, match=r"heads\.reg"):
        dendrites.check_sham()


def test_fixed_points_are_needed_to_copy_a_schedule():
    for control in ("sham", "restart", "capacity"):
        flags = {"dendrites.control": control, "dendrites.enabled": True, "dendrites.patience": 2}
        with pytest.raises(UserError, match="grow_at"):
            load_config(flags=flags)


@pytest.mark.parametrize("control", ["none", "sham", "capacity"])
def test_only_a_restart_has_a_rate_of_its_own(control):
    flags = {"dendrites.enabled": True, "dendrites.control": control, "dendrites.restart_lr": 3}
    with pytest.raises(UserError, match=f"Found 3 with control={control}"):
        load_config(flags=flags)


def test_a_control_stands_in_for_dendrites():
    with pytest.raises(UserError, match="--dendrites"):
        load_config(None, ["dendrites.control=restart"])


def test_share_of_the_output_by_hand():
    model = nn.Sequential(nn.Linear(1, 1, bias=False))
    dendritic.attach(model, {"activation": "relu", "dendrites": {"0": 2}})
    module = model[0]
    with torch.no_grad():
        module.main.weight.fill_(1.0)
        module.layers[0].weight.fill_(1.0)
        module.layers[1].weight.fill_(3.0)
        module.top.copy_(torch.tensor([[0.5], [0.0]]))
    shares = dendritic.output_shares(model, lambda: model(torch.tensor([[1.0], [2.0]])))
    # out = x + 0.5 x, the first dendrite adds 0.5 x, the second nothing
    assert shares == {"0": pytest.approx([1 / 3, 0.0])}
    assert not module._forward_hooks
