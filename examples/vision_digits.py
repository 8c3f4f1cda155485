"""DAOLoss with a vision model: which digit an image shows, and by how many degrees it is turned.

The images are the 1,797 handwritten digits, 8 by 8 pixels, that come with scikit-learn. Each is
turned by a random angle between -45 and 45 degrees. A small convolutional network has two heads:
ten classes (cross-entropy) and the angle (squared error, in degrees, so that its loss is some
hundred times the other one). It trains twice, on the plain sum of the losses and on DAOLoss:

    balance = DAOLoss(["digit", "angle"], params=network.features.parameters)
    balance(losses).backward()

The last lines say what each reached on images that it did not see, and where DAO's weights ended.
One run is one sample: --seed gives others.
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample, mse_loss

from dao import DAOHistory, DAOLoss

BATCH = 64
LEARNING_RATE = 2e-3
MOST_DEGREES = 45.0
TEST = 360  # images

Losses = Mapping[str, Tensor]


class Digits(nn.Module):
    """Shared convolutions, and a head for each task."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 64),
            nn.ReLU(),
        )
        self.digit = nn.Linear(64, 10)
        self.angle = nn.Linear(64, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images, shape ``(B, 1, 8, 8)``, to logits, ``(B, 10)``, and degrees, ``(B,)``."""
        z = self.features(images)
        return self.digit(z), self.angle(z)[:, 0]


def turned_digits(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Shuffled images, ``(n, 1, 8, 8)``, their digits and angles in degrees, ``(n,)`` each."""
    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(found.target)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=generator)
    angles = (2 * torch.rand(len(images), generator=generator) - 1) * MOST_DEGREES
    radians = angles * (math.pi / 180)
    cos, sin, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
    rotation = torch.stack([cos, -sin, zero, sin, cos, zero], dim=1).view(-1, 2, 3)
    images = images[order]
    grid = affine_grid(rotation, list(images.shape), align_corners=False)
    return grid_sample(images, grid, align_corners=False), labels[order], angles


def task_losses(network: Digits, images: Tensor, labels: Tensor, angles: Tensor) -> Losses:
    """The loss of each task."""
    logits, degrees = network(images)
    return {"digit": cross_entropy(logits, labels), "angle": mse_loss(degrees, angles)}


def plain_sum(losses: Losses) -> Tensor:
    """What DAOLoss takes the place of."""
    return torch.stack(list(losses.values())).sum()


def train(steps: int, seed: int, *, dao: bool) -> tuple[dict[str, float], DAOHistory | None]:
    """What a network reaches on the test images after so many steps, and with DAO the weights.

    Returns:
        The accuracy of the digits and the mean absolute error of the angles, in degrees.
    """
    torch.manual_seed(seed)
    images, labels, angles = turned_digits(seed)
    network = Digits()
    balance = DAOLoss(["digit", "angle"], params=network.features.parameters)
    history = DAOHistory(balance) if dao else None
    total: Callable[[Losses], Tensor] = balance if dao else plain_sum
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    for _ in range(steps):
        rows = torch.randint(TEST, len(images), (BATCH,))
        total(task_losses(network, images[rows], labels[rows], angles[rows])).backward()
        optimizer.step()
        optimizer.zero_grad()
        if history is not None:
            history.record()
    with torch.no_grad():
        logits, degrees = network(images[:TEST])
    accuracy = (logits.argmax(1) == labels[:TEST]).float().mean().item()
    error = (degrees - angles[:TEST]).abs().mean().item()
    return {"accuracy": accuracy, "degrees": error}, history


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains both and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=400, help="optimizer steps")
    parser.add_argument("--seed", type=int, default=0, help="of the network and the angles")
    given = parser.parse_args(arguments)
    if given.steps < 1:
        parser.error(f"--steps should be at least 1. Found {given.steps}.")
    for name, dao in (("plain sum", False), ("DAO", True)):
        reached, history = train(given.steps, given.seed, dao=dao)
        print(
            f"{name}: accuracy of the digit {reached['accuracy']:.3f}, "
            f"mean error of the angle {reached['degrees']:.1f} degrees"
        )
    assert history is not None
    last = {row["task"]: row["weight"] for row in history.rows()[-2:]}
    print("DAO weights: " + ", ".join(f"{task} {weight:.4g}" for task, weight in last.items()))


if __name__ == "__main__":
    main()
