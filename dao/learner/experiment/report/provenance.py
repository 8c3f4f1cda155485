"""What an experiment's figures depend on: settings, data, versions, revision."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dao.learner.experiment.findings.comparable import FREE
from dao.learner.experiment.findings.runs import Run, Runs, labels
from dao.learner.experiment.pages.page import PageTable
from dao.learner.experiment.report.tables import NOTHING

__all__ = ["made_with", "provenance_tables", "shared_settings", "without_folders"]

PATH = re.compile(r"(?:file:[\\/]{2}|~[^\\/\s]*|[A-Za-z]:)?[\\/]")  # how an absolute path begins
FOLDER = re.compile(r"(?:(?<=^)|(?<=[\s=,'\"(\[]))(?:~|[A-Za-z]:)?[\\/](?:[^\\/\s]+[\\/])*")


def provenance_tables(runs: Runs) -> list[PageTable]:
    """Settings that all runs share, those in which arms differ, data, versions and revision."""
    shared, differing = _compared(runs)
    tables = [made_with(runs)]
    if differing:
        head = ["setting", *labels(runs).values()]
        tables.append(PageTable("Settings in which the arms differ", head, differing, True))
    return tables + _settings_table(shared)


def made_with(runs: Runs) -> PageTable:
    """Data, versions and revision."""
    rows = [[key, _by_arm(values)] for key, values in _gathered(runs).items()]
    return PageTable("Data, versions and revision of all runs", ("what", "value"), rows, True)


def shared_settings(runs: Runs) -> list[PageTable]:
    """A table of the settings that all runs share; none where they share none."""
    return _settings_table(_compared(runs)[0])


def _settings_table(shared: list[list[str]]) -> list[PageTable]:
    head = ("setting", "value")
    return [PageTable("Settings of every run", head, shared, True)] if shared else []


def _compared(runs: Runs) -> tuple[list[list[str]], list[list[str]]]:
    """Rows of settings that all arms share, and of those in which they differ."""
    configs = {arm: _settings(next(iter(seeds.values()))) for arm, seeds in runs.items()}
    keys = sorted({key for config in configs.values() for key in config} - set(FREE))
    shared, differing = [], []
    for key in keys:
        # An arm without a task has no options of that task, which is no difference in settings.
        of_task = key.startswith("tasks.")
        values = {
            arm: _shown(config.get(key))
            for arm, config in configs.items()
            if key in config or not of_task
        }
        if len(set(values.values())) == 1:
            shared.append([key, next(iter(values.values()))])
        else:
            differing.append([key, *(values.get(arm, NOTHING) for arm in configs)])
    return shared, differing


def _settings(run: Run) -> dict[str, Any]:
    """The settings of a run, with the names of its tasks."""
    kept = {k: v for k, v in run.settings.items() if k.partition(".")[0] not in FREE}
    return kept | {"tasks": ", ".join(run.config.tasks)}


def _gathered(runs: Runs) -> dict[str, dict[str, list[str]]]:
    """What was recorded -> its value -> the arms that recorded it."""
    found: dict[str, dict[str, list[str]]] = {}
    names = labels(runs)
    for arm, seeds in runs.items():
        for run in seeds.values():
            for key, value in _facts(run.metrics).items():
                arms = found.setdefault(key, {}).setdefault(_shown(value), [])
                if names[arm] not in arms:
                    arms.append(names[arm])
    return found


def _by_arm(values: Mapping[str, Sequence[str]]) -> str:
    if len(values) == 1:
        return next(iter(values))
    return "; ".join(f"{value} ({', '.join(arms)})" for value, arms in values.items())


def _facts(metrics: Mapping[str, Any]) -> dict[str, Any]:
    data, made = metrics.get("data", {}), metrics.get("provenance", {})
    git = made.get("git") or {}
    found = {"data fingerprint": data.get("fingerprint")}
    for source in data.get("sources", ()):
        found[f"sha256 of {without_folders(source['source'])}"] = source.get("sha256")
    for split, rows in data.get("rows", {}).items():
        found[f"rows, {split}"] = rows
    encoder = made.get("encoder", {})
    found |= {
        "encoder": encoder.get("name"),
        "origin of the encoder": encoder.get("origin"),
        "precision": made.get("precision"),
        "device": made.get("device"),
        "threads": made.get("threads"),
        "python": made.get("python"),
        **made.get("packages", {}),
        "git commit": git.get("commit"),
        "uncommitted changes": git.get("dirty"),
    }
    return {key: value for key, value in found.items() if value is not None}


def _shown(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value in ("", [], {}):
        return NOTHING
    if isinstance(value, list | tuple):
        return ", ".join(_shown(item) for item in value)
    return without_folders(str(value))


def without_folders(text: str) -> str:
    """The text with absolute paths shortened to their file names.

    >>> without_folders("rows of /home/someone/data/a.csv, owner/name")
    'rows of a.csv, owner/name'
    >>> without_folders("/home/some one/my data/a.csv")
    'a.csv'
    """
    if PATH.match(text):  # the whole text is one path, and spaces are part of it
        return re.split(r"[\\/]", text.rstrip("\\/"))[-1]
    return FOLDER.sub("", text)
