"""Which linear layers get dendrites, and what their outputs look like."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dao.errors import UserError
from dao.learner.basics.limits import EXAMPLES
from dao.learner.dendrites.dendritic import has_lora

__all__ = ["LOW_RANK", "check_targets", "output_shapes", "target_modules"]

LOW_RANK = "wrapped-lowrank"
PRESETS: dict[str, tuple[str, ...]] = {
    "heads": ("heads",),
    "lora_B": ("lora_B",),
    "lora_B+heads": ("lora_B", "heads"),
    "lora": ("lora_A", "lora_B"),
    "linear": ("",),
    LOW_RANK: (),
}


def target_modules(model: nn.Module, where: str = "lora_B+heads") -> list[str]:
    """Paths of the linear layers that get dendrites; all of their weights are trainable.

    Args:
        model: any module; LoRA matrices are found by peft's names, heads by the name `heads`.
        where: `heads`, `lora_B`, `lora_B+heads`, `lora` (A and B), `linear` (every trainable
            linear layer, for small encoders that are trained whole) or `wrapped-lowrank` (every
            layer with LoRA as a whole, for dendrites of low rank, which copy nothing).

    Raises:
        UserError: the preset is unknown, or a part of it matches nothing.
    """
    if where not in PRESETS:
        raise UserError(
            f"`dendrites.where` should be one of {', '.join(PRESETS)}. Found {where!r}."
        )
    if where == LOW_RANK:
        return _with_lora(model)
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    trainable = [name for name in linear if not _frozen(model.get_submodule(name))]
    for part in PRESETS[where]:
        if not any(_matches(name, part) for name in trainable):
            raise UserError(
                f"`dendrites.where` = {where!r} should find trainable linear layers"
                f"{f' under {part!r}' if part else ''}. Found {len(linear)} linear layers, "
                f"{len(trainable)} of them trainable: {', '.join(trainable[:EXAMPLES]) or 'none'}. "
                f"Choose another of {', '.join(PRESETS)}."
            )
    return [n for n in trainable if any(_matches(n, part) for part in PRESETS[where])]


def _with_lora(model: nn.Module) -> list[str]:
    names = [name for name, module in model.named_modules() if has_lora(module)]
    if not names:
        raise UserError(
            f"`dendrites.where` = {LOW_RANK!r} should find linear layers with LoRA. Found none. "
            f"Choose another of {', '.join(PRESETS)}."
        )
    return names


def _matches(name: str, part: str) -> bool:
    return not part or part in name.split(".")


def _frozen(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if not p.requires_grad)


def check_targets(model: nn.Module, targets: Sequence[str], rank: int | None = None) -> None:
    """See that every target is a trainable linear layer, or with a `rank`, one with LoRA.

    Raises:
        UserError: one is not, or there is none.
    """
    modules = dict(model.named_modules())
    if not targets:
        raise UserError("Dendrites should have modules to grow on. Found none. Name some.")
    for name in targets:
        module = modules.get(name)
        if rank is None and module is not None and (frozen := _frozen(module)):
            raise UserError(
                f"The target {name!r} should be trainable. Found {frozen} frozen parameters: each "
                f"dendrite would be a copy of them, drawn at random and never trained. "
                f"Wrap its LoRA matrices instead, or let dendrites be of low rank."
            )
        if not (has_lora(module) if rank else isinstance(module, nn.Linear)):
            raise UserError(
                f"The target {name!r} should be a linear layer {'with LoRA ' if rank else ''}of "
                f"the model. Found "
                f"{'no such module' if module is None else type(module).__name__}. "
                f"Take targets from `target_modules`."
            )


def output_shapes(
    model: nn.Module, targets: Sequence[str], probe: Callable[[nn.Module], object]
) -> dict[str, tuple[int, int]]:
    """Number of axes and width of each target's output, from one forward pass."""
    shapes: dict[str, tuple[int, int]] = {}

    def remember(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            shapes[name] = (output.dim(), output.shape[-1])

        return hook

    hooks = [model.get_submodule(n).register_forward_hook(remember(n)) for n in targets]
    home = next(model.parameters()).device
    try:
        # Dropout in the forward pass may draw random numbers.
        with torch.no_grad(), torch.random.fork_rng([home] if home.type == "cuda" else []):
            probe(model)
    finally:
        for handle in hooks:
            handle.remove()
    if silent := [name for name in targets if name not in shapes]:
        raise UserError(
            f"The probe should reach every target. Found {len(silent)} that did not run, first "
            f"{silent[0]!r}. Leave them out or probe with another batch."
        )
    return shapes
