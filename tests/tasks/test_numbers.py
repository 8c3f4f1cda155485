"""Numbers that are written with decimal commas or percent signs."""

import pytest

from dao.errors import UserError
from dao.learner.data.load import Columns, load, notes
from dao.learner.data.unseen import load_unseen
from dao.learner.kinds.declared import task_settings
from dao.learner.kinds.regression import Regression


def table(cells, header="text\tscore"):
    return "\n".join([header, *(f"text {i}\t{cell}" for i, cell in enumerate(cells))]) + "\n"


def read(csv, cells, kind="regression", **options):
    tasks = {"reg": task_settings("reg", {"kind": kind} if kind else {"column": "score"})}
    if kind is None:
        tasks = {"price": task_settings("price", {"column": "score"})}
    columns = Columns(targets=dict.fromkeys(tasks, "score"), **options)
    return load([csv(table(cells), "a.tsv")], columns, tasks=tasks)


HALVES = [f"{i},{i % 10}" for i in range(40)]
SHARES = [f"{i} %" for i in range(0, 80, 2)]


@pytest.mark.parametrize("kind", ["regression", None])
def test_decimal_commas_are_read_and_said(csv, kind):
    found = read(csv, [*HALVES, "7", "", "N/A", "-2,75"], kind)
    (name,) = found.tasks
    assert found.tasks[name].kind == "regression"
    values = {v for v in found.frame[name].tolist() if v is not None}
    assert values == {*(i + i % 10 / 10 for i in range(40)), 7.0, -2.75}
    assert f"{name}: decimal commas in 41 rows, read as numbers" in notes(found.report)
    assert found.report["missing"] == {"score": {"N/A": 1}}


@pytest.mark.parametrize("kind", ["regression", None])
def test_a_percentage_is_the_number_before_the_sign(csv, kind):
    found = read(csv, [*SHARES, "3,5%"], kind)
    (name,) = found.tasks
    assert sorted(found.frame[name].tolist())[:3] == [0.0, 2.0, 3.5]
    assert f"{name}: decimal commas in 1 row, percent signs in 41 rows, read as numbers" in notes(
        found.report
    )


@pytest.mark.parametrize(
    "cells",
    [
        [*HALVES, "1.5"],
        [*(f"{i},234" for i in range(1, 40)), "20"],
        [*SHARES, "20"],
        [*HALVES, "1,2,3"],
        [*(f"${i}" for i in range(40))],
        [*SHARES, "%"],
    ],
)
@pytest.mark.parametrize("kind", ["regression", None])
def test_where_cells_disagree_nothing_is_guessed(csv, cells, kind):
    with pytest.raises(UserError, match=r"`score`.*[Nn]umber") as caught:
        read(csv, cells, kind)
    assert "\n" not in str(caught.value)


def test_what_may_be_two_labels_asks_for_the_kind(csv):
    with pytest.raises(UserError, match=r"say that these are numbers with --tasks price:reg"):
        read(csv, ["3,5", "1,2", "7,9", "3"] * 10, None)
    assert max(read(csv, ["3,5", "1,2", "7,9", "3"] * 10).frame["reg"]) == 7.9


def test_percentages_that_would_be_classes_or_levels_stay_as_they_are(csv):
    two = read(csv, ["10%", "20%"] * 20, None)
    assert two.report["targets"]["price"].keys() == {"10%", "20%"}
    with pytest.raises(UserError, match="should hold plain numbers"):
        read(csv, ["1%", "2%", "3%"] * 20, None)
    classes = {"label": task_settings("label", {"kind": "classification", "column": "score"})}
    columns = Columns(targets={"label": "score"})
    kept = load([csv(table(["1%", "2%", "3,5%"] * 20), "a.tsv")], columns, tasks=classes)
    assert set(kept.frame["label"]) == {"1%", "2%", "3,5%"}


def test_a_column_that_is_also_a_class_stays_as_it_is(csv):
    tasks = {
        "reg": task_settings("reg", {"kind": "regression"}),
        "group": task_settings("group", {"kind": "classification", "column": "score"}),
    }
    columns = Columns(targets={"reg": "score", "group": "score"})
    with pytest.raises(UserError, match="finite number"):
        load([csv(table(["1,5", "2,5", "3,5"] * 20), "a.tsv")], columns, tasks=tasks)


def test_new_data_are_read_as_the_training_data(csv):
    task = {"reg": Regression("reg", "score")}

    def unseen(cells, written=None):
        columns = Columns(targets={"reg": "score"})
        new = load_unseen([csv(table(cells), "b.tsv")], columns, tasks=task, written=written)
        return new.frame["reg"].tolist(), new.report.get("written")

    commas, percent = {"reg": {"decimal commas": 9}}, {"reg": {"percent signs": 9}}
    assert unseen(["1,5", "2"]) == ([1.5, 2.0], {"reg": {"decimal commas": 1}})
    assert unseen(["1,234", "2"], commas) == ([1.234, 2.0], {"reg": {"decimal commas": 1}})
    assert unseen(["5 %", "2%"], percent) == ([5.0, 2.0], {"reg": {"percent signs": 2}})
    for cells, written in ((["1,234"], None), (["5%"], None), (["5%"], commas)):
        with pytest.raises(UserError, match="finite number"):
            unseen(cells, written)
