"""Each arm of the benchmark does what it says, on the same batches; figures by hand."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from benchmarks.rules import RULES, Parts, Rule, Sum
from benchmarks.timing import peak_bytes
from benchmarks.weighting import TURN, _goals, app, compare, peak, time_turns
from benchmarks.weighting_model import Arm, Model, Options, task_names
from dao.learner.weighting.weighting import Losses

SMALL = Options(layers=2, width=32, batch_size=4, length=8, rounds=2, steps=TURN + 2)


def passes(name: str, block: int, steps: int, *, lora: bool = False, tasks: int = 2) -> list[int]:
    """Backward passes through a block of the encoder, in each step."""
    arm = Arm(replace(SMALL, tasks=tasks), RULES[name], lora=lora)
    seen = []

    def watch(module: object, args: object, output: Tensor) -> None:
        if output.requires_grad:  # FAMO's second look has no graph
            output.register_hook(lambda _: seen.append(1))

    base = arm.model.encoder.get_base_model() if lora else arm.model.encoder
    base.encoder.layer[block].register_forward_hook(watch)
    counts = []
    for number in range(steps):
        seen.clear()
        arm.run([number])
        counts.append(len(seen))
    return counts


ONCE, TWICE, THRICE = [1] * 3, [2] * 3, [3] * 3
PASSES = {
    "equal": ONCE,
    "equal_again": ONCE,
    "dao_every_step": THRICE,
    "dao_paper": THRICE,
    "dao_rep": ONCE,
    "dao_rep_frobenius": ONCE,
    "gls": ONCE,
    "uw": ONCE,
    "famo": ONCE,
    "gradnorm": TWICE,
    "dbmtl": TWICE,
    "torchjd_upgrad": ONCE,  # both losses in one pass, by vmap
    "torchjd_upgrad_in_turn": TWICE,
}


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("name", PASSES)
def test_backward_passes_per_step(name: str, lora: bool):
    assert passes(name, 0, 3, lora=lora) == PASSES[name]


@pytest.mark.slow
def test_dao_measures_when_it_says_and_only_as_deep_as_its_source():
    due = {0, 1, 4, 16, 50}
    assert passes("dao_untapped", 0, 51) == [3 if step in due else 1 for step in range(51)]
    # Measured at the representation always; compared at first both, then one at a time.
    assert passes("dao_default", 0, 51) == [3, *[1] * 49, 2]
    assert passes("dao_rep_calibrated", 0, 51) == [3, *[1] * 49, 3]
    assert passes("dao_last", 1, 4) == [3, 3, 1, 1]
    assert passes("dao_last", 0, 4) == [1, 1, 1, 1]


@pytest.mark.slow
def test_with_many_tasks_dao_takes_as_few_more_passes_as_with_eight():
    def more(name: str, tasks: int) -> dict[int, int]:
        counts = passes(name, 0, 51, tasks=tasks)
        return {step: count - 1 for step, count in enumerate(counts) if count > 1}

    for tasks in (8, 12):
        assert more("dao_untapped", tasks) == {0: 8, 25: 1, 50: 1}
        assert more("dao_default", tasks) == {0: 8, 50: 1}
    assert passes("dao_rep", 0, 2, tasks=8) == [1, 1]
    assert passes("dao_paper", 0, 2, tasks=8) == [9, 9]


def test_names_of_tasks_and_what_is_no_number_of_them():
    assert task_names(1) == ["cls"]
    assert task_names(5) == ["cls", "reg", "cls2", "reg2", "cls3"]
    for wrong in ("two", "2,0", "2,,8", "-1"):
        result = CliRunner().invoke(app, ["--tasks", wrong])
        assert result.exit_code == 1
        assert result.stderr.endswith(f"with commas. Found {wrong!r}.\n")


@pytest.mark.slow
def test_a_table_for_each_number_of_tasks(tmp_path: Path):
    file = tmp_path / "figures.json"
    command = [*OPTIONS, "--rounds", "1", "--no-lora", "--tasks", "2,5", "--quick"]
    command += ["--json", str(file)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    figures = json.loads(file.read_text())
    names = ("equal", "equal_again", "dao_default", "dao_untapped", "dao_rep", "dao_paper")
    for prefix in ("tasks2_", "tasks5_"):
        assert all(figures[f"{prefix}{name}{end}"] > 0 for name in names for end in ("", "_ms"))
        assert len(_goals(figures, [prefix])) == 6
    assert (figures["tasks"], figures["batch_size"], figures["layers"]) == ("2,5", 2, 1)
    assert figures["tasks5_trained"] - figures["tasks2_trained"] == 99 + 33 + 99
    assert "5 tasks, all parameters trained" in result.stdout


def shared_gradient(name: str, *, lora: bool) -> Tensor:
    """What the optimizer is given for the shared parameters in an arm's first step."""
    arm = Arm(SMALL, RULES[name], lora=lora)
    found = []
    arm._optimizer.register_step_pre_hook(
        lambda *_: found.extend(p.grad.flatten().clone() for p in arm.model.parts.shared)
    )
    arm.run([0])
    return torch.cat(found)


@pytest.mark.parametrize("lora", [False, True])
def test_rules_that_are_the_same_on_paper_give_the_same_gradient(lora: bool):
    found = {
        name: shared_gradient(name, lora=lora)
        for name in (
            "equal",
            "equal_again",
            "dao_paper",
            "dao_every_step",
            "dao_untapped",
            "torchjd_imtlg",
            "torchjd_upgrad",
            "torchjd_upgrad_in_turn",
        )
    }
    pairs = {
        "equal_again": found["equal"],
        "torchjd_imtlg": found["dao_paper"],  # for two tasks
        # The same direction, at the size of the plain sum's step.
        "dao_every_step": resized(found["dao_paper"], found["dao_every_step"]),
        "dao_untapped": resized(found["dao_paper"], found["dao_every_step"]),  # in the first step
        "torchjd_upgrad_in_turn": found["torchjd_upgrad"],
    }
    for name, expected in pairs.items():
        torch.testing.assert_close(
            found[name], expected, rtol=1e-3, atol=1e-5 * expected.abs().max().item()
        )
    assert (found["equal"] - found["dao_every_step"]).norm() > 0.1 * found["equal"].norm()


def resized(gradient: Tensor, example: Tensor) -> Tensor:
    return gradient * (example.norm() / gradient.norm())


@pytest.mark.slow
def test_arms_start_alike_see_the_same_batches_and_are_trained():
    names = ("equal", "dao_default", "dao_every_step", "torchjd_upgrad")
    arms = {name: Arm(SMALL, RULES[name], lora=False) for name in names}
    start = {n: {k: v.clone() for k, v in a.model.state_dict().items()} for n, a in arms.items()}
    seen: dict[str, list[Tensor]] = {name: [] for name in names}
    for name, arm in arms.items():
        torch.testing.assert_close(start[name], start["equal"], rtol=0, atol=0)
        arm.model.register_forward_pre_hook(
            lambda _, args, ids=seen[name]: ids.append(args[0].clone())
        )
    seconds = time_turns(arms, SMALL)
    # Two rounds of a full turn and a short one; arms whose steps cost the same have the first only.
    assert [len(steps) for steps in seconds["equal"]] == [SMALL.steps] * 2
    assert [len(steps) for steps in seconds["dao_default"]] == [SMALL.steps] * 2
    assert [len(steps) for steps in seconds["torchjd_upgrad"]] == [TURN] * 2
    assert len(set(seconds["equal"][0])) == 2
    whole = list(range(2 * SMALL.steps))
    first = [n for n in whole if n % SMALL.steps < TURN]
    for name, numbers in {"dao_default": whole, "dao_every_step": first}.items():
        assert all(map(torch.equal, seen[name], [seen["equal"][n] for n in numbers])), name
        assert len(seen[name]) == len(numbers)
    assert not torch.equal(seen["equal"][0], seen["equal"][1])
    for name, arm in arms.items():
        assert all(
            not torch.equal(value, start[name][key]) for key, value in arm.model.named_parameters()
        ), name


def test_lora_trains_the_adapter_and_the_heads_only():
    arm = Arm(SMALL, RULES["dao_default"], lora=True)
    before = {n: p.detach().clone() for n, p in arm.model.named_parameters()}
    arm.run(range(2))
    moved = {n for n, p in arm.model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {n for n in before if "lora_" in n or n.startswith("heads")}
    assert {id(p) for p in arm.model.parts.trainable} == {
        id(p) for n, p in arm.model.named_parameters() if n in moved
    }


def test_ratios_by_hand():
    # Seconds of 3, 1, 2 over seconds of 1, 1, 4.
    rounds = [[5.0, 1.0], [1.0, 1.0], [2.0, 2.0]]
    uneven = compare("dao_default", rounds, [[1.0, 1.0], [1.0, 1.0], [4.0, 4.0]])
    assert uneven["dao_default"] == pytest.approx(6 / 6)
    assert uneven["dao_default_steady"] == pytest.approx((1 + 0.5) / 2)
    assert uneven["dao_default_q1"] == pytest.approx(0.75)
    assert uneven["dao_default_q3"] == pytest.approx(2)
    assert uneven["dao_default_ms"] == pytest.approx(2000)
    # Over the reference's first turns; their median, not that of the times.
    even = compare("dao_paper", [[2.0], [9.0], [4.0]], [[1.0, 7.0], [3.0, 7.0], [2.0, 7.0]])
    assert even["dao_paper"] == pytest.approx(2)
    assert even["dao_paper_q3"] == pytest.approx(2.5)
    assert "dao_paper_steady" not in even


@pytest.mark.slow
def test_peak_memory_by_hand():
    cpu = torch.device("cpu")
    kept = []
    before = [torch.zeros(1000)]

    def work() -> None:
        before.clear()  # not the work's own
        kept.append(torch.zeros(1000))
        torch.zeros(500)
        torch.zeros(200)

    assert peak_bytes(work, cpu) == 4 * 1500
    assert peak_bytes(work, cpu) == 4 * 1500
    # Freed memory of an earlier call, and a copy inside of an operation.
    kept.clear()
    ones = torch.ones(1000)
    double = 8 * 1000 + 8
    assert peak_bytes(lambda: torch.linalg.vector_norm(ones, dtype=torch.float64), cpu) == double


class Hoarder(Sum):
    """Holds a million numbers while the graph is there."""

    def backward(self, losses: Losses) -> Tensor:
        hoard = torch.zeros(10**6)
        total = super().backward(losses)
        del hoard
        return total


@pytest.mark.slow
def test_peak_memory_sees_what_a_rule_holds():
    equal, again = (peak(SMALL, RULES["equal"], lora=False) for _ in range(2))
    count = sum(p.numel() for p in Arm(SMALL, RULES["equal"], lora=False).model.parameters())
    assert equal == again
    assert equal > 4 * 4 * count  # weights, gradients, two moments of Adam
    hoarder = peak(SMALL, Rule("", lambda _: Hoarder()), lora=False)
    assert hoarder == pytest.approx(equal + 4e6, rel=0.01)
    assert peak(SMALL, RULES["dao_rep"], lora=False) == pytest.approx(equal, rel=0.01)
    # Beside the graph, the gradient of the losses one by one.
    assert peak(SMALL, RULES["gradnorm"], lora=False) > equal + 4 * count


OPTIONS = ["--rounds", "2", "--steps", "2", "--width", "32", "--layers", "1"]
OPTIONS += ["--batch-size", "4", "--length", "8"]


@pytest.mark.slow
def test_command_line_writes_flat_figures_of_both_settings(tmp_path: Path):
    file = tmp_path / "figures.json"
    arms = ["--arms", "dao_default,dao_rep,torchjd_upgrad", "--json", str(file)]
    result = CliRunner().invoke(app, [*OPTIONS, *arms])
    assert result.exit_code == 0, result.output
    figures = json.loads(file.read_text())
    assert all(isinstance(value, int | float | str) for value in figures.values())
    for prefix in ("", "lora_"):
        for name in ("equal", "dao_default", "dao_rep", "torchjd_upgrad"):
            for end in ("", "_q1", "_q3", "_ms", "_peak_mib", "_peak_ratio"):
                assert figures[prefix + name + end] > 0
        assert figures[prefix + "equal"] == figures[prefix + "equal_peak_ratio"] == 1
        assert figures[prefix + "dao_default_steady"] > 0
        assert figures[prefix + "dao_rep_q1"] <= figures[prefix + "dao_rep_q3"]
        goal = f"{prefix}dao_rep is {figures[prefix + 'dao_rep']:.3f}; at most 1.03: "
        assert any(line.startswith(goal) for line in _goals(figures, [prefix]))
        assert "at most" not in result.stdout  # four steps allow no verdict
    assert figures["lora_trained"] < figures["trained"]
    assert result.stdout.count("| dao_default: DAOLoss") == 2
    assert result.stdout.count("\n|--") == 2


def test_one_setting_alone(tmp_path: Path):
    file = tmp_path / "figures.json"
    command = [*OPTIONS, "--arms", "dao_rep", "--no-lora", "--json", str(file)]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert not any(key.startswith("lora_") for key in json.loads(file.read_text()))


@pytest.mark.slow
def test_what_is_not_installed_is_left_out_with_a_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torchjd", None)
    monkeypatch.setitem(sys.modules, "LibMTL", None)
    arms = "dao_rep,torchjd_upgrad,torchjd_mgda,libmtl_imtl"
    result = CliRunner().invoke(app, [*OPTIONS, "--no-lora", "--arms", arms])
    assert result.exit_code == 0, result.output
    for library in ("torchjd", "LibMTL"):
        assert result.stdout.count(f"{library} is not installed: its rules are left out\n") == 1
    assert "| dao_rep: " in result.stdout
    assert "| torchjd_" not in result.stdout


@pytest.mark.parametrize("name", [name for name in RULES if name.startswith("libmtl")])
def test_rules_of_libmtl_fill_all_gradients(name: str):
    pytest.importorskip("LibMTL")
    arm = Arm(SMALL, RULES[name], lora=False)
    before = [p.detach().clone() for p in arm.model.parts.trainable]
    arm.run(range(2))
    assert not any(map(torch.equal, before, arm.model.parts.trainable))


def test_every_rule_is_made_for_the_parts_it_is_given():
    model = Arm(SMALL, RULES["equal"], lora=True).model
    parts: Parts = model.parts
    assert parts.last is model.encoder.get_base_model().encoder.layer[-1]
    assert parts.tasks == task_names(2)
    assert len(parts.shared) == 2 * 2 * 2  # blocks, query and value, A and B


def test_an_unknown_arm_is_one_line():
    result = CliRunner().invoke(app, ["--arms", "dao_rep,theirs"])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: `--arms` should be among equal, ")
    assert result.stderr.endswith("Found 'theirs'.\n")
    assert result.stderr.count("\n") == 1


def test_help():
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert "Time one training step under each loss weighting" in result.output


def test_bf16_rounds_the_products_of_the_encoder_alone():
    states = []
    for precision in ("fp32", "bf16"):
        model = Model(Options(layers=1, width=8, length=4, precision=precision), lora=False)
        outputs = model(torch.arange(8).reshape(2, 4), lambda z: states.append(z) or z)
        assert {value.dtype for value in outputs.values()} == {torch.float32}
    assert not torch.equal(*states)
    assert torch.allclose(*states, rtol=0.05, atol=0.02)
