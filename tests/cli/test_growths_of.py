"""`dendrites.growths_of`: a run grows or restarts after the validations of one with patience."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

pytestmark = pytest.mark.slow  # all look at real runs of many steps

# So fast that a later validation is worse than an early one.
PATIENT = (
    "--tasks", "cls,reg", "--dendrites", "dendrites.where=heads", "dendrites.init_scale=0.1",
    "train.lr=0.1", "train.warmup=0.1", "train.epochs=4", "train.validations_per_epoch=5",
    "dendrites.patience=2", "dendrites.max_sets=2",
)  # fmt: skip


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def training(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "metrics.json").read_text())["training"]
    keys = ("steps", "restarted_after_steps", "growth_over_after_step", "thrown_away_steps")
    return {key: found[key] for key in keys}


@pytest.fixture(scope="module")
def grown(train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("patient") / "grown"
    result = train(folder, *PATIENT)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def controls(train, grown: Path) -> dict[str, Path]:
    """Control -> its run."""
    found = {}
    for control in ("restart", "sham"):
        found[control] = grown.parent / control
        own = (f"dendrites.control={control}", f"dendrites.growths_of={grown}")
        result = train(found[control], *PATIENT, *own)
        assert result.exit_code == 0, result.output
    return found


def test_growth_follows_validations_without_a_new_best(grown: Path):
    found, report = training(grown), json.loads((grown / "dendrites.json").read_text())
    validations = [row["step"] for row in rows(grown, "validation.jsonl")]
    since, expected = 0, []
    for row in rows(grown, "validation.jsonl"):
        since = 0 if row["best"] else since + 1
        if since == 2:
            expected.append(row["step"])
            since = 0
    over = found["growth_over_after_step"]
    known = [*found["restarted_after_steps"], over]
    assert known == expected[: len(known)]
    assert len(known) > 1
    assert report["ended_validation"] == validations.index(over) + 1
    assert found["steps"] == validations[-1] > over


def test_all_train_as_many_steps_and_restart_after_the_same(grown: Path, controls):
    found = {name: training(folder) for name, folder in {"none": grown, **controls}.items()}
    for run in found.values():
        assert run["steps"] == found["none"]["steps"]
        assert run["restarted_after_steps"] == found["none"]["restarted_after_steps"] != []
        assert run["growth_over_after_step"] == found["none"]["growth_over_after_step"]
    assert found["sham"] == found["restart"]
    folders = (grown, *controls.values())
    batches = [[row["batch"] for row in rows(f, "history.jsonl")] for f in folders]
    assert batches[0] == batches[1] == batches[2]
    rates = [[row["lr"] for row in rows(f, "history.jsonl")] for f in folders]
    assert rates[0] == rates[1] == rates[2]


def thrown(folder: Path, until: int) -> int:
    """Steps between the best validation and the restart after step `until`."""
    best = [r["step"] for r in rows(folder, "validation.jsonl") if r["best"] and r["step"] <= until]
    return until - best[-1]


def test_steps_that_a_restart_throws_away_are_counted(grown: Path, controls):
    for folder in (grown, *controls.values()):
        found = training(folder)
        ends = [*found["restarted_after_steps"], found["growth_over_after_step"]]
        assert found["thrown_away_steps"] == sum(thrown(folder, step) for step in ends) > 0
    first = training(grown)["restarted_after_steps"][0]
    assert len({thrown(f, first) for f in (grown, *controls.values())}) == 1


def test_a_sham_ends_with_the_weights_of_a_restart(controls):
    for name in ("adapter/adapter_model.safetensors", "heads.safetensors"):
        one, other = (load_file(controls[control] / name) for control in ("restart", "sham"))
        assert one.keys() == other.keys()
        assert all(one[key].equal(other[key]) for key in one)


def test_a_run_that_grows_copies_a_run_that_grows(train, grown: Path, tmp_path: Path):
    own = ("--dao", f"dendrites.growths_of={grown}")
    result = train(tmp_path / "dao", *PATIENT, *own)
    assert result.exit_code == 0, result.output
    found, copied = training(tmp_path / "dao"), training(grown)
    assert found | {"thrown_away_steps": 0} == copied | {"thrown_away_steps": 0}
    report = json.loads((tmp_path / "dao" / "dendrites.json").read_text())
    assert report["dendrites_added"] == len(copied["restarted_after_steps"])
    assert report["growths_of"] == str(grown)


def test_a_resumed_control_equals_a_whole_one(
    train, grown: Path, controls, tmp_path: Path, stop_before, monkeypatch
):
    from train import app

    over = training(grown)["growth_over_after_step"]
    stop_before(over + 2)
    own = ("dendrites.control=sham", f"dendrites.growths_of={grown}")
    assert train(tmp_path / "run", *PATIENT, *own).exit_code == 130
    monkeypatch.undo()
    result = CliRunner().invoke(app, ["--resume", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert training(tmp_path / "run") == training(controls["sham"])
    ends = [load_file(f / "heads.safetensors") for f in (tmp_path / "run", controls["sham"])]
    assert all(ends[0][name].equal(ends[1][name]) for name in ends[0])


def refused(train, place: Path, *arguments: str) -> str:
    result = train(place, *PATIENT, "dendrites.control=restart", *arguments)
    assert result.exit_code == 1
    assert not place.exists()
    (line,) = result.stderr.strip().splitlines()
    return line


def test_a_run_that_cannot_be_copied_is_refused_in_one_line(
    train, grown: Path, controls, csv, tmp_path: Path
):
    place, copy = tmp_path / "no", f"dendrites.growths_of={grown}"
    assert "Give growths_of=RUN" in refused(train, place)
    assert "Found no run" in refused(train, place, f"dendrites.growths_of={tmp_path}")
    (tmp_path / "config.yaml").write_text((grown / "config.yaml").read_text())
    assert "has not finished" in refused(train, place, f"dendrites.growths_of={tmp_path}")
    assert "`seed` 0 there and 1 here" in refused(train, place, copy, "--seed", "1")
    said = refused(train, place, copy, "dendrites.max_sets=1")
    assert "`dendrites.max_sets` 2 there and 1 here" in said
    assert "20 there and 10 here" in refused(train, place, copy, "train.epochs=2")
    other = f"dendrites.growths_of={controls['restart']}"
    assert "without a record of growths" in refused(train, place, other)
    rows = [f"words {i},{'up' if i % 2 else 'down'},{i / 200}" for i in range(150)]
    table = csv("text,label,score\n" + "\n".join(rows) + "\n")
    assert "other data there" in refused(train, place, copy, "--data", table)


def test_a_run_whose_pair_has_changed_is_not_resumed(
    train, grown: Path, tmp_path: Path, stop_before, monkeypatch
):
    import shutil

    from train import app

    pair = tmp_path / "pair"
    shutil.copytree(grown, pair)
    first = training(grown)["restarted_after_steps"][0]
    stop_before(first + 2)
    own = ("dendrites.control=restart", f"dendrites.growths_of={pair}")
    assert train(tmp_path / "run", *PATIENT, *own).exit_code == 130
    monkeypatch.undo()
    metrics = json.loads((pair / "metrics.json").read_text())
    metrics["dendrites"]["switch_validations"][0] += 1
    (pair / "metrics.json").write_text(json.dumps(metrics))
    result = CliRunner().invoke(app, ["--resume", str(tmp_path / "run")])
    assert result.exit_code == 1
    assert f"{pair} has them after" in result.stderr
