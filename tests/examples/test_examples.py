"""The examples run, do the same, and accumulate as docs/dao.md says."""

import math
import re
import runpy
import sys
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from statistics import median
from types import ModuleType

import dao.learner  # noqa: F401  (settles torchvision before transformers is imported)

# isort: split
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

import accelerate_loop
import hf_trainer
import plain_loop
import toy
import vision_digits
from dao import DAOLoss
from dao.schedule import due

# A warning of a package's own class makes the other process of a parallel run import the package.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

EXAMPLES = ("plain_loop", "accelerate_loop", "hf_trainer", "lightning_module")
STEPS = 20
Run = tuple[list[dict[str, float]], nn.Module]

every_example = pytest.mark.parametrize("example", EXAMPLES, indirect=True)


@pytest.fixture
def example(request: pytest.FixtureRequest) -> ModuleType:
    """The module of an example, imported where it is needed: Lightning takes seconds."""
    return lightning() if request.param == "lightning_module" else import_module(request.param)


def lightning() -> ModuleType:
    return pytest.importorskip("lightning_module", reason="needs pip install lightning")


def deviation(one: Run, other: Run) -> tuple[float, float]:
    """Largest relative difference of weights, largest absolute one of parameters."""
    weights = max(
        abs(a[task] / b[task] - 1) for a, b in zip(one[0], other[0], strict=True) for task in a
    )
    models = zip(one[1].parameters(), other[1].parameters(), strict=True)
    return weights, max((p - q).abs().max().item() for p, q in models)


def ratios(run: Run) -> list[float]:
    return [weights["cls"] / weights["reg"] for weights in run[0]]


@every_example
def test_an_example_runs_as_a_command(example, monkeypatch, capsys):
    command = [example.__file__, "--steps", "3", "--accumulate", "2"]
    monkeypatch.setattr(sys, "argv", command)
    runpy.run_path(command[0], run_name="__main__")
    last = capsys.readouterr().out.splitlines()[-1]
    found = re.fullmatch(r"DAO weights after 3 steps: cls (\d\.\d{6}), reg (\d\.\d{6})", last)
    assert found, last
    # Each weight is the mean of the norms over the task's own.
    assert 1 / float(found[1]) + 1 / float(found[2]) == pytest.approx(2, abs=1e-5)


@every_example
def test_a_line_every_five_steps(example, capsys):
    example.main(["--steps", "11", "--accumulate", "8", "--seed", "3"])
    lines = capsys.readouterr().out.splitlines()
    task = r"  {}: loss \d+\.\d{{4}} weight \d\.\d{{4}} norm \d+\.\d{{4}}"
    for step, line in zip((5, 10), lines, strict=False):
        pattern = f"step {step:3d}" + task.format("cls") + task.format("reg")
        assert re.fullmatch(pattern, line), line
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--accumulate", "3"], "--accumulate should divide 32. Found 3."),
        (["--accumulate", "0"], "--accumulate should divide 32. Found 0."),
        (["--steps", "0"], "--steps should be at least 1. Found 0."),
    ],
)
def test_what_cannot_be_run_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        plain_loop.main(arguments)
    assert message in capsys.readouterr().err


@every_example
def test_the_diff_in_the_docstring_is_what_the_code_has(example):
    _, _, code = Path(example.__file__).read_text().split('"""', 2)
    shown = [line[4:] for line in example.__doc__.splitlines() if line.startswith("    ")]
    there = {line.strip() for line in re.sub(r"\(\n +(.*)\n +\)", r"(\1)", code).splitlines()}
    assert sum(line.startswith("+") for line in shown) == 2
    for line in shown:
        assert (line[1:].strip() in there) != line.startswith("-"), line


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("example", EXAMPLES[1:], indirect=True)
def test_every_example_gives_the_weights_of_the_plain_loop(example, accumulate):
    plain = plain_loop.train(STEPS, accumulate, seed=0)
    assert len(plain[0]) == STEPS
    assert len({weights["cls"] for weights in plain[0]}) >= 4  # steps 0, 1, 4, 16
    weights, parameters = deviation(example.train(STEPS, accumulate, seed=0), plain)
    assert weights < 1e-6
    assert parameters < 1e-6
    assert deviation(plain_loop.train(STEPS, accumulate, seed=1), plain)[0] > 1e-3


def trained_by_sgd(folder: Path, model: nn.Module | None = None) -> nn.Module:
    trainer = hf_trainer.build(3, accumulate=4, seed=0, folder=str(folder))
    trainer.args.optim = "sgd"
    if model is not None:
        trainer = hf_trainer.Trainer(model, trainer.args, train_dataset=trainer.train_dataset)
    trainer.train()
    return trainer.model.model


class WithKwargs(hf_trainer.Balanced):
    def forward(self, input_ids, labels=None, scores=None, **kwargs):
        return super().forward(input_ids, labels, scores)


def test_each_divides_by_the_accumulation_steps_once(tmp_path, monkeypatch):
    """By SGD, as AdamW does not see the scale of a gradient; and what a **kwargs would do."""
    monkeypatch.setattr(torch.optim, "AdamW", torch.optim.SGD)
    plain = plain_loop.train(3, 4, seed=0)
    assert deviation(accelerate_loop.train(3, 4, seed=0), plain)[1] < 1e-6
    assert deviation((plain[0], trained_by_sgd(tmp_path)), plain)[1] < 1e-6
    torch.manual_seed(0)
    undivided = trained_by_sgd(tmp_path, WithKwargs(toy.TwoTasks(), accumulate=4))
    assert deviation((plain[0], undivided), plain)[1] > 1e-2


def test_the_trainers_log_holds_what_each_task_did(tmp_path):
    trainer = hf_trainer.build(4, accumulate=2, seed=0, folder=str(tmp_path))
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "cls_weight" in entry]
    assert [entry["step"] for entry in logged] == [1, 2, 3, 4]
    names = {f"{t}_{n}" for t in ("cls", "reg") for n in ("loss", "weight", "norm", "share")}
    assert all(set(entry) == names | {"step", "epoch"} for entry in logged)
    telemetry = trainer.model.balance.telemetry()
    for task, row in telemetry.items():
        assert {name: logged[-1][f"{task}_{name}"] for name in row} == row
    assert sum("loss" in entry for entry in trainer.state.log_history) == 4


def test_the_trainer_evaluates_with_the_weights_as_they_stand(tmp_path):
    trainer = hf_trainer.build(2, accumulate=2, seed=0, folder=str(tmp_path))
    trainer.train()
    before = trainer.model.state_dict()
    rows = toy.rows(8, seed=5)  # one batch
    found = trainer.predict(rows)
    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    logits, score = trainer.model.model(batch["input_ids"])
    losses = {
        "cls": cross_entropy(logits, batch["labels"]),
        "reg": mse_loss(score, batch["scores"]),
    }
    weights = toy.weights(trainer.model.balance.telemetry())
    expected = sum(weights[task] * loss.item() for task, loss in losses.items())
    assert found.metrics["test_loss"] == pytest.approx(expected, rel=1e-5)
    assert [targets.tolist() for targets in found.label_ids] == [
        batch["labels"].tolist(),
        batch["scores"].tolist(),
    ]
    torch.testing.assert_close(trainer.model.state_dict(), before, rtol=0, atol=0, equal_nan=True)


def test_a_resumed_trainer_goes_on_with_the_same_weights(tmp_path):
    def make():
        trainer = hf_trainer.build(6, accumulate=2, seed=0, folder=str(tmp_path))
        trainer.args.save_strategy, trainer.args.save_steps = "steps", 3
        return trainer

    whole, resumed = make(), make()
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    state, again = whole.model.state_dict(), resumed.model.state_dict()
    torch.testing.assert_close(again, state, rtol=0, atol=0, equal_nan=True)
    assert state["balance.state.count"].tolist() == [6, 6]  # steps 0, 1, 4 of 2 micro-batches


def test_lightning_divides_by_the_accumulation_steps_once(monkeypatch):
    module = lightning()
    monkeypatch.setattr(torch.optim, "AdamW", torch.optim.SGD)
    assert deviation(module.train(3, 4, seed=0), plain_loop.train(3, 4, seed=0))[1] < 1e-6


def test_lightning_saves_and_resumes_the_running_means(tmp_path):
    example = lightning()

    def fit(steps: int, resume: Path | None = None):
        torch.manual_seed(0)
        module = example.Balanced(2)
        rows = toy.rows(6 * toy.BATCH, 0)
        loader = torch.utils.data.DataLoader(rows, batch_size=toy.BATCH // 2)
        trainer = example.build(steps, 2)
        trainer.fit(module, loader, ckpt_path=resume)
        trainer.save_checkpoint(tmp_path / f"{steps}.ckpt")
        return module

    whole = fit(6)
    fit(3)
    # Lightning begins the epoch anew; the state of the loss does not.
    resumed = fit(5, tmp_path / "3.ckpt")
    assert whole.balance.state.count.tolist() == [6, 6]  # steps 0, 1, 4 of 2 micro-batches
    assert resumed.balance.state.count.tolist() == [6, 6]
    assert [row["step"] for row in resumed.history.rows()[::2]] == [4, 5]


def test_the_digits_are_turned_by_the_angles_that_are_their_targets():
    images, labels, angles = vision_digits.turned_digits(0)
    assert images.shape == (1797, 1, 8, 8)
    assert labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert angles.abs().max() <= 45
    again = vision_digits.turned_digits(0)
    assert all(torch.equal(a, b) for a, b in zip(again, (images, labels, angles), strict=True))
    assert not torch.equal(vision_digits.turned_digits(1)[2], angles)


@pytest.mark.slow
def test_the_digits_are_learned_beside_an_angle_in_degrees(capsys):
    vision_digits.main(["--steps", "150"])
    lines = capsys.readouterr().out.splitlines()
    pattern = r"(plain sum|DAO): accuracy of the digit (.*), mean error of the angle (.*) degrees"
    plain, balanced = (re.fullmatch(pattern, line).groups() for line in lines[:2])
    assert (plain[0], balanced[0]) == ("plain sum", "DAO")
    assert float(balanced[1]) > float(plain[1]) + 0.3
    assert max(float(plain[2]), float(balanced[2])) < 12  # 22.5 without having learned anything
    assert re.fullmatch(r"DAO weights: digit \d+\.\d+, angle 0\.\d+", lines[2])


def test_the_digits_want_a_step(capsys):
    with pytest.raises(SystemExit):
        vision_digits.main(["--steps", "0"])
    assert "--steps should be at least 1. Found 0." in capsys.readouterr().err


# Accumulation. Each compares 4 micro-batches of 8 sentences with the whole batch of 32.


@pytest.fixture
def balanced_with(monkeypatch) -> Callable[..., list[DAOLoss]]:
    """Gives the plain loop's DAOLoss other options; those built are in the list."""

    def set_options(**options):
        def build(*args, **given):
            built.append(DAOLoss(*args, **given, **options))
            return built[-1]

        built: list[DAOLoss] = []
        monkeypatch.setattr(plain_loop, "DAOLoss", build)
        return built

    return set_options


@pytest.fixture
def equal_micro_batches(monkeypatch) -> None:
    """Every batch is a quarter of its sentences, four times."""
    drawn = toy.rows

    def repeated(count, seed):
        rows = drawn(count, seed)
        starts = range(0, count, toy.BATCH)
        return [row for start in starts for row in rows[start : start + toy.BATCH // 4] * 4]

    monkeypatch.setattr(toy, "rows", repeated)


def whole_and_accumulated(steps: int = STEPS, seed: int = 0) -> tuple[Run, Run]:
    return plain_loop.train(steps, 1, seed), plain_loop.train(steps, 4, seed)


def test_for_given_weights_the_gradient_is_that_of_the_whole_batch(balanced_with):
    balanced_with(alpha=0.0)
    assert deviation(*whole_and_accumulated())[1] < 1e-6
    balanced_with(alpha=1.0)
    assert deviation(*whole_and_accumulated())[1] > 1e-3


@pytest.mark.usefixtures("equal_micro_batches")
def test_without_memory_equal_micro_batches_give_the_weights_of_the_whole_batch(balanced_with):
    balanced_with(ema=0.0, refresh_every=1)
    weights, parameters = deviation(*whole_and_accumulated())
    assert weights < 1e-6
    assert parameters < 1e-6


@pytest.mark.usefixtures("equal_micro_batches")
def test_the_mean_catches_up_within_the_step_and_the_weights_in_the_next(
    balanced_with, monkeypatch
):
    monkeypatch.setattr(toy, "LEARNING_RATE", 0.0)  # the same norms in both runs
    built = balanced_with()
    whole, accumulated = whole_and_accumulated()
    means = [balance.state.log_ema.tolist() for balance in built]
    assert means[1] == pytest.approx(means[0], abs=1e-6)

    # x: log norms measured so far, from the whole batches' weights, which are their plain mean.
    x: list[float] = []
    for step in range(STEPS):
        mean = -math.log(ratios(whole)[step])
        if due(step, 50):
            x.append(mean * (len(x) + 1) - sum(x))
            first = (4 * sum(x[:-1]) + x[-1]) / (4 * len(x) - 3)
            assert ratios(accumulated)[step] == pytest.approx(math.exp(-first), rel=1e-6)
        else:
            assert ratios(accumulated)[step] == pytest.approx(math.exp(-mean), rel=1e-6)
    assert deviation(whole, accumulated)[0] > 1e-2  # they do lag


@pytest.mark.usefixtures("equal_micro_batches")
def test_an_older_mean_is_nearly_that_of_the_whole_batches(balanced_with, monkeypatch):
    monkeypatch.setattr(toy, "LEARNING_RATE", 0.0)
    built = balanced_with(refresh_every=1)  # 20 measured steps; its plain mean ends with the tenth
    whole_and_accumulated(seed=1)
    one, other = (balance.state.log_ema for balance in built)
    assert 1e-5 < (one - other).abs().max().item() < 1e-3


@pytest.mark.slow
def test_different_micro_batches_give_weights_as_far_apart_as_documented():
    first, last = [], []
    for seed in range(12):
        whole, accumulated = whole_and_accumulated(seed=seed)
        apart = [a / b for a, b in zip(ratios(whole), ratios(accumulated), strict=True)]
        first.append(max(apart[0], 1 / apart[0]))
        last.append(max(apart[-1], 1 / apart[-1]))
    assert (round(median(first), 1), round(max(first), 1)) == (1.3, 2.1)
    assert (round(median(last), 1), round(max(last), 1)) == (1.2, 1.4)


def test_weights_change_between_optimizer_steps_only(balanced_with, monkeypatch):
    built = balanced_with(refresh_every=1)
    seen = []
    call = DAOLoss.forward

    def watched(self, losses):
        total = call(self, losses)
        seen.append(toy.weights(self.telemetry())["cls"])
        return total

    monkeypatch.setattr(DAOLoss, "forward", watched)
    plain_loop.train(5, 4, 0)
    assert len(built) == 1
    assert [a == b for a, b in pairwise(seen)] == ([True] * 3 + [False]) * 4 + [True] * 3
