"""A finished run as an ONNX file with a description beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from torch import Tensor

from dao.errors import UserError
from dao.learner.basics.pairs import join
from dao.learner.basics.spreadsheets import unguarded
from dao.learner.batches.token_types import pairs_about
from dao.learner.inference.backends.merging import merge
from dao.learner.inference.backends.onnx import INPUTS, OnnxEngine, export
from dao.learner.inference.engines import check_engine
from dao.learner.inference.predictor import Predictor
from dao.learner.kinds import Task
from dao.learner.model.model import MultiTaskModel
from dao.learner.storage.files import sync, write_atomically
from dao.learner.storage.record import RunFolder, check_writable

__all__ = ["export_run", "write_onnx"]

# Largest allowed relative difference: another order of summation in fp32 gives far less, a wrong
# graph far more.
TOLERANCE = 1e-3
TEXTS = 32


def export_run(
    folder: RunFolder,
    predictor: Predictor[MultiTaskModel],
    tasks: Mapping[str, Task],
    path: Path,
) -> list[str]:
    """Write the model of a finished run, compared on its first test texts; what was done."""
    cfg = folder.config()
    predictions = pd.read_csv(folder.path / "predictions.csv", keep_default_na=False)
    encoder = folder.read("metrics.json", "provenance")["provenance"]["encoder"]["name"]
    about: dict[str, Any] = {"arm": cfg.arm, "seed": cfg.seed, "encoder": encoder}
    texts, *others = (
        [unguarded(str(text)) for text in predictions[name].tolist()[:TEXTS]]
        for name in ("text", *(["text_pair"] if predictor.pairs else []))
    )
    if others:
        about["pairs"] = pairs_about(predictor.tokenizer, cfg.data.text)
        texts = list(map(join, texts, others[0]))
    done = write_onnx(predictor, tasks, texts, path, about)
    return [
        f"{path}: {', '.join(done['inputs'])} (batch, length) to {', '.join(done['outputs'])}; "
        f"{path.name + '.json'} describes them; the tokenizer is in "
        f"{folder.path / 'tokenizer'}",
        done["merged"],
        f"largest difference from the trained model on {len(texts)} test texts: "
        f"{done['largest_difference']:.1e}",
    ]


def write_onnx(
    predictor: Predictor[MultiTaskModel],
    tasks: Mapping[str, Task],
    texts: Sequence[str],
    path: Path,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Write `path` (.onnx) and its description (.onnx.json), each whole or not at all.

    The model is merged, in fp32, and consumed. The file is run on `texts` before it gets its name.

    Args:
        predictor: a finished run, as it was trained.
        tasks: by name, in the order of the outputs.
        texts: to compare outputs on.
        path: where to; what is there is replaced.
        about: further entries for the description.

    Returns:
        The description.

    Raises:
        UserError: a package is missing, the weights are quantised, the place cannot be written, or
            the file does not give the model's outputs.
    """
    if path.suffix != ".onnx":
        raise UserError(
            f"The export should be a file named *.onnx. Found {path.name!r}. Rename it."
        )
    check_writable(path)
    check_engine("onnx", predictor.model)
    trained = predictor(texts)
    merged = str(merge(predictor.model))
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
        temporary = Path(folder) / path.name  # large weights are found by this name
        export(predictor.model, temporary)
        engine = OnnxEngine(temporary)
        limit, pairs = predictor.limit, predictor.pairs
        found = Predictor(engine, predictor.tokenizer, limit, pairs=pairs)(texts)
        if (error := _difference(found, predictor(texts))) > TOLERANCE:
            raise UserError(
                f"The exported file should give the model's outputs within {TOLERANCE}. Found a "
                f"difference of {error:.1e}. Nothing was written; use another onnxruntime."
            )
        description = {
            **about,
            "inputs": INPUTS,
            "outputs": {name: task.outputs for name, task in tasks.items()},
            "tasks": {name: task.to_dict() for name, task in tasks.items()},
            "token_limit": predictor.limit,
            "pad_id": predictor.pad,
            "merged": merged,
            "largest_difference": _difference(found, trained),
            "texts_compared": len(texts),
        }
        for file in sorted(Path(folder).iterdir(), reverse=True):  # weights before their graph
            sync(file)
            os.replace(file, path.parent / file.name)
    text = json.dumps(description, indent=2, ensure_ascii=False)
    write_atomically(path.with_name(path.name + ".json"), text + "\n")
    return description


def _difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    return max(float((one[task] - other[task]).abs().max()) for task in one)
