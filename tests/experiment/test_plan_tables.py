"""Tables of a planned experiment on more tasks than fit beside each other."""

from typing import Any

from dao.learner.experiment.plans.report.tables import group_tables, took_table

TASKS = ("a", "b", "c")


def about(task: str | None, key: str, **more: Any) -> dict[str, Any]:
    plain = {
        "task": task, "key": key, "label": f"{task} {key}" if task else key, "unit": "share",
        "better": "higher", "family": "secondary", "main": False, "of_class": "",
    }  # fmt: skip
    return plain | more


METRICS = {
    "delta_m": about(None, "delta_m", unit="%", family="primary", label="Δm"),
    **{f"{task}.f1": about(task, "f1", main=True) for task in TASKS},
    **{f"{task}.auc": about(task, "auc") for task in TASKS},
}


def arm(**more: Any) -> dict[str, Any]:
    values = {metric: {"0": 0.5, "1": 0.7} for metric in METRICS}
    plain = {
        "values": values, "mean": dict.fromkeys(METRICS, 0.6),
        "t95": {metric: [0.5, 0.7] for metric in METRICS}, "seconds": {"0": 1.0, "1": 3.0},
        "steps_of_runs": [8, 9], "lr": 0.01, "parameters": 1000, "dendrites_kept": {},
        "output_shares_of_sets": [], "changes": {},
    }  # fmt: skip
    return plain | more


def found(arms: dict[str, Any]) -> dict[str, Any]:
    group = {"title": "", "rows": list(arms), "reference": "", "differences": {}, "ranks": {}}
    return {
        "tasks": list(TASKS), "metrics": METRICS, "arms": arms, "seeds": [0, 1], "choices": {},
        "baselines": {"majority": {"a.f1": 0.25}}, "best_reachable": {}, "groups": [group],
    }  # fmt: skip


def test_of_many_tasks_the_main_figures_come_first_and_the_others_stand_behind():
    findings = found({"x": arm(), "y": arm()})
    first, others = group_tables(findings, findings["groups"][0])
    assert list(first.head) == ["arm", "Δm ↑", "a f1 ↑", "b f1 ↑", "c f1 ↑"]
    assert first.rows[0] == ["x", "0.60 ± 0.10", *["0.6000 ± 0.1000"] * 3]
    assert first.rows[2] == ["(majority)", "", "0.2500", "", ""]
    assert list(others.head) == ["arm", "a auc ↑", "b auc ↑", "c auc ↑"]


def test_plain_models_stand_in_the_first_table_alone():
    findings = found({"x": arm(), "y": arm()})
    second = {**findings["groups"][0], "rows": ["y"]}
    findings["groups"] = [{**findings["groups"][0], "rows": ["x"]}, second]
    names = [[row[0] for row in group_tables(findings, g)[0].rows] for g in findings["groups"]]
    assert names == [["x", "(majority)"], ["y"]]


def test_what_runs_took_has_columns_for_dendrites_only_where_there_are_any():
    grown = arm(dendrites_kept={"0": 1, "1": 2}, output_shares_of_sets=[{"median": 0.025}])
    table = took_table(found({"x": arm(), "y": grown}))
    assert table.head[-2:] == [
        "sets of dendrites kept", "their share of the output, median of each set",
    ]  # fmt: skip
    assert table.rows == [
        ["x", "2", "8 to 9", "2.0", "0.01", "1,000", "", ""],
        ["y", "2", "8 to 9", "2.0", "0.01", "1,000", "1.5", "2.5 %"],
    ]
    assert len(took_table(found({"x": arm()})).head) == 6
