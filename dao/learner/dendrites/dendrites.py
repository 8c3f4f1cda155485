"""Artificial dendrites grown by perforatedai 3.2.9; this and `perforated` are all that know it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dao.learner.dendrites.dendritic import ACTIVATIONS, put_module
from dao.learner.dendrites.gradients import GradientRecord
from dao.learner.dendrites.perforated import (
    FOLDER,
    DendriteError,
    configure,
    guarded,
    keep_type,
    load_package,
    low_rank_copies,
    perforate,
)
from dao.learner.dendrites.targets import check_targets, output_shapes, target_modules

__all__ = ["DendriteError", "Dendrites", "Growth", "target_modules"]

ZERO = 1e-9  # perforatedai takes a score of exactly 0 for "no score yet"


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
        targets: paths of trainable linear layers, or with `rank`, of linear layers with LoRA; as
            from `target_modules`.
        run_dir: perforatedai writes into its folder `PAI`. One left by an earlier run is removed,
            because its settings would be read back; a resumed run gets its files from `replay`
            and its checkpoint.
        probe: runs one forward pass of the model that reaches every target.
        max_dendrites: sets to add.
        patience: None, or validations without a new best before a set is added.
        tries: attempts per set; only with `patience`.
        activation: of the dendrites.
        init_scale: standard deviation of new dendrites' weights.
        seed: of new dendrites' weights; the global generator is never used or moved.
        sham: a control: all as with dendrites, but none is ever trained, so that every gate stays
            at zero and the model computes what it would without. `report` and `twin_state` count
            no parameters and hold no dendrites then.
        rank: None, and a dendrite is a layer like its target; or its target is a layer with LoRA,
            and it a `LowRank` of this rank, so that frozen weights are never copied.

    Raises:
        UserError: perforatedai is missing; or a target is frozen, no linear layer (with `rank`,
            none with LoRA) or not run by `probe`.
        DendriteError: perforatedai did not wrap a target.
    """

    def __init__(
        self,
        model: nn.Module,
        targets: Sequence[str],
        *,
        run_dir: Path,
        probe: Callable[[nn.Module], object],
        max_dendrites: int = 1,
        patience: int | None = None,
        tries: int = 1,
        activation: Literal["sigmoid", "relu", "tanh"] = "sigmoid",
        init_scale: float = 0.01,
        seed: int = 0,
        sham: bool = False,
        rank: int | None = None,
    ) -> None:
        check_targets(model, targets, rank)
        self.model = model
        self._targets = tuple(targets)
        self._device = next(model.parameters()).device
        self._run_dir = run_dir.resolve()
        self._run_dir.mkdir(parents=True, exist_ok=True)
        self._max_dendrites = max_dendrites
        self._patience = patience
        self._activation = activation
        self._seed = seed
        self._sham = sham
        self._rank = rank
        self._calls: list[dict[str, Any]] = []
        self._grown_at: list[int] = []
        self._sets: list[int] = []  # which of the sets ever added are in the model
        self._done = False
        self._optimizer: torch.optim.Optimizer | None = None
        self._gradients = GradientRecord(targets)
        shapes = output_shapes(model, targets, probe)
        self._axes = {name: axes for name, (axes, _) in shapes.items()}
        self._package = load_package()
        with guarded(self._run_dir, seed), low_rank_copies(self._package, rank):
            self._wrap(shapes, tries, init_scale)
        self._tracker = self._package.globals.pai_tracker
        self._tidy()
        self._hooks = [h for m in self._wrapped() for h in keep_type(m)] if rank else []
        # Frozen weights are the same all along: out of the checkpoints (matched as prefixes).
        frozen = [f".{n}" for n, p in model.named_parameters() if not p.requires_grad]
        self._package.globals.pc.set_module_names_to_not_save(frozen)

    def _wrap(self, shapes: Mapping[str, tuple[int, int]], tries: int, init_scale: float) -> None:
        settings = self._package.globals.pc
        layers = [self.model.get_submodule(name) for name in self._targets]
        weights = {p.dtype for layer in layers for p in layer.parameters() if p.requires_grad}
        options: dict[str, Any] = {
            "module_ids_to_perforate": [f".{name}" for name in self._targets],
            "max_dendrites": self._max_dendrites,
            "pai_forward_function": ACTIVATIONS[self._activation],
            "candidate_weight_initialization_multiplier": init_scale,
            "device": self._device,
            "use_cuda": self._device.type == "cuda",
            "d_type": weights.pop() if len(weights) == 1 else torch.float32,
        }
        if self._patience is None:
            # A growth that the caller asks for must never end the training instead.
            options |= {"switch_mode": settings.DOING_NO_SWITCH}
            options |= {"max_dendrite_tries": self._max_dendrites + 1}
        else:
            options |= {"switch_mode": settings.DOING_HISTORY, "max_dendrite_tries": tries}
            options |= {"n_epochs_to_switch": self._patience}
        configure(self._package, options)
        perforate(self._package, self.model, self._run_dir, shapes)

    def _tidy(self) -> None:
        """Freezes what never trains, and empties a buffer whose length differs between ranks."""
        for module in self._wrapped():
            inner = module.dendrite_module
            inner.parent_module.requires_grad_(False)  # a spare copy that is only ever copied
            inner.dendrites_to_candidates.requires_grad_(False)
            inner.dendrites_to_dendrites[:1].requires_grad_(False)
            if self._sham:
                for part in (inner.layers, module.dendrites_to_top, inner.dendrites_to_dendrites):
                    part.requires_grad_(False)
        self.model.tracker_string = torch.zeros(0, dtype=torch.uint8, device=self._device)

    def _check_in_charge(self) -> None:
        if self._package.globals.pai_tracker is not self._tracker:
            raise DendriteError(
                "These dendrites should be the only ones at work in this process. Found that they "
                "were detached or that others were made since. Finish one model before the next."
            )

    def _wrapped(self) -> list[Any]:
        """The modules that perforatedai put in place of the targets, in their order."""
        self._check_in_charge()
        return [self.model.get_submodule(name) for name in self._targets]

    def set_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Name the optimizer in use: at the start, after a restructuring and after `replay`.

        Only the learning rate of its first group is read, for perforatedai's graph.
        """
        self._optimizer = optimizer

    def validation(
        self, score: float, *, grow: bool = False, extra: Mapping[str, float] | None = None
    ) -> Growth:
        """Report a validation of the model as it is now; it may come back changed.

        Args:
            score: higher is better; any finite number.
            grow: add a set of dendrites now; only with `patience=None`.
            extra: further figures for perforatedai's graph.

        Raises:
            DendriteError: the score is not finite, no optimizer was set, a growth is not allowed,
                or perforatedai failed.
        """
        if not math.isfinite(score):
            raise DendriteError(
                f"A validation score should be finite. Found {score}. Look at the losses."
            )
        if grow and self._patience is not None:
            raise DendriteError("`grow=True` should come with `patience=None` only. Leave it out.")
        if grow and len(self._grown_at) >= self._max_dendrites:
            raise DendriteError(
                f"Dendrites should be added at most {self._max_dendrites} times. Found one more "
                f"`grow=True`. Raise `max_dendrites`."
            )
        if self._optimizer is None:
            raise DendriteError(
                "An optimizer should be set at the start and after every restructuring. Found "
                "none. Call `set_optimizer`."
            )
        rate = float(self._optimizer.param_groups[0]["lr"])
        figures = {k: float(v) for k, v in (extra or {}).items()}
        return self._issue({"score": float(score), "grow": grow, "extra": figures, "lr": rate})

    def _issue(self, call: Mapping[str, Any]) -> Growth:
        call = {key: call[key] for key in ("score", "grow", "extra", "lr")}
        if self._done:
            self._calls.append(call)
            return Growth(False, True, len(self._sets))
        self._check_in_charge()
        self._gradients.settle(self._sets)
        seed = 1_000_003 * (self._seed + 1) + len(self._calls)
        with guarded(self._run_dir, seed), low_rank_copies(self._package, self._rank):
            # A stand-in: perforatedai would zero the gradients of the caller's optimizer.
            stand_in = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=call["lr"])
            self._tracker.set_optimizer_instance(stand_in)
            for name, value in call["extra"].items():
                # It keeps its state as lines of Latin-1 text with commas.
                self._tracker.add_extra_score(value, re.sub(r"[^A-Za-z0-9_./ -]", "_", name))
            _, restructured, done = self._tracker.add_validation_score(
                call["score"] or ZERO, self.model, call["grow"]
            )
        self._tidy()
        self._calls.append(call)
        self._done = bool(done)
        if restructured:
            self._follow()
        if call["grow"] and (not restructured or done):
            raise DendriteError("A growth should add a set. Found that perforatedai did not.")
        return Growth(bool(restructured), self._done, len(self._sets))

    def _follow(self) -> None:
        """Brings the record of sets up to date: the best model's sets are its first ones."""
        count = self._tracker.member_vars["num_dendrites_added"]
        found = {module.dendrite_modules_added for module in self._wrapped()}
        if found != {count}:
            raise DendriteError(
                f"Every wrapped module should have {count} dendrites. Found {sorted(found)}."
            )
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
        path = self._run_dir / FOLDER / "best_model.pt"
        return [path] if path.exists() else []

    def record_gradients(self) -> None:
        """Remember which dendrites the gradients now present have reached; reads nothing back."""
        if self._sets and not self._sham:
            self._gradients.add(self._wrapped())

    def dendrite_parameters(self) -> list[nn.Parameter]:
        """The trainable parameters of the dendrites now in the model, gates included."""
        parameters: list[nn.Parameter] = []
        for module in self._wrapped():
            inner = module.dendrite_module
            parameters += [*inner.layers.parameters(), *module.dendrites_to_top[-1:]]
            parameters += inner.dendrites_to_dendrites[1:]
        return [p for p in parameters if p.requires_grad]

    def report(self) -> dict[str, Any]:
        """JSON-able facts about the growth.

        Keys: `modules_wrapped`, `module_names`; `dendrites_added` (sets ever added),
        `dendrites_kept` (sets now in the model); `parameters_added` (trainable parameters of the
        dendrites now in the model, without spare copies); `received_gradient` and
        `gates_received_gradient` (dendrites, over all modules and sets ever added, whose own
        weights or gate had a nonzero gradient in a `record_gradients`); `gradient_norms` (largest
        norm at own weights, per module); `validations`, and `switch_validations` (which of them,
        counted from 1, added a set).
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
        }

    def twin_state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """A snapshot of all that inference needs, for `dendritic.attach` and `dendritic.load`.

        Returns:
            The description, JSON-able, and tensors on the CPU: the dendrites by the names of
            `DendriticModule`, and every other trainable weight by its name without dendrites.
        """
        tensors: dict[str, Tensor] = {
            name.replace(".main_module.", "."): parameter
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad
            and not re.search(r"\.(dendrite_module|dendrites_to_top)\.", name)
        }
        kept = [] if self._sham else self._sets
        for name, module in zip(self._targets, self._wrapped(), strict=True):
            if not kept:
                continue
            inner = module.dendrite_module
            tensors[f"{name}.top"] = top = module.dendrites_to_top[-1]
            for key, parameter in inner.layers.named_parameters():
                tensors[f"{name}.layers.{key}"] = parameter
            tensors[f"{name}.skip.0"] = top[:0]
            for i in range(1, len(kept)):
                tensors[f"{name}.skip.{i}"] = inner.dendrites_to_dendrites[i]
        counts = {name: len(kept) for name in self._targets if kept}
        snapshot = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
        rank = {"rank": self._rank} if self._rank else {}
        return {"activation": self._activation, "dendrites": counts, **rank}, snapshot

    def check_sham(self) -> None:
        """See that every wrapped layer computes, to the bit, what it would without dendrites.

        Raises:
            DendriteError: one does not.
        """
        generator = torch.Generator().manual_seed(self._seed)
        for name, module in zip(self._targets, self._wrapped(), strict=True):
            weight = module.main_module.weight
            sizes = [*[4] * (self._axes[name] - 1), module.main_module.in_features]
            x = torch.randn(sizes, generator=generator).to(weight.device)
            if weight.is_floating_point():  # not where the layer is quantised
                x = x.to(weight.dtype)
            with torch.no_grad():
                if not torch.equal(module(x), module.main_module(x)):
                    raise DendriteError(
                        f"Untrained dendrites should change nothing. Found that the output of "
                        f"{name!r} differs from that of the layer alone."
                    )

    def graph(self) -> Path:
        """Draw perforatedai's own picture of the run (it takes seconds); returns its path.

        Its horizontal axis leaves out validations that a reload has undone.

        Raises:
            DendriteError: there was no validation to draw.
        """
        if not self._calls:
            raise DendriteError("The graph should show validations. Found none. Validate first.")
        self._check_in_charge()
        with guarded(self._run_dir, self._seed):
            self._tracker.making_graphs = True
            self._tracker.save_graphs()
            self._tracker.making_graphs = False
        return self._run_dir / FOLDER / f"{FOLDER}.png"

    def detach(self) -> nn.Module:
        """Take the dendrites off, in place; nothing of perforatedai is left in the model.

        For inference with dendrites, take `twin_state` before and `dendritic.attach` after.
        """
        for name, module in zip(self._targets, self._wrapped(), strict=True):
            put_module(self.model, name, module.main_module)
        for hook in self._hooks:
            hook.remove()
        del self.model.tracker_string
        self.model.__dict__.pop("member_vars", None)
        self._package.globals.pai_tracker = []
        return self.model
