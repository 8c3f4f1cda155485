"""The experts of a run as one plain adapter, by peft's own rules, and what that costs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from dao.errors import UserError
from dao.learner.basics.program import command
from dao.learner.encoder.find import hub_id
from dao.learner.encoder.gated import GatedLinear
from dao.learner.encoder.scratch import made_encoder
from dao.learner.experts.routing import domain_figures
from dao.learner.inference.predictor import Predictor
from dao.learner.kinds import Task
from dao.learner.model.experts import MERGED
from dao.learner.model.model import MultiTaskModel
from dao.learner.model.saving import HEADS
from dao.learner.scoring.scoring import predict
from dao.learner.storage.files import replace_folder, write_tensors
from dao.learner.storage.record import RunFolder

__all__ = ["Rule", "check_weights", "merge_and_measure", "merge_experts", "write_merged"]

Rule = Literal["cat", "svd", "linear", "ties"]
DENSITY = 0.5  # of `ties`: the share of each adapter's largest entries that is kept


def check_weights(text: str | None, names: Sequence[str]) -> list[float]:
    """The weights of the experts, such as .5,.5; equal ones where none are given.

    Raises:
        UserError: they are not as many numbers above zero as there are experts.
    """
    if text is None:
        return [1 / len(names)] * len(names)
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) != len(names) or not all(0 < weight < float("inf") for weight in found):
        raise UserError(
            f"`--expert-weights` should be {len(names)} numbers above 0, of {', '.join(names)}. "
            f"Found {text!r}. Give for example {','.join(['.5'] * len(names))}."
        )
    return found


def merge_experts(model: MultiTaskModel, rule: Rule, weights: Sequence[float]) -> None:
    """Make one adapter of all experts, which then acts alone; the router has no part any more.

    `cat` and `svd` give the weighted sum of the experts' updates, of the sum of their ranks; where
    a layer is narrower than that, `svd` gives the closest of its width, in all layers. `linear`
    combines A and B each by itself, at one expert's rank, which is not that sum; `ties` trims both
    and resolves signs before (Yadav et al. 2023, arXiv 2306.01708), keeping half of the entries.
    All four are `add_weighted_adapter` of peft.
    """
    experts = model.experts
    assert experts is not None
    rank = {"svd_rank": _svd_rank(model)} if rule == "svd" else {}
    model.encoder.base_model.add_weighted_adapter(
        list(experts.names),
        list(weights),
        MERGED,
        combination_type=rule,
        density=DENSITY if rule == "ties" else None,
        **rank,
    )
    experts.alone = MERGED


def _svd_rank(model: MultiTaskModel) -> int:
    """The sum of the ranks, or the width of the narrowest layer: peft takes one for all layers."""
    assert model.experts is not None
    layers = [module for module in model.encoder.modules() if isinstance(module, GatedLinear)]
    full = min(int(min(layer.in_features, layer.out_features)) for layer in layers)
    return min(len(model.experts.names) * model.experts.gate.rank, full)


def check_new(folder: Path) -> None:
    """Refuse a folder that is there already, or cannot be made.

    Raises:
        UserError: naming it.
    """
    if folder.exists() or not os.access(folder.parent, os.W_OK):
        raise UserError(
            f"--output should be a new folder in one that can be written. Found {folder}. Choose "
            f"another."
        )


def write_merged(model: MultiTaskModel, base_name: str, folder: Path) -> None:
    """Write the merged adapter, a plain one of peft, and the heads beside it.

    Raises:
        OSError: it could not be written.
    """
    model.encoder.peft_config[MERGED].base_model_name_or_path = base_name

    def fill(place: Path) -> None:
        model.encoder.save_pretrained(
            place, selected_adapters=[MERGED], save_embedding_layers=False
        )
        for file in (place / MERGED).iterdir():
            file.rename(place / file.name)
        (place / MERGED).rmdir()
        (place / "README.md").unlink(missing_ok=True)
        write_tensors(place / HEADS, model.heads.state_dict())

    replace_folder(folder, fill)


def merge_and_measure(
    folder: RunFolder,
    predictor: Predictor[MultiTaskModel],
    tasks: Mapping[str, Task],
    rows: pd.DataFrame,
    rule: Rule,
    weights: str | None,
    output: Path,
) -> tuple[dict[str, Any], list[str]]:
    """Write the experts of a run as one adapter; its figures on `rows` beside the routed ones.

    Returns:
        Name of the way -> figures as `domain_figures` gives them; what was done, in lines.

    Raises:
        UserError: the run has no experts, the weights are not theirs, or the folder is there
            already or cannot be written.
    """
    model = predictor.model
    if model.experts is None:
        raise UserError(
            f"A run to merge should have experts. The one in {folder.path} has none. Train one "
            f"with --experts."
        )
    shares = check_weights(weights, model.experts.names)
    check_new(output)
    routing = model.experts.routing
    ids, names = predictor.examples(rows, {}), model.experts.names
    routed = domain_figures(names, tasks, rows, predict(model, ids, predictor.pad))
    merge_experts(model, rule, shares)
    merged = domain_figures(names, tasks, rows, predict(model, ids, predictor.pad))
    write_merged(model, _base_name(folder), output)
    given = ", ".join(f"{n} {w:g}" for n, w in zip(model.experts.names, shares, strict=True))
    rank = model.encoder.peft_config[MERGED].r
    short = rule == "svd" and rank < len(shares) * model.experts.gate.rank
    closest = ", the closest to the sum that its narrowest layer allows" if short else ""
    done = (
        f"{output}: a plain peft adapter of rank {rank}{closest}, by {rule} of {given}; heads "
        f"beside it, for use with peft ({command('evaluate')} takes runs)"
    )
    return {f"routed, {routing}": routed, f"merged, {rule}": merged}, [done]


def _base_name(folder: RunFolder) -> str:
    """What the merged adapter stands on: its encoder's name, or where the run keeps its own."""
    cfg = folder.config()
    scratch = folder.read("metrics.json", "provenance")["provenance"].get("scratch")
    return made_encoder(folder.path.resolve(), cfg) if scratch else hub_id(cfg.encoder.name)
