"""What is wrong with a task gets one clear line, exit code 1, and no run folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner, Result

from tests.cli.conftest import FIVE, KINDS, NAMED, TEXTS, Train, in_cells, kinds_rows

Row = dict[str, Any]
COLUMNS = f"Found: id, {', '.join(TEXTS)}, {', '.join(KINDS)}, split."


class Case(NamedTuple):
    tasks: str
    said: str
    more: tuple[str, ...] = ()
    changed: Callable[[Row], Row] = lambda row: row


def all_alike(**cells: object) -> Callable[[Row], Row]:
    return lambda row: row | cells


def only(name: str, *ids: str) -> Callable[[Row], Row]:
    return lambda row: row if row["id"] in ids else row | {name: None}


def a_new_tag_in_test(row: Row) -> Row:
    new = [*(row["tags"] or ()), "new"]
    return row | {"tags": new} if row["id"] in ("row130", "row140") else row


def no_middle_level_in_train(row: Row) -> Row:
    gone = row["split"] == "train" and row["stars"] == 2
    return row | {"stars": None} if gone else row


CASES = {
    "a kind that does not exist": Case(
        "stars:ordinale",
        "`tasks.stars.kind` should be one of binary, classification, multilabel, ordinal, "
        "regression. Found 'ordinale'.",
    ),
    "words as an ordinal": Case(
        "area:ordinal",
        "`area` should hold numbers for the ordinal task area, or the order of its levels should "
        "be given. Found costs, loss, profit, sales. Give the order with "
        "area.levels=[LOWEST,...,HIGHEST].",
    ),
    "words as numbers": Case(
        "area:regression",
        "`area` of FILE should be a finite number, or empty where it is missing. Found 'costs' in "
        "row 1. Correct it, or name another column with data.area=COLUMN.",
    ),
    "four classes as two": Case(
        "area:binary",
        "`area` should have two classes in the train split for the binary task area. Found 4: "
        "costs, loss, profit, sales. Correct the column, or give another kind with --tasks "
        "area:classification.",
    ),
    "an option of another kind": Case(
        "stars:ordinal",
        "`stars.positive` is no setting of the kind ordinal, which has column, show, loss_factor, "
        "levels, select_by.",
        ("stars.positive=1",),
    ),
    "no such column": Case(
        "topic,area",
        f"`topic` should be a column of FILE. {COLUMNS} Add it, or name another column with "
        "data.topic=COLUMN.",
    ),
    "no such column of another name": Case(
        "stars,area",
        f"`rating` should be a column of FILE. {COLUMNS} Add it, or name another column with "
        "data.stars=COLUMN.",
        ("stars.column=rating",),
    ),
    "no text column": Case(
        "area",
        f"`headline` should be a column of FILE. {COLUMNS} Add it, or name another column with "
        "data.text=COLUMN.",
        ("data.text=headline",),
    ),
    "a label that training never shows": Case(
        "tags",
        "`tags` should have every label in the train split. Found 'new' only in the test split (2 "
        "rows). Add training rows of it, or remove it.",
        changed=a_new_tag_in_test,
    ),
    "a level that training never shows": Case(
        "stars:ordinal",
        "`stars` should have every level in the train split. Found '2' only in the validation "
        "split (9 rows). Add training rows of it, or remove it.",
        changed=no_middle_level_in_train,
    ),
    "a level that was named and training never shows": Case(
        "stars:ordinal",
        "`stars` should have training rows of every level of stars. Found none of 2. Add some, or "
        "leave the level out of stars.levels.",
        ("stars.levels=[1,2,3]",),
        no_middle_level_in_train,
    ),
    "a level beside those that were named": Case(
        "stars:ordinal",
        "`stars` should be one of the levels 1, 2. Found '3' in the train split (31 rows). Correct "
        "these rows, or name the level in stars.levels.",
        ("stars.levels=[1,2]",),
    ),
    "a name twice": Case(
        "area,area",
        "`tasks` should name each task once, for example cls,reg. Found ['area', 'area'].",
    ),
    "a name of a setting": Case(
        "train",
        "`tasks` should not take the name of a setting. Found 'train'. Choose another name and "
        "give its column with NAME.column=train.",
    ),
    "the text": Case(
        "area,text",
        "`tasks` should name what is learned from the text. Found 'text', the column of the text "
        "itself. Leave it out. Where the text is in another column, name that with "
        "data.text=COLUMN, and call this task otherwise.",
    ),
    "the text under another name": Case(
        "stars",
        "`stars.column` should not be a column of the text. Found 'body', which the model reads. "
        "Leave stars out of `tasks`, or name another column of the text with data.text=COLUMN.",
        ("data.text=body", "stars.column=body"),
    ),
    "a weight of 0": Case(
        "area,stars",
        "`train.select_weights.stars` should be above 0. Found 0. Give a weight such as 0.1, or "
        "leave the setting out, which counts stars with a weight of 1.",
        ("train.select_weights.stars=0",),
    ),
    "a weight of no task": Case(
        "area,stars",
        "`train.select_weights` names ['foo'], which is not among `tasks`. These are area, stars. "
        "Name one of them.",
        ("train.select_weights.foo=2",),
    ),
    "names with one column of predictions": Case(
        "area,area_p_loss",
        "`tasks` should have names whose columns of predictions differ. Found area and "
        "area_p_loss. Rename one of them.",
    ),
    "a column of one value": Case(
        "area",
        "`area` should hold at least two values in the train split for the task area. Found 'same' "
        "in 100 rows. Name another column with area.column=COLUMN, or leave the task out.",
        changed=all_alike(area="same"),
    ),
    "a classification of one class": Case(
        "area:classification",
        "`area` should have at least two classes in the train split. Found: same. Name the label "
        "column of area with area.column=COLUMN.",
        changed=all_alike(area="same"),
    ),
    "a binary task of one class": Case(
        "urgent:binary",
        "`urgent` should have two classes in the train split for the binary task urgent. Found 1: "
        "no. Correct the column, or name another with urgent.column=COLUMN.",
        changed=all_alike(urgent="no"),
    ),
    "an ordinal of one level": Case(
        "stars:ordinal",
        "`stars` should have at least two levels in the train split. Found: 1. Name the column of "
        "stars with stars.column=COLUMN.",
        changed=all_alike(stars=1),
    ),
    "labels that all texts have": Case(
        "tags:multilabel",
        "`tags` should have labels that some training texts have and others have not. Found up in "
        "100 rows. Name the column of tags with tags.column=COLUMN, or, where cells are text and "
        "no lists, set tags.separator.",
        changed=all_alike(tags=["up"]),
    ),
    "numbers that do not vary": Case(
        "amount:regression",
        "`amount` should vary in the train split. Found 1.5 in all 100 rows. Name another column "
        "with amount.column=COLUMN.",
        changed=all_alike(amount=1.5),
    ),
    "no validation rows and no text to spare": Case(
        "stars:ordinal,area",
        "`stars` should have enough texts to take a validation split from train, which keeps one "
        "text of each class. Found 3 texts with a value, 2 of 2 classes in train. Add rows, or "
        "mark some as validation in the split column, or leave this task out.",
        changed=only("stars", "row1", "row4", "row140"),
    ),
    "no validation rows and no score to spare": Case(
        "amount:regression,area",
        "`amount` should have enough texts to take a validation split from train, which keeps one "
        "score. Found 2 texts with a value, 1 in train. Add rows, or mark some as validation in "
        "the split column, or leave this task out.",
        changed=only("amount", "row1", "row140"),
    ),
    "no target at all": Case(
        "stars:ordinal,area",
        "`stars` should have a value in some row with text. Found only empty cells. Fill some, or "
        "name another column with data.stars=COLUMN.",
        changed=all_alike(stars=None),
    ),
}


def refused(result: Result, said: str) -> None:
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.rstrip("\n").split("\n") == [f"error: {said}"]


@pytest.mark.parametrize("name", CASES)
def test_one_line_says_it_and_no_folder_is_left(train: Train, tmp_path: Path, name: str):
    case = CASES[name]
    file = in_cells([case.changed(row) for row in kinds_rows()], tmp_path / "data.csv")
    result = train(tmp_path / "run", "--tasks", case.tasks, *NAMED, *case.more, data=file)
    refused(result, case.said.replace("FILE", str(file)))
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


@pytest.fixture(scope="module")
def run(train: Train, kinds_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("errors") / "run"
    short = ("train.epochs=1", "train.validations_per_epoch=1")
    assert train(folder, *FIVE, *NAMED, *short, data=kinds_csv).exit_code == 0
    return folder


NEW = {
    "urgent": ("perhaps", "`urgent` should be one of no, yes. Found 'perhaps' in row 2."),
    "area": (
        "staff",
        "`area` should be one of costs, loss, profit, sales. Found 'staff' in row 2.",
    ),
    "tags": (
        ["staff"],
        "`tags` should be one of fell, narrowed, rose, sharp, widened. Found 'staff' in row "
        "2. Correct it, or train with that label.",
    ),
    "stars": (
        4,
        "`stars` should be one of 1, 2, 3. Found '4' in row 2. Correct it, or train "
        "with that level.",
    ),
    "amount": ("much", "`amount` of FILE should be a finite number, or empty where it is missing."),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NEW)
def test_new_data_with_a_target_that_training_never_showed(run: Path, tmp_path: Path, name: str):
    from evaluate import app

    cell, said = NEW[name]
    rows = [row | ({name: cell} if place == 1 else {}) for place, row in enumerate(kinds_rows(9))]
    file = in_cells(rows, tmp_path / "new.csv")
    arguments = [str(run), "--data", str(file)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {said.replace('FILE', str(file))}")
