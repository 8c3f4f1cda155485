"""What a run's report says first: worse than a plain model, and dendrites that do little."""

import pytest

from dao.learner.console.report import model_card, summary
from dao.learner.dendrites.share import share_lines, shares_of_sets
from dao.learner.kinds.classification import Classification
from dao.learner.kinds.regression import Regression
from dao.learner.scoring.plain_models import worse_than_plain
from dao.learner.settings.config import load_config

TASKS = {
    "cls": Classification("cls", "label", ["a", "b"], show=["accuracy"]),
    "reg": Regression("reg", "score", 0.0, 1.0, show=["mse"]),
}
LITTLE = {"a": [0.002, 0.2], "b": [0.004, 0.04], "c": [0.03, 0.1]}


def metrics(accuracy=0.6, mse=0.1, dendrites=None) -> dict:
    test = {"cls": {"n": 9, "accuracy": accuracy}, "reg": {"n": 9, "mse": mse}}
    plain = {
        "cls": {"majority class": {"accuracy": 0.5}, "TF-IDF": {"accuracy": 0.55}},
        "reg": {"mean predictor": {"mse": 0.2}, "TF-IDF": {"mse": None}},
    }
    return {
        "name": "n", "arm": "cls+reg", "tasks": {n: t.described() for n, t in TASKS.items()},
        "splits": {"test": test}, "baselines": {"test": plain},
        "best_reachable": {}, "loss_weights": {}, "dendrites": dendrites,
        "training": {"steps": 9, "selected_after_step": 9, "seconds": 1.0},
        "parameters": {"trainable": 7},
        "provenance": {"scratch": None, "encoder": {"name": "e", "origin": "hub"}},
    }  # fmt: skip


def grown(**more) -> dict:
    return {
        "modules_wrapped": 3, "dendrites_added": 2, "growth_steps": [3, 6], "control": "none",
        "parameters_added": 10, "received_gradient": 6, "dendrites_kept": 2, **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("accuracy", "mse", "words"),
    [
        (0.45, 0.1, "cls accuracy 0.4500 (majority class 0.5000, TF-IDF 0.5500)"),
        (0.52, 0.1, "cls accuracy 0.5200 (TF-IDF 0.5500)"),
        (0.6, 0.25, "reg mse 0.2500 (mean predictor 0.2000)"),
    ],
)
def test_a_model_below_a_plain_one_is_called_that_first(accuracy, mse, words):
    found = metrics(accuracy, mse)
    expected = f"cls+reg is worse than a plain model on test: {words}"
    assert summary(found)[0] == expected
    assert model_card(load_config(), found).split("\n\n")[2] == f"**{expected}.**"


def test_a_model_that_is_as_good_as_the_plain_ones_is_not():
    assert worse_than_plain(metrics(0.55, 0.2), "test") == []
    assert worse_than_plain(metrics(0.1), "validation") == []
    assert "worse" not in model_card(load_config(), metrics())


def test_shares_have_median_and_range_per_set():
    first, second = shares_of_sets([LITTLE])
    assert first == {"layers": 3, "median": 0.004, "lowest": 0.002, "highest": 0.03}
    assert second == {"layers": 3, "median": 0.1, "lowest": 0.04, "highest": 0.2}
    pooled = shares_of_sets([{"a": [0.1]}, {"a": [0.3]}, {}])
    assert pooled == [{"layers": 2, "median": 0.2, "lowest": 0.1, "highest": 0.3}]


def test_a_report_warns_of_a_set_that_contributes_less_than_a_hundredth():
    record = grown(output_shares=LITTLE, lr=3.0)
    lines = summary(metrics(dendrites=record))
    assert (
        "share of the layers' output that dendrites contribute: set 1: median 0.4 %, from 0.2 % to "
        "3 % over 3 layers; set 2: median 10 %, from 4 % to 20 % over 3 layers" in lines
    )
    warning = next(line for line in lines if line.startswith("warning"))
    said = "of set 1 contribute 0.4 % of the output of their layers in the median, less than 1 %: "
    other = "what is measured here is the work of the other sets"
    for words in (said + other, "3 x the model's rate", "to 30"):
        assert words in warning
    assert warning[1:] in model_card(load_config(), metrics(dendrites=record))


def test_a_record_from_before_the_setting_was_trained_at_the_rate_of_the_model():
    (_, warning) = share_lines(grown(output_shares={"a": [0.0099]}))
    assert "learnt at 1 x the model's rate" in warning
    assert "contribute 0.99 % of the output" in warning
    assert "hardly more than reloads and restarts of the optimizer, and no verdict" in warning


@pytest.mark.parametrize(
    "record", [None, grown(), grown(output_shares={}), grown(output_shares={"a": [], "b": []})]
)
def test_without_dendrites_there_is_nothing_to_say(record):
    assert share_lines(record) == []


def test_enough_is_no_warning():
    assert len(share_lines(grown(output_shares={"a": [0.01], "b": [0.5]}))) == 1
