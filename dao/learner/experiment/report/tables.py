"""The sentences and tables of an experiment's report, from its findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dao.learner.basics.numbers import is_known
from dao.learner.basics.numbers import number as plain_number
from dao.learner.basics.wording import count
from dao.learner.experiment.arms import ARMS, label
from dao.learner.experiment.findings.contrasts import CHECK, PRIMARY, main_figures
from dao.learner.experiment.findings.verdicts import NO_DIFFERENCE
from dao.learner.experiment.pages.page import PageTable

__all__ = [
    "MINUS",
    "NOTHING",
    "arms_table",
    "beside",
    "bracketed",
    "column",
    "cost_table",
    "effects_table",
    "formulas",
    "interval",
    "mains",
    "measured",
    "missing",
    "number",
    "p_value",
    "per_example_table",
    "primary",
    "relative_table",
    "sentences",
]

NOTHING, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
# The contrasts that an effect of dendrites has to be measured by.
CONTROLS = ("dendrites - sham", "dendrites - capacity", "dendrites - restart-lr")
MAIN = ("DAO", "dendrites", "interaction")
SENTENCES = 6
"""Main figures up to which each is compared with plain models in a sentence of its own."""


def number(value: float | None, *, signed: bool = False) -> str:
    """Four decimals, fewer for large figures, more for tiny ones; a dash where there is none.

    >>> number(0.87244), number(-0.004, signed=True), number(0.000421), number(12345.6)
    ('0.8724', '−0.0040', '0.00042', '12,346')
    """
    if not is_known(value):
        return NOTHING
    return plain_number(value, signed=signed).replace("-", MINUS)


def column(about: Mapping[str, str]) -> str:
    """The label of a figure, with an arrow up where higher is better, else down."""
    return f"{about['label']} {'↑' if about['better'] == 'higher' else '↓'}"


def p_value(value: float | None) -> str:
    """Three decimals of a p; a dash where there is none.

    >>> p_value(0.04321), p_value(0.0001), p_value(None)
    ('0.043', '< 0.001', '–')
    """
    if not is_known(value):
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def interval(bounds: Sequence[float | None] | None, *, signed: bool = False) -> str:
    """Both bounds; a dash where there is no interval.

    >>> interval([-0.5, 0.25], signed=True)
    '−0.5000 to +0.2500'
    """
    if not bounds or not all(map(is_known, bounds)):
        return NOTHING
    return " to ".join(number(bound, signed=signed) for bound in bounds)


def primary(findings: Mapping[str, Any]) -> list[str]:
    """The metrics that the primary tests are about."""
    return [m for m, about in findings["metrics"].items() if about["family"] == PRIMARY]


def mains(findings: Mapping[str, Any]) -> list[str]:
    """The main figure of each task."""
    return list(main_figures(findings["metrics"]).values())


def sentences(findings: Mapping[str, Any]) -> list[str]:
    """Sentences on the primary tests: how many are significant, then the effects to be told."""
    metrics = primary(findings)
    effects = [e for e in findings["effects"] if e["metric"] in metrics]
    tested = [e for e in effects if e.get("p_holm") is not None and e.get("family") != CHECK]
    names = " and ".join(findings["metrics"][m]["label"] for m in metrics)
    if not tested:
        seeds = count(len(findings["seeds"]), "seed")
        return [f"With {seeds} no difference between arms could be tested."]
    least, most = min(e["n"] for e in tested), max(e["n"] for e in tested)
    seeds = f"{least} to {most} seeds" if least < most else count(most, "seed")
    found = [e for e in tested if e.get("significant")]
    of = f"Of {len(tested)} effects and contrasts tested on {names} over {seeds}, "
    of += f"{len(found) or 'none'} {'are' if len(found) > 1 else 'is'}"
    if len(tested) == 1:
        of = f"The one contrast tested on {names} over {seeds} is{'' if found else ' not'}"
    none = "" if found else f": {NO_DIFFERENCE}"
    first = f"{of} significant at 5 % after Holm's correction{none}."
    grown = {e["metric"] for e in found if e["name"] == "dendrites"}
    main = {effect["name"] for effect in tested} & {*MAIN} or {effect["name"] for effect in tested}
    shown = [
        e
        for e in tested
        if e["name"] in main
        or e.get("significant")
        or (e["name"] in CONTROLS and e["metric"] in grown)
    ]
    return [first, *(_sentence(effect, findings) for effect in shown)]


def _sentence(effect: Mapping[str, Any], findings: Mapping[str, Any]) -> str:
    about = findings["metrics"][effect["metric"]]
    return (
        f"{effect['name']}, {about['label']}: {effect['verdict']}; "
        f"{number(effect['mean'], signed=True)}, 95 % t interval "
        f"{interval(effect.get('t95'), signed=True)}, Holm p {p_value(effect['p_holm'])}, "
        f"detectable {number(effect.get('detectable'))}."
    )


def beside(findings: Mapping[str, Any]) -> list[str]:
    """Sentences on the base arm beside plain models, one for the main figure of each task.

    Of more than `SENTENCES` tasks, one sentence says where these figures are.
    """
    lines, shown = [], mains(findings)
    if len(shown) > SENTENCES:
        return [
            f"The table of arms has the main figures of {len(shown)} tasks beside plain models."
        ]
    for metric in shown:
        base = findings["arms"].get("base", {}).get("mean", {}).get(metric)
        plain = {
            name: values[metric]
            for name, values in findings.get("baselines", {}).items()
            if values.get(metric) is not None
        }
        if base is not None and plain:
            told = ", ".join(f"{name} {number(value)}" for name, value in plain.items())
            lines.append(
                f"{findings['metrics'][metric]['label']} of base {number(base)}; beside it {told}."
            )
    return lines


def formulas(findings: Mapping[str, Any]) -> str:
    """A sentence that says how the main effects are computed."""
    found = {e["name"]: e.get("formula") for e in findings["effects"] if e["name"] in MAIN}
    return " ".join(f"{name} = {formula}." for name, formula in found.items() if formula)


def missing(findings: Mapping[str, Any]) -> list[str]:
    """Sentences about the arms, figures and seeds that are missing from the findings."""
    absent = [_name(a, findings) for a in findings.get("design", ARMS) if a not in findings["arms"]]
    lines = [f"Missing arms: {', '.join(absent)}."] if absent else []
    unmeasured = [
        about["label"]
        for metric, about in findings["metrics"].items()
        if not _measured(metric, findings)
    ]
    lines += [f"Not measured: {', '.join(unmeasured)}."] if unmeasured else []
    return [*lines, *(f"{note}." for note in findings["notes"])]


def measured(findings: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that at least one arm has."""
    found = findings["metrics"]
    return {metric: found[metric] for metric in found if _measured(metric, findings)}


def _measured(metric: str, findings: Mapping[str, Any]) -> bool:
    return any(arm["values"].get(metric) for arm in findings["arms"].values())


def arms_table(findings: Mapping[str, Any]) -> PageTable:
    """Mean and 95 % interval of every arm on the test split, then rows for the plain models."""
    metrics = findings["metrics"]
    head = ["arm", "seeds", *map(column, metrics.values())]
    rows = []
    for arm, content in findings["arms"].items():
        cells = []
        for metric in metrics:
            mean = content.get("mean", {}).get(metric)
            bounds = content.get("t95", {}).get(metric)
            cells.append("" if mean is None else number(mean) + bracketed(bounds))
        seeds = max((len(v) for v in content["values"].values()), default=0)
        rows.append([_name(arm, findings), str(seeds), *cells])
    plain = dict(findings.get("baselines", {}))
    if best := findings.get("best_reachable"):
        plain["best reachable (noise of known size)"] = best
    for name, values in plain.items():
        cells = ["" if values.get(m) is None else number(values[m]) for m in metrics]
        rows.append([name, "", *cells])
    return PageTable("Test split: mean over seeds [95 % t interval of the mean]", head, rows)


def bracketed(bounds: Sequence[float | None] | None) -> str:
    """An interval as it follows its mean; an empty text where the interval is unknown."""
    shown = interval(bounds)
    return "" if shown == NOTHING else f" [{shown}]"


def _name(arm: str, findings: Mapping[str, Any]) -> str:
    return label(arm, findings["tasks"])


def effects_table(findings: Mapping[str, Any], metric: str) -> PageTable | None:
    """A table of every effect and contrast on one metric; None where it has none."""
    effects = [e for e in findings["effects"] if e["metric"] == metric]
    if not effects:
        return None
    head = (
        "effect", "seeds", "estimate", "95 % t interval", "95 % BCa interval", "permutation p",
        "t p", "Holm p", "detectable", "verdict",
    )  # fmt: skip
    rows = [
        [
            e["name"],
            str(e["n"]),
            number(e.get("mean"), signed=True),
            interval(e.get("t95"), signed=True),
            interval(e.get("bca95"), signed=True),
            *(p_value(e.get(key)) for key in ("p_permutation", "p_t", "p_holm")),
            number(e.get("detectable")),
            e["verdict"],
        ]
        for e in effects
    ]
    about = findings["metrics"][metric]
    better = f"{about['better']} is better"
    caption = f"{about['label']} ({about['unit']}, {better}), {about['family']} family"
    return PageTable(caption, head, rows)


def per_example_table(findings: Mapping[str, Any]) -> PageTable | None:
    """A table of the tests on the same test rows; None without such tests."""
    tests = findings.get("per_example") or []
    head = (
        "comparison", "figure", "test", "examples", "estimate", "95 % interval", "p", "Holm p",
        "verdict",
    )  # fmt: skip
    rows = [
        [
            f"{_name(t['a'], findings)} - {_name(t['b'], findings)}",
            findings["metrics"].get(t["metric"], {}).get("label", t["metric"]),
            t["test"],
            f"{t['n']:,}",
            number(t.get("estimate"), signed=True),
            interval(t.get("interval95"), signed=True),
            p_value(t.get("p")),
            p_value(t.get("p_holm")),
            t["verdict"],
        ]
        for t in tests
    ]
    caption = "Same test rows, predictions of two arms"
    return PageTable(caption, head, rows) if tests else None


def relative_table(findings: Mapping[str, Any]) -> PageTable | None:
    """A table of changes in percent of the second arm; None without such changes."""
    metrics = findings["metrics"]
    found = [c for c in findings.get("relative", ()) if c["metric"] in metrics]
    rows = [
        [
            c["name"],
            metrics[c["metric"]]["label"],
            str(len(c["seeds"])),
            number(c["percent"], signed=True),
            interval(c["t95"], signed=True),
        ]
        for c in found
    ]
    head = ("comparison", "figure", "seeds", "change in %", "95 % t interval")
    caption = "Change in percent of the second arm, paired by seed"
    return PageTable(caption, head, rows) if rows else None


def cost_table(costs: Mapping[str, Mapping[str, float]], findings: Mapping[str, Any]) -> PageTable:
    """A row per arm with its mean costs.

    Args:
        costs: label of a cost -> arm -> mean over seeds.
        findings: of the experiment.
    """
    columns = [_alike(by_arm) for by_arm in costs.values()]
    rows = [
        [_name(arm, findings), *(column.get(arm, "") for column in columns)]
        for arm in findings["arms"]
    ]
    return PageTable("Means over seeds", ["arm", *costs], rows)


def _alike(by_arm: Mapping[str, float]) -> dict[str, str]:
    whole = all(value == int(value) or value >= 1000 for value in by_arm.values())
    return {arm: f"{value:,.{0 if whole else 1}f}" for arm, value in by_arm.items()}
