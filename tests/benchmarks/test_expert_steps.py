import json
import math
from pathlib import Path

from benchmarks import expert_steps


def test_steps_are_measured(tiny_bert: Path):
    options = expert_steps.Options(str(tiny_bert), 3, 4, 5, rounds=2, steps=1)
    found = expert_steps.measure(options)
    assert found["peft_vs_peft"] == found["folded_vs_folded"] == 1
    for name in expert_steps.ABOUT:
        assert 0 < found[f"{name}_ms_q1"] <= found[f"{name}_ms"]
        assert math.isfinite(found[f"{name}_vs_peft"])
    json.dumps(found)
