"""`--tune`: ranges searched by optuna, in real runs, and a search that goes on."""

import json
from pathlib import Path
from typing import Any

import pytest

TUNED = (
    "--tasks", "cls,reg", "--tune", "train.lr=1e-5..1e-1", "--tune", "reg.weight=0.1|1|10",
    "train.epochs=1",
)  # fmt: skip


def content(folder: Path) -> Any:
    return json.loads((folder / "search.json").read_text())


@pytest.mark.slow
@pytest.mark.usefixtures("warm_runs")
def test_a_search_names_the_best_on_validation_and_goes_on(train, tmp_path: Path):
    folder = tmp_path / "search"
    first = train(folder, *TUNED, "--trials", "2")
    assert first.exit_code == 0, first.output
    two = content(folder)["trials"]
    result = train(folder, *TUNED, "--trials", "3")
    assert result.exit_code == 0, result.output
    found = content(folder)
    assert found["trials"][:2] == two  # not made again
    assert [trial["trial"] for trial in found["trials"]] == [
        "trial-0000", "trial-0001", "trial-0002",
    ]  # fmt: skip
    for trial in found["trials"]:
        run = folder / trial["trial"] / "seed=0"
        metrics = json.loads((run / "metrics.json").read_text())
        figures = metrics["splits"]["validation"]
        own = (figures["cls"]["accuracy"] + figures["reg"]["r2"]) / 2
        assert trial["score"] == pytest.approx(own, abs=1e-12)
        assert trial["seconds"] == metrics["training"]["seconds"]
        assert trial["state"] == "finished"
        assert 1e-5 <= trial["values"]["train.lr"] <= 1e-1
    scores = {trial["trial"]: trial["score"] for trial in found["trials"]}
    best = max(scores, key=scores.get)
    assert found["selected"] == str(folder / best / "seed=0")
    assert f"best on validation: {best}" in result.stdout
    assert result.stdout.count("(this model)") == 1
    # DAO beside the constant weights, with the rate of the best trial.
    beside = found["beside_dao"]
    run = json.loads((Path(beside["run"]) / "metrics.json").read_text())
    assert (run["arm"], beside["shares"]) == ("cls+reg-dao", ["train.lr"])
    assert beside["dao"]["seconds"] == run["training"]["seconds"]
    assert beside["constant"]["validation"] == max(scores.values())
    spent = sum(trial["seconds"] for trial in found["trials"])
    assert beside["constant"]["seconds"] == pytest.approx(spent, abs=0.06)
    assert f"{beside['constant']['trials']} trials" in result.stdout
    assert "weighting=dao beside them, with the best trial's train.lr: on validation" in (
        result.stdout
    )
    assert not (folder / ".locks").exists()
    assert train(folder, *TUNED, "--trials", "3", "--dry-run").exit_code == 0
    # Other ranges, and other settings of all runs, are another search.
    for other, words in ((("--tune", "train.epochs=1..2"), "search over what is asked"),
                         (("train.clip=2.0",), "`train.clip`")):  # fmt: skip
        refused = train(folder, *TUNED, *other, "--trials", "3")
        assert refused.exit_code == 1
        assert words in refused.stderr


def test_a_dry_run_tells_the_space_the_budget_and_the_settings(train, tmp_path: Path):
    result = train(tmp_path / "search", *TUNED, "--trials", "7", "--minutes", "30", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "# tune train.lr: 1e-05 to 0.1, by the logarithm" in result.stdout
    assert "# tune reg.weight: one of 0.1, 1, 10" in result.stdout
    assert "7 trials, none begun after 30 minutes; those below the median" in result.stdout
    assert "# beside it: one run with weighting=dao" in result.stdout
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--tune", "train.lr=1..-1"), 1, "the smaller first"),
        (("--tune", "train.lr=-1..1"), 1, "train.lr"),
        (("--tune", "reg.weight=1..9", "--dao"), 1, "constant loss weight"),
        (("--tune", "train.lr=.1..1", "--grid", "train.epochs=1,2"), 2, "exclude each other"),
        (("--grid", "train.epochs=1,2", "--trials", "3"), 2, "--trials needs --tune"),
        (("--minutes", "3"), 2, "--minutes needs --tune"),
        (("--tune", "train.lr=.1..1", "--factorial"), 2, "--tune excludes --factorial"),
        (("--tune", "train.lr=.1..1", "--trials", "0"), 2, "--trials"),
    ],
)
def test_what_cannot_be_searched_is_refused(train, tmp_path: Path, arguments, code, words):
    result = train(tmp_path / "search", *arguments)
    assert result.exit_code == code
    assert words in result.stderr
    assert not (tmp_path / "search").exists()
