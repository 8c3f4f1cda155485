"""train.sampling and train.accumulate in real runs: counted, recorded, resumed.

On two ranks they are in `test_ranks.py`.
"""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

pytestmark = pytest.mark.slow

TIMED = ("tokens_per_s", "memory_mib")
EQUAL = ("train.sampling=equal", "train.checkpoint_every=3")
LINE = "sampling equal: an epoch of 90 rows has cls 45 (of 80 labelled), reg 45 (of 10 labelled)"


SEEN: dict[int, Counter[int]] = {}  # epoch -> how often each row was trained in `drawn`


@pytest.fixture(scope="module")
def unequal_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 training rows with a class alone and 10 with a score alone; others have both."""
    rng, lines = random.Random(0), ["text,label,score,split"]
    for i in range(130):
        verb = rng.choice(["rose", "fell"])
        label, score = ("up", "0.5") if verb == "rose" else ("down", "-0.5")
        split = "train" if i < 90 else "validation" if i < 110 else "test"
        score = f"{float(score) + 0.01 * (i % 7)}"
        cells = [label if i < 80 or i >= 90 else "", score if i >= 80 else ""]
        text = f"the company said net {' '.join(['profit'] * (1 + i % 5))} {verb} in quarter {i}"
        lines.append(",".join([text, *cells, split]))
    path = tmp_path_factory.mktemp("unequal") / "unequal.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def read(folder: Path, name: str = "metrics.json") -> Any:
    return json.loads((folder / name).read_text())


def rows(folder: Path, name: str = "history.jsonl") -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMED} for row in found]


def weights(folder: Path) -> dict[str, Any]:
    files = ("adapter/adapter_model.safetensors", "heads.safetensors", "dendrites.safetensors")
    present = [folder / name for name in files if (folder / name).exists()]
    return {f"{p.name}:{k}": v for p in present for k, v in load_file(p).items() if v.numel()}


def furthest(one: Path, other: Path) -> float:
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@pytest.fixture(scope="module")
def drawn(train, unequal_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from dao.learner.training import loop
    from dao.learner.training.state import State

    folder, real = tmp_path_factory.mktemp("drawn") / "run", loop.train_step

    def see(state: State, step: int, epoch: int, own: tuple[int, ...]) -> None:
        SEEN.setdefault(epoch, Counter()).update(own)
        real(state, step, epoch, own)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train_step", see)
        result = train(folder, "--dao", *EQUAL, data=unequal_csv)
    assert result.exit_code == 0, result.output
    assert LINE in result.stderr
    return folder


def test_what_was_drawn_is_recorded(drawn: Path):
    counts = read(drawn)["training"]["sampling"]
    assert (counts["setting"], counts["epoch_rows"]) == ("equal", 90)
    assert counts["tasks"] == {
        "cls": {"rows": 80, "rows_per_epoch": 45.0},
        "reg": {"rows": 10, "rows_per_epoch": 45.0},
    }
    history = rows(drawn)
    assert Counter(row["epoch"] for row in history) == {1: 9, 2: 9}
    assert all(row["rows"] == 10 for row in history)
    for epoch in (1, 2):
        assert sum(SEEN[epoch][row] for row in range(80)) == 45  # a class alone
        assert {SEEN[epoch][row] for row in range(80, 90)} == {4, 5}  # a score alone
    assert {SEEN[1][row] + SEEN[2][row] for row in range(80)} == {1, 2}  # 90 draws of 80 rows


def test_arms_see_the_same_draws_and_the_default_others(
    train, unequal_csv: Path, drawn: Path, tmp_path: Path
):
    short = "train.epochs=1"
    other = train(tmp_path / "arm", "--dendrites", *EQUAL, short, data=unequal_csv)
    default = train(tmp_path / "default", short, data=unequal_csv)
    assert other.exit_code == default.exit_code == 0
    batches = [[row["batch"] for row in rows(f)][:9] for f in (drawn, tmp_path / "arm")]
    assert batches[0] == batches[1]
    assert batches[0] != [row["batch"] for row in rows(tmp_path / "default")]
    assert len(rows(tmp_path / "default")) == len(batches[0])


def test_a_run_stopped_inside_an_epoch_draws_on(
    train, unequal_csv: Path, drawn: Path, tmp_path: Path, stop_before, monkeypatch
):
    from train import app

    stop_before(14)  # inside the second epoch
    assert train(tmp_path / "run", "--dao", *EQUAL, data=unequal_csv).exit_code == 130
    monkeypatch.undo()
    result = CliRunner().invoke(app, ["--resume", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert rows(tmp_path / "run") == rows(drawn)
    assert furthest(tmp_path / "run", drawn) == 0


def test_steps_of_several_batches_train_the_model_of_large_ones(train, tmp_path: Path):
    arguments = ("--dendrites", "dendrites.init_scale=0.1", "cls.class_weights=balanced")
    small = ("train.batch_size=4", "train.accumulate=3", "train.packing=true")
    whole = train(tmp_path / "whole", *arguments, "train.batch_size=12")
    parts = train(tmp_path / "parts", *arguments, *small)
    assert (whole.exit_code, parts.exit_code) == (0, 0), parts.output
    same = ("step", "epoch", "batch", "rows", "tokens", "lr")
    one, other = (
        [[row[k] for k in same] for row in rows(tmp_path / f)] for f in ("whole", "parts")
    )
    assert one == other
    assert len(one) == 2 * 9  # 100 rows, 12 in a step
    for a, b in zip(rows(tmp_path / "whole"), rows(tmp_path / "parts"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        for task in ("cls", "reg"):
            assert a["tasks"][task]["loss"] == pytest.approx(b["tasks"][task]["loss"], rel=1e-4)
    assert sum(row["grown"] for row in rows(tmp_path / "parts", "validation.jsonl")) == 1
    assert furthest(tmp_path / "whole", tmp_path / "parts") < 1e-4


MANY = ("--dao", "train.batch_tokens=60", "train.accumulate=3", "train.sampling=temperature:2",
        "train.nonfinite=skip", "train.checkpoint_every=2", "encoder.lora.last_layers=1",
        "encoder.prefix_cache=true")  # fmt: skip


def test_a_batch_that_is_not_finite_leaves_its_whole_step_out_and_resumes(
    train, unequal_csv: Path, tmp_path: Path, stop_before, monkeypatch
):
    import torch

    from dao.learner.training import loop, optimizer_step
    from dao.learner.training.state import State
    from train import app

    real = optimizer_step.batch_losses

    def spoil(state: State, batch: Any, some: tuple[int, ...]) -> dict[str, Any]:
        losses = real(state, batch, some)
        step, steps = rows_of[some], state.plan.micro_batches(rows_of[some])
        if len(spoilt) < 2 and step == rows_of["third"] and some == steps[1]:
            spoilt.append(some)
            return {name: loss and loss * torch.nan for name, loss in losses.items()}
        return losses

    rows_of: dict[Any, Any] = {}
    spoilt: list[Any] = []
    train_step = loop.train_step

    def watch(state: State, step: int, epoch: int, own: tuple[int, ...]) -> None:
        rows_of.clear()
        rows_of.update(dict.fromkeys(state.plan.micro_batches(own), own))
        rows_of["third"] = own if step == 3 else None
        train_step(state, step, epoch, own)

    monkeypatch.setattr(optimizer_step, "batch_losses", spoil)
    monkeypatch.setattr(loop, "train_step", watch)
    result = train(tmp_path / "whole", *MANY, data=unequal_csv)
    assert result.exit_code == 0, result.output
    skipped = rows(tmp_path / "whole", "skipped.jsonl")
    assert [row["step"] for row in skipped] == [3]
    assert len(skipped[0]["rows"]) == len(spoilt[0])  # those of the batch that it was
    assert 3 not in [row["step"] for row in rows(tmp_path / "whole")]
    spoilt.clear()
    stopping = loop.train_step

    def stop(state: State, step: int, epoch: int, own: tuple[int, ...]) -> None:
        if step == 6:
            raise KeyboardInterrupt
        stopping(state, step, epoch, own)

    monkeypatch.setattr(loop, "train_step", stop)
    assert train(tmp_path / "run", *MANY, data=unequal_csv).exit_code == 130
    monkeypatch.setattr(loop, "train_step", stopping)
    assert CliRunner().invoke(app, ["--resume", str(tmp_path / "run")]).exit_code == 0
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")
    assert furthest(tmp_path / "run", tmp_path / "whole") == 0


def test_a_dry_run_shows_both(train, unequal_csv: Path, tmp_path: Path):
    result = train(tmp_path / "run", *EQUAL, "train.accumulate=4", "--dry-run", data=unequal_csv)
    assert result.exit_code == 0, result.output
    assert "# optimizer step: 4 x 10 rows" in result.stdout
    assert f"# {LINE}" in result.stdout
    assert "sampling: equal" in result.stdout
    wrong = train(tmp_path / "run", "train.sampling=even", data=unequal_csv)
    assert wrong.exit_code == 1
    assert "`train.sampling` should be proportional, equal, or temperature:T" in wrong.stderr
    assert not (tmp_path / "run").exists()


def test_experts_and_the_single_lora_beside_them_draw_in_every_stage(
    invoke, domain_csv: Path, tiny_phi: Path, tmp_path: Path
):
    more = ("--tasks", "cls,reg", "--experts", "news,forum", "--domain-column", "origin",
            "train.sampling=equal", "train.accumulate=2", "train.batch_size=5",
            "train.epochs=1", "experts.router_warmup_steps=3")  # fmt: skip
    routed = invoke(domain_csv, tiny_phi, tmp_path / "routed", *more)
    assert routed.exit_code == 0, routed.output
    single = invoke(domain_csv, tiny_phi, tmp_path / "single", *more, "experts.control=single")
    assert single.exit_code == 0, single.output
    steps = [read(tmp_path / f)["training"]["steps"] for f in ("routed", "single")]
    assert steps[0] == steps[1]
    joint = rows(tmp_path / "routed")
    assert Counter(row["epoch"] for row in joint) == {1: 10}  # 100 rows, 10 in a step
    assert all(row["router"]["domain"] > 0 for row in joint)
