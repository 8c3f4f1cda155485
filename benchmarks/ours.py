"""The learner's own step as an arm: `dao.learner` with or without loss weighting and dendrites."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from benchmarks.timing import Stopwatch
from benchmarks.work import OUTPUTS, Work, task_losses
from dao import DAOLoss
from dao.learner.batching import Batch, collate, epoch_batches
from dao.learner.config import Dao
from dao.learner.dendrites import Dendrites, target_modules
from dao.learner.model import build, load_weights

__all__ = ["Ours"]

REFRESH = Dao().refresh_every


class Ours:
    """The training step of `dao.learner.loop`, without its record.

    Args:
        work: as for every arm.
        dao: weight the losses by their gradients, else add them up.
        dendrites: grow a set of dendrites on LoRA's B and the heads first.
    """

    def __init__(self, work: Work, *, dao: bool = False, dendrites: bool = False) -> None:
        self.work = work
        self.model, _, _ = build(work.encoder, OUTPUTS, work.device, work.options.seed)
        load_weights(self.model, work.start)
        self.about = f"dao.learner, length buckets, {self.model.precision}"
        self._folder = TemporaryDirectory()  # perforatedai's files
        if dendrites:
            _grow(self.model, self._batch(work.longest[:2]), Path(self._folder.name))
            self.about += ", dendrites"
        self.balance: Callable[[Mapping[str, Tensor]], Tensor] = _plain_sum
        if dao:
            self.balance = _settled(self.model.shared_parameters)
            self.about += ", DAO"
        self._trainable = [p for p in self.model.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._trainable, lr=work.lr, weight_decay=work.weight_decay, fused=True
        )
        self.model.train()

    def order(self) -> list[tuple[int, ...]]:
        """The batches of the epoch."""
        options = self.work.options
        return epoch_batches(self.work.examples.lengths, options.batch_size, options.seed, 0)

    def run(self, batches: Sequence[tuple[int, ...]]) -> float:
        """Train on the batches; seconds of all but the first."""
        self.step(batches[0])
        watch = Stopwatch(self.work.device)
        for rows in batches[1:]:
            self.step(rows)
        return watch.seconds()

    def step(self, rows: tuple[int, ...], done: Callable[[str], object] = len) -> None:
        """One training step; `done` is told the name of each stage when it is over."""
        batch = self._batch(rows)
        done("collate")
        outputs = self.model(batch.input_ids, batch.attention_mask)
        done("forward")
        loss = self.balance(task_losses(outputs, batch.targets))
        done("losses and weighting")
        loss.backward()
        done("backward")
        nn.utils.clip_grad_norm_(self._trainable, self.work.clip)
        self._optimizer.step()
        self._optimizer.zero_grad()
        done("clipping and optimizer")

    def stages(self, batches: Sequence[tuple[int, ...]]) -> dict[str, float]:
        """Mean milliseconds per stage, waiting for the device after each."""
        total: dict[str, float] = {}
        watch = Stopwatch(self.work.device)

        def done(stage: str) -> None:
            total[stage] = total.get(stage, 0.0) + watch.lap()

        self.step(batches[0])
        for rows in batches:
            watch.lap()
            self.step(rows, done)
        return {stage: 1000 * seconds / len(batches) for stage, seconds in total.items()}

    def loss(self, rows: tuple[int, ...]) -> float:
        """The plain sum of the losses, in training mode, changing nothing."""
        batch = self._batch(rows)
        with torch.no_grad():
            outputs = self.model(batch.input_ids, batch.attention_mask)
        return _plain_sum(task_losses(outputs, batch.targets)).item()

    def _batch(self, rows: Sequence[int]) -> Batch:
        return collate(self.work.examples, rows, self.work.pad, self.work.device)


def _plain_sum(losses: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def _settled(params: Callable[[], list[nn.Parameter]]) -> DAOLoss:
    # A run measures gradient norms often at first and then every REFRESH steps. Here the first
    # steps are already over, on losses that cost nothing, and the next one measures.
    balance = DAOLoss(list(OUTPUTS), params=params, refresh_every=REFRESH)
    for _ in range(REFRESH):
        balance({task: params()[0].square().sum() for task in OUTPUTS})
    return balance


def _grow(model: nn.Module, batch: Batch, folder: Path) -> None:
    dendrites = Dendrites(
        model,
        target_modules(model),
        run_dir=folder,
        probe=lambda m: m(batch.input_ids, batch.attention_mask),
    )
    dendrites.set_optimizer(torch.optim.SGD(model.parameters(), lr=0.0))
    dendrites.validation(0.5, grow=True)
