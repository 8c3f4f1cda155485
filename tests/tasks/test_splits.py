import math
import re
from itertools import permutations

import pandas as pd
import pytest

from dao.errors import UserError
from dao.learner.data.reading.standard import parse_split
from dao.learner.data.splits import group_key, make_splits
from dao.learner.kinds import Task
from dao.learner.kinds.classification import Classification
from dao.learner.kinds.parts.text import _key_parts, former_key
from dao.learner.kinds.regression import Regression

CLS: dict[str, type[Task]] = {"cls": Classification}
BOTH = {**CLS, "reg": Regression}


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
    assert group_key("Nokia\u00ae | ~ `x\u00b4") == group_key("nokia x")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("टीम हारी", "टीम हर"), ("लाभ कम है", "लाभ कमी है"), ("किला", "कला"),
        ("गया 👍", "गया 👎"), ("📈", "📉"), ("up 👍🏻", "up 👍🏿"), ("Rating +1", "Rating -1"),
        ("by \u22125 %", "by 5 %"), ("at -.5", "at .5"), ("rated A+", "rated A"),
        ("€5", "₹5"), ("x < 5", "x > 5"), ("நல்லது", "நல்ல"), ("\u2713 done", "\u2717 done"),
    ],
)  # fmt: skip
def test_texts_that_differ_in_a_sign_are_no_copies(one, other):
    assert group_key(one) != group_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Cafe\u0301 rose", "caf\u00e9 rose"), ("2010-2011", "2010 2011"), ("x-ray", "x ray"),
        ("\u2764\ufe0f good", "\u2764 good"), ("क\u094d\u200dष", "क\u094dष"), ("लाभ।", "लाभ"),
    ],
)  # fmt: skip
def test_spellings_of_one_text_are_copies(one, other):
    assert group_key(one) == group_key(other)


def test_the_order_of_drawing_is_that_of_earlier_versions():
    for text in ("Profit-ROSE, 4 %!", "by -5 % 👍", "लाभ कमी है।", "A+ (€5)"):
        former = re.sub(r"[\W_]+", " ", text.lower()).strip()
        assert former_key(text) == former_key(group_key(text)) == former


@pytest.mark.parametrize("text", ["Profit-ROSE_2, 4 %!", "a  b\t_c", "?!", "x - y", "don't~^`|"])
def test_plain_texts_have_the_same_key_by_the_short_way(text):
    assert group_key(text) == (" ".join(_key_parts().findall(text.lower())) or text)


def test_rows_that_differ_in_signs_alone_all_remain():
    texts = ["मूल्य बढ़ा", "मूल्य बढ़ी", "मूल्य बढ़े", "news 👍", "news 👎", "news", "+1", "-1", "1"]
    frame = pd.DataFrame({"text": texts, "split": ["train", "validation", "test"] * 3})
    frame["cls"] = pd.Series(["a", "b", "a"] * 3, dtype=object)
    kept, report = make_splits(frame, CLS, seed=0)
    assert len(kept) == 9
    assert set(report["duplicates"].values()) == {0}


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


def test_the_order_of_the_tasks_makes_no_difference():
    rows = numbered(47)
    for name, kinds in (("mood", 3), ("area", 4), ("tone", 2)):
        rows[name] = [None if i % 9 == kinds else f"{name[0]}{i * i % kinds}" for i in range(47)]
    names = ["mood", "area", "tone"]
    for splits in (None, ["train"] * 47):
        rows["split"] = splits
        found = []
        for order in permutations(names):
            tasks = dict.fromkeys(order, Classification)
            found.append(make_splits(rows[["text", "split", *order]].copy(), tasks, 0)[0]["split"])
        assert all(one.equals(found[0]) for one in found)


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
    with pytest.raises(
        UserError, match=r"enough texts to take a validation split .* with a value, 1 in train\."
    ):
        make_splits(numbered(2), CLS, 0)


def test_nothing_to_train_on():
    rows = numbered(3)
    rows["split"] = "test"
    with pytest.raises(
        UserError, match=r"enough texts to take a validation .* with a value, 0 in train\."
    ):
        make_splits(rows, CLS, 0)


def shares(rows):
    return tuple(rows["split"].value_counts().get(to, 0) for to in ("train", "validation", "test"))


def classed(sizes):
    labels = [f"class {i}" for i, size in enumerate(sizes) for _ in range(size)]
    return numbered(len(labels), labels)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([4] * 77, (246, 31, 31)),
        ([2] * 100, (160, 20, 20)),
        ([3] * 10 + [40] * 2, (88, 11, 11)),
        ([14] * 150, (1680, 210, 210)),
        ([4] * 5, (16, 2, 2)),
    ],
)
def test_shares_hold_over_all_classes_of_few_texts(sizes, expected):
    rows, _ = make_splits(classed(sizes), CLS, 0)
    assert shares(rows) == expected
    for to, share in (("test", 0.1), ("validation", 0.1)):
        per = (
            rows[rows["split"] == to]["cls"].value_counts().reindex(rows["cls"].unique()).fillna(0)
        )
        whole = rows["cls"].value_counts()
        assert (abs(per - share * whole) <= 1).all()
    assert set(rows[rows["split"] == "train"]["cls"]) == set(rows["cls"])


def test_other_shares_hold_too_and_the_seed_decides():
    rows, _ = make_splits(classed([4] * 77), CLS, 0, (0.5, 0.3, 0.2))
    assert shares(rows) == (154, 92, 62)
    one, two, other = (make_splits(classed([4] * 77), CLS, seed)[0] for seed in (5, 5, 6))
    assert one["split"].tolist() == two["split"].tolist() != other["split"].tolist()


@pytest.mark.parametrize("fractions", [(0.8, 0.1, 0.1), (0.2, 0.2, 0.6), (0.05, 0.05, 0.9)])
@pytest.mark.parametrize("sizes", [[1] * 30 + [20] * 3, [1, 1, 2, 3, 5, 8, 13, 21], [2] * 9 + [30]])
def test_every_class_keeps_a_training_text(sizes, fractions):
    for seed in range(3):
        rows, _ = make_splits(classed(sizes), CLS, seed, fractions)
        assert set(rows[rows["split"] == "train"]["cls"]) == set(rows["cls"])
        assert min(shares(rows)) > 0


def test_a_class_whose_only_text_has_another_label_as_well_stays():
    # The text counts to the stratum of its other label, of which it is one of many.
    for seed in range(10):
        texts = [f"text number {i}" for i in range(40)]
        rows = frame([*texts, texts[0]], [*["a", "b"] * 20, "only"])
        found, _ = make_splits(rows, CLS, seed)
        assert found[found["cls"] == "only"]["split"].tolist() == ["train"]


def test_few_classes_are_split_as_before():
    """By the rule before: each class's share rounded by itself, the first by hash of the text."""
    for seed in range(3):
        rows = numbered(333, ["a", "b", "a", "c", "a", "b", "a"] * 47 + ["c"] * 4)
        new = make_splits(rows.copy(), CLS, seed)[0]["split"].tolist()
        old = make_splits(rows.copy(), CLS, seed, rules=1)[0]["split"].tolist()
        assert new == old
        assert new.count("test") == sum(round(0.1 * n) for n in rows["cls"].value_counts())


def test_old_rules_round_each_class_by_itself():
    rows, _ = make_splits(classed([4] * 77), CLS, 0, rules=1)
    assert shares(rows) == (306, 1, 1)


def test_a_split_that_is_missing_is_taken_over_all_classes():
    rows = classed([4] * 77)
    rows["split"] = ["train", "train", "train", "test"] * 77
    rows, report = make_splits(rows, CLS, 0)
    assert shares(rows) == (208, 23, 77)
    assert "validation for cls: 23 rows moved from train (10 % of its texts)" in report["split"][1]


def test_the_error_names_column_task_and_texts():
    rows = numbered(40, ["a", "b"] * 20)
    rows["reg"] = pd.Series([0.5, 0.7] + [None] * 38, dtype=object)
    message = (
        r"`mark` should have enough texts to take a validation split from train, which keeps one "
        r"score\. Found 2 texts with a value, 1 in train\. .* leave this task out\."
    )
    with pytest.raises(UserError, match=message):
        make_splits(rows, BOTH, 0, names={"cls": "label", "reg": "mark"})


def test_old_rules_find_copies_as_they_did():
    rows = [("Shares +1.5", "train"), ("Shares -1.5", "test"), ("other", "validation")]
    frame = pd.DataFrame(rows, columns=["text", "split"]).assign(cls="a").astype(object)
    assert len(make_splits(frame.copy(), CLS, 0)[0]) == 3
    assert make_splits(frame.copy(), CLS, 0, rules=1)[0]["text"].tolist() == [
        "Shares -1.5", "other",
    ]  # fmt: skip
