"""What dendrites cost, in a training step and in inference, relative to the same model without.

python -m benchmarks.dendrites
python -m benchmarks.dendrites --sets default,heads --counts 0,1 --json result.json

The first takes five to ten minutes on two idle CPU cores, the second about one; each set's table is
printed, and its figures are written, when they are there.

For every set of targets and every number of dendrites on each of them, three models run beside the
plain one in one process, in turns of a few steps and in random order, so that other load on the
machine meets them alike: the model in training, with perforatedai around its layers; its pure-torch
twin, which is what evaluation and prediction run, as it was trained; and the twin with LoRA merged
into the frozen weights, as `evaluate.py --engine merged` has it. A ratio is the median over the
rounds, with quartiles. The plain model is what `train.py` trains without `--dendrites`: LoRA folded
into the frozen weights, which dendrites inside of LoRA rule out. `linear` stands beside a plain
encoder that is trained whole. Figures in JSON are flat: `train_default_1` is the ratio of a
training step with one dendrite on each of the default targets, `twin_default_1` and
`merged_default_1` are those of inference, `parameters_default_1` are added by the dendrites.
"""

from __future__ import annotations

import copy
import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import torch
import typer
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.encoders import encoder_settings, spec_of
from benchmarks.report import cell, computing, hardware, spread
from benchmarks.timing import Stopwatch
from dao.errors import UserError
from dao.learner.basics.tables import titled
from dao.learner.console.errors import user_errors
from dao.learner.console.report import markdown
from dao.learner.dendrites import dendritic
from dao.learner.dendrites.controls import arm_encoder
from dao.learner.dendrites.dendrites import Dendrites, GrowthOptions, target_modules
from dao.learner.encoder.find import locate
from dao.learner.encoder.load import load_config_of
from dao.learner.inference.backends.merging import merge
from dao.learner.inference.predictor import pick_device
from dao.learner.model.model import MultiTaskModel, build
from dao.learner.settings.config import Config
from dao.learner.settings.encoder_section import Encoder
from dao.learner.storage.files import write_atomically

__all__ = ["SETS", "Options", "Work", "goals", "measure", "paired", "train_step"]

Figures = dict[str, Any]
SETS = {
    "default": "lora_B+heads",
    "heads": "heads",
    "lora_B": "lora_B",
    "lora": "lora",
    "linear": "linear",
    "wrapped-lowrank": "wrapped-lowrank",
}
OUTPUTS = {"cls": 3, "reg": 1}
GOALS = {"train_default_1": 1.35, "twin_default_1": 1.2}
KINDS = {"train": "training step", "twin": "inference", "merged": "inference, merged"}


@dataclass(frozen=True)
class Options:
    """What the command line says; see its help."""

    encoder: str = "tiny-phi"
    batch_size: int = 8
    length: int = 32
    rounds: int = 15
    steps: int = 5
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: str = "cpu"
    seed: int = 0


class Work:
    """One batch, and the models to run it through.

    Args:
        options: the work.
        folder: for an encoder of random weights and for perforatedai's files.
    """

    def __init__(self, options: Options, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.device = torch.device(options.device)
        spec = spec_of(options.encoder)
        self.encoder = encoder_settings(spec, "attention", options.precision, folder / "encoder")
        generator = torch.Generator().manual_seed(options.seed)
        shape = (options.batch_size, options.length)
        words = load_config_of(locate(self.encoder.name)).vocab_size
        self.ids = torch.randint(words, shape, generator=generator).to(self.device)
        self.mask = torch.ones_like(self.ids)
        self.classes = torch.randint(3, shape[:1], generator=generator).to(self.device)
        self.scores = torch.randn(shape[:1], generator=generator).to(self.device)

    def plain(self, where: str) -> MultiTaskModel:
        """What is trained without dendrites."""
        return self._built(self._whole() if where == "linear" else self.encoder)

    def undecorated(self, where: str) -> MultiTaskModel:
        """What dendrites are put on: LoRA's products apart, where they are inside of it."""
        return self._built(arm_encoder(self._settings(where), OUTPUTS))

    def grown(self, where: str, count: int) -> tuple[MultiTaskModel, Dendrites]:
        """A model with so many dendrites on each target, all of them reached by gradients."""
        model = self.undecorated(where)
        dendrites = Dendrites(
            model,
            target_modules(model, where),
            GrowthOptions(max_dendrites=max(count, 1), rank=self._settings(where).dendrite_rank),
            run_dir=self.folder / "run",
            probe=self.infer,
        )
        for score in range(1, count + 1):
            dendrites.set_optimizer(optimizer(model))
            dendrites.validation(score, grow=True)
            step = train_step(self, model)
            step(), step()
        return model, dendrites

    def twin(self, where: str, dendrites: Dendrites) -> MultiTaskModel:
        """The pure-torch twin of what `grown` gave."""
        model = self.undecorated(where)
        description, tensors = dendrites.twin_state()
        dendritic.attach(model, description)
        dendritic.load(model, tensors)
        return model.eval()

    def infer(self, model: nn.Module) -> object:
        """One forward pass of the batch."""
        return model(self.ids, self.mask)

    def _settings(self, where: str) -> Config:
        encoder = self._whole() if where == "linear" else self.encoder
        return Config.model_validate(
            {"encoder": encoder.model_dump(), "dendrites": {"enabled": True, "where": where}}
        )

    def _whole(self) -> Encoder:
        return self.encoder.model_copy(update={"tune": "full"})

    def _built(self, encoder: Encoder) -> MultiTaskModel:
        return build(encoder, OUTPUTS, self.device, self.options.seed)[0]


def optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Fused AdamW over what trains, as in `dao.learner.training.loop`."""
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)


def train_step(work: Work, model: nn.Module) -> Callable[[], None]:
    """A function that trains the model on the batch once."""
    updates = optimizer(model)
    model.train()

    def step() -> None:
        outputs: Mapping[str, Tensor] = model(work.ids, work.mask)
        loss = functional.cross_entropy(outputs["cls"], work.classes)
        loss = loss + functional.mse_loss(outputs["reg"][:, 0], work.scores)
        torch.autograd.backward(loss)
        updates.step()
        updates.zero_grad()

    return step


def infer_step(work: Work, model: nn.Module) -> Callable[[], None]:
    """A function that runs the batch through the model in inference mode."""
    model.eval()

    def step() -> None:
        with torch.inference_mode():
            work.infer(model)

    return step


def paired(work: Work, plain: Callable[[], None], other: Callable[[], None]) -> list[float]:
    """Time of `other` over that of `plain`, by round; the order is random."""
    generator = random.Random(work.options.seed)
    ratios = []
    for _ in range(work.options.rounds):
        seconds: dict[Callable[[], None], float] = {}
        for run in generator.sample([plain, other], 2):
            run()
            watch = Stopwatch(work.device)
            for _ in range(work.options.steps):
                run()
            seconds[run] = watch.seconds()
        ratios.append(seconds[other] / seconds[plain])
    return ratios


def measure(work: Work, name: str, counts: Sequence[int]) -> Figures:
    """Flat figures of one set of targets: ratios with quartiles, and parameters added."""
    where = SETS[name]
    plain = work.plain(where)
    train, infer = train_step(work, plain), infer_step(work, work.plain(where))
    can_merge = where != "linear" and work.encoder.quantize == "none"
    merged = infer_step(work, _merged(plain)) if can_merge else None
    figures: Figures = {}
    for count in counts:
        print(f"{name}: {count} dendrites", file=sys.stderr)
        model, dendrites = work.grown(where, count)
        twin = work.twin(where, dendrites)
        key = f"{name}_{count}"
        figures[f"parameters_{key}"] = dendrites.report()["parameters_added"]
        figures |= spread(f"train_{key}", paired(work, train, train_step(work, model)))
        dendrites.detach()
        figures |= spread(f"twin_{key}", paired(work, infer, infer_step(work, twin)))
        if merged is not None:
            other = infer_step(work, _merged(twin))
            figures |= spread(f"merged_{key}", paired(work, merged, other))
    return figures


def _merged(model: MultiTaskModel) -> MultiTaskModel:
    copied = copy.deepcopy(model)
    merge(copied)
    return copied


def goals(figures: Mapping[str, Any]) -> list[str]:
    """Whether the figures that are to be small are.

    Example:
        >>> goals({"train_default_1": 1.25})
        ['train_default_1 is 1.25; at most 1.35: yes']
    """
    return [
        f"{key} is {figures[key]:.2f}; at most {limit}: {'yes' if figures[key] <= limit else 'no'}"
        for key, limit in GOALS.items()
        if key in figures
    ]


def _table(figures: Figures, names: Sequence[str], counts: Sequence[int]) -> Table:
    title = "times the plain model; medians (quartiles) of the rounds"
    table = titled(
        title, ["targets", "dendrites", *KINDS.values(), "parameters added"], ("targets",)
    )
    for name in names:
        for count in counts:
            key = f"{name}_{count}"
            cells = [
                cell(figures, f"{kind}_{key}", 2) if f"{kind}_{key}" in figures else ""
                for kind in KINDS
            ]
            targets = f"{name} ({SETS[name]})" if name != SETS[name] else name
            added = f"{figures[f'parameters_{key}']:,}"
            table.add_row(targets, str(count), *cells, added)
    return table


def _listed(text: str, known: Sequence[str], option: str) -> list[str]:
    found = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [part for part in found if part not in known]
    if unknown or not found:
        raise UserError(
            f"`{option}` should be among {', '.join(known)}. Found {(unknown or [text])[0]!r}."
        )
    return list(dict.fromkeys(found))


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    encoder: Annotated[
        str, typer.Option(help="minilm, tiny-phi, phi2-shape, or a folder with a BERT or a Phi.")
    ] = "tiny-phi",
    sets: Annotated[str, typer.Option(help=f"Comma-separated, of {', '.join(SETS)}.")] = ",".join(
        SETS
    ),
    counts: Annotated[str, typer.Option(help="Dendrites per target, of 0 to 3.")] = "0,1,2,3",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, the unit of the quartiles.")] = 15,
    steps: Annotated[int, typer.Option(min=1, help="Steps per round.")] = 5,
    batch_size: Annotated[int, typer.Option(min=1, help="Sentences per step.")] = 8,
    length: Annotated[int, typer.Option(min=1, help="Tokens per sentence.")] = 32,
    precision: Annotated[
        Literal["auto", "fp32", "bf16"], typer.Option(help="As `encoder.precision`.")
    ] = "auto",
    quick: Annotated[
        bool, typer.Option("--quick", help="Three rounds of two steps, at most one dendrite.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Of weights, the batch and the order of turns.")] = 0,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Time training and inference with dendrites, as Markdown."""
    with user_errors(), TemporaryDirectory() as folder:
        names = _listed(sets, list(SETS), "--sets")
        numbers = [int(count) for count in _listed(counts, ["0", "1", "2", "3"], "--counts")]
        if quick:
            rounds, steps = min(rounds, 3), min(steps, 2)
            numbers = [number for number in numbers if number <= 1]
        place = pick_device(device)
        options = Options(encoder, batch_size, length, rounds, steps, precision, str(place), seed)
        work = Work(options, Path(folder))
        figures: Figures = {
            **asdict(options),
            "hardware": hardware(place),
            "torch": torch.__version__,
        }
        print(
            f"{encoder}, LoRA r={work.encoder.lora.r} on "
            f"{', '.join(work.encoder.lora.targets)}, {computing(precision, place)}, "
            f"batch {batch_size} x {length} tokens; {rounds} rounds of {steps} steps; "
            f"{figures['hardware']}; "
            f"torch {figures['torch']}\n"
        )
        for name in names:
            figures |= measure(work, name, numbers)
            print(markdown([_table(figures, [name], numbers)]))
            if output is not None:
                write_atomically(output, json.dumps(figures, indent=2) + "\n")
        for line in goals(figures):
            print(f"- {line}")


if __name__ == "__main__":
    app()
