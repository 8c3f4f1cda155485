"""The clock of a command: a second belongs to one phase, and the phases are real functions."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.budget.__main__ import CLOCK, ORDER
from benchmarks.budget.clock import PHASES, Clock


def test_the_inner_phase_has_the_seconds():
    times = iter([0.0, 1.0, 3.0, 6.0, 10.0, 15.0])
    clock = Clock(lambda: next(times))
    with clock.phase("figures"), clock.phase("predicting"):
        pass
    assert clock.total() == {"other": 1.0 + 5.0, "figures": 2.0 + 4.0, "predicting": 3.0}


@pytest.mark.parametrize("place", [place for places in PHASES.values() for place in places])
def test_every_place_is_a_function(place: str):
    module, _, name = place.partition(":")
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    assert callable(found)
    assert set(PHASES) <= set(ORDER)


PROGRAM = """
import time
import other
from other import work

def main():
    work()
    other.Thing().slow()

main()
time.sleep(0.2)
"""
OTHER = """
import time

time.sleep(0.3)

def work():
    time.sleep(0.4)

class Thing:
    def slow(self):
        time.sleep(0.5)
"""


def test_a_program_under_the_clock(tmp_path: Path):
    """In a process of its own, with the functions of a module in place of ours."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "other.py").write_text(OTHER)
    phases = {"work": ["other:work"], "slow": ["other:Thing.slow"]}
    start = (
        f"import runpy, sys; m = runpy.run_path({str(CLOCK)!r}); clock = m['Clock']();"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        f"with m['watched'](clock, {phases}): runpy.run_path({str(tmp_path / 'program.py')!r})\n"
        f"import json; print(json.dumps(clock.total()))"
    )
    done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    for phase, least in (("imports", 0.3), ("work", 0.4), ("slow", 0.5), ("other", 0.2)):
        assert least <= found[phase] < least + 0.2, found
