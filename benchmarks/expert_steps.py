"""What a training step with experts costs, relative to a step with one plain LoRA.

python -m benchmarks.expert_steps
python -m benchmarks.expert_steps --experts 3 --device cuda --json result.json

All models run in one process on the same batch, in turns of a few steps and in random order, so
that other load on the machine meets them alike. A ratio is the median over the rounds, with
quartiles. `peft` is LoRA as peft computes it, in three products; `folded` is how this project
computes a single LoRA; `wide` is that with as many trainable parameters as the experts. The step of
experts is that of stages 2 and 3, with the router and its losses; `alone` is that of stage 1.
Figures in JSON are flat: `experts_vs_peft` is the ratio, `experts_vs_peft_q1` its first quartile.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import torch
import typer
from torch import Tensor
from torch.nn import functional

from benchmarks.encoders import encoder_settings, spec_of
from benchmarks.report import cell, computing, hardware, spread
from benchmarks.timing import Stopwatch
from dao.learner.basics.tables import titled
from dao.learner.console.errors import user_errors
from dao.learner.console.report import WIDE
from dao.learner.console.terminal import plain_console
from dao.learner.dendrites.controls import arm_encoder
from dao.learner.inference.predictor import pick_device
from dao.learner.model.experts import train_only
from dao.learner.model.model import MultiTaskModel, build
from dao.learner.settings.config import Config
from dao.learner.settings.encoder_section import Encoder
from dao.learner.storage.files import write_atomically

__all__ = ["LIMIT", "Options", "measure"]

Figures = dict[str, Any]
OUTPUTS = {"cls": 3, "reg": 1}
REFERENCES = ("peft", "folded", "wide")
LIMIT = 1.9  # of `experts` to `peft`
ABOUT = {
    "peft": "one LoRA, peft's three products",
    "folded": "one LoRA, folded: the default of train.py",
    "wide": "one LoRA of the experts' size, folded",
    "experts": "experts, router on the embeddings",
    "states": "experts, router on the states of a pass without experts",
    "alone": "one expert alone (stage 1)",
}


@dataclass(frozen=True)
class Options:
    """What the command line says; see its help."""

    encoder: str = "tiny-phi"
    experts: int = 2
    batch_size: int = 32
    length: int = 32
    rounds: int = 15
    steps: int = 5
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: str = "cpu"
    seed: int = 0


def measure(options: Options) -> Figures:
    """Milliseconds of every step, and ratios round by round: flat figures with quartiles."""
    with TemporaryDirectory() as folder:
        spec = spec_of(options.encoder)
        encoder = encoder_settings(spec, "attention", options.precision, Path(folder) / "encoder")
        steps = {name: _step(options, model) for name, model in _models(options, encoder).items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    generator, device = random.Random(options.seed), torch.device(options.device)
    for _ in range(options.rounds):
        for name in generator.sample(list(steps), len(steps)):
            steps[name]()
            watch = Stopwatch(device)
            for _ in range(options.steps):
                steps[name]()
            seconds[name].append(watch.seconds() / options.steps)
    figures: Figures = {**asdict(options), "hardware": hardware(device)}
    for name, values in seconds.items():
        figures |= spread(f"{name}_ms", [1e3 * value for value in values])
        for reference in REFERENCES:
            pairs = zip(values, seconds[reference], strict=True)
            figures |= spread(f"{name}_vs_{reference}", [a / b for a, b in pairs])
    return figures


def _models(options: Options, encoder: Encoder) -> dict[str, MultiTaskModel]:
    names = [f"domain{number}" for number in range(options.experts)]
    device = torch.device(options.device)
    apart = encoder.model_copy(update={"lora": encoder.lora.model_copy(update={"folded": False})})

    def settings(**more: str) -> Config:
        experts = {"names": names, **more}
        return Config.model_validate({"encoder": encoder.model_dump(), "experts": experts})

    def made(cfg: Encoder, experts: Any = None) -> MultiTaskModel:  # noqa: ANN401
        return build(cfg, OUTPUTS, device, options.seed, experts)[0]

    models = {
        "peft": made(apart),
        "folded": made(encoder),
        "wide": made(arm_encoder(settings(control="single"), OUTPUTS)),
        "experts": made(encoder, settings().experts),
        "states": made(encoder, settings(router="states").experts),
        "alone": made(encoder, settings().experts),
    }
    alone = models["alone"]
    assert alone.experts is not None
    alone.experts.alone = names[0]
    train_only(alone.encoder, names[:1], alone.experts, router=False)
    return models


def _step(options: Options, model: MultiTaskModel) -> Callable[[], None]:
    """A function that trains the model on one batch once."""
    device = torch.device(options.device)
    generator = torch.Generator().manual_seed(options.seed)
    shape = (options.batch_size, options.length)
    words = int(model.base.config.vocab_size)
    ids = torch.randint(words, shape, generator=generator).to(device)
    mask = torch.ones_like(ids)
    classes = torch.randint(3, shape[:1], generator=generator).to(device)
    scores = torch.randn(shape[:1], generator=generator).to(device)
    domains = torch.randint(options.experts, shape[:1], generator=generator).to(device)
    training = [p for p in model.parameters() if p.requires_grad]
    updates = torch.optim.AdamW(training, fused=True)
    model.train()

    def step() -> None:
        outputs: Mapping[str, Tensor] = model(ids, mask)
        loss = functional.cross_entropy(outputs["cls"], classes)
        loss = loss + functional.mse_loss(outputs["reg"][:, 0], scores)
        torch.autograd.backward(loss)
        if model.experts is not None and model.experts.alone is None:
            found = model.experts.loss(domains)
            torch.autograd.backward(1.5 * found.domain + 0.05 * found.balance)
        updates.step()
        updates.zero_grad()

    return step


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    encoder: Annotated[
        str, typer.Option(help="minilm, tiny-phi (4 layers of 256), or a folder.")
    ] = "tiny-phi",
    experts: Annotated[int, typer.Option(min=2)] = 2,
    batch_size: Annotated[int, typer.Option(min=2, help="Texts per step.")] = 32,
    length: Annotated[int, typer.Option(min=2, help="Tokens per text.")] = 32,
    rounds: Annotated[int, typer.Option(min=1)] = 15,
    steps: Annotated[int, typer.Option(min=1, help="Of each model in a round.")] = 5,
    precision: Annotated[
        Literal["auto", "fp32", "bf16"], typer.Option(help="As `encoder.precision`.")
    ] = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="Three rounds of two steps.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "cpu",
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Compare a training step with experts with one of a single LoRA."""
    with user_errors():
        place = str(pick_device(device))
        if quick:
            rounds, steps = min(rounds, 3), min(steps, 2)
        options = Options(encoder, experts, batch_size, length, rounds, steps, precision, place)
        figures = measure(options)
        if output is not None:
            write_atomically(output, json.dumps(figures, indent=2) + "\n")
    console = plain_console(width=WIDE)
    title = "a training step; medians (quartiles) of the rounds"
    table = titled(title, ["", "ms", *(f"x {reference}" for reference in REFERENCES)])
    for name, text in ABOUT.items():
        ratios = (cell(figures, f"{name}_vs_{reference}", 2) for reference in REFERENCES)
        table.add_row(f"{name}: {text}", cell(figures, f"{name}_ms", 1), *ratios)
    console.print(table)
    ratio = figures["experts_vs_peft"]
    met = "yes" if ratio <= LIMIT else "no"
    compute = computing(precision, torch.device(place))
    console.print(f"{figures['hardware']}; {compute}", highlight=False)
    console.print(f"experts are {ratio:.2f} x peft; at most {LIMIT}: {met}", highlight=False)


if __name__ == "__main__":
    app()
