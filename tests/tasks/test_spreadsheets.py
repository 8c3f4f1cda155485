"""What is written for a spreadsheet is read back as it was."""

import csv
import io

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dao.learner.basics.spreadsheets import (
    guarded,
    harmless,
    is_guarded,
    predicted_columns,
    unguarded,
)
from dao.learner.data.reading.formats import FORMATS
from dao.learner.data.reading.table import Columns
from dao.learner.storage.files import csv_text

NASTY = ["+", "-", "'+", "''+", "'", "=1+1", "'=1+1", "-4", "'-4", "+x", "'+x", "@a", "'@a",
         "'tis", "\t=1", "\r=1", "=", "@",
         "--", "+-", "-1e5", "", "a,b", 'say "no"', "one\ntwo"]  # fmt: skip
texts = st.text(alphabet="'=+-@\t\r\n,\"a1. ", max_size=6)


def parsed(frame: pd.DataFrame) -> dict[str, list[str]]:
    return FORMATS[".csv"](csv_text(frame).encode(), Columns())


@given(texts)
def test_every_text_survives_and_no_two_are_written_alike(text: str):
    assert unguarded(guarded(text)) == text


@pytest.mark.slow
@given(st.lists(texts, min_size=1, max_size=8))
@example(NASTY)
def test_a_file_with_predictions_is_read_back_as_it_was(cells: list[str]):
    frame = pd.DataFrame({"text": cells, "cls_target": cells, "cls": cells, "cls_p_+": 0.5})
    found = parsed(frame)
    assert found["text"] == found["cls_target"] == found["cls"] == cells
    assert list(found) == ["text", "cls_target", "cls", "cls_p_+"]


@given(texts)
@example("'+1+1")
def test_a_spreadsheet_is_given_no_formula(text: str):
    cell = guarded(text)
    number = cell.lstrip("+-")[:1] in tuple("0123456789.")
    assert not cell.startswith(tuple("=+-@\t\r")) or cell in ("+", "-") or number


@pytest.mark.parametrize("text", NASTY)
def test_one_rule_for_all_tables(text: str):
    written = csv_text(pd.DataFrame({"text": [text], "n": [1]}))
    _, (cell, _) = csv.reader(io.StringIO(written, newline=""))
    assert cell == harmless(text) == guarded(text)


def test_numbers_and_lone_signs_are_written_as_they_are():
    assert [guarded(x) for x in ("+", "-", "-4", "+.5", "-1e-5")] == [
        "+",
        "-",
        "-4",
        "+.5",
        "-1e-5",
    ]
    assert [guarded(x) for x in ("=", "@", "--", "-4 %")] == ["'=", "'@", "'--", "'-4 %"]


def test_earlier_versions_wrote_a_lone_sign_with_an_apostrophe():
    assert unguarded("'+") == "+"


def test_files_of_others_are_read_as_they_are():
    frame = pd.DataFrame(
        {"text": ["'@someone said", "'+"], "label": ["'+", "b"], "cls": ["a", "'-"]}
    )
    content = frame.to_csv(index=False).encode()
    assert FORMATS[".csv"](content, Columns()) == frame.to_dict("list")


OURS = [
    ["id", "text", "topic_target", "topic", "topic_p_a", "topic_p_b", "topic_row_score"],
    ["id", "text", "price_target", "price", "price_row_score"],
    ["id", "text", "price_target", "price"],  # of a run before there were row scores
    ["text", "cls_target", "cls", "cls_p_+"],
    ["headline", "region", "topic", "topic_p_a", "topic_p_b"],  # evaluate.py --input
    ["topic", "topic_2", "topic_p_a", "topic_p_b"],  # of a file that has a topic already
]
OTHERS = [
    ["text", "label", "label_target"],
    ["text", "label_target", "note", "label"],
    ["text", "test", "test_p_value"],
    ["text", "topic_p_a", "topic_p_b"],
    ["text", "", "_target"],
    ["text", "label"],
]


@pytest.mark.parametrize("columns", OURS)
def test_a_table_with_predictions_of_any_task_is_known(columns: list[str]):
    assert is_guarded(columns)
    frame = pd.DataFrame({name: ["+1 a", "-"] for name in columns})
    assert parsed(frame) == frame.to_dict("list")


@pytest.mark.parametrize("columns", OTHERS)
def test_a_table_of_somebody_else_is_no_table_with_predictions(columns: list[str]):
    assert not is_guarded(columns)
    content = pd.DataFrame({name: ["'+1", "b"] for name in columns}).to_csv(index=False).encode()
    assert FORMATS[".csv"](content, Columns())["text"] == ["'+1", "b"]


def test_what_runs_write_is_known_whatever_the_kind():
    import torch

    from dao.learner.kinds import KINDS

    tasks = {
        "binary": KINDS["binary"]("x", "x", ["no", "yes"]),
        "classification": KINDS["classification"]("x", "x", ["a", "b", "c"]),
        "multilabel": KINDS["multilabel"]("x", "x", ["a", "b"]),
        "ordinal": KINDS["ordinal"]("x", "x", ["1", "2", "3"]),
        "regression": KINDS["regression"]("x", "x", 0.0, 1.0),
    }
    assert set(tasks) == set(KINDS)
    for kind, task in tasks.items():
        made = list(task.predict(torch.zeros(1, task.outputs)))
        assert is_guarded(["id", "text", "x_target", *made, "x_row_score"]), kind
        assert predicted_columns([*made, "x_target", "x_row_score", "x_2", "region"], ["x"]) == {
            *made, "x_target", "x_row_score", "x_2",
        }  # fmt: skip
