"""What a run says of its texts and numbers, and where it finds its encoder, by the commands."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result


def evaluate(*arguments: object) -> Result:
    from evaluate import app

    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


@pytest.mark.slow
def test_texts_that_are_cut_are_told_and_recorded(train, tmp_path: Path):
    run = tmp_path / "run"
    result = train(run, "--tasks", "cls", "train.epochs=1", "encoder.max_length=4")
    assert result.exit_code == 0, result.output
    texts = json.loads((run / "metrics.json").read_text())["texts"]
    assert (texts["token_limit"], set(texts["cut"])) == (4, {"train", "validation", "test"})
    number = sum(texts["cut"].values())
    assert number > 0
    first = result.stderr.index(f"{number} of ")
    assert f"were cut at 4 tokens (train {texts['cut']['train']}, validation" in result.stderr
    assert first < result.stderr.index("epoch 1")
    assert result.stderr.count("texts were cut") == 1
    long = "profit rose sharply in the quarter"
    result = evaluate(run, "--text", long, "--text", "profit rose")
    assert result.stderr.startswith("1 of 2 texts was cut at 4 tokens; to use more of each, train")
    report = json.loads(evaluate(run, "--format", "json").stdout)
    assert any(f"{texts['cut']['test']} of " in note for note in report["notes"])


@pytest.mark.slow
def test_a_constant_added_to_the_scores_changes_no_r2(train, tmp_path: Path):
    words = ["profit rose", "sales fell", "costs up", "loss narrowed"]
    rows = [(f"{words[i % 4]} {'up ' * (i // 4)}", 45 * (i % 4)) for i in range(60)]
    found = []
    for name, constant in (("small", 0), ("seconds", 1_700_000_000)):
        data = tmp_path / f"{name}.csv"
        lines = [f"{text},{value + constant}" for text, value in rows]
        data.write_text("\n".join(["text,score", *lines]) + "\n")
        result = train(tmp_path / name, "--tasks", "reg", data=data)
        assert result.exit_code == 0, result.output
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())
        plain = metrics["baselines"]["test"]["reg"]["TF-IDF + ridge regression"]
        found.append([metrics["splits"]["test"]["reg"]["r2"], plain["r2"]])
    assert found[1] == pytest.approx(found[0], abs=1e-6)


@pytest.fixture
def moved(full_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run whose encoder is no longer where it was."""
    run = Path(shutil.copytree(full_run, tmp_path / "run"))
    settings = (run / "config.yaml").read_text()
    lines = settings.splitlines(keepends=True)
    place = lines.index("encoder:\n") + 1
    lines[place] = "  name: /gone/encoder\n"
    (run / "config.yaml").write_text("".join(lines))
    return run


def test_an_encoder_that_has_moved_is_named_and_found(moved: Path, full_run: Path, tiny_phi: Path):
    refused = evaluate(moved, "--text", "profit rose")
    assert refused.exit_code == 1
    assert "'/gone/encoder'" in refused.stderr
    assert "encoder.name=FOLDER of dao evaluate" in refused.stderr
    result = evaluate(moved, "--text", "profit rose", f"encoder.name={tiny_phi}")
    assert result.exit_code == 0, result.output
    assert result.stdout == evaluate(full_run, "--text", "profit rose").stdout
    expected = f"encoder: {tiny_phi}; the run was trained with /gone/encoder\n"
    assert result.stderr.startswith(expected)


def test_other_settings_of_a_finished_run_stay(full_run: Path):
    result = evaluate(full_run, "--text", "a", "encoder.pooling=mean")
    assert result.exit_code == 2
    assert "encoder.name=FOLDER" in result.output
