"""A plan's folder to findings and report: figures by hand, planted effects, rows that are made."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dao.errors import UserError
from dao.learner.experiment.grid.planned import conclude_plan, plan_cells
from dao.learner.experiment.plans.design import Design
from dao.learner.experiment.plans.findings.delta_m import changes_of_tasks, delta_m
from dao.learner.experiment.plans.findings.findings import plan_findings
from dao.learner.experiment.plans.findings.ranks import mean_ranks
from dao.learner.experiment.plans.kept import PLAIN, keep, kept, stop_file
from dao.learner.experiment.plans.reading import read_plan
from dao.learner.experiment.plans.report.answers import answers, choices
from dao.learner.experiment.plans.report.report import write_plan_report
from dao.learner.experiment.plans.settling import designed
from tests.conftest import no_pictures

pytestmark = pytest.mark.slow

METRICS = {
    "a.f1": {"task": "a", "main": True, "better": "higher"},
    "b.mse": {"task": "b", "main": True, "better": "lower"},
}
PLAN = """
title: Three weightings
question: Does a weighting help?
seeds: 3
arms:
  equal: {weighting: equal}
  dao: {weighting: dao}
  gls 10: {weighting: gls, reg.scale: 10}
  cls alone: {tasks: [cls]}
  reg alone: {tasks: [reg]}
choose: {tuned: [equal, dao]}
compare: [[dao, equal], [tuned, gls 10]]
reference: equal
"""
# Right answers of 40 per seed, root of the squared error, and validation score.
REACHED = {
    "equal": ((20, 0.2, 0.5), (24, 0.2, 0.5), (22, 0.2, 0.6)),
    "dao": ((26, 0.1, 0.7), (29, 0.1, 0.6), (27, 0.1, 0.7)),
    "gls 10": ((20, 0.2, 0.4), (24, 0.2, 0.4), (22, 0.2, 0.4)),
    "cls alone": ((20, 0.2, 0.5), (20, 0.2, 0.5), (20, 0.2, 0.5)),
    "reg alone": ((20, 0.2, 0.5), (20, 0.2, 0.5), (20, 0.2, 0.5)),
}
MINUS = "\N{MINUS SIGN}"
Make = Callable[..., Design]


@pytest.fixture(scope="module")
def begin(make_run, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A plan's text to a folder with its runs; those that `made` returns None for are left out."""

    def make(text: str, made: Callable[[str, int], dict[str, Any] | None], *, keeps=True) -> Design:
        path = tmp_path_factory.mktemp("plans") / "plan.yaml"
        path.write_text(text)
        design = designed(read_plan(path), (None, [], {}), lambda _: path.parent / "out")
        if keeps:
            keep(design, "python train.py --factorial --plan out/plan.yaml")
        for cell in plan_cells(design):
            about = made(cell.arm, cell.seed)
            if about is not None:
                make_run(
                    cell.cfg.folder, cell.seed, flags=cell.cfg.model_dump(mode="json"), **about
                )
        return design

    return make


def reached(arm: str, seed: int) -> dict[str, Any]:
    right, error, score = REACHED[arm][seed]
    return {"right": right, "error": error, "score": score, "training__seconds": 2.0}


@pytest.fixture(scope="module")
def made(begin: Make) -> Design:
    return begin(PLAN, reached)


@pytest.fixture(scope="module")
def found(made: Design) -> dict[str, Any]:
    return plan_findings(kept(made.folder))


@pytest.fixture
def again(made: Design, tmp_path: Path) -> Design:
    """A copy to change."""
    shutil.copytree(made.folder, tmp_path / "out")
    return kept(tmp_path / "out")


def effect(found: dict[str, Any], name: str, metric: str) -> dict[str, Any]:
    (match,) = [e for e in found["effects"] if (e["name"], e["metric"]) == (name, metric)]
    return match


# -- by hand ---------------------------------------------------------------------------------------


def test_changes_point_to_what_is_better():
    row = {0: {"a.f1": 0.6, "b.mse": 0.3}, 1: {"a.f1": 0.5, "b.mse": 0.1}, 2: {"a.f1": 0.5}}
    alone = {
        "a": {s: {"a.f1": 0.5} for s in (0, 1, 2)},
        "b": {0: {"b.mse": 0.2}, 1: {"b.mse": 0.2}},
    }
    changes = changes_of_tasks(row, alone, METRICS)
    assert changes["a"] == pytest.approx({0: 20, 1: 0, 2: 0})
    assert changes["b"] == pytest.approx({0: -50, 1: 50})
    assert delta_m(changes, 2) == pytest.approx({0: -15, 1: 25})  # seed 2 lacks a task


def test_a_change_from_a_negative_figure_is_no_gain_when_it_falls():
    about = {"a.kappa": {"task": "a", "main": True, "better": "higher"}}
    changes = changes_of_tasks({0: {"a.kappa": -0.3}}, {"a": {0: {"a.kappa": -0.2}}}, about)
    assert changes["a"][0] == pytest.approx(-50)


def test_nothing_is_a_share_of_nothing_or_of_what_diverged():
    row = {0: {"a.f1": 0.6, "b.mse": None}, 1: {"a.f1": 0.5, "b.mse": 0.1}}
    alone = {
        "a": {0: {"a.f1": 0.5}, 1: {"a.f1": 0.0}},
        "b": {0: {"b.mse": 0.2}, 1: {"b.mse": 0.2}},
    }
    changes = changes_of_tasks(row, alone, METRICS)
    assert (changes["b"][0], changes["a"][1]) == (None, None)
    assert delta_m(changes, 2) == {0: None, 1: None}


def test_ranks_by_hand():
    rows = {
        "x": {0: {"a.f1": 0.9, "b.mse": 0.1}, 1: {"a.f1": 0.9, "b.mse": 0.1}},
        "y": {0: {"a.f1": 0.8, "b.mse": 0.1}, 1: {"a.f1": 0.8, "b.mse": 0.3}},
        "z": {0: {"a.f1": 0.7, "b.mse": 0.3}},
    }
    # Of a: 1, 2, 3 and 1, 2, 3. Of b: 1.5, 1.5, 3 and 1, 2, 3; z stopped at seed 1.
    ranks = mean_ranks(rows, {"z": [1]}, METRICS)
    assert ranks == pytest.approx({"x": 4.5 / 4, "y": 7.5 / 4, "z": 3})
    # A run that is only missing takes its seed out of the ranking.
    assert mean_ranks(rows, {}, METRICS) == pytest.approx({"x": 1.25, "y": 1.75, "z": 3})
    assert mean_ranks({"x": rows["x"]}, {}, METRICS) == {}


def test_a_figure_that_is_not_finite_has_the_last_rank():
    rows = {"x": {0: {"a.f1": None, "b.mse": math.inf}}, "y": {0: {"a.f1": 0.1, "b.mse": 9.0}}}
    assert mean_ranks(rows, {}, METRICS) == {"x": 2.0, "y": 1.0}


# -- the findings ----------------------------------------------------------------------------------


def test_every_row_has_its_figures(found: dict[str, Any]):
    rows = ["equal", "dao", "gls 10", "cls alone", "reg alone", "tuned"]
    assert list(found["arms"]) == rows
    dao = found["arms"]["dao"]
    assert dao["mean"]["cls.accuracy"] == pytest.approx((26 + 29 + 27) / 120)
    assert dao["mean"]["reg.mse"] == pytest.approx(0.01)
    half = 4.302653 * (7 / 3) ** 0.5 / 40 / 3**0.5  # of 26, 29, 27
    low, high = dao["t95"]["cls.accuracy"]
    assert (high - low) / 2 == pytest.approx(half, rel=1e-5)
    assert (dao["lr"], dao["steps_of_runs"]) == (0.0015, [18, 18])
    assert "selection" not in found["arms"]["cls alone"]["mean"]
    assert found["baselines"]["majority class"] == {"cls.accuracy": 0.5}


def test_delta_m_is_against_each_task_alone(found: dict[str, Any]):
    assert found["alone"] == {"cls": "cls alone", "reg": "reg alone"}
    # Of dao: accuracy (26, 29, 27) / 20, and a quarter of the squared error: +75 %.
    changes = found["arms"]["dao"]["changes"]
    assert changes["cls"]["values"] == pytest.approx({"0": 30, "1": 45, "2": 35})
    assert changes["reg"]["mean"] == pytest.approx(75)
    values = found["arms"]["dao"]["values"]["delta_m"]
    assert values == pytest.approx({"0": 52.5, "1": 60, "2": 55})
    assert found["arms"]["equal"]["mean"]["delta_m"] == pytest.approx((0 + 10 + 5) / 3)
    assert found["arms"]["cls alone"]["changes"] == {}
    assert "delta_m" not in found["arms"]["cls alone"]["mean"]


def test_pairs_are_tested_with_holm_over_pairs_and_figures(found: dict[str, Any]):
    dao = effect(found, "dao - equal", "cls.accuracy")
    assert dao["mean"] == pytest.approx(16 / 120)  # 6, 5, 5 of 40
    ps = {}
    for family, figures in (("primary", 2), ("secondary", 4)):
        own = [e for e in found["effects"] if e["family"] == family]
        assert len(own) == 2 * figures  # pairs x figures
        ps[family] = sorted(e["p_t"] for e in own if e["p_t"] is not None)
    first = min((e for e in found["effects"] if e["p_t"] is not None), key=lambda e: e["p_t"])
    assert first["p_holm"] == pytest.approx(min(1, first["p_t"] * len(ps[first["family"]])))
    # 6, 5, 5: t = 16 / 3 / (sqrt(1 / 3) / sqrt(3)) = 16 at 2 degrees of freedom, p = .003885.
    assert dao["p_t"] == pytest.approx(0.003884, abs=2e-6)
    place = ps["secondary"].index(dao["p_t"])
    assert dao["p_holm"] >= dao["p_t"] * (len(ps["secondary"]) - place)
    assert {e["metric"] for e in found["effects"]} >= {"selection", "delta_m", "reg.mse"}


def test_the_chosen_row_is_the_best_on_validation_and_says_what_it_cost(found: dict[str, Any]):
    about = found["choices"]["tuned"]
    assert about["chosen"] == "dao"
    assert about["scores"] == pytest.approx({"equal": 1.6 / 3, "dao": 2 / 3})
    assert (about["runs"], about["seconds"], about["left_out"]) == (6, 12.0, [])
    assert found["arms"]["tuned"]["mean"] == found["arms"]["dao"]["mean"]
    assert "tuned is dao" in choices(found)[0]
    assert "6 runs of 12 s" in choices(found)[0]


def test_ranks_and_differences_of_the_one_table(found: dict[str, Any]):
    (group,) = found["groups"]
    # dao and the row that is dao share places 1 and 2, equal and gls share 3 and 4.
    assert group["ranks"] == pytest.approx({"equal": 3.5, "dao": 1.5, "gls 10": 3.5, "tuned": 1.5})
    assert group["differences"]["dao"]["cls.accuracy"]["mean"] == pytest.approx(16 / 120)
    assert set(group["differences"]["cls alone"]) == {"cls.accuracy"}
    assert "equal" not in group["differences"]


def test_groups_have_a_table_each_and_the_rest_one(begin: Make):
    text = PLAN.replace("reference: equal", "groups: {Two: {arms: [equal, dao], reference: dao}}")
    groups = plan_findings(begin(text, reached))["groups"]
    assert [(g["title"], g["rows"]) for g in groups] == [
        ("Two", ["equal", "dao"]),
        ("Other arms", ["gls 10", "cls alone", "reg alone", "tuned"]),
    ]
    assert groups[0]["ranks"] == {"equal": 2.0, "dao": 1.0}
    assert list(groups[0]["differences"]) == ["equal"]


@pytest.mark.usefixtures("sketched_pictures")
def test_a_run_that_stopped_is_told_and_the_others_count(again: Design):
    shutil.rmtree(again.folder / "dao" / "seed=2")
    stop_file(again.folder / "dao" / "seed=2").write_text("A loss should be finite.\n")
    found = plan_findings(again)
    assert found["stopped"] == {"dao": {"2": "A loss should be finite."}}
    assert found["missing"] == {}
    assert effect(found, "dao - equal", "cls.accuracy")["seeds"] == [0, 1]
    # It is no candidate any more, and last in rank at the seed where it stopped.
    assert found["choices"]["tuned"]["chosen"] == "equal"
    assert found["choices"]["tuned"]["left_out"] == ["dao"]
    ranks = found["groups"][0]["ranks"]
    assert ranks["dao"] == pytest.approx((1 + 1 + 4) / 3)
    write_plan_report(again, found)
    report = (again.folder / "report.md").read_text()
    assert "| dao (2 of 3 runs ended) |" in report
    assert "dao, seed 2, stopped: A loss should be finite." in report


@pytest.mark.usefixtures("sketched_pictures")
def test_an_arm_of_which_no_run_ended_still_stands_in_the_table(again: Design):
    shutil.rmtree(again.folder / "gls_10")
    for seed in range(3):
        (again.folder / "gls_10").mkdir(exist_ok=True)
        stop_file(again.folder / "gls_10" / f"seed={seed}").write_text("It diverged.\n")
    found = plan_findings(again)
    assert found["groups"][0]["ranks"]["gls 10"] == 4
    assert "not tested, for want of a row or of a common seed: tuned - gls 10" in found["notes"]
    write_plan_report(again, found)
    assert "| gls 10 (0 of 3 runs ended) |" in (again.folder / "report.md").read_text()


def test_a_run_that_was_not_made_is_named(again: Design):
    shutil.rmtree(again.folder / "equal" / "seed=1")
    found = plan_findings(again)
    assert found["missing"] == {"equal": [1]}
    assert found["notes"][0] == "equal: no finished run of seed 1"
    assert effect(found, "dao - equal", "delta_m")["seeds"] == [0, 2]


def test_delta_m_leaves_out_a_seed_at_which_a_task_alone_stopped(again: Design):
    shutil.rmtree(again.folder / "reg_alone" / "seed=1")
    stop_file(again.folder / "reg_alone" / "seed=1").write_text("It diverged.\n")
    found = plan_findings(again)
    assert effect(found, "dao - equal", "delta_m")["seeds"] == [0, 2]
    assert effect(found, "dao - equal", "selection")["seeds"] == [0, 1, 2]


def test_several_models_of_a_task_alone_need_a_word(begin: Make):
    text = PLAN.replace("choose:", "  cls slow: {tasks: [cls], train.lr: 1e-4}\nchoose:")
    run = dict(REACHED, **{"cls slow": REACHED["cls alone"]})

    def made(arm: str, seed: int) -> dict[str, Any]:
        right, error, score = run[arm][seed]
        return {"right": right, "error": error, "score": score}

    found = plan_findings(begin(text, made))
    assert "delta_m" not in found["metrics"]
    assert any(note.startswith("no Δm") and "several of cls" in note for note in found["notes"])
    found = plan_findings(begin(f"{text}\nalone: {{cls: cls slow}}\n", made))
    assert found["alone"] == {"cls": "cls slow", "reg": "reg alone"}
    assert found["arms"]["dao"]["values"]["delta_m"]["0"] == pytest.approx(52.5)


def test_arms_selected_by_other_scores_have_no_selection_score(begin: Make):
    text = PLAN.replace("weighting: dao}", "weighting: dao, cls.select_by: macro_f1}")
    found = plan_findings(begin(text.replace("choose: {tuned: [equal, dao]}", "").replace(
        "[tuned, gls 10]", "[dao, gls 10]"), reached))  # fmt: skip
    assert "selection" not in found["metrics"]
    assert any("selected by different scores" in note for note in found["notes"])


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"epochs": 9}, "`train.epochs`.* 4 .* 9 "),
        ({"steps": 19}, "number of optimizer steps .* 18 .* 19 "),
        ({"validations": 5}, "number of validations .* 4 .* 5 "),
        ({"batch": "xy"}, "order of the batches"),
        ({"data__fingerprint": "other"}, "fingerprint of the data"),
        ({"provenance__precision": "bf16"}, "precision .* 'fp32' .* 'bf16'"),
        ({"targets": ["positive"] * 40}, "test rows of cls"),
    ],
)
def test_runs_that_differ_in_more_than_the_plan_says_are_refused(
    again: Design, make_run, about: dict[str, Any], message: str
):
    cell = next(cell for cell in plan_cells(again, ["dao/1"]))
    shutil.rmtree(cell.cfg.folder)
    flags = cell.cfg.model_dump(mode="json")
    more = dict(about)
    flags["train"]["epochs"] = more.pop("epochs", flags["train"]["epochs"])
    make_run(cell.cfg.folder, 1, flags=flags, **more)
    with pytest.raises(UserError, match=message) as refused:
        plan_findings(again)
    assert "\n" not in str(refused.value)


def test_an_arm_is_what_the_plan_says(again: Design, make_run):
    cell = next(cell for cell in plan_cells(again, ["dao/1"]))
    shutil.rmtree(cell.cfg.folder)
    make_run(cell.cfg.folder, 1, flags={**cell.cfg.model_dump(mode="json"), "weighting": "uw"})
    with pytest.raises(UserError, match=r"`weighting` should be 'dao' in the arm dao\. Found 'uw'"):
        plan_findings(again)


def test_arms_with_a_course_of_their_own_may_take_other_steps(begin: Make):
    text = "title: T\nquestion: Q?\nseeds: 2\narms: {short: {train.epochs: 1}, long: {}}\n"
    text += "compare: [[long, short]]\n"
    design = begin(text, lambda arm, _: {"steps": 5 if arm == "short" else 18, "right": 20})
    found = plan_findings(design)
    assert found["arms"]["short"]["steps_of_runs"] == [5, 5]


def test_runs_that_stop_early_may_take_any_number_of_steps(begin: Make):
    text = "title: T\nquestion: Q?\nseeds: 2\nsettings: {train.early_stopping: 2}\n" + "".join(
        ["arms: {a: {weighting: gls}, b: {}}\n", "compare: [[a, b]]\n"]
    )
    design = begin(text, lambda arm, seed: {"steps": 5 + seed, "validations": 2 + seed})
    assert plan_findings(design)["arms"]["a"]["steps_of_runs"] == [5, 6]


def test_a_folder_without_plan_or_runs_is_refused(tmp_path: Path, begin: Make):
    with pytest.raises(UserError, match=r"should hold plan\.yaml\. Found none"):
        conclude_plan(tmp_path)
    with pytest.raises(UserError, match="should have finished runs"):
        plan_findings(begin(PLAN, lambda arm, seed: None))


@pytest.mark.usefixtures("sketched_pictures")
def test_kept_runs_without_predictions_rest_on_the_fingerprint(again: Design):
    for path in again.folder.rglob("predictions.csv"):
        path.unlink()
    for path in again.folder.rglob("history.jsonl"):
        path.unlink()
    found = plan_findings(again)
    assert any("15 of 15 runs are kept without predictions.csv" in n for n in found["notes"])
    write_plan_report(again, found)


# -- the report ------------------------------------------------------------------------------------


def test_the_report_is_made_from_the_folder_alone(again: Design, capsys: pytest.CaptureFixture):
    conclude_plan(again.folder)
    report = (again.folder / "report.md").read_text()
    assert report.splitlines()[0] == "# Three weightings"
    assert report.splitlines()[2] == "Does a weighting help?"
    assert report.splitlines()[4].startswith("Over 3 seeds, dao differs from equal in the mean ")
    assert "\n- dao - equal: Selection score higher (better)" in report.split("## Comparisons")[0]
    for part in (
        "## Comparisons", "## Arms", "mean rank ↓", "worst task", "## Against single tasks",
        "tuned: dao", "(majority class)", "Seeds: 0, 1, 2", "Began at revision",
        "Made by: python train.py --factorial --plan out/plan.yaml", "Difference from equal",
        "![", "weighting = gls",
    ):  # fmt: skip
        assert part in report, part
    names = {path.name for path in again.folder.iterdir()}
    assert {"report.html", "findings.json", "Results.csv", "plan.yaml"} <= names
    assert (again.folder / "figures" / "differences.png").is_file()
    assert (again.folder / "figures" / "pairs.png").is_file()
    shown = capsys.readouterr().out
    assert "dao - equal: Selection score" in shown
    assert f"report: {again.folder}/report.html" in shown
    rows = (again.folder / "Results.csv").read_text().splitlines()
    assert len(rows) == 1 + 15  # a row per run, and none for what was chosen among them
    assert "delta_m" in rows[0]
    before = report
    with no_pictures():
        conclude_plan(again.folder)
    assert (again.folder / "report.md").read_text() == before


def test_an_answer_for_each_pair(found: dict[str, Any]):
    first, second = answers(found)
    assert first.startswith("dao - equal: Selection score higher (better), +0.1095")
    assert "Δm higher (better)" in first
    assert second.startswith("tuned - gls 10: ")


def test_one_seed_is_not_tested(begin: Make):
    found = plan_findings(begin(PLAN.replace("seeds: 3", "seeds: 1"), reached))
    assert "Selection score not tested" in answers(found)[0]
    assert any(note.startswith("fewer than two seeds") for note in found["notes"])


# -- experts, and parts of the test rows -----------------------------------------------------------

EXPERTS = """
title: Experts
question: Are they better?
seeds: 2
settings: {experts.names: [news, forum], tasks: [cls]}
arms:
  experts: {experts.control: none}
  one: {experts.control: single}
compare: [[experts, one], ["experts, hard", one], [experts, "experts, hard"]]
by: [domain]
"""
# Accuracy everywhere, in news (10 rows) and in the forum (20 rows), at both seeds.
SOFT = ((0.7, 0.6, 0.8), (0.8, 0.7, 0.9))
HARD = ((0.6, 0.6, 0.6), (0.7, 0.7, 0.7))
ONE = ((0.6, 0.7, 0.5), (0.7, 0.9, 0.5))


def figures(everywhere: float, news: float, forum: float) -> dict[str, Any]:
    groups = {"all": (everywhere, 30), "news": (news, 10), "forum": (forum, 20)}
    return {
        g: {"cls": {"accuracy": value, "macro_f1": value, "n": n}}
        for g, (value, n) in groups.items()
    }


def with_experts(arm: str, seed: int) -> dict[str, Any]:
    whole = figures(*(SOFT if arm == "experts" else ONE)[seed])
    parts = {name: whole[name] for name in ("news", "forum")}
    return {"splits__test": whole["all"], "slices__test": {"domain": parts}, "score": 0.5}


@pytest.fixture
def experts(begin: Make) -> Design:
    design = begin(EXPERTS, with_experts)
    for seed in range(2):
        path = design.folder / "experts" / f"seed={seed}" / "metrics.json"
        metrics, hard = json.loads(path.read_text()), figures(*HARD[seed])
        soft = {"all": metrics["splits"]["test"], "domains": metrics["slices"]["test"]["domain"]}
        ways = {
            "soft": soft,
            "hard": {"all": hard["all"], "domains": {n: hard[n] for n in ("news", "forum")}},
        }  # fmt: skip
        about = {"n": 30, "accuracy": 0.9 + seed / 10, "usage": {"news": 0.3, "forum": 0.7}}
        right = {n: {"n": 1, "share": 0.5, "accuracy": 0.9} for n in ("news", "forum")}
        metrics["routing"] = {"test": {**about, "domains": right, **ways}}
        path.write_text(json.dumps(metrics))
    plain = {"majority class": {"accuracy": 0.4, "macro_f1": 0.2}}
    parts = {"news": {"cls": plain}, "forum": {"cls": {"majority class": {"accuracy": 0.6}}}}
    (design.folder / PLAIN).write_text(json.dumps({"domain": parts}))
    return kept(design.folder)


def test_differences_are_taken_per_domain_and_within_seeds(experts: Design):
    found = plan_findings(experts)
    assert list(found["arms"]) == ["experts", "experts, hard", "one"]
    (by,) = found["by"]
    assert by["n"] == {"forum": {"cls": 20}, "news": {"cls": 10}}
    assert by["rows"]["experts"]["news"]["cls.accuracy"]["mean"] == pytest.approx(0.65)
    assert by["rows"]["experts, hard"]["forum"]["cls.accuracy"]["mean"] == pytest.approx(0.65)
    soft = by["differences"]["experts - one"]
    assert soft["news"]["cls.accuracy"]["values"] == pytest.approx({"0": -0.1, "1": -0.2})
    low, high = soft["news"]["cls.accuracy"]["t95"]
    assert (high - low) / 2 == pytest.approx(12.7062 * 0.05, rel=1e-4)  # sd .0707, n 2
    assert soft["forum"]["cls.accuracy"]["mean"] == pytest.approx(0.35)
    assert by["plain"]["majority class"]["news"]["cls.accuracy"] == 0.4
    everywhere = effect(found, "experts - one", "cls.accuracy")
    assert everywhere["mean"] == pytest.approx(0.1)
    assert effect(found, "experts - experts, hard", "cls.accuracy")["mean"] == pytest.approx(0.1)
    assert found["routing"]["experts"]["accuracy"]["mean"] == pytest.approx(0.95)


@pytest.mark.usefixtures("sketched_pictures")
def test_the_report_has_a_row_per_domain_and_the_router(experts: Design):
    write_plan_report(experts, plan_findings(experts))
    report = (experts.folder / "report.md").read_text()
    for part in (
        "## By domain", "cls by domain (forum n 20, news n 10)",
        "| news: experts | 0.6500 ± 0.6353 |", "| news: experts, hard |",
        "| news: (majority class) | 0.4000 |", f"| news: experts - one | {MINUS}0.1500 ± 0.6353 |",
        "the router is right in 0.9500 ± 0.6353 of",
        "mean weight of the experts on the test rows: news 0.3000",
    ):  # fmt: skip
        assert part in report, part
    assert len((experts.folder / "Results.csv").read_text().splitlines()) == 1 + 6


def test_a_seed_that_one_side_lacks_is_no_difference(experts: Design):
    shutil.rmtree(experts.folder / "one" / "seed=1")
    (by,) = plan_findings(experts)["by"]
    assert by["differences"]["experts - one"]["news"]["cls.accuracy"]["values"] == pytest.approx(
        {"0": -0.1}
    )


def test_a_row_that_needs_a_router_is_refused_without_one(begin: Make):
    with pytest.raises(UserError, match="Found 'equal, hard'"):
        begin(PLAN.replace("[dao, equal]", '[dao, "equal, hard"]'), lambda arm, seed: None)
