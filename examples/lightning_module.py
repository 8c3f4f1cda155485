"""DAOLoss in a LightningModule.

What it adds to one (the Trainer of Lightning is used as it is):

    +self.balance = DAOLoss(["cls", "reg"], params=encoder.parameters, accumulate=accumulate)
    -return losses["cls"] + losses["reg"]
    +return self.balance(losses)

So it is moved, saved and resumed with the module. `DAOLoss(accumulate=...)` and the Trainer's
`accumulate_grad_batches` are the same number; Lightning divides by it, so nothing else does.

`DAOHistory` records each optimizer step: `module.history.plot()` draws the weights, and
`self.log_dict` gives them to whatever logger the Trainer has.
"""

import logging
from collections.abc import Sequence

import dao.learner  # noqa: F401  (settles a torchvision that does not load; see docs/start.md)

# isort: split
import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import DataLoader

import toy
from dao import DAOHistory, DAOLoss

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


class Balanced(LightningModule):
    """A two-task model whose training loss is the balanced sum."""

    def __init__(self, accumulate: int) -> None:
        super().__init__()
        self.model = toy.TwoTasks()
        encoder = self.model.encoder
        self.balance = DAOLoss(["cls", "reg"], params=encoder.parameters, accumulate=accumulate)
        self.history = DAOHistory(self.balance)

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        """The loss of a micro-batch, for Lightning's backward."""
        logits, score = self.model(batch["input_ids"])
        losses = {
            "cls": cross_entropy(logits, batch["labels"]),
            "reg": mse_loss(score, batch["scores"]),
        }
        return self.balance(losses)

    def on_train_batch_end(self, _outputs: object, _batch: object, batch_idx: int) -> None:
        """Records and logs an optimizer step, after the last of its micro-batches."""
        if (batch_idx + 1) % self.trainer.accumulate_grad_batches:
            return
        self.history.record(self.global_step)
        telemetry = self.balance.telemetry()
        self.log_dict({f"{task}_{k}": x for task, row in telemetry.items() for k, x in row.items()})
        toy.show(self.global_step, telemetry)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer of the other examples."""
        parameters = self.model.parameters()
        return torch.optim.AdamW(parameters, lr=toy.LEARNING_RATE, weight_decay=0.0)


def build(steps: int, accumulate: int) -> Trainer:
    """A Trainer that does what the plain loop does."""
    return Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        accumulate_grad_batches=accumulate,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def train(steps: int, accumulate: int, seed: int) -> tuple[list[dict[str, float]], nn.Module]:
    """Each step's weights by task, and the trained model."""
    torch.manual_seed(seed)
    module = Balanced(accumulate)
    loader = DataLoader(toy.rows(steps * toy.BATCH, seed), batch_size=toy.BATCH // accumulate)
    build(steps, accumulate).fit(module, loader)
    weights: dict[int, dict[str, float]] = {}
    for row in module.history.rows():
        weights.setdefault(row["step"], {})[row["task"]] = row["weight"]
    return list(weights.values()), module.model


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains and prints."""
    given = toy.options(__doc__, arguments)
    weights, _ = train(given.steps, given.accumulate, given.seed)
    toy.show_last(weights)


if __name__ == "__main__":
    main()
