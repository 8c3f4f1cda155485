"""The report of an experiment, from run folders made by hand."""

import csv
import io
import json
import re
import shutil
import struct
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure

from dao.learner.calibration.reliability import reliability
from dao.learner.experiment.findings.runs import read_runs
from dao.learner.experiment.pages.colours import DARK, LIGHT, contrast, readable, themed
from dao.learner.experiment.pages.page import PageTable, Section, Text, html, markdown
from dao.learner.experiment.pictures.effect_figures import (
    cost_panels,
    effect_panels,
    improvement_panels,
    improvements,
)
from dao.learner.experiment.pictures.figures import COLOURS, INK, Panel, png, svg
from dao.learner.experiment.pictures.prediction_figures import (
    calibration,
    calibration_panel,
    confusion_panel,
    score_panel,
)
from dao.learner.experiment.pictures.training_figures import (
    dao_panels,
    loss_panels,
    validation_panels,
)
from dao.learner.experiment.report import report
from dao.learner.experiment.report.provenance import without_folders
from dao.learner.experiment.report.report import write_report
from dao.learner.experiment.report.results_csv import results_csv
from dao.learner.experiment.report.tables import effects_table, number, sentences
from dao.learner.experiment.report.terminal import print_report

pytestmark = pytest.mark.slow

METRICS = {
    "selection": {
        "task": None, "key": "selection", "label": "Selection score", "unit": "score",
        "better": "higher", "family": "primary", "main": True,
    },
    "cls.accuracy": {
        "task": "cls", "key": "accuracy", "label": "cls Accuracy", "unit": "share",
        "better": "higher", "family": "secondary", "main": True,
    },
    "reg.mse": {
        "task": "reg", "key": "mse", "label": "reg MSE", "unit": "score²",
        "better": "lower", "family": "secondary", "main": True,
    },
}  # fmt: skip
SHOWN = {
    "cls": [["accuracy", "↑"]],
    "reg": [["mse", "↓"]],
}  # fmt: skip
NASTY = '<img src=x onerror="alert(1)">'
CLASSES = ("down", "$up", NASTY)
DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
NOTHING_FOUND = "no significant difference"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)


def fabricate(folder: Path, arm: str, seed: int, accuracy: float, mse: float) -> None:
    """A finished run of four steps with a growth after the second."""
    run = folder / arm / f"seed={seed}"
    run.mkdir(parents=True)
    tasks = {"cls": ["cls"], "reg": ["reg"]}.get(arm, ["cls", "reg"])
    dendrites = {"dendrites_kept": 1, "parameters_added": 500} if "dendrites" in arm else None
    metrics = {
        "headline": {task: SHOWN[task] for task in tasks},
        "dendrites": dendrites,
        "data": {
            "fingerprint": "f1f2",
            "sources": [{"source": "/home/someone/rows.csv", "sha256": "abc123"}],
            "rows": {"train": 80, "test": 4},
        },
        "provenance": {
            "python": "3.11.7", "device": "x86_64", "threads": 1, "packages": {"torch": "2.13.0"},
            "git": {"commit": "0123abcd", "dirty": False},
            "encoder": {"name": "tiny", "origin": "/home/someone/tiny"},
        },
    }  # fmt: skip
    settings = {
        "tasks": tasks, "weighting": "dao" if "dao" in arm else "equal", "seed": seed,
        "output": str(run), "train": {"lr": 0.0015},
        "data": {"sources": ["/home/someone/rows.csv"]},
    }  # fmt: skip
    lines = [
        {"step": s, "memory_mib": 700.0 + s,
         "tasks": {t: {"loss": 1.0 / s, "weight": 1.0 + 0.1 * s, "norm": 0.2} for t in tasks}}
        for s in (1, 2, 3, 4)
    ]  # fmt: skip
    figures = {"cls": {"accuracy": accuracy}, "reg": {"mse": mse}}
    validations = [
        {"step": s, "grown": s == 2, "score": accuracy, "metrics": {t: figures[t] for t in tasks}}
        for s in (2, 4)
    ]
    (run / "metrics.json").write_text(json.dumps(metrics))
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    for name, rows in (("history", lines), ("validation", validations)):
        (run / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    predict(run, tasks)
    if arm == "dendrites":
        (run / "PAI").mkdir()
        (run / "PAI" / "PAI.png").write_bytes(png([panel_of_a_line()]))


def predict(run: Path, tasks: list[str]) -> None:
    """Three of four classes right; the last row has no score."""
    head = ["id", "text"]
    rows = [["a", "=1+1"], ["b", "x"], ["c", "x"], ["d", "x"]]
    if "cls" in tasks:
        head += ["cls_target", "cls", *(f"cls_p_{name}" for name in CLASSES)]
        down, up, nasty = CLASSES
        rows[0] += [down, down, 0.8, 0.1, 0.1]
        rows[1] += [up, up, 0.2, 0.6, 0.2]
        rows[2] += [nasty, nasty, 0.1, 0.1, 0.8]
        rows[3] += [nasty, down, 0.6, 0.2, 0.2]
    if "reg" in tasks:
        head += ["reg_target", "reg"]
        for row, pair in zip(rows, ((0.5, 0.4), (-0.5, -0.1), (0.0, 0.1), ("", 0.3)), strict=True):
            row += pair
    with (run / "predictions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])


def panel_of_a_line() -> Panel:
    return Panel(lambda axes: axes.plot([0, 1], [0, 1], label="line"), "A line.")


def effect(metric: str, name: str, mean: float, **rest) -> dict:
    return {
        "metric": metric, "name": name, "formula": name, "n": 3, "mean": mean, "sd": 0.01,
        "t95": [mean - 0.03, mean + 0.03], "bca95": [mean - 0.01, mean + 0.01],
        "p_permutation": 0.25, "p_t": 0.2, "p_holm": 0.61, "detectable": 0.0214,
        "significant": False, "verdict": NOTHING_FOUND, **rest,
    }  # fmt: skip


VALUES = {
    "base": ([0.70, 0.72, 0.71], [0.10, 0.11, 0.12]),
    "dao": ([0.71, 0.74, 0.74], [0.09, 0.10, 0.11]),
    "dendrites": ([0.70, 0.72, 0.72], [0.10, 0.12, 0.11]),
    "dao+dendrites": ([0.72, 0.73, 0.74], [0.10, 0.10, 0.10]),
    "sham": ([0.70, 0.72, 0.71], [0.10, 0.11, 0.12]),
    "capacity": ([0.71, 0.71, 0.71], [0.12, 0.11, 0.11]),
    "cls": ([0.69, 0.70, 0.71], None),
    "reg": (None, [0.13, 0.12, 0.11]),
}


def make(folder: Path, arms: list[str], metrics: dict, seeds: int = 3) -> dict:
    content = {}
    for arm in arms:
        accuracy, mse = VALUES[arm]
        score = accuracy if arm not in ("cls", "reg") else None
        values = {"selection": score, "cls.accuracy": accuracy, "reg.mse": mse}
        known = {m: values[m][:seeds] for m in metrics if values[m]}
        content[arm] = {
            "values": {m: {str(s): v for s, v in enumerate(known.get(m, []))} for m in metrics},
            "mean": {m: float(np.mean(v)) for m, v in known.items()},
            "t95": {m: [min(v) - 0.01, max(v) + 0.01] for m, v in known.items()},
            "parameters": 1500 if "dendrites" in arm else 1000,
            "seconds": {str(s): 10.0 + s for s in range(seeds)},
            "dendrites_kept": {str(s): int("dendrites" in arm) for s in range(seeds)},
        }
        for seed in range(seeds):
            fabricate(folder, arm, seed, (accuracy or mse)[seed], (mse or accuracy)[seed])
    # As many digits as there ever are: the widest that the table gets.
    tiny = {"t95": [-0.000075, -0.000021], "bca95": [-0.000039, 0.0000098], "detectable": 0.000035}
    effects = [
        effect(
            "selection", "DAO", 0.0167, p_holm=0.012, significant=True, verdict="higher (better)"
        ),
        effect("selection", "interaction", -0.00042),
        effect("cls.accuracy", "DAO", 0.0211),
        effect("cls.accuracy", "dendrites - sham", 0.0033),
        effect("reg.mse", "DAO", -0.00042),
        effect("reg.mse", "dendrites - capacity", -0.000048, **tiny),
    ]
    return {
        "name": f"finance {NASTY}",
        "folder_arms": arms,
        "design": list(VALUES),
        "tasks": [about["task"] for about in metrics.values() if about["task"]],
        "views": {"cls": "confusion", "reg": "scatter"},
        "seeds": list(range(seeds)),
        "metrics": metrics,
        "baselines": {
            "majority class": {"cls.accuracy": 0.44},
            "mean predictor": {"reg.mse": 0.1242},
            "TF-IDF + logistic regression": {"cls.accuracy": 0.7448},
        },
        "arms": content,
        "effects": [e for e in effects if e["metric"] in metrics],
        "per_example": [
            {"metric": "cls.accuracy", "a": "dao", "b": "base", "test": "McNemar", "n": 12,
             "estimate": 0.0167, "interval95": None, "p": 0.00004, "p_holm": 0.5,
             "verdict": NOTHING_FOUND}
        ],
        "method": ["About the t test."],
        "notes": ["dao: no finished run of seed 9"],
    }  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("experiment")
    findings = make(folder, list(VALUES), METRICS)
    findings["metrics"] = {
        **METRICS,
        "reg.r2": {**METRICS["reg.mse"], "label": "R2", "main": False},
    }  # nobody's figure
    findings["best_reachable"] = {"cls.accuracy": 0.9667}
    with pytest.MonkeyPatch.context() as patch:
        # The page has all panels; a file of all of them has them drawn once more.
        patch.setattr(report, "png", lambda panels: png(panels[:1]))
        write_report(folder, findings)
    findings["metrics"] = METRICS
    return folder, findings


@pytest.fixture(scope="module")
def page(whole) -> str:
    return (whole[0] / "report.html").read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Tags with their attributes, and the text that a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


# -- the page -------------------------------------------------------------------------------------


def outside(text: str) -> list[str]:
    """What a page would fetch or run."""
    reader = Reader(text)
    found = [tag for tag, _ in reader.tags if tag in {"script", "iframe", "object", "embed"}]
    for tag, attributes in reader.tags:
        for key, value in attributes.items():
            local = (value or "").startswith(("#", "data:"))
            if key in {"src", "href", "xlink:href", "srcset", "action"} and not local:
                found.append(f"{tag} {key}={value}")
            if key.startswith("on"):
                found.append(f"{tag} {key}")
    return found + re.findall(r"@import|url\((?!#|['\"]?data:)", text)


def test_the_page_refers_to_nothing_outside_it(page):
    assert outside(page) == []
    assert "http:" not in page
    assert "https:" not in page


@pytest.mark.parametrize(
    "text",
    [
        '<img src="http://example.org/a.png">',
        "<script>1</script>",
        '<link href="style.css">',
        "<style>@import 'a.css'</style>",
        '<p style="background: url(a.png)">',
        '<img src="data:," onerror="1">',
    ],
)
def test_the_check_for_outside_references_can_fail(text):
    assert outside(text)


def test_sections_come_in_the_order_of_a_readers_questions(page):
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == [
        "Arms", "Effects and contrasts", "Effects in pictures", "Per-example tests",
        "Training and validation", "Confusion matrix", "Predicted and true score", "Calibration",
        "What DAO did", "Improvement over base", "Quality and cost",
        "perforatedai&#x27;s own graph", "Provenance",
    ]  # fmt: skip


def test_every_figure_has_words_for_those_who_do_not_see_it(page):
    tags = Reader(page).tags
    drawn = [attributes for tag, attributes in tags if tag == "svg"]
    # 3 differences, 3 effects, 3 improvements, 2 losses, 3 validations, 4 of DAO, 2 confusions, 2
    # scatters, 1 calibration, 3 costs.
    assert len(drawn) == 26
    assert all(a["role"] == "img" and len(a["aria-label"]) > 20 for a in drawn)
    assert [a["alt"] for tag, a in tags if tag == "img"] == [
        "Validation scores and switches over the run, drawn by perforatedai."
    ]


def test_ids_are_unique_and_every_reference_has_its_target(page):
    ids = [a["id"] for _, a in Reader(page).tags if a.get("id")]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', page)) <= set(ids)


def test_themes_and_narrow_screens_are_provided_for(page):
    assert "prefers-color-scheme: dark" in page
    assert 'content="width=device-width' in page
    assert INK not in page.split("</style>")[1]


def test_numbers_and_verdicts_stand_in_the_page(page):
    words = " ".join(Reader(page).words)
    for expected in (
        "Of 2 effects and contrasts tested on Selection score over 3 seeds, 1 is significant",
        f"DAO, Selection score: higher (better); +0.0167, 95 % t interval {MINUS}0.0133 to "
        "+0.0467, Holm p 0.012, detectable 0.0214.",
        f"interaction, Selection score: no significant difference; {MINUS}0.00042",
        "0.7100 [0.6900 to 0.7300]",  # base
        "cls Accuracy of base 0.7100; beside it majority class 0.4400",
        "reg MSE of base 0.1100; beside it mean predictor 0.1242.",
        "TF-IDF + logistic regression 0.7448",
        "< 0.001",
        "sha256 of rows.csv",
        "0123abcd",
        "1,500",  # parameters trained with dendrites
        "best reachable (noise of known size) 0.9667",
        "dao: no finished run of seed 9.",
        "About the t test.",
    ):
        assert expected in words
    assert words.count(NOTHING_FOUND) >= 4
    assert "/home/" not in page


def test_data_cannot_become_markup(page):
    assert "<img src=x" not in page
    assert page.count("&lt;img src=x") >= 3  # title, heading, classes


# -- the other files ------------------------------------------------------------------------------


def test_pictures_are_whole_png_files(whole):
    folder, _ = whole
    names = ["Accuracy_Improvement.png", "Dendrite_vs_Baseline_Training.png", "PAI/PAI.png"]
    names += [f"figures/{n}.png" for n in ("effects", "dao", "confusion", "scores", "cost")]
    for name in names:
        content = (folder / name).read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        assert content.rstrip().endswith(b"IEND\xaeB`\x82")
        assert min(struct.unpack(">II", content[16:24])) > 200
    graph = folder / "dendrites" / "seed=0" / "PAI" / "PAI.png"
    assert (folder / "PAI/PAI.png").read_bytes() == graph.read_bytes()


def test_markdown_says_the_same_and_its_pictures_exist(whole):
    folder, _ = whole
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "<img" not in text
    assert "/home/" not in text
    assert "| dendrites - sham | 3 | +0.0033 |" in text
    assert text.count(NOTHING_FOUND) >= 4
    pictures = re.findall(r"(?<!\\)\]\(([^)]+)\)", text)
    assert len(pictures) == 10
    assert all((folder / name).is_file() for name in pictures)


def test_results_have_a_row_per_arm_and_seed(whole):
    rows = list(csv.DictReader((whole[0] / "Results.csv").read_text().splitlines()))
    assert len(rows) == 8 * 3
    dendrites = next(r for r in rows if r["arm"] == "dendrites" and r["seed"] == "1")
    assert dendrites == {
        "arm": "dendrites", "seed": "1", "selection": "0.72", "cls.accuracy": "0.72",
        "reg.mse": "0.12",
        "trained_parameters": "1500", "dendrite_parameters": "500", "seconds": "11.0",
        "dendrites_kept": "1",
    }  # fmt: skip
    assert next(r for r in rows if r["arm"] == "cls")["reg.mse"] == ""


def test_only_text_is_kept_from_being_a_formula():
    arm = {"values": {"r2": {"0": -0.25}}, "parameters": 7, "seconds": {}, "latency_ms": 1.5}
    found = results_csv({"seeds": [0], "metrics": {"r2": {}}, "arms": {"=1+1": arm}}, {})
    head, row = csv.reader(io.StringIO(found))
    assert row[:3] == ["'=1+1", "0", "-0.25"]
    assert row[head.index("latency_ms")] == "1.5"


def test_a_terminal_shows_the_headline_and_its_effects(whole, capsys):
    folder, findings = whole
    print_report(folder, findings)
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.replace("│", " ").splitlines()]
    for row in (
        f"DAO +0.0167 {MINUS}0.0133 to +0.0467 0.012 0.0214 higher (better)",
        f"dendrites - sham +0.0033 {MINUS}0.0267 to +0.0333 0.610 0.0214 {NOTHING_FOUND}",
        "Selection score (score, higher is better), primary family",
        "cls Accuracy (share, higher is better), secondary family",
    ):
        assert row.split() in lines
    for line in (
        "Of 2 effects and contrasts tested on Selection score over 3 seeds, 1 is significant",
        "cls Accuracy of base 0.7100; beside it majority class 0.4400",
        "dao: no finished run of seed 9.",
        f"report: {folder}/report.html",
    ):
        assert line in shown


# -- parts that are missing -----------------------------------------------------------------------


@pytest.mark.usefixtures("sketched_pictures")
def test_a_report_of_two_arms_and_one_task_names_what_it_lacks(tmp_path):
    only = {"reg.mse": METRICS["reg.mse"]}
    findings = make(tmp_path, ["base", "dao"], only, seeds=2)
    del findings["arms"]["dao"]["values"]["reg.mse"]["1"]
    findings |= {"per_example": [], "effects": [], "baselines": {}, "views": {"reg": "scatter"}}
    findings |= {"tasks": ["cls", "reg"], "metrics": METRICS}
    stale = tmp_path / "Accuracy_Improvement.png"
    stale.write_bytes(b"of an earlier report")
    (tmp_path / "PAI").mkdir()
    (tmp_path / "PAI" / "PAI.png").write_bytes(b"of an earlier report")
    write_report(tmp_path, findings)
    words = " ".join(Reader((tmp_path / "report.html").read_text(encoding="utf-8")).words)
    for expected in (
        "With 2 seeds no difference between arms could be tested.",
        "Missing arms: dendrites, dao+dendrites, sham, capacity, cls alone, reg alone.",
        "Not measured: Selection score, cls Accuracy.",
        "Left out: it takes arms that share a seed, and two seeds at least.",
        "Left out: no predictions were compared.",
        "Left out: no run of arm dendrites has PAI/PAI.png.",
        "Left out: latency, not recorded.",
    ):
        assert expected in words
    assert "Confusion matrix" not in words
    assert stale.read_bytes().startswith(b"\x89PNG")  # of dao's MSE, beside that of base
    assert not (tmp_path / "PAI" / "PAI.png").exists()


@pytest.mark.usefixtures("sketched_pictures")
def test_findings_without_run_folders_still_make_a_report(tmp_path):
    findings = make(tmp_path / "elsewhere", ["base", "dao"], METRICS)
    write_report(tmp_path, findings)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert text.count("Left out:") == 8
    assert "Left out: no run folder was found." in text
    assert (tmp_path / "Accuracy_Improvement.png").is_file()


def test_one_seed_has_estimates_without_intervals():
    untested = {"t95": None, "bca95": None, "p_holm": None, "verdict": "not tested"}
    lone = effect("selection", "DAO", 0.01, n=1, **untested)
    findings = {"metrics": METRICS, "seeds": [0], "effects": [lone], "arms": {}}
    (row,) = effects_table(findings, "selection").rows
    assert row[2:5] == ["+0.0100", DASH, DASH]
    assert row[-1] == "not tested"
    assert sentences(findings) == ["With 1 seed no difference between arms could be tested."]
    panels = effect_panels(findings, ["selection"])
    assert labelled(panels)
    axes = Figure().add_subplot()
    panels[0].draw(axes)
    assert axes.get_legend_handles_labels()[1] == ["not tested"]


def test_the_seeds_that_are_told_are_those_that_were_tested():
    effects = [effect("selection", name, 0.02, n=3) for name in ("DAO", "dendrites")]
    # Of the five, two are not finished in one of the arms.
    findings = {"metrics": METRICS, "seeds": [0, 1, 2, 3, 4], "effects": effects, "arms": {}}
    assert " over 3 seeds, none is significant" in sentences(findings)[0]
    one = {**findings, "effects": findings["effects"][:1]}
    assert sentences(one)[0].startswith("The one contrast tested on Selection score over 3 seeds "
                                        "is not significant at 5 % ")  # fmt: skip
    effects[0]["n"] = 5
    assert " over 3 to 5 seeds, none is significant" in sentences(findings)[0]


def test_an_effect_of_dendrites_is_told_with_its_controls():
    found = {"significant": True, "verdict": "higher (better)"}
    names = ("dendrites", "dendrites - sham", "sham - base")
    effects = [effect("selection", name, 0.02) for name in names]
    findings = {"metrics": METRICS, "seeds": [0, 1, 2], "effects": effects, "arms": {}}
    assert not any("sham" in line for line in sentences(findings))
    effects[0] |= found
    told = [line.partition(",")[0] for line in sentences(findings)]
    assert told[1:] == ["dendrites", "dendrites - sham"]


# -- figures --------------------------------------------------------------------------------------


def labelled(panels: list[Panel]) -> bool:
    """Whether all panels have a title and axes that say what they show."""
    for panel in panels:
        axes = Figure().add_subplot()
        panel.draw(axes)
        assert axes.get_title()
        assert axes.get_xlabel()
        assert axes.get_ylabel()
    return bool(panels)


def test_all_axes_are_labelled(whole):
    folder, findings = whole
    runs = read_runs(folder, VALUES, [0, 1, 2])
    base = list(runs["base"].values())
    assert labelled(effect_panels(findings, METRICS))
    assert labelled(improvement_panels(findings, METRICS))
    assert labelled(cost_panels(findings, METRICS, {"training time (s)": {"base": 9.0}}))
    assert labelled(loss_panels(runs, ["cls", "reg"]))
    assert labelled(validation_panels(runs, findings, METRICS))
    assert labelled(dao_panels(runs, ["cls", "reg"]))
    assert labelled([confusion_panel("base", base, "cls"), score_panel("base", base, "reg")])
    assert labelled([calibration_panel({"base": calibration(base, "cls")}, "cls")])


def test_growth_is_marked_where_it_was(whole):
    folder, findings = whole
    arms = read_runs(folder, ["dao", "dao+dendrites"], [0, 1, 2])
    for arm, run in arms["dao+dendrites"].items():
        grown = run.config.dendrites.model_copy(update={"enabled": True})
        config = run.config.model_copy(update={"dendrites": grown})
        arms["dao+dendrites"][arm] = replace(run, config=config)
    _, panel, _ = validation_panels(arms, findings, METRICS)
    axes = Figure().add_subplot()
    panel.draw(axes)
    curve, _, growth = axes.lines
    assert list(growth.get_xdata()) == [2, 2]
    assert growth.get_label() == "dendrites added in dao+dendrites"
    assert [text.get_text() for text in axes.texts] == ["dendrites added"]
    assert list(curve.get_ydata()) == pytest.approx([0.73, 0.73])  # mean of 0.71, 0.74, 0.74
    _, panel, _ = validation_panels({"dao": arms["dao"]}, findings, METRICS)
    axes = Figure().add_subplot()
    panel.draw(axes)
    assert len(axes.lines) == 1
    assert not axes.texts


def test_weights_are_not_said_to_have_a_mean_that_a_setting_decides(whole):
    panel, *_ = dao_panels(read_runs(whole[0], ["dao"], [0]), ["cls"])
    axes = Figure().add_subplot()
    panel.draw(axes)
    assert axes.get_ylabel() == "loss weight (no unit)"  # `dao.total` makes it 1 or 1 / tasks


def test_improvements_are_paired_and_better_is_positive(whole):
    found = improvements(whole[1], "reg.mse")
    mean, interval, n = found["dao"]
    assert (mean, n) == (pytest.approx(0.01), 3)
    assert interval == pytest.approx((0.01, 0.01))
    mean, interval, _ = found["capacity"]  # -0.02, 0, 0.01; t quantile 4.3027 at 2 df
    assert mean == pytest.approx(-0.01 / 3)
    half = 4.302653 * np.std([-0.02, 0, 0.01], ddof=1) / 3**0.5
    assert interval == pytest.approx((mean - half, mean + half))
    assert "cls" not in found


def test_calibration_error_of_a_hand_made_case():
    # Bins (0.5, 0.6] and (0.8, 0.9]: |1/2 - 0.6| and |1 - 0.9|, two rows each.
    found = reliability(np.array([0.6, 0.6, 0.9, 0.9]), np.array([1, 0, 1, 1]))
    assert found.ece == pytest.approx(0.1)
    assert found.count.tolist() == [2, 2]
    assert found.accuracy.tolist() == [0.5, 1.0]


def test_calibration_pools_seeds_and_skips_rows_without_target(whole):
    folder, _ = whole
    runs = list(read_runs(folder, ["base"], [0, 1, 2])["base"].values())
    found = calibration(runs, "cls")
    # Right at 0.8, 0.6, 0.8 and wrong at 0.6: (2 |1 - 0.8| + 2 |0.5 - 0.6|) / 4.
    assert found.ece == pytest.approx(0.15)
    assert found.count.sum() == 12
    assert "9 predictions over 3 seeds" in score_panel("base", runs, "reg").alt
    assert "9 of 12 right over 3 seeds" in confusion_panel("base", runs, "cls").alt


def test_a_drawing_carries_its_words_and_follows_the_theme():
    found = themed(svg(Panel(lambda axes: axes.set_title("<b>$"), 'A "line" & <more>.'), "k"))
    assert 'aria-label="A &quot;line&quot; &amp; &lt;more&gt;."' in found
    assert "&lt;b&gt;$" in found
    assert "var(--ink)" in found
    assert 'id="k-' in found
    assert "metadata" not in found


@pytest.mark.parametrize("paper", [LIGHT, DARK])
def test_every_colour_of_a_picture_stands_out_from_the_paper(paper: str):
    assert min(contrast(readable(colour, paper), paper) for colour in COLOURS) >= 3
    assert min(contrast(colour, paper) for colour in COLOURS) < 3  # so that there is work to do
    drawn = themed(svg(Panel(lambda a: a.plot([0, 1], color=COLOURS[0]), "A line."), "k"))
    assert f"var(--c{COLOURS[0][1:].lower()})" in drawn


# -- small parts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (float("nan"), DASH), (0.5, "0.5000"), (-0.00001234, f"{MINUS}0.000012"),
     (1e-12, f"1.0e{MINUS}12"), (12.5, "12.50"), (1234.5, "1,234")],
)  # fmt: skip
def test_numbers_have_a_readable_length(value, expected):
    assert number(value) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("/a/b/c.csv", "c.csv"), ("~/b/c.csv", "c.csv"), (r"C:\a\c.csv", "c.csv"),
     ("owner/name", "owner/name"), ("x=/a/b, /c/d", "x=b, d"),
     ("https://example.org/a.csv", "https://example.org/a.csv"),
     ("/home/some one/my data/c.csv", "c.csv"), (r"C:\Some One\c.csv", "c.csv"),
     ("/a b/encoder/", "encoder"), ("~someone/c.csv", "c.csv"), ("file:///a/b/c.csv", "c.csv")],
)  # fmt: skip
def test_folders_of_the_machine_are_left_out(text, expected):
    assert without_folders(text) == expected


def test_cells_cannot_break_the_table_in_markdown():
    table = PageTable("c", ("a", "b"), [["x|y\n`z`", "[l](javascript:1) & <b>"]])
    found = markdown("t", [Section("lead", [table])])
    assert r"| x\|y \`z\` | \[l\](javascript:1) &amp; &lt;b> |" in found


def test_words_are_escaped_in_the_page():
    found = html("<t>", [Section("lead", [Text("a < b & c")])])
    assert "a &lt; b &amp; c" in found
    assert "<title>&lt;t&gt;</title>" in found


# -- in a browser ---------------------------------------------------------------------------------

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
TOO_WIDE = """() => [...document.querySelectorAll('body *')].filter(e => {
    const r = e.getBoundingClientRect(); return r.right > innerWidth + 1 || r.left < -1;
}).map(e => e.tagName + ' ' + e.textContent.slice(0, 40))"""
CUT_OFF = """() => [...document.querySelectorAll('svg text')].filter(e => {
    const t = e.getBoundingClientRect(), s = e.closest('svg').getBoundingClientRect();
    return t.left < s.left - 2 || t.right > s.right + 2 || t.top < s.top - 2 ||
        t.bottom > s.bottom + 2;
}).map(e => e.textContent)"""
OPEN = "document.querySelectorAll('details').forEach(each => { each.open = true; })"
UNSEEN = """() => [...document.querySelectorAll('svg[role=img], img')].filter(e => {
    const r = e.getBoundingClientRect();
    return r.width < 200 || r.height < 100 || e.naturalWidth === 0;
}).length"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_in_a_browser_everything_fits_and_nothing_is_fetched(whole):
    check_in_a_browser(whole[0] / "report.html", pictures=26 + 1)


def check_in_a_browser(page: Path, pictures: int) -> None:
    """A page of few screens that asks for nothing, with folds that a keyboard opens."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    address = page.as_uri()
    with api.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        for width, scheme in ((1280, "light"), (1130, "dark"), (768, "light"), (390, "dark")):
            view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            said, asked = [], []
            view.on("console", lambda message, said=said: said.append(message.text))
            view.on("pageerror", lambda error, said=said: said.append(str(error)))
            view.on("request", lambda request, asked=asked: asked.append(request.url))
            view.goto(address)
            assert said == []
            assert asked == [address]
            screens = view.evaluate("document.documentElement.scrollHeight") / 844
            assert width > 390 or screens <= 12, screens
            assert view.evaluate(TOO_WIDE) == []
            assert view.evaluate("document.querySelectorAll('details[open]').length") == 0
            view.keyboard.press("Tab")
            view.keyboard.press("Enter")
            assert view.evaluate("document.querySelectorAll('details[open]').length") == 1
            view.evaluate(OPEN)
            assert view.evaluate("document.documentElement.scrollWidth") <= width
            assert view.evaluate(TOO_WIDE) == []
            assert view.evaluate(CUT_OFF) == []
            assert view.evaluate(UNSEEN) == 0
            assert view.locator("svg[role=img], img").count() == pictures
            dark = view.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (dark == "rgb(22, 23, 26)") == (scheme == "dark")
            view.close()
        browser.close()
