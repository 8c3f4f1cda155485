"""perforatedai under control: growth, resuming, isolation, and nothing left behind."""

import builtins
import io
import json
import os
import pdb
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import dao.learner  # noqa: F401  (settles torchvision before transformers is imported)

# isort: split
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from transformers import BertConfig, BertModel, BitsAndBytesConfig, PhiConfig, PhiModel

from dao.errors import UserError
from dao.learner.dendrites.dendrites import (
    DendriteError,
    Dendrites,
    GrowthOptions,
    target_modules,
)
from dao.learner.dendrites.dendritic import attach, load
from dao.learner.dendrites.perforated import configure, guarded, load_package
from dao.learner.model.model import build
from dao.learner.settings.config import load_config

pytest.importorskip("perforatedai")

VOCABULARY = 32
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
LORA = "encoder.base_model.model.layers.0.self_attn.{}"
LORA_B = f"{LORA}.lora_B.default"
LOW_RANK = "wrapped-lowrank"
RANK = 4
ADAPTED = ("q_proj", "k_proj", "v_proj", "dense")


class TwoHeads(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict({"cls": nn.Linear(16, 3), "reg": nn.Linear(16, 1)})

    def forward(self, ids):
        hidden = self.encoder(input_ids=ids).last_hidden_state.float().mean(1)
        return torch.cat([head(hidden) for head in self.heads.values()], dim=-1)


def lora(base, targets):
    return get_peft_model(base, LoraConfig(r=RANK, lora_alpha=8, target_modules=targets))


def tiny_phi(base=None):
    torch.manual_seed(0)
    base = base or PhiModel(PhiConfig(**SIZES))
    return TwoHeads(lora(base, list(ADAPTED)))


def tiny_bert():
    torch.manual_seed(0)
    return TwoHeads(BertModel(BertConfig(**SIZES, **NO_DROPOUT), add_pooling_layer=False))


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(2, VOCABULARY, (48, 6), generator=generator)
    small = (ids < 12).sum(1)
    return ids, small.clamp(max=2), small / 6


@pytest.fixture
def phi_folder(request):
    return request.getfixturevalue("tiny_phi")


def dendrites(model, run_dir, where="lora_B+heads", **options):
    probe = options.pop("probe", lambda m: m(torch.full((2, 4), 2)))
    given = {"init_scale": 0.05, "rank": RANK if where == LOW_RANK else None} | options
    targets = target_modules(model, where)
    return Dendrites(model, targets, GrowthOptions(**given), run_dir=run_dir, probe=probe)


def trainable(model):
    return {n: p for n, p in model.named_parameters() if p.requires_grad}


def weights(model):
    return {n: p.detach().clone() for n, p in trainable(model).items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def shapes(model):
    return [tuple(p.shape) for p in model.parameters()]


class Run:
    """A training loop in miniature: what a caller does around `Dendrites`."""

    def __init__(self, run_dir, data, model=None, **options):
        self.data = data
        self.model = model or tiny_phi()
        self.growing = dendrites(self.model, run_dir, **options)
        self.results = []
        self.renew()

    def renew(self):
        self.optimizer = torch.optim.AdamW(trainable(self.model).values(), lr=0.02)
        self.growing.set_optimizer(self.optimizer)

    def train(self, steps=2):
        ids, label, target = self.data
        for _ in range(steps):
            out = self.model(ids)
            loss = cross_entropy(out[:, :3], label) + mse_loss(out[:, 3], target)
            self.optimizer.zero_grad()
            loss.backward()
            self.growing.record_gradients()
            self.optimizer.step()
        return loss.item()

    def validate(self, score, grow=False):
        self.results.append(self.growing.validation(score, grow=grow, extra={"val/cls": score}))
        if self.results[-1].restructured:
            self.renew()
        return self.results[-1]

    def go(self, plan):
        for score, grow in plan:
            self.train()
            self.validate(score, grow)
        return self


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("heads", ["heads.cls", "heads.reg"]),
        ("lora_B", [LORA_B.format(n) for n in ADAPTED]),
        (LOW_RANK, [LORA.format(n) for n in ADAPTED]),
    ],
)
def test_presets(where, names):
    assert target_modules(tiny_phi(), where) == names


def test_presets_combine():
    model = tiny_phi()
    both = set(target_modules(model, "lora_B")) | set(target_modules(model, "heads"))
    assert set(target_modules(model)) == set(target_modules(model, "lora_B+heads")) == both
    assert len(target_modules(model, "lora")) == 8
    # The base under LoRA is frozen: no preset names it.
    assert set(target_modules(model, "linear")) == set(target_modules(model, "lora")) | both
    assert len(target_modules(tiny_bert(), "linear")) == 8


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("lora_b", "Found 'lora_b'"),
        ("lora_B", "'lora_B'.* Found 8 linear layers, 8 of them"),
        (LOW_RANK, "'wrapped-lowrank' should find linear layers with LoRA. Found none"),
    ],
)
def test_presets_that_match_nothing(where, message):
    with pytest.raises(UserError, match=message):
        target_modules(tiny_bert(), where)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("encoder.base_model.model.layers.0.self_attn.q_proj", r"trainable. Found 272 frozen"),
        ("encoder.base_model.model.layers.0.mlp.fc1", r"trainable. Found 544 frozen"),
        ("heads", "Found ModuleDict"),
        ("heads.nlp", "Found no such module"),
    ],
)
def test_unfit_targets_are_refused(target, message, tmp_path):
    with pytest.raises(UserError, match=message):
        Dendrites(tiny_phi(), [target], GrowthOptions(), run_dir=tmp_path, probe=lambda m: None)


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("heads.cls", "Found Linear"),
        ("encoder.base_model.model.layers.0.mlp.fc1", "Found Linear"),
        (LORA_B.format("q_proj"), "Found Linear"),
        ("heads.nlp", "Found no such module"),
    ],
)
def test_low_rank_dendrites_belong_on_lora_layers(target, found, tmp_path):
    options = GrowthOptions(rank=RANK)
    with pytest.raises(UserError, match=rf"linear layer with LoRA.* {found}"):
        Dendrites(tiny_phi(), [target], options, run_dir=tmp_path, probe=lambda m: None)


def test_targets_that_do_not_run_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"2 that did not run, first 'heads\.cls'"):
        dendrites(tiny_phi(), tmp_path, where="heads", probe=lambda m: None)


@pytest.mark.slow
def test_grows_twice_and_learns(tmp_path, data):
    run = Run(tmp_path, data, max_dendrites=2)
    facts = run.growing.report()
    assert facts["modules_wrapped"] == 6
    assert (facts["dendrites_added"], facts["parameters_added"]) == (0, 0)
    plain = sum(p.numel() for p in trainable(tiny_phi()).values())
    assert sum(p.numel() for p in run.growing.model.parameters() if p.requires_grad) == plain

    first_loss = run.train()
    assert run.validate(0.1, grow=True).dendrites == 1
    assert run.growing.report()["received_gradient"] == 0
    before = weights(run.model)
    run.train(4)
    after = weights(run.model)
    assert all(not torch.equal(before[n], after[n]) for n in before if ".layers." in n)
    facts = run.growing.report()
    assert facts["received_gradient"] == facts["gates_received_gradient"] == 6
    assert min(facts["gradient_norms"].values()) > 0

    assert run.validate(0.2, grow=True).dendrites == 2
    last_loss = run.train(20)
    assert last_loss < first_loss
    assert run.validate(0.3).dendrites == 2
    facts = json.loads(json.dumps(run.growing.report()))
    assert facts["dendrites_added"] == facts["dendrites_kept"] == 2
    assert facts["received_gradient"] == 12
    assert (facts["validations"], facts["switch_validations"]) == (3, [1, 2])
    # Per module two copies, gates, and gates between the two.
    shapes = [(16, 4, 0)] * 4 + [(3, 16, 1), (1, 16, 1)]
    assert facts["parameters_added"] == sum(
        2 * (out * width + bias * out) + 2 * out + out for out, width, bias in shapes
    )
    added = sum(p.numel() for p in trainable(run.model).values()) - plain
    assert facts["parameters_added"] == added
    assert added == sum(p.numel() for p in run.growing.dendrite_parameters())


@pytest.mark.slow
def test_writes_into_its_folder_only_and_asks_nothing(tmp_path, data, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    sys.stdin.close()
    run = Run(tmp_path / "run", data).go([(0.1, True), (0.2, False)])
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["PAI"]
    assert not list(tmp_path.rglob("*.png"))
    picture = run.growing.graph()
    assert picture == tmp_path / "run" / "PAI" / "PAI.png"
    assert picture.stat().st_size > 10_000
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert capsys.readouterr() == ("", "")
    assert Path.cwd() == tmp_path


def test_random_numbers_of_the_caller_do_not_move(tmp_path, data):
    model = tiny_phi()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    growing = dendrites(model, tmp_path)
    growing.set_optimizer(torch.optim.SGD(model.parameters(), lr=0.1))
    growing.validation(0.1, grow=True)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("seed", [0, 1])
def test_new_dendrites_follow_the_seed(seed, tmp_path, data):
    def grown(number, name):
        run = Run(tmp_path / name, data, seed=number)
        run.validate(0.1, grow=True)
        return run.growing.twin_state()[1]["heads.cls.layers.0.weight"]

    same_seed = torch.equal(grown(0, "one"), grown(seed, "two"))
    assert same_seed == (seed == 0)


@pytest.mark.slow
def test_low_rank_dendrites_never_copy_a_frozen_layer(tmp_path, data):
    """Not when wrapping, not in a growth or a reload, and not for a moment."""

    def refuse(_):
        raise AssertionError("a frozen layer was copied")

    model = tiny_phi()
    for name in ADAPTED:
        model.get_submodule(LORA.format(name)).base_layer.__deepcopy__ = refuse
    before = shapes(model)
    plain = sum(p.numel() for p in model.parameters())
    own = sum(p.numel() for p in trainable(model).values())
    run = Run(tmp_path, data, model=model, where=LOW_RANK, max_dendrites=3)
    pairs = 4 * RANK * (16 + 16)
    # Nothing that trains yet, and of perforatedai's spare copies the low-rank layers alone.
    assert sum(p.numel() for p in trainable(model).values()) == own
    assert sum(p.numel() for p in model.parameters()) == plain + pairs
    for sets, plan in enumerate((FIXED[:2], FIXED[2:5], FIXED[5:]), start=1):
        run.go(plan)
        gates = 4 * 16 * (sets + sets * (sets - 1) // 2)
        added = sum(p.numel() for p in trainable(model).values()) - own
        assert added == run.growing.report()["parameters_added"] == sets * pairs + gates
        # Besides, only gates of earlier sets, which perforatedai keeps and never uses again.
        left = sum(p.numel() for p in model.parameters()) - plain - pairs - added
        assert left < 4 * 16 * sets * (sets + 1)
        after = shapes(model)
        assert all(after.count(s) == before.count(s) for s in ((16, 16), (32, 16), (16, 32)))
    run.train(2)
    assert run.growing.report()["received_gradient"] == 12


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_low_rank_dendrites_keep_the_fold_and_the_type(
    precision, count, tmp_path, data, phi_folder
):
    """The layer alone is folded and gives the type of its input; so it does with dendrites."""

    def fresh():
        cfg = load_config(None, [f"encoder.name={phi_folder}", f"encoder.precision={precision}"])
        return build(cfg.encoder, {"cls": 3, "reg": 1}, torch.device("cpu"), 0)[0]

    def answer(model):
        return torch.cat([*model(data[0], torch.ones_like(data[0])).values()], 1)

    model, plain = fresh(), fresh()
    targets = target_modules(model, LOW_RANK)
    assert targets == target_modules(fresh(), LOW_RANK)
    options = GrowthOptions(max_dendrites=count, rank=8)
    growing = Dendrites(model, targets, options, run_dir=tmp_path, probe=answer)
    seen = []
    layer = model.get_submodule(targets[0])
    layer.register_forward_hook(lambda _, args, out: seen.append((args[0].dtype, out.dtype)))
    for score in range(count):
        optimizer = torch.optim.AdamW(trainable(model).values(), lr=0.02)
        growing.set_optimizer(optimizer)
        growing.validation(score, grow=True)
    assert torch.equal(answer(model), answer(plain))
    optimizer = torch.optim.AdamW(trainable(model).values(), lr=0.02)
    for _ in range(3):
        answer(model).square().mean().backward()
        growing.record_gradients()
        optimizer.step()
    assert growing.report()["received_gradient"] == count * len(targets)
    low = torch.bfloat16 if precision == "bf16" else torch.float32
    assert set(seen) == {(low, low)}
    assert {p.dtype for p in growing.dendrite_parameters()} == {torch.float32}
    description, tensors = growing.twin_state()
    load(attach(plain, description), tensors)
    with torch.no_grad():
        assert torch.equal(answer(plain), answer(model))


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf")])
def test_scores_are_finite(score, tmp_path, data):
    with pytest.raises(DendriteError, match="should be finite"):
        Run(tmp_path, data).validate(score)


@pytest.mark.parametrize("scores", [(0.0, 0.0, -0.5), (-2.0, -3.0, -4.0)])
def test_growth_starts_from_the_best_so_far(scores, tmp_path, data):
    """Also where that was the first validation, and for scores of zero and below."""
    run = Run(tmp_path, data)
    run.train()
    best = weights(run.model)
    outputs = run.model(data[0])
    run.validate(scores[0])
    run.train()
    assert not same(weights(run.model), best)
    run.validate(scores[1])
    run.train()
    result = run.validate(scores[2], grow=True)
    assert (result.restructured, result.done, result.dendrites) == (True, False, 1)
    now = weights(run.model)
    assert same({n: now[n] for n in best}, best)
    # Gates are zero, so the model answers as the best one did.
    assert torch.equal(run.model(data[0]), outputs)


def test_growth_at_a_new_best_keeps_it(tmp_path, data):
    run = Run(tmp_path, data).go([(0.1, False)])
    run.train()
    best = weights(run.model)
    run.validate(0.2, grow=True)
    now = weights(run.model)
    assert same({n: now[n] for n in best}, best)


def test_a_set_that_did_not_help_is_replaced(tmp_path, data):
    run = Run(tmp_path, data, max_dendrites=2).go([(0.5, True), (0.4, False)])
    first = run.growing.twin_state()[1]["heads.cls.layers.0.weight"]
    run.train()
    assert run.validate(0.3, grow=True).dendrites == 1
    assert not torch.equal(run.growing.twin_state()[1]["heads.cls.layers.0.weight"], first)
    run.train()
    facts = run.growing.report()
    assert (facts["dendrites_added"], facts["dendrites_kept"]) == (2, 1)
    # One step moves the gates only; the first set's gradients stay on record.
    assert facts["received_gradient"] == 12


def test_nothing_happens_after_the_last_growth(tmp_path, data):
    run = Run(tmp_path, data).go([(0.5, True)])
    for i in range(25):
        before = weights(run.model)
        result = run.validate(0.4 - i / 10)
        assert (result.restructured, result.done, result.dendrites) == (False, False, 1)
        assert same(weights(run.model), before)
    with pytest.raises(DendriteError, match="at most 1 times"):
        run.validate(0.1, grow=True)


def test_patience(tmp_path, data):
    run = Run(tmp_path, data, patience=2)
    run.go([(0.5, False), (0.4, False)])
    assert not run.results[-1].restructured
    run.go([(0.4, False)])
    assert (run.results[-1].restructured, run.results[-1].dendrites) == (True, 1)
    run.train()
    best = weights(run.model)
    run.validate(0.6)
    run.go([(0.5, False), (0.5, False)])
    assert (run.results[-1].done, run.results[-1].dendrites) == (True, 1)
    assert same(weights(run.model), best)
    run.train()
    after = weights(run.model)
    assert run.validate(0.1).done
    assert same(weights(run.model), after)
    with pytest.raises(DendriteError, match="patience=None"):
        run.validate(0.1, grow=True)


def test_patience_takes_back_a_set_that_did_not_help(tmp_path, data):
    run = Run(tmp_path, data, patience=1, tries=2)
    run.go([(0.5, False)] + [(0.4, False)] * 5)
    assert [r.dendrites for r in run.results] == [0, 1, 1, 1, 1, 0]
    assert run.results[-1].done
    facts = run.growing.report()
    assert (facts["dendrites_added"], facts["dendrites_kept"]) == (2, 0)
    assert facts["switch_validations"] == [2, 4]
    assert run.growing.twin_state()[0]["dendrites"] == {}


def test_an_optimizer_must_be_named(tmp_path, data):
    run = Run(tmp_path, data)
    run.growing.validation(0.1, grow=True)
    with pytest.raises(DendriteError, match="set_optimizer"):
        run.growing.validation(0.2)


def test_gradients_of_the_caller_stay(tmp_path, data):
    run = Run(tmp_path, data)
    run.train()
    gradient = run.model.heads["cls"].weight.grad.clone()
    run.validate(0.1)
    assert torch.equal(run.model.heads["cls"].weight.grad, gradient)


def checkpoint(run, folder):
    folder.mkdir()
    state = {
        "weights": weights(run.model),
        "optimizer": run.optimizer.state_dict(),
        "events": json.loads(json.dumps(run.growing.events)),
    }
    torch.save(state, folder / "state.pt")
    for path in run.growing.files():
        shutil.copy(path, folder / path.name)


def resume(run_dir, folder, data, **options):
    run = Run(run_dir, data, **options)
    state = torch.load(folder / "state.pt")
    run.growing.replay(state["events"])
    for path in run.growing.files():
        shutil.copy(folder / path.name, path)
    places = trainable(run.model)
    assert places.keys() == state["weights"].keys()
    with torch.no_grad():
        for name, value in state["weights"].items():
            places[name].copy_(value)
    run.renew()
    run.optimizer.load_state_dict(state["optimizer"])
    return run


FIXED = [
    (0.1, False),
    (0.3, True),
    (0.4, False),
    (0.2, False),
    (0.3, True),
    (0.2, False),
    (0.6, True),
]
PLATEAU = [(s, False) for s in (0.1, 0.3, 0.2, 0.4, 0.2, 0.5, 0.1, 0.2, 0.1)]


PLANS = {
    "fixed": (FIXED, {"max_dendrites": 3}, 3),
    "plateau": (PLATEAU, {"max_dendrites": 3, "patience": 1, "tries": 2}, 4),
    "low rank": (FIXED, {"max_dendrites": 3, "where": LOW_RANK}, 3),
}


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    """Name of a plan -> what a run without a stop told, and had at its end."""

    @cache
    def made(name):
        plan, options, added = PLANS[name]
        whole = Run(tmp_path_factory.mktemp("whole"), data, **options).go(plan)
        ends = weights(whole.model), whole.growing.report(), whole.growing.twin_state()
        assert ends[1]["dendrites_added"] == added
        return whole.results, ends

    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "killed"),
    [("fixed", 1), ("fixed", 3), ("fixed", 5), ("plateau", 3), ("plateau", 5), ("low rank", 5)],
)
def test_resumed_run_equals_the_uninterrupted_one(name, killed, tmp_path, data, uninterrupted):
    results, ends = uninterrupted(name)
    plan, options, _ = PLANS[name]

    part = Run(tmp_path / "part", data, **options).go(plan[:killed])
    part.train(1)
    checkpoint(part, tmp_path / "checkpoint")
    part.go([(0.9, False)])  # after the checkpoint, and lost

    resumed = resume(tmp_path / "part", tmp_path / "checkpoint", data, **options)
    resumed.train(1)
    resumed.validate(*plan[killed])
    resumed.go(plan[killed + 1 :])
    assert resumed.results == results[killed:]
    assert same(weights(resumed.model), ends[0])
    assert resumed.growing.report() == ends[1]
    assert resumed.growing.twin_state()[0] == ends[2][0]


def test_replay_comes_first(tmp_path, data):
    run = Run(tmp_path, data).go([(0.1, False)])
    with pytest.raises(DendriteError, match="fresh model"):
        run.growing.replay(run.growing.events)


@pytest.mark.slow
def test_arms_in_one_process_equal_each_alone(tmp_path, data):
    def arm(name, **options):
        run = Run(tmp_path / name, data, **options).go(FIXED[:5])
        return weights(run.model)

    alone = arm("one", max_dendrites=2)
    arm("other", max_dendrites=3, activation="relu", where="heads", init_scale=0.5)
    assert same(arm("again", max_dendrites=2), alone)


def test_one_at_a_time(tmp_path, data):
    first = Run(tmp_path / "first", data)
    Run(tmp_path / "second", data)
    with pytest.raises(DendriteError, match="only ones at work"):
        first.validate(0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "activation", "where"),
    [
        (1, "sigmoid", "lora_B+heads"),
        (2, "tanh", "lora"),
        (3, "relu", "heads"),
        (1, "sigmoid", LOW_RANK),
        (3, "tanh", LOW_RANK),
    ],
)
def test_twin_is_exact(count, activation, where, tmp_path, data):
    plan = [(i / 10, True) for i in range(1, count + 1)]
    options = {"max_dendrites": count, "activation": activation, "where": where}
    run = Run(tmp_path, data, **options).go(plan)
    run.train(3)
    description, tensors = run.growing.twin_state()
    assert set(description["dendrites"].values()) == {count}
    twin = attach(tiny_phi(), json.loads(json.dumps(description)))
    load(twin, tensors)
    with torch.no_grad():
        expected = run.model(data[0])
        assert torch.equal(twin(data[0]), expected)
        # Gates have moved, so the dendrites count.
        assert not torch.equal(run.growing.detach()(data[0]), expected)
        load(attach(run.model, description), tensors)
        assert torch.equal(run.model(data[0]), expected)


@pytest.mark.parametrize("where", ["lora_B+heads", LOW_RANK])
def test_twin_is_exact_under_autocast(where, tmp_path, data):
    run = Run(tmp_path, data, where=where).go([(0.1, True)])
    run.train(3)
    description, tensors = run.growing.twin_state()
    twin = attach(tiny_phi(), description)
    load(twin, tensors)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(twin(data[0]), run.model(data[0]))


def test_snapshot_does_not_follow_the_model(tmp_path, data):
    run = Run(tmp_path, data).go([(0.1, True)])
    _, tensors = run.growing.twin_state()
    before = {k: v.clone() for k, v in tensors.items()}
    run.train()
    assert same(tensors, before)


def test_twin_without_dendrites_is_the_plain_model(tmp_path, data):
    run = Run(tmp_path, data)
    run.train()
    description, tensors = run.growing.twin_state()
    assert description["dendrites"] == {}
    assert tensors.keys() == trainable(tiny_phi()).keys()


@pytest.mark.parametrize(
    ("build", "where"),
    [(tiny_phi, "lora_B+heads"), (tiny_phi, LOW_RANK), (tiny_bert, "linear")],
)
def test_detach_gives_the_plain_model_back(build, where, tmp_path, data):
    run = Run(tmp_path, data, model=build(), where=where).go([(0.1, False), (0.2, True)])
    outputs = run.model(data[0])
    plain = run.growing.detach()
    assert torch.equal(plain(data[0]), outputs)
    fresh = build()
    assert [(n, type(m)) for n, m in plain.named_modules()] == [
        (n, type(m)) for n, m in fresh.named_modules()
    ]
    assert plain.state_dict().keys() == fresh.state_dict().keys()
    assert trainable(plain).keys() == trainable(fresh).keys()
    assert not hasattr(plain, "member_vars")
    assert not any(m._forward_hooks for m in plain.modules())
    with pytest.raises(DendriteError, match="detached"):
        run.validate(0.3)


@pytest.mark.parametrize("where", ["lora_B+heads", LOW_RANK])
def test_frozen_weights_stay_out_of_the_files(where, tmp_path, data):
    from safetensors import safe_open

    run = Run(tmp_path, data, where=where).go([(0.1, True), (0.2, False)])
    with safe_open(run.growing.files()[0], "pt") as file:
        names = list(file.keys())
    assert not [n for n in names if "base_layer" in n or "embed" in n or "parent_module" in n]
    assert [n for n in names if "lora_A" in n]
    assert run.model.tracker_string.numel() == 0


def test_settings_of_an_earlier_run_do_not_leak(tmp_path, data):
    Run(tmp_path, data)
    path = tmp_path / "PAI" / "PAI_config.json"
    found = json.loads(path.read_text())
    found |= {"confirm_correct_sizes": True, "save_old_graph_scores": False}
    path.write_text(json.dumps(found))
    Run(tmp_path, data)
    settings = load_package().globals.pc
    assert not settings.get_confirm_correct_sizes()
    assert settings.get_save_old_graph_scores()


def test_unknown_settings_are_refused():
    with pytest.raises(DendriteError, match="'max_dendrite'"):
        configure(load_package(), {"max_dendrite": 1})


@pytest.mark.parametrize(
    "ask", [lambda: pdb.set_trace(), lambda: builtins.input("?"), lambda: sys.exit(0)]
)
def test_questions_become_errors_with_the_last_words(ask, tmp_path):
    before = pdb.set_trace, builtins.input, sys.exit, Path.cwd()

    def interview():
        with guarded(tmp_path, seed=0):
            print("what a pity")
            ask()

    with pytest.raises(DendriteError, match="what a pity"):
        interview()
    assert (pdb.set_trace, builtins.input, sys.exit, Path.cwd()) == before


def test_a_missing_package_is_the_users_to_mend(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "perforatedai", None)
    with pytest.raises(UserError, match=r'pip install -c constraints\.txt -e "\.\[learner,dend'):
        dendrites(tiny_phi(), tmp_path)


@pytest.mark.parametrize(("where", "wrapped"), [("lora_B+heads", 6), (LOW_RANK, 4)])
def test_nf4_wraps_the_same_layers(where, wrapped, tmp_path, data):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    PhiModel(PhiConfig(**SIZES | {"hidden_size": 64})).save_pretrained(tmp_path / "base")
    quantised = PhiModel.from_pretrained(
        tmp_path / "base",
        quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
    )
    for module in quantised.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False
    quantised.requires_grad_(False)
    model = tiny_phi(quantised)
    model.heads = nn.ModuleDict({"cls": nn.Linear(64, 3), "reg": nn.Linear(64, 1)})
    assert target_modules(model, where) == target_modules(tiny_phi(), where)
    assert target_modules(model, "linear") == target_modules(tiny_phi(), "linear")
    plan = [(0.2, False), (0.1, True)]
    run = Run(tmp_path / "run", data, model=model, where=where).go(plan)
    run.train(3)
    assert run.growing.report()["received_gradient"] == wrapped
    description, tensors = run.growing.twin_state()
    # What is quantised is neither copied nor drawn anew.
    assert all(tensor.is_floating_point() for tensor in tensors.values())
    with torch.no_grad():
        expected = run.model(data[0])
        plain = run.growing.detach()
        assert not torch.equal(plain(data[0]), expected)
        load(attach(plain, description), tensors)
        assert torch.equal(plain(data[0]), expected)


RANK_PROGRAM = """
import gc
import sys
from pathlib import Path
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from dao.learner.dendrites.dendrites import Dendrites, GrowthOptions

dist.init_process_group("gloo")
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
growing = Dendrites(
    model,
    ["0", "2"],
    GrowthOptions(max_dendrites=2),
    run_dir=Path(sys.argv[1]),
    probe=lambda m: m(torch.ones(1, 4)),
)
torch.manual_seed(dist.get_rank())
x = torch.randn(16, 4)
for score in range(5):
    parameters = [p for p in model.parameters() if p.requires_grad]
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    growing.set_optimizer(optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        (parallel(x) - x[:, :1]).square().mean().backward()
        optimizer.step()
    growing.validation(score, grow=score in (1, 3))
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    others = [torch.empty_like(flat) for _ in range(2)]
    dist.all_gather(others, flat)
    assert torch.equal(*others)
assert growing.report()["dendrites_kept"] == 2
# The wrapper holds the group, whose threads have to end before the interpreter does.
del parallel
gc.collect()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_ranks_stay_equal(warm_python: str, tmp_path):
    program = tmp_path / "rank.py"
    program.write_text(RANK_PROGRAM)
    launcher = [warm_python, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    found = subprocess.run(
        [*launcher, str(program), str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stderr[-3000:]
