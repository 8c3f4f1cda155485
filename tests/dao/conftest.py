"""A small two-task model on which everything can be computed by hand as well."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Toy(nn.Module):
    """An encoder, a class head and a score head; `scale` multiplies the score's loss."""

    def __init__(self, width: int = 6, scale: float = 1.0) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, width))
        self.heads = nn.ModuleDict({"cls": nn.Linear(width, 3), "reg": nn.Linear(width, 1)})
        self.scale = scale

    def losses(self, z: Tensor, label: Tensor, score: Tensor) -> dict[str, Tensor]:
        return {
            "cls": F.cross_entropy(self.heads["cls"](z), label),
            "reg": self.scale * F.mse_loss(self.heads["reg"](z)[:, 0], score),
        }

    def shared(self) -> list[nn.Parameter]:
        return list(self.encoder.parameters())


def batch(size: int = 8, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 4, generator=generator)
    return x, torch.randint(3, (size,), generator=generator), torch.randn(size, generator=generator)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def make_toy():
    return Toy


@pytest.fixture
def make_batch():
    return batch


@pytest.fixture
def toy():
    return Toy()


@pytest.fixture
def losses(toy):
    x, label, score = batch()
    return toy.losses(toy.encoder(x), label, score)
