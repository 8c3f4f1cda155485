"""What `benchmarks.weighting` times: an encoder with a head per task, trained with one rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel

from benchmarks.rules import LR, Parts, Rule, Sum
from benchmarks.timing import Stopwatch
from dao.learner.encoder.load import precision
from dao.learner.weighting.weighting import Weighting

__all__ = ["Arm", "Model", "Options", "task_names"]

VOCABULARY, CLASSES, BATCHES = 8192, 3, 8


def task_names(count: int) -> list[str]:
    """Classification and regression in turn.

    Example:
        >>> task_names(5)
        ['cls', 'reg', 'cls2', 'reg2', 'cls3']
    """
    return [("cls", "reg")[k % 2] + (str(k // 2 + 1) if k > 1 else "") for k in range(count)]


@dataclass(frozen=True)
class Options:
    """What the command line says; see its help."""

    layers: int = 4
    width: int = 256
    batch_size: int = 32
    length: int = 64
    rounds: int = 10
    steps: int = 50
    device: str = "cpu"
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    tasks: int = 2

    @property
    def compute(self) -> torch.dtype:
        """The type of the matrix products, as `precision` decides for the device."""
        return precision(self.precision, torch.device(self.device))


class Model(nn.Module):
    """Token ids (batch, length) to the mean state (batch, width), and from it a head per task."""

    def __init__(self, options: Options, *, lora: bool) -> None:
        super().__init__()
        torch.manual_seed(options.seed)
        base = BertModel(
            BertConfig(
                vocab_size=VOCABULARY,
                hidden_size=options.width,
                num_hidden_layers=options.layers,
                num_attention_heads=1 if options.width % 64 else options.width // 64,
                intermediate_size=4 * options.width,
                max_position_embeddings=options.length,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            ),
            add_pooling_layer=False,
        )
        last = base.encoder.layer[-1]
        adapter = LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"])
        self.encoder = get_peft_model(base, adapter) if lora else base
        names = task_names(options.tasks)
        self.heads = nn.ModuleDict(
            {t: nn.Linear(options.width, CLASSES if t.startswith("cls") else 1) for t in names}
        )
        self.to(options.device)
        self._compute = options.compute
        heads = {task: self.heads[task] for task in names}
        self.parts = Parts(self.encoder, last, heads, torch.device(options.device))

    def forward(self, ids: Tensor, tap: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """Outputs by task; `tap` sees the representation."""
        low = self._compute != torch.float32
        with torch.autocast(ids.device.type, dtype=self._compute, enabled=low):
            states = self.encoder(input_ids=ids).last_hidden_state
        z = tap(states.float().mean(dim=1))
        return {task: head(z) for task, head in self.heads.items()}


class Arm:
    """One model, trained with one rule from the rule's first step on.

    Args:
        options: the same for all arms.
        lora: LoRA on query and value, else all parameters are trained.
        rule: an entry of `RULES`.

    Raises:
        ImportError: the rule's library, or something it needs, is not installed.
        UserError: the same.
    """

    def __init__(self, options: Options, rule: Rule, *, lora: bool) -> None:
        self.model = Model(options, lora=lora)
        self._optimizer = torch.optim.AdamW(self.model.parts.trainable, lr=LR, fused=True)
        generator = torch.Generator().manual_seed(options.seed)
        shape = (BATCHES, options.batch_size)
        ids = torch.randint(VOCABULARY, (*shape, options.length), generator=generator)
        self._ids = ids.to(options.device)
        self._labels = {
            task: (
                torch.randint(CLASSES, shape, generator=generator)
                if task.startswith("cls")
                else torch.randn(shape, generator=generator)
            ).to(options.device)
            for task in self.model.heads
        }
        # First, so that the rule's first step, too, has the optimizer's state beside it in memory.
        self._weighting: Weighting = Sum()
        self._step(0)
        self._weighting = rule.make(self.model.parts)

    def run(self, numbers: Iterable[int]) -> float:
        """Train on the batches of these numbers (modulo `BATCHES`); seconds."""
        watch = Stopwatch(self.model.parts.device)
        for number in numbers:
            self._step(number)
        return watch.seconds()

    def _step(self, number: int) -> None:
        batch = number % BATCHES

        def losses() -> dict[str, Tensor | None]:
            outputs = self.model(self._ids[batch], self._weighting.tap)
            return {
                task: functional.cross_entropy(outputs[task], labels[batch])
                if task.startswith("cls")
                else functional.mse_loss(outputs[task].squeeze(-1), labels[batch])
                for task, labels in self._labels.items()
            }

        self._weighting.backward(losses())
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._weighting.after_step(losses)
