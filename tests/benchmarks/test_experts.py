import json
import math
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks import expert_steps
from benchmarks.experts import _plain, app, document, figures_of
from dao.learner.pipeline.start import train
from dao.learner.settings.config import load_config

HEADLINE = {"cls": [["accuracy", "↑"]]}


def figures(everywhere: float, news: float, forum: float):
    groups = {"all": (everywhere, 30), "news": (news, 10), "forum": (forum, 20)}
    return {g: {"cls": {"accuracy": value, "n": n}} for g, (value, n) in groups.items()}


def cells(lines: list[str], name: str) -> list[str]:
    row = next(line for line in lines if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in row.strip("|").split("|")][1:]


def test_differences_are_taken_per_domain_and_within_seeds():
    models = {
        "experts, soft": {0: figures(0.7, 0.6, 0.8), 1: figures(0.8, 0.7, 0.9)},
        "experts, hard": {0: figures(0.6, 0.6, 0.6), 1: figures(0.7, 0.7, 0.7)},
        "one LoRA of their size": {0: figures(0.6, 0.7, 0.5), 1: figures(0.7, 0.9, 0.5)},
    }
    plain = {"majority class": figures(0.5, 0.4, 0.6)}
    lines = document(models, plain, HEADLINE)
    assert lines[0] == "## cls (all n=30, news n=10, forum n=20)"
    assert cells(lines, "experts, soft")[0].startswith("0.7500 ± 0.63")  # 12.7062 * .05 * sqrt 2
    assert cells(lines, "*majority class*") == ["0.5000", "0.4000", "0.6000"]
    found = cells(lines, "experts, soft minus one LoRA of their size")
    assert found[0] == "+0.1000 ± 0.0000"
    half = 12.7062 * 0.05
    assert found[1] == f"-0.1500 ± {half:.4f}"
    lost = {name: dict(runs) for name, runs in models.items()}
    del lost["one LoRA of their size"][1]
    again = document(lost, plain, HEADLINE)
    assert cells(again, "experts, soft minus one LoRA of their size")[0] == "+0.1000"


def test_one_run_of_experts_is_two_models():
    split = figures(0.7, 0.6, 0.8)
    routed = {"all": split["all"], "domains": {k: split[k] for k in ("news", "forum")}}
    found = figures_of("experts", {"routing": {"test": {"soft": routed, "hard": routed}}})
    assert found == {"experts, soft": split, "experts, hard": split}


def test_without_experts_it_is_one_line(tmp_path: Path):
    result = CliRunner().invoke(app, ["--runs", str(tmp_path / "runs")])
    assert result.exit_code == 1
    assert "`experts.names` should be set" in result.output
    assert not list(tmp_path.iterdir())


def test_steps_are_measured(tiny_bert: Path):
    options = expert_steps.Options(str(tiny_bert), 3, 4, 5, rounds=2, steps=1)
    found = expert_steps.measure(options)
    assert found["peft_vs_peft"] == found["folded_vs_folded"] == 1
    for name in expert_steps.ABOUT:
        assert 0 < found[f"{name}_ms_q1"] <= found[f"{name}_ms"]
        assert math.isfinite(found[f"{name}_vs_peft"])
    json.dumps(found)


@pytest.mark.slow
def test_the_command_runs_and_goes_on_where_it_stopped(
    tiny_csv: Path, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def here(todo, *_):  # without a process for it, which takes longer than the runs
        for cell in todo:
            train(cell.cfg, overwrite=True)

    monkeypatch.setattr("benchmarks.experts.train_all", here)
    rows = pd.read_csv(tiny_csv)
    rows = rows.assign(origin=["news", "forum"] * (len(rows) // 2))
    rows.to_csv(tmp_path / "domains.csv", index=False)
    asked = [
        "--data", str(tmp_path / "domains.csv"), "--seeds", "2", "--runs", str(tmp_path / "runs"),
        "--output", str(tmp_path / "table.md"), "experts.names=[news,forum]", "data.domain=origin",
        f"encoder.name={tiny_bert}", "tasks=[cls,reg]", "train.epochs=1",
        "experts.domain_epochs=1", "experts.router_warmup_steps=4",
    ]  # fmt: skip
    first = CliRunner().invoke(app, asked)
    assert first.exit_code == 0, first.output
    text = (tmp_path / "table.md").read_text()
    for name in ("experts, soft", "experts, hard", "one LoRA of their size", "*majority class*"):
        assert len(cells(text.splitlines(), name)) == 6
    assert "*TF-IDF + logistic regression*" in text
    assert "the router is right in" in text
    written = {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/*/*/metrics.json")}
    assert len(written) == 4
    lost = min(written)
    lost.unlink()
    assert CliRunner().invoke(app, asked).exit_code == 0
    again = {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/*/*/metrics.json")}
    assert {p for p in written if again[p] != written[p]} == {lost}
    other = CliRunner().invoke(app, [*asked, "train.lr=0.01"])
    assert other.exit_code == 1
    assert "Found a finished run with `train.lr`" in " ".join(other.output.split())


def test_plain_models_are_of_tasks_of_any_kind_and_learn_from_all_rows(
    tiny_csv: Path, tmp_path: Path
):
    rows = pd.read_csv(tiny_csv)
    rows = rows.assign(origin=["news", "forum"] * (len(rows) // 2), stars=rows.index % 3 + 1)
    rows.to_csv(tmp_path / "domains.csv", index=False)
    asked = [f"data.sources=[{tmp_path / 'domains.csv'}]", "data.domain=origin"]
    cfg = load_config(None, ["tasks=label:binary,stars:ordinal", *asked])
    found = _plain(cfg)
    test = rows[rows["split"] == "test"]
    for name, groups in found.items():
        assert list(groups) == ["all", "forum", "news"], name
    stars = {name: groups for name, groups in found.items() if "stars" in groups["all"]}
    assert stars
    for groups in stars.values():
        assert groups["all"]["stars"]["n"] == len(test)
        assert groups["news"]["stars"]["n"] == (test["origin"] == "news").sum()
    assert any("label" in groups["all"] for groups in found.values())
