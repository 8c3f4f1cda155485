"""The search of --tune: its texts, and trials whose runs are a script that makes up scores."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
import typer

from dao.errors import UserError
from dao.learner.experiment.tuning import outcome, search, study, trials
from dao.learner.experiment.tuning.search import TuningOptions, run_tuning
from dao.learner.experiment.tuning.space import Choices, Range, overrides_of, read_space
from dao.learner.settings.config import Config, load_config
from dao.learner.storage.record import RunFolder


@pytest.mark.parametrize(
    ("text", "found", "told"),
    [
        ("train.lr=1e-5..1e-3", Range(1e-5, 1e-3, False), "1e-05 to 0.001, by the logarithm"),
        ("train.clip=0..9", Range(0, 9, False), "0 to 9, evenly"),
        ("train.clip=1..9", Range(1, 9, False), "1 to 9, evenly"),
        ("train.epochs=2..4", Range(2, 4, True), "whole numbers from 2 to 4, evenly"),
        ("train.batch_tokens=64..2048", Range(64, 2048, True),
         "whole numbers from 64 to 2048, by the logarithm"),
        ("dao.priors.reg=.5..2", Range(0.5, 2, False), "0.5 to 2, evenly"),
        ("cls.beta=.9..0.99", Range(0.9, 0.99, False), "0.9 to 0.99, evenly"),
        ("reg.weight=.1..10", Range(0.1, 10, False), "0.1 to 10, by the logarithm"),
        ("reg.weight=0.1|1", Choices({"0.1": 0.1, "1": 1.0}), "one of 0.1, 1"),
        ("encoder.lora.r=2|4", Choices({"2": 2, "4": 4}), "one of 2, 4"),
        ("train.schedule=linear|cosine", Choices({"linear": "linear", "cosine": "cosine"}),
         "one of linear, cosine"),
        ("encoder.lora.targets=[query]|[query,key]",
         Choices({"[query]": ["query"], "[query,key]": ["query", "key"]}),
         "one of [query], [query,key]"),
    ],
)  # fmt: skip
def test_a_text_is_a_range_or_a_choice(text: str, found: object, told: str):
    (dimension,) = read_space([text], Config()).values()
    assert dimension == found
    assert str(dimension) == told


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["train.lr"], "should look like"),
        (["train.lr=1"], "a range or several values"),
        (["train.lr=1|1"], "a range or several values"),
        (["cls.weight=1|x"], "a range or several values"),
        (["train.lr=1|"], "a range or several values"),
        (["train.lr=[1|2"], "a range or several values"),
        (["train.lr=1e..2"], "should look like"),
        (["train.lr=1..2", "train.lr=3..4"], "once per setting"),
        (["train.lr=2..1"], "the smaller first"),
        (["train.epochs=1..2.5"], "whole numbers"),
        (["train.schedule=1..2"], "settings that are numbers"),
        (["train.learning=1..2"], "'train.learning', which is none"),
        (["churn.beta=1..2"], "no such task"),
        (["churn.weight=1..2"], "no such task"),
        (["seed=1..9"], "scored alike"),
        (["cls.cut=1..2"], "scored alike"),
        (["cls.weight=1..9", "weighting=dao|equal"], "among what is tuned"),
    ],
)
def test_a_text_that_cannot_be_is_one_line(texts: list[str], words: str):
    with pytest.raises(UserError, match=words) as refused:
        read_space(texts, Config())
    assert "\n" not in str(refused.value)


def test_an_option_of_a_task_without_a_kind_is_refused():
    with pytest.raises(UserError, match="--tasks topic:KIND"):
        read_space(["topic.beta=.1..1"], load_config(None, ["tasks=topic"]))


def test_proposals_keep_to_their_ranges_and_to_four_digits():
    asked = read_space(["train.lr=1e-5..1e-3", "encoder.lora.r=2|4", "train.epochs=1..3"], Config())
    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    values = [{k: d.propose(trial, k) for k, d in asked.items()}
              for trial in (drawn.ask() for _ in range(50))]  # fmt: skip
    rates = [value["train.lr"] for value in values]
    assert all(rate == float(f"{rate:.4g}") and 1e-5 <= rate <= 1e-3 for rate in rates)
    assert 10 < sum(rate < 1e-4 for rate in rates) < 40  # as many below the middle of the logarithm
    assert {value["encoder.lora.r"] for value in values} == {2, 4}
    assert {value["train.epochs"] for value in values} == {1, 2, 3}


def test_weights_of_tasks_are_one_constant_weighting():
    flags = overrides_of({"cls.weight": 0.5, "reg.weight": 2.0})
    assert load_config(None, [], flags).weighting == "fixed:cls=0.5,reg=2.0"


@pytest.mark.parametrize(
    ("text", "settings", "words"),
    [
        ("train.lr=.1..1", [], ""),
        ("train.epochs=1..2", [], "moves the validations"),
        ("dendrites.lr=1..2", [], "in the middle"),
        ("train.lr=.1..1", ["dendrites.enabled=true"], "growth of dendrites"),
    ],
)
def test_nothing_is_stopped_early_where_validations_do_not_compare(text, settings, words):
    shared = load_config(None, settings)
    assert words in study.no_pruning(read_space([text], shared), shared)
    assert bool(words) == bool(study.no_pruning(read_space([text], shared), shared))


# Searches whose runs are a script: the score of a run is a function of its learning rate.

RUN = """
import json, math, pathlib, re, sys, time
if "--resume" in sys.argv:
    folder = pathlib.Path(sys.argv[2])
else:
    folder = pathlib.Path(sys.argv[2]).parent
text = (folder / "config.yaml").read_text().partition("\\ntrain:")[2]
lr = float(re.search(r"^  lr: (.*)$", text, re.M)[1])
if lr > FAILS:
    sys.exit("error: the loss should be finite")
final = -abs(math.log10(lr) + 2)
with (folder / "validation.jsonl").open("a") as file:
    for step in range(1, 9):
        print(json.dumps({"step": step, "score": final - 8 + step}), file=file, flush=True)
        time.sleep(SLEEP)
about = {"selected_after_step": 8, "seconds": 2.0}
metrics = {"training": about, "splits": {"test": {"reg": {"r2": final}}}, "tasks": {}}
(folder / "metrics.json").write_text(json.dumps(metrics))
"""


@pytest.fixture
def find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a search over the rate, and gives the content of search.json and what was printed."""
    shown: list[str] = []
    monkeypatch.setattr(outcome, "print_results", lambda metrics, run: shown.append(f"test {run}"))
    monkeypatch.setattr(outcome, "show_tables", lambda c, tables, lines, style: shown.extend(lines))
    monkeypatch.setattr(outcome, "_test_score", lambda metrics, shared: 0.25)

    def run(
        *tune: str, trials: int = 6, sleep: float = 0.0, fails: float = 1e9,
        more: tuple[str, ...] = (), **asked: Any,
    ):  # fmt: skip
        script = (
            RUN.replace("FAILS", f"{fails}").replace("SLEEP", f"{sleep}").replace("TASKS", "{}")
        )
        (tmp_path / "run.py").write_text(script)
        settings = (None, ["tasks=reg", f"output={tmp_path / 'search'}", *more], {})
        texts = tune or ("train.lr=1e-4..1",)
        flags = TuningOptions(texts, trials=trials, **asked)
        shown.clear()
        run_tuning(settings, flags, [sys.executable, str(tmp_path / "run.py")], as_it_is)
        return json.loads((tmp_path / "search" / "search.json").read_text()), list(shown)

    return run


def as_it_is(cfg: Config) -> tuple[Config, Any, None]:
    return cfg, None, None


def test_the_search_finds_the_rate_that_scores_best(find, tmp_path: Path):
    found, shown = find(trials=6)
    scores = {trial["trial"]: trial["score"] for trial in found["trials"]}
    best = max(scores, key=scores.get)
    assert found["selected"] == str(tmp_path / "search" / best / "seed=0")
    assert shown[0] == "6 trials: 6 finished; 12 s of training in all"
    assert shown[1].startswith(f"best on validation: {best} (train.lr=")
    assert shown[-1] == f"test {found['selected']}"
    assert found["beside_dao"] is None


@pytest.mark.slow
def test_proposals_are_those_of_the_seed_with_a_stop_between_or_without(find, tmp_path: Path):
    whole = find(trials=5)[0]["trials"]
    (tmp_path / "search").rename(tmp_path / "whole")
    assert find(trials=2)[0]["trials"] == whole[:2]
    assert find(trials=5)[0]["trials"] == whole
    rates = [trial["values"]["train.lr"] for trial in whole]
    assert len(set(rates)) == 5


@pytest.mark.slow
def test_a_run_below_the_median_is_stopped_early(find, monkeypatch):
    monkeypatch.setattr(study, "STARTUP", 2)
    found, shown = find(trials=8, sleep=0.05)
    stopped = [trial for trial in found["trials"] if trial["state"] == "stopped early"]
    assert stopped
    for trial in stopped:
        assert -8 < float(trial["reason"].rpartition(" at ")[2]) < 0
    best = max(t["score"] for t in found["trials"] if t["state"] == "finished")
    assert all(t["reason"].startswith("after validation ") for t in stopped)
    assert f"{len(stopped)} stopped early" in shown[0]
    assert best > -0.5


def test_seconds_are_those_of_training_whether_a_run_ended_or_not(tmp_path: Path):
    folder = RunFolder(tmp_path)
    assert trials.training_seconds(folder) == 0
    checkpoint = tmp_path / "checkpoints" / "step=000003"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.json").write_text('{"seconds": 4.5}')
    (checkpoint.parent / "latest").write_text(checkpoint.name)
    assert trials.training_seconds(folder) == 4.5
    (tmp_path / "metrics.json").write_text('{"training": {"seconds": 9.0}}')
    assert trials.training_seconds(folder) == 9


def test_a_run_that_fails_is_no_part_of_the_choice(find, capsys):
    found, shown = find(trials=6, fails=0.05)
    failed = [trial for trial in found["trials"] if trial["state"] == "failed"]
    assert failed
    assert all(trial["values"]["train.lr"] > 0.05 for trial in failed)
    assert "failed: error: the loss should be finite" in capsys.readouterr().err
    assert f"{len(failed)} failed" in shown[0]


def test_a_search_without_a_finished_run_is_an_error_that_says_why(find):
    with pytest.raises(UserError, match="the last for this: error: the loss should be finite"):
        find(trials=2, fails=0.0)


def test_equal_values_are_not_trained_twice(find):
    found, _ = find("train.lr=.01|.1", trials=5)
    again = [trial for trial in found["trials"] if trial["reason"].startswith("as trial-")]
    assert len(again) == 3
    assert all(trial["seconds"] == 0 for trial in again)
    assert found["selected"].endswith(
        next(t["trial"] for t in found["trials"] if t["values"]["train.lr"] == 0.01) + "/seed=0"
    )


def test_no_trial_begins_after_the_minutes(find):
    found, _ = find(trials=50, minutes=0.02, sleep=0.1)
    assert 1 <= len(found["trials"]) < 20


def test_a_search_that_is_stopped_goes_on_with_the_trial_that_was_at_work(
    find, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    looks = []

    def interrupt(one: Any) -> None:
        looks.append(one)
        if len(looks) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trials, "_look", interrupt)
        with pytest.raises(typer.Exit) as stopped:
            find(trials=2, sleep=1.0)
    assert stopped.value.exit_code == 130
    assert not (tmp_path / "search" / "trial-0000" / "seed=0" / "metrics.json").exists()
    found, _ = find(trials=2)
    assert [trial["state"] for trial in found["trials"]] == ["finished", "finished"]
    assert [trial["trial"] for trial in found["trials"]] == ["trial-0000", "trial-0001"]


def test_tuned_weights_are_told_beside_dao_with_what_they_cost(find, tmp_path: Path):
    found, shown = find("reg.weight=.1..10", "train.lr=1e-3|1e-2", trials=4)
    beside = found["beside_dao"]
    assert beside["constant"]["trials"] == 4
    ran = len({json.dumps(trial["values"]) for trial in found["trials"]})
    assert beside["constant"]["seconds"] == 2.0 * ran
    assert beside["dao"] == {"validation": -0.0, "test": 0.25, "trials": 1, "seconds": 2.0}
    cfg = load_config(Path(beside["run"]) / "config.yaml")
    assert (cfg.weighting, cfg.train.lr) == ("dao", 0.01)
    assert shown[2].startswith("tuned constant weights: score on validation 0")
    assert "4 trials, 8 s of training" in shown[2]
    assert "with the best trial's train.lr" in shown[3]
    assert "1 run, 2 s of training" in shown[3]


def test_two_runs_at_a_time(find):
    began = time.monotonic()
    found, _ = find(trials=4, sleep=0.1, jobs=2)
    assert len(found["trials"]) == 4
    assert time.monotonic() - began < 30


def test_optuna_is_asked_for_by_its_extra(monkeypatch, find):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"--tune should find optuna.*search"):
        find()


def test_a_setting_that_no_run_takes_is_refused_before_anything_runs(find, tmp_path: Path):
    with pytest.raises(UserError, match=r"train\.warmup"):
        find("train.warmup=0..2")
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize("other", ["train.clip=2.0", "seed=7"])
def test_a_search_goes_on_with_the_settings_that_it_began_with(find, tmp_path: Path, other: str):
    before, _ = find(trials=2)
    with pytest.raises(UserError, match=f"`{other.partition('=')[0]}`"):
        find(trials=4, more=(other,))
    assert json.loads((tmp_path / "search" / "search.json").read_text()) == before
    assert len(find(trials=3, more=("train.track=[]",))[0]["trials"]) == 3


def test_two_searches_do_not_share_a_folder_at_a_time(find, tmp_path: Path):
    with search.locked(tmp_path / "search"), pytest.raises(UserError, match="one process"):
        find()
