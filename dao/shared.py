"""What the tasks share: how the loss refers to it, and whether it trains."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from dao.errors import UserError

__all__ = ["Parameters", "Places", "Shared", "Tapped", "exporting", "parameters_of"]

Parameters = Iterable[Tensor] | Callable[[], Iterable[Tensor]]


class Shared:
    """Refers to parameters without owning them.

    A module that held another module's parameters would register and save them a second time.
    This is a plain object: ``state_dict`` passes over it, while ``copy.deepcopy`` and ``pickle``
    follow it, so the copy of a model refers to the parameters of the copy.

    Args:
        name: The option, for messages.
        given: Parameters, or a function that returns them.
        needed: Whether None is refused.

    Raises:
        UserError: Nothing was given where it is needed, or a module in place of its parameters.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(2, 2)
        >>> _ = layer.bias.requires_grad_(False)
        >>> len(Shared("params", lambda: [*layer.parameters(), layer.weight], True).trainable())
        1
    """

    def __init__(self, name: str, given: Parameters | None, needed: bool) -> None:
        if given is None and needed:
            raise UserError(
                f"`{name}` should be given for this `source` or `calibrate_every`. Found None. "
                "Give what the tasks share, or use `source='rep'` without calibration."
            )
        if isinstance(given, nn.Module):
            raise UserError(
                f"`{name}` should be parameters or a function that returns them. Found the module "
                f"{type(given).__name__}. Give its `.parameters` (no brackets: they may change "
                "later)."
            )
        if isinstance(given, Tensor):
            given = [given]
        if not (given is None or callable(given) or isinstance(given, Iterable)):
            raise UserError(
                f"`{name}` should be parameters or a function that returns them. Found "
                f"{type(given).__name__}. Give the encoder's `.parameters`."
            )
        self.name = name
        self._given = given if callable(given) else list(given or [])

    def trainable(self) -> list[Tensor]:
        """The parameters that can receive a gradient now, each once; none while all are frozen.

        Raises:
            UserError: These are no parameters, none at all, or parts that are spread over ranks.
        """
        given = list(self._given()) if callable(self._given) else self._given
        if odd := [p for p in given if not isinstance(p, Tensor)]:
            raise UserError(
                f"`params` should be parameters. Found {type(odd[0]).__name__}s. "
                "Give `.parameters`, not `.named_parameters` or `.state_dict()`."
            )
        if not given and not self._may_filter():
            raise UserError(
                f"`{self.name}` should hold a parameter. Found none: a generator that was used up, "
                "a list filtered while all was frozen, or an encoder whose parameters "
                "FullyShardedDataParallel took? Give `encoder.parameters`; shard with "
                "`fully_shard`."
            )
        if any(map(_in_parts, given)):
            raise UserError(
                f"`{self.name}` should be whole parameters. Found parts, spread over ranks, which "
                "the losses do not depend on. Use `source='rep'` with `fully_shard`, or its "
                "`reshard_after_forward=False` and `encoder.parameters` (no brackets)."
            )
        return list({id(p): p for p in given if p.requires_grad}.values())

    def _may_filter(self) -> bool:
        """Whether to find nothing can mean that all is frozen, and another answer comes later."""
        of_module = getattr(self._given, "__func__", None) is nn.Module.parameters
        return callable(self._given) and not of_module


def _in_parts(parameter: Tensor) -> bool:
    """Whether this is a piece of `fully_shard` (a DTensor) or of FullyShardedDataParallel."""
    return hasattr(parameter, "device_mesh") or hasattr(parameter, "_fsdp_flattened")


def parameters_of(module: nn.Module | None) -> Parameters | None:
    """The function that returns a module's parameters.

    Raises:
        UserError: This is no module.

    Example:
        >>> len(list(parameters_of(nn.Linear(2, 2))()))
        2
    """
    if module is None or isinstance(module, nn.Module):
        return None if module is None else module.parameters
    raise UserError(
        f"`module` should be a module, e.g. the encoder's last block. Found {module!r}. "
        "Give parameters as `params`, with `source='params'`."
    )


class Tapped:
    """The shared representation of the running step; nothing of it is copied or pickled.

    Attributes:
        z: The representation, part of the graph of the losses; None if there is none that trains.
        frozen: Whether one was seen that does not require grad.

    Example:
        >>> import torch
        >>> tapped = Tapped()
        >>> tapped.see(torch.ones(2), training=True)
        >>> tapped.z, tapped.frozen
        (None, True)
    """

    def __init__(self) -> None:
        self.z: Tensor | None = None
        self.frozen = False

    @property
    def seen(self) -> bool:
        """Whether there was one in the running step."""
        return self.z is not None or self.frozen

    def see(self, z: Tensor, training: bool) -> None:
        """Keeps it where it can be measured."""
        self.z = z if training and z.requires_grad else None
        self.frozen = training and not z.requires_grad

    def forget(self) -> None:
        """Lets go of the graph."""
        self.z, self.frozen = None, False

    def __getstate__(self) -> dict[str, bool | None]:
        """An activation belongs to a running graph, which cannot be copied."""
        return {"z": None, "frozen": False}


class Places:
    """All that norms can be taken over.

    Args:
        source: That of :class:`dao.DAOLoss`.
        params: The shared parameters.
        module: The module for ``"last"``.
        compares: Whether other norms are compared with those over `params`.

    Raises:
        UserError: What `source` needs is not given.

    Example:
        >>> layer = torch.nn.Linear(2, 2)
        >>> places = Places("params", layer.parameters(), None, compares=False)
        >>> len(places.inputs("params")), places.frozen("params")
        (2, False)
    """

    def __init__(
        self, source: str, params: Parameters | None, module: nn.Module | None, *, compares: bool
    ) -> None:
        self.params = Shared("params", params, source in ("auto", "params") or compares)
        self.last = Shared("module", parameters_of(module), source == "last")
        self.tapped = Tapped()

    def inputs(self, source: str) -> list[Tensor]:
        """What can be measured there now."""
        if source == "rep":
            return [] if self.tapped.z is None else [self.tapped.z]
        return (self.last if source == "last" else self.params).trainable()

    def frozen(self, source: str) -> bool:
        """Whether nothing there trains now."""
        return self.tapped.frozen if source == "rep" else not self.inputs(source)


def exporting() -> bool:
    """Whether ``torch.export`` traces, which takes the loss as it is in evaluation.

    Example:
        >>> exporting()
        False
    """
    if not torch.compiler.is_compiling():
        return False
    flag = getattr(torch.compiler, "is_exporting", None)  # came after torch 2.4
    return bool(flag() if flag is not None else not torch.compiler.is_dynamo_compiling())
