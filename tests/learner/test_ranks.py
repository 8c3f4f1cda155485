"""What one rank of several computes; `tests/cli/test_ranks.py` starts two."""

from pathlib import Path

import pytest
import torch

from dao.errors import UserError
from dao.learner.kinds.classification import Classification
from dao.learner.kinds.regression import Regression
from dao.learner.processes import ranks
from dao.learner.settings.config import Config
from dao.learner.weighting.weighting import make_weighting

TASKS = {
    "cls": Classification("cls", "label", ["a", "b"], class_weights=[0.5, 3.0]),
    "reg": Regression("reg", "score", mean=0.1, sd=2.0),
}
TARGETS = {
    "cls": torch.tensor([0, 1, -100, 1, 0]),
    "reg": torch.tensor([torch.nan, 0.4, 1.0, torch.nan, torch.nan]),
}


@pytest.fixture
def as_rank(monkeypatch: pytest.MonkeyPatch):
    def pretend(rank: int, size: int) -> None:
        monkeypatch.setattr(ranks, "world_size", lambda: size)
        monkeypatch.setattr(ranks, "_rank", lambda: rank)

    return pretend


def loss_of(name: str, outputs: torch.Tensor, rows: list[int]) -> torch.Tensor | None:
    known = [i for i in rows if TASKS[name].labelled(TARGETS[name])[i]]
    return TASKS[name].loss(outputs[known], TARGETS[name][known]) if known else None


@pytest.mark.parametrize("size", [2, 3, 7])
def test_losses_of_the_ranks_average_to_the_loss_of_the_batch(as_rank, size: int):
    torch.manual_seed(0)
    outputs = {"cls": torch.randn(5, 2), "reg": torch.randn(5, 1)}
    outputs = {name: values.requires_grad_() for name, values in outputs.items()}
    whole = {name: loss_of(name, values, [0, 1, 2, 3, 4]) for name, values in outputs.items()}
    mean = dict.fromkeys(TASKS, 0.0)
    for rank in range(size):
        as_rank(rank, size)
        own = list(ranks.share(range(5)))
        rows = own or [0]  # as the loop has it: a row that counts as nothing
        weights = {name: task.row_weights(TARGETS[name]) for name, task in TASKS.items()}
        parts = {name: float(w[own].sum() / w.sum()) for name, w in weights.items()}
        losses = {name: loss_of(name, values, rows) for name, values in outputs.items()}
        joint = ranks.of_whole_batch(losses, outputs, parts)
        assert all(loss.requires_grad for loss in joint.values())
        mean = {name: mean[name] + joint[name] / size for name in TASKS}
    for name, values in outputs.items():
        torch.testing.assert_close(mean[name], whole[name])
        (expected,) = torch.autograd.grad(whole[name], values)
        (found,) = torch.autograd.grad(mean[name], values)
        torch.testing.assert_close(found, expected)


def test_a_task_without_any_label_keeps_its_head_in_the_graph(as_rank):
    as_rank(0, 2)
    outputs = {name: torch.ones(1, 1, requires_grad=True) for name in ("cls", "reg")}
    losses = {"cls": None, "reg": outputs["reg"].sum()}
    joint = ranks.of_whole_batch(losses, outputs, {"reg": 0.25})
    assert joint["cls"] is None
    assert joint["reg"].item() == 0.5
    joint["reg"].backward()
    assert outputs["cls"].grad.item() == 0.0
    assert outputs["reg"].grad.item() == 0.5


def test_every_row_has_one_rank(as_rank):
    shares = []
    for rank in range(3):
        as_rank(rank, 3)
        shares.append(ranks.share((9, 4, 7, 2)))
    assert shares == [(9, 2), (4,), (7,)]


@pytest.mark.parametrize("name", ["uw", "gradnorm", "torchjd:UPGrad"])
def test_a_weighting_that_would_see_one_rank_only_is_refused(as_rank, name: str):
    as_rank(1, 2)
    cfg = Config(weighting=name)
    with pytest.raises(UserError, match=f"dao, equal or fixed on several .* '{name}'"):
        make_weighting(
            cfg, list(cfg.tasks), shared=list, trainable=list, device=torch.device("cpu")
        )


def test_each_rank_takes_a_gpu_of_its_own(as_rank, monkeypatch):
    assert ranks.local_device("cuda:1") == "cuda:1"
    as_rank(3, 4)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert [ranks.local_device(name) for name in ("cpu", "cuda")] == ["cpu", "cuda:3"]
    with pytest.raises(UserError, match="CUDA_VISIBLE_DEVICES"):
        ranks.local_device("cuda:1")


def test_the_first_rank_alone_writes(as_rank, tmp_path: Path):
    for rank in (1, 0):
        as_rank(rank, 2)
        folder = ranks.run_folder(tmp_path / "run")
        with folder.locked():
            folder.create(Config(), overwrite=False)
            folder.write("data.json", {})
            folder.append("history.jsonl", {"step": 1})
            folder.save_checkpoint({"step": 1}, {}, {})
        assert (tmp_path / "run").exists() == (rank == 0)
    assert (tmp_path / "run" / "checkpoints" / "latest").exists()
