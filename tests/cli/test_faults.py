"""Every write of a run fails once: the folder stays readable, and the run can be finished.

What a failed write leaves is often what the one before it left, but for files in a folder that was
not finished, which nothing reads. So each such folder is finished once.
"""

import errno
import json
import os
import re
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

TINY = (
    "--tasks",
    "reg",
    "train.page=false",
    "train.epochs=1",
    "train.batch_size=8",
    "train.lr=0.1",
)
ARMS = {"plain": (), "dendrites": ("--dendrites", "train.batch_size=2")}
PARTIAL = ".partial"
TIMED = "history.jsonl"
"""A file with times in it, which no two runs have in common."""
SECONDS = rb'"seconds": [0-9.e-]+'
Content = frozenset[tuple[str, object]]
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Faults:
    """Counts the writes below a folder, and lets the one with a given number fail."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.seen: list[str] = []
        self.fails_at: int | None = None

    def hit(self, what: str, path: object) -> None:
        if self.folder is None or not isinstance(path, str | Path | bytes):
            return
        place = Path(os.fsdecode(path))
        if not place.is_absolute():
            place = Path.cwd() / place
        if self.folder != place and self.folder not in place.parents:
            return
        self.seen.append(f"{what} {place.relative_to(self.folder)}")
        if len(self.seen) - 1 == self.fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = set(mode) & set("wax+") if mode else (flags or 0) & WRITING
            if writes:
                self.hit("open", path)
        elif event == "os.rename":
            self.hit("rename", arguments[1])
        elif event == "os.mkdir" and not os.path.exists(arguments[0]):
            self.hit("mkdir", arguments[0])


FAULTS = Faults()


@pytest.fixture(scope="module")
def hook() -> None:
    sys.addaudithook(FAULTS.audit)  # stays for good, and does nothing without a folder


@contextmanager
def failing(folder: Path, number: int | None) -> Iterator[list[str]]:
    """Within the block, the write with this number fails as on a full disk."""
    FAULTS.folder, FAULTS.seen, FAULTS.fails_at = folder, [], number
    try:
        yield FAULTS.seen
    finally:
        FAULTS.folder = None


@pytest.fixture
def patched(hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python's audit events do not tell of: libraries in C++ and Rust, and the sync."""

    def wrap(module: Any, name: str, path_of: Callable[..., object]) -> None:
        original = getattr(module, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            FAULTS.hit(name, path_of(*arguments))
            return original(*arguments, **options)

        monkeypatch.setattr(module, name, wrapped)

    import peft.peft_model

    from dao.learner.storage import checkpoint, files

    for module in (files, checkpoint, safetensors.torch):
        wrap(module, "save_file", lambda _, path, *__: path)
    wrap(peft.peft_model, "safe_save_file", lambda _, path, *__: path)
    wrap(torch, "save", lambda _, path, *__: path)
    wrap(os, "fsync", lambda descriptor: os.readlink(f"/proc/self/fd/{descriptor}"))


@pytest.fixture(scope="module")
def train_few(train, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Result]:
    """Runs on few rows: each takes two steps, or eight with dendrites."""
    lines = ["text,score,split"]
    for i in range(32):
        split = "train" if i < 16 else "validation" if i < 24 else "test"
        lines.append(f"net profit {'rose' if i % 2 else 'fell'} in {i},{i % 2 - i / 100},{split}")
    path = tmp_path_factory.mktemp("few") / "few.csv"
    path.write_text("\n".join(lines) + "\n")
    return partial(train, data=path)


@pytest.fixture(scope="module")
def whole(train_few, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The weights of a run that nothing happened to, with dendrites and without."""
    found = {}
    for name, flags in ARMS.items():
        folder = tmp_path_factory.mktemp("whole") / name
        assert train_few(folder, *TINY, *flags).exit_code == 0
        found[name] = weights(folder)
    return found


def weights(folder: Path) -> dict[str, Any]:
    files = ("adapter/adapter_model.safetensors", "heads.safetensors", "dendrites.safetensors")
    present = [folder / name for name in files if (folder / name).exists()]
    return {f"{p.name}:{k}": v for p in present for k, v in load_file(p).items()}


def places(seen: list[str]) -> list[int]:
    """Which writes to let fail: each change of a name or a folder, and the end.

    Of those to files with names that nothing reads yet, one in each folder is enough.
    """
    first: dict[str, int] = {}
    for number, what in enumerate(seen):
        if not what.startswith(("rename ", "mkdir ")):
            what = re.sub(r"[^/ ]+$", "*", re.sub(r"=\d+", "", what)) if PARTIAL in what else what
        first.setdefault(what, number)
    return sorted({*first.values(), len(seen) - 1})


def content_of(folder: Path) -> Content:
    """All paths in a folder with what is there, but for times and files in unfinished folders."""
    paths = [p for p in folder.rglob("*") if PARTIAL not in str(p.relative_to(folder).parent)]
    files = {str(p.relative_to(folder)): p.read_bytes() for p in paths if p.is_file()}
    known = {
        name: text.count(b"\n") if name.endswith(TIMED) else re.sub(SECONDS, b"", text)
        for name, text in files.items()
    }
    folders = [str(p.relative_to(folder)) for p in paths if p.is_dir()]
    return frozenset([*known.items(), *((name, None) for name in folders)])


def again(train_few, folder: Path, *flags: str) -> Result:
    """What the message of a failed run says: resume, or start again."""
    from train import app

    if (folder / "checkpoints" / "latest").exists():
        return CliRunner().invoke(app, ["--resume", str(folder)], catch_exceptions=False)
    return train_few(folder, *TINY, *flags, "--overwrite")


def check_one_fault(
    train_few, folder: Path, number: int, whole, seen_before: set[Content], *flags: str
) -> None:
    with failing(folder, number) as seen:
        result = train_few(folder, *TINY, *flags)
    where = seen[number] if number < len(seen) else "none"
    assert result.exit_code == 1, where
    assert result.stderr.strip().splitlines()[-1].startswith("error: "), result.stderr
    assert "No space left on device" in result.stderr.splitlines()[-1], result.stderr
    assert "Traceback" not in result.output
    for path in folder.rglob("*.json"):
        if PARTIAL not in str(path) and "PAI" not in path.parts:
            json.loads(path.read_text())  # whole, whatever is there
    if (folder / "metrics.json").exists():  # only if its name could not be made safe any more
        assert where == "fsync .", where
    else:
        left = content_of(folder)
        if left in seen_before:
            return
        seen_before.add(left)
        assert again(train_few, folder, *flags).exit_code == 0, where
    assert not [p for p in folder.rglob(f"*{PARTIAL}") if "checkpoints" not in p.parts], where
    found = weights(folder)
    assert found.keys() == whole.keys(), where
    assert all(found[name].equal(whole[name]) for name in found), where


@pytest.mark.slow
def test_every_write_fails_once(train_few, tmp_path: Path, whole, patched):
    with failing(tmp_path / "counted", None) as seen:
        assert train_few(tmp_path / "counted", *TINY, *ARMS["plain"]).exit_code == 0
    assert len(seen) > 60
    left: set[Content] = set()
    for number in places(seen):
        check_one_fault(train_few, tmp_path / "run", number, whole["plain"], left, *ARMS["plain"])
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
    assert len(left) > 20


@pytest.mark.slow
def test_every_write_of_perforatedai_and_of_dendrites_fails_once(
    train_few, tmp_path: Path, whole, patched
):
    flags = ARMS["dendrites"]
    with failing(tmp_path / "counted", None) as seen:
        assert train_few(tmp_path / "counted", *TINY, *flags).exit_code == 0
    own = ("PAI", "dendrites", "best_model")
    numbers = [i for i in places(seen) if any(name in seen[i] for name in own)]
    assert len(numbers) > 6
    left: set[Content] = set()
    for number in numbers:
        check_one_fault(train_few, tmp_path / "run", number, whole["dendrites"], left, *flags)
        shutil.rmtree(tmp_path / "run", ignore_errors=True)


@pytest.mark.parametrize(
    "limit", [1000, *(pytest.param(n, marks=pytest.mark.slow) for n in (17_500, 30_000))]
)
def test_a_disk_that_is_really_full(train_few, tmp_path: Path, whole, limit: int):
    """No file may grow beyond the limit: what the system and the libraries make of that."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        result = train_few(tmp_path / "run", *TINY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert result.exit_code == 1, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: The system refused "), last
    assert str(tmp_path / "run") in last
    assert last.endswith("Look at permissions and space.")
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert again(train_few, tmp_path / "run").exit_code == 0
    assert all(weights(tmp_path / "run")[n].equal(t) for n, t in whole["plain"].items())


@pytest.mark.slow
def test_predictions_are_whole_or_as_they_were(full_run: Path, tmp_path: Path, patched):
    from evaluate import app

    (tmp_path / "new.csv").write_text("text\nprofit rose\n")
    place = tmp_path / "out"
    place.mkdir()
    arguments = [str(full_run), "--input", str(tmp_path / "new.csv"), "--output"]
    arguments.append(str(place / "predictions.csv"))
    with failing(place, None) as seen:
        assert CliRunner().invoke(app, arguments).exit_code == 0
    # The second is a trial of the folder, before the file is read.
    assert [what.split()[0] for what in seen] == ["open", "open", "fsync", "rename", "fsync"]
    (place / "predictions.csv").write_text("older")
    for number, what in enumerate(seen):
        with failing(place, number):
            result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 1
        assert "No space left on device" in result.stderr.splitlines()[-1]
        assert [path.name for path in place.iterdir()] == ["predictions.csv"]
        if what != "fsync .":  # by then the new file has its name
            assert (place / "predictions.csv").read_text() == "older"


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_fails_no_run(train_few, tmp_path: Path, patched):
    cache = tmp_path / "cache"
    with failing(cache, None) as seen:
        assert train_few(tmp_path / "counted", *TINY, f"cache={cache}").exit_code == 0
    assert len(seen) > 8
    for number in (0, 1, 2, 3, 4, 5):
        with failing(tmp_path / f"cache-{number}", number):
            place = f"cache={tmp_path / f'cache-{number}'}"
            result = train_few(tmp_path / f"{number}", *TINY, place)
        assert result.exit_code == 0, result.output
        assert "token ids are not cached" in result.stderr
        assert not list((tmp_path / f"cache-{number}").rglob(f"*{PARTIAL}"))


@pytest.mark.slow
def test_frozen_states_that_cannot_be_written_are_one_line(train_few, tmp_path: Path, patched):
    cache = tmp_path / "cache" / "prefix"
    flags = ("encoder.prefix_cache=true", "encoder.lora.last_layers=1", f"cache={cache.parent}")
    with failing(cache, None) as seen:
        assert train_few(tmp_path / "counted", *TINY, *flags).exit_code == 0
    shutil.rmtree(cache)
    half = len(seen) // 2 + 1  # the states of the training rows; those of the others follow alike
    for number, what in enumerate(seen[:half]):
        with failing(cache, number):
            result = train_few(tmp_path / f"{number}", *TINY, *flags)
        assert result.exit_code == 1, what
        assert "No space left on device" in result.stderr.splitlines()[-1]
        assert train_few(tmp_path / f"{number}", *TINY, *flags).exit_code == 0, what
        shutil.rmtree(cache)


@pytest.mark.parametrize("words", ["shapes do not match", "DefaultCPUAllocator: not enough memory"])
def test_what_goes_wrong_while_content_is_made_is_no_failed_write(tmp_path: Path, words: str):
    from dao.learner.storage.files import write_atomically

    def compute(_: Path) -> None:
        raise RuntimeError(words)

    with pytest.raises(RuntimeError, match=words):
        write_atomically(tmp_path / "states", compute)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_kill_while_a_run_is_replaced_leaves_neither_a_finished_nor_a_foreign_one(
    train_few, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from dao.learner.storage import claiming

    class PowerCut(BaseException):
        pass

    remove = claiming.remove
    assert train_few(tmp_path / "run", *TINY).exit_code == 0
    names = len(list((tmp_path / "run").iterdir()))
    for survived in range(0, names - 1, 5):
        left = [survived]

        def cut(path: Path, left: list[int] = left) -> None:
            if not left[0]:
                raise PowerCut
            left[0] -= 1
            remove(path)

        with monkeypatch.context() as patch:
            patch.setattr(claiming, "remove", cut)
            with pytest.raises(PowerCut):
                train_few(tmp_path / "run", *TINY, "--overwrite")
        assert (tmp_path / "run" / "metrics.json").exists() == (survived == 0)
        assert train_few(tmp_path / "run", *TINY, "--overwrite").exit_code == 0


def test_a_kill_before_the_settings_have_their_name_is_no_obstacle(train_few, tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / f"config.yaml{PARTIAL}").write_text("tas")
    assert train_few(tmp_path / "run", *TINY).exit_code == 0


def test_rows_that_a_power_cut_left_as_zeros_are_dropped(tmp_path: Path):
    from dao.learner.storage.writing import OwnedRecord

    good = b'{"step": 1}\n{"step": 2}\n{"step": 3}\n'
    (tmp_path / "history.jsonl").write_bytes(good + b"\0\0\0\0\n[]\n" + b'{"step": 2')
    (tmp_path / f"heads.safetensors{PARTIAL}").write_text("")
    (tmp_path / f"adapter{PARTIAL}").mkdir()
    OwnedRecord(tmp_path).rewind(2)
    assert OwnedRecord(tmp_path).rows("history.jsonl") == [{"step": 1}, {"step": 2}]
    assert [path.name for path in tmp_path.iterdir()] == ["history.jsonl"]
