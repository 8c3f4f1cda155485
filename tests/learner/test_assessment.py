import pandas as pd

from dao.learner.scoring.assessment import slice_columns


def test_columns_of_targets_are_no_property_unless_they_are_chosen():
    frame = pd.DataFrame({"id": ["a", "b"], "domain": ["x", "y"], "score": [0.5, 1.0]})
    assert slice_columns(None, frame, ("label", "score")) == ("domain",)
    assert slice_columns(("score",), frame, ("label", "score")) == ("score",)


def test_predictions_are_no_breakdown_unless_they_are_chosen():
    made = ["topic_target", "topic_p_a", "topic_p_b", "topic_row_score", "topic_2"]
    frame = pd.DataFrame({name: [0, 1] for name in ("domain", *made, "topics")})
    assert slice_columns(None, frame, (), ["topic"]) == ("domain", "topics")
    assert slice_columns(("topic_2",), frame, (), ["topic"]) == ("topic_2",)
    assert slice_columns(None, frame, (), ["urgent"]) == tuple(frame.columns)
