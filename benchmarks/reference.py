"""Hugging Face Trainer with peft as arms: padded as the reference systems do it, and at its best.

A burst is one call of `Trainer.train()`, so that Trainer's own loop is in the time: collation,
callbacks, gradient norm, scheduler, logging. The clock runs from the end of the burst's first step
to the end of its epoch; what `train()` does before (preparing model and loader) and after is not
counted, because a real run does it once. The order of the sentences is that of Trainer's own
sampler over the whole epoch; a burst trains a part of it.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import (
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)

from benchmarks.timing import Stopwatch
from benchmarks.work import OUTPUTS, Work, task_losses
from dao.learner.encoder.find import locate
from dao.learner.encoder.load import load_base, load_tokenizer, precision
from dao.learner.encoder.pooling import pool
from dao.learner.model.saving import ADAPTER, HEADS
from dao.learner.storage.files import read_tensors

__all__ = ["TrainerArm"]


class Reference(nn.Module):
    """A peft encoder with two heads that returns its loss, as Trainer wants it."""

    def __init__(self, encoder: PeftModel, pooling: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        width = encoder.config.hidden_size
        self.heads = nn.ModuleDict({task: nn.Linear(width, n) for task, n in OUTPUTS.items()})

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, cls: Tensor, reg: Tensor
    ) -> dict[str, Tensor]:
        """Token ids and mask (batch, length), targets (batch,) to the scalar loss."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        pooled = pool(hidden.last_hidden_state, attention_mask, self.pooling)
        outputs = {task: head(pooled) for task, head in self.heads.items()}
        losses = task_losses(outputs, {"cls": cls, "reg": reg})
        return {"loss": torch.stack(list(losses.values())).sum()}


class TrainerArm:
    """Trainer on the work, in bursts.

    Args:
        work: as for every arm.
        best: group_by_length, padding to the longest of a batch, the compute type that is fast on
            this hardware and the faster attention of eager and SDPA; else random batches padded to
            the limit, fp32 and SDPA, which is what transformers chooses.
    """

    def __init__(self, work: Work, *, best: bool) -> None:
        self.work = work
        dtype = precision(work.options.precision, work.device) if best else torch.float32
        half = dtype == torch.bfloat16
        rows = _rows(work, padded=not best)
        self._folder = TemporaryDirectory()
        self._clock = Clock(work.device)
        self.trainer = BurstTrainer(
            model=_reference(work, dtype),
            args=_arguments(work, self._folder.name, best=best, half=half),
            train_dataset=rows,
            data_collator=_collator(work) if best else default_data_collator,
            callbacks=[self._clock],
        )
        self.trainer.remove_callback(PrinterCallback)
        # Now, because later accelerate would take the compute type of the Trainer made last.
        self.trainer.accelerator.prepare(self.trainer.model)
        attention = self._faster_attention() if best else "sdpa"
        self._attend(attention)
        kind = "group_by_length" if best else f"padded to {work.limit}"
        self.about = f"HF Trainer, {kind}, {'bf16' if half else 'fp32'}, {attention}"

    def order(self) -> list[tuple[int, ...]]:
        """The batches of the epoch, as Trainer's own sampler orders them."""
        torch.manual_seed(self.work.options.seed)
        rows = list(self.trainer.own_order())
        size = self.work.options.batch_size
        return [tuple(rows[i : i + size]) for i in range(0, len(rows), size)]

    def run(self, batches: Sequence[tuple[int, ...]]) -> float:
        """Train on the batches; seconds of all but the first."""
        self.trainer.burst = [row for rows in batches for row in rows]
        self.trainer.train()
        return self._clock.seconds

    def loss(self, rows: tuple[int, ...]) -> float:
        """The sum of the losses, in training mode."""
        with torch.no_grad():
            return self._loss(rows).item()

    def _loss(self, rows: tuple[int, ...]) -> Tensor:
        trainer = self.trainer
        batch = trainer.data_collator([trainer.train_dataset[i] for i in rows])
        inputs = {key: value.to(self.work.device) for key, value in batch.items()}
        trainer.model.train()
        loss: Tensor = trainer.model(**inputs)["loss"]
        return loss

    def _attend(self, implementation: str) -> None:
        self.trainer.model.encoder.get_base_model().set_attn_implementation(implementation)

    def _faster_attention(self, rounds: int = 5) -> str:
        """Forward and backward of a batch of middling length with each, in turns."""
        order = self.order()
        order.sort(key=self.work.tokens)
        rows = order[len(order) // 2]
        seconds: dict[str, list[float]] = {"eager": [], "sdpa": []}
        for _ in range(rounds):
            for implementation, times in seconds.items():
                self._attend(implementation)
                watch = Stopwatch(self.work.device)
                torch.autograd.backward(self._loss(rows))
                times.append(watch.seconds())
        self.trainer.model.zero_grad()
        return min(seconds, key=lambda name: statistics.median(seconds[name]))


class BurstTrainer(Trainer):
    """Trainer whose epoch is a given list of rows."""

    burst: Sequence[int] = ()

    def own_order(self) -> Iterator[int]:
        """Row numbers in the order of Trainer's sampler over the whole data set."""
        return iter(super()._get_train_sampler())

    def _get_train_sampler(self, train_dataset: object = None) -> Sampler[int]:  # noqa: ARG002
        return ListSampler(self.burst)


class ListSampler(Sampler[int]):
    """The given rows in the given order."""

    def __init__(self, rows: Sequence[int]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[int]:
        return iter(self.rows)


class Clock(TrainerCallback):
    """Seconds from the end of the first step to the end of the epoch."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._watch: Stopwatch | None = None
        self.seconds = 0.0

    def on_epoch_begin(self, *_: object, **__: object) -> None:
        """A burst begins."""
        self._watch = None

    def on_step_end(self, *_: object, **__: object) -> None:
        """The first step is over."""
        self._watch = self._watch or Stopwatch(self._device)

    def on_epoch_end(self, *_: object, **__: object) -> None:
        """A burst is over."""
        assert self._watch is not None
        self.seconds = self._watch.seconds()


def _reference(work: Work, dtype: torch.dtype) -> Reference:
    # Frozen weights stay fp32 under Trainer's autocast; quantised ones are expanded to `dtype`.
    compute = "bf16" if dtype == torch.bfloat16 and work.encoder.quantize != "none" else "fp32"
    cfg = work.encoder.model_copy(update={"precision": compute})
    base = load_base(cfg, locate(cfg.name), work.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        encoder = PeftModel.from_pretrained(base, str(work.start / ADAPTER), is_trainable=True)
    model = Reference(encoder, work.pooling)
    model.heads.load_state_dict(read_tensors(work.start / HEADS))
    return model.to(work.device)


def _rows(work: Work, *, padded: bool) -> list[dict[str, Any]]:
    targets = work.examples.targets
    rows = []
    for i, ids in enumerate(work.examples.ids):
        spare = work.limit - len(ids) if padded else 0
        rows.append(
            {
                "input_ids": [*map(int, ids), *[work.pad] * spare],
                "attention_mask": [1] * len(ids) + [0] * spare,
                **{task: values[i].item() for task, values in targets.items()},
            }
        )
    return rows


def _collator(work: Work) -> Callable[[list[Mapping[str, Any]]], Mapping[str, Tensor]]:
    tokenizer = load_tokenizer(locate(work.encoder.name))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(work.pad)
    tokenizer.padding_side = "right"
    collator: Callable[..., Mapping[str, Tensor]] = DataCollatorWithPadding(tokenizer)
    return collator


def _arguments(work: Work, folder: str, *, best: bool, half: bool) -> TrainingArguments:
    return TrainingArguments(
        output_dir=folder,
        use_cpu=work.device.type == "cpu",
        num_train_epochs=1,
        per_device_train_batch_size=work.options.batch_size,
        learning_rate=work.lr,
        weight_decay=work.weight_decay,
        max_grad_norm=work.clip,
        optim="adamw_torch_fused",
        train_sampling_strategy="group_by_length" if best else "random",
        bf16=half,
        # Off, it waits for the device at every step.
        logging_nan_inf_filter=not best,
        remove_unused_columns=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=work.options.seed,
    )
