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
from dao.learner.batches.batching import Batch, collate, epoch_batches
from dao.learner.dendrites.dendrites import Dendrites, GrowthOptions, target_modules
from dao.learner.encoder.find import locate
from dao.learner.encoder.layers import layer_list
from dao.learner.encoder.load import meta_base
from dao.learner.model.model import build
from dao.learner.model.prefix import cache_prefix
from dao.learner.model.saving import load_weights
from dao.learner.settings.encoder_section import Encoder
from dao.schedule import EVERY

__all__ = ["Ours"]

REFRESH = EVERY


class Ours:
    """The step of `dao.learner.training.loop`, without its record and its look-up of labels.

    Args:
        work: as for every arm.
        dao: weight the losses by their gradients, else add them up.
        dendrites: grow a set of dendrites on LoRA's B and the heads first.
        half: LoRA in the upper half of the layers only, from weights of its own.
        cached: with `half`, the states of the lower half come from the disk, as they do from the
            second epoch of a run on, and in every run after it.
    """

    def __init__(
        self,
        work: Work,
        *,
        dao: bool = False,
        dendrites: bool = False,
        half: bool = False,
        cached: bool = False,
    ) -> None:
        self.work, self.examples, self.half = work, work.examples, half
        encoder = _upper_half(work.encoder) if half else work.encoder
        self.model, _, _ = build(encoder, OUTPUTS, work.device, work.options.seed)
        if not half:
            load_weights(self.model, work.start)
        self.about = f"dao.learner, length buckets, {self.model.precision}"
        self._folder = TemporaryDirectory()  # perforatedai's files, frozen states
        if half:
            self.about += f", LoRA in the last {encoder.lora.last_layers} layers"
        if cached:
            place = Path(self._folder.name)
            found, spent = cache_prefix(self.model, [work.examples], work.pad, place, _silent)
            self.examples = found[0]
            self.about += f", layers below from disk ({spent['mib']:.0f} MiB)"
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
        outputs = self.model(batch.input_ids, batch.attention_mask, prefix=batch.prefix)
        done("forward")
        loss = self.balance(task_losses(outputs, batch.targets))
        done("losses and weighting")
        torch.autograd.backward(loss)
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
            outputs = self.model(batch.input_ids, batch.attention_mask, prefix=batch.prefix)
        return _plain_sum(task_losses(outputs, batch.targets)).item()

    def _batch(self, rows: Sequence[int]) -> Batch:
        return collate(self.examples, rows, self.work.pad, self.work.device)


def _silent(_: str) -> None:
    """Leave out what is told of the work."""


def _upper_half(encoder: Encoder) -> Encoder:
    _, layers = layer_list(meta_base(locate(encoder.name)))
    lora = encoder.lora.model_copy(update={"last_layers": len(layers) // 2})
    return encoder.model_copy(update={"lora": lora})


def _plain_sum(losses: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def _settled(params: Callable[[], list[nn.Parameter]]) -> DAOLoss:
    # A run measures gradient norms often at first and then every REFRESH steps. Here the first
    # steps are already over, on losses that cost nothing, and the next one measures.
    balance = DAOLoss(list(OUTPUTS), params=params, refresh_every=REFRESH, check_finite="measured")
    for _ in range(REFRESH):
        balance({task: params()[0].square().sum() for task in OUTPUTS})
    return balance


def _grow(model: nn.Module, batch: Batch, folder: Path) -> None:
    dendrites = Dendrites(
        model,
        target_modules(model),
        GrowthOptions(),
        run_dir=folder,
        probe=lambda m: m(batch.input_ids, batch.attention_mask),
    )
    dendrites.set_optimizer(torch.optim.SGD(model.parameters(), lr=0.0))
    dendrites.validation(0.5, grow=True)
