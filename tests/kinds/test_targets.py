"""Values that no training row has, said in one way for every kind."""

import pytest

from dao.errors import UserError
from dao.learner.kinds import KINDS
from dao.learner.kinds.declared import task_settings

NEW = [
    ("binary", {"train": ["a", "b"], "validation": ["a"], "test": ["c", "c"]}, "class"),
    ("classification", {"train": ["a", "b"], "validation": ["a"], "test": ["c", "c"]}, "class"),
    ("ordinal", {"train": ["1", "2"], "validation": ["1"], "test": ["3", "3"]}, "level"),
    ("multilabel", {"train": [("a",), ("b",)], "validation": [()], "test": [("c",), ("c", "a")]},
     "label"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "values", "what"), NEW)
def test_a_value_that_test_alone_has(kind, values, what):
    with pytest.raises(UserError) as caught:
        KINDS[kind].fit("t", task_settings("t", {"kind": kind}), values, removed=2)
    new = "'3'" if kind == "ordinal" else "'c'"
    assert str(caught.value).startswith(
        f"`t` should have every {what} in the train split. Found {new} only in the test split (2 "
        f"rows; 2 rows left train, their texts being in validation or test as well). "
    )


@pytest.mark.parametrize(("kind", "values", "what"), NEW)
def test_a_value_that_the_task_never_learnt(kind, values, what):
    own = {**values, "test": values["train"]}
    task = KINDS[kind].fit("t", task_settings("t", {"kind": kind}), own)
    names = "1, 2" if kind == "ordinal" else "a, b"
    new = "'3'" if kind == "ordinal" else "'c'"
    with pytest.raises(UserError) as caught:
        task.encode([None, *values["test"]])
    assert str(caught.value) == (
        f"`t` should be one of {names}. Found {new} in row 2. Correct it, or train with that "
        f"{what}."
    )
