from pathlib import Path

import pandas as pd

from dao.learner.pipeline.start import load_data
from dao.learner.scoring.assessment import plain_breakdown, slice_columns
from dao.learner.settings.config import load_config


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


def test_plain_models_learn_from_all_rows_and_are_told_for_every_value(
    tiny_csv: Path, tmp_path: Path
):
    rows = pd.read_csv(tiny_csv)
    rows = rows.assign(origin=["news", "forum"] * (len(rows) // 2), stars=rows.index % 3 + 1)
    rows.to_csv(tmp_path / "domains.csv", index=False)
    asked = [f"data.sources=[{tmp_path / 'domains.csv'}]", "data.domain=origin"]
    _, table, tasks = load_data(load_config(None, ["tasks=label:binary,stars:ordinal", *asked]))
    found = plain_breakdown(table, tasks, ["domain"])["domain"]
    assert list(found) == ["forum", "news"]
    test = rows[rows["split"] == "test"]
    for value, own in found.items():
        assert set(own) == {"label", "stars"}
        counts = {figures["n"] for figures in own["stars"].values()}
        assert counts == {(test["origin"] == value).sum()}
