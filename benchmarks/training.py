"""What a training step costs: Hugging Face Trainer and `dao.learner` on the same work.

python -m benchmarks.training
python -m benchmarks.training --encoder tiny-phi --data my.csv --json result.json
python -m benchmarks.training --encoder phi2-shape --device cuda --arms ALL
python -m benchmarks.training --encoder phi2-shape --arms ours_dao --rounds 1 --steps 1
    --batch-size 4

The arms train in one process, from the same weights, with the same LoRA, losses, optimizer
(AdamW, clipping at 1) and no dropout, and each trains every sentence once, in batches of its own
choice: `trainer_padded` is how the reference systems run, `trainer_best` is group_by_length with
`bf16=True` where that is fast (fp32 weights under autocast). Their bursts alternate, so that other
load on the machine meets all alike, and a ratio compares the bursts of one round. Tokens are real
ones, without padding. The encoders of random weights use MiniLM's tokenizer, so sentences have the
same lengths for all. Peak memory is that of a fresh process that trains one arm on its longest
batch, libraries included (on a GPU: what torch allocated).
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import torch
import typer

from benchmarks.arms import ARMS, DEFAULT
from benchmarks.flops import step_flops
from benchmarks.ours import Ours
from benchmarks.report import hardware, lines, speeds, tables
from benchmarks.timing import Arm, interleave, matmul_peak, peak_mib
from benchmarks.work import Options, Work, prepare
from dao.errors import UserError
from dao.learner.console.errors import user_errors
from dao.learner.console.report import WIDE, markdown
from dao.learner.console.terminal import plain_console
from dao.learner.encoder.load import precision
from dao.learner.inference.predictor import pick_device

__all__ = ["measure"]

Figures = dict[str, Any]
COMPARED = "trainer_padded"  # whose losses the others' are compared with


def measure(
    options: Options, names: tuple[str, ...] = DEFAULT, *, memory: bool = True
) -> tuple[Figures, dict[str, str]]:
    """Run the arms; flat figures, and what each arm is.

    Args:
        options: the work.
        names: keys of `ARMS`.
        memory: also train each arm in a process of its own, for its peak.

    Raises:
        UserError: an option cannot be used.
    """
    with TemporaryDirectory() as folder:
        work = prepare(options, Path(folder))
        figures = _facts(work)
        if memory:
            figures |= _peaks(work, names)
        arms = {name: ARMS[name](work) for name in names}
        figures |= _losses(work, arms)
        for arm in arms.values():
            arm.run(arm.order()[:2])
        figures |= speeds(work, interleave(arms, options.rounds, options.seed))
        ours = {n: a for n, a in arms.items() if isinstance(a, Ours) and not a.half}
        if ours:
            figures |= _anatomy(work, ours, figures)
    return figures, {name: arm.about for name, arm in arms.items()}


def _facts(work: Work) -> Figures:
    dtype = precision(work.options.precision, work.device)
    libraries = ("torch", "transformers", "peft")
    return {
        **{key: value for key, value in asdict(work.options).items() if key != "data"},
        "lora": f"{', '.join(work.encoder.lora.targets)} with r={work.encoder.lora.r}",
        "precision": "bf16" if dtype == torch.bfloat16 else "fp32",
        "hardware": hardware(work.device),
        "rows": len(work.examples),
        "tokens": sum(work.examples.lengths),
        **{name: importlib.metadata.version(name) for name in libraries},
    }


def _peaks(work: Work, names: tuple[str, ...]) -> Figures:
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        peaks = {f"{name}_peak_mib": pool.submit(_peak, work, name).result() for name in names}
    return {**peaks, **({"peak_mib": peaks["ours_peak_mib"]} if "ours" in names else {})}


def _peak(work: Work, name: str) -> float:
    ARMS[name](work).run([work.longest, work.longest])
    return peak_mib(work.device)


def _losses(work: Work, arms: Mapping[str, Arm]) -> Figures:
    """Relative to the plain fp32 arm, the worst of three batches, before anything is trained."""
    if COMPARED not in arms:
        return {}
    batches = [*arms[COMPARED].order()[:2], work.longest]
    exact = [arms[COMPARED].loss(rows) for rows in batches]
    found: Figures = {}
    same = (n for n in arms if n != COMPARED and not n.startswith("ours_half"))
    for name in same:
        pairs = zip((arms[name].loss(rows) for rows in batches), exact, strict=True)
        found[f"{name}_loss_difference"] = max(abs(a - b) / b for a, b in pairs)
    if "ours" in arms:
        found["loss_difference"] = found["ours_loss_difference"]
    return found


def _anatomy(work: Work, ours: Mapping[str, Ours], figures: Figures) -> Figures:
    name = "ours" if "ours" in ours else next(iter(ours))
    arm = ours[name]
    batches = arm.order()[:: work.options.rounds]
    stages = {f"stage_{k.replace(' ', '_')}_ms": v for k, v in arm.stages(batches).items()}
    per_token = step_flops(work.encoder, work.examples.lengths) / figures["tokens"]
    achieved = per_token * figures[f"{name}_tokens_per_s"]
    peak = matmul_peak(work.device, arm.model.compute)
    return {
        "stages_of": name,
        **stages,
        "model_tflops": achieved / 1e12,
        "matmul_tflops": peak / 1e12,
        "share_of_peak": achieved / peak,
    }


def _chosen(arms: str) -> tuple[str, ...]:
    names = DEFAULT if not arms else tuple(ARMS) if arms == "ALL" else tuple(arms.split(","))
    unknown = [name for name in names if name not in ARMS]
    if unknown:
        raise UserError(f"`--arms` should be among {', '.join(ARMS)}. Found {unknown[0]!r}.")
    return names


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    encoder: Annotated[
        str, typer.Option(help="minilm, tiny-phi, phi2-shape, or a folder with a BERT or a Phi.")
    ] = "minilm",
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "cpu",
    rounds: Annotated[int, typer.Option(min=1, help="Bursts per arm.")] = 10,
    steps: Annotated[int, typer.Option(min=1, help="Steps per burst.")] = 20,
    batch_size: Annotated[int, typer.Option(min=2, help="Sentences per step.")] = 32,
    lora: Annotated[
        Literal["qv", "attention", "all"] | None,
        typer.Option(help="Layers with LoRA, in all arms. Default: qv; phi2-shape attention."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="CSV with a column `text`. Default: random, real lengths.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of sentences, labels, weights and order.")] = 0,
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        typer.Option(help="Of ours and trainer_best. Default: what the hardware is fast at."),
    ] = "auto",
    arms: Annotated[
        str, typer.Option(help=f"Comma-separated, of {', '.join(ARMS)}, or ALL.")
    ] = ",".join(DEFAULT),
    memory: Annotated[bool, typer.Option(help="Measure peak memory, each arm on its own.")] = True,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two bursts of four steps, no peak memory.")
    ] = False,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    style: Annotated[
        Literal["terminal", "markdown", "json"], typer.Option("--format")
    ] = "terminal",
) -> None:
    """Compare the training step of `dao.learner` with Hugging Face Trainer."""
    with user_errors():
        names = _chosen(arms)
        place = str(pick_device(device))
        if quick:
            rounds, steps, memory = min(rounds, 2), min(steps, 4), False
        options = Options(
            encoder, place, rounds, steps, batch_size, lora or "", data, seed, precision
        )
        figures, about = measure(options, names, memory=memory)
    if output is not None:
        output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    _show(figures, about, style)


def _show(figures: Figures, about: Mapping[str, str], style: str) -> None:
    if style == "json":
        print(json.dumps(figures, indent=2))
    elif style == "markdown":
        print("\n\n".join([*lines(figures), markdown(tables(figures, about))]))
    else:
        console = plain_console(width=WIDE)
        for line in lines(figures):
            console.print(line, highlight=False, soft_wrap=True)
        for table in tables(figures, about):
            console.print(table)


if __name__ == "__main__":
    app()
