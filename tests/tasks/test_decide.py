"""Tables whose tasks have no kind yet, and tables of every kind."""

import json

import pytest

from dao.errors import UserError
from dao.learner.data.load import Columns, fit, load, notes
from dao.learner.data.unseen import load_unseen


def rows(header, *columns, splits=()):
    cells = zip(*columns, strict=True)
    lines = [f"text number {i},{','.join(map(str, row))}" for i, row in enumerate(cells)]
    if splits:
        lines = [f"{line},{split}" for line, split in zip(lines, splits, strict=True)]
        header += ",split"
    return "\n".join([f"text,{header}", *lines]) + "\n"


def read(path, tasks, **options):
    targets = {name: settings.column for name, settings in tasks.items()}
    return load([path], Columns(targets=targets), tasks=tasks, **options)


STARS = [1 + i % 4 for i in range(60)]
TAGS = [("cost;delay", "cost", "delay", ";", "")[i % 5] for i in range(60)]
MARKS = ["yes" if i % 3 == 0 else "no" for i in range(60)]
MOODS = [("sad", "glad", "mad")[i % 3] for i in range(60)]
PRICES = [i / 7 for i in range(60)]
FIVE = {"stars": {}, "tags": {}, "urgent": {"column": "mark"}, "mood": {}, "price": {}}


@pytest.fixture
def five(csv):
    return csv(rows("stars,tags,mark,mood,price", STARS, TAGS, MARKS, MOODS, PRICES))


def test_kinds_are_proposed_and_said(five, asked):
    table = read(five, asked(**FIVE))
    kinds = {name: settings.kind for name, settings in table.tasks.items()}
    assert kinds == {
        "stars": "ordinal", "tags": "multilabel", "urgent": "binary", "mood": "classification",
        "price": "regression",
    }  # fmt: skip
    said = notes(table.report)
    assert said[1:4] == [
        "task    column  kind            why",
        "stars   stars   ordinal         consecutive integers 1 to 4",
        "tags    tags    multilabel      2 labels with ';' between them",
    ]
    sets = "stars:ordinal,tags:multilabel,urgent:binary,mood:classification,price:regression"
    assert said[7].endswith(f"--tasks {sets} sets them")
    json.dumps(table.report, allow_nan=False)


def test_what_was_proposed_can_be_given(five, asked):
    proposed = read(five, asked(**FIVE))
    given = read(five, dict(proposed.tasks))
    assert given.frame.equals(proposed.frame)
    assert given.report["fingerprint"] == proposed.report["fingerprint"]
    assert not any("kinds were proposed" in line for line in notes(given.report))
    for name, task in fit(given).items():
        assert task.to_dict() == fit(proposed)[name].to_dict()


def test_cells_of_every_kind_in_a_table(five, asked):
    table = read(five, asked(**FIVE))
    tasks = fit(table)
    assert table.frame["tags"].tolist()[:5] == [("cost", "delay"), ("cost",), ("delay",), (), None]
    assert table.frame["stars"].tolist()[:4] == ["1", "2", "3", "4"]
    assert tasks["tags"].labels == ["cost", "delay"]
    assert tasks["stars"].levels == ["1", "2", "3", "4"]
    assert tasks["urgent"].positive == "yes"
    labelled = table.report["labelled"]["tags"]
    assert sum(labelled.values()) == 48  # a row without a label counts, a missing one does not
    targets = table.report["targets"]["tags"]
    assert set(targets) == {"cost", "delay"}
    train = table.values("tags", "train")
    assert targets["cost"] == sum("cost" in labels for labels in train)
    unseen = load_unseen([five], table.columns, tasks=tasks)
    assert unseen.frame[list(tasks)].equals(table.frame[list(tasks)])


def test_a_proposal_looks_at_the_training_rows_alone(csv, asked):
    splits = (["train"] * 4 + ["validation", "test"]) * 10
    marks = ["c" if s == "test" else "ab"[i % 2] for i, s in enumerate(splits)]
    table = read(csv(rows("mark", marks, splits=splits)), asked(mark={}))
    assert table.tasks["mark"].kind == "binary"
    with pytest.raises(UserError, match=r"every class in .* Found 'c' only in the test split"):
        fit(table)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [(("1", "2", "3", "N/A"), "ordinal"), (("yes", "no", "n/a"), "binary"),
     (("0.5", "1.25", "7", "NaN"), "regression"), (("a;b", "a", "b", "NaN"), "multilabel")],
)  # fmt: skip
def test_words_that_mean_missing_are_no_part_of_a_proposal(csv, asked, cells, kind):
    table = read(csv(rows("t", [cells[i % len(cells)] for i in range(60)])), asked(t={}))
    assert table.tasks["t"].kind == kind
    assert sum(table.report["missing"]["t"].values()) == 60 // len(cells)  # counted once


def test_a_row_without_a_split_has_a_part_in_the_proposal(csv, asked):
    splits = ["train", "train", "train", "N/A", "validation", "test"] * 10
    marks = ["c" if s == "N/A" else "ab"[i % 2] for i, s in enumerate(splits)]
    table = read(csv(rows("mark", marks, splits=splits)), asked(mark={}))
    assert table.tasks["mark"].kind == "classification"


def test_options_that_were_given_go_with_the_proposal(five, asked):
    tasks = asked(stars={"levels": ["4", "3", "2", "1"]}, tags={"separator": ";", "empty": "none"})
    table = read(five, tasks)
    assert table.tasks["stars"].levels == ("4", "3", "2", "1")
    assert fit(table)["stars"].levels == ["4", "3", "2", "1"]
    assert table.tasks["tags"].empty == "none"
    assert sum(table.report["labelled"]["tags"].values()) == 60


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stars": {"scale": 2.0}}, r"`stars\.scale` is no setting of the kind ordinal, .* "
         r"proposed for consecutive integers 1 to 4; say which one it is with --tasks stars:KIND"),
        ({"mood": {"levels": ["sad", "mad"]}}, r"`mood\.levels` is no setting of the kind classif"),
        ({"nothing": {}}, r"`nothing` should be a column of .*\. Found: text, stars, .*data\.noth"),
        ({"text2": {"column": "text"}}, r"60 different values in 60 rows, such as 'text number 0'"),
        ({"mood": {"kind": "binary"}}, r"should have two classes .* Found 3: glad, mad, sad\."),
        ({"mood": {"kind": "ordinal"}}, r"order of its levels .* Found glad, mad, sad\."),
        ({"mood": {"kind": "regression"}}, r"`mood` of .* a finite number.* Found 'sad' in row 1"),
    ],
)  # fmt: skip
def test_what_does_not_suit_is_one_line(five, asked, given, message):
    with pytest.raises(UserError, match=message) as caught:
        fit(read(five, asked(**given)))
    assert "\n" not in str(caught.value)


def test_all_columns_that_cannot_be_tasks_are_named_at_once(csv, asked):
    prices = [f"${i}" for i in range(60)]
    path = csv(rows("price,row,mood", prices, list(range(60)), MOODS))
    with pytest.raises(
        UserError, match=r"^2 tasks cannot .* \(1\) `price` .* \(2\) `row` "
    ) as caught:
        read(path, asked(price={}, row={}, mood={}))
    assert "mood" not in str(caught.value)
    assert "\n" not in str(caught.value)
    path = csv(rows("mood,stars", MOODS, STARS))
    table = read(path, asked(mood={"kind": "ordinal"}, stars={"kind": "binary"}))
    with pytest.raises(
        UserError, match=r"^2 tasks .*`mood` should hold numbers.*Found 4: 1, 2, 3, 4"
    ):
        fit(table)


@pytest.mark.parametrize(
    ("kind", "cells", "message"),
    [
        ("multilabel", ["a;b", "a", "a;c"], r"every label in the train split\. Found 'c' only"),
        ("ordinal", ["1", "2", "3"], r"every level in the train split\. Found '3' only in"),
        ("binary", ["1", "2", "3"], r"every class in the train split\. Found '3' only in"),
        ("classification", ["1", "2", "3"], r"every class in the train split\. Found '3' only in"),
        ("classification", ["1", "1", "1"], r"at least two classes in the train split\. Found: 1"),
        ("ordinal", ["1", "1", "1"], r"at least two levels in the train split\. Found: 1"),
        ("binary", ["1", "1", "1"], r"two classes in the train split .* Found 1: 1\."),
        ("multilabel", ["1", "1", "1"], r"some training texts have and others have not\. Found 1"),
        ("regression", ["1", "1", "1"], r"vary in the train split\. Found 1 in all 2 rows"),
    ],
)  # fmt: skip
def test_targets_that_training_never_shows(csv, asked, kind, cells, message):
    splits = ["train", "train", "validation", "test"]
    path = csv(rows("t", [*cells, cells[0]], splits=splits))
    with pytest.raises(UserError, match=message) as caught:
        fit(read(path, asked(t={"kind": kind})))
    assert "\n" not in str(caught.value)


def test_lists_of_labels_in_json(csv, asked):
    lines = [{"text": f"text {i}", "tags": [["a"], ["b", "a"], [], None][i % 4]} for i in range(40)]
    table = read(csv("\n".join(map(json.dumps, lines)), "a.jsonl"), asked(tags={}))
    assert table.tasks["tags"].kind == "multilabel"
    assert table.frame["tags"].tolist()[:3] == [("a",), ("a", "b"), ()]
    assert len(table.frame) == 30  # a missing list is no target


def test_a_task_alone_has_the_rows_that_it_has_among_the_others(csv, asked):
    prices = [price if i % 4 else "" for i, price in enumerate(PRICES)]
    path = csv(rows("mood,price", [*MOODS[:50], *[""] * 10], prices))
    columns = Columns(targets={"mood": "mood", "price": "price"})
    both = load([path], columns, tasks=asked(mood={}, price={}))
    for name in ("mood", "price"):
        alone = load([path], columns, tasks=asked(**{name: {}}), split_tasks=both.tasks)
        expected = both.frame[both.frame[name].notna()]
        assert alone.frame["text"].tolist() == expected["text"].tolist()
        assert alone.frame["split"].tolist() == expected["split"].tolist()
        assert alone.frame[name].tolist() == expected[name].tolist()
        assert list(alone.tasks) == list(fit(alone)) == [name]
        other = "price" if name == "mood" else "mood"
        assert alone.report["labelled"].keys() == {name}
        assert other not in alone.report["kinds"]
        without = alone.report["dropped"]["without target"]
        assert without == 60 - len(expected)
