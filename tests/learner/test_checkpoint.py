"""Checkpoints: the newest whole one is taken, a damaged one is refused by name."""

from pathlib import Path

import pytest
import torch

from dao.errors import UserError
from dao.learner.storage.checkpoint import check_fit, latest, load_checkpoint, save_checkpoint

WEIGHTS = {"w": torch.arange(3.0)}
OPTIMIZER = {
    "optimizer": {"state": {}}, "weighting": {}, "random": torch.get_rng_state(), "random_cuda": [],
}  # fmt: skip


def save(root: Path, step: int) -> None:
    save_checkpoint(root, {"step": step, "best": {"score": 0.5}}, {"model": WEIGHTS}, OPTIMIZER)


def test_what_is_saved_is_what_is_loaded(tmp_path: Path):
    assert latest(tmp_path) is None
    save(tmp_path, 3)
    place = latest(tmp_path)
    assert place is not None
    state, tensors, optimizer = load_checkpoint(place, ("best",))
    assert (state["step"], state["best"]) == (3, {"score": 0.5})
    assert torch.equal(tensors["model"]["w"], WEIGHTS["w"])
    assert torch.equal(optimizer["random"], OPTIMIZER["random"])


def test_the_newest_is_taken(tmp_path: Path):
    for step in (3, 12):
        save(tmp_path, step)
    place = latest(tmp_path)
    assert place is not None
    assert place.name == "step=000012"


@pytest.mark.parametrize("damage", ["state.json", "model.safetensors", "optimizer.pt"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str):
    save(tmp_path, 3)
    place = latest(tmp_path)
    assert place is not None
    (place / damage).write_bytes((place / damage).read_bytes()[:-4])
    with pytest.raises(UserError, match=r"should be whole|cannot be read"):
        load_checkpoint(place)


def test_a_key_that_is_needed_is_missed(tmp_path: Path):
    save(tmp_path, 3)
    place = latest(tmp_path)
    assert place is not None
    with pytest.raises(UserError, match=r"no events in state\.json"):
        load_checkpoint(place, ("best", "events"))


def test_weights_of_another_model_are_counted(tmp_path: Path):
    with pytest.raises(UserError, match=r"2 tensors differ, first v: found None, expected \(2,\)"):
        check_fit(WEIGHTS, {"v": (2,)}, tmp_path)
    check_fit(WEIGHTS, {"w": (3,)}, tmp_path)
