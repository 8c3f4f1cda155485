"""A tiny Phi, BERT and GPT-2 with tokenizers, as folders that transformers loads."""

import atexit
import gc
import hashlib
import logging
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from html import escape
from multiprocessing import resource_tracker, spawn
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models here are too small to share out
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="dao-tests-")

# Once this has a handler, and pytest gives it some, torch traces all that it exports or compiles,
# which takes a third of the time.
logging.getLogger("torch.__trace").disabled = True

if TYPE_CHECKING:
    from dao.learner.kinds import Task, TaskSettings

# Deterministic and short; --hypothesis-profile=many for a long hunt.
QUIET = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("few", max_examples=200, derandomize=True, **QUIET)
settings.register_profile("many", max_examples=10_000, **QUIET)
settings.load_profile("few")

atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)


def pytest_configure(config: pytest.Config) -> None:
    """Import the learner, unless this process hands the tests out to workers and runs none."""
    # A shell without a terminal lets background jobs ignore Ctrl-C, and so would their children.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not config.getoption("numprocesses", None):
        gc.disable()
        import dao.learner  # noqa: F401  (its guard runs before the first transformers import)
        import tasks

        tasks.register()


def pytest_collection_finish() -> None:
    """Look for garbage among what the tests make alone: of what is imported none will be any."""
    gc.freeze()
    gc.enable()


WORDS = (
    "[PAD] [UNK] [EOS] profit loss sales costs net rose fell narrowed widened sharply slightly "
    "the company of in said that and than expected less more quarter year will hold meeting on "
    "monday strong weak up down"
).split()


ROOT = Path(__file__).parents[1]
WARM = Path(__file__).with_name("warm")


@pytest.fixture(scope="session", autouse=True)
def unsynced() -> Iterator[None]:
    """`os.fsync` looks at the file and waits for no disk, which takes as long as a tiny run does.

    It guards against power cuts, which no test can make. Processes that a test starts do sync.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)
        yield


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of pytest-xdist have in common."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def warm_python(shared_folder: Path) -> Iterator[str]:
    """A command like `sys.executable`, whose processes have the learner's packages imported.

    All workers of pytest-xdist share one server. A test needs `sys.executable` itself where it
    looks at what is imported, at variables that are read at import, or at process ids.
    """
    place, command = shared_folder / "warm.socket", shared_folder / "warm-python"
    with FileLock(shared_folder / "warm.lock"):
        user = _user_of(place)
        if user is None:
            _start_server(place)
            user = _user_of(place)
            assert user is not None
            words = [sys.executable, "-IS", str(WARM / "client.py"), str(place)]
            command.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$0" "$@"\n')
            command.chmod(0o755)
    with user:
        yield str(command)


@pytest.fixture
def warm_runs(warm_python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs that a test lets `dao` start as processes of their own are warm ones."""
    monkeypatch.setattr(sys, "executable", warm_python)


@pytest.fixture
def warm_spawns(warm_python: str) -> Iterator[None]:
    """The processes that `multiprocessing` spawns are warm ones, whose ids are not their own."""
    resource_tracker.ensure_running()  # it outlives the server
    cold = spawn.get_executable()
    spawn.set_executable(warm_python)
    yield
    spawn.set_executable(cold)


def _user_of(place: Path) -> socket.socket | None:
    """A connection that keeps the server alive; None: there is no server, or no longer."""
    user = socket.socket(socket.AF_UNIX)
    try:
        user.connect(str(place))
        user.sendall(bytes(8))
        if user.recv(8):
            return user
    except OSError:
        pass
    user.close()
    return None


def _start_server(place: Path) -> None:
    place.unlink(missing_ok=True)
    log = place.with_suffix(".log")
    with log.open("w") as file:
        server = subprocess.Popen(
            [sys.executable, WARM / "server.py", place, ROOT],
            stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        )  # fmt: skip
    while not place.exists():
        assert server.poll() is None, log.read_text()
        time.sleep(0.05)


@contextmanager
def no_pictures(*, sketched: bool = False) -> Iterator[None]:
    """Within the block, reports have an empty picture for every figure: their words are looked at.

    With `sketched` every panel is drawn on axes that nothing renders, which is quick, and its words
    stand in the page.

    In `tests/cli`, `test_presets.py` and `test_factorial.py` have the figures of real runs drawn.
    """
    from matplotlib.figure import Figure

    from dao.learner.experiment.pages import page
    from dao.learner.experiment.pictures.figures import Panel
    from dao.learner.experiment.report import report

    empty = _empty_picture()

    def picture(panels: Sequence[Panel]) -> bytes:
        for panel in panels if sketched else ():
            panel.draw(Figure().add_subplot())
        return empty

    def inline(panel: Panel, key: str) -> str:
        words = f' aria-label="{escape(panel.alt)}"' if sketched else ""
        return f'<svg id="{key}"{words}></svg>'

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "png", picture)
        patch.setattr(page, "svg", inline)
        yield


@cache
def _empty_picture() -> bytes:
    from dao.learner.experiment.pictures.figures import Panel, png

    return png([Panel(lambda axes: None, "nothing")])


@pytest.fixture
def without_pictures() -> Iterator[None]:
    """`no_pictures` for a whole test."""
    with no_pictures():
        yield


@pytest.fixture
def sketched_pictures() -> Iterator[None]:
    """`no_pictures` whose panels are drawn, for a whole test."""
    with no_pictures(sketched=True):
        yield


@pytest.fixture
def exports_once(shared_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose weights were exported before gets the file of then: an export takes seconds.

    The first export of its weights is a real one, in whichever test that is.
    """
    from dao.learner.inference import exporting
    from dao.learner.inference.backends import onnx

    real = onnx.export

    def export(model: Any, path: Path) -> None:
        digest = hashlib.sha256()
        for name, tensor in model.state_dict().items():
            digest.update(name.encode() + tensor.detach().numpy().tobytes())
        kept = shared_folder / f"{digest.hexdigest()}.onnx"
        with FileLock(f"{kept}.lock"):
            if kept.exists():
                shutil.copyfile(kept, path)
            else:
                real(model, path)
                shutil.copyfile(path, kept)

    monkeypatch.setattr(onnx, "export", export)
    monkeypatch.setattr(exporting, "export", export)


@pytest.fixture(scope="session")
def tiny_phi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import PhiConfig, PhiModel

    config = PhiConfig(
        vocab_size=64,  # more than the tokenizer knows, as in Phi-2
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=2,
    )
    return _save(PhiModel, config, tmp_path_factory.mktemp("tiny-phi"), pad=None)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=0,
    )
    return _save(BertModel, config, tmp_path_factory.mktemp("tiny-bert"), pad="[PAD]")


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import GPT2Config, GPT2Model

    config = GPT2Config(
        vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=2,
        eos_token_id=2,
    )  # fmt: skip
    return _save(GPT2Model, config, tmp_path_factory.mktemp("tiny-gpt2"), pad=None)


def _save(model: type, config: object, folder: Path, pad: str | None) -> Path:
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="[EOS]", pad_token=pad
    ).save_pretrained(folder)
    torch.manual_seed(0)
    model(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Headlines of the tiny vocabulary; some rows lack the class, some the score."""
    import random

    rng = random.Random(0)
    rows = []
    signs = {"rose": 1, "fell": -1, "narrowed": -1, "widened": 1}
    for i in range(150):
        metric, verb = rng.choice(["profit", "loss", "sales", "costs"]), rng.choice([*signs])
        strong = rng.choice(["sharply", "slightly", "less than expected"])
        sign = signs[verb] * (-1 if metric in ("loss", "costs") else 1)
        text = f"the company said net {metric} {verb} {strong} in quarter {i}"
        label = "positive" if sign > 0 else "negative"
        score = sign * (0.8 if strong == "sharply" else 0.3)
        split = "train" if i < 100 else "validation" if i < 125 else "test"
        cells = ["" if i % 5 == 0 else label, "" if i % 5 == 1 else f"{score}"]
        rows.append(",".join([str(i), text, *cells, split]))
    path = tmp_path_factory.mktemp("data") / "tiny.csv"
    path.write_text("id,text,label,score,split\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for its only index."""
    links = tmp_path / "links"
    links.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return links


@pytest.fixture
def rated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data `human-ratings` are a few rows, which lie in the cache as if put there by hand."""
    import hashlib

    import tasks.human_ratings
    from tests.packed import rated_package

    content = rated_package()
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tasks.human_ratings, "SHA256", digest)
    kept = tmp_path / "cache" / "dao" / "packages" / f"vaderSentiment-3.3.2-{digest[:12]}.tar.gz"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(content)
    return kept


@pytest.fixture
def csv(tmp_path: Path) -> Callable[..., str]:
    """Write a file and return its path."""

    def write(content: str, name: str = "data.csv", encoding: str = "utf-8") -> str:
        path = tmp_path / name
        path.write_text(content, encoding=encoding, newline="")
        return str(path)

    return write


@pytest.fixture
def asked() -> "Callable[..., dict[str, TaskSettings]]":
    """Settings of tasks from what a person says of each: asked(cls={"cut": 3}, reg={})."""

    from dao.learner.kinds.declared import task_settings, with_columns

    def settings_of(**tasks: Mapping[str, Any]) -> "dict[str, TaskSettings]":
        return {name: task_settings(name, given) for name, given in with_columns(tasks, {}).items()}

    return settings_of


@pytest.fixture
def fitted(asked: "Callable[..., dict[str, TaskSettings]]") -> "Callable[..., Task]":
    """Fit a task on cells, all of training unless their splits are named ("tr", "va", "te")."""

    from dao.learner.kinds import KINDS
    from dao.learner.kinds.base import SPLITS

    def fit(name: str, cells: Sequence[object], splits: str = "", **options: Any) -> "Task":
        settings = asked(**{name: options})[name]
        kind = KINDS[settings.kind]
        names = dict(zip(("tr", "va", "te"), SPLITS, strict=True))
        places = [names[mark] for mark in splits.split()] or ["train"] * len(cells)
        values: dict[str, list[Any]] = {split: [] for split in SPLITS}
        for cell, place in zip(map(kind.parser(settings), cells), places, strict=True):
            values[place] += [] if cell is None else [cell]
        recoding = kind.recoding(name, settings, values["train"])
        if recoding is not None:
            values = {split: recoding.values(found) for split, found in values.items()}
        return kind.fit(name, settings, values, recoding)

    return fit
