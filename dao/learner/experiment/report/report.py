"""The report of an experiment: a page, the same page as Markdown, a table and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from dao.learner.basics.limits import IN_A_LINE, PICTURED
from dao.learner.basics.wording import listed
from dao.learner.experiment.arms import ARMS, label
from dao.learner.experiment.findings.contrasts import only_tested
from dao.learner.experiment.findings.runs import Runs, read_runs
from dao.learner.experiment.pictures.effect_figures import (
    cost_panels,
    effect_panels,
    improvement_panels,
)
from dao.learner.experiment.pictures.figures import Panel, png
from dao.learner.experiment.pictures.training_figures import (
    dao_panels,
    loss_panels,
    validation_panels,
)
from dao.learner.experiment.report import tables
from dao.learner.experiment.report.first_lines import dendrite_lines, worse_arms
from dao.learner.experiment.report.many import arms_parts, effects_parts
from dao.learner.experiment.report.page import (
    Bullets,
    PageFigure,
    PageTable,
    Part,
    Picture,
    Section,
    Text,
    html,
    markdown,
)
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
    metrics = list(findings["metrics"])
    tasks = findings["tasks"]
    shown = tables.primary(findings) if len(tasks) > PICTURED else metrics
    design = findings["design"]
    first = [*worse_arms(findings), *tables.sentences(findings), *tables.beside(findings)]
    lead: list[Part] = [Bullets([*first, *dendrite_lines(findings)])]
    lead += [Text(note, quiet=True) for note in (*gaps, DETECTABLE)]
    return [
        Section("Findings", lead),
        figure("Effects", "figures/effects.png", effect_panels(findings, shown), EFFECTS),
        Section("Arms", [*arms_parts(findings), Text(_arms_note(design, tasks), quiet=True)]),
        _effects(findings),
        *_relative(findings),
        _per_example(findings),
        _improvement(findings),
        _training(findings, runs, tasks),
        *_dao(design, dao_panels(runs, tasks[:PICTURED]), len(tasks)),
        *prediction_sections(findings, runs),
        _costs(findings, runs),
        *([_growth(runs)] if "dendrites" in design else []),
        _provenance(runs),
    ]


def _subject(design: Sequence[str]) -> str:
    parts = [name for name in ("DAO", "dendrites") if any(name.lower() in a for a in design)]
    return " and ".join(parts) or "arms beside each other"


def _arms_note(design: Sequence[str], tasks: Sequence[str]) -> str:
    """Explanations of the arms that need one."""
    told = [text for arm, text in ARM_NOTES.items() if arm in design]
    alone = [label(arm, tasks) for arm in design if arm in tasks]
    told += [f"{listed(alone, IN_A_LINE)}: one task."] if alone else []
    return " ".join([*told, ARMS_END])


def _relative(findings: Mapping[str, Any]) -> list[Section]:
    """A table of relative changes, where the experiment has the arm of the DAO paper."""
    table = tables.relative_table(findings) if "dao-paper" in findings["design"] else None
    return [Section("Relative changes", [table, Text(RELATIVE, quiet=True)])] if table else []


def _dao(design: Sequence[str], panels: Sequence[Panel], tasks: int) -> list[Section]:
    if not any("dao" in arm for arm in design):
        return []
    caption = f"{DAO} Of {tasks} tasks the first {PICTURED} are shown." if tasks > PICTURED else DAO
    return [figure("What DAO did", "figures/dao.png", panels, caption)]


DETECTABLE = (
    "Detectable: the smallest true mean difference that 80 % of experiments of this size and "
    "spread would find by a paired t test at 5 %. No significant difference is not the same as no "
    "difference."
)
EFFECTS = (
    "Mean paired difference over seeds. Thin line with ends: 95 % t interval; thick: 95 % BCa "
    "bootstrap interval; filled point: significant after Holm's correction; open point: no "
    "significant difference, or not tested."
)
ARM_NOTES = {
    "base": "base: equal weights, no dendrites, the same reloads and optimizer restarts as the "
    "arms that grow.",
    "sham": "sham: dendrites added, never trained.",
    "capacity": "capacity: none, a higher LoRA rank with at least as many parameters; where the "
    "whole encoder trains, wider feed-forward blocks.",
    "restart-lr": "restart-lr: base whose weights all learn, after the first restart, at the "
    "multiple of the learning rate that dendrites have.",
    "dao-paper": "dao-paper: DAO as DAOLoss.paper() has it, measured at every step, not smoothed, "
    "weights with a sum of one.",
}
ARMS_END = (
    "Each interval is of one arm by itself; arms are compared, seed by seed, under Effects and "
    "contrasts."
)
RELATIVE = (
    "100 (a - b) / b per seed, then the mean; of MSE less is better. Verdicts are those under "
    "Effects and contrasts."
)
DAO = "Line: mean over seeds; band: lowest to highest seed."
CURVES = (
    "Line: mean over seeds; band: mean ± one standard deviation over seeds, absent for one seed. "
    "Dashed vertical line: where dendrites were added (growth), or, in arms without dendrites, the "
    "best weights put back and the optimizer started anew (restart). Arms without either have none."
)


def _effects(findings: Mapping[str, Any]) -> Section:
    parts = effects_parts(findings)
    if not any(isinstance(part, PageTable) for part in parts):
        return left_out(
            "Effects and contrasts", "it takes arms that share a seed, and two seeds at least"
        )
    lines = (tables.formulas(findings), *findings["method"])
    return Section("Effects and contrasts", [*parts, *(Text(line, quiet=True) for line in lines)])


def _per_example(findings: Mapping[str, Any]) -> Section:
    table = tables.per_example_table(findings)
    if table is None:
        return left_out("Per-example tests", "no predictions were compared")
    note = (
        "These ask whether the trained models differ on these test rows; only the effects over "
        "seeds say whether training again would."
    )
    return Section("Per-example tests", [table, Text(note, quiet=True)])


def _improvement(findings: Mapping[str, Any]) -> Section:
    mains = tables.mains(findings)
    shown = [*tables.primary(findings), *(mains if len(mains) <= PICTURED else [])]
    panels = improvement_panels(findings, shown)
    caption = "Paired by seed; bar: mean; whisker: 95 % t interval of the mean difference."
    if not panels:
        reason = "it takes base and another arm with the same seeds"
        return left_out("Improvement over base", reason)
    return Section("Improvement over base", [PageFigure(IMPROVEMENT, panels, caption)])


def _training(findings: Mapping[str, Any], runs: Runs, tasks: Sequence[str]) -> Section:
    shown = list(only_tested(findings["metrics"]))
    caption = CURVES
    if len(tasks) > PICTURED:  # more pictures than a reader would look through
        caption = f"{CURVES} Of {len(tasks)} tasks the losses of the first {PICTURED} are shown."
        tasks, shown = tasks[:PICTURED], tables.primary(findings)
    panels = loss_panels(runs, tasks) + validation_panels(runs, findings, shown)
    return figure("Training and validation", TRAINING, panels, caption)


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
    return Section(section.title, [*section.parts, tables.cost_table(shown, findings), *note])


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
            return Section(title, [Picture(GRAPH, graph.read_bytes(), alt, caption)])
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
