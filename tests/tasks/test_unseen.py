import datetime
import json
import math

import pandas as pd
import pytest

from dao.errors import UserError
from dao.learner.data import unseen
from dao.learner.data.load import load
from dao.learner.data.reading.standard import parse_prose
from dao.learner.data.reading.table import Columns
from dao.learner.data.registered import read_source
from dao.learner.data.texts import read_texts
from dao.learner.data.unseen import load_unseen, overlap
from dao.learner.kinds.classification import Classification
from dao.learner.kinds.declared import task_settings
from dao.learner.kinds.regression import Regression

CLS = {"cls": Classification("cls", "label", ["down", "up"])}
BOTH = {**CLS, "reg": Regression("reg", "score")}
ROWS = "text,label,score\na,up,0.5\nb,down,\n"


def test_every_row_is_for_test(csv):
    table = load_unseen([csv(ROWS)], Columns(), tasks=BOTH)
    assert list(table.report["labelled"]) == ["cls", "reg"]
    assert table.report["rows"] == {"train": 0, "validation": 0, "test": 2}
    assert table.report["labelled"]["reg"]["test"] == 1


@pytest.mark.parametrize("name", ["split", "domain", "id"])
def test_columns_that_training_had_may_be_absent(csv, name):
    table = load_unseen([csv(ROWS)], Columns(**{name: "source"}), tasks=BOTH)
    assert table.report["rows"]["test"] == 2


@pytest.mark.parametrize("name", ["split", "fold"])
def test_words_of_the_split_column_do_not_count(csv, name):
    path = csv(f"text,label,{name}\na,up,holdout\nb,down,\nc,up,train\n")
    table = load_unseen([path], Columns(split=name), tasks=CLS)
    assert table.frame["split"].tolist() == ["test"] * 3
    assert name == "split" or name not in table.frame


@pytest.mark.parametrize("content", [ROWS.replace("0.5", ""), "text,label\na,up\nb,down\n"])
def test_a_task_without_any_target_takes_no_part(csv, content):
    table = load_unseen([csv(content)], Columns(), tasks=BOTH)
    assert "reg" not in table.frame
    assert list(table.report["labelled"]) == ["cls"]


def test_no_target_at_all(csv):
    message = r"`label` or `score` should have a value .*empty cells\. .*rename another column"
    with pytest.raises(UserError, match=message) as caught:
        load_unseen([csv("text,label,score\na,,\nb,,\n")], Columns(), tasks=BOTH)
    assert "data." not in str(caught.value).replace("data.csv", "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("body,label\na,up\n", "`text` should be a column of .* Found: body, label"),
        ("text,mood\na,up\n", "`label` or `score` should be a column of .* Found: text, mood"),
        ("text,score\na,high\n", "`score` of .* should be a finite number.* 'high' in row 1"),
    ],
)
def test_errors_advise_what_can_be_done(csv, content, message):
    with pytest.raises(UserError, match=f"{message}.*, or rename another column to it") as caught:
        load_unseen([csv(content)], Columns(), tasks=BOTH)
    assert "=COLUMN" not in str(caught.value)


def test_each_source_is_read_once(csv, monkeypatch):
    seen = []

    def noted(source, columns):
        seen.append(source)
        return read_source(source, columns)

    monkeypatch.setattr(unseen, "read_source", noted)
    paths = [csv(ROWS, "one.csv"), csv("text,score\nc,1\n", "two.csv")]
    assert load_unseen(paths, Columns(), tasks=BOTH).report["rows"]["test"] == 3
    assert seen == paths


def test_overlap_counts_known_texts(csv):
    one = load_unseen([csv(ROWS)], Columns(), tasks=CLS)
    two = load_unseen([csv("text,label\nA!,up\nz,up\n", "b.csv")], Columns(), tasks=CLS)
    one.frame["split"] = "train"
    assert overlap(one, two) == 1


def test_texts_in_order(csv):
    (part,) = read_texts(csv("body\n b \nnan\n"), Columns(text="body")).parts()
    assert part[1] == ["b", "nan"]


@pytest.mark.parametrize("cell", [math.nan, None, " "])
def test_a_missing_text_is_named(csv, cell):
    path = csv(json.dumps([{"text": "a"}, {"text": cell}]), "a.json")
    with pytest.raises(UserError, match=r"`text` of .* a text in every row\. Found none in row 2"):
        read_texts(path, Columns())


def test_no_column_of_texts(csv):
    with pytest.raises(UserError, match=r"`body` should be a column of .* Found: text, label"):
        read_texts(csv("text,label\na,up\n"), Columns(text="body"))


DAY = datetime.date(2024, 5, 1)
NO_TEXTS = [5, 1.5, True, DAY, [1, 2], ["a"], {"a": 1}, b"a"]


def parquet(folder, cells):
    path = folder / "data.parquet"
    pd.DataFrame({"text": cells, "label": ["up"] * len(cells)}).to_parquet(path)
    return str(path)


@pytest.mark.parametrize("cell", NO_TEXTS, ids=repr)
def test_what_is_no_text_is_refused_in_one_line(tmp_path, cell):
    path = parquet(tmp_path, [None, cell])
    with pytest.raises(UserError, match=r"`text` of .* should be text, or empty .* in row 2\. "):
        load([path], Columns(), tasks={"cls": task_settings("cls", {})})
    with pytest.raises(UserError, match=r"`text` of .* should have a text in every row"):
        read_texts(path, Columns())
    with pytest.raises(UserError, match=r"`text` of .* should be text\. Found .* in row 1\. "):
        read_texts(parquet(tmp_path, [cell]), Columns())


@pytest.mark.parametrize("cell", [5, 1.5, True, [1], {"a": 1}])
def test_json_without_text_is_refused(csv, cell):
    path = csv(json.dumps([{"text": "a", "label": "up"}, {"text": cell, "label": "up"}]), "a.json")
    with pytest.raises(UserError, match=r"`text` of .* should be text, or empty .* in row 2\. "):
        load([path], Columns(), tasks={"cls": task_settings("cls", {})})


@pytest.mark.parametrize("cell", [None, math.nan, pd.NaT, " "])
def test_an_empty_text_is_missing(cell):
    assert parse_prose(cell) is None
