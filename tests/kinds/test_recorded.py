"""What finished runs say of their tasks, also those from before tasks had kinds."""

import json

import pytest

from dao.errors import UserError
from dao.learner.kinds.binary import Binary
from dao.learner.kinds.classification import Classification
from dao.learner.kinds.multilabel import Multilabel
from dao.learner.kinds.ordinal import Ordinal
from dao.learner.kinds.parts.figures import Figure, bounded, weighted_mean
from dao.learner.kinds.recorded import (
    described,
    headlines,
    recorded_tasks,
    restored_tasks,
    selection,
)
from dao.learner.kinds.regression import Regression
from dao.learner.scoring.scoring import selection_score

TASKS = {
    "urgent": Binary("urgent", "mark", ["no", "yes"]),
    "stars": Ordinal("stars", "rating", ["1", "2", "3"], show=["mae_levels"]),
    "tags": Multilabel("tags", "tags", ["a", "b"], select_by="subset_accuracy"),
    "price": Regression("price", "eur"),
}
METRICS = json.loads(json.dumps(described(TASKS)))


def test_records_of_a_run():
    found = recorded_tasks(METRICS, {})
    assert list(found) == list(TASKS)
    assert found["urgent"].positive == "yes"
    assert (found["stars"].kind, found["stars"].column) == ("ordinal", "rating")
    assert [figure.key for figure in found["stars"].figures] == ["mae_levels"]
    assert found["tags"].selects_by == "subset_accuracy"
    assert (found["price"].row_better, found["price"].view) == ("lower", "scatter")


def test_headlines_have_the_arrow_of_the_better_direction():
    assert headlines(METRICS) == {name: task.headline for name, task in TASKS.items()}
    assert headlines(METRICS)["stars"] == [("mae_levels", "↓")]
    assert headlines(METRICS)["price"] == [("r2", "↑"), ("mse", "↓")]


EARLY = {"headline": {"cls": [["accuracy", "↑"], ["macro_f1", "↑"]], "reg": [["r2", "↑"],
                      ["mse", "↓"]]}}  # fmt: skip


@pytest.mark.parametrize(
    ("select_by", "main"),
    [("accuracy", "accuracy"), ("macro_f1", "accuracy"), ("rare_f1", "rare_f1")],
)
def test_a_run_of_before_tasks_had_kinds(asked, select_by, main):
    settings = asked(cls={"select_by": select_by}, reg={})
    found = recorded_tasks(EARLY, settings)
    assert (found["cls"].kind, found["reg"].kind) == ("classification", "regression")
    assert (found["cls"].selects_by, found["reg"].selects_by) == (select_by, "r2")
    assert (found["cls"].main_figure, found["reg"].main_figure) == (main, "mse")
    assert (found["cls"].row_figure, found["reg"].row_figure) == ("accuracy", "mse")
    assert [figure.key for figure in found["cls"].figures] == ["accuracy", "macro_f1"]
    assert found["cls"].positive is None
    assert headlines(EARLY)["reg"] == [("r2", "↑"), ("mse", "↓")]


def test_a_run_of_before_has_the_record_that_it_would_have_now(asked):
    now = {"cls": Classification("cls", "label", ["a", "b"]), "reg": Regression("reg", "score")}
    later = {"tasks": {name: task.described() for name, task in now.items()}}
    assert recorded_tasks(EARLY, asked(cls={}, reg={})) == recorded_tasks(later, {})


def test_the_mean_that_selects():
    tasks = recorded_tasks(METRICS, {})
    figures = {
        "urgent": {"pr_auc": 0.6},
        "stars": {"qwk": -0.2},
        "tags": {},  # no rows: takes no part
        "price": {"r2": -40.0},  # counts as -1
    }
    assert selection(tasks, figures, {}) == pytest.approx((0.6 - 0.2 - 1.0) / 3)
    weights = {"urgent": 3.0, "tags": 9.0, "price": 0.5}
    weighted = (3 * 0.6 - 0.2 - 0.5) / 4.5
    assert selection(tasks, figures, weights) == pytest.approx(weighted)
    assert selection(tasks, {}, {}) is None
    diverged = {**figures, "tags": {"subset_accuracy": None}}
    assert selection(tasks, diverged, {}) is None


@pytest.mark.parametrize("weights", [{}, {"urgent": 3.0, "tags": 9.0, "price": 0.5}])
def test_the_score_that_is_recorded_is_the_one_that_selected(weights):
    figures = {
        "urgent": {"pr_auc": 0.6, "accuracy": 0.5},
        "stars": {"qwk": None, "mae_levels": 0.5},  # undefined: takes no part
        "price": {"r2": -40.0, "mse": 7.0},
    }
    expected = selection(recorded_tasks(METRICS, {}), figures, weights)
    assert selection_score(TASKS, figures, weights) == expected
    with pytest.raises(UserError, match="allow a figure to select by"):
        selection_score(TASKS, {"stars": figures["stars"]}, weights)


def test_a_weighted_mean_is_of_what_is_there():
    assert weighted_mean({"a": 0.5, "b": None, "c": 0.2}, {"c": 3.0}) == (0.5 + 3.0 * 0.2) / 4
    assert weighted_mean({"a": None}, {}) is weighted_mean({}, {}) is None


def test_bounded_is_cut_off_below_alone():
    assert [bounded(value) for value in (None, -1.5, -1.0, 0.0, 1.0)] == [None, -1, -1, 0, 1]


def test_a_task_is_restored_with_the_figures_of_its_record():
    states = json.loads(json.dumps({name: task.to_dict() for name, task in TASKS.items()}))
    again = restored_tasks(states)
    assert {n: t.described() for n, t in again.items()} == {
        n: t.described() for n, t in TASKS.items()
    }


def test_a_figure_survives_json():
    figure = Figure("qwk", "Quadratic kappa", "agreement", "lower", shown=False, tested=False)
    assert Figure.from_dict(json.loads(json.dumps(figure.to_dict()))) == figure
    assert (figure.arrow, Figure("a", "A", "share").arrow) == ("↓", "↑")
