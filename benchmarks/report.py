"""Bursts to figures, figures to a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich.table import Table

from benchmarks.arms import REFERENCES
from benchmarks.timing import Burst, quartiles
from benchmarks.work import Work
from dao.learner.basics.tables import titled
from dao.learner.encoder.load import cpu_bf16, precision

__all__ = ["cell", "computing", "hardware", "lines", "speeds", "spread", "tables"]

Figures = dict[str, Any]


def hardware(device: torch.device) -> str:
    """The device and whether it multiplies bf16 fast, which the ratios depend on."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return f"{torch.cuda.get_device_name(device)}, {'with' if fast else 'without'} bf16"
    unit = cpu_bf16()
    bf16 = f"bf16 by {unit}" if unit else "no fast bf16"
    return f"CPU, {torch.get_num_threads()} threads, {bf16}"


def computing(choice: str, device: torch.device) -> str:
    """The type of the matrix products that `encoder.precision` has on a device, in a few words."""
    return f"computes in {'bf16' if precision(choice, device) == torch.bfloat16 else 'fp32'}"


def speeds(work: Work, bursts: Mapping[str, Sequence[Burst]]) -> Figures:
    """Tokens/s of every arm, and of ours over each reference, round by round: flat keys."""
    rates = {
        name: [sum(map(work.tokens, burst.rows)) / burst.seconds for burst in each]
        for name, each in bursts.items()
    }
    figures: Figures = {}
    for name, values in rates.items():
        figures |= spread(f"{name}_tokens_per_s", values)
    for name in (n for n in rates if n not in REFERENCES):
        for reference in (r for r in REFERENCES if r in rates):
            ratios = [a / b for a, b in zip(rates[name], rates[reference], strict=True)]
            figures |= spread(f"{_prefix(name)}vs_{reference}", ratios)
        if name != "ours" and "ours" in rates:
            ratios = [a / b for a, b in zip(rates[name], rates["ours"], strict=True)]
            figures |= spread(f"{name}_vs_ours", ratios)
    return figures


def _prefix(name: str) -> str:
    """`ours` is the headline, whose ratios and memory bear no name."""
    return "" if name == "ours" else f"{name}_"


def spread(key: str, values: Sequence[float]) -> Figures:
    """Median and quartiles as flat figures."""
    low, middle, high = quartiles(values)
    return {key: middle, f"{key}_q1": low, f"{key}_q3": high}


def lines(figures: Figures) -> list[str]:
    """What is printed above the tables."""
    found = [
        f"{figures['encoder']}, LoRA on {figures['lora']}, batch {figures['batch_size']}; "
        f"{figures['rows']} sentences, {figures['tokens']} tokens without padding; "
        f"{figures['rounds']} rounds of {figures['steps']} steps, interleaved",
        f"{figures['hardware']}; compute type {figures['precision']}; torch {figures['torch']}, "
        f"transformers {figures['transformers']}, peft {figures['peft']}",
    ]
    if "share_of_peak" in figures:
        found.append(
            f"{figures['stages_of']}: {figures['model_tflops']:.3f} TFLOP/s of the model, "
            f"{figures['share_of_peak']:.0%} of the matmul peak ({figures['matmul_tflops']:.3f})"
        )
    return found


def tables(figures: Figures, about: Mapping[str, str]) -> list[Table]:
    """The arms, and where the time of ours goes."""
    heads = ["tokens/s", "x trainer_padded", "x trainer_best", "x ours", "peak MiB", "loss off by"]
    arms = titled("median (quartiles) of the rounds", ["", *heads])
    for name, text in about.items():
        ratios = [cell(figures, f"{_prefix(name)}vs_{r}", 2) for r in REFERENCES]
        peak, loss = figures.get(f"{name}_peak_mib"), figures.get(f"{name}_loss_difference")
        arms.add_row(
            f"{name}: {text}",
            cell(figures, f"{name}_tokens_per_s", 0),
            *ratios,
            cell(figures, f"{name}_vs_ours", 2),
            "" if peak is None else f"{peak:.0f}",
            "" if loss is None else f"{loss:.1e}",
        )
    return [arms, *([_stages(figures)] if "share_of_peak" in figures else [])]


def _stages(figures: Figures) -> Table:
    table = titled(f"a step of {figures['stages_of']}", ["stage", "ms", "%"], words=("stage",))
    stages = {k: v for k, v in figures.items() if k.startswith("stage_")}
    for key, value in stages.items():
        name = key.removeprefix("stage_").removesuffix("_ms").replace("_", " ")
        table.add_row(name, f"{value:.2f}", f"{100 * value / sum(stages.values()):.1f}")
    return table


def cell(figures: Figures, key: str, digits: int) -> str:
    """Median (quartiles) of a figure, or nothing if it is not there."""
    if key not in figures:
        return ""
    low, middle, high = (figures[key + end] for end in ("_q1", "", "_q3"))
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"
