"""What this laboratory learns from by name: the headlines that it generates.

They build on `dao.learner`, which knows nothing of them until `register` is called.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dao.learner.data.named import DefaultData
from dao.learner.data.named import register as _register

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["register"]


def _headlines(options: Mapping[str, Any]) -> "pd.DataFrame":
    from tasks.synthetic import headlines

    return headlines(**options)


def _limits(options: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    from tasks.synthetic import limits

    noise = {name: options[name] for name in ("label_noise", "score_noise") if name in options}
    return limits(**noise)


def register() -> None:
    """Let a run without `--data` learn from the generated headlines."""
    _register(DefaultData("the synthetic headlines", _headlines, _limits))
