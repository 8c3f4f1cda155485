"""Which tokens one answer of a served run rests on."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from dao.errors import UserError
from dao.learner.basics.program import install
from dao.learner.basics.wording import short
from dao.learner.calibration.told import TRAINED
from dao.learner.inference.load import Model, Text
from dao.learner.kinds import Task
from dao.learner.serving.answers import own_count, plain

__all__ = ["check_task", "explanation", "unexplained"]


def unexplained(engine: str) -> str:
    """Why a server explains no answers; empty where it does."""
    if engine != TRAINED:  # the others have no gradients
        return (
            f"Answers are explained by the engine {TRAINED} alone. Found {engine}. Start the "
            f"server without --engine."
        )
    if find_spec("captum") is None:
        return (
            f"A server that explains answers should have the package captum. Found none. Install "
            f"the extra where it runs: {install('explain')}"
        )
    return ""


def check_task(tasks: Mapping[str, Task], name: str) -> None:
    """Refuse a task that the run has not.

    Raises:
        UserError: naming those that it has.
    """
    if name not in tasks:
        raise UserError(
            f"`task` should be one of {', '.join(tasks)}. Found {short(name) or 'an empty name'}."
        )


def explanation(model: Model, text: Text, task: str, steps: int) -> dict[str, Any]:
    """What `POST /explain` answers.

    Args:
        model: Which is served.
        text: To explain.
        task: Whose answer it is.
        steps: Of the integral, at most.

    Raises:
        UserError: As `explained`, and as `Model.predict` of the text.
    """
    from dao.learner.explaining.attribution import explained

    own = own_count(model)
    (found,) = explained(own, [own.checked(text, 1)], [task], steps)
    told = found.to_dict()
    tokens = [{name: plain(value) for name, value in one.items()} for one in told.pop("tokens")]
    return {
        **{name: plain(value) for name, value in told.items()},
        "tokens": tokens,
        "notes": own.notes(),
    }
