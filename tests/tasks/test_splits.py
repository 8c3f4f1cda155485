import math

import pandas as pd
import pytest

from dao.errors import UserError
from dao.learner.kinds import Task
from tasks.splits import group_key, make_splits
from tasks.standard import parse_split

CLS = {"cls": Task.stratum}
BOTH = {**CLS, "reg": Task.stratum}


def frame(texts, labels=None, splits=None):
    none = [None] * len(texts)
    columns = {"text": texts, "cls": labels or ["a"] * len(texts), "split": splits or none}
    return pd.DataFrame({name: pd.Series(v, dtype=object) for name, v in columns.items()})


def numbered(count, labels=None):
    return frame([f"text number {i}" for i in range(count)], labels)


@pytest.mark.parametrize(
    ("words", "split"),
    [
        (["train", "training", " Train "], "train"),
        (["validation", "valid", "val", "dev", "eval"], "validation"),
        (["test", "testing", "TEST"], "test"),
    ],
)
def test_split_words(words, split):
    assert {parse_split(word) for word in words} == {split}


@pytest.mark.parametrize("cell", ["", " ", None, math.nan])
def test_an_empty_split_is_undecided(cell):
    assert parse_split(cell) is None


@pytest.mark.parametrize("word", ["holdout", 1, ["train"]])
def test_other_split_words(word):
    with pytest.raises(ValueError, match="train, validation or test"):
        parse_split(word)


def test_group_key_ignores_case_space_and_marks():
    assert group_key("  Profit-ROSE, 4 %!") == group_key("profit rose 4")
    assert group_key("profit rose 4") != group_key("profit rose 5")
    assert group_key("Größe") == "größe"
    assert group_key("利润。上升") == "利润 上升"
    assert group_key("!!!") == "!!!"


def test_shares_are_80_10_10_in_every_class():
    rows, report = make_splits(numbered(400, ["a", "a", "a", "b"] * 100), CLS, 0)
    counts = rows.groupby("cls")["split"].value_counts()
    assert counts["a"].to_dict() == {"train": 240, "test": 30, "validation": 30}
    assert counts["b"].to_dict() == {"train": 80, "test": 10, "validation": 10}
    assert report["split"] == [
        "400 rows without a split: 320 to train, 40 to validation, 40 to test "
        "(80/10/10 by text, seed 0)"
    ]


def test_undecided_rows_are_split_among_themselves():
    rows = numbered(160)
    rows["split"] = ["train"] * 20 + ["validation"] * 20 + ["test"] * 20 + [None] * 100
    rows, report = make_splits(rows, CLS, 0)
    assert rows["split"][:60].tolist() == ["train"] * 20 + ["validation"] * 20 + ["test"] * 20
    assert rows["split"][60:].value_counts().to_dict() == {
        "train": 80,
        "validation": 10,
        "test": 10,
    }
    assert report["split"] == [
        "60 rows by their split column",
        "100 rows without a split: 80 to train, 10 to validation, 10 to test "
        "(80/10/10 by text, seed 0)",
    ]


def test_one_undecided_row_goes_to_training():
    rows = numbered(10)
    rows["split"] = ["train"] * 7 + [None, "validation", "test"]
    rows, report = make_splits(rows, CLS, 0)
    assert rows["split"][7] == "train"
    assert report["split"][1].startswith("1 row without a split: 1 to train, 0 to validation, 0")


def test_copies_of_a_text_stay_together():
    texts = [f"Text {i % 50}{'!' * (i // 50)}" for i in range(150)]
    rows, report = make_splits(frame(texts), CLS, 0)
    assert len(rows) == 150
    assert rows["split"].groupby(rows["text"].map(group_key)).nunique().max() == 1
    assert report["duplicates"]["texts in two splits"] == 0


def test_the_seed_decides_and_the_order_of_rows_does_not():
    rows = numbered(100)

    def splits(data, seed):
        return make_splits(data.copy(), CLS, seed)[0].set_index("text")["split"].to_dict()

    assert splits(rows, 0) == splits(rows.iloc[::-1].reset_index(drop=True), 0)
    assert splits(rows, 0) != splits(rows, 1)


def test_missing_splits_are_taken_from_training():
    rows = numbered(100)
    rows["split"] = ["train"] * 90 + ["test"] * 10
    rows, report = make_splits(rows, CLS, 3)
    assert rows["split"].value_counts().to_dict() == {"train": 81, "test": 10, "validation": 9}
    assert report["split"] == [
        "100 rows by their split column",
        "validation for cls: 9 rows moved from train (10 % of its texts), seed 3",
    ]


def test_a_task_without_test_rows_gets_some():
    rows = numbered(60)
    rows["split"] = ["train"] * 20 + ["validation"] * 10 + ["test"] * 10 + ["train"] * 20
    rows["reg"] = pd.Series([None] * 40 + [0.5] * 20, dtype=object)
    rows, report = make_splits(rows, BOTH, 0)
    assert rows[rows["reg"].notna()]["split"].value_counts().to_dict() == {
        "train": 16,
        "test": 2,
        "validation": 2,
    }
    assert report["split"][1:] == [
        "test for reg: 2 rows moved from train (10 % of its texts), seed 0",
        "validation for reg: 2 rows moved from train (11 % of its texts), seed 0",
    ]


def test_copies_of_a_moved_text_are_counted_as_rows():
    rows = frame([f"Text {i % 10}{'!' * (i // 10)}" for i in range(30)] + ["other"])
    rows["split"] = ["train"] * 30 + ["test"]
    rows, report = make_splits(rows, CLS, 0)
    note = "validation for cls: 3 rows moved from train (10 % of its texts), seed 0"
    assert report["split"][-1] == note


def test_duplicates_leave_the_split_that_learns():
    rows = frame(
        ["One", "one!", "two", "TWO", "three", "three.", "four", "five", "Five"],
        splits=["train", "test", "train", "validation", "validation", "test"] + ["train"] * 3,
    )
    rows, report = make_splits(rows, CLS, 0)
    assert rows["text"].tolist() == ["one!", "TWO", "three.", "four", "five", "Five"]
    assert report["duplicates"] == {
        "texts in two splits": 3,
        "rows removed from train": 2,
        "rows removed from validation": 1,
    }


def test_few_rows_still_fill_every_split():
    rows, report = make_splits(numbered(4), CLS, 0)
    assert set(rows["split"]) == {"train", "validation", "test"}
    assert "test for cls: 1 row moved from train (25 % of its texts), seed 0" in report["split"]


def test_too_few_rows():
    with pytest.raises(UserError, match=r"enough texts to take a validation split .* Found 1\."):
        make_splits(numbered(2), CLS, 0)


def test_nothing_to_train_on():
    rows = numbered(3)
    rows["split"] = "test"
    with pytest.raises(UserError, match=r"enough texts to take a validation .* Found 0\."):
        make_splits(rows, CLS, 0)
