"""The layers of any transformer: where they are, and how to run only some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dao.errors import UserError

__all__ = ["Boundary", "first_adapted", "handed", "layer_list", "replaced", "stopped"]


@dataclass(frozen=True)
class Boundary:
    """The place in an encoder above the last layer that no adapter reaches.

    Attributes:
        path: of the list of layers, in the base model.
        count: layers below the first adapted one.
        width: of the states that the last of them gives.
        dtype: of these states.
        extras: None if a layer gives a tensor, else how many times None follows it in a tuple.
    """

    path: str
    count: int
    width: int
    dtype: torch.dtype
    extras: int | None


def layer_list(base: nn.Module) -> tuple[str, nn.ModuleList]:
    """Path and content of the list of transformer layers: the longest of modules of one class.

    Lists inside the layers, such as the experts of a mixture, are no candidates.

    Raises:
        UserError: there is none.
    """
    lists = {n: m for n, m in base.named_modules() if isinstance(m, nn.ModuleList) and len(m)}
    outer = {n: m for n, m in lists.items() if not any(n.startswith(f"{o}.") for o in lists)}
    alike = {n: m for n, m in outer.items() if len({type(layer) for layer in m}) == 1}
    if not alike:
        raise UserError(
            f"`encoder.lora.last_layers` should count layers in a list of modules of one class. "
            f"Found no such list in {type(base).__name__}. Leave the setting out."
        )
    path = max(alike, key=lambda name: len(alike[name]))
    return path, alike[path]


def first_adapted(base: nn.Module, path: str) -> int:
    """Index of the first layer in the list at `path` with something to train.

    0 if there is something to train outside of the list, which may act before any layer.
    """
    found = [n for n, p in base.named_parameters() if p.requires_grad]
    if not found or not all(name.startswith(f"{path}.") for name in found):
        return 0
    return min(int(name[len(path) + 1 :].partition(".")[0]) for name in found)


@contextmanager
def handed(base: nn.Module, boundary: Boundary, states: Tensor) -> Iterator[None]:
    """Inside, layers below the boundary do not run; they give `states` (batch, length, width)."""
    output = states if boundary.extras is None else (states, *[None] * boundary.extras)
    layers = _layers(base, boundary.path)[: boundary.count]
    with replaced(layers, lambda _: lambda *_, **__: output):
        yield


@contextmanager
def stopped(base: nn.Module, path: str, count: int) -> Iterator[list[Any]]:
    """Inside, only the first `count` layers run; the list gets the output of the last of them."""
    layers = _layers(base, path)
    caught: list[Any] = []
    handle = layers[count - 1].register_forward_hook(lambda _, __, output: caught.append(output))
    try:
        with replaced(layers[count:], lambda _: lambda *_, **__: caught[-1]):
            yield caught
    finally:
        handle.remove()


def _layers(base: nn.Module, path: str) -> list[nn.Module]:
    return list(base.get_submodule(path).children())


@contextmanager
def replaced(modules: Iterable[nn.Module], forward: Callable[[Any], Any]) -> Iterator[None]:
    """Inside, each module runs the function that `forward` makes of its own forward."""
    # An attribute of the object hides the method of its class: a list keeps its length, every
    # module its name, and positions, masks and settings per layer stay what they are.
    places = [(module, module.__dict__.get("forward")) for module in modules]
    for module, _ in places:
        module.__dict__["forward"] = forward(module.forward)
    try:
        yield
    finally:
        for module, own in places:
            if own is None:
                del module.__dict__["forward"]
            else:
                module.__dict__["forward"] = own
