"""Data that a project registers by name: its defaults, its rows, its figures of others."""

import pandas as pd
import pytest

from dao.learner.console.reference_tables import reference_tables
from dao.learner.data.load import Columns, load, notes
from dao.learner.kinds.declared import task_settings
from dao.learner.settings import named
from dao.learner.settings.config import load_config
from dao.learner.settings.named import NamedData, Reference, register

ROWS = pd.DataFrame(
    [(f"text {i}", i % 7 / 2, "ab"[i % 2]) for i in range(60)], columns=["text", "price", "place"]
)
KNOWN = [
    Reference("a person", "price", "pearson", "asked", 0.9, {"place": {"a": 0.8, "b": 0.7}}),
    Reference("a rule", "price", "mse", "tried", 2.5),
    Reference("a stranger", "other", "pearson", "heard"),
    Reference("an odd one", "price", "accuracy", "heard"),
]


@pytest.fixture(autouse=True)
def shop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "_named", {})
    (default,) = named._default
    defaults = {"tasks": "price:regression", "train.epochs": 7}
    register(
        default,
        NamedData("shop", ROWS.copy, "as you like", defaults, lambda: KNOWN),
    )


@pytest.mark.parametrize(
    "given",
    [
        {"flags": {"data.sources": ["shop"]}},
        {"overrides": ["data.sources=[shop]"]},
        {"overrides": ["data.sources=shop"]},
        {"before": {"data.sources": ("shop",)}},
    ],
)
def test_it_brings_defaults(given):
    cfg = load_config(**given)
    assert list(cfg.tasks) == ["price"]
    assert cfg.train.epochs == 7
    assert cfg.data.sources == ("shop",)


@pytest.mark.parametrize("sources", [["shop", "my.csv"], ["my.csv"], [], ["shop", "shop"]])
def test_other_sources_have_the_usual_ones(sources):
    assert list(load_config(flags={"data.sources": sources}).tasks) == ["cls", "reg"]


def test_what_is_set_goes_before(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("data: {sources: [shop]}\ntrain: {epochs: 3, lr: 0.1}\n")
    cfg = load_config(path, ["price.kind=ordinal"], {"tasks": "price"})
    assert cfg.train.epochs == 3
    assert cfg.tasks["price"].kind == "ordinal"
    assert load_config(path, ["train.epochs=4"]).train.epochs == 4


def table(**options):
    tasks = {"cost": task_settings("cost", {"kind": "regression", "column": "price"})}
    return load(["shop"], Columns(targets={"cost": "price"}), tasks=tasks, **options)


def test_figures_go_to_the_task_of_their_column_and_kind():
    found = table()
    assert found.report["sources"][0]["source"] == "shop"
    assert [(k["task"], k["figure"], k["name"]) for k in found.report["references"]] == [
        ("cost", "pearson", "a person"), ("cost", "mse", "a rule"),
    ]  # fmt: skip
    said = notes(found.report)
    assert "shop: as you like" in said
    assert said[-2:] == [
        "cost pearson of a person: all rows 0.900, a 0.800, b 0.700",
        "cost mse of a rule: all rows 2.500",
    ]


def test_a_part_of_the_rows_has_none():
    report = table(where={"place": ("a",)}).report
    assert "references" not in report
    assert notes(report)[-1].startswith("no figures of others beside the results")


def metrics(slices) -> dict:
    return {
        "splits": {"test": {"cost": {"n": 6, "pearson": 0.5, "mse": 3.0}}},
        "slices": {"test": slices},
        "data": table().report,
    }


def cells(shown) -> list[list[str]]:
    return [[str(cell) for cell in column.cells] for column in shown.columns]


def test_a_table_per_figure_with_a_column_per_part():
    slices = {"place": {"a": {"cost": {"n": 3, "pearson": 0.25}}, "c": {"cost": {"n": 3}}}}
    one, other = reference_tables(metrics(slices), "test")
    assert one.title == "test: cost pearson, beside others"
    assert [column.header for column in one.columns] == ["", "all rows", "place = a"]
    assert cells(one) == [["this model", "a person"], ["0.5000", "0.9000"], ["0.2500", "0.8000"]]
    assert one.caption == "a person: asked"
    assert cells(other) == [["this model", "a rule"], ["3.0000", "2.5000"]]


def test_without_figures_of_others_there_is_no_table():
    assert reference_tables({"splits": {"test": {}}, "data": {}}, "test") == []
    known = metrics({}) | {"splits": {"test": {"another": {"n": 1}}}}
    assert reference_tables(known, "test") == []
