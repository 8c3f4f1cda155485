import pandas as pd

from dao.learner.assessment import slice_columns


def test_columns_of_targets_are_no_property_unless_they_are_chosen():
    frame = pd.DataFrame({"id": ["a", "b"], "domain": ["x", "y"], "score": [0.5, 1.0]})
    assert slice_columns(None, frame, ("label", "score")) == ("domain",)
    assert slice_columns(("score",), frame, ("label", "score")) == ("score",)
