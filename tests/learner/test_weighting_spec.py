"""Constant weights by position or by name."""

import pytest

from dao.errors import UserError
from dao.learner.settings.config import load_config
from dao.learner.settings.weighting_spec import folder_part, parse_weighting

TASKS = ("topic", "churn", "price-up")


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("fixed:1,30,2", (1.0, 30.0, 2.0)),
        ("fixed:topic=1,churn=30,price-up=2", (1.0, 30.0, 2.0)),
        ("fixed:price-up=2, topic=.5", (0.5, 1.0, 2.0)),
        ("fixed:churn=1e-3", (1.0, 0.001, 1.0)),
    ],
)
def test_weights_by_position_and_by_name(text: str, weights: tuple):
    assert parse_weighting(text, TASKS).numbers == weights


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fixed:nothing=2", "should name tasks, of topic, churn, price-up; 'nothing' is none"),
        ("fixed:=2", "'' is none of them"),
        ("fixed:topic=1,30", "or all behind names (fixed:price-up=30), not both"),
        ("fixed:topic=1,topic=2", "topic is there twice"),
        ("fixed:topic=0", "`fixed:topic` should have a weight > 0, for example fixed:topic=1.5"),
        ("fixed:topic=x", "should have a weight > 0"),
        ("fixed:topic=nan", "should have a weight > 0"),
        ("fixed:topic=", "should have a weight > 0"),
        ("fixed:1,2", "a weight for each of topic, churn, price-up, in order"),
        ("fixed", "should have a weight > 0, for example fixed:1.5"),
    ],
)
def test_weights_that_do_not_fit_are_refused(text: str, said: str):
    with pytest.raises(ValueError, match=r"`fixed") as caught:
        parse_weighting(text, TASKS)
    assert said in str(caught.value)


def test_settings_take_names_and_the_run_folder_tells_them():
    flags = {"tasks": "topic,churn", "weighting": "fixed:topic=1,churn=30"}
    cfg = load_config(None, [], flags)
    assert cfg.arm == "topic+churn-fixed_topic_1_churn_30"
    assert load_config(None, ["weighting=fixed:churn=30"], {"tasks": "topic,churn"}).arm == (
        "topic+churn-fixed_churn_30"
    )
    assert load_config(None, [], {**flags, "weighting": "fixed:1,30"}).arm == (
        "topic+churn-fixed_1_30"
    )
    with pytest.raises(UserError, match="'urgent' is none of them"):
        load_config(None, [], {**flags, "weighting": "fixed:urgent=2"})


def test_many_weights_make_a_short_folder_of_their_own():
    many = [f"fixed:{','.join(f'task{i}={w}' for i in range(40))}" for w in (1, 2)]
    names = [folder_part(text) for text in many]
    assert all(len(name) == len("fixed_12345678") for name in names)
    assert len(set(names)) == 2
