"""Artificial dendrites that perforatedai 3.2.9 grows, and the record from which a run resumes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dao.learner.dendrites.gradients import GradientRecord
from dao.learner.dendrites.perforated import DendriteError
from dao.learner.dendrites.session import GrowthOptions, Session
from dao.learner.dendrites.targets import target_modules
from dao.learner.dendrites.wrapped import check_unchanged, dendrite_parameters, twin_tensors

__all__ = ["DendriteError", "Dendrites", "Growth", "GrowthOptions", "target_modules"]


@dataclass(frozen=True)
class Growth:
    """What a validation has done to the model."""

    restructured: bool
    """Weights or structure were replaced: build a new optimizer and call `set_optimizer`."""
    done: bool
    """With `patience`: growth is over and the best model was put back; it never changes again."""
    dendrites: int
    """Sets of dendrites now in the model (a set is one dendrite per wrapped module)."""


class Dendrites:
    """Lets perforatedai add dendrites to chosen linear layers of a model, in place.

    perforatedai's open-source part grows dendrites and trains them by ordinary backpropagation;
    the published "Perforated Backpropagation" (arXiv 2501.18018) is not in it. The formula is that
    of `dendritic.DendriticModule`. A new set enters with gates at zero: the outputs stay those of
    the model it was added to, and the dendrites' own weights get a gradient once a gate has moved.

    A growth starts from the best model so far: perforatedai reloads the weights of the best
    validation (this one included), along with the sets that model had, and adds one set. So a set
    that never led to a new best is replaced rather than kept. What decides "best" is a strictly
    higher score, over the whole run.

    Two schedules. With `patience=None`, growth happens where the caller says `grow=True`, at most
    `max_dendrites` times; between growths and after the last one nothing is reloaded or stopped.
    With a number, perforatedai adds a set after `patience` validations without a new best, and
    when a set does not lead to a new best in `tries` attempts, or `max_dendrites` sets are in
    place and stop improving, it puts the best model back and is done.

    One `Dendrites` at a time per process (perforatedai keeps global state). With several ranks
    every rank makes the same calls with the same scores on the module inside the data-parallel
    wrapper, and wraps it anew after a restructuring.

    Args:
        model: on its device; not a data-parallel wrapper. Changed in place.
        targets: paths of trainable linear layers, or with `options.rank`, of linear layers with
            LoRA; as from `target_modules`.
        options: how and when dendrites are made.
        run_dir: perforatedai writes into its folder `PAI`. One left by an earlier run is removed,
            because its settings would be read back; a resumed run gets its files from `replay`
            and its checkpoint.
        probe: runs one forward pass of the model that reaches every target.

    Raises:
        UserError: perforatedai is missing; or a target is frozen, no linear layer (with
            `options.rank`, none with LoRA) or not run by `probe`.
        DendriteError: perforatedai did not wrap a target.
    """

    def __init__(
        self,
        model: nn.Module,
        targets: Sequence[str],
        options: GrowthOptions,
        *,
        run_dir: Path,
        probe: Callable[[nn.Module], object],
    ) -> None:
        self.model = model
        self._targets = tuple(targets)
        self._options = options
        self._calls: list[dict[str, Any]] = []
        self._grown_at: list[int] = []
        self._sets: list[int] = []  # which of the sets ever added are in the model
        self._done = False
        self._ended_at: int | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._gradients = GradientRecord(targets)
        self._session = Session(model, targets, run_dir, probe, options)

    def set_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Name the optimizer in use: at the start, after a restructuring and after `replay`.

        Only the learning rate of its first group is read, for perforatedai's graph.
        """
        self._optimizer = optimizer

    def validation(
        self,
        score: float,
        *,
        grow: bool = False,
        end: bool = False,
        extra: Mapping[str, float] | None = None,
    ) -> Growth:
        """Report a validation of the model as it is now; it may come back changed.

        Args:
            score: higher is better; any finite number.
            grow: add a set of dendrites now; only with `patience=None`.
            end: put the best model back and be done, as with `patience`; only without it.
            extra: further figures for perforatedai's graph.

        Raises:
            DendriteError: the score is not finite, no optimizer was set, a growth is not allowed,
                or perforatedai failed.
        """
        optimizer = self._checked(score, grow or end)
        if grow and len(self._grown_at) >= (limit := self._options.max_dendrites):
            raise DendriteError(
                f"Dendrites should be added at most {limit} times. Found one more "
                f"`grow=True`. Raise `max_dendrites`."
            )
        rate = float(optimizer.param_groups[0]["lr"])
        figures = {k: float(v) for k, v in (extra or {}).items()}
        call = {"score": float(score), "grow": grow, "end": end, "extra": figures, "lr": rate}
        return self._issue(call)

    def _checked(self, score: float, asked: bool) -> torch.optim.Optimizer:
        """The optimizer in use, once a call of `validation` is known to be allowed."""
        if not math.isfinite(score):
            raise DendriteError(
                f"A validation score should be finite. Found {score}. Look at the losses."
            )
        if asked and self._options.patience is not None:
            raise DendriteError("`grow=True` should come with `patience=None` only. Leave it out.")
        if self._optimizer is None:
            raise DendriteError(
                "An optimizer should be set at the start and after every restructuring. Found "
                "none. Call `set_optimizer`."
            )
        return self._optimizer

    def _issue(self, call: Mapping[str, Any]) -> Growth:
        call = {key: call.get(key, False) for key in ("score", "grow", "end", "extra", "lr")}
        if self._done:
            self._calls.append(call)
            return Growth(False, True, len(self._sets))
        self._session.check_in_charge()
        self._gradients.settle(self._sets)
        restructured, done = self._session.validation(call, len(self._calls))
        self._calls.append(call)
        self._done = done
        self._ended_at = len(self._calls) if done else None
        if restructured:
            self._follow()
        if call["grow"] and (not restructured or done):
            raise DendriteError("A growth should add a set. Found that perforatedai did not.")
        return Growth(restructured, self._done, len(self._sets))

    def _follow(self) -> None:
        """Brings the record of sets up to date: the best model's sets are its first ones."""
        count = self._session.sets()
        if self._done:
            self._sets = self._sets[:count]
        else:
            self._sets = [*self._sets[: count - 1], len(self._grown_at)]
            self._grown_at.append(len(self._calls))
        self._optimizer = None

    @property
    def events(self) -> list[dict[str, Any]]:
        """All calls of `validation` so far, JSON-able, for `replay`."""
        self._gradients.settle(self._sets)
        events = [dict(call) for call in self._calls]
        if events:
            events[-1]["gradients"] = self._gradients.state()
        return events

    def replay(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Bring fresh dendrites on a fresh model into the state in which `events` was read.

        Structure, decisions to come and gradient record are then the same. Afterwards the caller
        overwrites every trainable weight from its checkpoint, puts the checkpoint's copies back
        in place of `files()`, builds the optimizer and calls `set_optimizer`.

        Raises:
            DendriteError: validations were already reported here.
        """
        if self._calls:
            raise DendriteError(
                f"`replay` should come first. Found {len(self._calls)} validations before it. "
                f"Make new dendrites on a fresh model."
            )
        for event in events:
            self._issue(event)
        if events:
            self._gradients.restore(events[-1].get("gradients", {}))

    def files(self) -> list[Path]:
        """What perforatedai will read back: to be copied with every checkpoint."""
        return self._session.files()

    def record_gradients(self) -> None:
        """Remember which dendrites the gradients now present have reached; reads nothing back."""
        if self._sets and not self._options.sham:
            self._gradients.add(list(self._session.modules().values()))

    def dendrite_parameters(self) -> list[nn.Parameter]:
        """The trainable parameters of the dendrites now in the model, gates included."""
        return dendrite_parameters(self._session.modules().values())

    def report(self) -> dict[str, Any]:
        """JSON-able facts about the growth.

        Keys: `modules_wrapped`, `module_names`; `dendrites_added` (sets ever added),
        `dendrites_kept` (sets now in the model); `parameters_added` (trainable parameters of the
        dendrites now in the model, without spare copies); `received_gradient` and
        `gates_received_gradient` (dendrites, over all modules and sets ever added, whose own
        weights or gate had a nonzero gradient in a `record_gradients`); `gradient_norms` (largest
        norm at own weights, per module); `validations`, and `switch_validations` (which of them,
        counted from 1, added a set) and `ended_validation` (after which growth was over and the
        best model was put back; None where it never was).
        """
        self._gradients.settle(self._sets)
        return {
            "modules_wrapped": len(self._targets),
            "module_names": list(self._targets),
            "dendrites_added": len(self._grown_at),
            "dendrites_kept": len(self._sets),
            "parameters_added": sum(p.numel() for p in self.dendrite_parameters()),
            **self._gradients.summary(),
            "validations": len(self._calls),
            "switch_validations": list(self._grown_at),
            "ended_validation": self._ended_at,
        }

    def twin_state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """A snapshot of all that inference needs, for `dendritic.attach` and `dendritic.load`.

        Returns:
            The description, JSON-able, and tensors on the CPU: the dendrites by the names of
            `DendriticModule`, and every other trainable weight by its name without dendrites.
        """
        options = self._options
        count = 0 if options.sham else len(self._sets)
        snapshot = twin_tensors(self.model, self._session.modules(), count)
        counts = dict.fromkeys(self._targets, count) if count else {}
        rank = {"rank": options.rank} if options.rank else {}
        return {"activation": options.activation, "dendrites": counts, **rank}, snapshot

    def check_sham(self) -> None:
        """See that every wrapped layer computes, to the bit, what it would without dendrites.

        Raises:
            DendriteError: one does not.
        """
        modules, axes = self._session.modules(), self._session.axes
        check_unchanged(modules, axes, self._options.seed)

    def graph(self) -> Path:
        """Draw perforatedai's own picture of the run (it takes seconds); returns its path.

        Its horizontal axis leaves out validations that a reload has undone.

        Raises:
            DendriteError: there was no validation to draw.
        """
        if not self._calls:
            raise DendriteError("The graph should show validations. Found none. Validate first.")
        return self._session.graph()

    def detach(self) -> nn.Module:
        """Take the dendrites off, in place; nothing of perforatedai is left in the model.

        For inference with dendrites, take `twin_state` before and `dendritic.attach` after.
        """
        return self._session.detach()
