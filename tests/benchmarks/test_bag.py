"""The study of heads on counts of words: its arms train alike, and its page is made."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from benchmarks.bag import __main__ as bag
from benchmarks.bag.training import ARMS, Heads, Job, run
from benchmarks.frozen.rates import Rates

SMALL = {"rows": 600, "steps": 120}


def count(hidden: int) -> int:
    return sum(p.numel() for p in Heads(805, 3, hidden).parameters())


def test_a_hidden_layer_has_as_many_parameters_as_the_dendrites_that_it_stands_beside():
    heads = 4 * 806  # of 805 words and a constant to three classes and a number
    gates = 4
    for sets, hidden in ((1, 8), (3, 16)):
        wanted = heads + sets * (heads + gates) + (sets - 1) * sets // 2 * 4
        assert count(hidden) == pytest.approx(wanted, rel=0.01)


@pytest.mark.slow
def test_sham_computes_what_linear_heads_do_and_dendrites_act():
    linear, sham, grown = (run(Job(arm, 0, 0.01, **SMALL)) for arm in ("linear", "sham", "one set"))
    assert sham["test"] == linear["test"]
    assert sham["parameters"] == linear["parameters"] < grown["parameters"]
    assert all(share > 0.01 for sets in grown["shares"].values() for share in sets)
    again = run(Job("one set", 0, 0.01, **SMALL))
    assert again == grown


@pytest.mark.slow
def test_the_study_writes_its_page_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made: dict[str, dict[str, Any]] = {}

    def once(job: Job) -> dict[str, Any]:
        """Each arm trains once, for a few steps; the other seeds are moved a little."""
        if job.arm not in made:
            made[job.arm] = run(replace(job, **SMALL))
        accuracy, r2 = made[job.arm]["test"]
        moved = [accuracy, r2 + job.seed / 1000]
        return {**made[job.arm], "key": job.key, **asdict(job), "test": moved}

    monkeypatch.setattr(bag, "run", once)
    monkeypatch.setattr(bag, "RATES", Rates(0.01, (0.01,), (100,)))
    threads = torch.get_num_threads()
    asked = ["--quick", "--output", str(tmp_path)]
    assert CliRunner().invoke(bag.app, asked, catch_exceptions=False).exit_code == 0
    lines = (tmp_path / "runs.jsonl").read_text().splitlines()
    tried = len(ARMS) * len(bag.RATES.tried) * len(bag.RATES.seeds)
    assert len(lines) == tried + 2 * len(ARMS)
    assert {json.loads(line)["seed"] for line in lines[:tried]} == set(bag.RATES.seeds)
    page = (tmp_path / "README.md").read_text()
    assert all(f"| `{arm}`: {about.about} |" in page for arm, about in ARMS.items())
    assert CliRunner().invoke(bag.app, asked, catch_exceptions=False).exit_code == 0
    assert (tmp_path / "runs.jsonl").read_text().splitlines() == lines
    torch.set_num_threads(threads)
