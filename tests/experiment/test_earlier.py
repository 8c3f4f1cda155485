"""Experiments of an earlier revision: runs without a record of their tasks, arms and settings."""

import csv
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from dao.errors import UserError
from dao.learner.experiment.arms import chosen
from dao.learner.experiment.findings.comparable import check_same_settings
from dao.learner.experiment.findings.contrasts import measured
from dao.learner.experiment.findings.effects import findings
from dao.learner.experiment.findings.runs import experiment, read_arm, read_run, read_runs
from dao.learner.experiment.grid.factorial import check_not_other, factorial_cells
from dao.learner.experiment.pictures.training_figures import validation_panels
from dao.learner.experiment.report.provenance import provenance_tables
from dao.learner.pipeline.start import load_table
from dao.learner.settings.config import load_config

TRACKED = Path(__file__).parents[2] / "results" / "factorial-finance"
RUNS = sorted(TRACKED.glob("*/seed=*"))
FIGURES = {
    "accuracy": "cls.accuracy", "macro_f1": "cls.macro_f1", "mse": "reg.mse", "r2": "reg.r2",
}  # fmt: skip


def test_every_figure_of_the_tracked_table_is_read_as_it_was_written():
    with (TRACKED / "Results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(RUNS) == 40
    for row in rows:
        run = read_run(TRACKED / row["arm"] / f"seed={row['seed']}", row["arm"])
        metrics = [m for m in measured(run.tasks) if m != "selection"]
        assert set(metrics) == {new for old, new in FIGURES.items() if row[old]}
        for old, new in FIGURES.items():
            assert run.figure(new) == (float(row[old]) if row[old] else None), (run.path, old)


def test_what_earlier_runs_do_not_state_of_their_tasks():
    tasks = read_run(TRACKED / "base" / "seed=0").tasks
    assert [(t.kind, t.column, t.selects_by, t.main_figure) for t in tasks.values()] == [
        ("classification", "label", "accuracy", "accuracy"),
        ("regression", "score", "r2", "mse"),
    ]
    assert [(t.row_figure, t.row_better, t.view) for t in tasks.values()] == [
        ("accuracy", "higher", "confusion"), ("mse", "lower", "scatter"),
    ]  # fmt: skip
    assert list(read_run(TRACKED / "reg" / "seed=0").tasks) == ["reg"]


def test_the_selection_score_is_that_by_which_the_model_was_selected():
    for path in RUNS:
        run = read_run(path)
        step = run.metrics["training"]["selected_after_step"]
        (row,) = [row for row in run.validations if row["step"] == step]
        parts = {"cls": "accuracy", "reg": "r2"}
        figures = run.metrics["splits"]["test"]
        expected = [figures[task][parts[task]] for task in run.tasks]
        assert run.figure("selection") == pytest.approx(sum(expected) / len(expected))
        validated = [row["metrics"][task][parts[task]] for task in run.tasks]
        assert row["score"] == pytest.approx(sum(validated) / len(validated))


def test_an_earlier_experiment_is_one_of_the_same_arms_in_the_same_order():
    arms, unfinished = experiment(TRACKED)
    assert list(arms) == [
        "base", "dao", "dendrites", "dao+dendrites", "sham", "capacity", "cls", "reg",
    ]  # fmt: skip
    assert not any(unfinished.values())
    for arm, runs in arms.items():
        assert [run.seed for run in runs] == [0, 1, 2, 3, 4]
        check_same_settings(runs)
        assert all(run.positive(task) is None for run in runs for task in run.tasks), arm
    curves = {arm: {run.seed: run for run in runs} for arm, runs in arms.items()}
    tasks = arms["base"][0].tasks
    found = {"metrics": measured(tasks), "tasks": list(tasks)}
    assert len(validation_panels(curves, found, found["metrics"])) == 5


def test_a_run_selected_by_the_rare_class_names_it_in_its_tasks(tmp_path: Path):
    run = tmp_path / "seed=0"
    shutil.copytree(TRACKED / "base" / "seed=0", run)
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["cls"]["select_by"] = "rare_f1"
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["headline"]["cls"].append(["rare_f1", "↑"])
    metrics["splits"]["test"]["cls"]["rare_f1"] = 0.25
    (run / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(UserError, match=r"should hold tasks\.json"):
        read_run(run).positive("cls")
    (run / "tasks.json").write_text(json.dumps({"cls": {"positive": "negative"}}))
    found = read_run(run)
    assert (found.positive("cls"), found.figure("cls.rare_f1")) == ("negative", 0.25)
    r2 = metrics["splits"]["test"]["reg"]["r2"]
    assert found.figure("selection") == pytest.approx((0.25 + r2) / 2)


# -- folders that an earlier revision made --------------------------------------------------------


def earlier(cell, *, resumable: bool = False) -> dict:
    """The folder of a run as an earlier revision left it: tasks by name, options at the top."""
    settings = yaml.safe_load(cell.cfg.to_yaml())
    tasks = settings.pop("tasks")
    settings["tasks"] = list(tasks)
    del settings["split_tasks"], settings["dao"]["rules"]
    settings["dao"]["source"] = settings["dao"]["source"].replace("auto", "params")
    settings["dao"]["refresh_every"] = settings["dao"]["refresh_every"] or 50
    cut = {"cls": ("kind", "column", "show", "label_column"), "reg": ("kind", "column", "show")}
    for name, own in {**tasks}.items():
        settings[name] = {k: v for k, v in own.items() if k not in cut[name]}
        settings["data"][name] = own["column"]
    settings["data"] |= {"cls": "label", "reg": "score"}
    cell.cfg.folder.mkdir(parents=True)
    (cell.cfg.folder / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    if resumable:
        (cell.cfg.folder / "checkpoints").mkdir()
        (cell.cfg.folder / "checkpoints" / "latest").write_text("step=000001")
    else:
        (cell.cfg.folder / "metrics.json").write_text("{}")
    return settings


@pytest.mark.parametrize("resumable", [False, True])
@pytest.mark.parametrize(
    "typed", [["dao.rules=2"], ["dao.refresh_every=50"], ["dao.refresh_every=20"]]
)
def test_a_folder_made_before_is_continued(tmp_path: Path, resumable: bool, typed: list[str]):
    shared = load_config(None, [f"output={tmp_path}", *typed])
    cells = factorial_cells(shared, 1, arms=[*chosen(list(shared.tasks)), "dao-paper"])
    for cell in cells:
        written = earlier(cell, resumable=resumable)
        assert "split_tasks" not in written
        check_not_other(cell)
    balanced = [f"output={tmp_path}", "cls.class_weights=balanced", *typed]
    other = factorial_cells(load_config(None, balanced), 1)
    for cell in other:
        if cell.arm == "reg":
            check_not_other(cell)  # which has no classes
            continue
        with pytest.raises(UserError, match=r"`tasks\.cls\.class_weights` 'none' in place of 'bal"):
            check_not_other(cell)


def test_a_folder_in_which_norms_were_measured_otherwise_is_refused(tmp_path: Path):
    cells = factorial_cells(load_config(None, [f"output={tmp_path}"]), 1, ["dao/0"])
    earlier(cells[0])
    with pytest.raises(UserError, match=r"`dao\.source` 'params' in place of 'auto'.*old value"):
        check_not_other(cells[0])


def test_a_task_that_splits_the_data_by_itself_is_no_arm_of_the_experiment(tmp_path: Path):
    cell = factorial_cells(load_config(None, [f"output={tmp_path}"]), 1, ["cls/0"])[0]
    cell.cfg.folder.mkdir(parents=True)
    alone = cell.cfg.model_copy(update={"split_tasks": {}})
    (cell.cfg.folder / "config.yaml").write_text(alone.to_yaml())
    (cell.cfg.folder / "metrics.json").write_text("{}")
    with pytest.raises(UserError, match=r"`split_tasks"):
        check_not_other(cell)


def test_a_seed_of_an_earlier_arm_stands_beside_a_new_one(tmp_path: Path, make_arm):
    for seed in (0, 1):
        make_arm(tmp_path, "base", seed)
        run = make_arm(tmp_path, "cls", seed)
    cell = factorial_cells(load_config(None, ["tasks=[cls,reg]"]), 2, ["cls/1"])[0]
    (run / "config.yaml").write_text(cell.cfg.to_yaml())
    runs, _ = read_arm(tmp_path / "cls")
    assert [list(run.config.split_tasks) for run in runs] == [[], ["cls", "reg"]]
    found = findings(tmp_path, ["base", "cls"])
    assert {e["n"] for e in found["effects"] if e["name"] == "base - cls alone"} == {2}
    for table in provenance_tables(read_runs(tmp_path, ["base", "cls"], [0, 1])):
        assert not any(cell.startswith("split_tasks") for row in table.rows for cell in row)
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["data"]["fingerprint"] = "another split"
    (run / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(UserError, match="fingerprint of the data"):
        findings(tmp_path, ["base", "cls"])


def test_settings_of_a_task_that_an_arm_has_not_make_no_difference(tmp_path: Path, make_arm):
    for arm in ("base", "cls"):
        make_arm(tmp_path, arm, 0)
    tables = provenance_tables(read_runs(tmp_path, ["base", "cls"], [0]))
    (apart,) = [table for table in tables if table.caption == "Settings in which the arms differ"]
    assert list(apart.head) == ["setting", "base", "cls alone"]
    assert [list(row) for row in apart.rows] == [["tasks", "cls, reg", "cls"]]
    (shared,) = [table for table in tables if table.caption == "Settings of every run"]
    assert ["tasks.reg.standardize", "yes"] in [list(row) for row in shared.rows]


# -- one task alone has the rows that it has among the others -------------------------------------


@pytest.mark.parametrize("cut", [(), ("cls.cut=2",)])
def test_one_task_alone_splits_the_data_as_all_do(tmp_path: Path, cut: tuple[str, ...]):
    rows = [
        {"id": i, "text": f"text {i}", "label": "ab"[i % 5 == 0] if i % 3 else "",
         "score": (i * 7 % 13) / 10 if i % 2 else "", "tags": "x;y" if i % 4 else "y",
         "stars": 1 + i % 3}
        for i in range(120)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    shared = load_config(
        None,
        ["tasks=cls,reg,tags:multilabel,stars:ordinal", f"data.sources=[{tmp_path / 'rows.csv'}]",
         f"output={tmp_path}", *cut],
    )  # fmt: skip
    cells = {
        cell.arm: cell.cfg for cell in factorial_cells(shared, 1, arms=["base", *shared.tasks])
    }
    whole = load_table(cells["base"])
    for name in shared.tasks:
        alone = load_table(cells[name])
        for split in ("train", "validation", "test"):
            found, expected = (
                table.rows(split).dropna(subset=[name]).set_index("id")[name].to_dict()
                for table in (alone, whole)
            )
            assert found == expected, (name, split)
            assert found
