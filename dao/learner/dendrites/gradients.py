"""Which dendrites have ever been reached by a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["GradientRecord"]


class GradientRecord:
    """Largest gradient norms per module and set, at the dendrite's own weights and at its gate.

    A dendrite gets no gradient while its gate is zero: it is then an untrained random feature, and
    this record shows it. Norms stay on the device until they are read.

    Args:
        names: paths of the modules, in the order in which `add` gets them.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._norms: dict[str, dict[str, list[float]]] = {name: {} for name in names}
        self._pending: Tensor | None = None

    def add(self, modules: Sequence[Any]) -> None:
        """Take up the gradients now present in perforatedai's modules; reads nothing back."""
        norms: list[Tensor] = []
        for module in modules:
            like = module.dendrites_to_top[-1]
            gates = like.grad
            for row, layer in enumerate(module.dendrite_module.layers):
                norms.append(_norm([p.grad for p in layer.parameters()], like))
                norms.append(_norm([None if gates is None else gates[row]], like))
        now = torch.stack(norms)
        self._pending = now if self._pending is None else torch.fmax(self._pending, now)

    def settle(self, sets: Sequence[int]) -> None:
        """Read back what is on the device; `sets` numbers the sets now in the model."""
        if self._pending is None:
            return
        rows = self._pending.view(len(self._norms), len(sets), 2).tolist()
        for known, found in zip(self._norms.values(), rows, strict=True):
            for key, (own, gate) in zip(map(str, sets), found, strict=True):
                before = known.get(key, [0.0, 0.0])
                known[key] = [max(before[0], own), max(before[1], gate)]
        self._pending = None

    def state(self) -> dict[str, dict[str, list[float]]]:
        """Module -> set -> [own weights, gate]; JSON-able."""
        return {name: {k: list(v) for k, v in sets.items()} for name, sets in self._norms.items()}

    def restore(self, state: dict[str, dict[str, list[float]]]) -> None:
        """Take over what `state` gave."""
        for name, sets in state.items():
            self._norms[name] = {key: list(values) for key, values in sets.items()}

    def summary(self) -> dict[str, Any]:
        """The record's part of `Dendrites.report`."""
        seen = [values for sets in self._norms.values() for values in sets.values()]
        return {
            "received_gradient": sum(own > 0 for own, _ in seen),
            "gates_received_gradient": sum(gate > 0 for _, gate in seen),
            "gradient_norms": {
                name: max((own for own, _ in sets.values()), default=0.0)
                for name, sets in self._norms.items()
            },
        }


def _norm(gradients: Sequence[Tensor | None], like: Tensor) -> Tensor:
    present = [g.detach().float().flatten() for g in gradients if g is not None]
    return torch.cat(present).norm() if present else like.new_zeros((), dtype=torch.float32)
