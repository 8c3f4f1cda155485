"""The first screen of a report: one sentence and one picture, checked by hand."""

import re

import pytest
from matplotlib.figure import Figure

from dao.errors import UserError
from dao.learner.experiment.findings.effects import findings
from dao.learner.experiment.pictures.forest import arm_forests, pair_forests
from dao.learner.experiment.report.answer import answer, outcome, unbeaten
from dao.learner.experiment.report.report import write_report
from tests.conftest import no_pictures

SCORE = {"selection": {"task": None, "key": "selection", "label": "Selection score", "unit": "",
                       "better": "higher", "family": "primary", "main": True}}  # fmt: skip
CHANCE, FOUND, UNTESTED = "no significant difference", "higher (better)", "not tested"


@pytest.fixture(scope="module")
def planted(tmp_path_factory, make_arm):
    """dao has 10, 10 and 11 rows of 40 more right than base; dendrites change nothing."""
    folder = tmp_path_factory.mktemp("planted")
    for seed, more in enumerate((10, 10, 11)):
        for arm, right in (("base", 20), ("dao", 20 + more)):
            make_arm(folder, arm, seed, right=right)
            grown = {"dendrites_kept": 1, "parameters_added": 50}
            both = "dao+dendrites" if arm == "dao" else "dendrites"
            make_arm(folder, both, seed, right=right, dendrites=grown)
    found = findings(folder, ("base", "dao", "dendrites", "dao+dendrites"))
    with no_pictures():
        write_report(folder, found)
    return folder, found


def test_a_page_is_made_of_what_is_kept_without_predictions_and_histories(tmp_path, make_arm):
    for seed, right in enumerate((20, 22, 21)):
        make_arm(tmp_path, "base", seed, right=right)
        make_arm(tmp_path, "dao", seed, right=right + 1)
    for kept in ("predictions.csv", "history.jsonl"):
        assert len([path.unlink() for path in tmp_path.rglob(kept)]) == 6
    found = findings(tmp_path, ("base", "dao"))
    assert found["per_example"] == []
    (note,) = [note for note in found["notes"] if "kept" in note]
    assert note.startswith("6 of 6 runs are kept without predictions.csv")
    with no_pictures():
        write_report(tmp_path, found)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "over 3 seeds, dao differs from base in the mean score of the tasks by +0.0125" in page
    assert "Left out: no predictions were compared." in page
    next(iter(tmp_path.rglob("metrics.json"))).with_name("predictions.csv").write_text("id,text\n")
    with pytest.raises(UserError, match=r"should hold predictions.csv"):
        findings(tmp_path, ("base", "dao"))


def effect(name: str, mean: float, verdict: str = CHANCE, n: int = 3, **rest) -> dict:
    return {"metric": "selection", "family": "primary", "name": name, "mean": mean, "n": n,
            "t95": [mean - 0.01, mean + 0.01], "verdict": verdict, **rest}  # fmt: skip


def told(*effects: dict) -> str:
    return outcome({"metrics": SCORE, "seeds": [0, 1, 2], "tasks": ["a"]}, effects)


def test_the_first_sentence_of_planted_results(planted):
    folder, found = planted
    # The selection score is the mean over accuracy and R² of the rows, of which only the first
    # moves: by half of 10/40, 10/40 and 11/40. Their mean is .12917, their deviation .0072169, and
    # the t quantile of 2 degrees of freedom 4.302653: .12917 -/+ 4.302653 * .0072169 / sqrt(3).
    expected = (
        "This experiment asked whether DAO, which balances the losses of the tasks, and dendrites, "
        "units that grow during training, make a model of cls and reg better; over 3 seeds, DAO "
        "changed the mean score of the tasks by +0.1292 (95 % interval +0.1112 to +0.1471), which "
        "is more than chance explains; dendrites changed the mean score of the tasks by 0 (95 % "
        "interval 0 to 0), which chance may explain."
    )
    assert answer(found) == expected
    page = (folder / "report.html").read_text(encoding="utf-8")
    first = re.search(r"</h1>(.*?)<figure>", page, re.DOTALL)[1]
    assert f'<p class="answer">{expected.replace(" %", "&nbsp;%")}</p>' in first
    assert first.count("<p") == 1
    assert page.index("<details") > page.index("</figure>")  # the picture needs no opening
    assert expected in (folder / "report.md").read_text(encoding="utf-8").replace("\\", "")


def test_the_first_picture_has_every_arm_beside_base_in_every_task(planted):
    panels = arm_forests(planted[1], ["selection", "cls.accuracy", "reg.mse"])
    assert [panel.alt.partition(":")[0] for panel in panels] == [
        "Selection score", "cls Accuracy", "reg MSE",
    ]  # fmt: skip
    axes = Figure().add_subplot()
    panels[1].draw(axes)
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "dao", "dendrites", "dao+dendrites",
    ]  # fmt: skip
    _, interval, point, *_ = axes.lines
    assert list(point.get_xdata()) == [pytest.approx(0.258333, abs=1e-5)]
    assert list(interval.get_xdata()) == pytest.approx([0.222478, 0.294189], abs=1e-5)
    assert "dao +0.2583 (+0.2225 to +0.2942)" in panels[1].alt


def test_a_pair_in_a_figure_that_should_be_low_is_turned_to_the_right():
    about = {"task": "reg", "key": "mse", "label": "reg MSE", "unit": "", "better": "lower"}
    pair = {"metric": "reg.mse", "name": "dao - equal", "mean": -0.2, "t95": [-0.5, 0.1]}
    (panel,) = pair_forests({"metrics": {"reg.mse": about}, "effects": [pair]}, ["reg.mse"])
    assert "dao - equal +0.2000 (-0.1000 to +0.5000)" in panel.alt


def test_equal_verdicts_are_told_once():
    assert told(effect("DAO", 0.005), effect("dendrites", 0.007)) == (
        "over 3 seeds, DAO changed the mean score of the tasks by +0.0050 (95 % interval "
        "\N{MINUS SIGN}0.0050 to +0.0150) and dendrites by +0.0070 (95 % interval "
        "\N{MINUS SIGN}0.0030 to +0.0170), and chance may explain each of them"
    )


def test_an_interval_without_zero_that_the_correction_overrules_is_told_as_that():
    assert told(effect("DAO", 0.02)).endswith(
        " by +0.0200 (95 % interval +0.0100 to +0.0300), which chance may explain once all tests "
        "are counted"
    )


def test_pairs_name_both_arms_and_one_seed_is_said_to_be_too_few():
    lone = effect("dao - base", 0.02, UNTESTED, n=1, t95=None)
    assert told(lone) == (
        "over 1 seed, dao differs from base in the mean score of the tasks by +0.0200, which too "
        "few seeds can tell from chance"
    )
    assert told() == "with 3 seeds, no difference between arms could be measured"


def test_many_pairs_are_counted_with_the_largest():
    pairs = [effect(f"{name} - base", place / 10) for place, name in enumerate("abcd")]
    assert told(*pairs).startswith(
        "over 3 seeds, none is more than chance explains of 4 differences that were tested; the "
        "largest: d differs from base in the mean score of the tasks by +0.3000 "
    )
    pairs[1] |= {"verdict": FOUND}
    assert "1 is more than chance explains of 4 " in told(*pairs)
    assert "the largest: b differs" in told(*pairs)


def made(base: float, dao: float, plain: dict, better: str = "higher") -> dict:
    about = {"task": "a", "key": "f", "label": "a F", "better": better, "main": True}
    arms = {"base": {"mean": {"a.f": base}}, "dao": {"mean": {"a.f": dao}}}
    return {"metrics": {"a.f": about}, "tasks": ["a"], "arms": arms, "baselines": plain}


def test_a_plain_model_that_no_arm_beats_is_named_with_both_figures():
    plain = {"majority": {"a.f": 0.4}, "TF-IDF": {"a.f": 0.7}}
    assert unbeaten(made(0.5, 0.6, plain)) == [
        "On a, no arm beat TF-IDF, a plain model: a F 0.7000 against 0.6000 of dao, the best of "
        "them."
    ]
    assert unbeaten(made(0.7, 0.8, plain)) == [  # as good is no better
        "On a, base did not beat TF-IDF, a plain model: a F 0.7000 against 0.7000 of base."
    ]
    assert unbeaten(made(0.8, 0.9, plain)) == []
    assert unbeaten(made(0.8, 0.9, {})) == []
    assert "no arm beat majority, a plain model: a F 0.4000 against 0.5000 of base" in unbeaten(
        made(0.5, 0.6, plain, "lower")
    )[0]  # fmt: skip
