"""What a router did on labelled rows: how often right, whom it used, soft against hard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from torch import Tensor

from dao.learner.experts.domains import UNKNOWN, expert_numbers
from dao.learner.inference.predictor import Predictor
from dao.learner.kinds import Task
from dao.learner.model.experts import EXPERTS
from dao.learner.model.model import MultiTaskModel
from dao.learner.scoring.scoring import breakdown, measure, predict

__all__ = ["domain_figures", "routed_right", "routing_figures"]


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
    predictor: Predictor[MultiTaskModel], tasks: Mapping[str, Task], rows: pd.DataFrame
) -> dict[str, Any]:
    """The router on labelled rows, and the tasks' figures with soft and with hard routing.

    Returns:
        What `routed_right` gives, with soft weights; and under `soft` and `hard` the figures of
        `all` rows and of each of the `domains`, task by task.
    """
    model = predictor.model
    assert model.experts is not None
    names, before = model.experts.names, model.experts.routing
    model.experts.routing = "soft"
    soft, outputs = domain_figures(predictor, tasks, rows)
    model.experts.routing = "hard"
    hard, _ = domain_figures(predictor, tasks, rows)
    model.experts.routing = before
    right = routed_right(outputs[EXPERTS], expert_numbers(rows, names), names)
    return {**right, "soft": soft, "hard": hard}


def domain_figures(
    predictor: Predictor[MultiTaskModel], tasks: Mapping[str, Task], rows: pd.DataFrame
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Figures of `all` rows and of each of the `domains`, task by task, and the outputs."""
    experts = predictor.model.experts
    assert experts is not None
    codes = expert_numbers(rows, experts.names).tolist()
    labels = [None if code == UNKNOWN else experts.names[code] for code in codes]
    examples = predictor.examples(rows, tasks)
    outputs = predict(predictor.model, examples, predictor.pad)
    parts = breakdown(tasks, outputs, examples.targets, {"domain": labels})
    return {"all": measure(tasks, outputs, examples.targets), "domains": parts["domain"]}, outputs
