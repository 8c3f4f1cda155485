"""A grid of settings: every combination runs, and validation alone chooses."""

import json
from pathlib import Path

import pytest

from dao.errors import UserError
from dao.learner.experiment.grid.search import read_grid


@pytest.mark.slow
@pytest.mark.usefixtures("warm_runs")
def test_a_grid_runs_and_names_the_best_on_validation(train, tmp_path: Path):
    folder = tmp_path / "grid"
    asked = ("--tasks", "reg", "--grid", "train.lr=0.01,1e-5", "--jobs", "2", "encoder.lora.r=2")
    result = train(folder, *asked)
    assert result.exit_code == 0, result.output
    found = json.loads((folder / "grid.json").read_text())
    # The untrained model is the better one of so short a training; it is the second of the grid.
    assert [run["train.lr"] for run in found["runs"]] == [1e-5, 0.01]
    for run in found["runs"]:
        metrics = json.loads((Path(run["run"]) / "metrics.json").read_text())
        assert run["score"] == metrics["splits"]["validation"]["reg"]["r2"]
    assert found["runs"][0]["score"] > found["runs"][1]["score"]
    assert found["selected"] == str(folder / "train.lr=1e-5" / "seed=0")
    assert "best on validation: train.lr=1e-5" in result.stdout
    # One table of test figures, that of the best.
    assert result.stdout.count("(this model)") == 1
    assert f"run folder: {found['selected']}" in result.stdout
    assert not (folder / ".locks").exists()
    # Given again, nothing is left to run, and the answer is the same.
    before = (Path(found["selected"]) / "metrics.json").stat().st_mtime_ns
    again = train(folder, *asked)
    assert "2 of 2 runs are done" in again.stderr
    assert again.stdout == result.stdout
    assert (Path(found["selected"]) / "metrics.json").stat().st_mtime_ns == before
    # With another setting the folders hold other runs.
    other = train(folder, *asked, "train.clip=2.0")
    assert other.exit_code == 1
    assert "`train.clip`" in other.stderr


def test_a_dry_run_lists_the_combinations(train, tmp_path: Path):
    grids = ("--grid", "train.lr=1e-4,1e-3", "--grid", "cls.class_weights=none,balanced")
    result = train(tmp_path / "grid", *grids, "--dry-run")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("# train.lr=") == 4
    assert "# train.lr=1e-3,cls.class_weights=balanced" in result.stdout
    assert not (tmp_path / "grid").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["train.lr"], "should look like"),
        (["train.lr="], "should look like"),
        (["train.lr=[1"], "should look like"),
        (["train.lr=1,2", "train.lr=3"], "once per setting"),
        (["train.lr=1,1"], "each value once"),
        (["seed=0,1"], "scored alike"),
        (["data.sources=a.csv,b.csv"], "scored alike"),
        (["cls.select_by=accuracy,rare_f1"], "scored alike"),
        (["cls.cut=2,3"], "scored alike"),
    ],
)
def test_a_grid_that_cannot_be_is_one_line(options: list[str], words: str):
    with pytest.raises(UserError, match=words):
        read_grid(options)


def test_a_value_that_cannot_be_is_refused_before_anything_runs(train, tmp_path: Path):
    result = train(tmp_path / "grid", "--grid", "train.lr=0.1,-1")
    assert result.exit_code == 1
    assert "train.lr" in result.stderr
    assert not (tmp_path / "grid").exists()


@pytest.mark.parametrize("flag", ["--factorial", "--overwrite"])
def test_flags_that_do_not_go_with_a_grid(train, tmp_path: Path, flag: str):
    result = train(tmp_path / "grid", "--grid", "train.lr=0.1,0.2", flag)
    assert result.exit_code == 2
    assert "--grid excludes" in result.stderr
