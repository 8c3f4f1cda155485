"""The page of one run, made of what the run has saved."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner, Result

from dao.learner.experiment.findings.runs import read_run
from dao.learner.experiment.pictures.prediction_figures import calibration
from dao.learner.kinds.parts.figures import Figure as Told
from dao.learner.run_page.beside import MODEL, Beside, beside_panels, mains, not_better
from dao.learner.run_page.page import run_page
from tests.cli.conftest import KINDS
from tests.experiment.test_report import CHROMIUM, Reader, check_in_a_browser, outside

pytestmark = pytest.mark.slow

ACCURACY = Told("accuracy", "Accuracy", "share")
MSE = Told("mse", "MSE", "score²", "lower")


def evaluate(*arguments: object) -> Result:
    from evaluate import app

    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture(scope="module")
def page(full_run: Path) -> str:
    """The page that the training wrote."""
    return (full_run / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def kinds_page(kinds_run: Path) -> str:
    return run_page(read_run(kinds_run, MODEL))


def test_training_writes_the_page_and_names_it(full_run: Path, kinds_run: Path):
    printed = (full_run.parent / "full.txt").read_text().replace("\n", "")
    assert f"page: {full_run}/report.html" in printed
    assert not (kinds_run / "report.html").exists()  # train.page=false
    assert "page:" not in (kinds_run.parent / "stdout").read_text()


def test_the_page_is_made_again_from_the_folder_alone(full_run: Path, tmp_path: Path, page: str):
    copy = shutil.copytree(full_run, tmp_path / "copy")
    for gone in ("report.html", "heads.safetensors", "data.json", "tasks.json"):
        (copy / gone).unlink()
    for gone in ("adapter", "tokenizer"):
        shutil.rmtree(copy / gone)
    result = evaluate(copy, "--format", "html")
    assert (result.exit_code, result.stdout) == (0, f"page: {copy}/report.html\n"), result.output
    assert (copy / "report.html").read_text(encoding="utf-8") == page


def test_the_first_sentence_has_the_figures_of_metrics_json(full_run: Path, page: str):
    metrics = json.loads((full_run / "metrics.json").read_text())
    test, plain = metrics["splits"]["test"], metrics["baselines"]["test"]
    best = max((own["accuracy"], name) for name, own in plain["cls"].items())
    least = min((own["mse"], name) for name, own in plain["reg"].items())
    rows = metrics["data"]["rows"]
    assert (
        f'<p class="answer">This model learned cls (classification) and reg (regression) from '
        f"{rows['train']} texts; on {rows['test']} test texts it reached cls Accuracy "
        f"{test['cls']['accuracy']:.4f} and reg MSE {test['reg']['mse']:.4f}, where the best plain "
        f"models reached {best[0]:.4f} ({best[1]}) and {least[0]:.4f} ({least[1]}).</p>"
    ) in page
    beaten = [test["cls"]["accuracy"] <= best[0], test["reg"]["mse"] >= least[0]]
    assert page.count('<p class="mark">This model did not beat ') == sum(beaten)
    words = [word.strip() for word in Reader(page).words]
    for task, keys in {"cls": ("accuracy", "macro_f1"), "reg": ("mse", "r2")}.items():
        assert {f"{test[task][key]:.4f}" for key in keys} <= set(words)


def test_the_page_fetches_nothing_and_has_words_for_every_picture(full_run: Path, page: str):
    assert outside(page) == []
    assert str(full_run) not in page
    tags = Reader(page).tags
    drawn = [about["aria-label"] for tag, about in tags if tag == "svg"]
    assert len(drawn) == len(set(drawn)) == 14
    ids = [about["id"] for _, about in tags if about.get("id")]
    assert len(ids) == len(set(ids))
    assert re.findall(r"<h2>(.*?)</h2>", page) == [
        "Training and validation", "Predictions", "Calibration", "Loss weights and gradient norms",
        "Settings and versions",
    ]  # fmt: skip


def test_growth_and_the_kept_model_are_marked(full_run: Path, kinds_page: str, page: str):
    metrics = json.loads((full_run / "metrics.json").read_text())
    (grown,), kept = (metrics["training"][key] for key in
                      ("restarted_after_steps", "selected_after_step"))  # fmt: skip
    assert f"Dendrites added: after step {grown}." in page
    assert f"Model kept: after step {kept}." in page
    assert "Model kept: after step" in kinds_page
    assert "Dendrites added" not in kinds_page


def test_the_calibration_is_that_of_the_predictions(full_run: Path, page: str):
    frame = read_run(full_run).predictions
    frame = frame[frame["cls_target"].notna()]
    share = np.array([row[f"cls_p_{row['cls']}"] for _, row in frame.iterrows()])
    right, place = (frame["cls"] == frame["cls_target"]).to_numpy(), np.ceil(share * 15)
    ece = sum(abs((right - share)[place == bin_].sum()) for bin_ in set(place)) / len(frame)
    assert f"Expected calibration error (ECE) on the test rows: cls {ece:.4f}." in page


def test_a_run_that_is_kept_without_logs_and_predictions_says_so(full_run: Path, tmp_path: Path):
    for name in ("config.yaml", "metrics.json", "validation.jsonl"):
        shutil.copy(full_run / name, tmp_path)
    text = run_page(read_run(tmp_path, MODEL))
    assert "Left out: the run is kept without predictions.csv." in text
    assert "Left out: no task has predictions with probabilities." in text
    assert "Validation: cls Accuracy" in text
    assert "Loss weights and gradient norms" not in text


def test_what_the_page_cannot_be_made_of_is_refused_in_one_line(full_run: Path, tmp_path: Path):
    (tmp_path / "config.yaml").write_text((full_run / "config.yaml").read_text())
    unfinished = evaluate(tmp_path, "--format", "html")
    assert unfinished.exit_code == 1
    assert "should be finished" in unfinished.stderr
    for name in ("metrics.json", "validation.jsonl", "history.jsonl", "predictions.csv"):
        shutil.copy(full_run / name, tmp_path)
    (tmp_path / "report.html").mkdir()
    closed = evaluate(tmp_path, "--format", "html")
    assert closed.exit_code == 1
    assert "report.html cannot be written" in closed.stderr
    (tmp_path / "history.jsonl").write_text("{")
    broken = evaluate(tmp_path, "--format", "html")
    assert broken.exit_code == 1
    assert "should hold history.jsonl" in broken.stderr


@pytest.mark.parametrize(
    "more", [("--data", "new.csv"), ("--benchmark",), ("--engine", "merged"), ("--device", "cpu"),
             ("--text", "a")],
)  # fmt: skip
def test_the_page_takes_the_run_alone(full_run: Path, more: tuple[str, ...]):
    result = evaluate(full_run, "--format", "html", *more)
    assert result.exit_code == 2
    assert "--format" in result.stderr


def test_a_comparison_is_no_page(full_run: Path):
    result = evaluate("compare", full_run, full_run, "--format", "html")
    assert result.exit_code == 2
    assert "--format terminal, markdown or json" in re.sub(r"[│\s]+", " ", result.stderr)


# -- beside plain models --------------------------------------------------------------------------


def test_as_good_is_not_better_and_nothing_to_compare_with_is_neither():
    def made(value, plain, figure=ACCURACY):
        return Beside("a", figure, value, plain, None)

    equal = made(0.5, {"majority class": 0.5, "TF-IDF": 0.4})
    assert not_better([equal]) == [
        "This model did not beat majority class, a plain model, on a: Accuracy 0.5000 against "
        "0.5000."
    ]
    assert not_better([made(0.6, equal.plain), made(0.6, {}), made(None, equal.plain)]) == []
    assert not_better([made(0.3, {"mean": 0.2}, MSE)])
    assert not not_better([made(0.1, {"mean": 0.2}, MSE)])


def test_the_model_stands_beside_the_others_on_one_axis():
    one = Beside("a", MSE, 0.3, {"mean predictor": 0.5}, 0.1)
    (panel,) = beside_panels([one])
    assert panel.alt == (
        "a MSE on the test rows, lower is better. this model 0.3000; mean predictor 0.5000; best "
        "reachable 0.1000."
    )
    axes = Figure().add_subplot()
    panel.draw(axes)
    assert [line.get_xdata()[0] for line in axes.lines] == [0.3, 0.5, 0.1]
    assert axes.get_xlabel() == "\N{LEFTWARDS ARROW} better"
    assert beside_panels([one._replace(value=None)]) == []


# -- every kind -----------------------------------------------------------------------------------


def test_each_kind_has_the_picture_of_its_view(kinds_run: Path, kinds_page: str):
    for told in (
        "Confusion matrix of urgent", "Confusion matrix of area", "F1 of the labels of tags",
        "Confusion matrix of stars", "Predicted against true score of amount",
    ):  # fmt: skip
        assert f'aria-label="{told}' in kinds_page, told
    reliable = re.findall(r'aria-label="(\w+): reliability', kinds_page)
    assert reliable == [name for name in KINDS if name != "amount"]
    found = mains(read_run(kinds_run))
    assert {each.task for each in found} == set(KINDS)
    above = sum(each.better for each in found) or "none"
    assert (
        "learned urgent (binary), area (classification), tags (multilabel), stars (ordinal) and "
        "amount (regression) from 100 texts; on 25 test texts it is better than the best plain "
        f"model in the main figure of {above} of 5 tasks.</p>"
    ) in kinds_page


def test_labels_are_calibrated_each_by_its_being_there_or_not(kinds_run: Path):
    run = read_run(kinds_run, MODEL)
    found, rows = calibration([run], "tags"), run.predictions
    rows = rows[rows["tags_target"].notna()]
    labels = [name.removeprefix("tags_p_") for name in rows if name.startswith("tags_p_")]
    surer, right = [], []
    for label in labels:
        true = np.array([label in cell.split(";") for cell in rows["tags_target"]])
        share = rows[f"tags_p_{label}"].to_numpy()
        said = share >= 0.5
        surer += np.where(said, share, 1 - share).tolist()
        right += (said == true).tolist()
    assert found.count.sum() == len(labels) * len(rows)
    assert (found.accuracy * found.count).sum() == pytest.approx(sum(right))
    assert (found.confidence * found.count).sum() == pytest.approx(sum(surer))
    assert 0 < sum(right) < len(right)


def test_the_errors_of_the_pictures_are_those_of_the_report(kinds_run: Path):
    run = read_run(kinds_run, MODEL)
    found = run.metrics["calibration"]["test"]
    tasks = [task for task in KINDS if "ece" in found[task]]
    assert len(tasks) >= 4
    for task in tasks:
        assert calibration([run], task).ece == pytest.approx(found[task]["ece"]["after"], abs=1e-6)


def test_curves_of_a_task_with_a_threshold_say_that_it_is_chosen_at_the_end(kinds_page: str):
    assert "the answer of urgent is the likelier class" in kinds_page


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_in_a_browser_the_page_of_five_kinds_fits(kinds_page: str, tmp_path: Path):
    (tmp_path / "report.html").write_text(kinds_page, encoding="utf-8")
    check_in_a_browser(tmp_path / "report.html", kinds_page.count("<svg role"))
