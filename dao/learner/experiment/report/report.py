"""The report of an experiment: a page, the same page as Markdown, a table and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from dao.learner.basics.limits import PICTURED
from dao.learner.basics.wording import count
from dao.learner.experiment.arms import ARMS
from dao.learner.experiment.findings.contrasts import only_tested
from dao.learner.experiment.findings.runs import Runs, read_runs
from dao.learner.experiment.pages.page import (
    Answer,
    Bullets,
    Folded,
    Mark,
    PageFigure,
    PageTable,
    Part,
    Picture,
    Section,
    Text,
    Words,
    html,
    markdown,
)
from dao.learner.experiment.pages.words import MEANINGS, explained
from dao.learner.experiment.pictures.effect_figures import (
    cost_panels,
    effect_panels,
    improvement_panels,
)
from dao.learner.experiment.pictures.figures import Panel, png
from dao.learner.experiment.pictures.forest import arm_forests, reference_of
from dao.learner.experiment.pictures.training_figures import (
    dao_panels,
    loss_panels,
    validation_panels,
)
from dao.learner.experiment.report import tables
from dao.learner.experiment.report.answer import answer, unbeaten
from dao.learner.experiment.report.first_lines import dendrite_lines, worse_arms
from dao.learner.experiment.report.many import arms_parts, effects_parts
from dao.learner.experiment.report.prediction_sections import figure, left_out, prediction_sections
from dao.learner.experiment.report.provenance import provenance_tables
from dao.learner.experiment.report.results_csv import results_csv
from dao.learner.storage.files import write_atomically

__all__ = ["write_pictures", "write_report"]

IMPROVEMENT, TRAINING = "Accuracy_Improvement.png", "Dendrite_vs_Baseline_Training.png"
GRAPH = "PAI/PAI.png"


def write_report(folder: Path, findings: Mapping[str, Any]) -> None:
    """Write report.html, report.md, Results.csv and the pictures into the experiment's folder.

    The report names what it leaves out, because the findings or the run folders lack it.

    Args:
        folder: of the experiment; its runs are in `ARM/seed=N/`.
        findings: of the experiment, as from `effects.findings`; `best_reachable` and an arm's
            `latency_ms` may be absent.
    """
    design = findings.get("design", list(ARMS))
    gaps = tables.missing({**findings, "design": design})
    findings = {**findings, "metrics": tables.measured(findings), "design": design}
    runs = read_runs(folder, findings["arms"], findings["seeds"])
    sections = _sections(findings, runs, gaps)
    title = f"{findings['name']}: {_subject(design)}"
    for old in (IMPROVEMENT, TRAINING, GRAPH):  # of an earlier report with more arms
        (folder / old).unlink(missing_ok=True)
    write_pictures(folder, sections)
    write_atomically(folder / "Results.csv", results_csv(findings, runs))
    write_atomically(folder / "report.md", markdown(title, sections))
    write_atomically(folder / "report.html", html(title, sections))


def _sections(findings: Mapping[str, Any], runs: Runs, gaps: Sequence[str]) -> list[Section]:
    tasks, design = findings["tasks"], findings["design"]
    return [
        Section("Findings", _lead(findings, gaps)),
        Section("Arms", [*arms_parts(findings), _arm_words(design, tasks), ARMS_END]),
        *_effects(findings),
        *_relative(findings),
        _per_example(findings),
        _training(findings, runs, tasks),
        *prediction_sections(findings, runs),
        *_dao(design, dao_panels(runs, tasks[:PICTURED]), len(tasks)),
        _improvement(findings),
        _costs(findings, runs),
        *([_growth(runs)] if "dendrites" in design else []),
        _provenance(runs),
    ]


def _lead(findings: Mapping[str, Any], gaps: Sequence[str]) -> list[Part]:
    """The first screen: a sentence, a picture, and what plain models do better."""
    few = len(findings["tasks"]) <= PICTURED
    shown = [*tables.primary(findings), *(tables.mains(findings) if few else [])]
    panels = arm_forests(findings, list(dict.fromkeys(shown)))
    sentences = [*worse_arms(findings), *tables.sentences(findings), *tables.beside(findings)]
    parts: list[Part] = [Answer(answer(findings))]
    if panels:
        caption = FOREST.format(reference=reference_of(findings))
        parts.append(PageFigure("figures/differences.png", panels, caption))
    parts += map(Mark, unbeaten(findings))
    parts.append(Folded(WORDED, [Bullets([*sentences, *dendrite_lines(findings)]), HOLM]))
    subject = [word for word in SUBJECTS if any(word.lower() in a for a in findings["design"])]
    parts.append(explained(*subject, *FIRST_WORDS))
    if gaps:
        title = f"{count(len(gaps), 'note')}: {gaps[0]}"
        parts.append(Folded(title, [Text(note, quiet=True) for note in gaps]))
    return parts


def _subject(design: Sequence[str]) -> str:
    parts = [name for name in SUBJECTS if any(name.lower() in a for a in design)]
    return " and ".join(parts) or "arms beside each other"


def _arm_words(design: Sequence[str], tasks: Sequence[str]) -> Words:
    """The meanings of the arms that need one."""
    alone = ["alone"] if any(arm in tasks for arm in design) else []
    return explained(
        "arm", *(arm for arm in design if arm in MEANINGS and arm not in tasks), *alone
    )


def _relative(findings: Mapping[str, Any]) -> list[Section]:
    """A table of relative changes, where the experiment has the arm of the DAO paper."""
    table = tables.relative_table(findings) if "dao-paper" in findings["design"] else None
    return [Section("Relative changes", [table, Text(RELATIVE, quiet=True)])] if table else []


def _dao(design: Sequence[str], panels: Sequence[Panel], tasks: int) -> list[Section]:
    if not any("dao" in arm for arm in design):
        return []
    caption = f"{DAO} Of {tasks} tasks the first {PICTURED} are shown." if tasks > PICTURED else DAO
    found = figure("What DAO did", "figures/dao.png", panels, caption, folded=True)
    words = explained("loss weight", "gradient norm")
    return [Section(found.title, [*found.parts, words], folded=found.folded)]


SUBJECTS = ("DAO", "dendrites")
FIRST_WORDS = ("selection score", "seed", "95 % interval", "TF-IDF")
WORDED = "Findings in sentences, with p-values"
HOLM = explained("p", "Holm", "detectable")
FOREST = (
    "Point: mean difference from {reference} between runs with the same seed; line: 95 % t "
    "interval. A line that crosses 0 leaves open whether there is a difference. The "
    "intervals are each of one comparison; the tests below are corrected for their number."
)
EFFECTS = (
    "Mean paired difference over seeds. Thin line with ends: 95 % t interval; thick: 95 % BCa "
    "bootstrap interval; filled point: significant after Holm's correction; open point: no "
    "significant difference, or not tested."
)
TESTS = explained("95 % interval", "bootstrap", "BCa", "permutation", "p", "Holm", "detectable")
ARMS_END = Text(
    "Each interval is of one arm by itself; arms are compared, seed by seed, under Effects and "
    "contrasts.",
    quiet=True,
)
RELATIVE = (
    "100 (a - b) / b per seed, then the mean; of MSE less is better. Verdicts are those under "
    "Effects and contrasts."
)
DAO = "Line: mean over seeds; band: lowest to highest seed."
CURVES = (
    "Line: mean over seeds; band: lowest to highest seed, absent for one seed. Dashed vertical "
    "line: where dendrites were added, in the arms that grow them."
)
CURVES_SHOWN = 3
"""Curves that are seen without opening anything."""


def _effects(findings: Mapping[str, Any]) -> list[Section]:
    metrics = list(findings["metrics"])
    shown = tables.primary(findings) if len(findings["tasks"]) > PICTURED else metrics
    parts = effects_parts(findings)
    pictures = figure("Effects in pictures", "figures/effects.png", effect_panels(findings, shown),
                      EFFECTS, folded=True)  # fmt: skip
    title = "Effects and contrasts"
    if not any(isinstance(part, PageTable) for part in parts):
        reason = "it takes arms that share a seed, and two seeds at least"
        return [left_out(title, reason), pictures]
    lines = [Text(line, quiet=True) for line in (tables.formulas(findings), *findings["method"])]
    method = Folded("How these differences are tested", lines)
    return [Section(title, [*parts, TESTS, method]), pictures]


def _per_example(findings: Mapping[str, Any]) -> Section:
    table = tables.per_example_table(findings)
    if table is None:
        return left_out("Per-example tests", "no predictions were compared")
    note = (
        "These ask whether the trained models differ on these test rows; only the effects over "
        "seeds say whether training again would."
    )
    words = explained("McNemar", "bootstrap", "p", "Holm")
    return Section("Per-example tests", [table, words, Text(note, quiet=True)])


def _improvement(findings: Mapping[str, Any]) -> Section:
    mains = tables.mains(findings)
    shown = [*tables.primary(findings), *(mains if len(mains) <= PICTURED else [])]
    panels = improvement_panels(findings, shown)
    caption = "Paired by seed; bar: mean; whisker: 95 % t interval of the mean difference."
    if not panels:
        reason = "it takes base and another arm with the same seeds"
        return left_out("Improvement over base", reason)
    return Section("Improvement over base", [PageFigure(IMPROVEMENT, panels, caption)], folded=True)


def _training(findings: Mapping[str, Any], runs: Runs, tasks: Sequence[str]) -> Section:
    shown = list(only_tested(findings["metrics"]))
    caption = CURVES
    if len(tasks) > PICTURED:  # more pictures than a reader would look through
        caption = f"{CURVES} Of {len(tasks)} tasks the losses of the first {PICTURED} are shown."
        tasks, shown = tasks[:PICTURED], tables.primary(findings)
    mains = {*tables.primary(findings), *tables.mains(findings)}
    shown.sort(key=lambda metric: metric not in mains)  # those come first
    panels = validation_panels(runs, findings, shown) + loss_panels(runs, tasks)
    title = "Training and validation"
    found = figure(title, TRAINING, panels, caption, first=CURVES_SHOWN)
    return Section(title, [*found.parts, explained("loss", "validation")])


def _costs(findings: Mapping[str, Any], runs: Runs) -> Section:
    costs = _cost_figures(findings, runs)
    panels = cost_panels(findings, tables.primary(findings), costs)
    table = costs | {
        "sets of dendrites kept": {
            arm: fmean(kept.values())
            for arm, content in findings["arms"].items()
            if (kept := content.get("dendrites_kept"))
        },
        "steps that restarts threw away": {
            arm: fmean(thrown.values())
            for arm, content in findings["arms"].items()
            if (thrown := content.get("thrown_away_steps"))
        },
    }
    shown = {name: by_arm for name, by_arm in table.items() if by_arm}
    section = figure(
        "Quality and cost",
        "figures/cost.png",
        panels,
        "Means over seeds; line: 95 % t interval. Latency is of one seed: one text at a time, the "
        "models of two arms in turn.",
    )
    absent = [n for n in ("latency", "memory") if not any(n in name for name in shown)]
    note = [Text(f"Left out: {' and '.join(absent)}, not recorded.", quiet=True)] if absent else []
    parts = [*section.parts, tables.cost_table(shown, findings), *note]
    return Section(section.title, parts, folded=True)


def _cost_figures(findings: Mapping[str, Any], runs: Runs) -> dict[str, dict[str, float]]:
    """Label of each known cost -> arm -> mean over seeds."""
    costs: dict[str, dict[str, float]] = {
        "trained parameters (count)": {},
        "training time (s)": {},
        "latency (ms per example)": {},
        "peak memory (MiB)": {},
    }
    for arm, content in findings["arms"].items():
        found = list(runs.get(arm, {}).values())
        memory = [max(m) for run in found if (m := _memory(run.history))]
        seconds = [s for s in content.get("seconds", {}).values() if s is not None]
        values = (
            content.get("parameters"),
            fmean(seconds) if seconds else None,
            content.get("latency_ms"),
            fmean(memory) if memory else None,
        )
        for by_arm, value in zip(costs.values(), values, strict=True):
            if value is not None:
                by_arm[arm] = float(value)
    return {name: by_arm for name, by_arm in costs.items() if by_arm}


def _memory(history: Iterable[Mapping[str, Any]]) -> list[float]:
    return [row["memory_mib"] for row in history if row.get("memory_mib") is not None]


def _growth(runs: Runs) -> Section:
    title = "perforatedai's own graph"
    for _, run in sorted(runs.get("dendrites", {}).items()):
        graph = run.path / GRAPH
        if graph.is_file():
            caption = (
                f"As drawn by perforatedai in arm dendrites, seed {run.seed}; the file is {GRAPH}."
            )
            alt = "Validation scores and switches over the run, drawn by perforatedai."
            picture = Picture(GRAPH, graph.read_bytes(), alt, caption)
            return Section(title, [picture], folded=True)
    return left_out(title, "no run of arm dendrites has PAI/PAI.png")


def _provenance(runs: Runs) -> Section:
    if not runs:
        return left_out("Provenance", "no run folder was found")
    return Section("Provenance", provenance_tables(runs))


def write_pictures(folder: Path, sections: Sequence[Section]) -> None:
    """Write the figures of a report as the PNG files that its Markdown links to."""
    for part in (part for section in sections for part in section.parts):
        if isinstance(part, PageFigure | Picture):
            content = part.content if isinstance(part, Picture) else png(part.panels)
            (folder / part.path).parent.mkdir(parents=True, exist_ok=True)
            (folder / part.path).write_bytes(content)
