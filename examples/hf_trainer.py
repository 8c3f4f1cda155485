"""DAOLoss in the Hugging Face Trainer, as a part of the model.

What it adds to a model (the Trainer is used as it is):

    +self.balance = DAOLoss(["cls", "reg"], params=model.encoder.parameters, accumulate=accumulate)
    -output["loss"] = losses["cls"] + losses["reg"]
    +output["loss"] = self.balance(losses)

So it is moved, saved and resumed with the model. Three things to know:

- `forward` names its arguments. With `**kwargs`, or with `compute_loss_func`, the Trainer supposes
  that the loss is already divided by the accumulation steps, and does not do it.
- `label_names` lists both targets: by itself the Trainer finds `labels` and overlooks `scores`.
- `DAOLoss(accumulate=...)` and `gradient_accumulation_steps` are the same number.

`LogTasks` adds each task's loss, weight, gradient norm and share to the Trainer's own log: they
show in `trainer.state.log_history` and wherever else the Trainer reports.
"""

from collections.abc import Sequence
from tempfile import TemporaryDirectory

import dao.learner  # noqa: F401  (settles a torchvision that does not load; see docs/start.md)

# isort: split
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

import toy
from dao import DAOLoss


class Balanced(nn.Module):
    """A two-task model that computes its own loss, as the Trainer wants it."""

    def __init__(self, model: toy.TwoTasks, accumulate: int) -> None:
        super().__init__()
        self.model = model
        self.balance = DAOLoss(
            ["cls", "reg"], params=model.encoder.parameters, accumulate=accumulate
        )

    def forward(
        self, input_ids: Tensor, labels: Tensor | None = None, scores: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Logits, ``(B, 3)``, and score, ``(B,)``; with both targets, the loss as well."""
        logits, score = self.model(input_ids)
        output = {"logits": logits, "score": score}
        if labels is not None and scores is not None:
            losses = {"cls": cross_entropy(logits, labels), "reg": mse_loss(score, scores)}
            output["loss"] = self.balance(losses)
        return output


class LogTasks(TrainerCallback):
    """Logs what every task did, as ``cls_weight`` etc., whenever the training loss is logged.

    A step's loss and norm are those of its last micro-batch; its weights are the same in all.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def on_log(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        logs: dict[str, float],
        model: Balanced,
        **_rest: object,
    ) -> None:
        """Adds an entry of its own: reporters have read `logs` by now."""
        if "loss" in logs:  # neither the entry below, nor an evaluation
            telemetry = model.balance.telemetry()
            self.trainer.log(
                {f"{task}_{name}": x for task, row in telemetry.items() for name, x in row.items()}
            )
            toy.show(state.global_step, telemetry)


def build(steps: int, accumulate: int, seed: int, folder: str) -> Trainer:
    """A Trainer that does what the plain loop does."""
    torch.manual_seed(seed)
    trainer = Trainer(
        model=Balanced(toy.TwoTasks(), accumulate),
        args=TrainingArguments(
            folder,
            label_names=["labels", "scores"],
            max_steps=steps,
            per_device_train_batch_size=toy.BATCH // accumulate,
            gradient_accumulation_steps=accumulate,
            train_sampling_strategy="sequential",
            optim="adamw_torch",
            learning_rate=toy.LEARNING_RATE,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=0.0,  # 0: no clipping
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=toy.rows(steps * toy.BATCH, seed),
    )
    trainer.add_callback(LogTasks(trainer))
    trainer.remove_callback(PrinterCallback)
    return trainer


def train(steps: int, accumulate: int, seed: int) -> tuple[list[dict[str, float]], nn.Module]:
    """Each step's weights by task, and the trained model."""
    with TemporaryDirectory() as folder:
        trainer = build(steps, accumulate, seed, folder)
        trainer.train()
    logged = [entry for entry in trainer.state.log_history if "cls_weight" in entry]
    weights = [{task: entry[f"{task}_weight"] for task in ("cls", "reg")} for entry in logged]
    return weights, trainer.model.model


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains and prints."""
    given = toy.options(__doc__, arguments)
    weights, _ = train(given.steps, given.accumulate, given.seed)
    toy.show_last(weights)


if __name__ == "__main__":
    main()
