"""Writing files whole or not at all: under a temporary name, synced, then renamed."""

from __future__ import annotations

import csv
import errno
import hashlib
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dao.errors import UserError
from dao.learner.basics.spreadsheets import harmless
from dao.learner.basics.wording import one_line

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "PARTIAL",
    "append_line",
    "csv_text",
    "digest",
    "read_tensors",
    "remove",
    "replace_folder",
    "share",
    "sync",
    "write_atomically",
    "write_tensors",
]

PARTIAL = ".partial"
# Errors by which some network file systems refuse to sync a directory; they need no sync.
UNSYNCED = (errno.EINVAL, errno.ENOTSUP)
CHUNK = 1 << 20
# Words in the error of torch.save when a write has failed.
TORCH_WRITES = re.compile(r"inline_container|PytorchStreamWriter|Parent directory")


def write_atomically(
    path: Path, content: str | bytes | Callable[[Path], object], *, unique: bool = False
) -> None:
    """Replace a file so that a reader, a kill or a power cut leaves either the old or the new one.

    Args:
        path: of the file.
        content: text (UTF-8), bytes, or a function that writes the file to the path it is given.
        unique: whether several processes may write the file at the same time.

    Raises:
        OSError: the file could not be written. Its old content is then still there.
    """
    kind = f".{uuid.uuid4().hex}{PARTIAL}" if unique else PARTIAL
    temporary = path.with_name(path.name + kind)
    with _removed_on_failure(temporary), _named(path):
        if callable(content):
            content(temporary)
            share(temporary)
        else:
            with open(temporary, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)


def replace_folder(path: Path, fill: Callable[[Path], object]) -> None:
    """Replace a folder by the one that `fill` writes to the path it is given.

    A kill may leave no folder of this name, but never a part of one.

    Raises:
        OSError: the folder could not be written.
    """
    temporary = path.with_name(path.name + PARTIAL)
    with _removed_on_failure(temporary), _named(path):
        remove(temporary)
        temporary.mkdir(parents=True)
        fill(temporary)
        share(temporary)
        for part in (*temporary.rglob("*"), temporary):
            sync(part)
        remove(path)
        os.replace(temporary, path)
        sync(path.parent)


def share(path: Path) -> None:
    """Give a file, or every file in a folder, the permissions that the umask gives a new file.

    Libraries write some files, weights among them, so that their owner alone may read them.

    Raises:
        OSError: the permissions could not be changed.
    """
    probe = (path if path.is_dir() else path.parent) / f".{uuid.uuid4().hex}{PARTIAL}"
    # A new file shows the permissions: os.umask() would change the umask of all threads to tell it.
    descriptor = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
        probe.unlink()
    for file in path.rglob("*") if path.is_dir() else (path,):
        if file.is_file() and stat.S_IMODE(file.stat().st_mode) != mode:
            file.chmod(mode)


def append_line(path: Path, line: str) -> None:
    """Add a line of text to a file.

    Raises:
        OSError: the line could not be written; a part of it may be in the file.
    """
    with _named(path), open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        OSError: the file could not be written.
    """
    content = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_atomically(path, lambda place: save_file(content, place))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name; nothing in the file is executed.

    Raises:
        UserError: the file is missing or damaged, or a number in it is not finite.
    """
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except Exception as error:  # of a type of safetensors where the file is damaged
        reason = one_line(error)
        raise UserError(f"The weights {path} cannot be read: {reason}.") from None
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(
                f"The weights {path} should be finite. Found NaN or infinity in {name}. Restore "
                f"the file, or train again."
            )
    return tensors


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()


def sync(path: Path) -> None:
    """Wait until a file, or the list of names of a folder, is on the disk.

    Raises:
        OSError: the system could not write it.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (error.errno in UNSYNCED and path.is_dir()):
            raise
    finally:
        os.close(descriptor)


def csv_text(table: pd.DataFrame) -> str:
    r"""A table as CSV that a spreadsheet shows and never runs.

    Text is written as `dao.learner.basics.spreadsheets.guarded` has it.

    Example:
        >>> import pandas as pd
        >>> csv_text(pd.DataFrame({"text": ["=1+1", "-4", "up"]}))
        "text\n'=1+1\n-4\nup\n"
    """
    names = {name: harmless(name) for name in table.columns}
    written = table.map(harmless).rename(columns=names)
    text = str(written.to_csv(index=False))
    if "\r" in text:  # pandas does not quote a cell for it, and a reader would end the row there
        text = str(written.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC))
    return text


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn what libraries raise for a failed write into an OSError that names the file."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
    except (SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not TORCH_WRITES.search(str(error)):
            raise  # the error is one of computing the content
        code = re.search(r"os error (\d+)", str(error))
        number = int(code[1]) if code else errno.EIO
        reason = os.strerror(number) if code else one_line(error)
        raise OSError(number, reason, str(path)) from error


@contextmanager
def _removed_on_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):
            remove(path)
        raise


def remove(path: Path) -> None:
    """Remove a file, or a folder with all its content; of a link, only the link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
