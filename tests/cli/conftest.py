"""Real runs of the command line on the tiny Phi, shared by the tests that only look at them."""

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

SMALL = (
    "encoder.precision=fp32",  # `auto` depends on the processor
    "train.page=false",
    "train.epochs=2",
    "train.batch_size=10",
    "train.validations_per_epoch=2",
    "train.lr=0.01",
)
BOTH = ("--tasks", "cls,reg", "--dao", "--dendrites", "dendrites.init_scale=0.1")
NO_GRAPH = "dendrites.graph=false"  # it takes longer than the rest of a tiny run
Train = Callable[..., Result]


@pytest.fixture(scope="session")
def train(tiny_phi: Path, tiny_csv: Path) -> Train:
    """Runs train.py on the tiny Phi and the tiny table, into `output`."""
    from train import app

    def run(output: Path, *arguments: str, graph: bool = False, data: Path = tiny_csv) -> Result:
        fixed = ("--encoder", str(tiny_phi), "--data", str(data), "--output", str(output))
        settings = (*SMALL, "dendrites.graph=true" if graph else NO_GRAPH)
        return CliRunner().invoke(app, [*fixed, *settings, *arguments], catch_exceptions=False)

    return run


@pytest.fixture(scope="session")
def full_run(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with both tasks, DAO and dendrites."""
    folder = tmp_path_factory.mktemp("runs") / "full"
    result = train(folder, *BOTH, "train.page=true", graph=True)
    assert result.exit_code == 0, result.output
    # Else the tests of saving and reloading would say nothing about dendrites.
    assert json.loads((folder / "dendrites.json").read_text())["dendrites_kept"] == 1
    (folder.parent / "full.txt").write_text(result.stdout)
    return folder


@pytest.fixture
def stop_before(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets training stop before a step, as Ctrl-C does, until `monkeypatch.undo()`."""
    from dao.learner.training import loop

    real = loop.train_step

    def stop(last: int) -> None:
        def cut(state, number, *rest):
            if number == last:
                raise KeyboardInterrupt
            real(state, number, *rest)

        monkeypatch.setattr(loop, "train_step", cut)

    return stop


@pytest.fixture(scope="session")
def domain_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Headlines of two domains, in which the same words mean the opposite."""
    rng, rows = random.Random(0), []
    signs = {"rose": 1, "fell": -1, "narrowed": -1, "widened": 1}
    for i in range(160):
        metric, verb = rng.choice(["profit", "loss", "sales", "costs"]), rng.choice([*signs])
        domain = "news" if rng.random() < 0.4 else "forum"
        sign = signs[verb] * (-1 if metric in ("loss", "costs") else 1)
        sign *= 1 if domain == "news" else -1
        text = f"{'the company said' if domain == 'news' else 'up up strong'} {metric} {verb} {i}"
        split = "train" if i < 100 else "validation" if i < 130 else "test"
        cells = ["up" if sign > 0 else "down", "" if i % 7 == 0 else f"{sign * 0.5}", domain, split]
        rows.append(",".join([text, *cells]))
    path = tmp_path_factory.mktemp("domains") / "domains.csv"
    path.write_text("text,label,score,origin,split\n" + "\n".join(rows) + "\n")
    return path


WARM_UP = 11  # steps of the router's; no other stage has as many
STAGED = (
    "encoder.precision=fp32", "train.page=false",
    "train.epochs=2", "train.batch_size=10", "train.lr=0.01",
    "train.validations_per_epoch=1", "train.log_every=1", "train.checkpoint_every=3",
    "experts.domain_epochs=1", f"experts.router_warmup_steps={WARM_UP}",
)  # fmt: skip


@pytest.fixture(scope="session")
def invoke() -> Callable[..., Result]:
    """Runs train.py with the settings of a tiny run with experts."""
    from train import app

    def run(data: Path, encoder: Path, output: Path, *more: str) -> Result:
        fixed = ["--encoder", str(encoder), "--data", str(data), "--output", str(output)]
        return CliRunner().invoke(app, [*fixed, *STAGED, *more], catch_exceptions=False)

    return run


@pytest.fixture(scope="session")
def expert_run(
    invoke: Train, domain_csv: Path, tiny_phi: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished run with two tasks, DAO, experts and a router."""
    folder = tmp_path_factory.mktemp("experts") / "run"
    more = ("--tasks", "cls,reg", "--dao", "--experts", "news,forum", "--domain-column", "origin")
    result = invoke(domain_csv, tiny_phi, folder, *more)
    assert result.exit_code == 0, result.output
    (folder.parent / "printed.txt").write_text(result.stdout)
    return folder


KINDS = {
    "urgent": "binary", "area": "classification", "tags": "multilabel", "stars": "ordinal",
    "amount": "regression",
}  # fmt: skip
FIVE = ("--tasks", ",".join(KINDS))
TEXTS = ("title", "body")
"""The columns that the words of each row are dealt out to: a pair of texts."""
NAMED = (f"data.text=[{','.join(TEXTS)}]",)
"""The setting that names them."""


def kinds_rows(rows: int = 150) -> list[dict[str, Any]]:
    """Headlines with a target of every kind, each of them missing in some rows.

    The labels are lists: an empty one says that a text has none, None that nobody knows.
    """
    rng, found = random.Random(0), []
    signs = {"rose": 1, "fell": -1, "narrowed": -1, "widened": 1}
    sizes = {"slightly": 1, "than expected": 2, "sharply": 3}
    for i in range(rows):
        metric, verb = rng.choice(["profit", "loss", "sales", "costs"]), rng.choice([*signs])
        strong = rng.choice([*sizes])
        words = f"the company said net {metric} {verb} {strong} in quarter {i}".split()
        good = signs[verb] * (-1 if metric in ("loss", "costs") else 1)
        tags = [verb] * (good > 0) + ["sharp"] * (strong == "sharply")
        part = -(-len(words) // len(TEXTS))
        cells = {
            "id": f"row{i}",
            **{name: " ".join(words[n * part : (n + 1) * part]) for n, name in enumerate(TEXTS)},
            "urgent": "yes" if strong == "sharply" else "no",
            "area": metric,
            "tags": tags,
            "stars": sizes[strong],
            "amount": good * sizes[strong] / 4,
            "split": "train" if 3 * i < 2 * rows else "validation" if 6 * i < 5 * rows else "test",
        }
        missing = [name for place, name in enumerate(KINDS) if i % 7 == place or i % 11 == place]
        found.append(cells | dict.fromkeys(missing))
    return found


def in_cells(rows: list[dict[str, Any]], path: Path) -> Path:
    """The rows as CSV, their labels with `;` between them and that alone where there is none."""
    joined = [
        row | {"tags": None if row["tags"] is None else ";".join(row["tags"]) or ";"}
        for row in rows
    ]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(joined)
    return path


@pytest.fixture(scope="session")
def kinds_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`kinds_rows` as a file."""
    return in_cells(kinds_rows(), tmp_path_factory.mktemp("kinds") / "kinds.csv")


@pytest.fixture(scope="session")
def kinds_run(train: Train, kinds_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a task of every kind, and beside it what was printed."""
    folder = tmp_path_factory.mktemp("kinds-run") / "run"
    asked = (*FIVE, *NAMED, "--dao", "train.checkpoint_every=3")
    result = train(folder, *asked, data=kinds_csv)
    assert result.exit_code == 0, result.output
    (folder.parent / "stdout").write_text(result.stdout)
    (folder.parent / "stderr").write_text(result.stderr)
    return folder
