"""One model in the hands of perforatedai: wrapped, validated, drawn, and given back."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from dao.learner.dendrites.dendritic import ACTIVATIONS, put_module
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
from dao.learner.dendrites.targets import check_targets, output_shapes
from dao.learner.dendrites.wrapped import freeze_spare_parts

__all__ = ["GrowthOptions", "Session"]

ZERO = 1e-9  # perforatedai takes a score of exactly 0 for "no score yet"


@dataclass(frozen=True)
class GrowthOptions:
    """How and when dendrites are made.

    Attributes:
        max_dendrites: sets to add.
        patience: None, or validations without a new best before a set is added.
        tries: attempts per set; only with `patience`.
        activation: of the dendrites.
        init_scale: standard deviation of new dendrites' weights.
        seed: of new dendrites' weights; the global generator is never used or moved.
        sham: a control: all is as with dendrites, but none is ever trained, so that every gate
            stays at zero and the model computes what it would without them. `Dendrites.report`
            then counts no parameters, and `Dendrites.twin_state` holds no dendrites.
        rank: None, and a dendrite is a layer like its target; or the rank of every dendrite, a
            `LowRank` beside a target with LoRA, so that frozen weights are never copied.
    """

    max_dendrites: int = 1
    patience: int | None = None
    tries: int = 1
    activation: Literal["sigmoid", "relu", "tanh"] = "sigmoid"
    init_scale: float = 0.01
    seed: int = 0
    sham: bool = False
    rank: int | None = None


class Session:
    """The wrapped model and perforatedai's tracker of it; there is one at a time per process.

    Args:
        model: on its device; changed in place.
        targets: paths of the layers to wrap.
        run_dir: perforatedai writes into its folder `PAI`, which is removed first.
        probe: runs one forward pass of the model that reaches every target.
        options: how and when dendrites are made.

    Attributes:
        axes: path of the layer -> number of axes of its output.

    Raises:
        UserError: as `check_targets`, `output_shapes` and `load_package`.
        DendriteError: perforatedai did not wrap a target.
    """

    def __init__(
        self,
        model: nn.Module,
        targets: Sequence[str],
        run_dir: Path,
        probe: Callable[[nn.Module], object],
        options: GrowthOptions,
    ) -> None:
        check_targets(model, targets, options.rank)
        self.model, self._targets, self._options = model, tuple(targets), options
        self._device = next(model.parameters()).device
        self._run_dir = run_dir.resolve()
        self._run_dir.mkdir(parents=True, exist_ok=True)
        shapes = output_shapes(model, targets, probe)
        self.axes = {name: axes for name, (axes, _) in shapes.items()}
        self._package = load_package()
        with guarded(self._run_dir, options.seed), low_rank_copies(self._package, options.rank):
            configure(self._package, self._settings())
            perforate(self._package, model, self._run_dir, shapes)
        self._tracker = self._package.globals.pai_tracker
        self._tidy()
        wrapped = self.modules().values() if options.rank else ()
        self._hooks = [hook for module in wrapped for hook in keep_type(module)]
        # Frozen weights are the same all along: out of the checkpoints (matched as prefixes).
        frozen = [f".{n}" for n, p in model.named_parameters() if not p.requires_grad]
        self._package.globals.pc.set_module_names_to_not_save(frozen)

    def _settings(self) -> dict[str, Any]:
        known, wanted = self._package.globals.pc, self._options
        layers = [self.model.get_submodule(name) for name in self._targets]
        weights = {p.dtype for layer in layers for p in layer.parameters() if p.requires_grad}
        settings: dict[str, Any] = {
            "module_ids_to_perforate": [f".{name}" for name in self._targets],
            "max_dendrites": wanted.max_dendrites,
            "pai_forward_function": ACTIVATIONS[wanted.activation],
            "candidate_weight_initialization_multiplier": wanted.init_scale,
            "device": self._device,
            "use_cuda": self._device.type == "cuda",
            "d_type": weights.pop() if len(weights) == 1 else torch.float32,
        }
        if wanted.patience is None:
            # A growth that the caller asks for must never end the training instead.
            settings |= {"switch_mode": known.DOING_NO_SWITCH}
            settings |= {"max_dendrite_tries": wanted.max_dendrites + 1}
        else:
            settings |= {"switch_mode": known.DOING_HISTORY, "max_dendrite_tries": wanted.tries}
            settings |= {"n_epochs_to_switch": wanted.patience}
        return settings

    def _tidy(self) -> None:
        """Freezes what never trains, and empties a buffer whose length differs between ranks."""
        freeze_spare_parts(self.modules().values(), sham=self._options.sham)
        self.model.tracker_string = torch.zeros(0, dtype=torch.uint8, device=self._device)

    def check_in_charge(self) -> None:
        """See that no other model was given to perforatedai since.

        Raises:
            DendriteError: one was, or this one was given back.
        """
        if self._package.globals.pai_tracker is not self._tracker:
            raise DendriteError(
                "These dendrites should be the only ones at work in this process. Found that they "
                "were detached or that others were made since. Finish one model before the next."
            )

    def modules(self) -> dict[str, Any]:
        """Path of each target -> the module that perforatedai put in its place.

        Raises:
            DendriteError: as `check_in_charge`.
        """
        self.check_in_charge()
        return {name: self.model.get_submodule(name) for name in self._targets}

    def validation(self, call: Mapping[str, Any], number: int) -> tuple[bool, bool]:
        """Report a validation; the model may come back changed.

        Args:
            call: `score`, `grow`, `end`, `extra` (further figures) and `lr`, as `events` has them.
            number: of validations before; it decides the weights of new dendrites.

        Returns:
            Whether the model was restructured, and whether growth is over.
        """
        seed = 1_000_003 * (self._options.seed + 1) + number
        with guarded(self._run_dir, seed), low_rank_copies(self._package, self._options.rank):
            # A stand-in: perforatedai would zero the gradients of the caller's optimizer.
            stand_in = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=call["lr"])
            self._tracker.set_optimizer_instance(stand_in)
            for name, value in call["extra"].items():
                # It keeps its state as lines of Latin-1 text with commas.
                self._tracker.add_extra_score(value, re.sub(r"[^A-Za-z0-9_./ -]", "_", name))
            if call["end"]:  # whether the last set led to a new best or not, no other is tried
                self._package.globals.pc.set_max_dendrite_tries(1)
                added = self._tracker.member_vars["num_dendrites_added"]
                self._package.globals.pc.set_max_dendrites(added)
            _, restructured, done = self._tracker.add_validation_score(
                call["score"] or ZERO, self.model, call["grow"] or call["end"]
            )
        self._tidy()
        return bool(restructured), bool(done)

    def sets(self) -> int:
        """Sets of dendrites now in the model.

        Raises:
            DendriteError: a module has another number of dendrites.
        """
        count: int = self._tracker.member_vars["num_dendrites_added"]
        found = {module.dendrite_modules_added for module in self.modules().values()}
        if found != {count}:
            raise DendriteError(
                f"Every wrapped module should have {count} dendrites. Found {sorted(found)}."
            )
        return count

    def files(self) -> list[Path]:
        """What perforatedai will read back: to be copied with every checkpoint."""
        path = self._run_dir / FOLDER / "best_model.pt"
        return [path] if path.exists() else []

    def graph(self) -> Path:
        """Draw perforatedai's own picture of the run; returns its path."""
        self.check_in_charge()
        with guarded(self._run_dir, self._options.seed):
            self._tracker.making_graphs = True
            self._tracker.save_graphs()
            self._tracker.making_graphs = False
        return self._run_dir / FOLDER / f"{FOLDER}.png"

    def detach(self) -> nn.Module:
        """Put the layers back in place; nothing of perforatedai is left in the model."""
        for name, module in self.modules().items():
            put_module(self.model, name, module.main_module)
        for hook in self._hooks:
            hook.remove()
        del self.model.tracker_string
        self.model.__dict__.pop("member_vars", None)
        self._package.globals.pai_tracker = []
        return self.model
