"""A dry run, a run, --grid and --factorial refuse the same in the same line; no folder is left."""

from pathlib import Path

import pytest
import yaml
from transformers import RobertaConfig

from dao.learner.processes import ranks

BAD = {
    "weighting": (["--weighting", "torchjd:Nope"], "weighting"),
    "device": (["--device", "meta"], "`device` should be one of this machine"),
    "encoder": (["--encoder", "/nowhere/at/all"], "`encoder.name` should be a folder"),
    "adapters": (["encoder.lora.targets=[nothing]"], "`encoder.lora.targets` should name"),
    "pooling": (["encoder.pooling=first"], "`encoder.pooling` should be last or mean"),
    "slices": (["data.slices=[nowhere]"], "nowhere"),
    "columns": (["data.text=nowhere"], "`nowhere` should be a column of"),
    "file": (["--data", "nowhere.csv"], "nowhere.csv should be a file"),
    "class": (["--tasks", "cls", "cls.positive=nothing"], "cls.positive"),
    "growth": (
        ["--dendrites", "dendrites.grow_at=[0.5,0.51]", "train.epochs=1"],
        "`dendrites.grow_at` should leave training between growths",
    ),
    "prefix": (
        ["encoder.prefix_cache=true", "encoder.lora.last_layers=2"],
        "`encoder.prefix_cache` should have frozen layers below",
    ),
}


def refused(result, said: str) -> str:
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert result.stdout == ""
    return line


@pytest.mark.parametrize("name", BAD)
def test_a_dry_run_refuses_what_training_refuses(
    train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    monkeypatch.chdir(tmp_path)
    arguments, said = BAD[name]
    folder = tmp_path / "run"
    trained = refused(train(folder, *arguments), said)
    assert refused(train(folder, *arguments, "--dry-run"), said) == trained
    assert list(tmp_path.iterdir()) == []


GRID = ("--grid", "train.lr=0.1,0.2")
EXPERIMENT = ("--factorial", "--seeds", "1")
SET_BY_ARMS = {"weighting", "growth"}
"""Refusals of settings that an experiment sets itself, and refuses for that reason."""
WAYS = [(name, GRID) for name in BAD]
WAYS += [(name, EXPERIMENT) for name in BAD if name not in SET_BY_ARMS]


@pytest.mark.parametrize(("name", "way"), WAYS, ids=[f"{n}{w[0]}" for n, w in WAYS])
def test_many_runs_are_refused_before_the_first(
    train, tmp_path: Path, monkeypatch, name: str, way: tuple[str, ...]
):
    monkeypatch.chdir(tmp_path)
    arguments, said = BAD[name]
    tasks = () if "--tasks" in arguments else ("--tasks", "cls,reg")
    line = refused(train(tmp_path / "run", *tasks, *arguments), said)
    many = (*tasks, *arguments, *way)
    assert refused(train(tmp_path / "runs", *many), said) == line
    assert refused(train(tmp_path / "runs", *many, "--dry-run"), said) == line
    assert list(tmp_path.iterdir()) == []


def test_a_grid_looks_at_every_combination(train, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grid = ("--grid", "encoder.pooling=mean,first")
    refused(train(tmp_path / "runs", *grid), "`encoder.pooling` should be last or mean")
    refused(
        train(tmp_path / "runs", *grid, "--dry-run"), "`encoder.pooling` should be last or mean"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_files_is_refused_by_a_dry_run(train, tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("years of work")
    trained = train(tmp_path)  # which tells of the data before it claims the folder
    line = trained.stderr.splitlines()[-1]
    assert trained.exit_code == 1
    assert f"Found other files at {tmp_path}." in line
    assert refused(train(tmp_path, "--dry-run"), "should be new") == line
    assert refused(train(tmp_path, "--dry-run", "--overwrite"), "should be new") == line
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_experiment_looks_at_every_arm(train, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Of the arms only those with dendrites need the time to grow.
    few = ("--factorial", "--seeds", "1", "train.epochs=1", "train.validations_per_epoch=1")
    few += ("dendrites.grow_at=[0.5,0.6]",)
    said = "`dendrites.grow_at` should leave training between growths"
    line = refused(train(tmp_path / "out", "--tasks", "cls,reg", *few), said)
    assert refused(train(tmp_path / "out", "--tasks", "cls,reg", *few, "--dry-run"), said) == line
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_that_cannot_have_packed_rows(train, tmp_path: Path):
    encoder = tmp_path / "roberta"
    RobertaConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16,
    ).save_pretrained(encoder)  # fmt: skip
    arguments = ("--encoder", str(encoder), "encoder.lora.targets=[query]", "train.packing=true")
    line = refused(
        train(tmp_path / "run", *arguments), "roberta, which numbers its positions itself"
    )
    assert refused(train(tmp_path / "run", *arguments, "--dry-run"), "`train.packing`") == line
    assert list(tmp_path.iterdir()) == [encoder]


def experts(train, place: Path, data: Path, *more: str):
    arguments = ("--tasks", "cls,reg", "--experts", "news,forum", "--domain-column", "origin")
    return train(place / "run", *arguments, *more, data=data)


def test_a_domain_without_labels_to_select_by(train, domain_csv: Path, tmp_path: Path):
    lines = domain_csv.read_text().splitlines()
    kept = [line for line in lines if not line.endswith("forum,validation")]
    kept += [f"up up {i},up,,forum,validation" for i in range(3)]
    kept = [line.replace(",news,validation", ",news,test") for line in kept]
    kept += ["the company said so,,0.5,news,validation"]
    data = tmp_path / "data.csv"
    data.write_text("\n".join(kept) + "\n")
    said = "The validation rows of each domain should allow a figure to select its expert by"
    line = refused(experts(train, tmp_path, data), said)
    assert refused(experts(train, tmp_path, data, "--dry-run"), said) == line
    assert refused(experts(train, tmp_path, data, *GRID), said) == line
    assert refused(experts(train, tmp_path, data, *GRID, "--dry-run"), said) == line
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


def test_experts_in_several_processes(train, domain_csv: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(ranks, "several", lambda: True)
    said = "`experts` should train in one process. Found several."
    line = refused(experts(train, tmp_path, domain_csv), said)
    assert refused(experts(train, tmp_path, domain_csv, "--dry-run"), said) == line
    # A grid starts a process for each run, and is refused among several for that reason.
    refused(experts(train, tmp_path, domain_csv, *GRID), "should run as one process")
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_experts_that_can_train_still_shows_the_plan(
    train, domain_csv: Path, tmp_path: Path
):
    result = experts(train, tmp_path, domain_csv, "--dry-run")
    assert result.exit_code == 0, result.output
    assert yaml.safe_load(result.stdout)["experts"]["names"] == ["news", "forum"]
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_says_that_the_folder_is_taken(train, full_run: Path, tmp_path: Path):
    result = train(full_run, "--dry-run")
    assert result.exit_code == 0
    assert (
        f"# run folder: {full_run}; holds a run already, see --resume, --overwrite" in result.stdout
    )
    assert "holds a run" not in train(tmp_path / "new", "--dry-run").stdout
