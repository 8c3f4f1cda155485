"""A finished run in 8 bits as a file, measured beside the run itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from dao.errors import UserError
from dao.learner.batches.token_types import pairs_about
from dao.learner.inference.engines import check_engine
from dao.learner.inference.predictor import Predictor
from dao.learner.inference.sizes import disk_bytes
from dao.learner.inference.speed import compare_engines
from dao.learner.kinds import Task
from dao.learner.model.model import MultiTaskModel
from dao.learner.storage.files import write_atomically
from dao.learner.storage.record import RunFolder, check_writable

__all__ = ["FILE", "quantize_run", "quantized_lines"]

FILE = "model-int8.onnx"
# Largest allowed difference as a share of the largest output: 8 bits cost a few hundredths, a
# wrong graph far more.
TOLERANCE = 0.1


def quantize_run(
    folder: RunFolder,
    predictor: Predictor[MultiTaskModel],
    tasks: Mapping[str, Task],
    rows: pd.DataFrame,
    place: Path,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Write the model in dynamic int8 (ONNX) and a description; what it costs and saves.

    Args:
        folder: of the finished run.
        predictor: its model, as it was trained.
        tasks: by name.
        rows: labelled, of the test split.
        place: an existing folder for `model-int8.onnx` and its description.
        tell: takes a line as each stage begins.

    Returns:
        As `compare_engines`, of the trained model, ONNX in fp32 and in int8; with `file`, and
        `relative_difference`, the largest of any output as a share of the largest output.

    Raises:
        UserError: a package is missing, the weights are quantised already, the place cannot be
            written, or the outputs are too far from the trained model's; nothing is written then.
    """
    path = place / FILE
    check_writable(path)
    check_engine("onnx-int8", predictor.model)
    with TemporaryDirectory() as temporary:
        made = Path(temporary)
        found = compare_engines(
            predictor, tasks, rows, tell,
            engines=("onnx", "onnx-int8"), fillings=False, folder=made, saved=disk_bytes(folder),
        )  # fmt: skip
        row = next(row for row in found["rows"] if row["engine"] == "onnx-int8")
        relative = row["largest_difference"] / found["largest_output"]
        if relative > TOLERANCE:
            raise UserError(
                f"The int8 model should give the trained model's outputs within {TOLERANCE:.0%} of "
                f"the largest. Found a difference of {relative:.1%}. Nothing was written; use "
                f"--engine bf16 or merged."
            )
        for file in sorted(made.glob(f"{FILE}*"), reverse=True):  # weights before their graph
            write_atomically(place / file.name, partial(shutil.copyfile, file))
    found |= {"file": str(path), "relative_difference": relative}
    about = {name: task.to_dict() for name, task in tasks.items()}
    description = {"tasks": about, "token_limit": predictor.limit, "pad_id": predictor.pad, **found}
    if predictor.pairs:
        names = folder.config().data.text
        description["pairs"] = pairs_about(predictor.tokenizer, names)
    text = json.dumps(description, indent=2, ensure_ascii=False)
    write_atomically(path.with_name(f"{FILE}.json"), text + "\n")
    return found


def quantized_lines(found: Mapping[str, Any]) -> Sequence[str]:
    """Size and difference in words."""
    rows = {row["engine"]: row for row in found["rows"]}
    before, after = rows["eager, sorted"]["disk_megabytes"], rows["onnx-int8"]["disk_megabytes"]
    return [
        f"{found['file']}: {after:.2f} MB on disk, {after / before:.2f} of the run's own "
        f"{before:.2f} MB",
        f"largest difference from the trained model: {found['relative_difference']:.1%} of the "
        f"largest output on {found['texts']} test texts (tolerance {TOLERANCE:.0%})",
    ]
