"""Tables of results stay readable with any number of tasks."""

import io

import pytest

from dao.learner.batches.sampling import sampling_line
from dao.learner.console.report import _results, markdown, summary, weights_note
from dao.learner.console.result_tables import (
    figures_across,
    left_out_slices,
    main_columns,
    results_tables,
    routing_tables,
    slices_tables,
    tables_of,
)
from dao.learner.console.terminal import plain_console
from dao.learner.kinds import KINDS
from dao.learner.scoring.plain_models import best_plain, worse_than_plain

FIGURES = {
    "binary": {"f1": 0.5, "precision": 0.4, "recall": 0.6, "pr_auc": 0.45, "roc_auc": 0.7,
               "accuracy": 0.8},
    "classification": {"accuracy": 0.75, "macro_f1": 0.625},
    "ordinal": {"qwk": 0.3, "mae_levels": 0.5, "accuracy": 0.6},
    "regression": {"r2": 0.25, "mse": 1050.0},
}  # fmt: skip
MAIN = {"binary": "f1", "classification": "accuracy", "ordinal": "qwk", "regression": "mse"}


def about(kind: str) -> dict:
    figures = [figure.to_dict() for figure in KINDS[kind].own_figures if figure.shown]
    return {"kind": kind, "figures": figures, "main_figure": MAIN[kind]}


def metrics_of(kinds: dict[str, str], plain: float = 0.75) -> dict:
    """A finished run whose figures are those of `FIGURES`; one plain model has `plain` of each."""
    test = {name: {"n": 40, **FIGURES[kind]} for name, kind in kinds.items()}
    other = {n: {"TF-IDF": dict.fromkeys(FIGURES[k], plain)} for n, k in kinds.items()}
    return {
        "name": "data", "arm": "many", "tasks": {name: about(kind) for name, kind in kinds.items()},
        "splits": {"test": test}, "baselines": {"test": other}, "best_reachable": {},
        "slices": {"test": {"region": {"north": test, "south": test}}},
        "dendrites": None, "experts": None, "parameters": {"trainable": 1},
        "loss_weights": {name: {"first": 1.0, "last": float(i)} for i, name in enumerate(kinds)},
        "training": {"steps": 2, "selected_after_step": 2, "seconds": 1.0},
    }  # fmt: skip


FORTY = {f"is_merger_{i:02}": "binary" for i in range(40)}
MIXED = {"urgent": "binary", "topic": "classification", "stars": "ordinal", "price": "regression"}


def printed(tables: list, width: int = 100) -> list[str]:
    shown = plain_console(file=io.StringIO(), width=width, force_terminal=False)
    for table in tables:
        shown.print(table)
    return shown.file.getvalue().splitlines()


def test_two_tasks_share_one_table():
    metrics = metrics_of({"topic": "classification", "price": "regression"})
    (table,) = results_tables(metrics, "test")
    assert table.title == "test (topic n=40, price n=40)"
    assert [str(column.header) for column in table.columns] == [
        "", "topic accuracy ↑", "topic macro_f1 ↑", "price r2 ↑", "price mse ↓",
    ]  # fmt: skip
    (sliced,) = slices_tables(metrics, "test")
    assert sliced.title == "test, by column"
    assert len(sliced.columns) == 1 + 2 * 3


def test_a_few_tasks_have_a_table_each():
    tables = results_tables(metrics_of(MIXED), "test")
    assert [table.title for table in tables] == [
        "test: urgent (binary, n=40)", "test: topic (classification, n=40)",
        "test: stars (ordinal, n=40)", "test: price (regression, n=40)",
    ]  # fmt: skip
    headings = [str(column.header) for column in tables[1].columns]
    assert headings == ["", "accuracy ↑", "macro_f1 ↑"]
    assert [str(cell) for cell in tables[1].columns[0].cells] == ["this model", "TF-IDF"]


def test_forty_tasks_of_a_kind_are_rows_of_one_table_that_fits_a_terminal():
    (table,) = results_tables(metrics_of(FORTY), "test")
    lines = printed([table])
    rows = [line for line in lines if "is_merger" in line]
    assert len(rows) == 40
    assert max(map(len, lines)) <= 100
    for name, line in zip(FORTY, rows, strict=True):
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        assert cells == [
            name, "40", "0.5000", "* 0.7500", "0.4000", "0.6000", "0.4500", "0.7000", "0.8000",
        ]  # fmt: skip
    assert lines[0].strip() == "test: 40 tasks of the kind binary; this model"
    assert lines[-1].strip() == "plain: the best of TF-IDF; * better than this model"


def test_long_names_are_folded_and_keep_their_ends():
    names = {f"whether_the_text_is_about_a_merger_{i:02}": "binary" for i in range(5)}
    lines = printed(results_tables(metrics_of(names), "test"))
    first = "".join(line.strip("│").split("│")[0].strip() for line in lines if "│" in line)
    assert first == "".join(names)


def test_the_mark_follows_the_better_direction():
    five = {f"price_{i}": "regression" for i in range(5)}
    for plain, marked in ((2000.0, False), (0.5, True)):
        (table,) = results_tables(metrics_of(five, plain), "test")
        (place,) = [i for i, c in enumerate(table.columns) if c.header == "plain\nmse"]
        assert all(("* " in str(cell)) is marked for cell in table.columns[place].cells)


def test_kinds_are_told_apart_and_the_order_of_the_tasks_stays():
    kinds = {**{f"price_{i}": "regression" for i in range(5)}, "topic": "classification"}
    titles = [table.title for table in results_tables(metrics_of(kinds), "test")]
    assert titles == [
        "test: 5 tasks of the kind regression; this model", "test: topic (classification, n=40)",
    ]  # fmt: skip


def test_tasks_of_a_kind_with_other_figures_do_not_share_a_table():
    metrics = metrics_of({f"price_{i}": "regression" for i in range(6)})
    del metrics["tasks"]["price_5"]["figures"][0]
    one, other = results_tables(metrics, "test")
    assert (len(one.rows), str(other.columns[1].header)) == (5, "mse ↓")


def test_without_plain_models_there_is_no_column_of_them():
    metrics = {**metrics_of(FORTY), "baselines": {}}
    (table,) = results_tables(metrics, "test")
    assert table.caption is None
    assert not any("plain" in str(column.header) for column in table.columns)


def test_the_best_reachable_stands_in_both_kinds_of_table():
    for kinds in (MIXED, FORTY):
        metrics = metrics_of(kinds)
        metrics["best_reachable"] = {"test": {n: FIGURES[k] for n, k in kinds.items()}}
        text = "\n".join(printed(results_tables(metrics, "test"), 200))
        assert ("best reachable" in text) is (kinds is MIXED)
        assert ("  best " in text) is (kinds is FORTY)


def test_breakdowns_of_some_tasks_have_their_main_figures():
    metrics = metrics_of(MIXED)
    metrics["slices"]["test"]["region"]["south"] = {"urgent": {"n": 7, "f1": 0.1}}
    (table,) = slices_tables(metrics, "test")
    assert [str(c.header) for c in table.columns] == ["", "north n=40", "south n=7"]
    assert [str(cell) for cell in table.columns[0].cells] == [
        "urgent f1 ↑", "topic accuracy ↑", "stars qwk ↑", "price mse ↓",
    ]  # fmt: skip
    assert [str(cell) for cell in table.columns[2].cells] == ["0.1000", "", "", ""]


def test_breakdowns_of_many_tasks_or_columns_are_told_of():
    assert slices_tables(metrics_of(FORTY), "test") == []
    (line,) = left_out_slices(metrics_of(FORTY), "test")
    assert line.startswith("test, by region: the figures of the 40 tasks are under `slices`")
    assert left_out_slices(metrics_of(MIXED), "test") == []
    metrics = metrics_of(MIXED)
    region = metrics["slices"]["test"]["region"]
    metrics["slices"]["test"] = {f"column_{i}": region for i in range(6)}
    assert len(slices_tables(metrics, "test")) == 4
    assert left_out_slices(metrics, "test")[0].startswith("test, by column_4, column_5: ")
    assert line in summary(metrics_of(FORTY))


def test_many_groups_are_shared_out_among_tables():
    groups = {f"g{i}": {"urgent": {"n": 3, "f1": i / 10}} for i in range(8)}
    one, other = figures_across("t", {"urgent": [("f1", "↑")]}, groups)
    assert [len(one.columns), len(other.columns)] == [7, 3]
    assert [str(cell) for cell in other.columns[1].cells] == ["0.6000"]


def test_routing_of_many_tasks_has_a_row_per_task():
    metrics = metrics_of(FORTY)
    test = metrics["splits"]["test"]
    metrics["routing"] = {"test": {w: {"all": test, "domains": {}} for w in ("soft", "hard")}}
    (table,) = routing_tables(metrics, "test")
    assert (len(table.rows), len(table.columns)) == (40, 3)
    assert routing_tables(metrics_of(FORTY), "test") == []


def test_the_tables_of_a_run_are_those_of_every_split_but_validation():
    metrics = metrics_of(dict(list(MIXED.items())[:2]))
    metrics["splits"]["validation"] = metrics["splits"]["test"]
    titles = ["test (urgent n=40, topic n=40)", "test, by column"]
    assert [table.title for table in tables_of(metrics)] == titles
    assert [table.title for table in tables_of(metrics, parts=False)] == titles[:1]


def test_of_more_than_two_tasks_the_main_figure_of_each_is_told():
    about = {"tasks": metrics_of(MIXED)["tasks"]}
    main = {"urgent": "f1", "topic": "accuracy", "stars": "qwk", "price": "mse"}
    assert {n: [k for k, _ in shown] for n, shown in main_columns(about).items()} == {
        name: [key] for name, key in main.items()
    }
    del about["tasks"]["stars"], about["tasks"]["price"]
    assert [key for key, _ in main_columns(about)["topic"]] == ["accuracy", "macro_f1"]


def test_markdown_keeps_a_row_per_task_and_says_what_the_mark_means():
    (table,) = results_tables(metrics_of(FORTY), "test")
    lines = [line for line in markdown([table]).splitlines() if line.startswith("| is_merger")]
    assert len(lines) == 40
    assert "better than this model" in markdown([table]).splitlines()[-1]


@pytest.mark.parametrize(("kinds", "entries"), [(FORTY, 3), ({"a": "binary"}, 2)])
def test_what_a_plain_model_beats_is_told_and_then_counted(kinds: dict, entries: int):
    (line,) = worse_than_plain(metrics_of(kinds), "test")
    assert line.count("(TF-IDF 0.7500)") == entries
    # F1 and PR-AUC; precision and recall say nothing alone.
    assert line.endswith("and 77 more of 80 figures") is (kinds is FORTY)
    assert " recall " not in line
    if kinds is FORTY:
        assert line.count(" f1 0.5000") == 3


def test_the_best_plain_model_needs_a_figure():
    rows = {"a": {"f1": None}, "b": {"f1": 0.25}, "c": {"f1": 0.5}, "d": {}}
    assert best_plain(rows, "f1", "↑") == ("c", 0.5)
    assert best_plain(rows, "f1", "↓") == ("b", 0.25)
    assert best_plain({"a": {}}, "f1", "↑") is None


def test_weights_of_many_tasks_are_told_by_their_ends():
    (line,) = [line for line in summary(metrics_of(FORTY)) if line.startswith("loss weights")]
    assert line.endswith("of 40 tasks in the end: is_merger_00 1.000 → 0, is_merger_39 1.000 → "
                         "39.00")  # fmt: skip
    assert weights_note({"a": None, "b": 2.0}) == "b x2"
    assert weights_note({}) == ""


def test_sampling_of_many_tasks_is_told_by_its_ends():
    tasks = {f"t{i}": {"rows": i, "rows_per_epoch": float(i)} for i in range(1, 41)}
    line = sampling_line({"setting": "equal", "epoch_rows": 40, "tasks": tasks})
    assert line.endswith(
        "an epoch of 40 rows has at least 1 with a label of t1 (of 1 labelled) and at most 40 with "
        "a label of t40 (of 40 labelled); of the other tasks it has numbers in between"
    )
    alike = {f"t{i}": {"rows": 9, "rows_per_epoch": 9.0} for i in range(7)}
    line = sampling_line({"setting": "equal", "epoch_rows": 9, "tasks": alike})
    assert line.endswith("an epoch of 9 rows has 9 with a label of each of the 7 tasks")


def test_six_tasks_are_told_in_full():
    tasks = {f"t{i}": {"rows": i, "rows_per_epoch": float(i)} for i in range(1, 7)}
    line = sampling_line({"setting": "equal", "epoch_rows": 6, "tasks": tasks})
    assert all(f"t{i} {i} (of {i} labelled)" in line for i in range(1, 7))
    six = metrics_of({f"t{i}": "binary" for i in range(6)})
    (line,) = [line for line in summary(six) if line.startswith("loss weights")]
    assert line.count("→") == 7  # of the heading, and six


def test_the_card_of_many_tasks_names_their_main_figures():
    found = _results(metrics_of(FORTY))
    assert [entry.metric_name for entry in found] == [f"{name} f1" for name in FORTY]
    assert {(entry.metric_type, entry.metric_value) for entry in found} == {("f1", 0.5)}
    two = _results(metrics_of({"topic": "classification", "price": "regression"}))
    assert [(e.metric_type, e.metric_name, e.task_type) for e in two] == [
        ("accuracy", None, "text-classification"), ("macro_f1", None, "text-classification"),
        ("r2", None, "text-regression"), ("mse", None, "text-regression"),
    ]  # fmt: skip
