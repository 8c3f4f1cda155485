"""Names from data are shown as they are, wherever they stand."""

import io

import pytest
from rich.progress import Progress, TextColumn
from rich.table import Table

from dao.learner.console.report import markdown
from dao.learner.console.result_tables import results_tables, slices_tables
from dao.learner.console.terminal import as_markdown, plain_console, printable, styled

LABELS = ["[/INST]", "[bold]", "[red]x[/red]", "[link=https://example.org]y[/link]", ":warning:"]


def paper():
    return plain_console(file=io.StringIO(), width=200, force_terminal=False)


@pytest.mark.parametrize("label", LABELS)
def test_a_label_is_shown_as_it_is(label: str):
    shown = paper()
    table = Table(title=f"title {label}", caption=label)
    table.add_column(f"head {label}")
    table.add_row(f"cell {label}")
    table.add_row(styled(f"own {label}", "bold"))
    shown.print(f"line {label}")
    shown.print(table)
    with Progress(TextColumn("{task.description}", markup=False), console=shown) as bar:
        bar.add_task(f"task {label}", total=1)
    text = shown.file.getvalue()
    for place in ("title", "head", "cell", "own", "line", "task"):
        assert f"{place} {label}" in text


@pytest.mark.parametrize("control", ["\x1b[2J", "\x9b2J", "\x07", "\x08", "\x7f", "\r"])
def test_a_control_character_never_reaches_the_terminal(control: str):
    shown = paper()
    table = Table(title=f"t{control}")
    table.add_column(f"h{control}")
    table.add_row(f"c{control}")
    table.add_row(styled(f"s{control}", "red"))
    shown.print(table)
    shown.print(f"line{control}end")
    text = shown.file.getvalue()
    assert control[0] not in text
    assert f"line{printable(control)}end" in text
    assert printable(control).startswith("\\x")


def test_tabs_line_breaks_and_other_scripts_stay():
    assert printable("a\tb\nc \u200d \u0928\u093f") == "a\tb\nc \u200d \u0928\u093f"


METRICS = {
    "arm": "equal",
    "headline": {"cls": [["accuracy", "↑"]]},
    "splits": {"test": {"cls": {"n": 4, "accuracy": 0.5}}},
    "baselines": {"test": {"cls": {f"always {x}": {"accuracy": 0.25} for x in LABELS}}},
    "best_reachable": {},
    "dendrites": None,
    "slices": {"test": {"tag": {x: {"cls": {"n": 1, "accuracy": 1.0}} for x in LABELS}}},
}


def test_the_tables_of_a_report_show_every_label():
    shown = paper()
    shown.print(*results_tables(METRICS, "test"))
    shown.print(*slices_tables(METRICS, "test"))
    text = shown.file.getvalue()
    for label in LABELS:
        assert f"always {label}" in text
        assert f"tag = {label}" in text


def test_markdown_keeps_one_line_per_row_and_no_cell_is_markup():
    table = Table(title="a|b")
    table.add_column("x`y")
    table.add_column("n")
    table.add_row("up|down\nleft", "[x](y)")
    table.add_row("_a_ b_c $1$ <b>", "*3*")
    lines = [" ".join(line.split()) for line in markdown([table]).splitlines() if line.strip()]
    assert [line for line in lines if line.startswith("| ")] == [
        r"| x\`y | n |",
        r"| up\|down left | \[x\](y) |",
        r"| \_a\_ b_c \$1\$ &lt;b> | \*3\* |",
    ]


def test_words_stay_readable_in_markdown():
    assert as_markdown("rare_f1, loss 0.5") == "rare_f1, loss 0.5"
