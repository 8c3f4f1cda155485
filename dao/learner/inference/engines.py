"""Ways to run a finished model: as it was trained, merged, in fewer bits, through onnxruntime."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

import torch

from dao.learner.inference.backends.int8 import check_int8, quantize_linear
from dao.learner.inference.backends.merging import check_mergeable, merge
from dao.learner.inference.backends.onnx import OnnxEngine, check_onnx, export_and_run
from dao.learner.inference.predictor import Predictor
from dao.learner.model.model import MultiTaskModel
from dao.learner.scoring.scoring import Engine

__all__ = ["ENGINES", "EngineName", "check_engine", "make_engine", "megabytes"]

EngineName = Literal["eager", "merged", "bf16", "int8", "onnx", "onnx-int8"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)


def check_engine(name: EngineName, model: MultiTaskModel) -> None:
    """See that an engine can be made of this model on this machine.

    Raises:
        UserError: it cannot, and why.
    """
    if name == "eager":
        return
    check_mergeable(model)
    if name == "int8":
        check_int8(model.device)
    if name.startswith("onnx"):
        check_onnx(model.device)


def make_engine(
    name: EngineName, predictor: Predictor[MultiTaskModel], folder: Path | None = None
) -> tuple[Predictor[MultiTaskModel] | Predictor[OnnxEngine], str]:
    """The same predictor on another engine; it takes over the model it is given.

    `eager` is the model as it was trained. `merged` has LoRA in its frozen weights, in fp32. `bf16`
    is that with an encoder of bf16 weights, `int8` with linear layers in dynamic int8, heads and
    pooling in fp32. `onnx` and `onnx-int8` are the merged model in onnxruntime.

    Args:
        name: one of `ENGINES`.
        predictor: a finished run, as `dao.learner.inference.predictor.reload` gives it.
        folder: for ONNX files, and the export of the same model that may be there already is used
            again; None for a temporary one.

    Returns:
        The predictor, and what was merged in words (empty for `eager`).

    Raises:
        UserError: as `check_engine`.
    """
    check_engine(name, predictor.model)
    if name == "eager":
        return predictor, ""
    model = predictor.model.eval()
    note = str(merge(model))
    if name.startswith("onnx"):
        with nullcontext(folder) if folder else TemporaryDirectory() as place:
            engine = export_and_run(model, Path(place), int8=name == "onnx-int8")
        known = predictor.most, predictor.embeddings
        pairs = predictor.pairs
        made = Predictor(engine, predictor.tokenizer, predictor.limit, None, *known, pairs=pairs)
        return made, note
    if name == "bf16":
        # Buffers keep their type: rotary frequencies in bf16 would shift positions.
        for parameter in model.encoder.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)
    if name == "int8":
        quantize_linear(model.encoder)
    return replace(predictor, model=model), note


def megabytes(engine: Engine) -> float:
    """Size of the weights: of the tensors in memory, or of the ONNX file."""
    if isinstance(engine, OnnxEngine):
        return engine.size / 1e6
    assert isinstance(engine, torch.nn.Module)
    tensors = {id(t): t for t in [*engine.parameters(), *engine.buffers()]}
    return sum(t.numel() * t.element_size() for t in tensors.values()) / 1e6
