"""Gradients and graphs of unusual kinds are measured, or refused by name."""

import pytest
import torch
from torch import Tensor, nn

from dao import DAOLoss, UserError, gradient_norm
from dao.importance import flat_numbers

TASKS = ["cls", "reg"]
IDS = torch.tensor([[1, 1, 2], [1, 3, 2]])


def dense_norm(gradients: list[Tensor]) -> float:
    parts = [g.to_dense().resolve_conj() for g in gradients]
    parts = [torch.view_as_real(g) if g.is_complex() else g for g in parts]
    return torch.cat([g.double().flatten() for g in parts]).norm().item()


ENCODERS = {
    "sparse": lambda: (nn.Embedding(10, 4, sparse=True), IDS),
    "sparse bag": lambda: (nn.EmbeddingBag(10, 4, sparse=True, mode="sum"), IDS),
    "sparse below dense": lambda: (
        nn.Sequential(nn.Embedding(10, 4, sparse=True), nn.Linear(4, 4)),
        IDS,
    ),
    "complex": lambda: (nn.Linear(4, 4, dtype=torch.complex64), torch.randn(3, 4) * (1 + 1j)),
    "float64": lambda: (nn.Linear(4, 4).double(), torch.randn(3, 4).double()),
    "bfloat16": lambda: (nn.Linear(4, 4).bfloat16(), torch.randn(3, 4).bfloat16()),
    "parametrized": lambda: (
        nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
        torch.randn(3, 4),
    ),
    "channels last": lambda: (
        nn.Sequential(
            nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last), nn.Flatten(), nn.Linear(4, 4)
        ),
        torch.randn(2, 3, 3, 3),
    ),
}


@pytest.mark.parametrize("kind", ENCODERS)
def test_the_norm_is_that_of_the_dense_real_gradient(kind):
    encoder, given = ENCODERS[kind]()
    z = encoder(given)
    losses = {"cls": z.abs().square().mean(), "reg": 1e-3 * z.abs().exp().mean()}
    balance = DAOLoss(TASKS, params=encoder.parameters())
    balance.weights(losses)
    for task, loss in losses.items():
        parameters = list(encoder.parameters())
        expected = dense_norm(torch.autograd.grad(loss, parameters, retain_graph=True))
        assert balance.telemetry()[task]["norm"] == pytest.approx(expected, rel=1e-12)


def test_a_place_that_a_sparse_gradient_names_twice_is_added_up():
    twice = torch.sparse_coo_tensor([[1, 1, 4]], [3.0, 1.0, 3.0], (6,))
    assert gradient_norm([twice, None]).item() == 5.0
    compressed = torch.eye(2).to_sparse_csr()
    assert flat_numbers(compressed).tolist() == [1.0, 0.0, 0.0, 1.0]


def test_a_graph_with_a_quantized_base_and_a_trainable_part(toy, make_batch):
    """Weights of integers take part, as those of a base in 4 or 8 bits do."""
    x, label, score = make_batch()
    base = nn.Parameter(torch.randint(-8, 8, (6, 6), dtype=torch.int8), requires_grad=False)
    z = toy.encoder(x) @ base.float()
    balance = DAOLoss(TASKS, params=[base, *toy.shared()])
    balance.weights(toy.losses(z, label, score))
    assert balance.state.count.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("z", "found"),
    [
        (torch.ones(2, 3, dtype=torch.complex64), r"\(2, 3\) torch.complex64"),
        (torch.ones(()), r"\(\) torch.float32"),
        (torch.nested.nested_tensor([torch.ones(2, 3)], layout=torch.jagged), "nested"),
        (torch.eye(3).to_sparse(), r"\(3, 3\) torch.float32 torch.sparse_coo"),
    ],
)
def test_a_representation_that_has_no_rows_of_real_numbers_is_refused(z, found):
    p = torch.ones((), requires_grad=True)
    balance = DAOLoss(TASKS, source="rep")
    balance.tap(z * p)
    with pytest.raises(UserError, match=rf"should be real and dense.*Found {found}"):
        balance({"cls": 2 * p})


def test_lbfgs_with_weights_chosen_outside_of_its_closure(toy, make_batch):
    """As docs/dao.md has it: one set of weights, and one counted step, per optimizer step."""
    x, label, score = make_batch()
    balance = DAOLoss(TASKS, params=toy.encoder.parameters)
    optimizer = torch.optim.LBFGS(toy.parameters(), max_iter=6, line_search_fn="strong_wolfe")

    def losses():
        return toy.losses(toy.encoder(x), label, score)

    values = []
    for _ in range(3):
        weights = balance.weights(losses())
        calls = []

        def closure(weights=weights, calls=calls):
            optimizer.zero_grad()
            found = losses()
            loss = torch.stack([weights[task] * found[task] for task in found]).sum()
            loss.backward()
            calls.append(loss.item())
            return loss

        optimizer.step(closure)
        assert len(calls) > 5
        assert min(calls) < calls[0]
        values.append(calls[0])
    assert balance.state.step == 3
    assert values[-1] < values[0]
