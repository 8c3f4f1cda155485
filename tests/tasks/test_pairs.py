"""Tables of pairs: two columns of text in one, whole rows alone, the same splits as any text."""

import re
from pathlib import Path

import pandas as pd
import pytest

from dao.errors import UserError
from dao.learner.basics.pairs import join, split
from dao.learner.data.load import Table, load, notes
from dao.learner.data.reading.table import Columns
from dao.learner.data.texts import read_texts
from dao.learner.data.unseen import load_unseen
from dao.learner.kinds.parts.text import normalised, word_pattern
from dao.learner.settings.config import load_config

ROWS = [
    ("a man sleeps", "he is awake", "no", "train"),
    ("a man sleeps", "he rests", "yes", "train"),
    ("it rains", "the street is wet", "yes", "validation"),
    ("it rains", "the sun shines", "no", "test"),
    ("it rains ", " the street is dry", "no", "train"),
]


def write(folder: Path, rows=ROWS, names=("premise", "hypothesis", "label", "split")) -> str:
    pd.DataFrame(rows, columns=list(names)).to_csv(folder / "pairs.csv", index=False)
    return str(folder / "pairs.csv")


def read(source: str, *further: str) -> Table:
    given = [f"data.sources=[{source}]", "data.text=[premise,hypothesis]", *further]
    cfg = load_config(overrides=["tasks=label:classification", *given])
    columns = Columns.named(cfg.data, cfg.columns)
    return load(cfg.data.sources, columns, tasks=cfg.tasks, split_seed=cfg.data.split_seed)


def test_both_texts_are_one_text_of_the_table(tmp_path: Path):
    table = read(write(tmp_path))
    assert table.frame["text"].tolist() == [join(one.strip(), two.strip()) for one, two, *_ in ROWS]
    assert not {"premise", "hypothesis"} & {*table.frame}
    assert table.report["pairs"] == ["premise", "hypothesis"]
    assert "every row is a pair of texts: premise and hypothesis" in notes(table.report)


def test_a_pair_is_a_copy_only_if_both_texts_are(tmp_path: Path):
    copy = ("A man sleeps!", "he is awake", "no", "test")
    other = ("a man sleeps", "he snores", "no", "test")
    table = read(write(tmp_path, [*ROWS, copy, other]))
    assert table.report["duplicates"]["rows removed from train"] == 1
    assert len(table.rows("train")) == 2
    assert len(table.rows("test")) == 3


def test_plain_models_see_the_words_of_both_texts():
    words = re.findall(word_pattern(), normalised(join("It RAINS", "wet street")))
    assert words == ["it", "rains", "wet", "street"]


def test_rows_without_either_text_are_dropped_and_counted(tmp_path: Path):
    table = read(write(tmp_path, [*ROWS, ("", " ", "no", "train")]))
    assert table.report["dropped"]["without text"] == 1
    assert len(table.frame) == len(ROWS)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            ("it rains", "", "no", "train"),
            "`hypothesis` .*in which `premise` has one.*none in row 6",
        ),
        (
            ("", "it rains", "no", "train"),
            "`premise` .*in which `hypothesis` has one.*none in row 6",
        ),
        (("a", "b\x1fc", "no", "train"), r"`hypothesis` .*without .*U\+001F.*row 6, in 'b.*c'"),
        (("a\x1fb", "c", "no", "train"), r"`premise` .*without .*U\+001F.*row 6"),
    ],
)
def test_half_a_pair_and_its_separator_are_refused(tmp_path: Path, row, said: str):
    source = write(tmp_path, [*ROWS, row])
    with pytest.raises(UserError, match=said) as error:
        read(source)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=said):
        read_texts(source, Columns(text="premise", second="hypothesis"))


def test_a_missing_column_is_named_with_the_setting_for_both(tmp_path: Path):
    source = write(tmp_path, names=("premise", "other", "label", "split"))
    advice = r"`hypothesis` should be a column of .*data\.text=\[COLUMN,COLUMN\]"
    with pytest.raises(UserError, match=advice):
        read(source)
    with pytest.raises(UserError, match=advice):
        read_texts(source, Columns(text="premise", second="hypothesis"))


def test_the_separator_in_a_single_text_is_a_character_like_any_other(tmp_path: Path):
    source = write(tmp_path, [*ROWS, ("a\x1fb", "c", "no", "train")])
    assert read(source, "data.text=[premise]").frame["text"].tolist()[-1] == "a\x1fb"


def test_new_pairs_are_read_as_those_of_training(tmp_path: Path):
    from dao.learner.data.load import fit

    source = write(tmp_path)
    tasks = fit(read(source))
    columns = Columns(text="premise", second="hypothesis", targets={"label": "label"})
    table = load_unseen([source], columns, tasks=tasks)
    assert [split(text) for text in table.frame["text"]][2] == ("it rains", "the street is wet")
    assert table.report["pairs"] == ["premise", "hypothesis"]
    ((rows, texts),) = read_texts(source, columns).parts()
    assert list(rows) == ["premise", "hypothesis", "label", "split"]
    assert texts == table.frame["text"].tolist()
    empty = write(tmp_path, [*ROWS, ("", "", "no", "test")])
    with pytest.raises(UserError, match=r"`premise` and `hypothesis` .*none in row 6"):
        read_texts(empty, columns)
