"""DAOLoss in an ordinary PyTorch loop.

What it adds to one:

    +balance = DAOLoss(["cls", "reg"], params=model.encoder.parameters, accumulate=accumulate)
     losses = {
         "cls": cross_entropy(logits, batch["labels"]),
         "reg": mse_loss(score, batch["scores"]),
     }
    -loss = losses["cls"] + losses["reg"]
    +loss = balance(losses)
     (loss / accumulate).backward()

With `--accumulate 4`, four micro-batches make one optimizer step. DAOLoss is told, and keeps its
weights from the first of them to the last; docs/dao.md says in what this equals a step on the whole
batch, and in what it does not.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import DataLoader

import toy
from dao import DAOLoss


def train(steps: int, accumulate: int, seed: int) -> tuple[list[dict[str, float]], nn.Module]:
    """Each step's weights by task, and the trained model."""
    torch.manual_seed(seed)
    model = toy.TwoTasks()
    balance = DAOLoss(["cls", "reg"], params=model.encoder.parameters, accumulate=accumulate)
    optimizer = torch.optim.AdamW(model.parameters(), lr=toy.LEARNING_RATE, weight_decay=0.0)
    loader = DataLoader(toy.rows(steps * toy.BATCH, seed), batch_size=toy.BATCH // accumulate)
    weights = []
    for micro_batches, batch in enumerate(loader, start=1):
        logits, score = model(batch["input_ids"])
        losses = {
            "cls": cross_entropy(logits, batch["labels"]),
            "reg": mse_loss(score, batch["scores"]),
        }
        loss = balance(losses)
        (loss / accumulate).backward()
        if micro_batches % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
            weights.append(toy.weights(balance.telemetry()))
            toy.show(len(weights), balance.telemetry())
    return weights, model


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains and prints."""
    given = toy.options(__doc__, arguments)
    weights, _ = train(given.steps, given.accumulate, given.seed)
    toy.show_last(weights)


if __name__ == "__main__":
    main()
