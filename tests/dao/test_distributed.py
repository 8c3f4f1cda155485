import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dao import keep_alive
from dao.distributed import sum_over_ranks, world_size

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("two_ranks.py")
CASES = [
    "params",
    "last",
    "adapter, matrices travel",
    "adapter, rows travel",
    "frobenius",
    "calibrated",
    "find unused",
    "absent, params",
    "absent, rep",
    "nan",
]


@pytest.fixture(scope="module")
def ranks(warm_python, tmp_path_factory):
    """What two processes with half a batch each, and one with the whole, computed."""
    folder = tmp_path_factory.mktemp("ranks")
    root = str(SCRIPT.parents[2])
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    running = [
        subprocess.Popen(
            # One is no fork of the warm server: ranks share no order of sets.
            [warm_python if rank else sys.executable, str(SCRIPT), str(rank), str(folder)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        said = [process.communicate(timeout=120)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], "\n".join(said)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_equal_one_with_the_joined_batch(ranks, case):
    for rank in ranks:
        steps = zip(rank["found"][case], rank["expected"][case], strict=True)
        for found, expected in steps:
            torch.testing.assert_close(found["telemetry"], expected["telemetry"], rtol=1e-5, atol=0)
            error = (found["gradient"] - expected["gradient"]).norm() / expected["gradient"].norm()
            assert error < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_ranks_agree_to_the_last_bit(ranks, case):
    for first, second in zip(*(rank["found"][case] for rank in ranks), strict=True):
        assert torch.equal(first["telemetry"], second["telemetry"])
        assert torch.equal(first["gradient"], second["gradient"])


def test_uneven_rows_are_joined_exactly(ranks):
    for rank in ranks:
        torch.testing.assert_close(rank["found"]["uneven"], rank["expected"]["uneven"])


def test_sparse_complex_and_float64_gradients_are_joined_exactly(ranks):
    for rank in ranks:
        found, expected = rank["found"]["unusual"], rank["expected"]["unusual"]
        assert (expected > 0).all()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_a_loss_too_small_for_float16_keeps_its_weight_over_ranks(ranks):
    first, second = (rank["found"]["half"] for rank in ranks)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, ranks[0]["expected"]["half"], rtol=0.01, atol=0)


def test_many_tasks_are_measured_by_the_same_turns_over_ranks(ranks):
    first, second = (rank["found"]["many"] for rank in ranks)
    assert torch.equal(first, second)
    # Ten weights at steps 0 and 25, and at 0, 25 and 50 where tapped; and all credits, summed up.
    assert len(first) == 2 * 10 + 1 + 3 * 10 + 1
    torch.testing.assert_close(first, ranks[0]["expected"]["many"], rtol=1e-5, atol=0)


def test_a_sharded_model_has_the_weights_of_a_whole_one_or_is_refused(ranks):
    for rank in ranks:
        found, expected = rank["found"]["sharded"], rank["expected"]["sharded"]
        for name in ("rep", "rep, frobenius", "params, whole"):
            torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=0)
        for name, option in (("params, parts", "params"), ("last, parts", "module")):
            assert f"`{option}` should be whole parameters" in found[name]
            assert "Use `source='rep'` with `fully_shard`" in found[name]


def test_fully_sharded_data_parallel_is_refused(ranks):
    for rank in ranks:
        said = rank["found"]["FSDP1"]
        assert len(said) == 4
        assert all("fully_shard`" in text for text in said)


def test_a_batch_without_tasks_is_refused_everywhere_and_half_of_one_nowhere(ranks):
    first, second = (rank["found"]["nothing"] for rank in ranks)
    assert "usable loss" in first["said"]
    assert first["said"] == second["said"]
    assert first["weight"] == second["weight"] == 1.0
    assert (first["total"], second["total"]) == (6.0, 0.0)


def test_alone_nothing_is_sent():
    value = torch.ones(2)
    assert world_size() == 1
    assert sum_over_ranks(value) is value


def test_keep_alive_reaches_every_parameter_with_zero():
    head = torch.nn.Linear(3, 2)
    keep_alive(head(torch.randn(4, 3))).backward()
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in head.parameters())
