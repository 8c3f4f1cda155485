"""The report of an experiment stays readable with many tasks."""

from copy import deepcopy
from functools import cache
from statistics import fmean

import pytest

from dao.learner.experiment.findings.arm_figures import positives
from dao.learner.experiment.findings.contrasts import contrasts, measured, only_tested
from dao.learner.experiment.findings.verdicts import over_seeds
from dao.learner.experiment.pages.page import PageTable, Text, html, markdown
from dao.learner.experiment.report.first_lines import worse_arms
from dao.learner.experiment.report.many import arms_parts, effects_parts
from dao.learner.experiment.report.report import _sections
from dao.learner.experiment.report.tables import beside
from dao.learner.kinds import KINDS
from dao.learner.kinds.recorded import Recorded

SEEDS = (0, 1, 2)


def recorded(kind: str, main: str) -> Recorded:
    figures = tuple(figure for figure in KINDS[kind].own_figures if figure.shown)
    return Recorded(kind, "x", figures, main, main, "accuracy", "higher", "confusion")


@cache
def made_up(count: int) -> dict:
    """An experiment on some binary tasks and one regression, where dao is about .02 above base."""
    tasks = {f"is_{i:02}": recorded("binary", "f1") for i in range(count - 1)}
    tasks["price"] = recorded("regression", "mse")
    metrics = measured(tasks)
    arms = ["base", "dao", "is_00"]
    figures = {
        arm: {
            seed: {
                m: 0.5 + (arm == "dao") * (0.0199 + seed / 10_000) + seed / 1000
                for m, about in metrics.items()
                if arm != "is_00" or about["task"] == "is_00"
            }
            for seed in SEEDS
        }
        for arm in arms
    }
    about_arms = {}
    for arm, by_seed in figures.items():
        values = {m: {str(s): by_seed[s][m] for s in SEEDS} for m in by_seed[0]}
        mean = {m: fmean(found.values()) for m, found in values.items()}
        about_arms[arm] = {"values": values, "mean": mean, "t95": {}, "parameters": 10}
    plain = {m: 0.6 for m in metrics if m != "selection"}
    asked = contrasts(arms, list(tasks))
    return {
        "name": "made-up", "design": arms, "tasks": list(tasks), "metrics": metrics,
        "views": {name: task.view for name, task in tasks.items()}, "arms": about_arms,
        "seeds": list(SEEDS), "baselines": {"TF-IDF": plain}, "best_reachable": {},
        "effects": over_seeds(asked, figures, metrics), "per_example": [], "method": [],
        "notes": [],
    }  # fmt: skip


def findings_of(count: int) -> dict:
    """`made_up`, to change."""
    return deepcopy(made_up(count))


def test_two_tasks_have_one_table_of_arms_as_ever():
    table, described = arms_parts(findings_of(2))
    assert [row[0] for row in table.rows] == ["base", "dao", "is_00 alone", "TF-IDF"]
    shown = only_tested(findings_of(2)["metrics"])
    assert len(table.head) == 2 + len(shown) == 2 + 5
    assert len(effects_parts(findings_of(2))) == len(shown)
    names = ("Precision", "Recall", "ROC-AUC", "Accuracy")
    assert [row[0] for row in described.rows] == [f"is_00 {name} ↑" for name in names]


@pytest.mark.parametrize("count", [3, 40])
def test_many_tasks_are_rows_of_the_table_of_arms(count: int):
    whole, mains, others = arms_parts(findings_of(count))
    assert [row[0] for row in whole.rows] == ["base", "dao"]
    assert list(whole.head) == ["arm", "seeds", "Selection score ↑"]
    assert mains.head == ["figure", "base", "dao", "one task alone", "best plain model"]
    assert len(mains.rows) == count
    assert mains.rows[0] == ["is_00 F1 ↑", "0.5010", "0.5210", "0.5010", "0.6000 (TF-IDF)"]
    assert mains.rows[-1] == ["price MSE ↓", "0.5010", "0.5210", "", "0.6000 (TF-IDF)"]
    assert len(others.rows) == 5 * (count - 1) + 1  # all but F1 of each, R² of the price


def test_effects_of_some_tasks_stand_behind_a_summary():
    primary, summary, *others = effects_parts(findings_of(3))
    assert "Selection score" in primary.caption
    assert summary.head == ["figure", "dao - base", "base - one task alone"]
    assert summary.rows[0] == ["is_00 F1 ↑", "+0.0200 *", "0"]
    assert len(others) == 6


def test_effects_of_many_tasks_are_summed_up_and_found_elsewhere():
    primary, summary, note = effects_parts(findings_of(40))
    assert isinstance(primary, PageTable)
    assert len(summary.rows) == 80
    assert isinstance(note, Text)
    assert "the 80 figures of 40 tasks are left out: findings.json has them" in note.text


def test_the_whole_report_of_forty_tasks_stays_short():
    sections = _sections(findings_of(40), {}, [])
    text = markdown("t", sections)
    assert max(line.count("|") for line in text.splitlines()) <= 12
    panels = [part for section in sections for part in section.parts if hasattr(part, "panels")]
    assert max(len(part.panels) for part in panels) <= 6
    assert html("t", sections).count("<table") < 12


def test_the_first_lines_of_many_tasks_are_counted():
    found = findings_of(40)
    line = next(line for line in worse_arms(found) if line.startswith("base "))
    assert line.count("TF-IDF") == 3
    assert line.endswith("; and 76 more of 81 figures.")  # 39 F1, 39 PR-AUC and an R²
    assert len(beside(found)) == 1
    assert len(beside(findings_of(3))) == 3


def test_classes_of_one_name_are_told_together():
    class Made:
        def __init__(self, tasks: list[str]) -> None:
            self.tasks = tasks

        def positive(self, task: str) -> str:
            return "yes" if task != "odd" else "1"

    metrics = {
        f"{t}.f1": {"task": t, "key": "f1", "of_class": "positive"} for t in ("a", "b", "odd")
    }
    assert positives(metrics, [Made(["a", "b", "odd"])]) == [
        "F1 of a, b is that of 'yes'", "F1 of odd is that of '1'",
    ]  # fmt: skip
