"""What a loss weighting costs per training step, relative to equal weights.

python -m benchmarks.weighting
python -m benchmarks.weighting --lora --arms dao_default,dao_rep,torchjd_upgrad --json result.json
python -m benchmarks.weighting --tasks 2,8,32,64 --no-lora --quick   # two minutes

A BERT encoder of random weights with a classification and a regression head, all of it trained, and
with LoRA on query and value; with `--tasks`, as many heads, of both kinds in turn. All arms train
in one process, from the same weights, on the same batches, with their own copy of the model and of
fused AdamW, whose step is part of what is timed.

A round is `--steps` steps of every arm, in turns of ten: in each turn all arms, in random order, so
that other load on the machine meets all alike. Arms whose steps all cost the same take the first
turn of each round only, and the fewer steps of it the more tasks there are. A ratio compares an arm
with the sum of the losses (`equal`) over the same turns: its median and quartiles over the rounds.
Where some steps cost more than others, as those at which `DAOLoss` measures norms, the median would
hide them; there the ratio is that of the total times from the first step on, and `..._steady` is
the median of the rounds after the first, each of which has one measurement of every period (with 50
steps a round). That is 500 steps of eight arms and 100 of each other; `--arms` chooses fewer.

Peak memory is that of the tensors alive at once, down to those inside of operations, while a model
is built, a plain step makes the optimizer's state, and the rule takes three steps. `DAOLoss`
measures norms at the first two, so the steps that need most are among them. Weights and the
optimizer's state are part of it; Python and its libraries are not, as they are in resident memory.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from rich.table import Table

from benchmarks.report import cell, computing, hardware, spread
from benchmarks.rules import RULES, Rule
from benchmarks.timing import peak_bytes, quartiles
from benchmarks.weighting_model import Arm, Model, Options
from dao.errors import UserError
from dao.learner.basics.tables import titled
from dao.learner.basics.turns import in_turns
from dao.learner.console.errors import user_errors
from dao.learner.console.report import markdown
from dao.learner.inference.predictor import pick_device

__all__ = ["compare", "measure", "peak", "time_turns"]

Figures = dict[str, Any]
REFERENCE = "equal"
TURN = 10
MANY_ARMS = "equal_again,dao_default,dao_untapped,dao_rep,dao_paper"
GOALS = {"dao_default": 1.05, "dao_untapped": 1.05, "dao_rep": 1.03}
PEAK_GOAL = 1.1
ENOUGH = 500  # steps over which the goals are meant


def measure(options: Options, names: Sequence[str], *, lora: bool) -> Figures:
    """Time the rules and take their peak memory; flat figures.

    Args:
        options: the work.
        names: keys of `RULES` that can be made here, with `equal` among them.
        lora: LoRA on query and value, else all parameters are trained.
    """
    arms = {name: Arm(options, RULES[name], lora=lora) for name in names}
    figures: Figures = {"trained": sum(p.numel() for p in arms[REFERENCE].model.parts.trainable)}
    seconds = time_turns(arms, options)
    del arms
    peaks = {name: peak(options, RULES[name], lora=lora) for name in names}
    for name in names:
        figures |= compare(name, seconds[name], seconds[REFERENCE])
        figures[f"{name}_peak_mib"] = peaks[name] / 2**20
        figures[f"{name}_peak_ratio"] = peaks[name] / peaks[REFERENCE]
    return figures


def time_turns(arms: Mapping[str, Arm], options: Options) -> dict[str, list[list[float]]]:
    """Seconds of each arm's steps, by round; every step has the mean of its turn."""
    generator = random.Random(options.seed)
    per_round = len(range(0, options.steps, TURN))

    def taking(number: int, names: Sequence[str]) -> list[str]:
        first = number % per_round == 0
        chosen = [name for name in names if first or _whole(name)]
        return generator.sample(chosen, len(chosen))

    def runner(name: str) -> Callable[[range], float]:
        return lambda turn: arms[name].run(_steps(name, turn, options.tasks))

    turns = list(_turns(options))
    found: dict[str, list[list[float]]] = {n: [[] for _ in range(options.rounds)] for n in arms}
    told = _told(turns, per_round, options.rounds)
    for number, name, seconds in in_turns({n: runner(n) for n in arms}, told, taking):
        count = len(_steps(name, turns[number], options.tasks))
        found[name][number // per_round] += [seconds / count] * count
    return found


def _turns(options: Options) -> Iterator[range]:
    """The steps of every turn."""
    for begin in range(0, options.rounds * options.steps, options.steps):
        end = begin + options.steps
        yield from (range(first, min(first + TURN, end)) for first in range(begin, end, TURN))


def _told(turns: Sequence[range], per_round: int, rounds: int) -> Iterator[range]:
    """The same, and a line on stderr as each round begins."""
    for number, turn in enumerate(turns):
        if number % per_round == 0:
            print(f"round {number // per_round + 1} of {rounds}", file=sys.stderr)
        yield turn


def _whole(name: str) -> bool:
    """Whether an arm takes every turn, with all of its steps."""
    return name == REFERENCE or RULES[name].varies


def _steps(name: str, turn: range, tasks: int) -> range:
    """The steps of a turn that an arm takes: fewer where all cost the same, and much."""
    return turn if _whole(name) else turn[: max(1, 2 * TURN // tasks)]


def compare(
    name: str, rounds: Sequence[Sequence[float]], reference: Sequence[Sequence[float]]
) -> Figures:
    """Milliseconds per step, and the ratio to the reference over the same steps.

    Args:
        name: key of `RULES`.
        rounds: seconds of its steps, by round.
        reference: those of `equal`; more steps in a round, if the rule takes only the first turn.
    """
    own = [sum(steps) / len(steps) for steps in rounds]
    other = [
        sum(steps[: len(mine)]) / len(mine) for steps, mine in zip(reference, rounds, strict=True)
    ]
    ratios = [a / b for a, b in zip(own, other, strict=True)]
    figures = {**spread(f"{name}_ms", [1000 * value for value in own]), **spread(name, ratios)}
    if RULES[name].varies:
        figures[name] = sum(own) / sum(other)
        figures[f"{name}_ms"] = 1000 * sum(own) / len(own)
        figures[f"{name}_steady"] = quartiles(ratios[1:] or ratios)[1]
    return figures


def peak(options: Options, rule: Rule, *, lora: bool) -> int:
    """Most bytes alive while an arm is made and takes three steps with its rule."""
    return peak_bytes(
        lambda: Arm(options, rule, lora=lora).run(range(3)), torch.device(options.device)
    )


def _chosen(arms: str) -> list[str]:
    names = arms.split(",") if arms else list(RULES)
    unknown = [name for name in names if name not in RULES]
    if unknown:
        raise UserError(f"`--arms` should be among {', '.join(RULES)}. Found {unknown[0]!r}.")
    return list(dict.fromkeys([REFERENCE, *names]))


def _counts(tasks: str) -> list[int]:
    parts = [part.strip() for part in tasks.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise UserError(f"`--tasks` should be numbers from 1 on, with commas. Found {tasks!r}.")
    return [int(part) for part in dict.fromkeys(parts)]


def _available(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those whose libraries are installed; and a line for each library, or rule, that is not."""
    tiny = Model(Options(layers=1, width=8, length=2), lora=False).parts
    found, notes = [], []
    for name in names:
        try:
            RULES[name].make(tiny)
        except (ImportError, UserError) as error:
            notes.append(_left_out(name, error))
        else:
            found.append(name)
    return found, list(dict.fromkeys(notes))


def _left_out(name: str, error: Exception) -> str:
    missing = (error.name or "") if isinstance(error, ModuleNotFoundError) else ""
    library = missing.partition(".")[0]
    if library in ("LibMTL", "torchjd"):
        return f"{library} is not installed: its rules are left out"
    return f"{name} is left out: {' '.join(str(error).split())}"


def _table(title: str, figures: Figures, names: Sequence[str], prefix: str) -> Table:
    columns = ("ms per step", "x equal", "x equal, steady", "peak MiB", "x equal's peak")
    table = titled(title, ["arm", *columns], words=("arm",))
    for name in names:
        key = prefix + name
        steady = figures.get(f"{key}_steady")
        table.add_row(
            f"{name}: {RULES[name].about}",
            cell(figures, f"{key}_ms", 1),
            cell(figures, key, 3),
            "" if steady is None else f"{steady:.3f}",
            f"{figures[f'{key}_peak_mib']:.1f}",
            f"{figures[f'{key}_peak_ratio']:.2f}",
        )
    return table


def _goals(figures: Figures, prefixes: Iterable[str]) -> list[str]:
    """Whether the figures that are to be small are."""
    limits = {
        prefix + name + end: limit
        for prefix in prefixes
        for name, time_limit in GOALS.items()
        for end, limit in (("", time_limit), ("_peak_ratio", PEAK_GOAL))
    }
    return [
        f"{key} is {figures[key]:.3f}; at most {limit}: {'yes' if figures[key] <= limit else 'no'}"
        for key, limit in limits.items()
        if key in figures
    ]


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    lora: Annotated[
        bool | None, typer.Option("--lora/--no-lora", help="One setting only. Default: both.")
    ] = None,
    arms: Annotated[
        str,
        typer.Option(
            help=f"Comma-separated, of {', '.join(RULES)}. Default: all; with several numbers of "
            f"tasks, {MANY_ARMS}."
        ),
    ] = "",
    tasks: Annotated[
        str, typer.Option(help="Numbers of tasks, comma-separated: a table for each.")
    ] = "2",
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Half the layers and sentences, two rounds of 20 steps, all parameters trained.",
        ),
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, the unit of the quartiles.")] = 10,
    steps: Annotated[int, typer.Option(min=1, help="Steps per round.")] = 50,
    batch_size: Annotated[int, typer.Option(min=1, help="Sentences per step.")] = 32,
    length: Annotated[int, typer.Option(min=1, help="Tokens per sentence.")] = 64,
    width: Annotated[int, typer.Option(min=1, help="Of the encoder's states.")] = 256,
    layers: Annotated[int, typer.Option(min=1, help="Of the encoder.")] = 4,
    precision: Annotated[
        Literal["auto", "fp32", "bf16"], typer.Option(help="As `encoder.precision`.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Of weights, batches and the order of turns.")] = 0,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Time one training step under each loss weighting, as Markdown."""
    with user_errors():
        counts = _counts(tasks)
        names, notes = _available(_chosen(arms or (MANY_ARMS if len(counts) > 1 else "")))
        place = pick_device(device)
        options = Options(
            layers, width, batch_size, length, rounds, steps, str(place), seed, precision
        )
        if quick:
            options, lora = _quick(options), bool(lora)
        figures = _compared(options, tasks, names, notes, lora)
        if output is not None:
            output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _compared(
    options: Options, tasks: str, names: Sequence[str], notes: Sequence[str], lora: bool | None
) -> Figures:
    """Print what the work is and a table for each number of tasks; flat figures."""
    figures: Figures = {
        **asdict(options),
        "tasks": tasks,
        "hardware": hardware(torch.device(options.device)),
        "torch": torch.__version__,
    }
    print(f"{_about(options, tasks)}; {figures['hardware']}; torch {figures['torch']}\n")
    for note in notes:
        print(f"{note}\n")
    counts = _counts(tasks)
    for count in counts:
        prefix = f"tasks{count}_" if len(counts) > 1 else ""
        figures |= _settings(replace(options, tasks=count), names, lora, prefix)
    return figures


def _quick(options: Options) -> Options:
    """The same with half the layers and sentences, and few steps."""
    return replace(
        options,
        layers=max(1, options.layers // 2),
        batch_size=max(1, options.batch_size // 2),
        rounds=min(options.rounds, 2),
        steps=min(options.steps, 20),
    )


def _about(options: Options, tasks: str) -> str:
    """The work in a line."""
    return (
        f"{computing(options.precision, torch.device(options.device))}; "
        f"{options.layers} layers of width {options.width}, a head for each of {tasks} tasks, "
        f"batch {options.batch_size} x {options.length} tokens; {options.rounds} rounds of "
        f"{options.steps} steps"
    )


def _settings(options: Options, names: Sequence[str], lora: bool | None, before: str) -> Figures:
    """Measure and print with all parameters, with LoRA, or both; flat figures."""
    figures: Figures = {}
    adapted_by = {before: False, f"{before}lora_": True}
    prefixes = [prefix for prefix, adapted in adapted_by.items() if lora in (None, adapted)]
    for prefix in prefixes:
        found = measure(options, names, lora=adapted_by[prefix])
        figures |= {prefix + key: value for key, value in found.items()}
        what = "LoRA on query and value" if adapted_by[prefix] else "all parameters trained"
        title = (
            f"{options.tasks} tasks, {what}, {found['trained']:,} parameters; "
            "medians (quartiles) of the rounds"
        )
        print(markdown([_table(title, figures, names, prefix)]))
    whole = options.rounds * options.steps
    print(
        f"Where steps differ in cost (those with a steady figure), the figures are means "
        f"over all {whole} steps, the first ones with their many measurements "
        f"included, and the quartiles those of rounds.\n"
    )
    if whole >= ENOUGH:
        for line in _goals(figures, prefixes):
            print(f"- {line}")
    return figures


if __name__ == "__main__":
    app()
