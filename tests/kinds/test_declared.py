"""Tasks as a person declares them: spellings, options, names, YAML."""

from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from dao.errors import UserError
from dao.learner.kinds import KINDS
from dao.learner.kinds.binary import BinarySettings
from dao.learner.kinds.declared import (
    ARMS,
    INPUTS,
    SUFFIXES,
    Undecided,
    check_names,
    declarations,
    task_settings,
    with_columns,
)
from dao.learner.kinds.ordinal import OrdinalSettings
from dao.learner.settings.config import Config, load_config

STARS = {"kind": "ordinal"}


@pytest.mark.parametrize(
    "given_tasks",
    ["topic, stars:ordinal", "topic ,stars : ordinal", ["topic", "stars:ordinal"],
     ("topic", "stars:ordinal"), {"topic": {}, "stars": STARS}, {"topic": None, "stars": STARS}],
)  # fmt: skip
def test_spellings_of_the_same_tasks(given_tasks):
    assert declarations(given_tasks) == {"topic": {}, "stars": STARS}


def test_settings_that_are_checked_already_are_taken():
    settings = BinarySettings(column="mark")
    assert declarations({"t": settings}) == {"t": settings.model_dump()}
    assert task_settings("t", settings.model_dump()) == settings


@pytest.mark.parametrize("given_tasks", [None, 5, True, [1, 2], [], {}, "a,a", ["a", "a"]])
def test_what_names_no_tasks(given_tasks):
    with pytest.raises(ValueError, match="`tasks` should"):
        declarations(given_tasks)


@pytest.mark.parametrize("settings", [5, "ordinal", ["ordinal"], True])
def test_what_are_no_settings(settings):
    with pytest.raises(ValueError, match=r"`tasks\.t` should have settings\. Found"):
        declarations({"t": settings})


def test_columns():
    assert task_settings("stars", STARS).column == "stars"
    assert task_settings("stars", {**STARS, "column": ""}).column == "stars"
    assert task_settings("stars", {**STARS, "column": None}).column == "stars"
    assert task_settings("stars", {**STARS, "column": 2024}).column == "2024"
    assert task_settings("cls", {}).column == "label"
    assert task_settings("cls", {"kind": "binary"}).column == "label"
    assert task_settings("reg", {"column": "price"}).column == "price"


@pytest.mark.parametrize(
    ("tasks", "columns", "cls"),
    [
        ({"cls": {"cut": 3}}, {}, ("score", "label")),
        ({"cls": {"cut": 3}}, {"reg": "price"}, ("price", "label")),
        ({"cls": {"cut": 3}}, {"cls": "mood", "reg": "price"}, ("price", "mood")),
        ({"cls": {"cut": 3, "column": "size"}}, {}, ("size", "label")),
        ({"cls": {"cut": 3}, "reg": {"column": "price"}}, {}, ("price", "label")),
        ({"cls": {"cut": 3, "column": "size"}, "reg": {"column": "price"}}, {}, ("size", "label")),
        ({"cls": {"cut": 3, "column": "size", "label_column": "mood"}}, {}, ("size", "mood")),
    ],
)
def test_where_classes_that_are_cut_come_from(tasks, columns, cls):
    found = with_columns(tasks, columns)["cls"]
    assert (found["column"], found["label_column"]) == cls
    assert with_columns({"cls": found}, {})["cls"] == found  # said twice, it stays


@pytest.mark.parametrize("word", ["null", "~", ""])
def test_no_cut_is_none_however_it_is_typed(tmp_path, word):
    file = tmp_path / "tasks.yaml"
    file.write_text(f"tasks:\n  cls: {{cut: {word}}}\n  reg: {{column: price}}\n")
    for cfg in (
        load_config(file),
        load_config(overrides=[f"cls.cut={word}", "reg.column=price"]),
        load_config(overrides=[f"cls.cut={word}", "data.reg=price"]),
    ):
        assert cfg.columns == {"cls": "label", "reg": "price"}
        assert cfg.tasks["cls"].label_column == ""


def test_a_kind_that_is_not_given_is_undecided_with_its_options():
    found = task_settings("stars", {"levels": [1, 2], "column": "rating"})
    assert isinstance(found, Undecided)
    assert found.model_dump()["levels"] == [1, 2]
    assert load_config(flags={"tasks": "stars,reg"}).undecided == ["stars"]


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({"kind": "ordnial"}, r"`tasks\.t\.kind` should be one of binary, .*\. Found 'ordnial'$"),
        ({"kind": ["binary"]}, r"`tasks\.t\.kind` should be one of .*\. Found \['binary'\]$"),
        ({"kind": True}, r"`tasks\.t\.kind` should be one of .*\. Found True$"),
        ({**STARS, "leveles": [1, 2]},
         r"`t\.leveles` is no setting of the kind ordinal, which has column, show, loss_factor"),
        ({**STARS, "class_weights": "balanced"}, r"`t\.class_weights` is no setting of the kind"),
        ({**STARS, "select_by": "r2"}, r"`t\.select_by` should be qwk or accuracy\. Found 'r2'$"),
        ({**STARS, "show": ["f1"]}, r"`t\.show` should name figures of the kind ordinal: qwk, "),
        ({"kind": "regression", "scale": "big"}, r"`t\.scale` should be a number\. Found 'big'$"),
        ({"kind": "regression", "density": -1}, r"`t\.density` should be at least 0\. Found -1$"),
        ({"kind": "regression", "loss": "mape"}, r"`t\.loss` should be mse, mae or huber\."),
        ({"kind": "binary", "x": 1, "y": 2}, r"`t\.x` is no setting .*; `t\.y` is no setting"),
        ({"kind": "binary", "positive": "a\0"}, r"`t\.positive`: text should have no NUL"),
    ],
)  # fmt: skip
def test_wrong_settings_of_a_kind_are_one_line(given_settings, message):
    with pytest.raises(ValueError, match=message) as caught:
        task_settings("t", given_settings)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError) as told:  # and reach a person as they are
        load_config(flags={"tasks": {"t": given_settings}})
    assert str(told.value) == f"{caught.value}."


@pytest.mark.parametrize("value", [float("inf"), [float("nan")], date(2020, 1, 1), "\ud800"])
def test_options_that_no_file_can_hold(value):
    with pytest.raises(ValueError, match=r"`t\.levels` should be text, a finite number, or a list"):
        task_settings("t", {"levels": value})


@pytest.mark.parametrize(
    ("names", "message"),
    [
        *((name, "a setting") for name in ("seed", "encoder", "sources", "id", "split")),
        *((name, "an arm of the experiment") for name in ARMS if name not in Config.model_fields),
        *((name, "an input of the model") for name in INPUTS),
        *((name, "a method that torch has") for name in ("keys", "items", "type", "to", "half")),
        ("clean_label", "a column with the truth behind another"),
    ],
)
def test_names_that_something_else_has(names, message):
    with pytest.raises(UserError, match=f"should not take the name of {message}") as caught:
        load_config(flags={"tasks": f"reg,{names}"})
    assert f"Found '{names}'. Choose another name and give its column" in str(caught.value)


def test_the_text_is_no_task():
    with pytest.raises(UserError, match=r"Found 'text', the column of the text itself\."):
        load_config(flags={"tasks": "reg,text"})


@pytest.mark.parametrize("name", ["id", "split", *INPUTS, "keys", "training", "forward"])
def test_names_are_refused_whoever_asks(name):
    with pytest.raises(ValueError, match="should not take the name of"):
        check_names([name], [])


@pytest.mark.parametrize("name", ["", "1a", "a b", "a.b", "a/b", "_a", "-a", "a\n", "x" * 61, "a:"])
def test_names_that_are_none(name):
    with pytest.raises(ValueError, match="names of at most 60 letters, digits, _ and -") as caught:
        check_names([name], [])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "other", ["a_p_up", "a_p_", "a_p", "a_p_p_up", *(f"a{suffix}" for suffix in SUFFIXES)]
)
def test_names_whose_columns_of_predictions_meet(other):
    for names in (["a", other], [other, "a"]):
        with pytest.raises(ValueError, match=f"Found a and .*{other}.* Rename one of them"):
            check_names(names, [])


def test_names_that_are_good():
    check_names(
        ["no", "Größe", "topic-2", "a", "a_price", "a_low", "a_set", "ap", "A", "label", "score"],
        [],
    )


def test_options_may_stand_beside_the_tasks_or_below_them():
    below = load_config(flags={"tasks": {"stars": {**STARS, "levels": ["a", "b"]}}})
    beside = load_config(overrides=["stars.levels=[a, b]"], flags={"tasks": "stars:ordinal"})
    assert beside == below
    column = load_config(overrides=["data.stars=rating"], flags={"tasks": "stars:ordinal"})
    assert column.tasks["stars"] == OrdinalSettings(column="rating")
    assert column.columns == {"stars": "rating"}


@pytest.mark.parametrize("word", ["yes", "NO", "010", "1e3", "null", "2020-01-01"])
def test_words_stay_as_they_were_typed(word):
    overrides = [f"mark.positive={word}", f"stars.levels=[{word}, other]"]
    tasks = load_config(overrides=overrides, flags={"tasks": "mark:binary,stars:ordinal"}).tasks
    assert tasks["mark"].positive == word
    assert tasks["stars"].levels == (word, "other")
    undecided = load_config(overrides=[f"mark.levels=[{word}, other]"], flags={"tasks": "mark"})
    assert undecided.tasks["mark"].model_dump()["levels"] == [word, "other"]


def test_the_command_line_chooses_among_the_tasks_of_a_file(tmp_path):
    file = tmp_path / "tasks.yaml"
    file.write_text(
        "tasks:\n  stars: {kind: ordinal, column: rating}\n  tags: {kind: multilabel}\n"
    )
    assert list(load_config(file).tasks) == ["stars", "tags"]
    chosen = load_config(file, flags={"tasks": "stars,urgent:binary"}).tasks
    assert chosen["stars"] == OrdinalSettings(column="rating")
    assert list(chosen) == ["stars", "urgent"]


def test_options_of_a_task_that_is_not_there_are_no_settings():
    with pytest.raises(UserError, match="`star` is not a setting"):
        load_config(overrides=["star.levels=[a, b]"], flags={"tasks": "stars:ordinal"})


WORDS = st.text(max_size=8) | st.sampled_from(
    ["no", "yes", "on", "null", "~", "010", "1e3", "0x1F", "2020-01-01", "1_000", "- a", ": b",
     "#c", "'", '"', "{}", "[a]", "!!str", "&x", "*x", "%", "@", "\u2028", "\ufeff", " a ", "\\n"]
)  # fmt: skip
NAMES = st.from_regex(r"[^\W\d_][\w-]{0,12}", fullmatch=True) | st.sampled_from(
    ["no", "yes", "null", "y", "on", "off", "e1", "inf", "nan"]
)


def loaded(tasks):
    """The settings, or the one line that says what is wrong with them."""
    try:
        return load_config(flags={"tasks": tasks})
    except UserError as error:
        return str(error)


def written_and_read(cfg):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(cfg.to_yaml(), encoding="utf-8")
        return load_config(path)


@pytest.mark.slow
@settings(max_examples=30)  # each writes and reads a file
@given(NAMES, WORDS, st.lists(WORDS, min_size=2, max_size=4, unique=True), WORDS)
@example("a", "\x85", ["\u2028", "a\x85b"], "b\x85c")
@example("no", "010", ["no", "yes"], "~")
@example("nan", "null", ["1.0", "2.0", "01"], "1_000")
def test_settings_survive_yaml(name, column, levels, word):
    tasks = {
        name: {"kind": "ordinal", "column": column, "levels": levels},
        f"b{name}": {"kind": "binary", "positive": word},
        f"m{name}": {"kind": "multilabel", "separator": word},
        f"u{name}": {"column": column, "option": word, "list": levels},
    }
    cfg = loaded(tasks)
    assume(not isinstance(cfg, str))  # such as a blank level
    again = written_and_read(cfg)
    assert again == cfg
    assert {n: type(s) for n, s in again.tasks.items()} == {
        n: type(s) for n, s in cfg.tasks.items()
    }
    assert again.to_yaml() == cfg.to_yaml()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
KEYS = st.sampled_from(
    sorted({key for kind in KINDS.values() for key in kind.options.model_fields} | {"x"})
)


@pytest.mark.slow
@given(
    JSON
    | st.dictionaries(st.sampled_from(["cls", "reg", "stars", "a_p_x"]) | st.text(max_size=5),
                      JSON | st.dictionaries(KEYS, JSON | st.sampled_from([*KINDS]), max_size=4),
                      max_size=3)
)  # fmt: skip
def test_no_declaration_ends_in_a_traceback(tasks):
    cfg = loaded(tasks)
    if isinstance(cfg, str):
        assert "\n" not in cfg
        return
    assert written_and_read(cfg) == cfg
