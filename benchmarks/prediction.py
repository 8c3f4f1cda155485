"""How many rows per second a finished run predicts, beside a `transformers` pipeline.

python -m benchmarks.prediction RUN
python -m benchmarks.prediction RUN --rows 100000 --rounds 3 --engine bf16

The pipeline is `text-classification` with the same encoder in the same precision and at the same
token limit, with a head of the run's width: LoRA is merged into its weights, so that it has the
least to compute. Its batch size is the fastest of those tried on the same rows. Both predict every
row in the order of the file, in turns in one process, so that other load on the machine meets both
alike; a ratio compares the two of one round. Texts are words of the tokenizer, as long
as the sentences of Financial PhraseBank. Peak memory is that of the process before `dao` predicts
all rows, and after.
"""

from __future__ import annotations

import json
import random
import resource
import statistics
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from rich.table import Table
from transformers import BertForSequenceClassification, TextClassificationPipeline

from benchmarks.lengths import drawn
from benchmarks.timing import Stopwatch
from dao.errors import UserError
from dao.learner.basics.tables import titled
from dao.learner.console.errors import user_errors
from dao.learner.console.terminal import plain_console
from dao.learner.inference.backends.merging import merge
from dao.learner.inference.load import Model, load

SIZES = (1, 8, 16, 32, 64, 128)
"""Batch sizes that the pipeline is tried with."""
TRIED = 512
"""Rows that each is tried on."""

app = typer.Typer(add_completion=False)


@app.command()
def main(
    run: Annotated[str, typer.Argument(help="A finished run with a BERT encoder, such as MiniLM.")],
    rows: Annotated[int, typer.Option(min=1)] = 100_000,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    engine: Annotated[
        Literal["merged", "bf16"], typer.Option(help="LoRA merged, in fp32; or in bf16, as both.")
    ] = "merged",
    device: Annotated[str, typer.Option()] = "auto",
    quick: Annotated[
        bool, typer.Option("--quick", help="One round of 600 rows, batch sizes tried on 64.")
    ] = False,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Stream rows through both and print rows per second, their ratio and the peak of memory."""
    with user_errors():
        tried = TRIED
        if quick:
            rows, rounds, tried = min(rows, 600), 1, 64
        found = measure(run, rows, rounds, engine, device, tried)
        if output:
            output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        console = plain_console()
        console.print(_table(found))
        for line in _lines(found):
            console.print(line, highlight=False)


def measure(
    run: str,
    rows: int,
    rounds: int,
    engine: Literal["merged", "bf16"],
    device: str,
    tried: int = TRIED,
) -> dict[str, Any]:
    """The figures of both, in turns.

    Args:
        run: a finished run.
        rows: that both predict in each round.
        rounds: in which both take one turn.
        engine: what runs the model of `dao`.
        device: of both.
        tried: rows on which the pipeline's batch size is chosen.

    Returns:
        Seconds per round of each, the pipeline's batch size, and peaks of memory in MiB.

    Raises:
        UserError: the run's encoder is no BERT, or the run takes pairs of texts.
    """
    model = load(run, device=device, engine=engine)
    dtype = next(model.predictor.model.encoder.parameters()).dtype
    pipeline = _pipeline(load(run, device=device), dtype)
    texts = _texts(model)
    sizes = {size: _timed(model, partial(_piped, pipeline, texts, tried, size)) for size in SIZES}
    best = min(sizes, key=lambda size: sizes[size])
    _exhausted(model.predict_iter(_stream(texts, tried)))
    before = _peak()
    turns: dict[str, list[float]] = {"dao": [], "pipeline": []}
    after = before
    for number in range(rounds):
        ours = lambda: _exhausted(model.predict_iter(_stream(texts, rows)))  # noqa: E731
        turns["dao"].append(_timed(model, ours))
        after = _peak() if number == 0 else after
        turns["pipeline"].append(_timed(model, lambda: _piped(pipeline, texts, rows, best)))
    return {
        "rows": rows,
        "engine": engine,
        "precision": str(dtype).removeprefix("torch."),
        "batch_sizes": {size: tried / seconds for size, seconds in sizes.items()},
        "batch_size": best,
        "seconds": turns,
        "ratio": statistics.median(
            b / a for a, b in zip(turns["dao"], turns["pipeline"], strict=True)
        ),
        "memory": {"before": before, "after": after},
    }


def _pipeline(model: Model, dtype: torch.dtype) -> TextClassificationPipeline:
    """The run's encoder with LoRA merged, under a head of as many outputs as its tasks have."""
    if model.pairs or model.folder.config().dendrites.grown:
        raise UserError("The run should take single texts and have no dendrites. Found other.")
    trained = model.predictor.model
    merge(trained)
    base = trained.base
    if base.config.model_type != "bert":
        raise UserError(
            f"The encoder should be a BERT, such as MiniLM. Found {base.config.model_type}."
        )
    config = deepcopy(base.config)
    config.num_labels = sum(task.outputs for task in model.tasks.values())
    classifier = BertForSequenceClassification(config).to(model.predictor.model.device)
    weights = {n: t for n, t in base.state_dict().items() if "pooler" not in n}
    left = classifier.bert.load_state_dict(weights, strict=False)
    assert not left.unexpected_keys, left
    tokenizer = deepcopy(model.predictor.tokenizer)
    tokenizer.model_max_length = model.predictor.limit
    return TextClassificationPipeline(
        model=classifier.to(dtype).eval(), tokenizer=tokenizer,
        device=model.predictor.model.device, top_k=None,
    )  # fmt: skip


def _texts(model: Model) -> list[str]:
    """A few thousand sentences of the tokenizer's words, as long as those of the PhraseBank."""
    tokenizer = model.predictor.tokenizer
    words = [w for w in tokenizer.get_vocab() if w.isalpha() and w.isascii()]
    picked = random.Random(0).sample(sorted(words), min(len(words), 2000))
    lengths = [len(ids) for ids in drawn(4096, len(picked), model.predictor.limit, seed=0)]
    draw = random.Random(1)
    return [" ".join(draw.choices(picked, k=max(1, length - 2))) for length in lengths]


def _stream(texts: Sequence[str], rows: int) -> Iterator[str]:
    for number in range(rows):
        yield texts[number % len(texts)]


def _piped(
    pipeline: TextClassificationPipeline, texts: Sequence[str], rows: int, size: int
) -> None:
    options = {"truncation": True, "max_length": pipeline.tokenizer.model_max_length}
    with torch.no_grad():
        _exhausted(pipeline(_stream(texts, rows), batch_size=size, **options))


def _peak() -> float:
    """The most memory that this process has held so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def _exhausted(rows: Any) -> None:  # noqa: ANN401  (any iterator)
    for _ in rows:
        pass


def _timed(model: Model, work: Callable[[], None]) -> float:
    watch = Stopwatch(model.predictor.model.device)
    work()
    return watch.seconds()


def _table(found: dict[str, Any]) -> Table:
    heads = ("", "rows/s, median", "slowest", "fastest")
    table = titled(f"{found['rows']:,} rows, {found['precision']}", heads)
    for name, seconds in found["seconds"].items():
        rates = sorted(found["rows"] / second for second in seconds)
        label = f"dao, {found['engine']}" if name == "dao" else f"pipeline, {found['batch_size']}"
        table.add_row(
            label, *(f"{r:,.0f}" for r in (statistics.median(rates), rates[0], rates[-1]))
        )
    return table


def _lines(found: dict[str, Any]) -> list[str]:
    tried = ", ".join(f"{size}: {rate:,.0f}" for size, rate in found["batch_sizes"].items())
    memory = found["memory"]
    return [
        f"dao predicts {found['ratio']:.2f} x as many rows per second as the pipeline",
        f"rows/s of the pipeline by batch size: {tried}",
        f"peak memory: {memory['before']:,.0f} MiB before, {memory['after']:,.0f} MiB after",
    ]


if __name__ == "__main__":
    app()
