"""More units in the feed-forward blocks of an encoder, which computes what it did before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from dao.errors import UserError
from dao.learner.encoder.layers import layer_list

__all__ = ["parameters_per_unit", "widen"]

WIDTHS = ("intermediate_size", "hidden_dim", "ffn_dim", "d_ff")
"""What configurations of transformers call the width of a feed-forward block."""
SPREAD = 0.02  # of new weights, where the configuration does not say


def parameters_per_unit(base: Any) -> int:  # noqa: ANN401  (transformers')
    """The parameters that one more unit in every feed-forward block comes to.

    Args:
        base: an encoder of transformers; one on the device `meta` will do.

    Raises:
        UserError: as `widen`.
    """
    return sum(
        sum(layer.in_features + (layer.bias is not None) for layer in into) + out.out_features
        for into, out in _blocks(base)
    )


def widen(base: Any, units: int, seed: int) -> None:  # noqa: ANN401
    """Give every feed-forward block so many more units, in place.

    The new units read with weights as transformers draws them, biases at 0, and write with weights
    of 0. So the encoder computes what it did, and the first gradients reach what they write with,
    as in Net2Net (Chen et al. 2016). The configuration says the new width, so a saved encoder is
    read back by transformers as any other.

    Args:
        base: an encoder of transformers whose weights train.
        units: for each block.
        seed: of the new weights; the global generator is not used.

    Raises:
        UserError: no feed-forward blocks of plain linear layers were found.
    """
    generator = torch.Generator().manual_seed(seed)
    spread = float(getattr(base.config, "initializer_range", SPREAD))
    for into, out in _blocks(base):
        for layer in into:
            rows = torch.randn(units, layer.in_features, generator=generator) * spread
            _set(layer, "weight", torch.cat([layer.weight.data, rows.to(layer.weight)]))
            if layer.bias is not None:
                _set(layer, "bias", torch.cat([layer.bias.data, layer.bias.new_zeros(units)]))
            layer.out_features += units
        silent = out.weight.new_zeros(out.out_features, units)
        _set(out, "weight", torch.cat([out.weight.data, silent], dim=1))
        out.in_features += units
    key = _width_key(base)
    setattr(base.config, key, getattr(base.config, key) + units)


def _set(layer: nn.Linear, name: str, values: torch.Tensor) -> None:
    setattr(layer, name, nn.Parameter(values))


def _width_key(base: Any) -> str:  # noqa: ANN401
    known = [key for key in WIDTHS if isinstance(getattr(base.config, key, None), int)]
    if not known:
        raise _cannot(base, "no width of its feed-forward blocks in its configuration")
    return known[0]


def _blocks(base: Any) -> Iterator[tuple[list[nn.Linear], nn.Linear]]:  # noqa: ANN401
    """Of each transformer layer, the linear layers into its feed-forward block and the one out."""
    width = getattr(base.config, _width_key(base))
    if width == base.config.hidden_size:
        raise _cannot(base, f"blocks as wide as the token states, {width}")
    try:
        layers = layer_list(base)[1]
    except UserError:
        raise _cannot(base, "no list of transformer layers") from None
    for layer in layers:
        linear = [module for module in layer.modules() if isinstance(module, nn.Linear)]
        into = [module for module in linear if module.out_features == width]
        out = [module for module in linear if module.in_features == width]
        if not into or len(out) != 1:
            raise _cannot(base, f"{len(into)} layers of {width} outputs and {len(out)} of as many "
                                f"inputs in a transformer layer")  # fmt: skip
        yield into, out[0]


def _cannot(base: Any, found: str) -> UserError:  # noqa: ANN401
    return UserError(
        f"`dendrites.control=capacity` with encoder.tune=full should widen feed-forward blocks of "
        f"plain linear layers. Found in {base.config.model_type} {found}. Take another control, or "
        f"another encoder, such as one of BERT's shape."
    )
