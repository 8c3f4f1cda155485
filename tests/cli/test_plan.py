"""An experiment of one's own arms with real runs, one of which diverges."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

ROOT = Path(__file__).parents[2]
PLAN = """
title: Three arms
question: Does DAO beat equal weights?
seeds: 1
settings:
  tasks: [cls, reg]
  encoder: {precision: fp32}
  train: {epochs: 1, batch_size: 10, validations_per_epoch: 1, log_every: 1}
arms:
  equal: {weighting: equal, train.lr: 0.01}
  dao: {weighting: dao, train.lr: 0.01}
  too fast: {train.lr: 1e+30}
compare: [[dao, equal], [dao, too fast]]
reference: equal
by: [origin]
"""


def again(*arguments: str) -> Result:
    """The command in this process, which saves its start; the runs have their own."""
    from train import app

    return CliRunner().invoke(app, ["--factorial", *arguments], catch_exceptions=False)


def test_a_plan_in_the_command_line(tmp_path: Path):
    plan = tmp_path / "own.yaml"
    for words, code, said in (
        (["--plan", str(plan)], 1, f"Found nothing at {plan}"),
        (["--plan", str(plan), "--arms", "dao"], 2, "--only ARM/SEED takes runs"),
        (["--plan", str(plan), "--grid", "train.lr=1,2"], 2, "--grid excludes --factorial"),
    ):
        result = again(*words)
        assert result.exit_code == code
        assert said.replace(" ", "") in "".join(result.stderr.replace("│", " ").split())


@pytest.mark.slow
@pytest.mark.usefixtures("warm_runs", "without_pictures")
def test_runs_findings_and_a_report_from_the_folder_alone(
    tmp_path: Path, tiny_phi: Path, tiny_csv: Path
):
    rows = pd.read_csv(tiny_csv)
    data = tmp_path / "rows.csv"
    rows.assign(origin=["news", "forum"] * (len(rows) // 2)).to_csv(data, index=False)
    plan, output = tmp_path / "own.yaml", tmp_path / "out"
    plan.write_text(PLAN)
    asked = ("--plan", str(plan), "--output", str(output), "--jobs", "2")
    result = again(*asked, "--encoder", str(tiny_phi), "--data", str(data))
    assert result.exit_code == 0, result.output
    assert len(list(output.rglob("metrics.json"))) == 2
    assert "too fast/0 stopped: " in result.stderr

    found = json.loads((output / "findings.json").read_text())
    assert set(found["arms"]) == {"equal", "dao"}
    assert set(found["stopped"]["too fast"]) == {"0"}
    assert "should be finite" in found["stopped"]["too fast"]["0"]
    (pair,) = {effect["name"] for effect in found["effects"]}
    assert pair == "dao - equal"
    assert found["by"][0]["n"]["news"]["cls"] + found["by"][0]["n"]["forum"]["cls"] == sum(
        rows["label"].notna() & (rows["split"] == "test")
    )
    assert found["by"][0]["plain"]["majority class"]["news"]["cls.accuracy"] > 0
    report = (output / "report.md").read_text()
    assert "| too fast (0 of 1 runs ended) |" in report

    data.unlink()
    shutil.copytree(output, tmp_path / "elsewhere")
    shutil.rmtree(output)
    for name in ("findings.json", "report.md", "report.html", "Results.csv"):
        (tmp_path / "elsewhere" / name).unlink()
    result = again("--plan", str(tmp_path / "elsewhere" / "plan.yaml"))
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "elsewhere" / "findings.json").read_text()) == found
    assert (tmp_path / "elsewhere" / "report.md").read_text() == report


@pytest.mark.slow
@pytest.mark.usefixtures("warm_runs", "without_pictures")
def test_the_plan_for_experts_reports_per_domain(tmp_path: Path, tiny_csv: Path, tiny_bert: Path):
    rows = pd.read_csv(tiny_csv)
    rows = rows.assign(origin=["news", "forum"] * (len(rows) // 2))
    rows.to_csv(tmp_path / "domains.csv", index=False)
    output = tmp_path / "out"
    result = again(
        "--plan", str(ROOT / "configs" / "plans" / "experts.yaml"), "--seeds", "1",
        "--data", str(tmp_path / "domains.csv"), "--output", str(output), "--jobs", "2",
        "--encoder", str(tiny_bert), "--tasks", "cls,reg", "--experts", "news,forum",
        "--domain-column", "origin", "train.epochs=1", "experts.domain_epochs=1",
        "experts.router_warmup_steps=4",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    report = (output / "report.md").read_text()
    for value in ("news", "forum"):
        for row in ("experts", "experts, hard", "one LoRA of their size", "(majority class)"):
            assert f"| {value}: {row} |" in report
    assert "(TF-IDF + logistic regression)" in report
    assert "the router is right in" in report
    found = json.loads((output / "findings.json").read_text())
    single = found["arms"]["one LoRA of their size"]
    assert single["parameters"] >= found["arms"]["experts"]["parameters"]
    assert single["steps_of_runs"] == found["arms"]["experts"]["steps_of_runs"]
