"""Runs on `human-ratings`: what people reach stands beside the model, in every report."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import tasks.human_ratings
from tests.cli.conftest import NO_GRAPH, SMALL

NAME = ("--data", "human-ratings")


@pytest.fixture
def command(tiny_phi: Path, rated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs train.py on the stand-in, in an empty folder."""
    from train import app

    assert rated.is_file()
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        given = [*arguments, "--encoder", str(tiny_phi), *SMALL, NO_GRAPH]
        return CliRunner().invoke(app, given, catch_exceptions=False)

    return run


def evaluated(*arguments: str) -> Result:
    from evaluate import app

    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def rows_of(text: str) -> dict[str, list[str]]:
    """The rows of the table of figures beside others, by their names."""
    lines = text[text.index("score pearson, beside others") :].splitlines()
    cells = [[c.strip() for c in line.strip("|│").replace("│", "|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in cells if len(row) > 1}


@pytest.mark.slow
def test_a_run_without_tasks_learns_all_three_and_is_told_beside_people(command, tmp_path: Path):
    result = command(*NAME, "--output", "run", "train.epochs=1")
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {name: task["kind"] for name, task in metrics["tasks"].items()} == {
        "score": "regression", "spread": "regression", "domain": "classification",
    }  # fmt: skip
    assert set(metrics["slices"]["test"]["domain"]) <= {"tweet", "product", "movie", "editorial"}
    known = {entry["name"]: entry for entry in metrics["data"]["references"]}
    assert all(entry["task"] == "score" for entry in known.values())
    human = known["one human against the other raters"]
    for report in (
        result.stdout,
        (tmp_path / "run" / "README.md").read_text(),
        evaluated("run", "--format", "markdown").stdout,
    ):
        rows = rows_of(report)
        own = metrics["splits"]["test"]["score"]["pearson"]
        assert float(rows["this model"][0].strip("*")) == pytest.approx(own, abs=1e-3)
        cell = rows["one human against the other raters"][0]
        assert float(cell) == pytest.approx(human["whole"], abs=1e-4)
        assert "0.451" in " ".join(rows["VADER, as published"])
        assert rows["VADER, as published"][0] == ""  # the paper has no figure over all
    assert "human-ratings: MIT licence; cite C.J. Hutto and E. Gilbert" in result.stderr
    assert "score pearson of VADER, as published: tweet 0.881" in result.stderr


@pytest.mark.slow
def test_without_a_breakdown_there_is_one_column(command, tmp_path: Path):
    result = command(*NAME, "--tasks", "score", "--output", "run", "data.slices=[]",
                     "train.epochs=1")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert list(json.loads((tmp_path / "run" / "metrics.json").read_text())["tasks"]) == ["score"]
    # The task's own row is in the table of sets and intervals, which has further columns.
    found = {name: len(row) for name, row in rows_of(result.stdout).items() if name}
    assert {width for name, width in found.items() if name != "score"} == {1}, found


def test_what_a_person_sets_goes_before(command, tmp_path: Path):
    (tmp_path / "run.yaml").write_text(
        "tasks: {grade: {kind: regression, column: score}}\ndata: {slices: [raters]}\n"
    )
    result = command(*NAME, "--config", "run.yaml", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "# run folder: results/human-ratings/grade/seed=0" in result.stdout
    assert "grade pearson of one human against the other raters: all rows 0." in result.stdout
    assert "- raters" in result.stdout
    assert "spread" not in result.stdout.split("# run folder")[0]


@pytest.mark.parametrize("further", [["data.where.domain=tweet"], ["--data", "more.csv"]])
def test_of_a_part_of_the_rows_there_are_no_figures_of_others(
    command, tmp_path: Path, further: list[str]
):
    (tmp_path / "more.csv").write_text("text,score\nsales rose,0.5\n")
    result = command(*NAME, "--tasks", "score", *further, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "# no figures of others beside the results" in result.stdout
    assert "as published" not in result.stdout


def test_a_finished_run_is_measured_on_it(full_run: Path, rated: Path):
    assert rated.is_file()
    result = evaluated(str(full_run), *NAME, "--format", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["splits"]["test"]["reg"]["n"] == 239


def test_an_experiment_has_the_breakdown_in_arms_of_one_task_too(command):
    result = command(*NAME, "--factorial", "--seeds", "1", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "spread" in result.stdout


def line(result: Result) -> str:
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    (only,) = result.stderr.splitlines()
    return only


def test_without_a_network_one_line_says_so_and_nothing_is_written(
    command, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tasks.human_ratings, "SHA256", "1" * 64)
    assert list(index.iterdir()) == []
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    said = line(command(*NAME, "--output", "run"))
    assert said.startswith("error: vaderSentiment 3.3.2 should come from the package index. Found ")
    assert "put the file there by hand: " in said
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "run").exists()


def test_a_damaged_file_in_the_cache_is_refused_in_one_line(command, rated: Path):
    rated.write_bytes(rated.read_bytes()[:-100])
    tasks.human_ratings._rated.cache_clear()
    said = line(command(*NAME, "--dry-run"))
    assert said.startswith("error: vaderSentiment 3.3.2 should have sha256 ")
    assert f"Delete {rated} and give the command again." in said
