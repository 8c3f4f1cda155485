"""train.py leaves a complete, honest, repeatable record."""

import csv
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
BOTH = ("--tasks", "cls,reg", "--dao", "--dendrites", "dendrites.init_scale=0.1")


def read(folder: Path, name: str = "metrics.json") -> Any:
    return json.loads((folder / name).read_text())


def rows(folder: Path, name: str = "history.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def weights(folder: Path) -> dict[str, Any]:
    files = ("adapter/adapter_model.safetensors", "heads.safetensors", "dendrites.safetensors")
    present = [folder / name for name in files if (folder / name).exists()]
    return {f"{p.name}:{k}": v for p in present for k, v in load_file(p).items()}


def assert_same_weights(one: Path, other: Path) -> None:
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    assert all(a[name].equal(b[name]) for name in a)


def test_the_run_folder_is_complete(full_run: Path):
    expected = {
        "config.yaml", "history.jsonl", "validation.jsonl", "metrics.json", "predictions.csv",
        "dendrites.json", "tasks.json", "data.json", "README.md", "adapter", "heads.safetensors",
        "dendrites.safetensors", "tokenizer", "PAI", "calibration.json", "report.html",
    }  # fmt: skip
    assert {path.name for path in full_run.iterdir()} == expected
    assert (full_run / "PAI" / "PAI.png").stat().st_size > 1000
    assert not list(full_run.rglob("*.partial"))


def test_metrics_hold_every_figure_with_its_n_and_the_baselines(full_run: Path):
    metrics = read(full_run)
    for split, n in (("validation", 20), ("test", 20)):
        figures = metrics["splits"][split]
        assert figures["cls"]["n"] == figures["reg"]["n"] == n  # 25 rows, a fifth without a label
        for name in ("accuracy", "macro_f1", "weighted_f1", "confusion_matrix"):
            assert name in figures["cls"]
        for name in ("mse", "mae", "r2", "pearson", "cosine"):
            assert math.isfinite(figures["reg"][name])
    baselines = metrics["baselines"]["test"]
    assert set(metrics["baselines"]["validation"]) == {"cls", "reg"}
    assert set(baselines["cls"]) == {"majority class", "TF-IDF + logistic regression"}
    assert len(baselines["reg"]) == 2
    assert all(row["n"] == 20 for task in baselines.values() for row in task.values())


def test_the_saved_model_is_the_best_one_seen_in_training(full_run: Path):
    best = [row for row in rows(full_run, "validation.jsonl") if row["best"]][-1]
    found = read(full_run)["splits"]["validation"]
    for task, figures in best["metrics"].items():
        for name, value in figures.items():
            assert found[task][name] == value


@pytest.mark.slow
def test_dendrites_by_patience(train, tmp_path: Path):
    settings = ("dendrites.patience=1", "dendrites.max_sets=1", "train.validations_per_epoch=5")
    result = train(tmp_path / "run", *BOTH, *settings, "train.lr=0.05")
    assert result.exit_code == 0, result.output
    grown = [row for row in rows(tmp_path / "run", "validation.jsonl") if row["grown"]]
    report = read(tmp_path / "run", "dendrites.json")
    assert report["dendrites_added"] == len(grown) >= 1
    assert report["growth_steps"] == [row["step"] for row in grown]


def test_dendrites_were_added_and_trained(full_run: Path):
    report = read(full_run, "dendrites.json")
    assert report["modules_wrapped"] == 2 * 4 + 2  # lora_B of q, k, v, dense in two layers; heads
    assert report["dendrites_added"] == 1
    assert report["dendrites_kept"] == 1
    assert report["parameters_kept"] == report["parameters_added"] > 0
    assert report["received_gradient"] == report["modules_wrapped"]
    assert report["epochs_run"] == 2
    assert sum(row["grown"] for row in rows(full_run, "validation.jsonl")) == 1
    shares = read(full_run, "dendrites.json")["output_shares"]
    assert set(shares) == set(read(full_run, "dendrites.json")["module_names"])
    assert all(len(found) == 1 and 0 <= found[0] < 2 for found in shares.values())
    assert any(found[0] > 0 for found in shares.values())


def test_history_has_loss_weight_and_norm_of_every_task_at_every_step(full_run: Path):
    history = rows(full_run)
    assert [row["step"] for row in history] == list(range(1, 21))
    for row in history:
        for task in ("cls", "reg"):
            assert math.isfinite(row["tasks"][task]["loss"])
            assert row["tasks"][task]["norm"] > 0
        assert sum(t["weight"] for t in row["tasks"].values()) == pytest.approx(2)
    assert len({round(row["tasks"]["cls"]["weight"], 6) for row in history}) > 1


def test_predictions_agree_with_the_metrics(full_run: Path):
    with (full_run / "predictions.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 25
    known = [row for row in table if row["cls_target"]]
    accuracy = sum(row["cls"] == row["cls_target"] for row in known) / len(known)
    assert accuracy == pytest.approx(read(full_run)["splits"]["test"]["cls"]["accuracy"])


def test_the_printed_table_has_the_model_and_all_baselines(full_run: Path):
    text = (full_run.parent / "full.txt").read_text()
    for label in ("cls+reg-dao-dendrites (this model)", "majority class", "mean predictor",
                  "TF-IDF + logistic regression", "loss weights, first", "dendrites: 10 modules",
                  f"run folder: {full_run}"):  # fmt: skip
        assert label in text.replace("\n", " ")


def test_config_is_the_effective_one(full_run: Path):
    cfg = yaml.safe_load((full_run / "config.yaml").read_text())
    assert cfg["weighting"] == "dao"
    assert cfg["dendrites"]["init_scale"] == 0.1
    assert cfg["train"]["epochs"] == 2
    assert cfg["train"]["weight_decay"] == 0.01  # a default


def test_no_machine_path_in_the_adapter_or_the_card(full_run: Path, tiny_phi: Path):
    card = (full_run / "README.md").read_text()
    assert card.startswith("---\n")
    assert "model-index" in card
    adapter = read(full_run, "adapter/adapter_config.json")
    assert adapter["base_model_name_or_path"] == str(tiny_phi)  # as the user named it


# Fast enough to overshoot, so that a growth finds better weights to put back.
ARMS = (
    *BOTH, "dendrites.where=wrapped-lowrank", "train.lr=0.1", "train.warmup=0",
    "train.validations_per_epoch=4",
)  # fmt: skip


@pytest.fixture(scope="module")
def arms(train, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Control -> its run; `none` has dendrites."""
    found = {}
    for control in ("none", "sham", "restart", "capacity"):
        found[control] = tmp_path_factory.mktemp("arms") / control
        result = train(found[control], *ARMS, f"dendrites.control={control}")
        assert result.exit_code == 0, result.output
    return found


@pytest.mark.slow
def test_four_arms_see_the_same_batches_and_start_from_the_same_weights(train, full_run, tmp_path):
    arms = {"dao": ["--dao"], "dendrites": ["--dendrites", *BOTH[4:]], "plain": []}
    histories = {"both": rows(full_run)}
    for name, flags in arms.items():
        assert train(tmp_path / name, *flags, "train.epochs=1").exit_code == 0
        histories[name] = rows(tmp_path / name)
    histories["both"] = histories["both"][:10]
    assert len({tuple(row["batch"] for row in h) for h in histories.values()}) == 1
    assert len({h[0]["tasks"]["cls"]["loss"] for h in histories.values()}) == 1
    plain = {row["tasks"][t]["weight"] for row in histories["plain"] for t in ("cls", "reg")}
    assert plain == {1.0}


@pytest.mark.slow
@pytest.mark.parametrize("task", ["cls", "reg"])
def test_a_single_task_takes_the_same_path(train, tmp_path: Path, task: str):
    result = train(tmp_path / task, "--tasks", task, "--dao")
    assert result.exit_code == 0, result.output
    metrics = read(tmp_path / task)
    assert list(metrics["splits"]["test"]) == [task]
    assert {row["tasks"][task]["weight"] for row in rows(tmp_path / task)} == {1.0}


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["adapter", "frobenius"])
def test_norms_at_the_representation(train, tmp_path: Path, norm: str):
    settings = ("dao.source=rep", f"dao.rep_norm={norm}", "dao.refresh_every=1")
    result = train(tmp_path / "run", "--dao", *settings)
    assert result.exit_code == 0, result.output
    history = rows(tmp_path / "run")
    assert all(row["measured"] and row["tasks"]["cls"]["norm"] > 0 for row in history)
    assert len({row["tasks"]["cls"]["weight"] for row in history}) == len(history)


@pytest.mark.slow
def test_same_seed_same_figures_to_the_bit(train, full_run: Path, tmp_path: Path):
    assert train(tmp_path / "again", *BOTH).exit_code == 0
    first, again = read(full_run), read(tmp_path / "again")
    assert first["splits"] == again["splits"]
    assert first["baselines"] == again["baselines"]
    assert_same_weights(full_run, tmp_path / "again")
    assert train(tmp_path / "other", "--seed", "1", "train.epochs=1").exit_code == 0
    one, other = (rows(folder)[0] for folder in (full_run, tmp_path / "other"))
    assert one["batch"] != other["batch"]
    assert one["loss"] != other["loss"]


@pytest.mark.slow
@pytest.mark.parametrize("stop", [8, 13])  # between growth and best, after both
def test_a_run_broken_off_and_resumed_equals_one_that_was_not(
    train, full_run: Path, tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
):
    broken_off(train, tmp_path / "run", stop, monkeypatch, *BOTH)
    resumed(tmp_path / "run")
    assert read(tmp_path / "run")["splits"] == read(full_run)["splits"]
    assert_same_weights(full_run, tmp_path / "run")
    assert timeless(full_run) == timeless(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["capacity", "none"])
def test_other_arms_resume_exactly(
    train, arms: dict[str, Path], tmp_path: Path, arm: str, monkeypatch: pytest.MonkeyPatch
):
    """The sham is resumed in `test_growths_of.py`."""
    broken_off(train, tmp_path / "run", 13, monkeypatch, *ARMS, f"dendrites.control={arm}")
    resumed(tmp_path / "run")
    assert_same_weights(arms[arm], tmp_path / "run")
    assert timeless(arms[arm]) == timeless(tmp_path / "run")


def broken_off(
    train, folder: Path, stop: int, monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> None:
    from dao.learner.console.report import RichProgress

    class PowerCut(BaseException):
        pass

    def step(self: RichProgress, row: dict[str, Any], total: int) -> None:
        if row["step"] == stop:
            raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(RichProgress, "step", step)
        with pytest.raises(PowerCut):
            train(folder, *arguments, "train.checkpoint_every=3")
    assert not (folder / "metrics.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["famo", "torchjd:GradVac"])
def test_published_weightings_train_with_dendrites_and_resume_exactly(
    train, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    """That every weighting's state survives is looked at in `tests/learner/test_weighting.py`."""
    arguments = ("--weighting", name, "--dendrites")
    whole = train(tmp_path / "whole", *arguments)
    assert whole.exit_code == 0, whole.output
    history = rows(tmp_path / "whole")
    assert all(row["tasks"]["reg"]["weight"] is not None for row in history)
    broken_off(train, tmp_path / "run", 13, monkeypatch, *arguments)
    resumed(tmp_path / "run")
    assert_same_weights(tmp_path / "whole", tmp_path / "run")
    assert timeless(tmp_path / "whole") == timeless(tmp_path / "run")
    slug = name.replace(":", "_")
    assert read(tmp_path / "run")["arm"] == f"cls+reg-{slug}-dendrites"


def test_a_weighting_that_contradicts_dao_is_refused(train, tmp_path: Path):
    result = train(tmp_path / "run", "--dao", "--weighting", "uw")
    assert result.exit_code == 2
    assert "contradicts" in result.stderr
    assert train(tmp_path / "run", "--dao", "--weighting", "dao", "--dry-run").exit_code == 0


def timeless(folder: Path) -> list[dict[str, Any]]:
    measured = ("tokens_per_s", "memory_mib")
    return [{k: v for k, v in row.items() if k not in measured} for row in rows(folder)]


def resumed(folder: Path) -> None:
    from typer.testing import CliRunner

    from train import app

    result = CliRunner().invoke(app, ["--resume", str(folder)])
    assert result.exit_code == 0, result.output


@pytest.mark.slow
def test_sigkill_in_the_middle_and_resume(full_run: Path, warm_python: str, tmp_path: Path):
    program = str(ROOT / "train.py")
    folder = tmp_path / "killed"
    same = ["--config", str(full_run / "config.yaml"), "--output", str(folder)]
    process = subprocess.Popen([warm_python, program, *same, "train.checkpoint_every=1"])
    history = folder / "history.jsonl"
    while process.poll() is None and not (
        history.exists() and len(history.read_text().splitlines()) >= 12
    ):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    again = [warm_python, program, "--resume", str(folder)]
    subprocess.run(again, check=True, stdin=subprocess.DEVNULL)
    assert read(folder)["splits"] == read(full_run)["splits"]
    assert_same_weights(full_run, folder)


def test_help_is_quick_because_it_imports_nothing_heavy():
    for script in ("train.py", "evaluate.py"):
        code = (
            f"import runpy, sys; sys.argv = [{script!r}, '--help']\n"
            f"try: runpy.run_path({script!r}, run_name='__main__')\n"
            "except SystemExit as end: assert end.code == 0\n"
            "assert not {'torch', 'transformers', 'pandas', 'pydantic'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


def test_dry_run_shows_everything_and_writes_nothing(train, tmp_path: Path):
    result = train(tmp_path / "run", "--dry-run", "train.lr=1e-4")
    assert result.exit_code == 0
    assert "lr: 0.0001" in result.stdout
    assert "# encoder:" in result.stdout
    assert '"train": 100' in result.stdout
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_nothing_asks_the_network(train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[object] = []

    def refuse(*arguments: object, **_: object) -> None:
        asked.append(arguments)
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    result = train(tmp_path / "run", *BOTH, "--encoder", "all-MiniLM-L6-v2", "train.epochs=1")
    assert result.exit_code == 0, result.output
    assert asked == []
    # By this id peft finds the base on another machine.
    adapter = json.loads((tmp_path / "run" / "adapter" / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == "sentence-transformers/all-MiniLM-L6-v2"
    card = (tmp_path / "run" / "README.md").read_text()
    assert "base_model: sentence-transformers/all-MiniLM-L6-v2\n" in card


@pytest.mark.slow
def test_packing_and_token_budgets_train_the_same_model(train, tmp_path: Path):
    settings = ("--dao", "train.batch_tokens=100", "train.epochs=1", "encoder.precision=fp32")
    kept = tmp_path / "cache"
    plain = train(tmp_path / "plain", *settings, f"cache={kept}")
    assert plain.exit_code == 0, plain.output
    assert len(list((kept / "tokens").iterdir())) == 3  # training, validation, test
    closed = tmp_path / "a-file"
    closed.write_text("")
    packed = train(tmp_path / "packed", *settings, "train.packing=true", f"cache={closed}")
    assert packed.exit_code == 0, packed.output
    assert packed.stderr.count("token ids are not cached") == 1
    one, other = rows(tmp_path / "plain"), rows(tmp_path / "packed")
    assert [row["batch"] for row in one] == [row["batch"] for row in other]
    assert [row["tokens"] for row in one] == [row["tokens"] for row in other]
    assert len({row["rows"] for row in one}) > 1
    losses = [[row["loss"] for row in history] for history in (one, other)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.slow
def test_control_arms_differ_in_the_dendrites_alone(arms: dict[str, Path]):
    from typer.testing import CliRunner

    from evaluate import app

    order = {c: [row["batch"] for row in rows(folder)] for c, folder in arms.items()}
    rates = {c: [row["lr"] for row in rows(folder)] for c, folder in arms.items()}
    growths = {
        c: [row["step"] for row in rows(folder, "validation.jsonl") if row["grown"]]
        for c, folder in arms.items()
    }
    for control in arms:
        assert order[control] == order["none"]
        assert rates[control] == rates["none"]
        assert growths[control] == growths["none"] != []
    growth = next(row for row in rows(arms["restart"], "validation.jsonl") if row["grown"])
    assert not growth["best"]
    restarts = read(arms["restart"])["training"]["restarted_after_steps"]
    assert restarts == growths["none"]
    # Untrained dendrites are no dendrites: the same weights to the bit.
    assert_same_weights(arms["sham"], arms["restart"])
    assert read(arms["sham"], "dendrites.json")["output_shares"] == {}
    assert not (arms["restart"] / "dendrites.json").exists()
    trainable = {c: read(folder)["parameters"]["trainable"] for c, folder in arms.items()}
    added = read(arms["none"], "dendrites.json")["parameters_added"]
    assert trainable["capacity"] >= trainable["none"] + added
    for folder in (arms["none"], arms["capacity"]):
        again = CliRunner().invoke(app, [str(folder), "--format", "json"])
        assert again.exit_code == 0, again.output
        assert json.loads(again.stdout)["splits"]["test"] == read(folder)["splits"]["test"]
