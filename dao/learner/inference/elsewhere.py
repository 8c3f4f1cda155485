"""A finished run whose encoder has another place now."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from dao.learner.settings.config import Config
from dao.learner.storage.record import RunFolder

__all__ = ["RunElsewhere"]


class RunElsewhere(RunFolder):
    """A run folder that is read with another `encoder.name` than it was trained with.

    Args:
        path: of the run folder.
        encoder: folder or hub id of the same encoder; empty for the one of the settings.
    """

    def __init__(self, path: Path, encoder: str = "") -> None:
        super().__init__(path)
        self.encoder = encoder

    def config(self, overrides: Iterable[str] = ()) -> Config:
        """The settings of the run, with the encoder's other place."""
        return self._read(overrides) if overrides else self._settings

    @cached_property
    def _settings(self) -> Config:
        """They are asked for again and again, and those of a finished run stay as they are."""
        return self._read(())

    def _read(self, overrides: Iterable[str]) -> Config:
        elsewhere = [f"encoder.name={json.dumps(self.encoder)}"] if self.encoder else []
        return super().config([*elsewhere, *overrides])

    def told(self) -> list[str]:
        """A line on the other place, where there is one."""
        if not self.encoder:
            return []
        before = super().config().encoder.name
        return [f"encoder: {self.config().encoder.name}; the run was trained with {before}"]
