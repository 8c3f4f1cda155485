"""The models that the benchmark times are those it says, and its ratios are by hand."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from benchmarks import dendrites
from benchmarks.dendrites import Options, Work, app, goals, measure, paired

TINY = {"batch_size": 2, "length": 4, "rounds": 1, "steps": 1}


@pytest.fixture
def work(tiny_phi: Path, tmp_path: Path) -> Work:
    return Work(Options(str(tiny_phi), **TINY), tmp_path)


@pytest.mark.slow
def test_the_twin_computes_what_the_model_in_training_does(work: Work):
    model, grown = work.grown("lora_B+heads", 2)
    with torch.no_grad():
        trained, twin = work.infer(model.eval()), work.infer(work.twin("lora_B+heads", grown))
        before = work.infer(work.undecorated("lora_B+heads").eval())
    for task in trained:
        assert torch.equal(trained[task], twin[task])
        assert not torch.equal(trained[task], before[task])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["default", "heads", "linear", "wrapped-lowrank"])
def test_figures_of_a_set(work: Work, name: str):
    figures = measure(work, name, [0, 1])
    kinds = {"train", "twin"} | ({"merged"} if name != "linear" else set())
    for kind in kinds:
        for count in (0, 1):
            assert figures[f"{kind}_{name}_{count}"] > 0
            assert f"{kind}_{name}_{count}_q1" in figures
    assert figures[f"parameters_{name}_0"] == 0
    if name == "heads":
        # A copy of each head (3 and 1 outputs of 32 inputs and a bias) and a gate per output.
        assert figures["parameters_heads_1"] == 4 * 33 + 4
    assert (f"merged_{name}_1" in figures) == (name != "linear")


def test_ratios_by_hand(work: Work, monkeypatch: pytest.MonkeyPatch):
    clock = [0.0]

    class Watch:
        def __init__(self, device: object) -> None:
            self.began = clock[0]

        def seconds(self) -> float:
            return clock[0] - self.began

    def lasting(seconds: float):
        def run() -> None:
            clock[0] += seconds

        return run

    monkeypatch.setattr(dendrites, "Stopwatch", Watch)
    assert paired(work, lasting(2.0), lasting(3.0)) == [1.5]


def test_goals_that_are_missed_say_so():
    assert goals({"train_default_1": 1.4, "twin_default_1": 1.1}) == [
        "train_default_1 is 1.40; at most 1.35: no",
        "twin_default_1 is 1.10; at most 1.2: yes",
    ]


def test_a_run_of_the_command(tiny_bert: Path, tmp_path: Path):
    output = tmp_path / "figures.json"
    given = f"--encoder {tiny_bert} --sets default --counts 1 --json {output}"
    sizes = "--rounds 1 --steps 1 --batch-size 2 --length 4"
    found = CliRunner().invoke(app, [*given.split(), *sizes.split()])
    assert found.exit_code == 0, found.output
    figures = json.loads(output.read_text())
    assert {"train_default_1", "twin_default_1", "merged_default_1"} <= figures.keys()
    assert "| default (lora_B+heads) |" in found.output
    assert "train_default_1 is" in found.output


@pytest.mark.parametrize("options", [["--sets", "base"], ["--counts", "4"], ["--counts", ""]])
def test_unknown_parts_are_refused(options: list[str]):
    found = CliRunner().invoke(app, options)
    assert found.exit_code == 1
    assert f"`{options[0]}` should be among" in found.stderr
