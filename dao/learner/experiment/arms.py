"""The arms of the experiment: what each sets, and what readers call it.

A 2 x 2 of DAO and dendrites, and beside it what could explain an effect of dendrites other than
dendrites: `sham` has them but never trains them, `capacity` has as many parameters elsewhere. The
single tasks say what sharing an encoder costs or brings. An arm without dendrites has the control
`restart`, so that all reload their best weights and restart their optimizer after the same steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["ARMS", "PLACES", "SETS_APART", "label"]

RESTART = {"dendrites.enabled": True, "dendrites.control": "restart"}
GROWN = {"dendrites.enabled": True, "dendrites.control": "none"}

ARMS: Mapping[str, Mapping[str, Any]] = {
    "base": {"weighting": "equal", **RESTART},
    "dao": {"weighting": "dao", **RESTART},
    "dendrites": {"weighting": "equal", **GROWN},
    "dao+dendrites": {"weighting": "dao", **GROWN},
    "sham": {"weighting": "equal", **GROWN, "dendrites.control": "sham"},
    "capacity": {"weighting": "equal", **GROWN, "dendrites.control": "capacity"},
    "cls": {"tasks": ["cls"], **RESTART},
    "reg": {"tasks": ["reg"], **RESTART},
}
"""What defines each arm, in the order of all tables; every other setting is the same in all."""

SETS_APART = ("tasks", "weighting", "dendrites.enabled", "dendrites.control")
"""The settings in which arms may differ."""

PLACES = ("output", "cache", "name")
"""Settings that change no result."""

LABELS = {"cls": "cls alone", "reg": "reg alone"}


def label(arm: str) -> str:
    """What readers see in place of an arm's folder name."""
    return LABELS.get(arm, arm)
