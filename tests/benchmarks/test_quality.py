import math

import pytest
from typer.testing import CliRunner

from benchmarks.quality import (
    ARMS,
    app,
    best_of_grid,
    interval,
    table,
)
from benchmarks.runs import ended, train_all
from dao.learner.console.terminal import plain_console
from dao.learner.experiment.grid.factorial import Cell
from dao.learner.pipeline.start import train
from dao.learner.settings.config import load_config


def metrics(accuracy, mse, validation=0.5):
    def of(value):
        cls = {"accuracy": value, "macro_f1": value / 2}
        return {"cls": cls, "reg": {"mse": mse, "r2": 1 - 2 * mse}}

    baselines = {"cls": {"majority class": {"accuracy": 0.4, "macro_f1": 0.2}}}
    splits = {"test": of(accuracy), "validation": of(validation)}
    return {"splits": splits, "baselines": {"test": baselines}}


def test_interval_by_hand():
    mean, half = interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)


def test_one_run_has_no_interval():
    assert interval([0.7])[0] == 0.7
    assert math.isnan(interval([0.7])[1])


def test_differences_are_taken_within_seeds():
    found = {
        "equal": {0: metrics(0.70, 0.10), 1: metrics(0.80, 0.20)},
        "dao": {0: metrics(0.72, 0.09), 1: metrics(0.82, 0.19)},
    }
    row = next(line for line in table(found, 2) if line.startswith("| dao"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1].startswith("0.7700 ± 0.63")  # 12.7062 * 0.0707 / sqrt(2)
    assert cells[5:] == ["+0.0200 ± 0.0000", "-0.0100 ± 0.0000"]


def test_a_run_that_stopped_is_told():
    found = {"equal": {0: metrics(0.7, 0.1), 1: metrics(0.8, 0.1)}, "gls": {1: metrics(0.9, 0.1)}}
    row = next(line for line in table(found, 2) if line.startswith("| gls"))
    assert "(1 of 2 runs ended)" in row
    assert "+0.1000" in row


def test_static_weights_are_chosen_on_validation():
    found = {
        "equal": {0: metrics(0.9, 0.1, validation=0.5)},
        "fixed:1,3": {0: metrics(0.1, 0.1, validation=0.6)},
        "dao": {0: metrics(0.9, 0.1, validation=0.9)},
    }
    assert best_of_grid(found, 1) == "fixed:1,3"
    undefined = {"fixed:1,9": {0: metrics(0.9, math.nan, validation=0.55)}, **found}
    assert best_of_grid(undefined, 1) == "fixed:1,3"
    assert best_of_grid({"equal": found["equal"], "dao": found["dao"]}, 1) is None
    fewer = {name: {**runs, 1: runs[0]} for name, runs in found.items() if name != "fixed:1,3"}
    assert best_of_grid({**fewer, "fixed:1,3": found["fixed:1,3"], "fixed:1,1": fewer["equal"]}, 2)


def test_rows_differ_in_their_weighting_alone_and_every_one_is_accepted():
    for setting, arms in ARMS.items():
        base = load_config(None, ["weighting=equal"]).model_dump()
        for arm in arms:
            changed = {
                key
                for key, value in load_config(None, arm.overrides).model_dump().items()
                if value != base[key]
            }
            assert changed <= {"weighting", "dao", "tasks"}, (setting, arm)


def test_an_unknown_row_is_one_line(tmp_path):
    result = CliRunner().invoke(app, ["--arms", "magic", "--output", str(tmp_path)])
    assert result.exit_code == 1
    assert "Found 'magic'" in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_runs_and_goes_on_where_it_stopped(tmp_path, tiny_bert, monkeypatch):
    def here(todo, *_):  # without a process for each, which takes longer than the runs
        for cell in todo:
            train(cell.cfg, overwrite=True)

    monkeypatch.setattr("benchmarks.quality.train_all", here)
    tiny = ["train.epochs=1", "data.synthetic.rows=200", "encoder.lora.last_layers=1"]
    tiny += [
        "encoder.max_length=16",
        f"encoder.name={tiny_bert}",
        f"cache={tmp_path / 'cache'}",
        "--seeds",
        "2",
    ]
    tiny += ["--arms", "reg alone;equal;dao", "--setting", "scaled"]
    tiny += ["--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "out")]
    first = CliRunner().invoke(app, tiny)
    assert first.exit_code == 0, first.output
    text = (tmp_path / "out" / "scaled.md").read_text()
    names = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ")]
    assert names[-3:] == ["| reg alone", "| equal", "| dao"]
    assert "train.epochs=1" in text
    assert "cache=" not in text
    written = {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/*/*/*/metrics.json")}
    assert len(written) == 6
    lost = min(written)
    lost.unlink()
    assert CliRunner().invoke(app, tiny).exit_code == 0
    again = {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/*/*/*/metrics.json")}
    assert {p for p in written if again[p] != written[p]} == {lost}
    assert (tmp_path / "out" / "scaled.md").read_text() == text
    other = CliRunner().invoke(app, [*tiny, "train.lr=0.01"])
    assert other.exit_code == 1
    assert "Found a finished run with `train.lr`" in " ".join(other.output.split())
    predictions = lost.parent / "predictions.csv"
    rows = predictions.read_text().splitlines(keepends=True)
    predictions.write_text("".join(rows[:-1]))
    fewer = CliRunner().invoke(app, tiny)
    assert fewer.exit_code == 1
    assert "The test rows of cls should be the same" in " ".join(fewer.output.split())


@pytest.mark.slow
@pytest.mark.usefixtures("warm_runs")
def test_a_run_that_stops_leaves_its_reason_and_the_others_go_on(tmp_path, tiny_bert):
    def make(name, *own):
        place = f"output={tmp_path / name / 'seed=0'}"
        shared = ["train.epochs=1", "data.synthetic.rows=200", "encoder.max_length=16"]
        shared.append(f"encoder.name={tiny_bert}")
        return Cell(name, 0, load_config(None, [place, *shared, *own]))

    lost, whole = make("lost", "data.sources=[nowhere.csv]"), make("whole")
    train_all([lost, whole], tmp_path, 2, plain_console())
    assert "nowhere.csv" in (tmp_path / "lost" / "seed=0.failed").read_text()
    assert not ended(lost)  # it came to no step
    assert ended(whole)
    (lost.cfg.folder / "history.jsonl").touch()
    assert ended(lost)
    other = lost.cfg.model_copy(update={"train": lost.cfg.train.model_copy(update={"lr": 1e-4})})
    assert not ended(lost._replace(cfg=other))
