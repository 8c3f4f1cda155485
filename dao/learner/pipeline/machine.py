"""What `auto` comes to on a machine: chosen when a run begins, kept when it is resumed."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dao.learner.encoder.load import cpu_bf16, precision
from dao.learner.inference.predictor import pick_device
from dao.learner.processes import ranks
from dao.learner.settings.config import Config
from dao.learner.storage.writing import RunRecord

__all__ = ["MACHINE", "Machine", "forget_machine", "settle"]

MACHINE = "machine.json"
Note = Callable[[str], None]


@dataclass(frozen=True)
class Machine:
    """Where a run goes on.

    Attributes:
        device: of this process.
        precision: `fp32` or `bf16`.
        history: what the run began with, then every change: device, hardware, precision.
    """

    device: torch.device
    precision: str
    history: Sequence[Mapping[str, Any]]


def settle(cfg: Config, folder: RunRecord, note: Note, *, resume: bool) -> Machine:
    """Choose the device and the precision of a run, or keep those that it began with.

    A change that cannot be helped, or that the settings ask for, is told and recorded.

    Args:
        cfg: the settings of the run.
        folder: keeps the record in machine.json until the run is finished.
        note: told of what is other than `auto` would be here, and of every change.
        resume: whether the run began before.

    Raises:
        UserError: as `pick_device`; the record cannot be read.
    """
    history = _recorded(folder) if resume else []
    before = history[-1] if history else {}
    device = pick_device(_device(cfg.device, before.get("device"), note))
    here = _name(precision(cfg.encoder.precision, device))
    kept = before.get("precision", here) if cfg.encoder.precision == "auto" else here
    if kept != here:
        note(f"precision: {kept}, as the run began; this machine alone would have taken {here}")
    if resume and not history and cfg.encoder.precision == "auto":
        note(f"precision: {here}; the version that began this run did not record what it took")
    # Ranks on unlike machines would each choose for themselves: the first one's choice holds.
    facts = ranks.gather({"device": device.type, "hardware": _hardware(device), "precision": kept})
    if facts[0] != before:
        if before:
            note(f"the machine changed: from {_words(before)} to {_words(facts[0])}")
        history = [*history, facts[0]]
        folder.write(MACHINE, {"history": history})
    return Machine(device, str(facts[0]["precision"]), history)


def forget_machine(folder: RunRecord) -> None:
    """Remove the record of a run whose metrics.json has it."""
    (folder.path / MACHINE).unlink(missing_ok=True)


def _device(wanted: str, began: str | None, note: Note) -> str:
    """The device to pick: with `auto`, the kind that the run began on, where it is here."""
    there = torch.cuda.is_available()
    if wanted != "auto" or began is None:
        return wanted
    if began == "cpu" and there:
        note("device: cpu, as the run began; `device: cuda` in its config.yaml takes the GPU")
    return "cpu" if began == "cpu" else wanted


def _recorded(folder: RunRecord) -> list[dict[str, Any]]:
    """What machine.json says; nothing of a run that an earlier version began."""
    if not (folder.path / MACHINE).is_file():
        return []
    found: list[dict[str, Any]] = folder.read(MACHINE, "history")["history"]
    return found


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    unit = cpu_bf16()
    return f"{platform.processor() or platform.machine()}, {unit or 'no bf16 unit'}"


def _name(dtype: torch.dtype) -> str:
    return "bf16" if dtype == torch.bfloat16 else "fp32"


def _words(facts: Mapping[str, Any]) -> str:
    return f"{facts['device']} ({facts['hardware']}, {facts['precision']})"
