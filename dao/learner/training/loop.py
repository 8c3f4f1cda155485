"""fit(): train, validate, grow, keep the best, checkpoint, resume."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dao.errors import UserError
from dao.learner.batches.batching import Batch, Examples, collate, fingerprint
from dao.learner.dendrites import dendritic
from dao.learner.dendrites.dendrites import DendriteError, Dendrites, target_modules
from dao.learner.kinds import Task
from dao.learner.model.model import MultiTaskModel
from dao.learner.model.packing_check import check_packing
from dao.learner.processes import ranks
from dao.learner.processes.interrupt import deferred_interrupt
from dao.learner.scoring.scoring import labels_of, measure, predict, selection_score
from dao.learner.settings.config import Config
from dao.learner.settings.decisive import check_settings, completed, decisive
from dao.learner.storage.checkpoint import ADVICE, check_fit, check_optimizer, load_checkpoint
from dao.learner.storage.history import History, NonFiniteError
from dao.learner.storage.record import RunFolder
from dao.learner.training.parameter_groups import in_order, own_rates, parameter_groups
from dao.learner.training.plan import Plan, make_plan
from dao.learner.training.step import StepRecord, parts_of, router_losses, task_losses
from dao.learner.weighting.weighting import make_weighting

__all__ = ["DOMAIN", "Fitted", "Job", "Progress", "fit"]

WEIGHTS = "model"
BEST = "best"
DOMAIN = "(domain)"  # no name of a task; beside the tasks' targets: the number of each row's expert
NO_DENDRITES = {"activation": "sigmoid", "dendrites": {}}
STATE = ("grown_at", "best", "events", "seconds", "settings")
SHOWN = 10  # rows that a message names


class Progress(Protocol):
    """Told of every step and validation, with the rows that go into the history."""

    def step(self, row: Mapping[str, Any], plan: Plan) -> None:
        """After a training step."""

    def validation(self, row: Mapping[str, Any]) -> None:
        """After a validation."""

    def note(self, text: str) -> None:
        """What a reader should know before the first step."""


@dataclass(frozen=True)
class Fitted:
    """The selected model and how it came about.

    Attributes:
        model: the best model by validation, its dendrites taken off.
        description: the structure of its dendrites, what `dendritic.attach` takes.
        dendrites: their weights, what `dendritic.load` takes.
        report: the content of dendrites.json, or None where none were asked for.
        steps: optimizer steps done.
        best_step: the step after which the selected model was measured.
        seconds: time spent in training, validation and growth, over all resumptions.
        planned: where training stopped early, the steps that all epochs would have had; else None.
        skipped: steps that were left out, over all resumptions.
        weights: task -> its `first` and its `last` loss weight; a task without any has no entry.
    """

    model: MultiTaskModel
    description: dict[str, Any]
    dendrites: dict[str, Tensor]
    report: dict[str, Any] | None
    steps: int
    best_step: int
    restarts: list[int]
    seconds: float
    planned: int | None = None
    skipped: int = 0
    weights: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """What is to be fitted, on what, how, and where the record goes.

    Attributes:
        model: fresh, on its device.
        tasks: by name, in the order of the heads.
        train: rows with a label for at least one task.
        validation: rows to select by.
        pad: token id to pad with.
        cfg: the whole run's settings.
        folder: already created.
        progress: told of every step and validation.
        line_limit: pack the rows of a batch into lines of at most this many tokens.
        names: of the training rows, for messages.
        steps: train for exactly so many, whatever `train.epochs` says.
        validations: so many, instead of `train.validations_per_epoch`.
        selects: whether the weights that validate best are taken, or the last ones.
        router: with a model of experts, whether its router trains, by `train.targets[DOMAIN]`.
    """

    model: MultiTaskModel
    tasks: Mapping[str, Task]
    train: Examples
    validation: Examples
    pad: int
    cfg: Config
    folder: RunFolder
    progress: Progress
    line_limit: int | None = None
    names: Sequence[str] = ()
    steps: int | None = None
    validations: int | None = None
    selects: bool = True
    router: bool = False


def fit(job: Job, *, resume: bool = False) -> Fitted:
    """Train the model, select on validation, and leave the record in the run folder.

    Args:
        job: what is to be done.
        resume: continue after the latest checkpoint; equal to the bit to never having stopped.
            The number of ranks may have changed, and from three on they add up gradients in no
            fixed order: then it is equal but for rounding (and for LoRA dropout).

    Raises:
        UserError: a loss or an output is no longer finite; the settings leave no room for growth,
            or are not those of the checkpoint; the encoder cannot keep packed rows apart.
        DendriteError: dendrites were asked for and none was added or none received a gradient.
        KeyboardInterrupt: after Ctrl-C, once a checkpoint is saved.
    """
    loop = _Loop(job)
    done = loop.restore() if resume else 0
    with deferred_interrupt() as interrupted:
        try:
            for step, epoch, rows in loop.plan.batches(done):
                if loop.stops_after(done):  # here, since a checkpoint may be of that moment
                    break
                loop.train_step(step, epoch, rows)
                if loop.plan.ends_epoch(step):
                    loop.weighting.end_epoch()
                if step in loop.plan.validations:
                    loop.validate(step, epoch)
                stop = interrupted()
                if stop or loop.saves_after(step):
                    loop.checkpoint(step)
                if stop:
                    raise KeyboardInterrupt
                done = step
        except NonFiniteError as found:
            raise loop.diverged(found.what, found.value, found.step, found.rows) from None
    return loop.finish(done)


class _Loop:
    """The state of a run between two steps."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.model, self.tasks, self.cfg = job.model, job.tasks, job.cfg
        labels = labels_of(job.tasks, job.train)
        self.plan = make_plan(job.train.lengths, job.cfg, job.steps, job.validations, labels)
        if job.line_limit is not None:
            check_packing(job.model, job.line_limit)
        self.dendrites = self._wrap() if job.cfg.dendrites.grown else None
        self.weighting = make_weighting(
            job.cfg,
            list(job.tasks),
            shared=job.model.shared_parameters,
            trainable=lambda: list(self._trainable().values()),
            device=job.model.device,
        )
        self.grown_at: list[int] = []
        self.best: dict[str, Any] = {"score": -math.inf}
        self.best_tensors: dict[str, Tensor] = {}
        targets = job.train.targets
        self.row_weights = {n: t.row_weights(targets[n]) for n, t in job.tasks.items()}
        self._prepare()
        self.history = History(self.model.device, self._record, job.cfg.train.log_every)
        self.skipped = 0
        self.weights: dict[str, dict[str, float]] = {}
        self.seconds_before = 0.0
        self.started = time.perf_counter()
        torch.manual_seed(job.cfg.seed)

    def _wrap(self) -> Dendrites:
        cfg = self.cfg.dendrites
        train = self.job.train
        sample = collate(train, range(min(2, len(train))), self.job.pad, self.model.device)
        return Dendrites(
            self.model,
            target_modules(self.model, cfg.where),
            run_dir=self.job.folder.path,
            probe=lambda model: model(sample.input_ids, sample.attention_mask),
            max_dendrites=cfg.sets,
            patience=cfg.patience,
            activation=cfg.activation,
            init_scale=cfg.init_scale,
            seed=self.cfg.seed,
            sham=cfg.control == "sham",
            rank=self.cfg.dendrite_rank,
        )

    def _prepare(self) -> None:
        """A new optimizer, and over several ranks a new wrapper, for the parameters as they are."""
        ranks.check_equal(self._trainable(), DendriteError if self.dendrites else UserError)
        self.parallel = ranks.parallel(self.model)
        cfg = self.cfg.train
        own = own_rates(self.cfg, self.dendrites, self.model.experts)
        groups = parameter_groups([*self._trainable().values()], own)
        self.optimizer = torch.optim.AdamW(
            groups, lr=cfg.lr, weight_decay=cfg.weight_decay, fused=True
        )
        if self.dendrites:
            self.dendrites.set_optimizer(self.optimizer)

    def _trainable(self) -> dict[str, nn.Parameter]:
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    # -- one step ------------------------------------------------------------------------------

    def train_step(self, step: int, epoch: int, rows: tuple[int, ...]) -> None:
        """The batches of one step: forward, losses, weights, backward; optimizer, history.

        Each rank takes its share of every batch; losses, gradients and the row are of them all.
        """
        self.history.begin()
        ranks.seed_step(self.cfg.seed, step)
        rate = self.cfg.train.lr * self.plan.rate(step, max(self.grown_at, default=None))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("times", 1.0)  # earlier checkpoints have none
        self.model.train()
        before = copy.deepcopy(self.weighting.state_dict()) if self._skipping else {}
        done = StepRecord()
        parts = self.plan.micro_batches(rows)
        finite = all(self._add_batch(step, epoch, rows, part, done) for part in parts)
        if not finite or self._breaks(step, epoch, rows, done):
            self.weighting.load_state_dict(before)
            self.history.drop(step)
            return
        self.weighting.end_step()
        if self.dendrites:
            self.dendrites.record_gradients()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.weighting.after_step(lambda: self._losses(self._batch(rows), rows))
        row = {
            "step": step,
            "epoch": epoch,
            "batch": fingerprint(rows),
            "rows": len(rows),
            "tokens": sum(self.plan.lengths[row] for row in rows),
            "lr": rate,
            "measured": done.measured,
        }
        self.history.add(row, done.loss, done.tasks, rows, done.router)

    def _batch(self, rows: tuple[int, ...]) -> Batch:
        """This rank's share of the rows."""
        # A rank for which no row is left computes the first one as well, which counts as nothing.
        own = ranks.share(rows) or rows[:1]
        return collate(self.job.train, own, self.job.pad, self.model.device, self.job.line_limit)

    def _add_batch(
        self, step: int, epoch: int, rows: tuple[int, ...], some: tuple[int, ...], done: StepRecord
    ) -> bool:
        """Add the gradients of `some` rows of a step to the others'; False if it is left out."""
        batch = self._batch(some)
        losses = self._losses(batch, some)
        named = {f"The loss of `{n}`": loss for n, loss in losses.items() if loss is not None}
        router = {}
        if self.job.router:
            assert self.model.experts is not None
            domains, part = batch.targets[DOMAIN], len(some) / len(rows)
            router = router_losses(self.model.experts, self.cfg.experts, domains, part)
        named |= {"The loss of the router": router["loss"]} if router else {}
        if self._skips(step, epoch, named, some):
            return False
        self.history.watch(step, named, some)
        if ranks.several():
            self.history.check()  # for a task that is left out here the other ranks would wait
        if self.weighting.is_due(losses):
            self.history.flush()  # a measurement waits for the device anyway
        parts = {} if some == rows else parts_of(self.row_weights, rows, some)
        loss = self.weighting.accumulate(losses, parts)
        if router:  # after the tasks, whose weighting may set gradients instead of adding to them
            torch.autograd.backward(router["loss"])
            loss = loss + router["loss"].detach()
        done.add(loss, self.weighting, parts, router)
        return True

    def _breaks(self, step: int, epoch: int, rows: tuple[int, ...], done: StepRecord) -> bool:
        """Clip the gradient of all batches; whether the step is left out because of it."""
        if ranks.several():
            self._clear_absent(rows)
        broken = {f"The gradient of `{n}`": torch.tensor(math.nan) for n in done.broken}
        norm = {**broken, "The gradient": self._clip()}
        if self._skips(step, epoch, norm, rows):
            return True
        self.history.watch(step, norm, rows)
        return False

    def _clip(self) -> Tensor:
        """Scale the gradient down where it is too large; its norm as it was."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        return nn.utils.clip_grad_norm_(parameters, self.cfg.train.clip)

    @property
    def _skipping(self) -> bool:
        return self.cfg.train.nonfinite == "skip"

    def _skips(
        self, step: int, epoch: int, values: Mapping[str, Tensor], rows: tuple[int, ...]
    ) -> bool:
        """Whether this step is left out, on all ranks, because a value is not finite."""
        if not self._skipping:
            return False
        read = {what: value.item() for what, value in values.items()}
        bad = [(what, value) for what, value in read.items() if not math.isfinite(value)]
        bad = [found for of_rank in ranks.gather(bad) for found in of_rank]
        if not bad:
            return False
        self.optimizer.zero_grad()
        what, value = bad[0]
        row = {"step": step, "epoch": epoch, "what": what, "value": str(value)}
        self.job.folder.append("skipped.jsonl", {**row, "rows": self._names(rows)})
        self.skipped += 1
        self.job.progress.note(f"step {step} left out: {what} is {value}")
        return True

    def _names(self, rows: Sequence[int]) -> list[str]:
        return [self.job.names[row] if self.job.names else f"{row}" for row in rows]

    def _record(self, row: dict[str, Any]) -> None:
        self.job.folder.append("history.jsonl", row)
        self._remember(row)
        self.job.progress.step(row, self.plan)

    def _remember(self, row: Mapping[str, Any]) -> None:
        for task, values in row["tasks"].items():
            weight = values["weight"]  # some aggregators of gradients have none
            if weight is not None and math.isfinite(weight):
                self.weights.setdefault(task, {"first": weight})["last"] = weight

    def _losses(self, batch: Batch, rows: tuple[int, ...]) -> dict[str, Tensor | None]:
        """Of this rank's `batch`; over all ranks their mean is the loss of all `rows`."""
        outputs = self.parallel(
            batch.input_ids,
            batch.attention_mask,
            tap=self.weighting.tap,
            segments=batch.segments,
            prefix=batch.prefix,
        )
        losses = task_losses(self.tasks, outputs, batch, self.row_weights)
        if ranks.several():
            parts = parts_of(self.row_weights, rows, ranks.share(rows))
            losses = ranks.of_whole_batch(losses, outputs, parts)
        return losses

    def _clear_absent(self, rows: tuple[int, ...]) -> None:
        """No gradient in place of zeros for tasks without a label: AdamW then leaves them alone."""
        for name in self.tasks.keys() - parts_of(self.row_weights, rows, rows).keys():
            self.model.heads[name].zero_grad()

    def diverged(self, what: str, found: float, step: int, rows: Sequence[int] = ()) -> UserError:
        """What a user is told of a number that is not finite."""
        names = self._names(rows)
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        where = f", of the rows {', '.join(names[:SHOWN])}{more}" if names else ""
        look = "Look at these rows, lower" if names else "Lower"
        skip = "" if self._skipping else ", or leave such steps out with train.nonfinite=skip"
        return UserError(
            f"{what} should be finite. Found {found} at step {step}{where}. {look} train.lr (now "
            f"{self.cfg.train.lr}), use encoder.precision=fp32{skip}."
        )

    def stops_after(self, step: int) -> bool:
        """Whether training ends after this step, before all epochs are over.

        All ranks do as the first one does: one that went on alone would wait for the others.
        """
        if self.plan.early_stopping is None or step not in self.plan.validations:
            return False
        return ranks.gather(self.plan.stops_after(step, self.best.get("step", 0)))[0]

    def saves_after(self, step: int) -> bool:
        """Whether a checkpoint is due."""
        return step in self.plan.validations or step % self.cfg.train.checkpoint_every == 0

    # -- validation and growth -----------------------------------------------------------------

    def validate(self, step: int, epoch: int) -> None:
        """Measure on validation, keep the model if it is the best so far, grow if it is time."""
        self.history.flush()
        outputs = predict(self.model, self.job.validation, self.job.pad, shared=True)
        for task, values in outputs.items():
            if not torch.isfinite(values).all():
                raise self.diverged(f"Every output of `{task}`", math.nan, step)
        figures = measure(self.tasks, outputs, self.job.validation.targets)
        score = selection_score(self.tasks, figures, self.cfg.train.select_weights)
        better = score > self.best["score"]
        if better or not self.job.selects:
            description, self.best_tensors = self._snapshot()
            highest = max(score, self.best["score"])
            self.best = {"score": highest, "step": step, "description": description}
        grown = self._grow(score, step)
        row = {
            "step": step,
            "epoch": epoch,
            "score": score,
            "best": better,
            "grown": grown,
            "metrics": {task: _numbers(values) for task, values in figures.items()},
        }
        self.job.folder.append("validation.jsonl", row)
        self.job.progress.validation(row)

    def _snapshot(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        if self.dendrites:
            return self.dendrites.twin_state()
        return NO_DENDRITES, {n: p.detach().cpu().clone() for n, p in self._trainable().items()}

    def _grow(self, score: float, step: int) -> bool:
        """Report a validation to the dendrites; True if a set was added, or would have been."""
        if not self.dendrites:
            return step in self.plan.growths and self._restart(step)
        growth = self.dendrites.validation(score, grow=step in self.plan.growths)
        if growth.restructured:
            self._prepare()
            if not growth.done:
                self.grown_at.append(step)
        return growth.restructured and not growth.done

    def _restart(self, step: int) -> bool:
        """What a growth does beside growing: the best weights back, and a new optimizer."""
        _copy_into(self._trainable(), self.best_tensors)
        self._prepare()
        self.grown_at.append(step)
        return True

    # -- checkpoints ---------------------------------------------------------------------------

    def checkpoint(self, step: int) -> None:
        """Write everything the next step depends on."""
        self.history.flush()
        state = {
            "step": step,
            "grown_at": self.grown_at,
            "best": self.best,
            "events": self.dendrites.events if self.dendrites else [],
            "seconds": self._seconds(),
            "settings": decisive(self.cfg),
        }
        weights = {n: p.detach() for n, p in self._trainable().items()}
        for name, weight in weights.items():  # the checkpoint before is worth more
            if not torch.isfinite(weight).all():
                raise self.diverged(f"The weight {name}", math.nan, step)
        tensors = {WEIGHTS: weights, **({BEST: self.best_tensors} if self.best_tensors else {})}
        # Several ranks are seeded anew at every step, and each has to do with its own GPU alone.
        random_cuda = torch.cuda.is_available() and not ranks.several()
        optimizer = {
            "optimizer": self.optimizer.state_dict(),
            "weighting": self.weighting.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if random_cuda else [],
        }
        files = tuple(self.dendrites.files()) if self.dendrites else ()
        self.job.folder.save_checkpoint(state, tensors, optimizer, files)

    def restore(self) -> int:
        """Return to the latest checkpoint; the number of steps already done."""
        place = self.job.folder.latest_checkpoint()
        state, tensors, saved = load_checkpoint(place, STATE)
        check_settings(completed(state["settings"]), decisive(self.cfg))
        if self.dendrites:
            self.dendrites.replay(state["events"])
            self.job.folder.put_back(self.dendrites.files())
        self.grown_at = state["grown_at"]
        self.seconds_before = state["seconds"]
        self.best, self.best_tensors = state["best"], tensors.get(BEST, {})
        trainable = self._trainable()
        shapes = {name: tuple(parameter.shape) for name, parameter in trainable.items()}
        check_fit(tensors.get(WEIGHTS, {}), shapes, place / f"{WEIGHTS}.safetensors", ADVICE)
        _copy_into(trainable, tensors[WEIGHTS])
        self._prepare()
        counted = in_order(self.optimizer.param_groups, self._trainable().items())
        check_optimizer(saved["optimizer"], counted, place)
        self.optimizer.load_state_dict(saved["optimizer"])
        try:
            self.weighting.load_state_dict(saved["weighting"])
        except (RuntimeError, KeyError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"The weighting in {place} should fit. Found: {reason}.") from None
        torch.set_rng_state(saved["random"])
        if saved["random_cuda"] and not ranks.several():
            torch.cuda.set_rng_state_all(saved["random_cuda"])
        self.job.folder.rewind(state["step"])
        if ranks.is_first():  # the others may read before the first has dropped what is too much
            for row in self.job.folder.rows("history.jsonl"):
                self._remember(row)
            self.skipped = self.job.folder.count("skipped.jsonl")
        return int(state["step"])

    def _seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.started

    # -- the end -------------------------------------------------------------------------------

    def finish(self, done: int) -> Fitted:
        """Put the selected weights into a model without any training scaffold, `done` steps on."""
        seconds = self._seconds()
        report = self._dendrite_report() if self.dendrites else None
        if self.dendrites:
            if self.cfg.dendrites.graph:
                self.dendrites.graph()
            self.dendrites.detach()
        description = self.best["description"]
        plain, dendrites = dendritic.split(self.best_tensors, description)
        dendritic.load(self.model, plain)
        return Fitted(
            model=self.model,
            description=description,
            dendrites=dendrites,
            report=report,
            steps=done,
            best_step=self.best["step"],
            restarts=self.grown_at,
            seconds=seconds,
            planned=self.plan.total if done < self.plan.total else None,
            skipped=self.skipped,
            weights={task: self.weights[task] for task in self.tasks if task in self.weights},
        )

    def _dendrite_report(self) -> dict[str, Any]:
        assert self.dendrites is not None
        report = self.dendrites.report()
        sham = self.cfg.dendrites.control == "sham"
        if not report["dendrites_added"] or not (report["received_gradient"] or sham):
            raise DendriteError(
                f"Dendrites were asked for, but {report['dendrites_added']} were added and "
                f"{report['received_gradient']} received a gradient. Nothing was measured."
            )
        if sham:
            self.dendrites.check_sham()
        description = self.best["description"]
        kept = dendritic.split(self.best_tensors, description)[1].values()
        return {
            **report,
            "control": self.cfg.dendrites.control,
            "lr": self.cfg.dendrites.lr,
            "dendrites_kept": max(description["dendrites"].values(), default=0),
            "parameters_kept": sum(tensor.numel() for tensor in kept),
            "epochs_run": self.cfg.train.epochs,
            "growth_steps": self.grown_at,
        }


def _copy_into(parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {k: v for k, v in values.items() if isinstance(v, int | float)}
