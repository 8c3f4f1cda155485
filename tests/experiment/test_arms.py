"""Experiments with chosen arms: the report names nothing that is not there."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from dao import DAOLoss
from dao.errors import UserError
from dao.learner.experiment import arms
from dao.learner.experiment.arms import ARMS, KNOWN, chosen, known_arms
from dao.learner.experiment.findings.contrasts import contrasts
from dao.learner.experiment.findings.effects import findings
from dao.learner.experiment.findings.relative import changes
from dao.learner.experiment.report.report import write_report
from dao.learner.experiment.report.terminal import print_report
from dao.learner.kinds.declared import ARMS as RESERVED
from dao.learner.kinds.declared import NAME, check_names
from dao.learner.settings.config import load_config
from dao.learner.weighting.weighting import make_weighting
from tests.conftest import no_pictures

CONFIGS = Path(__file__).parents[2] / "configs"
CPU = torch.device("cpu")

RIGHT = {"base": (24, 30, 27), "dendrites": (26, 31, 30), "dao": (25, 31, 26)}
ERROR = {"base": (0.30, 0.20, 0.26), "reg": (0.32, 0.22, 0.25), "dao-paper": (0.27, 0.19, 0.24)}
PAPER = ("reg", "cls", "base", "dao", "dao-paper")


def make(folder: Path, make_arm, arms: tuple[str, ...], **about) -> Path:
    for arm in arms:
        for seed in range(3):
            grown = {"dendrites_kept": 1, "parameters_added": 50} if arm == "dendrites" else None
            make_arm(
                folder, arm, seed, dendrites=grown, right=RIGHT.get(arm, RIGHT["base"])[seed],
                error=ERROR.get(arm, ERROR["base"])[seed], **about,
            )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def one_task(tmp_path_factory, make_arm) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("one-task")
    make(folder, make_arm, ("base", "dendrites"), set=["tasks=[cls]"])
    found = findings(folder, ("base", "dendrites"))
    with no_pictures(sketched=True):
        write_report(folder, found)
    return folder, found


@pytest.fixture(scope="module")
def paper(tmp_path_factory, make_arm) -> tuple[Path, dict]:
    folder = make(tmp_path_factory.mktemp("paper"), make_arm, PAPER)
    found = findings(folder, PAPER)
    with no_pictures(sketched=True):
        write_report(folder, found)
    return folder, found


def test_two_arms_of_one_task(one_task, capsys):
    folder, found = one_task
    assert (found["design"], found["tasks"]) == (["base", "dendrites"], ["cls"])
    assert [e["name"] for e in found["effects"]] == ["dendrites - base"] * 3
    (accuracy,) = [e for e in found["effects"] if e["metric"] == "cls.accuracy"]
    assert accuracy["mean"] == pytest.approx((2 + 1 + 3) / 120)
    assert found["per_example"][0]["a"] == "dendrites"
    assert found["notes"] == []
    report = (folder / "report.md").read_text()
    assert report.startswith("# made-up: dendrites\n")
    print_report(folder, found)
    said = report.split("## Provenance")[0] + capsys.readouterr().out
    for absent in ("DAO", "dao", "sham", "capacity", "cls alone", "*alone*", "mse", "Missing"):
        assert absent not in said
    assert "Not meas" not in said
    assert "- dendrites - base, Selection score: no significant difference" in report
    assert (folder / "Accuracy_Improvement.png").is_file()
    csv = (folder / "Results.csv").read_text().splitlines()
    assert csv[0].startswith("arm,seed,selection,cls.accuracy,cls.macro_f1,trained_parameters")
    assert len(csv) == 1 + 6


@pytest.mark.slow
def test_arms_of_the_paper(paper):
    folder, found = paper
    assert found["design"] == ["base", "dao", "cls", "reg", "dao-paper"]
    names = {e["name"] for e in found["effects"]}
    assert names == {
        "dao - base", "base - cls alone", "base - reg alone", "dao-paper - base", "dao - dao-paper",
        "dao - cls alone", "dao - reg alone", "dao-paper - cls alone", "dao-paper - reg alone",
    }  # fmt: skip
    changed = {(c["name"], c["metric"]): c for c in found["relative"]}
    # MSE is the square of the error: 100 (.27² / .32² - 1) = -28.81, -25.41, -7.84.
    against = changed["dao-paper - reg alone", "reg.mse"]
    assert against["percent"] == pytest.approx((-28.8086 - 25.4132 - 7.84) / 3, abs=1e-3)
    assert against["t95"][0] < against["percent"] < against["t95"][1]
    report = (folder / "report.md").read_text()
    assert report.startswith("# made-up: DAO\n")
    assert "## Relative changes" in report
    assert "| dao-paper - reg alone | reg MSE | 3 | \N{MINUS SIGN}20.69 |" in report
    for absent in ("sham", "capacity", "Missing", "perforatedai", "dao+dendrites"):
        assert absent not in report


@pytest.mark.slow
@pytest.mark.usefixtures("without_pictures")
def test_an_arm_that_was_asked_for_and_is_not_there_is_named(tmp_path, make_arm):
    make(tmp_path, make_arm, ("base", "dao"))
    found = findings(tmp_path, ("base", "dao", "dao-paper"))
    write_report(tmp_path, found)
    assert "Missing arms: dao-paper." in (tmp_path / "report.md").read_text()
    assert found["notes"] == [
        "not tested, for want of an arm or of a common seed: dao-paper - base; dao - dao-paper"
    ]


def test_settings_of_dao_differ_in_the_papers_arm_alone(tmp_path, make_arm):
    make(tmp_path, make_arm, ("base", "dao-paper"))
    assert findings(tmp_path, ("base", "dao-paper"))["effects"]
    for seed in range(3):
        make_arm(tmp_path, "dao", seed, set=["dao.ema=0.1"])
    with pytest.raises(UserError, match=r"`dao\.ema` should be equal in runs that are compared"):
        findings(tmp_path, ("base", "dao", "dao-paper"))


def test_the_papers_arm_is_what_its_name_says(tmp_path, make_arm, make_run):
    make(tmp_path, make_arm, ("base",))
    make_run(tmp_path / "dao-paper" / "seed=0", 0, flags={
        "weighting": "dao", "dendrites.enabled": True, "dendrites.control": "restart",
        "dao.source": "params", "dao.refresh_every": 1,
    })  # fmt: skip
    with pytest.raises(UserError, match=r"`dao\.total` should be 'one' in the arm dao-paper"):
        findings(tmp_path)


FAST = ["dendrites.lr=10"]


@pytest.mark.usefixtures("without_pictures")
def test_restart_lr_is_an_arm_where_dendrites_have_a_rate_of_their_own(tmp_path, make_arm):
    assert "restart-lr" not in chosen(["cls"])
    assert chosen(["cls"], lr=10.0) == ("base", "dendrites", "sham", "capacity", "restart-lr")
    with pytest.raises(
        UserError, match=r"'restart-lr' with dendrites\.lr=1, where it would be base"
    ):
        chosen(["cls"], ["restart-lr"])
    arms = ("base", "dendrites")
    make(tmp_path, make_arm, arms, set=[*FAST, "tasks=[cls]"])
    own = [*FAST, "dendrites.restart_lr=10", "tasks=[cls]"]
    for seed in range(3):
        make_arm(tmp_path, "restart-lr", seed, set=own, right=RIGHT["base"][seed])
    found = findings(tmp_path)
    assert found["design"] == ["base", "dendrites", "sham", "capacity", "restart-lr"]
    assert list(found["arms"]) == ["base", "dendrites", "restart-lr"]
    means = {e["name"]: e["mean"] for e in found["effects"] if e["metric"] == "cls.accuracy"}
    assert means["dendrites - restart-lr"] == pytest.approx(6 / 120)
    assert means["restart-lr - base"] == 0
    write_report(tmp_path, found)
    report = (tmp_path / "report.md").read_text()
    assert "*restart-lr*: base whose weights all learn, after the first restart" in report
    assert "- dendrites - restart-lr, Selection score: no significant difference" in report


def test_restart_lr_is_what_its_name_says(tmp_path, make_arm):
    make(tmp_path, make_arm, ("base",), set=FAST)
    for seed in range(3):
        make_arm(tmp_path, "restart-lr", seed, set=[*FAST, "dendrites.restart_lr=3"])
    said = r"`dendrites\.restart_lr` should be 10\.0 in the arm restart-lr\. Found 3\.0"
    with pytest.raises(UserError, match=said):
        findings(tmp_path)


def test_changes_leave_out_what_would_divide_by_nothing():
    figures = {
        "base": {0: {"a.f1": 0.5}, 1: {"a.f1": 0.0}, 2: {"a.f1": None}},
        "dendrites": {0: {"a.f1": 0.6}, 1: {"a.f1": 0.5}, 2: {"a.f1": 0.5}},
    }
    metrics = {"a.f1": {"task": "a", "main": True}, "a.x": {"task": "a", "main": False}}
    (found,) = changes(contrasts(["base", "dendrites"]), figures, metrics)
    assert (found["seeds"], found["t95"]) == ([0], None)
    assert found["percent"] == pytest.approx(20.0)
    json.dumps(found, allow_nan=False)


def test_no_task_has_the_name_of_an_arm():
    for arm in KNOWN:
        with pytest.raises(UserError, match="`tasks` should"):
            load_config(None, [f"tasks=[{arm},other]"])
    assert list(known_arms(["topic", "stars"])) == [*ARMS, "topic", "stars", "dao-paper"]


def test_an_arm_with_all_tasks_is_none_of_a_single_task(tmp_path, make_arm, make_run):
    make(tmp_path, make_arm, ("base",))
    make_run(tmp_path / "reg" / "seed=0", 0, flags={
        "dendrites.enabled": True, "dendrites.control": "restart",
    })  # fmt: skip
    with pytest.raises(
        UserError, match=r"`tasks` should be reg in the arm reg\. Found cls, reg in"
    ):
        findings(tmp_path, ("base", "reg"))


@pytest.mark.parametrize("arm", KNOWN)
def test_no_task_may_have_the_name_of_an_arm(arm: str):
    with pytest.raises(ValueError, match=r"should (not take the name of an arm|have names of)"):
        check_names([arm], [])


def test_the_kinds_know_the_arms():
    """They may not import them: the experiment imports the kinds."""
    assert {arm for arm in KNOWN if NAME.fullmatch(arm)} <= set(RESERVED)


def test_the_settings_of_the_paper_are_one_thing():
    """In the experiment's arm, in configs/dao-bare.yaml and in `DAOLoss.paper`."""
    asked = load_config(None, flags={"weighting": "dao", **arms.PAPER})
    assert load_config(CONFIGS / "dao-bare.yaml") == asked
    layer = nn.Linear(2, 1)
    tasks, parameters = ["a", "b"], list(layer.parameters())
    by_setting = make_weighting(asked, tasks, lambda: parameters, lambda: parameters, CPU)
    paper = DAOLoss.paper(tasks, parameters)
    for name in ("source", "rep_norm", "alpha", "ema", "max_ratio", "total", "refresh_every",
                 "absent"):  # fmt: skip
        assert getattr(by_setting.loss, name) == getattr(paper, name), name
    assert asked.dao != load_config(None).dao
