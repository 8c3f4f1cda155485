"""What the four examples of sentences share: a small model, made-up sentences, and how to print.

Nothing here is about balancing losses. Sentences are token ids; each token has a hidden polarity.
A sentence's score is ten times the mean polarity plus noise (regression, about -10 to 10 points),
and its label says whether the score is negative, neutral or positive (classification). In points,
the squared error sends about ten times the gradient of the cross-entropy into the encoder.
"""

import argparse
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

VOCABULARY, LENGTH, WIDTH = 50, 12, 32
BATCH = 32  # sentences per optimizer step
LEARNING_RATE = 1e-2


class TwoTasks(nn.Module):
    """A shared encoder, a class head and a score head; no dropout, so that runs can be equal."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.EmbeddingBag(VOCABULARY, WIDTH), nn.Linear(WIDTH, WIDTH), nn.GELU()
        )
        self.classify = nn.Linear(WIDTH, 3)
        self.rate = nn.Linear(WIDTH, 1)

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids, shape ``(B, T)``, to logits, ``(B, 3)``, and scores, ``(B,)``."""
        z = self.encoder(input_ids)
        return self.classify(z), self.rate(z)[:, 0]


def rows(count: int, seed: int) -> list[dict[str, Tensor]]:
    """Sentences with both targets, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    polarity = torch.randn(VOCABULARY, generator=generator)
    input_ids = torch.randint(VOCABULARY, (count, LENGTH), generator=generator)
    noise = 0.5 * torch.randn(count, generator=generator)
    scores = 10 * polarity[input_ids].mean(dim=1) + noise
    labels = (scores > -1.5).long() + (scores > 1.5).long()
    return [
        {"input_ids": i, "labels": label, "scores": score}
        for i, label, score in zip(input_ids, labels, scores, strict=True)
    ]


def weights(telemetry: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The weight of each task, out of what ``DAOLoss.telemetry`` returns."""
    return {task: row["weight"] for task, row in telemetry.items()}


def show(step: int, telemetry: Mapping[str, Mapping[str, float]], every: int = 5) -> None:
    """Prints the tasks' losses, weights and gradient norms at every few steps."""
    if step % every == 0:
        tasks = (
            f"{task}: loss {row['loss']:.4f} weight {row['weight']:.4f} norm {row['norm']:.4f}"
            for task, row in telemetry.items()
        )
        print(f"step {step:3d}  " + "  ".join(tasks))


def show_last(steps: Sequence[Mapping[str, float]]) -> None:
    """Prints the weights of the last step."""
    last = ", ".join(f"{task} {weight:.6f}" for task, weight in steps[-1].items())
    print(f"DAO weights after {len(steps)} steps: {last}")


def options(description: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line of every example."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=40, help="optimizer steps")
    parser.add_argument(
        "--accumulate", type=int, default=1, help=f"micro-batches per step of {BATCH} sentences"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the model and the sentences")
    given = parser.parse_args(arguments)
    if given.steps < 1:
        parser.error(f"--steps should be at least 1. Found {given.steps}.")
    if given.accumulate < 1 or BATCH % given.accumulate:
        parser.error(f"--accumulate should divide {BATCH}. Found {given.accumulate}.")
    return given
