"""Two models side by side: figures of one class are of the same class."""

import pytest

from dao.learner.experiment.report.side_by_side import _leave_out_other_classes


@pytest.mark.parametrize("key", ["rare_f1", "f1", "recall"])
def test_figures_of_different_classes_are_not_put_side_by_side(key: str):
    def side(positive: str | None) -> dict:
        return {
            "positive": {"cls": positive} if positive else {},
            "figures": {"cls": {"accuracy": 0.9, key: 0.4}},
            "of_class": {"cls": {key: "positive"}},
            "headline": {"cls": [("accuracy", "↑"), (key, "↑")]},
        }

    for other in ("hate", None):
        same = [side("hate"), side(other)]
        assert _leave_out_other_classes(same) == []
        assert same == [side("hate"), side(other)]
    sides = [side("hate"), side("other")]
    (note,) = _leave_out_other_classes(sides)
    assert note == "cls: figures of one class left out: of 'hate' in A, of 'other' in B"
    for found in sides:
        assert found["figures"]["cls"] == {"accuracy": 0.9}
        assert found["headline"]["cls"] == [("accuracy", "↑")]
        assert found["positive"] == {}
