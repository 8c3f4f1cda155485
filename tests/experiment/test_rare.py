"""Runs that are selected by the F1 of a rare class are compared and tested by it."""

from pathlib import Path

import pytest

from dao.errors import UserError
from dao.learner.experiment.findings.comparison import compare
from dao.learner.experiment.findings.effects import findings
from dao.learner.experiment.grid.board import figures
from dao.learner.experiment.report.comparison_report import comparison_tables
from dao.learner.experiment.report.tables import missing, sentences
from dao.learner.settings.config import load_config

BY_RARE = ["cls.select_by=rare_f1"]
GAIN = {0: 0.20, 1: 0.21, 2: 0.19, 3: 0.20}


@pytest.fixture
def folder(tmp_path: Path, make_arm) -> Path:
    """DAO raises the F1 of the rare class by 0.2, and nothing else."""
    for seed, gain in GAIN.items():
        for arm in ("base", "dao"):
            make_arm(tmp_path, arm, seed, rare=0.3 + gain * (arm == "dao"), set=BY_RARE)
    return tmp_path


def test_the_headline_of_an_experiment_is_the_f1_of_the_rare_class(folder: Path):
    found = findings(folder, ["base", "dao"])
    assert list(found["metrics"]) == [
        "selection", "cls.accuracy", "cls.macro_f1", "cls.rare_precision", "cls.rare_recall",
        "cls.rare_f1", "cls.rare_pr_auc", "cls.rare_roc_auc", "reg.r2", "reg.mse",
    ]  # fmt: skip
    family = {e["metric"]: e["family"] for e in found["effects"]}
    assert family == {
        "selection": "primary", "cls.rare_f1": "secondary", "reg.mse": "secondary",
        "cls.accuracy": "secondary", "cls.macro_f1": "secondary", "reg.r2": "secondary",
    }  # fmt: skip
    score, rare = (
        next(e for e in found["effects"] if e["metric"] == metric)
        for metric in ("selection", "cls.rare_f1")
    )
    # The F1 of the rare class and R² make the score: half of the gain, the only primary test.
    assert score["mean"] == pytest.approx(0.1)
    assert (score["p_holm"], score["verdict"]) == (score["p_t"], "higher (better)")
    assert rare["mean"] == pytest.approx(0.2)
    assert rare["verdict"] == "higher (better)"
    # The smallest p of the five figures of the tasks.
    assert rare["p_holm"] == pytest.approx(5 * rare["p_t"])
    assert {c["metric"] for c in found["relative"]} == {"cls.rare_f1", "reg.mse"}
    assert found["baselines"]["majority class"] == {"cls.accuracy": 0.5, "cls.rare_f1": 0.0}
    assert found["arms"]["dao"]["values"]["cls.rare_f1"]["1"] == pytest.approx(0.51)
    assert "tested on Selection score over 4 seeds" in sentences(found)[0]
    assert "F1 of cls is that of 'positive'." in missing(found)
    assert "primary tests, which are of the selection score" in found["method"][0]


def test_other_runs_have_no_such_figure(tmp_path: Path, make_arm):
    for arm, rare in (("base", 0.3), ("dao", 0.5)):
        make_arm(tmp_path, arm, 0, rare=rare)
    found = findings(tmp_path, ["base", "dao"])
    assert "rare_f1" not in str(found)
    assert {e["metric"] for e in found["effects"] if e["family"] == "primary"} == {"selection"}
    assert {c["metric"] for c in found["relative"]} == {"cls.accuracy", "reg.mse"}


def test_arms_of_other_rare_classes_are_no_experiment(folder: Path, make_arm):
    make_arm(folder, "dendrites", 0, positive="negative", set=BY_RARE)
    with pytest.raises(UserError, match=r"class of cls whose figures are given should be equal"):
        findings(folder)


@pytest.mark.slow
def test_folders_are_compared_by_it_if_both_mean_one_class(folder: Path, tmp_path: Path, make_run):
    found = compare(folder / "dao", folder / "base")
    assert [e["metric"] for e in found["effects"]][::3] == ["selection", "cls.rare_f1"]
    assert found["a"]["mean"]["cls.rare_f1"] == pytest.approx(0.5)
    assert "F1 of cls is that of 'positive'" in found["notes"]
    names = list(comparison_tables(found)[0].columns[0].cells)
    assert names[5] == "cls Rare F1 ↑"
    for seed in (0, 1):
        other = {"positive": "negative", "set": BY_RARE}
        make_run(tmp_path / "other" / f"seed={seed}", seed, **other)
        make_run(tmp_path / "plain" / f"seed={seed}", seed)
    found = compare(folder / "dao", tmp_path / "other")
    # Nor is the score that models are selected by: it is of another class.
    assert list(found["metrics"]) == ["cls.accuracy", "cls.macro_f1", "reg.r2", "reg.mse"]
    assert "F1 of cls is that of 'positive' in A, 'negative' in B: left out" in found["notes"]
    plain = compare(folder / "dao", tmp_path / "plain")
    assert list(plain["metrics"]) == list(found["metrics"])
    assert not any("F1 of cls" in note for note in plain["notes"])


def test_a_finished_run_is_shown_by_it(folder: Path):
    run = folder / "dao" / "seed=0"
    cfg = load_config(run / "config.yaml", [f"output={run}"])
    assert figures(cfg) == "cls rare_f1 0.5000, reg mse 0.0400, trained in 2 s"
