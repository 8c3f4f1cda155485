"""What runs keep of their calibration, and what the commands make of a coverage."""

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dao import UserError
from dao.learner import Model, load
from dao.learner.commands.predict import _of_coverage
from dao.learner.kinds.recorded import restored_tasks

from .conftest import KINDS, TEXTS, kinds_rows

ROWS = [row for row in kinds_rows() if row["split"] == "test"]
PAIRS = [(row["title"], row["body"]) for row in ROWS]
REGIONS = ["urgent_set", "area_set", "stars_set", "amount_low", "amount_high", "unsure", "unlike"]
PROBABLE = ("urgent", "area", "tags", "stars")
LEFT_OUT = "no sets or intervals for tags"


def dao(*arguments: object) -> Result:
    from dao.learner.commands.app import app

    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def said(result: Result) -> str:
    return " ".join(result.stderr.replace("│", " ").split())


@pytest.fixture(scope="module")
def model(kinds_run: Path) -> Model:
    return load(kinds_run, device="cpu")


@pytest.fixture(scope="module")
def metrics(kinds_run: Path) -> dict[str, Any]:
    return json.loads((kinds_run / "metrics.json").read_text())


@pytest.fixture(scope="module")
def earlier(kinds_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run as an earlier revision would have left it."""
    place = tmp_path_factory.mktemp("earlier") / "run"
    shutil.copytree(kinds_run, place)
    (place / "calibration.json").unlink()
    states = json.loads((place / "tasks.json").read_text())
    for state in states.values():
        state.pop("temperature", None)
    (place / "tasks.json").write_text(json.dumps(states))
    told = json.loads((place / "metrics.json").read_text())
    for part in ("calibration", "unlike", "files"):
        del told[part]
    (place / "metrics.json").write_text(json.dumps(told))
    return place


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("labelled") / "new.csv"
    with place.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*TEXTS, "area", "amount"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(ROWS)
    return place


def test_a_run_keeps_temperatures_and_scores(kinds_run: Path, metrics: dict[str, Any]):
    tasks = json.loads((kinds_run / "tasks.json").read_text())
    assert any(state.get("temperature", 1.0) != 1.0 for state in tasks.values())
    assert "temperature" not in tasks["amount"]
    kept = json.loads((kinds_run / "calibration.json").read_text())["scores"]
    validation = [row for row in kinds_rows() if row["split"] == "validation"]
    assert {name: len(own) for name, own in kept.items()} == {
        name: sum(row[name] is not None for row in validation) for name in KINDS if name != "tags"
    }
    assert "calibration.json" in metrics["files"]


def test_figures_of_calibration_are_recorded_and_printed(kinds_run: Path, metrics: dict[str, Any]):
    found = metrics["calibration"]["test"]
    assert [*found] == [*KINDS]
    tasks = json.loads((kinds_run / "tasks.json").read_text())
    for name in PROBABLE:
        assert found[name]["temperature"] == tasks[name].get("temperature", 1.0)
    printed = (kinds_run.parent / "stdout").read_text()
    assert "probabilities before and after scaling" in printed
    assert "sets and intervals at a coverage of 0.9" in printed
    assert "are unlike the training texts" in printed
    card = (kinds_run / "README.md").read_text()
    assert "sets and intervals at a coverage of 0.9" in card
    assert "are unlike the training texts" in card


def test_decisions_and_figures_are_those_without_scaling(kinds_run: Path, earlier: Path):
    """The columns of probabilities alone differ, and in their order nothing does."""
    new, old = (load(run, device="cpu").predict(PAIRS) for run in (kinds_run, earlier))
    changed = set()
    for one, other in zip(new, old, strict=True):
        assert one.keys() == other.keys()
        changed |= {name for name in one if one[name] != other[name]}
    assert changed
    assert all("_p_" in name for name in changed)
    result = dao("evaluate", earlier, "--format", "json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert "calibration" not in told
    before = json.loads((kinds_run / "metrics.json").read_text())
    assert told["splits"]["test"] == before["splits"]["test"]


def test_a_coverage_adds_columns_and_changes_none(model: Model, metrics: dict[str, Any]):
    plain, rows = model.predict(PAIRS), model.predict(PAIRS, coverage=0.9)
    assert [*rows[0]] == [*plain[0], *REGIONS]
    for one, other in zip(rows, plain, strict=True):
        assert all(one[name] == other[name] for name in other)
    for name, states in (("area", 4), ("stars", 3), ("urgent", 2)):
        sets = [row[f"{name}_set"].split("|") for row in rows]
        assert all(str(row[name]) in found for row, found in zip(rows, sets, strict=True))
        known = [(s, str(r[name])) for s, r in zip(sets, ROWS, strict=True) if r[name] is not None]
        about = metrics["calibration"]["test"][name]["coverage"]
        assert sum(truth in found for found, truth in known) / len(known) == about["reached"]
        assert sum(len(found) for found, _ in known) / len(known) == about["size"] <= states
    known = [(r, t["amount"]) for r, t in zip(rows, ROWS, strict=True) if t["amount"] is not None]
    inside = [row["amount_low"] <= truth <= row["amount_high"] for row, truth in known]
    about = metrics["calibration"]["test"]["amount"]["coverage"]
    assert sum(inside) / len(inside) == about["reached"]
    sets = ("urgent_set", "area_set", "stars_set")
    for row in rows:
        assert row["unsure"] == any("|" in row[s] for s in sets)
        assert row["amount_high"] - row["amount_low"] == pytest.approx(about["size"])


def test_sets_grow_with_the_coverage(model: Model):
    few, many = (model.answers(["profit rose\x1fsharply"] * 2, coverage=c) for c in (0.3, 0.94))
    assert set(few["area_set"][0].split("|")) <= set(many["area_set"][0].split("|"))
    assert many["amount_high"][0] > few["amount_high"][0]


def test_other_words_are_unlike(model: Model):
    rows = model.predict([("profit rose", "sharply"), ("zebra", "quagga")], coverage=0.5)
    assert [row["unlike"] for row in rows] == [False, True]


def test_predict_writes_the_columns_and_tells_what_has_none(
    kinds_run: Path, labelled: Path, tmp_path: Path
):
    output = tmp_path / "out.csv"
    result = dao("predict", kinds_run, "--input", labelled, "--output", output, "--coverage", 0.8)
    assert result.exit_code == 0, result.output
    assert LEFT_OUT in said(result)
    with output.open(newline="") as file:
        names = next(csv.reader(file))
    assert names[-len(REGIONS) :] == REGIONS
    typed = ("--text", "net profit rose", "--text-pair", "sharply")
    result = dao("predict", kinds_run, *typed, "--coverage", 0.8)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["unsure"] in (True, False)


def test_new_rows_are_measured_at_another_coverage(kinds_run: Path, labelled: Path):
    asked = ("--data", labelled, "--coverage", 0.5, "--format", "json")
    result = dao("evaluate", kinds_run, *asked)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    found = told["calibration"]["test"]
    assert [*found] == ["area", "amount"]
    assert {own["coverage"]["asked"] for own in found.values()} == {0.5}
    assert any(LEFT_OUT in line for line in told["notes"])


def test_a_report_again_has_the_same_calibration(kinds_run: Path, metrics: dict[str, Any]):
    result = dao("evaluate", kinds_run, "--format", "json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["unlike"] == metrics["unlike"]
    for name, own in metrics["calibration"]["test"].items():
        again = told["calibration"]["test"][name]
        assert again["n"] == own["n"]
        if "nll" in own:
            assert again["nll"] == pytest.approx(own["nll"], rel=1e-5)
        if "coverage" in own:
            assert again["coverage"]["reached"] == own["coverage"]["reached"]


@pytest.mark.parametrize("coverage", ["0", "1", "90", "nan"])
def test_a_coverage_is_a_share(kinds_run: Path, coverage: str):
    for command in (("predict", "--text", "profit"), ("evaluate",)):
        name, *more = command
        result = dao(name, kinds_run, *more, "--coverage", coverage)
        assert result.exit_code == 2
        assert "--coverage should be between 0 and 1" in said(result)


def test_more_than_the_rows_allow_is_one_line(kinds_run: Path, labelled: Path, tmp_path: Path):
    output = tmp_path / "out.csv"
    for name, more in (
        ("predict", ("--input", labelled, "--output", output)), ("evaluate", ()),
    ):  # fmt: skip
        result = dao(name, kinds_run, *more, "--coverage", 0.99)
        assert result.exit_code == 1
        assert "A coverage of 0.99 needs 99 rows" in said(result)
        assert "which allow at most 0.9" in said(result)
    assert not output.exists()


def test_a_run_of_an_earlier_revision_says_so(earlier: Path):
    result = dao("predict", earlier, "--text", "a", "--text-pair", "b", "--coverage", 0.9)
    assert result.exit_code == 1
    assert "trained by an earlier revision" in said(result)
    assert result.stdout == ""
    with pytest.raises(UserError, match="should hold calibration"):
        load(earlier, device="cpu").predict(PAIRS, coverage=0.9)


def test_a_coverage_goes_with_reports_and_predictions(kinds_run: Path):
    result = dao("evaluate", kinds_run, "--benchmark", "--coverage", 0.9)
    assert result.exit_code == 2
    assert "--coverage is for reports and predictions" in said(result)


def test_a_saved_model_has_the_same_answers(model: Model, tmp_path: Path):
    again = load(model.save(tmp_path / "model"), device="cpu")
    assert again.predict(PAIRS[:4], coverage=0.9) == model.predict(PAIRS[:4], coverage=0.9)


def test_a_changed_calibration_is_refused(kinds_run: Path, tmp_path: Path):
    place = tmp_path / "run"
    shutil.copytree(kinds_run, place)
    kept = json.loads((place / "calibration.json").read_text())
    kept["scores"]["area"][0] = -1.0
    (place / "calibration.json").write_text(json.dumps(kept))
    with pytest.raises(UserError, match=r"another sha256.*calibration\.json"):
        load(place, device="cpu")


def test_a_threshold_is_one_of_unscaled_probabilities(kinds_run: Path):
    states = json.loads((kinds_run / "tasks.json").read_text())
    task = restored_tasks(states)["urgent"]
    limit, temperature = task.threshold, task.temperature
    mapped = json.loads((kinds_run / "metrics.json").read_text())["calibration"]["test"]["urgent"]
    expected = 1 / (1 + ((1 - limit) / limit) ** (1 / temperature))
    assert mapped["threshold"] == pytest.approx(expected, rel=1e-6)
    rows = load(kinds_run, device="cpu").predict(PAIRS)
    for row in rows:
        scaled = row["urgent_p_yes"]
        plain = 1 / (1 + math.exp(-math.log(scaled / (1 - scaled)) * temperature))
        if abs(plain - limit) > 1e-6:
            assert (row["urgent"] == "yes") == (plain >= limit)


def test_a_terminal_says_what_decides_what_is_reached_and_which_task_is_unsure(
    kinds_run: Path, model: Model, metrics: dict[str, Any]
):
    typed = [part for pair in PAIRS[:9] for part in ("--text", pair[0], "--text-pair", pair[1])]
    result = dao("predict", kinds_run, *typed, "--coverage", 0.9)
    assert result.exit_code == 0, result.output
    lines = result.stderr.splitlines()
    limit = 100 * metrics["calibration"]["test"]["urgent"]["threshold"]
    assert f"urgent: yes from {limit:.3g} %" in lines
    area = metrics["calibration"]["test"]["area"]
    reached = f"{100 * area['coverage']['reached']:.3g} % reached on {area['n']} test rows"
    assert f"area: coverage 90 % asked, {reached}" in lines
    of_another = _of_coverage(model, 0.9, "int8")
    assert f"area: coverage 90 % asked, {reached} (as trained)" in of_another
    expected = []
    for number, row in enumerate(model.predict(PAIRS[:9], coverage=0.9), start=1):
        unsure = [n for n in ("urgent", "area", "stars") if "|" in row[f"{n}_set"]]
        assert bool(unsure) == row["unsure"]
        expected += [f"text {number}: unsure of {', '.join(unsure)}"] if unsure else []
    assert [line for line in lines if line.startswith("text ")] == expected
    plain = dao("predict", kinds_run, *typed)
    assert f"urgent: yes from {limit:.3g} %" in plain.stderr.splitlines()
    assert "asked" not in plain.stderr


def test_the_report_says_how_many_rows_a_coverage_is_reached_on(
    kinds_run: Path, metrics: dict[str, Any]
):
    result = dao("evaluate", kinds_run, "--format", "markdown")
    assert result.exit_code == 0, result.output
    table = result.stdout.partition("sets and intervals at a coverage of 0.9")[2]
    (head,) = [line for line in table.splitlines() if "coverage reached" in line]
    area = next(line for line in table.splitlines() if line.startswith("| area"))
    cells = dict(zip(*([c.strip() for c in line.split("|")] for line in (head, area)), strict=True))
    own = metrics["calibration"]["test"]["area"]
    assert float(cells["coverage reached"]) == pytest.approx(own["coverage"]["reached"], abs=1e-4)
    assert cells["on rows"] == str(own["n"])
