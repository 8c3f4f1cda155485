"""What is written for a spreadsheet is read back as it was."""

import csv
import io

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dao.learner.experiment.results_csv import _cell
from dao.learner.files import csv_text
from dao.learner.spreadsheets import guarded, unguarded
from tasks.formats import FORMATS
from tasks.table import Columns

NASTY = ["+", "-", "'+", "''+", "'", "=1+1", "'=1+1", "-4", "'-4", "+x", "'+x", "@a", "'@a",
         "'tis", "\t=1", "\r=1", "=", "@",
         "--", "+-", "-1e5", "", "a,b", 'say "no"', "one\ntwo"]  # fmt: skip
texts = st.text(alphabet="'=+-@\t\r\n,\"a1. ", max_size=6)


def parsed(frame: pd.DataFrame) -> dict[str, list[str]]:
    return FORMATS[".csv"](csv_text(frame).encode(), Columns())


@given(texts)
def test_every_text_survives_and_no_two_are_written_alike(text: str):
    assert unguarded(guarded(text)) == text


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
    assert cell == _cell(text) == guarded(text)


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
