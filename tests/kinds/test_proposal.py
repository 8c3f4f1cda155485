"""Which kind a column is taken for, and that its fit takes the cells."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dao.errors import UserError
from dao.learner.kinds import KINDS
from dao.learner.kinds.base import SPLITS
from dao.learner.kinds.declared import task_settings
from dao.learner.kinds.proposal import LEVELS, RULE, propose
from dao.learner.settings.config import load_config


@pytest.mark.parametrize(
    ("cells", "kind", "options", "reason"),
    [
        (["yes", "no", "no"], "binary", {}, "two values, no and yes"),
        ([0, 1, 1.0], "binary", {}, "two values, 0 and 1"),
        ([True, False], "binary", {}, "two values, False and True"),
        ([3.5, -2], "binary", {}, "two values, -2 and 3.5"),
        ([1, 2, 3, 2], "ordinal", {}, "consecutive integers 1 to 3"),
        (["-1", "0", " 1.0 "], "ordinal", {}, "consecutive integers -1 to 1"),
        (list(range(12)), "ordinal", {}, "consecutive integers 0 to 11"),
        ([*range(13), 5], "regression", {}, "13 different numbers from 0 to 12"),
        ([7 * i for i in range(13)], "regression", {}, "13 different numbers from 0 to 84"),
        ([1, 2, 4], "regression", {}, "3 different numbers from 1 to 4"),
        ([1, 2, 2.5], "regression", {}, "3 different numbers from 1 to 2.5"),
        (["1", "1.00000001", "3"], "regression", {}, "3 different numbers from 1 to 3"),
        (["01067", "10115", "01067"] * 5 + ["04109"], "classification", {},
         "3 codes: 01067 begins with 0, as no number does"),
        (["01067", "01068", "01069"], "classification", {},
         "3 codes: 01067 begins with 0, as no number does"),
        (["01", "02", "03"], "ordinal", {}, "consecutive integers 1 to 3"),
        (["0.5", "0", "0.25"], "regression", {}, "3 different numbers from 0 to 0.5"),
        (["up", "down", "flat"], "classification", {}, "3 words, down, flat, up"),
        (["1", "2", "many"], "classification", {}, "3 words, 1, 2, many"),
        (["1", "2", "1_000"], "classification", {}, "3 words, 1, 2, 1_000"),  # no number to parse
        (["1", "2", "1e39"], "classification", {}, "3 words, 1, 2, 1e39"),
        (["a;b", "b", "a"], "classification", {}, "3 words, a, a;b, b"),  # one of its kind
        (["a;b", "b", "a", "b;a"], "multilabel", {"separator": ";"},
         "2 labels with ';' between them"),
        (["a|b", "b|c", "a|c"], "multilabel", {"separator": "|"}, "3 labels with '|' between them"),
        (["a, b", "b, c", "a, c"], "multilabel", {"separator": ","},
         "3 labels with ',' between them"),
        ([["a"], ["b", "a"]], "multilabel", {}, "lists of labels"),
        ([("a",), np.array(["b"])], "multilabel", {}, "lists of labels"),
        ([[1, 0], [0]], "multilabel", {}, "lists of labels"),
        ([[1, 2], [2, 3]], "multilabel", {}, "lists of labels"),
    ],
)  # fmt: skip
def test_proposals_by_hand(cells, kind, options, reason):
    assert propose("t", "x", cells) == (kind, options, reason)


COMMA = (
    r"`x` should hold numbers with a decimal point for the task t\. Found '\d,\d+'\. Write 3\.5 "
    r"for 3,5, or say that these are numbers with --tasks t:regression; or, if these are labels, "
    r"say so with --tasks t:multilabel t\.separator=,\."
)


DRESSED = r"`x` should hold plain numbers, .* the task t\. Found '{}': .*, or give --tasks t:class"


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        (["$1,000", "$20", "$3.50"], r"\$1,000"),
        (["1,000.00", "20", "950.50"], r"1,000\.00"),
        (["1,000", "2,500", "12,345"], "1,000"),
        (["20%", "5 %", "-3,5%"], "20%"),
        (["1.059,92", "59,92", "7"], r"1\.059,92"),
        (["1 000", "2\u00a0500", "3'000"], "1 000"),
        (["€ 5", "7 £", "9", "11"], "€ 5"),
        ([f"{i}%" for i in range(40)], "0%"),
    ],
)  # fmt: skip
def test_numbers_that_are_not_written_plainly_are_no_classes(cells, found):
    with pytest.raises(UserError, match=DRESSED.format(found)) as caught:
        propose("t", "x", cells)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "cells",
    [["$", "$$", "$$$"], ["10%", "few", "many", "all"], ["a 1,000", "b", "c"], ["1-2%", "3", "x"]],
)
def test_words_that_hold_a_unit_or_a_comma_are_still_classes(cells):
    assert propose("t", "x", cells).kind == "classification"


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([], r"at least two values in the train split .* t\. Found only empty cells\."),
        (["", None, " "], r"Found only empty cells\. .*t\.column=COLUMN"),
        (["a", "a", "a"], r"Found 'a' in 3 rows\. "),
        ([1, 1.0, "1"], r"Found '1' in 3 rows"),
        ([f"id {i}" for i in range(LEVELS + 1)],
         r"13 different values in 13 rows, such as 'id 0': texts or identifiers"),
        (["a", math.nan], r"`x` should be a class name.*, for the task t\. Found nan\."),
        (["a", {"b": 1}], r"Found \{'b': 1\}\. Correct it, or name another column"),
        ([["a"], [["b"]]], r"`x` should be labels .*Found \[\['b'\]\]"),
        (["3,5", "7,0", "2,5", "3,5"], COMMA),
        (["7,25", "1", "2", "3,5"], COMMA),
        (["1,234", "3,5", "7,25"], COMMA),
        ([f"{i},{i * 37}" for i in range(40)], r"decimal point.* Found '0,0'\."),
        ([f"0{i}99" for i in range(10, 30)],
         r"20 different values in 20 rows, such as '01099': texts or identifiers"),
        (list(range(500, 540)), r"Found 40 rows with a whole number each from 500 to 539, none .*"
         r": identifiers\. .*--tasks t:regression"),
        ([i for i in range(100) if i % 5], r"from 1 to 99, none of them twice: identifiers"),
        ([1_700_000_000_000 + 987_654_321 * i for i in range(40)], r"times in milliseconds since"),
        ([1_700_000_000 + 987_654 * i for i in range(40)], r"times in seconds since 1970\."),
        ([[0.76, 0.29], [0.5, 0.5]], r"Found \[0\.76, 0\.29\]: lists of numbers are no labels\."),
        ([["a"], np.array([0.5])], r"Found \[.*0\.5.*\]: lists of numbers are no labels\."),
        ([[1, 0, 1], [0, 0, 1]], r"Found \[1, 0, 1\]: a 0 or 1 for each label\. Write the names"),
        (["nan;a", "b;nan", "a;b", "a"], r"`x` should be labels .*Found 'nan;a'"),
    ],
)  # fmt: skip
def test_what_suggests_no_kind_is_one_line(cells, message):
    with pytest.raises(UserError, match=message) as caught:
        propose("t", "x", cells)
    assert "\n" not in str(caught.value)


def test_what_the_error_on_commas_advises_works():
    cfg = load_config(overrides=["t.separator=,"], flags={"tasks": "t:multilabel"})
    assert cfg.tasks["t"].separator == ","


def test_the_rule_in_words_names_every_kind():
    assert all(kind in RULE for kind in KINDS)
    assert f"3 to {LEVELS} consecutive" in RULE


SCALARS = (
    st.text(max_size=6)
    | st.sampled_from(["a;b", "b;a", "a|b", "1", "01", "1_0", "2.0", "inf", "1e400", "x,y", " "])
    | st.integers()
    | st.integers(0, 4)
    | st.floats()
    | st.booleans()
    | st.none()
)
CELLS = st.lists(SCALARS | st.lists(SCALARS, max_size=3), max_size=12)


@given(CELLS | st.lists(SCALARS, max_size=20) | st.lists(st.integers(0, 5), max_size=20))
@example(["1", "1.00000001", "1.000000001"])  # one number in 32 bits
@example(["1", "01", "3"])
def test_a_proposed_kind_takes_the_cells_or_says_why_not(cells):
    try:
        proposal = propose("t", "x", cells)
    except UserError:
        return
    settings = task_settings("t", {"column": "x", "kind": proposal.kind, **proposal.options})
    kind = KINDS[proposal.kind]
    values = [v for cell in cells if (v := kind.parser(settings)(cell)) is not None]
    try:
        task = kind.fit("t", settings, dict.fromkeys(SPLITS, values))
    except UserError:
        # Labels that all texts have, or none; numbers that are one in 32 bits: seen only in whole.
        assert proposal.kind in ("multilabel", "regression")
        return
    assert task.labelled(task.encode(values)).all()
    assert task.outputs >= 1
