import os
from pathlib import Path

import pytest

from dao.learner.data.load import Columns, fit, load
from dao.learner.kinds.declared import task_settings

BOTH = {name: task_settings(name, {}) for name in ("cls", "reg")}
DEFAULT = Path(__file__).parents[2].parent / "shared" / "data"
FOLDER = Path(os.environ.get("DAO_REAL_DATA", DEFAULT))


def source(name):
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"real data is not part of the project: DAO_REAL_DATA=FOLDER with {name} in it")
    return str(path)


def test_english_finance():
    table = load([source("english-finance.csv")], Columns(), tasks=BOTH)
    report = table.report
    removed = sum(report["dropped"].values()) + sum(
        count for name, count in report["duplicates"].items() if name.startswith("rows")
    )
    assert sum(report["rows"].values()) == 6650 - removed
    assert sum(report["labelled"]["cls"].values()) == 4833
    assert sum(report["labelled"]["reg"].values()) == 1817
    assert fit(table)["cls"].classes == ["negative", "neutral", "positive"]
    assert fit(table)["reg"].sd == pytest.approx(0.4, abs=0.05)


@pytest.mark.slow
def test_chinese_finance_gets_a_test_split_and_loses_duplicates():
    report = load([source("chinese-finance.csv")], Columns(), tasks=BOTH).report
    assert report["duplicates"]["rows removed from train"] == 63
    assert sum(report["rows"].values()) == 19558 - 63
    assert min(report["rows"].values()) > 1000


@pytest.mark.slow
def test_rare_class_is_split_in_equal_shares():
    table = load([source("toxicity.csv")], Columns(), tasks={"cls": BOTH["cls"]})
    for split in ("train", "validation", "test"):
        values = table.values("cls", split)
        assert values.count("hate") / len(values) == pytest.approx(0.058, abs=0.003)
