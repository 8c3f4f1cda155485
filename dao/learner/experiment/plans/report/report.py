"""The report of a planned experiment: one page, the same as Markdown, a table of all runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table as RichTable

from dao.learner.basics.limits import PICTURED
from dao.learner.basics.tables import titled
from dao.learner.basics.wording import count
from dao.learner.console.command import show_tables
from dao.learner.experiment.findings.contrasts import PRIMARY, SELECTION
from dao.learner.experiment.findings.runs import Runs
from dao.learner.experiment.pages.page import (
    Answer,
    Bullets,
    Folded,
    Mark,
    PageFigure,
    PageTable,
    Part,
    Section,
    Text,
    html,
    markdown,
)
from dao.learner.experiment.pages.words import explained
from dao.learner.experiment.pictures.effect_figures import effect_panels
from dao.learner.experiment.pictures.forest import pair_forests
from dao.learner.experiment.plans.design import Design
from dao.learner.experiment.plans.findings.delta_m import DELTA_M
from dao.learner.experiment.plans.findings.rows import read_rows
from dao.learner.experiment.plans.report.answers import answers, choices, first_lines, stops
from dao.learner.experiment.plans.report.cells import spread_cell
from dao.learner.experiment.plans.report.tables import (
    changes_table,
    group_tables,
    pairs_table,
    parts_tables,
    took_table,
)
from dao.learner.experiment.report.answer import outcome, unbeaten
from dao.learner.experiment.report.provenance import made_with, shared_settings
from dao.learner.experiment.report.report import EFFECTS, HOLM, TESTS, WORDED, write_pictures
from dao.learner.experiment.report.results_csv import results_csv
from dao.learner.experiment.report.tables import mains
from dao.learner.storage.files import write_atomically

__all__ = ["print_plan_report", "write_plan_report"]

FOREST = (
    "Point: mean difference between runs with the same seed, first arm minus second, turned so "
    "that right is better; line: 95 % t interval. A line that crosses 0 leaves open whether there "
    "is a difference."
)
DELTA = (
    "\N{GREEK CAPITAL LETTER DELTA}m: the mean over tasks of the relative change of the task's "
    "main figure against the model that has the task alone, at the same seed; above 0 is better "
    "(Maninis et al., CVPR 2019)."
)
RANK = (
    "Mean rank: of the arms with all tasks, over the tasks' main figures and seeds; 1 is the best, "
    "and a run that stopped has the last rank."
)


def write_plan_report(design: Design, findings: Mapping[str, Any]) -> None:
    """Write report.html, report.md, Results.csv and the picture into the experiment's folder.

    Args:
        design: the experiment.
        findings: as `plan_findings` gives them.
    """
    folder = design.folder
    found = {row: {run.seed: run for run in runs} for row, runs in read_rows(design).rows.items()}
    sections = _sections(design, findings, found)
    arms = {row: a for row, a in findings["arms"].items() if row not in findings["choices"]}
    write_pictures(folder, sections)
    write_atomically(folder / "Results.csv", results_csv({**findings, "arms": arms}, found))
    write_atomically(folder / "report.md", markdown(design.plan.title, sections))
    write_atomically(folder / "report.html", html(design.plan.title, sections))


def _sections(design: Design, findings: Mapping[str, Any], runs: Runs) -> list[Section]:
    first = Section("Answer", _lead(design, findings))
    groups = findings["groups"]
    return [
        first,
        *_pairs(findings),
        *(Section(group["title"] or "Arms", _group(findings, group)) for group in groups),
        *_changes(findings),
        *(Section(f"By {by['column']}", parts_tables(findings, by)) for by in findings["by"]),
        *_routers(findings),
        Section("What it took", [took_table(findings)]),
        Section("How it was made", _made(design, findings, runs)),
    ]  # fmt: skip


def _lead(design: Design, findings: Mapping[str, Any]) -> list[Part]:
    """The first screen: question and answer, a picture, and what plain models do better."""
    pairs = [e for e in findings["effects"] if e["metric"] == SELECTION] or findings["effects"]
    lead = [*answers(findings), *choices(findings), *first_lines(findings)]
    notes = [*stops(findings), *(f"{note}." for note in findings["notes"])]
    said = outcome(findings, pairs)
    parts: list[Part] = [Answer(design.plan.question)]
    parts += [Answer(f"{said[0].upper()}{said[1:]}.")] if pairs else []
    if panels := pair_forests(findings, _drawn(findings)):
        parts.append(PageFigure("figures/differences.png", panels, FOREST))
    parts += map(Mark, unbeaten(_apart(findings)))
    parts.append(explained("arm", "selection score", "seed", "95 % interval", "TF-IDF"))
    parts += [Folded(WORDED, [Bullets(lead), HOLM])] if lead else []
    if notes:
        quiet = [Text(note, quiet=True) for note in notes]
        parts.append(Folded(f"{count(len(notes), 'note')}: {notes[0]}", quiet))
    return parts


def _apart(findings: Mapping[str, Any]) -> dict[str, Any]:
    """The findings without the rows that were chosen, each of which is an arm once more."""
    arms = {row: a for row, a in findings["arms"].items() if row not in findings["choices"]}
    return {**findings, "arms": arms}


def _pairs(findings: Mapping[str, Any]) -> list[Section]:
    table = pairs_table(findings)
    if table is None:
        return []
    panels = effect_panels(findings, _drawn(findings))
    picture = [PageFigure("figures/pairs.png", panels, EFFECTS, 0)] if panels else []
    method = [Text(line, quiet=True) for line in findings["method"]]
    folded = Folded("How these differences are tested", method)
    return [Section("Comparisons", [table, *picture, TESTS, folded])]


def _drawn(findings: Mapping[str, Any]) -> list[str]:
    """The figures that have a picture: the primary ones, and of few tasks the main ones."""
    first = [m for m, about in findings["metrics"].items() if about["family"] == PRIMARY]
    return [*first, *(mains(findings) if len(findings["tasks"]) <= PICTURED else [])]


def _group(findings: Mapping[str, Any], group: Mapping[str, Any]) -> list[Part]:
    """The tables of a group, and below the first one what their columns mean."""
    told = [DELTA] if DELTA_M in findings["metrics"] else []
    told += [RANK] if any(own["ranks"] for own in findings["groups"]) else []
    told = told if group is findings["groups"][0] else []
    return [*group_tables(findings, group), *(Text(line, quiet=True) for line in told)]


def _changes(findings: Mapping[str, Any]) -> list[Section]:
    table = changes_table(findings)
    return [Section("Against single tasks", [table])] if table else []


def _routers(findings: Mapping[str, Any]) -> list[Section]:
    lines = []
    for arm, about in findings["routing"].items():
        domains = ", ".join(f"{n} {spread_cell(of)}" for n, of in about["domains"].items())
        usage = ", ".join(f"{n} {spread_cell(of)}" for n, of in about["usage"].items())
        lines += [
            f"{arm}: the router is right in {spread_cell(about['accuracy'])} of the test rows "
            f"({domains}).",
            f"{arm}: mean weight of the experts on the test rows: {usage}.",
        ]
    return [Section("Routers", [Bullets(lines)])] if lines else []


def _made(design: Design, findings: Mapping[str, Any], runs: Runs) -> list[Part]:
    began = design.plan.began
    seeds = ", ".join(map(str, findings["seeds"]))
    lines = [
        f"Seeds: {seeds}. Models are selected on validation; every figure is of the test split."
    ]
    if began:
        beside = ", with uncommitted changes" if began.uncommitted else ""
        lines.append(f"Began at revision {began.revision}{beside}; the plan is in plan.yaml.")
        lines.append(f"Made by: {began.command}")
    arms = {arm: of for arm, of in runs.items() if arm in design.arms}
    own = [
        [arm, ", ".join(f"{k} = {_value(v)}" for k, v in design.told(arm).items())]
        for arm in design.arms
    ]
    return [
        Bullets(lines),
        PageTable("Settings of each arm, where arms differ", ("arm", "settings"), own, True),
        made_with(arms),
        *shared_settings(arms),
    ]


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def print_plan_report(design: Design, findings: Mapping[str, Any]) -> None:
    """The answers, the table of each group, and where the rest is."""
    found = []
    for group in findings["groups"]:
        part = group_tables(findings, group)[0]
        assert isinstance(part, PageTable)
        title = f"{group['title']}: {part.caption}" if group["title"] else part.caption
        found.append(_shown(part, title))
    lines = [
        *answers(findings),
        *choices(findings),
        *first_lines(findings),
        *stops(findings),
        *findings["notes"],
        f"report: {design.folder / 'report.html'}",
    ]
    show_tables(findings, found, lines, "terminal")


def _shown(table: PageTable, title: str) -> RichTable:
    shown = titled(title, table.head, words=("arm", "worst task"))
    for row in table.rows:
        shown.add_row(*row)
    return shown
