"""The presets of the systems that this project carries on from, whole, on a tiny Phi."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from dao.learner.experiment.grid.factorial import factorial_cells
from dao.learner.experiment.grid.runner import conclude
from dao.learner.pipeline.start import train
from dao.learner.settings.config import load_config
from tests.conftest import no_pictures
from train import app

ROOT = Path(__file__).parents[2]
PAPER = ("reg", "cls", "base", "dao", "dao-paper")
PNG = b"\x89PNG\r\n\x1a\n"


def experiment(preset: str, arms: tuple[str, ...], output: Path, *overrides: str) -> Path:
    """What `train.py --factorial --arms` makes of a preset with one seed, in this process."""
    settings = [f"output={output}", "encoder.max_length=32", "train.lr=0.01", *overrides]
    shared = load_config(ROOT / "configs" / preset, settings)
    for cell in factorial_cells(shared, 1, arms=arms):
        train(cell.cfg)
    conclude(output, arms)
    return output


@pytest.fixture(scope="module")
def sentences(tiny_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Financial PhraseBank's own form: a sentence, @ and its class on each line, in Latin-1."""
    rows = pd.read_csv(tiny_csv).dropna(subset="label")
    lines = [f"{text} ({i} \xa3)@{label}" for i, (text, label) in
             enumerate(zip(rows["text"], rows["label"], strict=True))]  # fmt: skip
    path = tmp_path_factory.mktemp("fpb") / "Sentences_AllAgree.txt"
    path.write_text("\n".join(lines) + "\n", encoding="latin-1")
    return path


@pytest.fixture(scope="module")
def phi2(tiny_phi: Path, sentences: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return experiment(
        "perforated-phi2.yaml", ("base", "dendrites"), tmp_path_factory.mktemp("phi2") / "out",
        f"encoder.name={tiny_phi}", f"data.sources={sentences}", "train.epochs=2",
    )  # fmt: skip


@pytest.mark.slow
def test_perforated_phi2(phi2: Path):
    settings = load_config(phi2 / "base" / "seed=0" / "config.yaml")
    assert settings.encoder.quantize == "nf4"
    metrics = json.loads((phi2 / "dendrites" / "seed=0" / "metrics.json").read_text())
    assert metrics["dendrites"]["received_gradient"] > 0
    total = sum(metrics["data"]["rows"].values())
    shares = {split: rows / total for split, rows in metrics["data"]["rows"].items()}
    assert shares == pytest.approx({"train": 0.7, "validation": 0.15, "test": 0.15}, abs=0.02)
    state = json.loads((phi2 / "base" / "seed=0" / "tasks.json").read_text())
    assert state["cls"]["class_weights"] is not None
    rows = list(csv.DictReader((phi2 / "Results.csv").open()))
    assert [row["arm"] for row in rows] == ["base", "dendrites"]
    figures = ("cls.accuracy", "cls.macro_f1", "latency_ms")
    assert all(float(row[name]) > 0 for row in rows for name in figures)
    assert int(rows[1]["dendrite_parameters"]) > 0
    pictures = ("Accuracy_Improvement.png", "Dendrite_vs_Baseline_Training.png", "PAI/PAI.png")
    assert all((phi2 / name).read_bytes().startswith(PNG) for name in pictures)
    drawn = phi2 / "dendrites" / "seed=0" / "PAI" / "PAI.png"
    assert drawn.read_bytes() == (phi2 / "PAI" / "PAI.png").read_bytes()
    assert "dendrites - base" in (phi2 / "report.md").read_text()


@pytest.mark.slow
def test_the_constrained_variant(tiny_phi: Path, sentences: Path, tmp_path: Path):
    few = tmp_path / "few.txt"
    lines = sentences.read_text(encoding="latin-1").splitlines(keepends=True)
    few.write_text("".join(lines[:24]), encoding="latin-1")
    with no_pictures():
        output = experiment(
            "perforated-phi2.yaml", ("base", "dendrites"), tmp_path / "out",
            f"encoder.name={tiny_phi}", f"data.sources={few}", "dendrites.graph=false",
            "train.epochs=2", "train.batch_size=1", "train.lr=1e-5",
        )  # fmt: skip
    found = json.loads((output / "findings.json").read_text())["arms"]
    both = [json.loads((output / arm / "seed=0" / "data.json").read_text()) for arm in found]
    assert both[0] == both[1]
    assert found["base"]["steps"] == found["dendrites"]["steps"] == 2 * both[0]["rows"]["train"]


@pytest.mark.parametrize("more", [(), ("--factorial", "--arms", "base,dendrites")])
def test_without_the_weights_it_says_what_to_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_csv: Path, more: tuple[str, ...]
):
    monkeypatch.setattr("dao.learner.encoder.load.AutoConfig.from_pretrained", offline)
    monkeypatch.setattr("dao.learner.encoder.load.AutoModel.from_pretrained", offline)
    monkeypatch.setattr("dao.learner.encoder.load.AutoTokenizer.from_pretrained", offline)
    config = str(ROOT / "configs" / "perforated-phi2.yaml")
    arguments = ["--config", config, "--data", str(tiny_csv), "--output", str(tmp_path / "run")]
    result = CliRunner().invoke(app, [*arguments, *more])
    assert result.exit_code == 1
    (line,) = [one for one in result.stderr.splitlines() if one.startswith("error:")]
    assert "from huggingface.co/microsoft/phi-2 elsewhere and give it with --encoder FOLDER" in line
    assert not more or not (tmp_path / "run").exists()


@pytest.mark.slow
def test_giant_killer_without_a_hub_makes_its_own_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_csv: Path
):
    monkeypatch.setattr("dao.learner.encoder.scratch._out_of_reach", lambda name: "no network")
    small = ("layers=1", "width=16", "intermediate=32", "vocabulary=300", "pretrain_epochs=1")
    arguments = [
        *("--config", str(ROOT / "configs" / "giant-killer.yaml"), "--data", str(tiny_csv)),
        *("--output", str(tmp_path / "run"), f"cache={tmp_path / 'cache'}", "train.epochs=1"),
        *(f"encoder.scratch.{setting}" for setting in small),
    ]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    told = " ".join(result.stderr.split())
    assert "1 epoch of masked language modelling on the training texts" in told
    assert "prajjwal1/bert-tiny could not be had" in told
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    made = metrics["provenance"]["scratch"]
    assert (made["texts"], len(made["pretraining_losses"])) == (80, 1)
    assert 5 < made["vocabulary"] <= 300
    assert 0 <= metrics["splits"]["test"]["cls"]["rare_f1"] <= 1
    assert (tmp_path / "run" / "encoder" / "model.safetensors").exists()


def offline(*_: object, **__: object) -> None:
    raise OSError("We couldn't connect to the hub.")


@pytest.fixture(scope="module")
def paper(tiny_phi: Path, tiny_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = pd.read_csv(tiny_csv).drop(columns="label")
    path = tmp_path_factory.mktemp("scores") / "scores.csv"
    rows.to_csv(path, index=False)
    with no_pictures():
        return experiment(
            "dao-paper.yaml", PAPER, tmp_path_factory.mktemp("paper") / "out", "train.epochs=2",
            f"encoder.name={tiny_phi}", f"data.sources={path}", "encoder.lora.last_layers=1",
        )  # fmt: skip


@pytest.mark.slow
def test_the_papers_arms(paper: Path):
    found = json.loads((paper / "findings.json").read_text())
    assert found["design"] == ["base", "dao", "cls", "reg", "dao-paper"]
    assert {c["name"] for c in found["relative"]} >= {"dao-paper - reg alone", "dao - base"}
    report = (paper / "report.md").read_text()
    assert "## Relative changes" in report
    sums = {}
    for arm in ("dao", "dao-paper"):
        lines = (paper / arm / "seed=0" / "history.jsonl").read_text().splitlines()
        weights = [sum(t["weight"] for t in json.loads(x)["tasks"].values()) for x in lines]
        sums[arm] = (min(weights), max(weights))
    assert sums["dao"] == pytest.approx((2, 2))
    assert sums["dao-paper"] == pytest.approx((1, 1))
    states = [json.loads((paper / a / "seed=0" / "tasks.json").read_text())["cls"] for a in
              ("base", "cls", "dao-paper")]  # fmt: skip
    assert states[0]["classes"] == ["low", "middle", "high"]
    for state in states:
        state.pop("temperature", None)  # which is of the model, and so of the arm
    assert states[0] == states[1] == states[2]


@pytest.mark.slow
@pytest.mark.parametrize(("arm", "figures"), [("base", "cls n=3, reg n=3"), ("cls", "cls n=3")])
def test_new_data_get_their_classes_from_their_scores(paper, tmp_path, capsys, arm, figures):
    from evaluate import app

    new = tmp_path / "new.csv"
    new.write_text("text,score,label\nprofit rose,0.9,x\nprofit fell,-0.9,x\nup,0.3,x\ndown,,x\n")
    result = CliRunner().invoke(app, [str(paper / arm / "seed=0"), "--data", str(new)])
    assert result.exit_code == 0, result.output
    assert f"new.csv ({figures})" in result.stdout
    empty = tmp_path / "empty.csv"
    empty.write_text("text,label\nprofit rose,low\n")
    result = CliRunner().invoke(app, [str(paper / arm / "seed=0"), "--data", str(empty)])
    assert result.exit_code == 1
    assert "`score` should be a column of" in result.stderr


def test_arms_are_chosen_on_the_command_line(tiny_phi: Path, tiny_csv: Path, tmp_path: Path):
    arguments = [
        *("--config", str(ROOT / "configs" / "dao-paper.yaml"), "--factorial", "--dry-run"),
        *("--arms", "base, dao-paper", "--seeds", "1", "--encoder", str(tiny_phi)),
        *("--data", str(tiny_csv), "--output", str(tmp_path / "out"), "encoder.lora.last_layers=1"),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "2 of 2 runs to do" in result.stdout
    assert "# dao-paper: tasks=[cls,reg] weighting=dao" in result.stdout
    assert "dao.max_ratio=none" in result.stdout
    assert "column `label` is not used" in result.stdout or '"unused": ["label"]' in result.stdout
    assert "sham" not in result.stdout.split("name:")[0]
