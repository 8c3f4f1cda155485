"""Studies on frozen features: figures by hand, small real runs, resumption."""

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from benchmarks import scale, units
from benchmarks.frozen import finance
from benchmarks.frozen.numbers import cell, changes, delta, interval, mean_ranks, worst_task
from benchmarks.frozen.problem import batches, make_problem, sampled_together
from benchmarks.frozen.progress import progress_lines, steps_to
from benchmarks.frozen.rates import Rates, best_rate, tuning_jobs
from benchmarks.frozen.runner import complete, keep_plan, read_lines
from benchmarks.frozen.tables import Table, generated
from benchmarks.frozen.training import Job, run
from dao.errors import UserError

approx = pytest.approx
JOB = Job("generated", "equal", 0, 0.01, 20)


def test_delta_is_the_mean_relative_change_against_single_tasks():
    assert changes({"a": 1.5, "b": 8.0}, {"a": 1.0, "b": 10.0}) == {
        "a": -50,
        "b": approx(20),
    }
    assert delta({"a": 1.5, "b": 8.0}, {"a": 1.0, "b": 10.0}) == approx(-15)


def test_ranks_are_over_tasks_and_seeds_and_ties_share():
    errors = {
        "x": [{"a": 1.0, "b": 3.0}, {"a": 1.0, "b": 1.0}],
        "y": [{"a": 2.0, "b": 2.0}, {"a": 1.0, "b": 2.0}],
        "z": [{"a": 3.0, "b": 1.0}, {"a": 1.0, "b": 3.0}],
    }
    # x: 1, 3, 2, 1; y: 2, 2, 2, 2; z: 3, 1, 2, 3.
    assert mean_ranks(errors) == {"x": 1.75, "y": 2.0, "z": 2.25}


def test_the_worst_task_is_that_of_the_lowest_mean():
    alone = [{"a": 1.0, "b": 1.0}] * 2
    # a: +50 and -80, b: -10 and -10; then b: -30 and -30.
    assert worst_task([{"a": 0.5, "b": 1.1}, {"a": 1.8, "b": 1.1}], alone) == ("a", approx(-15))
    assert worst_task([{"a": 0.5, "b": 1.3}, {"a": 1.8, "b": 1.3}], alone) == ("b", approx(-30))


def test_intervals_are_of_student():
    # Half of the interval: 4.3027 (t, 2 degrees of freedom, 97.5 %) times 1 / sqrt(3).
    assert interval([1.0, 2.0, 3.0]) == (2.0, approx(4.302653 / 3**0.5))
    assert cell([1.0, 2.0, 3.0]) == "2.0 ± 2.5"
    assert cell([1.0, 2.0, 3.0], paired=True) == "+2.0 ± 2.5"
    assert cell([-1.0, -1.1, -1.2], paired=True) == "**-1.1 ± 0.2**"


def test_a_rate_is_chosen_by_the_mean_validation_of_its_own_seeds():
    rates = Rates(0.1, (0.1, 0.2, 0.3), (100, 101))
    jobs = tuning_jobs({JOB: rates})
    assert [(job.rate, job.seed) for job in jobs[:3]] == [(0.1, 100), (0.1, 101), (0.2, 100)]
    scores = dict(zip(jobs, (0.5, 0.5, 0.9, 0.2, 0.9, None), strict=True))
    lines = {job.key: {"validation": value} for job, value in scores.items()}
    assert best_rate(JOB, rates, lines) == 0.2
    tied = {job.key: {"validation": 1.0} for job in jobs}
    assert best_rate(JOB, rates, tied) == 0.1


def test_steps_to_the_end_of_equal_weights():
    def line(*scores: float) -> dict:
        return {"curve": [[10 * (n + 1), s] for n, s in enumerate(scores)], "seconds": 0.3}

    assert steps_to([[10, 0.1]], 0.2) is None
    rows = {
        "equal": [line(0.1, 0.2, 0.3), line(0.1, 0.4, 0.3)],
        "fast": [line(0.3, 0.1, 0.1), line(0.3, 0.1, 0.1)],
        "slow": [line(0.1, 0.1, 0.1), line(0.1, 0.1, 0.3)],
    }
    table = "\n".join(progress_lines(rows, "x"))
    assert "| `equal` | 2 of 2 | 25 |  | 10.0 | 0.25 |" in table
    assert "| `fast` | 2 of 2 | 10 | -15.0 ± 63.5 | 10.0 | 0.10 |" in table
    assert "| `slow` | 1 of 2 | not reached | +10.0 | 10.0 |  |" in table


def test_a_split_parts_no_group_and_standardises_by_training_rows():
    groups = torch.arange(300) // 3
    table = replace(generated(), groups=groups)
    problem = make_problem(table, seed=1)
    parts = [problem.train, problem.validation, problem.test]
    assert sum(map(len, parts)) == 300
    assert len(problem.train) == approx(210, abs=3)
    sets = [set(groups[part].tolist()) for part in parts]
    assert all(a.isdisjoint(b) for a, b in combinations(sets, 2))
    large = problem.targets["large"]
    assert large.spread == approx(float(table.numbers["large"][problem.train].std()))
    assert large.values[problem.train].mean().abs() < 1e-6


def test_an_input_that_is_constant_in_training_stays_small_elsewhere():
    table = generated()
    table.inputs[:, 0] = 0
    row = make_problem(table, 0).test[0]
    table.inputs[row, 0] = 1
    assert make_problem(table, 0).inputs[row, 0] == 1


def test_tasks_with_other_rows_have_halves_of_a_batch():
    score = torch.arange(100).double()
    score[:60] = torch.nan
    classes = torch.tensor([0, 1] * 30 + [-1] * 40)
    problem = make_problem(Table(torch.randn(100, 3), {"reg": score}, {"cls": classes}), 0)
    assert sampled_together(problem) == [["cls"], ["reg"]]
    rows, places = next(batches(problem, 32, 0))
    assert len(rows) == 32
    assert problem.targets["cls"].known[rows[places["cls"]]].all()
    assert problem.targets["reg"].known[rows[places["reg"]]].all()
    assert set(rows.tolist()) <= set(problem.train.tolist())


def test_a_run_is_the_same_again_and_balanced_losses_forget_their_units():
    first, again = run(JOB), run(JOB)
    assert {**first, "seconds": 0} == {**again, "seconds": 0}
    assert set(first["test"]) == {"small", "middle", "large"}
    flat = [run(replace(JOB, arm="dao-1-unit", factor=f))["test"] for f in (2.0**-12, 2.0**12)]
    for task, pair in flat[0].items():
        assert pair == approx(flat[1][task], rel=1e-3)
    raw, std = (run(replace(JOB, arm=arm))["test"] for arm in ("equal", "equal-std"))
    assert raw["small"][0] > 2 * std["small"][0]
    assert list(run(replace(JOB, arm="alone:small"))["test"]) == ["small"]
    plain = run(replace(JOB, arm="mean"))["test"]["small"]
    assert plain[0] == approx(1, abs=0.5)
    assert plain[1] <= 0


def test_finished_runs_are_not_made_again_and_a_torn_line_is(tmp_path: Path):
    jobs = [replace(JOB, seed=seed) for seed in range(3)]
    whole = complete(jobs, tmp_path, 1, run)
    path = tmp_path / "runs.jsonl"
    assert [json.loads(line)["key"][-6:] for line in path.read_text().splitlines()] == [
        "seed 0", "seed 1", "seed 2",
    ]  # fmt: skip
    path.write_text(path.read_text()[:-40])
    assert len(read_lines(tmp_path)) == 2
    made = []

    def counted(job: Job) -> dict[str, Any]:
        made.append(job.seed)
        return run(job)

    again = complete(jobs, tmp_path, 1, counted)
    assert made == [2]
    assert again[jobs[2].key]["test"] == whole[jobs[2].key]["test"]
    complete(jobs, tmp_path, 1, counted)
    assert made == [2]


def test_two_processes_give_the_same(tmp_path: Path):
    jobs = [replace(JOB, seed=seed, steps=10) for seed in range(2)]
    found = [complete(jobs, tmp_path / str(count), count, run) for count in (1, 2)]
    for job in jobs:
        assert found[0][job.key]["test"] == found[1][job.key]["test"]


def test_runs_of_another_plan_are_refused(tmp_path: Path):
    plan = keep_plan(tmp_path, "what", {"steps": 20, "rates": (1, 2)})
    assert keep_plan(tmp_path, "what", {"steps": 20, "rates": (1, 2)}) == plan
    with pytest.raises(UserError, match=r"another one: 'steps' differs\. Give another --output"):
        keep_plan(tmp_path, "what", {"steps": 30, "rates": (1, 2)})


@pytest.mark.slow
def test_units_writes_plan_lines_page_and_figure(tmp_path: Path, monkeypatch):
    rows = ["equal", "equal-std", "power-.5", "power-.75", "dao"]
    monkeypatch.setattr(units, "ROWS", rows)
    monkeypatch.setattr(units, "TUNED", ["equal", "dao"])
    monkeypatch.setattr(units, "RATES", Rates(0.003, (0.003, 0.01), (100,)))
    arguments = ["--tables", "generated", "--quick", "--output", str(tmp_path)]
    result = CliRunner().invoke(units.app, arguments)
    assert result.exit_code == 0, result.output
    page = (tmp_path / "README.md").read_text()
    assert "### generated, one rate (2 seeds, 3 tasks)" in page
    assert "### generated, a rate per row (2 seeds, 3 tasks)" in page
    for row in [*rows, "grid", "mean"]:
        assert page.count(f"| `{row}`") == (3 if row in ("equal", "dao", "mean") else 2)
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "plan.json").read_text())["settings"]["steps"] == 20
    monkeypatch.setattr(units, "run", lambda job: pytest.fail(job.key))
    assert CliRunner().invoke(units.app, arguments).exit_code == 0
    assert (tmp_path / "README.md").read_text() == page


def test_units_refuses_an_unknown_table():
    result = CliRunner().invoke(units.app, ["--tables", "bike,cars"])
    assert result.exit_code == 1
    assert "--tables should name tables" in result.output
    assert "'cars'" in result.output


@pytest.mark.slow
def test_scale_writes_its_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    words = [f"word{n} and word{n % 7}" for n in range(120)]
    rows = [f"{w},{'up' if n % 3 else ''},{'' if n % 3 else n / 120}" for n, w in enumerate(words)]
    data = tmp_path / "sentences.csv"
    rows[1] = rows[1].replace("up", "down")
    data.write_text("text,label,score\n" + "\n".join(rows) + "\n")
    states = torch.randn(120, 8, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(finance, "_pooled", lambda texts: states[: len(texts)])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    short = replace(scale.QUICK, factors=(1e-4, 1.0), steps=10, budgets=(10,))
    monkeypatch.setattr(scale, "QUICK", short)
    one = {name: replace(rates, tried=(0.01,), seeds=(100,)) for name, rates in scale.RATES.items()}
    monkeypatch.setattr(scale, "RATES", one)
    arguments = ["--data", str(data), "--quick", "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(scale.app, arguments)
    assert result.exit_code == 0, result.output
    page = (tmp_path / "out" / "README.md").read_text()
    assert "### AdamW, by the factor on the loss of the score, one rate (2 seeds)" in page
    assert "### SGD with momentum, by the factor on the loss of the score, a rate per row" in page
    assert "DAO significantly below equal weights:" in page
    assert "until the validation score that equal weights have at their end" in page
    assert page.count("| `grid`") == 4
    assert "word1" not in (tmp_path / "out" / "runs.jsonl").read_text()


def test_scale_refuses_a_table_without_scores(tmp_path: Path):
    data = tmp_path / "a.csv"
    data.write_text("text,label\nx,y\n")
    result = CliRunner().invoke(scale.app, ["--data", str(data), "--output", str(tmp_path / "o")])
    assert result.exit_code == 1
    assert "Found no 'score'" in result.output
