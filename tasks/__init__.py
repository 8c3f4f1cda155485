"""What this laboratory learns from by name: headlines that it generates, and public data sets.

They build on `dao.learner`, which knows nothing of them until `register` is called.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from dao.learner.settings.named import DefaultData, NamedData, Reference
from dao.learner.settings.named import register as _register

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["register"]


def _headlines(options: Mapping[str, Any]) -> "pd.DataFrame":
    return _written(tuple(sorted(options.items()))).copy()


# Kept, because an experiment reads the data of each of its arms before it begins.
@lru_cache(maxsize=4)
def _written(options: tuple[tuple[str, Any], ...]) -> "pd.DataFrame":
    from tasks.synthetic import headlines

    return headlines(**dict(options))


def _limits(options: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    from tasks.synthetic import limits

    noise = {name: options[name] for name in ("label_noise", "score_noise") if name in options}
    return limits(**noise)


def _human_ratings() -> "pd.DataFrame":
    from tasks.human_ratings import human_ratings

    return human_ratings()


def _references() -> list[Reference]:
    from tasks.human_ratings import references

    return references()


HUMAN_RATINGS = NamedData(
    "human-ratings",
    _human_ratings,
    "MIT licence; cite C.J. Hutto and E. Gilbert, VADER: A Parsimonious Rule-based Model for "
    "Sentiment Analysis of Social Media Text, ICWSM 2014; read out of the package vaderSentiment "
    "3.3.2",
    defaults={
        "tasks": "score:regression,spread:regression,domain:classification",
        "data.slices": ["domain"],
    },
    references=_references,
)


def register() -> None:
    """Let a run without `--data` learn from the generated headlines, and one from data by name."""
    _register(DefaultData("the synthetic headlines", _headlines, _limits), HUMAN_RATINGS)
