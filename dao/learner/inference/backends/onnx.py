"""The model as an ONNX file, and onnxruntime to run it (extra `onnx`)."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dao.errors import UserError
from dao.learner.basics.program import install
from dao.learner.model.model import MultiTaskModel

__all__ = ["OnnxEngine", "check_onnx", "export", "export_and_run", "quantize"]

INPUTS = ("input_ids", "attention_mask")
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
# A protobuf ends at 2 GiB; larger weights go into a file of their own beside it.
LARGEST_FILE = 1_900_000_000
# Narrower matrices (LoRA, heads) stay fp32: there is nothing to save in them.
NARROW = 32


class OnnxEngine(nn.Module):
    """An exported model behind the calling convention of `MultiTaskModel`; on the CPU."""

    device = torch.device("cpu")

    def __init__(self, path: Path) -> None:
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        self.heads = tuple(output.name for output in self.session.get_outputs())
        self.size = _size(path)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Token ids and mask (batch, length) to task -> outputs (batch, outputs of the task)."""
        values = (input_ids.numpy(), attention_mask.numpy())
        found = self.session.run(None, dict(zip(INPUTS, values, strict=True)))
        return {task: torch.from_numpy(x) for task, x in zip(self.heads, found, strict=True)}


class _InOrder(nn.Module):
    """Outputs as a tuple, which is what a graph has."""

    def __init__(self, model: MultiTaskModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model(input_ids, attention_mask).values())


def check_onnx(device: torch.device) -> None:
    """Refuse without the extra, or off the CPU.

    Raises:
        UserError: a package is missing, or the device is not a CPU.
    """
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise UserError(
            f"ONNX should have the packages {', '.join(PACKAGES)}. Found no {missing[0]}. "
            f"Install the extra: {install('onnx')}"
        )
    if device.type != "cpu":
        raise UserError(
            f"ONNX should be run on the CPU here. Found device {device.type}. Add --device cpu."
        )


def export(model: MultiTaskModel, path: Path) -> None:
    """Write a merged model, pooling and position ids included; any batch and length go in."""
    ids, mask = torch.ones(2, 4, dtype=torch.long), torch.ones(2, 4, dtype=torch.long)
    mask[1, 2:] = 0
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    axes = {0: "batch", 1: "length"}
    with _quiet(), torch.no_grad():
        torch.onnx.export(
            _InOrder(model).eval(),
            (ids, mask),
            path,
            input_names=list(INPUTS),
            output_names=list(model.heads),
            dynamic_shapes=(axes, axes),
            dynamo=True,
            external_data=size > LARGEST_FILE,
            verbose=False,
        )


def quantize(source: Path, target: Path) -> None:
    """Dynamic int8 of an exported file: weights per channel, embeddings too, heads not."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(source)
    # onnxruntime transposes weights of the heads and then trips over their recorded shapes.
    del model.graph.value_info[:]
    with _quiet():
        quantize_dynamic(
            model,
            target,
            op_types_to_quantize=["MatMul", "Gather"],
            per_channel=True,
            reduce_range=not torch.cpu._is_vnni_supported(),
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_narrow(model.graph),
            use_external_data_format=_size(source) > LARGEST_FILE,
        )


def _narrow(graph: Any) -> list[str]:  # noqa: ANN401  (protobuf)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    nodes = [node for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    narrow = [n.name for n in nodes if min(shapes.get(n.input[1], (NARROW,))) < NARROW]
    return narrow + [f"{name}_MatMul" for name in narrow]  # what onnxruntime makes of a Gemm


def _size(path: Path) -> int:
    """Bytes of a file and of the weights beside it."""
    return sum(f.stat().st_size for f in path.parent.glob(f"{path.name}*"))


def export_and_run(model: MultiTaskModel, folder: Path, *, int8: bool) -> OnnxEngine:
    """Export into `folder` and open the file; an export that is there already is used again."""
    path = folder / "model.onnx"
    if not path.exists():
        export(model, path)
    if int8:
        quantize(path, path := folder / "model-int8.onnx")
    return OnnxEngine(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporter and quantiser report their internals as warnings."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
