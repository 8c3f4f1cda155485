"""The settings that decide the course of a run, and the refusal to go on with other ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from dao.errors import UserError
from dao.learner.settings.config import Config, placed

__all__ = ["check_settings", "completed", "decisive"]


def decisive(cfg: Config) -> dict[str, Any]:
    """The settings that the course of a run depends on."""
    places = dict.fromkeys(("name", "output", "device", "cache"), True)
    # The data have a fingerprint.
    within = {"train": {"keep_checkpoint", "track"}, "data": {"rules"}, "dendrites": {"graph"}}
    found = cfg.model_dump(mode="json", exclude={**places, **within})
    measured = {**cfg.dao.measured(len(cfg.tasks)), "rules": 3}
    # Where the copied run lies decides nothing: a checkpoint has the steps of its growths.
    copied = {"growths_of": "RUN" if cfg.dendrites.growths_of else ""}
    return {
        **found, "dao": {**found["dao"], **measured}, "dendrites": {**found["dendrites"], **copied},
    }  # fmt: skip


def completed(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of an earlier version, with the defaults of those that it did not have."""
    measured = found.get("dao")
    if isinstance(measured, Mapping):
        found = {**found, "dao": {"rules": 1, **measured}}
    try:
        return decisive(placed(Config.model_validate(found)))
    except ValidationError:  # of a later version: what differs is named
        return found


def check_settings(found: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse a run that goes on with other decisive settings than it began with."""
    for key in now:
        old, new = found.get(key), now[key]
        if isinstance(old, dict) and isinstance(new, dict):
            check_settings(old, new, f"{prefix}{key}.")
        elif old != new:
            raise UserError(
                f"A run should be resumed with the settings it began with. Found `{prefix}{key}` "
                f"changed from {old} to {new} in config.yaml. Restore it, or start again with "
                f"--overwrite."
            )
