"""What is trained: the embedded MiniLM, and Phi models of random weights in a folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PhiConfig, PhiModel, PreTrainedConfig

from dao.errors import UserError
from dao.learner.encoder.find import EMBEDDED, locate
from dao.learner.encoder.load import load_config_of, load_tokenizer, pack_nf4, quantization
from dao.learner.settings.encoder_section import Encoder, Lora

__all__ = ["LORA", "Spec", "encoder_settings", "spec_of", "write_checkpoint"]

LORA: dict[str, dict[str, tuple[str, ...]]] = {
    "qv": {"bert": ("query", "value"), "phi": ("q_proj", "v_proj")},
    "attention": {
        "bert": ("query", "key", "value"),
        "phi": ("q_proj", "k_proj", "v_proj", "dense"),
    },
    "all": {
        "bert": ("query", "key", "value", "dense"),
        "phi": ("q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"),
    },
}
"""Layers with LoRA by `--lora` and architecture; `qv` is what the reference systems use."""

# The sentences' lengths are those of BERT's word pieces in every encoder, so the vocabulary of a
# Phi only has to be as large as BERT's; Phi-2's own is kept where its memory is what is measured.
TINY_PHI = PhiConfig(
    vocab_size=30592,
    hidden_size=256,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=1024,
    max_position_embeddings=2048,
)
PHI2 = PhiConfig(
    vocab_size=51200,
    hidden_size=2560,
    num_hidden_layers=32,
    num_attention_heads=32,
    intermediate_size=10240,
    max_position_embeddings=2048,
    partial_rotary_factor=0.4,
)


@dataclass(frozen=True)
class Spec:
    """An encoder by the name that `--encoder` takes.

    Attributes:
        shape: of a model to be made with random weights, or None for `name` as it is.
        name: what `encoder.name` is where no model has to be made.
    """

    shape: PreTrainedConfig | None = None
    name: str = ""
    quantize: Literal["none", "nf4"] = "none"
    rank: int = 8
    lora: str = "qv"


SPECS = {
    "minilm": Spec(name=EMBEDDED),
    "tiny-phi": Spec(TINY_PHI),
    "phi2-shape": Spec(PHI2, quantize="nf4", rank=16, lora="attention"),
}


def spec_of(name: str) -> Spec:
    """The encoder of that name, or a folder with a BERT or a Phi.

    Raises:
        UserError: it is neither.
    """
    if name in SPECS:
        return SPECS[name]
    if Path(name).is_dir():
        return Spec(name=name)
    raise UserError(
        f"`--encoder` should be {', '.join(SPECS)} or a folder with a model. Found {name!r}."
    )


def encoder_settings(spec: Spec, lora: str, precision: str, folder: Path) -> Encoder:
    """Settings of the learner for an encoder, which is written into `folder` if it has no files.

    Args:
        spec: as from `spec_of`.
        lora: a key of `LORA`, or empty for the encoder's own.
        precision: as `encoder.precision`.
        folder: for the files; empty or missing.

    Raises:
        UserError: there is no list of LoRA layers for the architecture.
    """
    name = spec.name
    if spec.shape is not None:
        write_checkpoint(spec.shape, folder, quantize=spec.quantize == "nf4")
        load_tokenizer(locate(EMBEDDED)).save_pretrained(folder)
        name = str(folder)
    kind = load_config_of(locate(name)).model_type
    choices = LORA[lora or spec.lora]
    if kind not in choices:
        raise UserError(f"`--encoder` should be a {' or a '.join(choices)}. Found a {kind}.")
    adapter = Lora(r=spec.rank, alpha=2 * spec.rank, targets=choices[kind])
    return Encoder.model_validate(
        {"name": name, "quantize": spec.quantize, "precision": precision, "lora": adapter}
    )


def write_checkpoint(config: PreTrainedConfig, folder: Path, *, quantize: bool) -> None:
    """Write a Phi of random weights, bf16 or NF4; one layer is drawn, and the others equal it.

    NF4 is written as such, because quantising while loading holds several times the memory.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config.architectures, config.dtype = [PhiModel.__name__], torch.bfloat16
    if quantize:
        config.quantization_config = quantization(torch.bfloat16).to_dict()
    config.save_pretrained(folder)
    with torch.device("meta"):
        layer = PhiModel(config).layers[0]
        shapes = {k: v.shape for k, v in PhiModel(config).state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    drawn = {k: _draw(k, v.shape, generator) for k, v in layer.state_dict().items()}
    if quantize:
        drawn = _quantised(drawn)
    rest = {k: v for k, v in shapes.items() if not k.startswith("layers.")}
    shards = [{k: _draw(k, shape, generator) for k, shape in rest.items()}]
    shards += [
        {f"layers.{i}.{k}": v for k, v in drawn.items()} for i in range(config.num_hidden_layers)
    ]
    index: dict[str, str] = {}
    for number, shard in enumerate(shards):
        file = f"model-{number:05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(shard, file)
    content = {"metadata": {}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content), encoding="utf-8")


def _draw(name: str, shape: Iterable[int], generator: torch.Generator) -> Tensor:
    tensor = torch.zeros(tuple(shape), dtype=torch.bfloat16)
    if name.endswith("bias"):
        return tensor
    if "layernorm" in name:
        return tensor + 1
    return tensor.normal_(std=0.02, generator=generator)


def _quantised(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        parts = pack_nf4(tensor) if tensor.dim() == 2 else {"": tensor}
        result |= {name + suffix: part for suffix, part in parts.items()}
    return result
