"""Any two runs, or folders of runs, beside each other."""

import json
from pathlib import Path

import pandas as pd
import pytest

from dao.errors import UserError
from dao.learner.basics.pairs import join
from dao.learner.experiment.findings.comparison import compare
from dao.learner.experiment.findings.runs import read_run
from dao.learner.experiment.report.comparison_report import (
    comparison_lines,
    comparison_tables,
    print_comparison,
)


@pytest.fixture
def folders(tmp_path: Path, make_run) -> tuple[Path, Path]:
    """Three common seeds: a has 9, 10 and 11 of 40 more right; each has a seed of its own."""
    for seed, more in enumerate((9, 10, 11)):
        make_run(
            tmp_path / "a" / f"seed={seed}", seed, right=20 + more + seed, set=["weighting=dao"]
        )
        make_run(tmp_path / "b" / f"seed={seed}", seed, right=20 + seed, steps=20)
    make_run(tmp_path / "a" / "seed=5", 5, right=0, set=["weighting=dao"])
    make_run(tmp_path / "b" / "seed=6", 6)
    (tmp_path / "b" / "seed=6" / "metrics.json").unlink()
    return tmp_path / "a", tmp_path / "b"


def test_folders_are_paired_by_seed(folders):
    found = compare(*folders)
    accuracy = {e["metric"]: e for e in found["effects"]}["cls.accuracy"]
    assert accuracy["seeds"] == [0, 1, 2]
    # Mean 10 / 40, sd 1 / 40, t(2) = 4.302653.
    half = 4.302653 / 3**0.5 / 40
    assert accuracy["t95"] == pytest.approx([0.25 - half, 0.25 + half], rel=1e-5)
    assert accuracy["p_permutation"] == 0.25
    assert accuracy["verdict"] == "higher (better)"
    assert found["settings"] == {"weighting": ["dao", "equal"]}
    assert found["a"]["seeds"] == [0, 1, 2, 5]
    assert found["notes"] == [
        "A: seed 5 left out, which the other has not",
        "B: seed 6 is not finished",
        "optimizer steps differ: 18 in A, 20 in B",
    ]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_single_runs_are_compared_over_rows_alone(tmp_path: Path, make_run):
    a = make_run(tmp_path / "a", 0, right=30, shift=1)
    b = make_run(tmp_path / "b", 1, right=26, shift=0, error=0.25)
    found = compare(a, b)
    assert found["effects"] == []
    accuracy, mse = found["per_example"]
    # Right in a: rows 1-30; in b: rows 0-25. So 26-30 against 0.
    assert (accuracy["only_a"], accuracy["only_b"]) == (5, 1)
    assert accuracy["p"] == pytest.approx(14 / 64)
    assert accuracy["verdict"] == "no significant difference"
    assert mse["estimate"] == pytest.approx(0.2**2 - 0.25**2)
    assert found["settings"] == {"seed": [0, 1]}
    assert found["notes"][0].startswith("one run each")


def test_a_run_beside_itself_does_not_differ(tmp_path: Path, make_run):
    run = make_run(tmp_path / "a")
    for test in compare(run, run)["per_example"]:
        assert (test["estimate"], test["p"], test["verdict"]) == (
            0, 1, "no significant difference",
        )  # fmt: skip


def test_only_tasks_that_both_have_are_compared(tmp_path: Path, make_run):
    found = compare(make_run(tmp_path / "a"), make_run(tmp_path / "b", set=["tasks=cls"]))
    assert list(found["metrics"]) == ["cls.accuracy", "cls.macro_f1"]
    assert [test["metric"] for test in found["per_example"]] == ["cls.accuracy"]


def test_what_cannot_be_compared_is_refused_with_the_reason(tmp_path: Path, make_run, folders):
    a = make_run(tmp_path / "run")
    refused = {
        "test rows of cls .* target": make_run(tmp_path / "t", targets=["positive"] * 40),
        "Found one of each": folders[0],
        "finished run, or hold some": tmp_path,
        "share a task": make_run(tmp_path / "reg", set=["tasks=reg"]),
    }
    a = make_run(tmp_path / "cls", set=["tasks=cls"])
    for message, b in refused.items():
        with pytest.raises(UserError, match=message):
            compare(a, b)
    (a / "metrics.json").unlink()
    with pytest.raises(UserError, match="should be finished"):
        compare(a, a)


def test_runs_on_pairs_have_both_texts_in_one(tmp_path: Path, make_run):
    pairs = ("data.text=[premise,hypothesis]",)
    a, b = (make_run(tmp_path / name, set=pairs) for name in "ab")
    for path, second in ((a, "=2+2"), (b, "another")):
        frame = pd.read_csv(path / "predictions.csv")
        frame["text_pair"] = ["'=2+2", *[second.replace("=", "'=")] * (len(frame) - 1)]
        frame.to_csv(path / "predictions.csv", index=False)
    run = read_run(a)
    assert run.predictions["text"][1] == join("headline, 1", "=2+2")
    assert "text_pair" not in run.predictions
    with pytest.raises(UserError, match=r"text .*headline, 1.*=2\+2.* and .*another.* at id '1'"):
        compare(a, b)
    compare(a, a)


def test_a_run_on_pairs_without_the_second_texts_is_damaged(tmp_path: Path, make_run):
    run = make_run(tmp_path / "a", set=("data.text=[premise,hypothesis]",))
    with pytest.raises(UserError, match=r"should hold predictions\.csv"):
        read_run(run).predictions  # noqa: B018


def test_folders_without_a_common_seed_or_with_mixed_settings_are_refused(
    tmp_path: Path, make_run, folders
):
    make_run(tmp_path / "c" / "seed=9", 9)
    with pytest.raises(UserError, match="share a seed"):
        compare(folders[0], tmp_path / "c")
    make_run(tmp_path / "c" / "seed=0", 0, set=["train.lr=1"])
    with pytest.raises(UserError, match=r"`train\.lr`"):
        compare(folders[0], tmp_path / "c")


def test_what_is_printed(folders, capsys: pytest.CaptureFixture[str]):
    print_comparison(*folders, "markdown")
    printed = capsys.readouterr().out
    assert "A: cls+reg-dao, seeds 0, 1, 2, 5" in printed
    assert "A is higher (better)" in printed
    assert "no significant difference" in printed
    assert "- settings that differ (A / B): weighting dao / equal" in printed
    assert "cannot go below 2 / 2^n" in printed
    print_comparison(*folders, "json")
    assert json.loads(capsys.readouterr().out) == compare(*folders)


def test_a_setting_by_task_is_told_once(tmp_path: Path, make_run):
    a = make_run(tmp_path / "a", 0)
    b = make_run(tmp_path / "b", 0, set=["train.select_weights.reg=2.0"])
    assert compare(a, b)["settings"] == {"train.select_weights.reg": [None, 2.0]}
    assert compare(b, a)["settings"] == {"train.select_weights.reg": [2.0, None]}


def test_rows_are_called_as_the_figures_are(tmp_path: Path, make_run):
    a = make_run(tmp_path / "a", 0, right=30, error=0.5)
    b = make_run(tmp_path / "b", 0, right=20, error=0.25, set=["reg.show=[r2]"])
    found = compare(a, b)
    assert [test["label"] for test in found["per_example"]] == ["cls Accuracy ↑", "reg MSE ↓"]
    rows = comparison_tables(found)[-1]
    assert list(rows.columns[0].cells) == ["cls Accuracy ↑", "reg MSE ↓"]
    assert {str(cell)[:5] for cell in rows.columns[-1].cells} == {"A is "}


def test_single_runs_have_no_table_over_seeds(tmp_path: Path, make_run):
    found = compare(make_run(tmp_path / "a"), make_run(tmp_path / "b"))
    assert [table.title for table in comparison_tables(found)] == ["test", "over test rows, paired"]
    assert "settings that differ (A / B): none" in comparison_lines(found)
