"""`dendrites.lr` and `dendrites.weight_decay` act on the dendrites, and on nothing else."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from dao.learner.training import loop
from dao.learner.training.state import State

GROWTH = 5  # of 10 steps
DENDRITE = (".dendrite_module.", ".dendrites_to_top.")
# No clipping: the norm of the gradient then changes nothing, in whichever order it adds up.
ARGUMENTS = (
    "--tasks", "cls,reg", "--dendrites", "dendrites.init_scale=0.1", "train.clip=1e9",
    "train.epochs=1",
)  # fmt: skip
FULL = ("encoder.tune=full", "dendrites.where=linear")


@pytest.fixture
def first_updates(train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_bert: Path):
    """What the step after the growth does to every trained parameter, with these settings."""

    def run(place: str, times: float, decay: float | None = None) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}
        real = loop.train_step

        def step(state: State, number: int, *rest) -> None:
            before = {n: p.detach().clone() for n, p in state.trainable().items()}
            real(state, number, *rest)
            if number == GROWTH + 1:
                now = state.trainable()
                found.update({n: now[n].detach() - before[n] for n in now})
                found.update({f"before {n}": before[n] for n in now})
                found["rate"] = torch.tensor(state.optimizer.param_groups[0]["lr"])
                raise KeyboardInterrupt

        where = FULL if place == "linear" else (f"dendrites.where={place}",)
        encoder = ("--encoder", str(tiny_bert)) if place == "linear" else ()
        rate = (f"dendrites.lr={times}",) if times != 1 else ()
        rate += () if decay is None else (f"dendrites.weight_decay={decay}",)
        with monkeypatch.context() as patch:
            patch.setattr(loop, "train_step", step)
            result = train(tmp_path / f"{times} {decay}", *ARGUMENTS, *encoder, *where, *rate)
        assert result.exit_code == 130, result.output
        return found

    return run


@pytest.mark.slow
@pytest.mark.parametrize("place", ["lora_B+heads", "wrapped-lowrank", "linear"])
def test_the_first_update_of_a_dendrite_is_larger_and_that_of_the_rest_is_not(first_updates, place):
    plain, fast = first_updates(place, 1), first_updates(place, 10)
    assert plain.keys() == fast.keys()
    gates = 0
    for name, update in plain.items():
        if name.startswith("before ") or name == "rate":
            assert torch.equal(fast[name], update)
        elif not any(part in name for part in DENDRITE):
            assert torch.equal(fast[name], update), name
        elif ".dendrites_to_top." in name:
            gates += update.abs().max().item() > 0
            torch.testing.assert_close(fast[name], 10 * update, rtol=1e-5, atol=1e-9)
        else:  # weight decay alone, as no gradient comes through a gate that is 0
            torch.testing.assert_close(fast[name], 10 * update, rtol=2e-2, atol=1e-7)
    assert gates > 0
    assert any(update.abs().max() > 0 for n, update in plain.items() if "dendrite" not in n)


@pytest.mark.slow
def test_weight_decay_of_the_dendrites_own_is_theirs_alone(first_updates):
    plain, decayed = first_updates("heads", 4), first_updates("heads", 4, 0.5)
    rate = 4 * float(plain["rate"])
    own = [n for n in plain if DENDRITE[0] in n and not n.startswith("before ")]
    assert own
    for name in own:  # no gradient comes through a gate that is 0: AdamW's decay is all there is
        for found, decay in ((plain, 0.01), (decayed, 0.5)):
            expected = -rate * decay * found[f"before {name}"]
            torch.testing.assert_close(found[name], expected, rtol=1e-3, atol=1e-7)
    rest = [n for n in plain if not any(part in n for part in DENDRITE)]
    assert any(plain[n].abs().max() > 0 for n in rest)
    assert all(torch.equal(plain[n], decayed[n]) for n in rest)


@pytest.fixture
def stopped_run_ends_as_a_whole_one(
    train, tmp_path: Path, stop_before, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Trains in `whole`, and in `run` with an interruption; the dendrites are equal to the bit."""
    from train import app

    def check(*own: str) -> None:
        settings = (*ARGUMENTS, *own)
        assert train(tmp_path / "whole", *settings).exit_code == 0
        stop_before(17)
        assert train(tmp_path / "run", *settings).exit_code == 130
        monkeypatch.undo()
        result = CliRunner().invoke(app, ["--resume", str(tmp_path / "run")])
        assert result.exit_code == 0, result.output
        ends = [load_file(tmp_path / n / "dendrites.safetensors") for n in ("whole", "run")]
        assert len(ends[0]) > 0
        assert ends[0].keys() == ends[1].keys()
        assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])

    return check


SETS = ("dendrites.grow_at=[0.3,0.6]", "train.checkpoint_every=3", "train.epochs=2")


@pytest.mark.slow
@pytest.mark.parametrize("own", [("lr", 10.0), ("weight_decay", 0.0)], ids=lambda own: own[0])
def test_a_run_with_two_sets_of_their_own_group_resumes_to_the_bit(
    stopped_run_ends_as_a_whole_one, tmp_path: Path, own: tuple[str, float]
):
    where = {"lr": "lora_B+heads", "weight_decay": "heads"}[own[0]]
    stopped_run_ends_as_a_whole_one(
        *SETS, f"dendrites.where={where}", f"dendrites.{own[0]}={own[1]}"
    )
    metrics = [json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("whole", "run")]
    assert metrics[0]["splits"] == metrics[1]["splits"]
    assert json.loads((tmp_path / "run" / "dendrites.json").read_text())[own[0]] == own[1]


@pytest.mark.slow
def test_the_rate_follows_the_schedule_in_every_optimizer(train, tmp_path: Path, monkeypatch):
    rates: list[list[float]] = []
    real = loop.train_step

    def step(state: State, *rest) -> None:
        real(state, *rest)
        rates.append([group["lr"] for group in state.optimizer.param_groups])

    monkeypatch.setattr(loop, "train_step", step)
    assert train(tmp_path / "run", *ARGUMENTS, "dendrites.lr=4").exit_code == 0
    lines = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    assert [found[0] for found in rates] == [json.loads(line)["lr"] for line in lines]
    assert {len(found) for found in rates[:GROWTH]} == {1}
    assert len({found[0] for found in rates[GROWTH:]}) > 3
    assert all(own == 4 * main for main, own in rates[GROWTH:])


@pytest.mark.slow
def test_a_restart_at_a_multiple_of_the_rate_multiplies_every_later_rate(train, tmp_path: Path):
    rates = {}
    for times in (1, 4):
        control = ("dendrites.control=restart", f"dendrites.restart_lr={times}")
        assert train(tmp_path / f"{times}", *ARGUMENTS, *control).exit_code == 0
        lines = (tmp_path / f"{times}" / "history.jsonl").read_text().splitlines()
        rates[times] = [json.loads(line)["lr"] for line in lines]
    assert rates[4][:GROWTH] == rates[1][:GROWTH]
    assert rates[4][GROWTH:] == pytest.approx([4 * rate for rate in rates[1][GROWTH:]])
    ends = [load_file(tmp_path / f"{n}" / "heads.safetensors") for n in (1, 4)]
    assert not all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.slow
def test_a_checkpoint_of_a_version_without_the_setting_goes_on(
    train, tmp_path: Path, stop_before, monkeypatch: pytest.MonkeyPatch
):
    from train import app

    run = tmp_path / "run"
    stop_before(8)
    assert train(run, *ARGUMENTS, "train.checkpoint_every=3").exit_code == 130
    monkeypatch.undo()
    settings = yaml.safe_load((run / "config.yaml").read_text())
    assert settings["dendrites"].pop("lr") == 1.0
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    result = CliRunner().invoke(app, ["--resume", str(run)])
    assert result.exit_code == 0, result.output


@pytest.mark.slow
@pytest.mark.parametrize("control", ["sham", "capacity"])
def test_the_setting_does_nothing_in_a_control(train, tmp_path: Path, control: str):
    settings = (*ARGUMENTS, f"dendrites.control={control}")
    ends = []
    for times in (1, 10):
        result = train(tmp_path / f"{times}", *settings, f"dendrites.lr={times}")
        assert result.exit_code == 0, result.output
        ends.append(load_file(tmp_path / f"{times}" / "heads.safetensors"))
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
