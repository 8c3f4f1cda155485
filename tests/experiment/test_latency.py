"""Latencies: models take turns over the same texts, and nothing is said without weights."""

from pathlib import Path

import pytest
import torch

from dao.learner.experiment.findings import latency
from dao.learner.experiment.findings.latency import latencies, times_of
from dao.learner.experiment.findings.runs import read_arm

INPUTS = [(torch.tensor([[i]]), torch.tensor([[1]])) for i in range(5)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("dao.learner.basics.turns.time.perf_counter", lambda: now[0])
    return now


def test_all_runners_see_every_input_in_turn(clock: list[float]):
    order = []

    def taking(name: str, seconds: float):
        def run(given: tuple[torch.Tensor, torch.Tensor]) -> None:
            order.append((name, int(given[0])))
            clock[0] += seconds

        return run

    assert times_of([taking("a", 1.0), taking("b", 2.0)], INPUTS) == [[1.0] * 5, [2.0] * 5]
    turns = [(name, i) for i in range(5) for name in ("ba" if i % 2 else "ab")]
    assert order == turns + turns  # the first ones warm up


def test_another_arm_is_the_first_times_the_median_ratio(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_arm
):
    make_arm(tmp_path, "base", 0)
    make_arm(tmp_path, "dendrites", 0)
    runs = {arm: read_arm(tmp_path / arm)[0][0] for arm in ("base", "dendrites")}
    assert latencies(runs) == {}  # no weights there
    assert latencies({}) == {}
    for run in runs.values():
        (run.path / latency.HEADS).touch()
    seconds = {"base": 0.010, "dendrites": 0.015}
    monkeypatch.setattr(latency, "_model", lambda run: run.arm)
    monkeypatch.setattr(latency, "_inputs", lambda run, model: INPUTS)

    def runner(arm: str):
        def run(_: object) -> None:
            clock[0] += seconds[arm]

        return run

    monkeypatch.setattr(latency, "_runner", runner)
    assert latencies(runs) == pytest.approx({"base": 10.0, "dendrites": 15.0})
    assert latencies({"base": runs["base"]}) == pytest.approx({"base": 10.0})
