"""One run on several processes that torchrun has started: who works on what, writes and speaks.

A process that was started alone is rank 0 of 1, and everything here leaves it as it is.
"""

from __future__ import annotations

import gc
import os
import time
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from dao.distributed import keep_alive, world_size
from dao.errors import UserError
from dao.learner.basics.program import command, on_several_processes
from dao.learner.storage.writing import OwnedRecord, RunRecord, SilentRecord

__all__ = [
    "Silence",
    "barrier",
    "check_equal",
    "first_rank_first",
    "gather",
    "is_first",
    "joined",
    "local_device",
    "of_whole_batch",
    "parallel",
    "run_folder",
    "seed_step",
    "several",
    "share",
]

LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# The others wait this long while the first fills a cache, or predicts and reports at the end.
LONGEST_WAIT = timedelta(hours=12)
GRACE = 60  # seconds in which the launcher ends the ranks that did not fail first

Item = TypeVar("Item")


# -- the group -----------------------------------------------------------------------------------


@contextmanager
def joined() -> Iterator[None]:
    """Around a whole command: the process group of the ranks that torchrun has started.

    The first rank that fails passes its error on. The others, which fail with it or because of it,
    stay silent until the launcher ends them. CPU tensors travel by gloo, those on a GPU by NCCL.

    Raises:
        UserError: WORLD_SIZE was set by something other than torchrun.
        SystemExit: another rank failed before this one.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    missing = [name for name in LAUNCHER if name not in os.environ]
    if missing:
        raise UserError(
            f"Several processes should be started by torchrun. Found WORLD_SIZE above 1 without "
            f"{', '.join(missing)}. Run: {on_several_processes('train')} ..."
        )
    # torchrun keeps this store outside of the ranks, so it outlives each of them.
    store, rank, size = next(rendezvous("env://"))
    dist.init_process_group(store=store, rank=rank, world_size=size, timeout=LONGEST_WAIT)
    try:
        yield
        dist.barrier()
    except BaseException as error:
        if _fails_first(store):
            raise
        if not isinstance(error, KeyboardInterrupt):  # with which torchrun ends as well
            with suppress(KeyboardInterrupt):
                time.sleep(GRACE)
        raise SystemExit(1) from None
    # Wrappers of the model hold the group, whose threads have to end before the interpreter does.
    gc.collect()
    dist.destroy_process_group()


def _fails_first(store: Any) -> bool:  # noqa: ANN401
    try:
        return bool(store.add("ranks that failed", 1) == 1)
    except RuntimeError:  # the store is gone, and so is the rank or the launcher that held it
        return False


def several() -> bool:
    """Whether this process is one of several."""
    return world_size() > 1


def is_first() -> bool:
    """Whether this rank writes and speaks."""
    return _rank() == 0


def _rank() -> int:
    return dist.get_rank() if several() else 0


def barrier() -> None:
    """Wait until every rank is here."""
    if several():
        dist.barrier()


@contextmanager
def first_rank_first() -> Iterator[None]:
    """Rank 0 goes through the block before the others, which then find what it has written."""
    if not is_first():
        barrier()
    yield
    if is_first():
        barrier()
    barrier()


def gather(value: Item) -> list[Item]:
    """What every rank gives, in their order; it travels pickled."""
    if not several():
        return [value]
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, value)
    return found


def local_device(name: str) -> str:
    """Which device `name` is on this rank: of several ranks, each has a GPU of its own.

    Raises:
        UserError: one GPU is named for several ranks; or this process is one of several in a
            command that runs as one.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not several():
        raise UserError(
            "This command should run as one process. Found WORLD_SIZE above 1. Start it without a "
            f"launcher; {command('train')} alone runs on several."
        )
    if several() and name.startswith("cuda:"):
        raise UserError(
            f"`device` should leave each process a GPU of its own. Found {name!r} for "
            f"{world_size()} processes. Give cuda, or choose with CUDA_VISIBLE_DEVICES."
        )
    return f"cuda:{os.environ['LOCAL_RANK']}" if several() and name == "cuda" else name


# -- the work ------------------------------------------------------------------------------------


def share(items: Sequence[Item]) -> Sequence[Item]:
    """This rank's part; of rows in order of length, each rank gets short and long ones."""
    return items[_rank() :: world_size()]


def of_whole_batch(
    losses: Mapping[str, Tensor | None],
    outputs: Mapping[str, Tensor],
    parts: Mapping[str, float],
) -> dict[str, Tensor | None]:
    """Losses whose mean over the ranks is the loss of the whole batch, and so with their gradients.

    Every rank gets a loss for every task of the batch, zero where it has no label itself. So no
    rank is missing where norms are measured or gradients averaged, and none counts twice.

    Args:
        losses: per task the mean over this rank's rows; None where none has a label.
        outputs: per task what its head gave for these rows.
        parts: per task of the batch the part of its mean that is this rank's, from 0 to 1. They
            sum to 1 over the ranks; a task without a label on any of them is left out.

    Returns:
        A loss per task of the batch, None for the others.
    """
    joint: dict[str, Tensor | None] = dict.fromkeys(losses)
    # The wrapper waits for the heads of all tasks, those without any label included.
    idle = [keep_alive(outputs[task]) for task in losses if task not in parts]
    for task, part in parts.items():
        loss = losses[task]
        own = keep_alive(outputs[task]) if loss is None else loss * (world_size() * part)
        joint[task] = torch.stack([own, *idle]).sum()
        idle = []
    return joint


def parallel(model: nn.Module) -> nn.Module:
    """The model in a wrapper that averages gradients over the ranks; alone, the model itself.

    To be made anew whenever parameters were added or replaced. Nothing is copied from rank to
    rank: equal seeds made them equal, and `check_equal` has seen it.
    """
    if not several():
        return model
    with warnings.catch_warnings():
        # Renamed in torch 2.13; torch 2.4 knows this name only.
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(model, broadcast_buffers=False, init_sync=False)


def check_equal(parameters: Mapping[str, Tensor], error: type[Exception]) -> None:
    """See that every rank holds the same parameters, to the bit.

    Raises:
        Exception: the `error`, on every rank, naming those that differ from rank 0.
    """
    if not several():
        return
    checksum = 0
    for name, parameter in parameters.items():
        content = parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        checksum = zlib.crc32(content.numpy().data, zlib.crc32(name.encode(), checksum))
    first, *others = gather(checksum)
    odd = [rank for rank, found in enumerate(others, start=1) if found != first]
    if odd:
        raise error(
            f"All ranks should hold the same weights. Found that rank {', '.join(map(str, odd))} "
            f"of 0 to {world_size() - 1} differs from rank 0. Results would mean nothing."
        )


def seed_step(seed: int, step: int) -> None:
    """Of several ranks, give each its own random numbers (LoRA dropout), anew at every step.

    They draw different amounts, so that no state to resume from would be common to all.
    """
    if several():
        torch.manual_seed((seed * 1_000_003 + step) * world_size() + _rank())


# -- the record ----------------------------------------------------------------------------------


def run_folder(path: Path) -> RunRecord:
    """The run folder, which the first rank alone writes."""
    return OwnedRecord(path) if is_first() else SilentRecord(path)


class Silence:
    """The progress of ranks other than the first: nothing is shown."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def step(self, row: Mapping[str, Any], total: int) -> None:
        """Nothing."""

    def validation(self, row: Mapping[str, Any]) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def of_stage(self, name: str, before: int) -> Self:  # noqa: ARG002
        """Nothing either."""
        return self
