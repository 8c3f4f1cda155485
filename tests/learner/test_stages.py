"""The plan of the stages: whose rows, how many steps, which heads."""

from types import SimpleNamespace

import pytest
import torch

from dao.errors import UserError
from dao.learner.batches.batching import Examples
from dao.learner.experts import stages
from dao.learner.kinds.regression import Regression
from dao.learner.settings.config import load_config
from dao.learner.training.job import ROW_EXPERT, Job


@pytest.fixture
def job() -> Job:
    """Ten rows, six of the first domain and four of the second, in batches of two."""
    cfg = load_config(
        None,
        ["tasks=reg", "experts.names=[news,forum]", "train.epochs=3", "train.batch_size=2",
         "experts.domain_epochs=2", "experts.router_warmup_steps=7"],
    )  # fmt: skip
    domains = torch.tensor([0, 0, 1, 0, 1, 0, 1, 0, 1, 0])
    targets = {"reg": torch.linspace(0, 1, 10), ROW_EXPERT: domains}
    rows = Examples([[3, 4, row] for row in range(10)], targets)
    folder = SimpleNamespace(stage=lambda name: f"stages/{name}")
    tasks = {"reg": Regression("reg", "reg")}
    names = [f"row {row}" for row in range(10)]
    progress = SimpleNamespace(of_stage=lambda name, before: (name, before))
    return Job(None, tasks, rows, rows, 0, cfg, folder, progress, names=names)


def test_steps_of_every_stage_by_hand(job):
    # Two epochs of 3 and of 2 steps; the warm-up; three epochs of 5 steps.
    assert stages.steps_of_stages(job) == {"news": 6, "forum": 4, "router": 7, "joint": 15}


def test_every_expert_has_the_rows_of_its_domain(job):
    alone = stages._alone(job)
    assert [stage.experts for stage in alone] == [("news",), ("forum",)]
    assert [len(stage.job.train) for stage in alone] == [6, 4]
    assert alone[1].job.names == ["row 2", "row 4", "row 6", "row 8"]
    assert [stage.job.folder for stage in alone] == ["stages/news", "stages/forum"]
    assert all(stage.cfg.train.epochs == 2 and not stage.router for stage in alone)


def test_the_warm_up_selects_nothing(job):
    warm_up = stages._warm_up(job)
    assert (warm_up.experts, warm_up.router) == ((), True)
    assert (warm_up.job.steps, warm_up.job.selects, warm_up.job.router) == (7, False, True)


def test_the_progress_of_a_stage_knows_the_steps_before_it(job):
    told = [stage.job.progress for stage in (*stages._alone(job), stages._warm_up(job))]
    assert told == [("news", 0), ("forum", 6), ("router", 10)]
    assert stages._progress(job, "joint") == ("", 17)


def test_experts_train_in_one_process(monkeypatch):
    stages.check_one_process()
    monkeypatch.setattr(stages.ranks, "several", lambda: True)
    with pytest.raises(UserError, match="`experts` should train in one process"):
        stages.check_one_process()
