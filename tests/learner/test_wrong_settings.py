"""A wrong value of every type, for every setting: one line, in the words of the settings."""

import re

import pytest

from dao.errors import UserError
from dao.learner.kinds import KINDS
from dao.learner.settings.config import Config, load_config
from dao.learner.settings.reading import _keys

WRONG = ("x y", "1.5", "-1e9", "1e999", "{a: 1}", "[[]]", "true", "[1,2,3,4,5]", "")
PYDANTIC = re.compile(
    r"Input should|valid |unable to|instance of|Field required|Value error|Tuple|Keys should|"
    r"\.(str|int|float|tuple\[\w+|literal\[\w+)[`.\]]|pydantic|\(type="
)
LINE = re.compile(r"`[\w.]+`:? .+[.?]", re.DOTALL)


def said(*settings: str) -> str | None:
    """What is wrong with the settings; None for nothing."""
    try:
        load_config(None, settings)
    except UserError as error:
        return str(error)
    return None


def check(line: str) -> None:
    assert LINE.fullmatch(line), line
    assert "\n" not in line
    assert not PYDANTIC.search(line), line


@pytest.mark.parametrize("section", ["", *Config.model_fields])
def test_a_wrong_value_of_a_setting_is_told_in_the_words_of_the_settings(section: str):
    found = [key for key in _keys(Config) if section == key.rpartition(".")[0].split(".")[0]]
    lines = [line for key in found for wrong in WRONG if (line := said(f"{key}={wrong}"))]
    for line in lines:
        check(line)
    assert lines or not found


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_value_of_an_option_is_told_in_the_words_of_the_settings(kind: str):
    lines = [
        line
        for option in KINDS[kind].options.model_fields
        for wrong in WRONG
        if option != "kind" and (line := said(f"tasks=t:{kind}", f"t.{option}={wrong}"))
    ]
    assert lines
    for line in lines:
        check(line)


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("train.epochs=x", "`train.epochs` should be a whole number. Found 'x'."),
        ("train.epochs=1.5", "`train.epochs` should be a whole number. Found 1.5."),
        ("train.epochs=0", "`train.epochs` should be at least 1. Found 0."),
        ("train.lr=x", "`train.lr` should be a number. Found 'x'."),
        ("train.lr=.nan", "`train.lr` should be a finite number. Found nan."),
        ("train.lr=0", "`train.lr` should be above 0. Found 0."),
        ("train.lr=true", "`train.lr` should be a number, and not yes or no. Found True."),
        ("seed=4294967296", "`seed` should be below 4294967296. Found 4294967296."),
        ("encoder.tune=x", "`encoder.tune` should be lora or full. Found 'x'."),
        ("dao.rules=x", "`dao.rules` should be 1, 2 or 3. Found 'x'."),
        ("train.packing=5", "`train.packing` should be true or false. Found 5."),
        ("train=5", "`train` should hold KEY: VALUE pairs. Found 5."),
        ("dao.priors.cls=x", "`dao.priors.cls` should be a number. Found 'x'."),
        ("data.where={x: [[1]]}", "`data.where` should hold a value, or a list of values, for each "
         "column. Found {'x': [[1]]}."),
        ("data.fractions=x", "`data.fractions` should be three shares with a sum of 1. Found "
         "'x'."),
        ("train.epoch=3", "`train.epoch` is not a setting. Did you mean `train.epochs`?"),
    ],
)  # fmt: skip
def test_lines_by_hand(setting: str, line: str):
    assert said(setting) == line
