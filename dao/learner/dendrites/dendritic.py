"""A linear layer with dendrites in plain torch: what inference needs, without perforatedai."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dao.errors import UserError

__all__ = [
    "ACTIVATIONS",
    "DendriticModule",
    "LowRank",
    "attach",
    "has_lora",
    "load",
    "output_shares",
    "put_module",
    "split",
]

ACTIVATIONS = {"relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}

# What names of tensors begin with, below the path of a dendritic module, in a state dict.
PARTS = ("layers.", "top", "skip.")


class LowRank(nn.Module):
    """A linear layer through a bottleneck, ``up (down x)``, without bias; zero when new.

    Args:
        inputs: width of the input.
        outputs: width of the output.
        rank: width of the bottleneck.
        like: gives device and type.
    """

    def __init__(self, inputs: int, outputs: int, rank: int, like: Tensor) -> None:
        super().__init__()
        self.down = nn.Parameter(like.new_zeros(rank, inputs))
        self.up = nn.Parameter(like.new_zeros(outputs, rank))

    @classmethod
    def of(cls, layer: Any, rank: int) -> LowRank:  # noqa: ANN401  (peft's)
        """A `LowRank` with the shape, device and trained type of `layer`, which has LoRA."""
        like = next(layer.lora_A.parameters()).detach()
        return cls(layer.in_features, layer.out_features, rank, like)

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (..., F) to outputs (..., C), in the type of `x`."""
        return F.linear(F.linear(x, self.down.to(x.dtype)), self.up.to(x.dtype))


def has_lora(module: nn.Module | None) -> bool:
    """Whether a module is a linear layer that peft has given LoRA matrices."""
    pairs = dict(module.named_children()).get("lora_A") if module is not None else None
    matrices = list(pairs.children()) if pairs is not None else []
    return bool(matrices) and all(hasattr(matrix, "in_features") for matrix in matrices)


class DendriticModule(nn.Module):
    """A layer whose output gets gated signals of dendrites, layers of the same shape.

    The formula is that of perforatedai 3.2.9 (`PAINeuronModule.forward`, gradient-descent
    dendrites), reproduced operation by operation, so fp32 outputs are equal bit for bit::

        out(x) = main(x) + sum_i top[i] * s_i
        s_i    = act(layers[i](x) + sum_{j<i} skip[i][j] * s_j)

    With `top` at zero the output is that of `main`. Attributes that this module lacks are looked
    up in `main`, because peft reads `lora_A.weight`. With low-rank dendrites the output has the
    type of the output of `main`: `main` is then a layer of the encoder, and the encoder's next
    layer may take this type alone.

    Args:
        main: the layer itself; its output has the channels on the last axis.
        layers: n dendrites, each a layer of the shape of `main`: copies of it, or `LowRank`.
        top: gate per dendrite and channel, shape (n, C).
        skip: n gates from earlier dendrites, entry i of shape (i, C).
        activation: a name in `ACTIVATIONS`.
    """

    main: nn.Module
    layers: nn.ModuleList
    top: nn.Parameter
    skip: nn.ParameterList

    def __init__(
        self,
        main: nn.Module,
        layers: Sequence[nn.Module],
        top: Tensor,
        skip: Sequence[Tensor],
        activation: str,
    ) -> None:
        super().__init__()
        self.main = main
        self.layers = nn.ModuleList(layers)
        self.top = nn.Parameter(top)
        self.skip = nn.ParameterList(nn.Parameter(gates) for gates in skip)
        self.activation = activation
        self.keeps_type = any(isinstance(layer, LowRank) for layer in layers)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  (anything that `main` has)
        """An attribute of this module, or else the one of `main`."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("main"), name)

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (..., F) to outputs (..., C)."""
        out: Tensor = self.main(x)
        whole = self.add_signals(out, x)
        return whole.to(out.dtype) if self.keeps_type else whole

    def add_signals(self, out: Tensor, x: Tensor) -> Tensor:
        """Outputs (..., C) plus the gated signals of the dendrites for inputs (..., F)."""
        for gated in self.gated_signals(x):
            out = out + gated
        return out

    def gated_signals(self, x: Tensor) -> Iterator[Tensor]:
        """What each dendrite adds to the output, (..., C), for inputs (..., F)."""
        act = ACTIVATIONS[self.activation]
        signals: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            raw = layer(x)
            for j, earlier in enumerate(signals):
                raw = raw + self.skip[i][j] * earlier
            signals.append(act(raw))
            yield self.top[i] * signals[i]


def attach(model: nn.Module, description: Mapping[str, Any]) -> nn.Module:
    """Give a plain model the structure of `description`, in place; `load` fills it.

    The new gates are zero, so the model's outputs do not change yet.

    Args:
        model: as it was before dendrites.
        description: `activation`, `dendrites` with the number of dendrites per module path, and
            `rank` where they are `LowRank`, as `Dendrites.twin_state` gives it.

    Returns:
        The same model.

    Raises:
        UserError: the description names an unknown activation or a module that is not a linear
            layer of this model, or with `rank`, not one with LoRA.
    """
    activation = description["activation"]
    if activation not in ACTIVATIONS:
        raise UserError(
            f"The dendrites' activation should be one of {', '.join(ACTIVATIONS)}. "
            f"Found {activation!r}. Use the description that the run saved."
        )
    modules, rank = dict(model.named_modules()), description.get("rank")
    for path, count in description["dendrites"].items():
        main: Any = modules.get(path)
        if not (has_lora(main) if rank else isinstance(main, nn.Linear)):
            raise UserError(
                f"The module {path!r} should be a linear layer {'with LoRA ' if rank else ''}of "
                f"the model. Found {'no such module' if main is None else type(main).__name__}. "
                f"Build the model with the settings of the run that saved the dendrites."
            )
        make = partial(LowRank.of, main, rank) if rank else partial(copy.deepcopy, main)
        layers: list[nn.Module] = [make() for _ in range(count)]
        like = next(main.lora_A.parameters()) if rank else main.weight
        gates = [like.new_zeros(i, main.out_features) for i in range(count + 1)]
        put_module(model, path, DendriticModule(main, layers, gates[-1], gates[:-1], activation))
    return model


def output_shares(model: nn.Module, run: Callable[[], object]) -> dict[str, list[float]]:
    """What each dendrite contributes to the output of its layer, on the data that `run` feeds in.

    A dendrite's share is the root mean square of what the dendrite adds, divided by the root mean
    square of the layer's whole output. The share is 0 where the gate never moved, and above 1 where
    the dendrite and the layer itself cancel each other. Padding counts like any token.

    Args:
        model: with dendrites attached and loaded; in eval mode.
        run: forward passes of the model.

    Returns:
        Module path to a share per dendrite; a layer that `run` did not reach has no entry.
    """
    paths = _paths(model)
    if not paths:
        return {}
    squares: dict[str, Tensor] = {}

    def watch(path: str) -> Callable[[DendriticModule, tuple[Tensor], Tensor], None]:
        def hook(module: DendriticModule, inputs: tuple[Tensor], out: Tensor) -> None:
            parts = [*module.gated_signals(inputs[0]), out]
            sums = torch.stack([part.detach().double().square().sum() for part in parts])
            squares[path] = squares.get(path, 0) + sums

        return hook

    hooks = [model.get_submodule(p).register_forward_hook(watch(p)) for p in paths]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in hooks:
            handle.remove()
    return {p: (s[:-1] / s[-1].clamp(min=1e-300)).sqrt().tolist() for p, s in squares.items()}


def load(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into a model that `attach` has prepared.

    `tensors` must have every tensor of a dendrite. Plain weights (LoRA, heads) are copied where
    `tensors` has them, under the names that they have without dendrites. Dendrites take over the
    type of the tensors.

    Raises:
        UserError: a tensor is unknown, missing or of another shape; nothing was copied then.
    """
    places = dict(_named_tensors(model))
    dendrites = {n for path in _paths(model) for n in places if _belongs(n, path)}
    unknown = sorted(tensors.keys() - places.keys())
    missing = sorted(dendrites - tensors.keys())
    misfits = sorted(n for n in tensors.keys() & places if tensors[n].shape != places[n].shape)
    for kind, names in (("unknown", unknown), ("missing", missing), ("of another shape", misfits)):
        if names:
            raise UserError(
                f"The saved tensors should fit the model. Found {len(names)} {kind}, first "
                f"{names[0]!r}. Build the model with the settings of the run that saved them."
            )
    with torch.no_grad():
        for name, tensor in tensors.items():
            place = places[name]
            if name in dendrites:
                place.data = tensor.to(place.device, copy=True)
            else:
                place.copy_(tensor)


def split(
    tensors: Mapping[str, Tensor], description: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors of a twin as (plain weights, weights of dendrites)."""
    paths = description["dendrites"]
    dendrites = {k: v for k, v in tensors.items() if any(_belongs(k, path) for path in paths)}
    return {k: v for k, v in tensors.items() if k not in dendrites}, dendrites


def put_module(model: nn.Module, path: str, module: nn.Module) -> None:
    """Replace the submodule at `path`, whatever kind of container it is in."""
    parent, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def _belongs(name: str, path: str) -> bool:
    return name.startswith(tuple(f"{path}.{part}" for part in PARTS))


def _paths(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, DendriticModule)]


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters by the names they would have without dendrites, then those of the dendrites."""
    mains = tuple(f"{path}.main." for path in _paths(model))
    for name, parameter in model.named_parameters():
        main = next((m for m in mains if name.startswith(m)), None)
        yield name if main is None else main.removesuffix("main.") + name[len(main) :], parameter
