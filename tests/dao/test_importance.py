import math

import pytest
import torch

from benchmarks.timing import peak_bytes
from dao import (
    adapter_norm,
    frobenius_norm,
    gradient_norm,
    inverse_norm_weights,
    task_gradients,
)

ANGLES = [0.3, 1.2, math.pi / 2, 2.0, 3.0]
RATIOS = [1e-6, 1e-3, 3e-4, 1.0, 50.0, 1e6]


def imtl_g(first, second):
    """IMTL-G for two tasks in float64: both unit gradients project equally on the sum."""
    difference = first - second
    unit = first / first.norm() - second / second.norm()
    share = (first @ unit) / (difference @ unit)
    return torch.stack([1 - share, share])


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("angle", ANGLES)
def test_two_tasks_are_imtl_g_and_the_published_rule(angle, ratio):
    basis, _ = torch.linalg.qr(torch.randn(7, 2, dtype=torch.float64))
    first = basis[:, 0]
    second = ratio * (math.cos(angle) * basis[:, 0] + math.sin(angle) * basis[:, 1])
    norms = torch.stack([first.norm(), second.norm()])
    weights = inverse_norm_weights(norms.log(), total=1)
    torch.testing.assert_close(weights, imtl_g(first, second), rtol=1e-8, atol=0)
    torch.testing.assert_close(weights, norms.flip(0) / norms.sum(), rtol=1e-10, atol=0)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 49])
def test_alpha_zero_gives_exactly_one(count):
    weights = inverse_norm_weights(torch.randn(count) * 9, alpha=0.0, max_ratio=1e4)
    assert weights.tolist() == [1.0] * count


def test_weights_are_positive_sum_to_the_total_and_even_the_norms_out():
    logs = torch.randn(5, dtype=torch.float64) * 4
    for total in (None, 1.0, 3.5):
        weights = inverse_norm_weights(logs, total=total)
        assert (weights > 0).all()
        assert weights.sum().item() == pytest.approx(5 if total is None else total, rel=1e-14)
        weighted = weights * logs.exp()
        torch.testing.assert_close(weighted, weighted[:1].expand(5), rtol=1e-12, atol=0)


def test_half_alpha_is_the_square_root_law():
    weights = inverse_norm_weights(torch.tensor([1.0, 100.0]).log(), alpha=0.5)
    assert (weights[0] / weights[1]).item() == pytest.approx(10, rel=1e-6)


def test_priors_multiply():
    weights = inverse_norm_weights(torch.zeros(2), prior=torch.tensor([3.0, 1.0]))
    assert weights.tolist() == pytest.approx([1.5, 0.5])


def test_max_ratio_lifts_the_small_ones_and_keeps_the_total():
    weights = inverse_norm_weights(torch.tensor([0.0, math.log(1e9), 0.0]), max_ratio=100)
    assert (weights.max() / weights.min()).item() == pytest.approx(100)
    assert weights.sum().item() == pytest.approx(3)
    assert weights[0] == weights[2]


@pytest.mark.parametrize("ratio", [1e-8, 1e8])
def test_extreme_ratios_are_exact(ratio):
    weights = inverse_norm_weights(torch.tensor([1.0, ratio], dtype=torch.float64).log(), total=1)
    assert (weights[0] / weights[1]).item() == pytest.approx(ratio, rel=1e-12)


def test_the_order_of_tasks_does_not_change_a_bit():
    logs = torch.randn(6, dtype=torch.float64) * 3
    for _ in range(50):
        order = torch.randperm(6)
        assert torch.equal(inverse_norm_weights(logs)[order], inverse_norm_weights(logs[order]))


@pytest.mark.parametrize("size", [1e-25, 1e-38, 1.0, 1e25])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_norms_neither_underflow_nor_overflow(size, dtype):
    g = torch.tensor([[3.0], [4.0]], dtype=torch.float64).mul(size).to(dtype)
    expected = g.double().norm().item()
    assert expected > 0
    assert gradient_norm([g[:1], None, g[1:]]).item() == pytest.approx(expected, rel=1e-12)
    assert frobenius_norm(g).item() == pytest.approx(expected, rel=1e-12)
    z = torch.ones(2, 1)
    assert adapter_norm(g, z).item() == pytest.approx(g.double().sum().item() * 2**0.5, rel=1e-12)


def test_no_gradient_at_all_is_zero():
    assert gradient_norm([None, None]).item() == 0


@pytest.mark.parametrize("samples", [3, 40])
def test_adapter_norm_is_that_of_an_explicit_adapter(samples):
    z = torch.randn(samples, 5, dtype=torch.float64)
    matrix = torch.zeros(5, 5, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    adapted = z + z @ matrix.T + bias
    loss = adapted.sin().pow(2).mean()
    g, *explicit = torch.autograd.grad(loss, [adapted, matrix, bias])
    assert adapter_norm(g, z).item() == pytest.approx(gradient_norm(explicit).item(), rel=1e-12)
    kernel = ((g @ g.T) * (z @ z.T + 1)).sum().sqrt()
    assert adapter_norm(g, z).item() == pytest.approx(kernel.item(), rel=1e-12)


def test_adapter_norm_takes_each_token_as_a_sample():
    g, z = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    assert adapter_norm(g, z) == adapter_norm(g.reshape(6, 4), z.reshape(6, 4))


def test_opposite_samples_cancel_in_the_adapter_norm_only():
    g, z = torch.tensor([[1.0], [-1.0]]), torch.ones(2, 1)
    assert adapter_norm(g, z).item() == 0
    assert frobenius_norm(g).item() == pytest.approx(2**0.5)


def test_gradients_match_finite_differences(toy, make_batch):
    toy = toy.double()
    x, label, score = make_batch()
    x, score = x.double(), score.double()
    weight = toy.encoder[0].weight

    def value():
        return toy.losses(toy.encoder(x), label, score)["cls"]

    (gradient,) = task_gradients(value(), [weight])
    with torch.no_grad():
        weight[1, 2] += 1e-6
        above = value()
        weight[1, 2] -= 2e-6
        below = value()
    assert gradient[1, 2].item() == pytest.approx(((above - below) / 2e-6).item(), rel=1e-6)


def test_other_autograd_errors_pass_unchanged():
    constant = torch.ones(())
    with pytest.raises(RuntimeError, match="does not require grad"):
        task_gradients(constant, [torch.ones((), requires_grad=True)])


@pytest.mark.slow
def test_a_large_gradient_is_never_copied_whole_into_float64():
    gradient = torch.randn(1_000, 1_200, generator=torch.Generator().manual_seed(0))
    assert frobenius_norm(gradient).item() == pytest.approx(gradient.double().norm().item(), 1e-12)
    assert peak_bytes(lambda: frobenius_norm(gradient), torch.device("cpu")) < gradient.nbytes
