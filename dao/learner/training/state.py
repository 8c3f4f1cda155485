"""The state of a run between two steps."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dao.errors import UserError
from dao.learner.batches.batching import collate
from dao.learner.dendrites.dendrites import DendriteError, Dendrites, GrowthOptions, target_modules
from dao.learner.model.packing_check import check_packing
from dao.learner.processes import ranks
from dao.learner.scoring.scoring import labels_of
from dao.learner.training.job import Job
from dao.learner.training.parameter_groups import parameter_groups, trained_apart
from dao.learner.training.plan import Plateau, make_plan
from dao.learner.training.step_log import StepLog
from dao.learner.weighting.weighting import make_weighting

__all__ = ["State", "copy_into"]


class State:
    """The state of a run, which steps, validations, growths and resumptions change.

    Args:
        job: the model, its data and settings; the model is changed in place.

    Attributes:
        plan: which step trains what, validates and grows.
        dendrites: grown during training; None where none are asked for.
        weighting: turns losses into gradients.
        optimizer: of the parameters that train now.
        parallel: the model; with several ranks, inside the wrapper that averages gradients.
        row_weights: per task the weight of every training row in a mean, (rows,).
        log: the record of the steps.
        grown_at: steps after which a set of dendrites was added, or the run restarted instead.
        ended_at: the step after which growth was over and the best model was put back, or None.
        thrown_away: steps between a best model and the moment at which it was put back, all told.
        plateau: where a schedule that follows the validations stands.
        best: `score` of the best model; once there is one, its `step` and the `description` of its
            dendrites.
        best_tensors: the weights of the best model.

    Raises:
        UserError: as `make_plan`; the encoder cannot keep packed rows apart.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.model, self.tasks, self.cfg = job.model, job.tasks, job.cfg
        labels = labels_of(job.tasks, job.train)
        self.plan = make_plan(
            job.train.lengths, job.cfg, job.steps, job.validations, labels, job.copied
        )
        if job.line_limit is not None:
            check_packing(job.model, job.line_limit)
        self.dendrites = _wrapped(job) if job.cfg.dendrites.grown else None
        self.weighting = make_weighting(
            job.cfg,
            list(job.tasks),
            shared=job.model.shared_parameters,
            trainable=lambda: list(self.trainable().values()),
            device=job.model.device,
        )
        self.grown_at: list[int] = []
        self.ended_at: int | None = None
        self.thrown_away = 0
        self.plateau = Plateau()
        self.best: dict[str, Any] = {"score": -math.inf}
        self.best_tensors: dict[str, Tensor] = {}
        targets = job.train.targets
        self.row_weights = {n: t.row_weights(targets[n]) for n, t in job.tasks.items()}
        self.renew_optimizer()
        self.log = StepLog(job, self.plan.total)
        self.seconds_before = 0.0
        self._started = time.perf_counter()
        torch.manual_seed(job.cfg.seed)

    def renew_optimizer(self) -> None:
        """Build optimizer and, with several ranks, wrapper anew for the parameters of now."""
        ranks.check_equal(self.trainable(), DendriteError if self.dendrites else UserError)
        self.parallel = ranks.parallel(self.model)
        cfg = self.cfg.train
        apart = trained_apart(self.cfg, self.dendrites, self.model.experts)
        groups = parameter_groups([*self.trainable().values()], apart)
        self.optimizer = torch.optim.AdamW(
            groups, lr=cfg.lr, weight_decay=cfg.weight_decay, fused=True
        )
        if self.dendrites:
            self.dendrites.set_optimizer(self.optimizer)

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that train, by name, in the order of the model."""
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    def seconds(self) -> float:
        """Seconds spent on the run so far, over all resumptions."""
        return self.seconds_before + time.perf_counter() - self._started


def copy_into(parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]) -> None:
    """Give every parameter the values of the tensor of its name."""
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


def _wrapped(job: Job) -> Dendrites:
    cfg, train = job.cfg.dendrites, job.train
    sample = collate(train, range(min(2, len(train))), job.pad, job.model.device)
    options = GrowthOptions(
        max_dendrites=len(job.copied.growths) if job.copied else cfg.sets,
        patience=None if job.copied else cfg.patience,
        activation=cfg.activation,
        init_scale=cfg.init_scale,
        seed=job.cfg.seed,
        sham=cfg.control == "sham",
        rank=job.cfg.dendrite_rank,
    )
    return Dendrites(
        job.model,
        target_modules(job.model, cfg.where),
        options,
        run_dir=job.folder.path,
        probe=lambda model: model(sample.input_ids, sample.attention_mask),
    )
