"""DAOLoss in a loop of Hugging Face accelerate.

What it adds to one:

    +balance = DAOLoss(["cls", "reg"], params=model.encoder.parameters, accumulate=accumulate)
     model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    -loss = losses["cls"] + losses["reg"]
    +loss = balance(losses)
     accelerator.backward(loss)

DAOLoss is not given to `prepare`: it has nothing to train, and on several processes it averages
over them itself. `accelerator.backward` divides by the accumulation steps, so nothing else does.
"""

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import DataLoader

import toy
from dao import DAOLoss


def train(steps: int, accumulate: int, seed: int) -> tuple[list[dict[str, float]], nn.Module]:
    """Each step's weights by task, and the trained model."""
    torch.manual_seed(seed)
    accelerator = Accelerator(gradient_accumulation_steps=accumulate)
    model = toy.TwoTasks()
    balance = DAOLoss(["cls", "reg"], params=model.encoder.parameters, accumulate=accumulate)
    optimizer = torch.optim.AdamW(model.parameters(), lr=toy.LEARNING_RATE, weight_decay=0.0)
    loader = DataLoader(toy.rows(steps * toy.BATCH, seed), batch_size=toy.BATCH // accumulate)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    accelerator.register_for_checkpointing(balance)  # so that `save_state` keeps its running means
    weights = []
    for batch in loader:
        with accelerator.accumulate(model):
            logits, score = model(batch["input_ids"])
            losses = {
                "cls": cross_entropy(logits, batch["labels"]),
                "reg": mse_loss(score, batch["scores"]),
            }
            loss = balance(losses)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        if accelerator.sync_gradients:
            weights.append(toy.weights(balance.telemetry()))
            toy.show(len(weights), balance.telemetry())
    return weights, accelerator.unwrap_model(model)


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains and prints."""
    given = toy.options(__doc__, arguments)
    weights, _ = train(given.steps, given.accumulate, given.seed)
    toy.show_last(weights)


if __name__ == "__main__":
    main()
