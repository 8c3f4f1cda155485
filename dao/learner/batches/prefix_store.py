"""States of frozen layers on disk: written once, whole or not at all, read through a memory map."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from dao.errors import UserError
from dao.learner.storage.files import write_atomically

__all__ = ["PrefixStates", "StateFile"]

DIGEST = hashlib.sha256
CHUNK = 1 << 20


@dataclass(frozen=True)
class PrefixStates:
    """States of all rows; row i is `states[starts[i] : starts[i] + lengths[i]]`.

    Attributes:
        states: (tokens of all rows, width), usually a memory map.
        starts: per row, where it begins.
        lengths: tokens per row.
    """

    states: Tensor
    starts: Sequence[int]
    lengths: Sequence[int]

    def gather(self, rows: Sequence[int], length: int) -> Tensor:
        """The given rows as (rows, length, width), zeros behind the end of each."""
        found = self.states.new_zeros(len(rows), length, self.states.shape[1])
        for place, row in zip(found, rows, strict=True):
            start, tokens = self.starts[row], self.lengths[row]
            place[:tokens] = self.states[start : start + tokens]
        return found


@dataclass(frozen=True)
class StateFile:
    """A file of (tokens, width) numbers of one type, then the sha256 of their bytes."""

    path: Path
    tokens: int
    width: int
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.tokens * self.width * self.dtype.itemsize + DIGEST().digest_size

    @contextmanager
    def locked(self, wait: Callable[[], None]) -> Iterator[None]:
        """One process at a time; one that comes later calls `wait` and finds the file written."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            wait()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def whole(self) -> bool:
        """Whether the file is there, of the right size, and has the content it was written with."""
        if not self.path.is_file() or self.path.stat().st_size != self.size:
            return False
        digest, left = DIGEST(), self.size - DIGEST().digest_size
        with self.path.open("rb") as file:
            while left:
                chunk = file.read(min(CHUNK, left))
                digest.update(chunk)
                left -= len(chunk)
            return file.read() == digest.digest()

    def write(self, chunks: Iterable[Tensor]) -> None:
        """Write chunks (tokens, width), which together are the whole, under a lock of the caller.

        Raises:
            UserError: the disk has too little room.
        """
        free = shutil.disk_usage(self.path.parent).free
        if free < self.size:
            raise UserError(
                f"`cache` should have room for {self.size / 2**20:,.0f} MiB of frozen layers' "
                f"states. Found {free / 2**20:,.0f} MiB free in {self.path.parent}. Free some, "
                f"give another folder, or leave out encoder.prefix_cache."
            )

        def fill(place: Path) -> None:
            digest = DIGEST()
            with open(place, "wb") as file:
                for chunk in chunks:
                    content = chunk.contiguous().view(torch.uint8).numpy().tobytes()
                    digest.update(content)
                    file.write(content)
                file.write(digest.digest())

        write_atomically(self.path, fill)

    def read(self) -> Tensor:
        """The numbers (tokens, width), mapped into memory rather than read."""
        count = self.tokens * self.width
        flat = torch.from_file(str(self.path), shared=False, size=count, dtype=self.dtype)
        return flat.view(self.tokens, self.width)
