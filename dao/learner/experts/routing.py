"""What a router did on labelled rows: how often right, whom it used, soft against hard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd
from torch import Tensor

from dao.learner.batches.batching import Examples
from dao.learner.experts.domains import UNKNOWN, expert_numbers
from dao.learner.inference.predictor import Predictor
from dao.learner.kinds import Task
from dao.learner.model.experts import EXPERTS
from dao.learner.model.model import MultiTaskModel
from dao.learner.scoring.scoring import breakdown, measure, predict

__all__ = ["domain_figures", "routed_right", "routing_figures"]

ROUTINGS: tuple[Literal["soft", "hard"], ...] = ("soft", "hard")


def routed_right(weights: Tensor, domains: Tensor, names: Sequence[str]) -> dict[str, Any]:
    """How a router's weights compare with the true domains.

    Args:
        weights: (rows, experts).
        domains: (rows,), numbers of experts, -1 where unknown.
        names: of the experts.

    Returns:
        `n` rows of a known domain; `accuracy`, the share of them whose heaviest expert is their
        domain's, None without any; the same per domain under `domains`, with the domain's `share`
        of the rows; `usage`, the mean weight of each expert over all rows.
    """
    chosen, known = weights.argmax(1), domains != UNKNOWN
    right = (chosen == domains)[known].double()
    of_domain = {}
    for number, name in enumerate(names):
        own = domains == number
        if n := int(own.sum()):
            accuracy = float((chosen[own] == number).double().mean())
            of_domain[name] = {"n": n, "share": n / int(known.sum()), "accuracy": accuracy}
    return {
        "n": len(right),
        "accuracy": float(right.mean()) if len(right) else None,
        "domains": of_domain,
        "usage": dict(zip(names, weights.double().mean(0).tolist(), strict=True)),
    }


def routing_figures(
    predictor: Predictor[MultiTaskModel],
    tasks: Mapping[str, Task],
    rows: pd.DataFrame,
    *,
    ids: Examples | None = None,
    outputs: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """The router on labelled rows, and the tasks' figures with soft and with hard routing.

    Args:
        predictor: a model with experts.
        tasks: to measure, by name.
        rows: n labelled rows of a table.
        ids: their token ids, where they are known already.
        outputs: the model's for them, as it routes now, where they are known already.

    Returns:
        What `routed_right` gives, with soft weights; and under `soft` and `hard` the figures of
        `all` rows and of each of the `domains`, task by task.
    """
    experts = predictor.model.experts
    assert experts is not None
    ids = predictor.examples(rows, {}) if ids is None else ids
    found: dict[str, Mapping[str, Tensor]] = {} if outputs is None else {experts.routing: outputs}
    usual = experts.routing
    for routing in ROUTINGS:
        if routing not in found:
            experts.routing = routing
            found[routing] = predict(predictor.model, ids, predictor.pad)
    experts.routing = usual
    right = routed_right(found["soft"][EXPERTS], expert_numbers(rows, experts.names), experts.names)
    figures: dict[str, Any] = {
        routing: domain_figures(experts.names, tasks, rows, found[routing]) for routing in ROUTINGS
    }
    return {**right, **figures}


def domain_figures(
    names: Sequence[str],
    tasks: Mapping[str, Task],
    rows: pd.DataFrame,
    outputs: Mapping[str, Tensor],
) -> dict[str, Any]:
    """Figures of `all` rows and of each of the `domains`, task by task.

    Args:
        names: of the experts.
        tasks: to measure, by name.
        rows: n labelled rows of a table.
        outputs: the model's for them, task -> (n, outputs of the task).
    """
    codes = expert_numbers(rows, names).tolist()
    labels = [None if code == UNKNOWN else names[code] for code in codes]
    targets = {name: task.encode(rows[name].tolist()) for name, task in tasks.items()}
    parts = breakdown(tasks, outputs, targets, {"domain": labels})
    return {"all": measure(tasks, outputs, targets), "domains": parts["domain"]}
