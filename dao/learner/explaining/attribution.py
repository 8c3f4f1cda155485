"""Integrated gradients of one answer, over the token embeddings of its text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from dao.errors import UserError
from dao.learner.basics.pairs import PAIR
from dao.learner.basics.program import install
from dao.learner.batches.tokens import end_ids
from dao.learner.inference.load import Model
from dao.learner.kinds import Task

__all__ = ["Explanation", "check_captum", "explained"]

FIRST, MOST = 32, 512
"""Steps of the integral: as many more as it takes, from the first number on, doubling."""
CLOSE = 0.01
"""Share of the difference that attributions may miss before the steps are doubled."""
TINY = 1e-3
TOGETHER = 16  # steps in one forward pass


@dataclass(frozen=True)
class Explanation:
    """What each token of a text adds to one answer.

    Attributes:
        text: that was given.
        task: whose answer it is.
        answer: as predictions have it.
        of: what the numbers add up to, such as the log-probability of the answer.
        tokens: those of the text in order, without the special ones of its ends.
        attributions: of each token; they sum to `value` - `baseline` but for `gap`.
        value: of the text.
        baseline: of as many padding tokens.
        gap: the sum of the attributions minus (`value` - `baseline`).
        steps: of the integral.
    """

    text: str
    task: str
    answer: Any
    of: str
    tokens: Sequence[str]
    attributions: Sequence[float]
    value: float
    baseline: float
    gap: float
    steps: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON, the tokens with their attributions; the second text of a pair by itself."""
        first, *second = self.text.split(PAIR)
        tokens = zip(self.tokens, self.attributions, strict=True)
        pair = {"text_pair": second[0]} if second else {}
        found = {"text": first, **pair} | {k: v for k, v in asdict(self).items() if k != "text"}
        del found["attributions"]
        return found | {"tokens": [{"token": token, "attribution": x} for token, x in tokens]}


def check_captum() -> None:
    """Refuse without the extra.

    Raises:
        UserError: captum is missing.
    """
    if find_spec("captum") is None:
        raise UserError(
            f"`dao explain` should have the package captum. Found none. Install the extra: "
            f"{install('explain')}"
        )


def explained(
    model: Model, texts: Sequence[str], names: Sequence[str], most: int = MOST
) -> list[Explanation]:
    r"""What each token of each text adds to the answers of some tasks.

    Integrated gradients (Sundararajan, Taly and Yan 2017, arXiv 1703.01365) by captum. With e the
    embeddings of the text, e' those of the same text with a padding token in place of each token,
    and f what `Task.evidence` says for the answer, token i has

    .. math:: (e_i - e'_i) \cdot \int_0^1 \nabla_i f(e' + a (e - e')) \, da

    and the sum over the tokens is f(e) - f(e'). The integral is a sum of steps, which are doubled
    until it misses at most one percent, or there are `most`. Where experts are mixed, their weights
    stay those of the text: what the router sees has no part in the attributions.

    Args:
        model: a finished run, as it was trained (engine `eager`).
        texts: known to be usable; pairs as one string each.
        names: of the tasks.
        most: steps of the integral.

    Raises:
        UserError: captum is missing; a text as `Predictor.tokens`.
    """
    check_captum()
    rows = model.predictor.tokens(texts)
    return [
        _explained(model, text, torch.tensor([int(token) for token in ids]), name, most)
        for text, ids in zip(texts, rows, strict=True)
        for name in names
    ]


def _explained(model: Model, text: str, ids: Tensor, name: str, most: int) -> Explanation:
    predictor, task = model.predictor, model.tasks[name]
    net = predictor.model.eval()
    ids = ids[None].to(net.device)
    special = torch.isin(ids, torch.tensor([*end_ids(predictor.tokenizer)]).to(ids))
    blank = torch.where(special, ids, predictor.pad)
    with torch.no_grad():
        outputs = _outputs(net, ids)[name].float()
    decided = task.decide(outputs)

    def evidence(input_ids: Tensor) -> Tensor:
        return task.evidence(_outputs(net, input_ids)[name].float(), decided)

    with nullcontext() if net.experts is None else net.experts.holding():
        found, steps = _integrated(net, evidence, ids, blank, most)
        with torch.no_grad():
            value, baseline = float(evidence(ids)), float(evidence(blank))
    kept = (~special[0]).nonzero()[:, 0].tolist()
    gap = float(found.sum()) - (value - baseline)
    return Explanation(
        text=text,
        task=name,
        answer=_answer(task, outputs),
        of=task.evidence_unit,
        tokens=[predictor.tokenizer.decode([int(ids[0, place])]).strip() for place in kept],
        attributions=[float(found[place]) for place in kept],
        value=value,
        baseline=baseline,
        gap=gap,
        steps=steps,
    )


def _outputs(net: Any, ids: Tensor) -> Mapping[str, Tensor]:  # noqa: ANN401  (a MultiTaskModel)
    found: Mapping[str, Tensor] = net(ids, torch.ones_like(ids))
    return found


def _integrated(
    net: Any,  # noqa: ANN401  (a MultiTaskModel)
    evidence: Any,  # noqa: ANN401  (token ids to a number)
    ids: Tensor,
    blank: Tensor,
    most: int,
) -> tuple[Tensor, int]:
    """The attribution of each token (length,), float64, and the steps that it took."""
    from captum.attr import LayerIntegratedGradients

    with torch.no_grad():
        difference = float(evidence(ids) - evidence(blank))
    integral = LayerIntegratedGradients(evidence, net.base.get_input_embeddings())
    steps = FIRST
    while True:
        found = integral.attribute(ids, blank, n_steps=steps, internal_batch_size=TOGETHER)
        each = found.double().sum(dim=-1)[0].cpu()
        missed = abs(float(each.sum()) - difference)
        if missed <= max(CLOSE * abs(difference), TINY) or steps >= most:
            return each, steps
        steps *= 2


def _answer(task: Task, outputs: Tensor) -> Any:  # noqa: ANN401  (a class or a number)
    return task.predict(outputs)[task.name][0]
