"""The files of a model: the trained part of the encoder, the heads and the tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from dao.learner.model.experts import Experts, load_experts, save_experts
from dao.learner.model.model import MultiTaskModel
from dao.learner.model.router import check_varies
from dao.learner.storage.checkpoint import check_fit
from dao.learner.storage.files import read_tensors, replace_folder, write_tensors

__all__ = ["ADAPTER", "HEADS", "load_weights", "save_weights"]

ADAPTER = "adapter"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ENCODER = "encoder"
ENCODER_WEIGHTS = "model.safetensors"
HEADS = "heads.safetensors"
PROBES = 32  # tokens that the router of a loaded model has to see as different


def save_weights(
    model: MultiTaskModel, tokenizer: PreTrainedTokenizerBase, name: str, folder: Path
) -> None:
    """Write the heads, the tokenizer, and the trained part of the encoder into `folder`.

    The trained part is `adapter/`, a plain peft adapter, or `encoder/`, a whole Hugging Face model,
    or the files of `save_experts`.
    """
    if model.experts is not None:
        save_experts(model.encoder, model.experts, name, folder)
    elif model.adapted:
        # The name, not the place on this machine, is what makes the adapter loadable elsewhere.
        model.encoder.peft_config["default"].base_model_name_or_path = name
        replace_folder(folder / ADAPTER, lambda place: _save_adapter(model, place))
    else:
        replace_folder(folder / ENCODER, lambda place: _save_whole(model, tokenizer, place))
    write_tensors(folder / HEADS, model.heads.state_dict())
    replace_folder(folder / "tokenizer", tokenizer.save_pretrained)


def _save_whole(model: MultiTaskModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    model.base.save_pretrained(folder)
    tokenizer.save_pretrained(folder)  # so that the folder can be another run's encoder


def _save_adapter(model: MultiTaskModel, folder: Path) -> None:
    model.encoder.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)


def load_weights(model: MultiTaskModel, folder: Path) -> None:
    """Read what `save_weights` wrote; every tensor must be there and fit.

    Raises:
        UserError: a file or tensor is missing, superfluous, of another shape or not finite; or the
            input of the router is the same for all texts.
    """
    if model.experts is not None:
        load_experts(model.encoder, model.experts, folder)
    elif model.adapted:
        adapter = read_tensors(folder / ADAPTER / ADAPTER_WEIGHTS)
        expected = get_peft_model_state_dict(model.encoder, save_embedding_layers=False)
        _check_fit(adapter, expected, folder / ADAPTER)
        set_peft_model_state_dict(model.encoder, adapter)
    else:
        weights = read_tensors(folder / ENCODER / ENCODER_WEIGHTS)
        _check_fit(weights, _untied(model.base.state_dict(), weights), folder / ENCODER)
        model.base.load_state_dict(weights, strict=False)
    heads = read_tensors(folder / HEADS)
    _check_fit(heads, model.heads.state_dict(), folder / HEADS)
    model.heads.load_state_dict(heads)
    if model.experts is not None:
        _check_router_input(model, model.experts)


def _check_router_input(model: MultiTaskModel, experts: Experts) -> None:
    """See that the router can tell texts of different tokens apart."""
    words = model.base.get_input_embeddings().num_embeddings
    ids = torch.linspace(0, words - 1, min(PROBES, words), device=model.device).long()[:, None]
    check_varies(model.router_input(ids, torch.ones_like(ids)), experts.reads)


def _untied(state: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of `state`, each under one name: of tied weights, the name that was saved."""
    known = {state[name].data_ptr() for name in saved if name in state}
    return {n: t for n, t in state.items() if n in saved or t.data_ptr() not in known}


def _check_fit(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], place: Path) -> None:
    check_fit(found, {name: tuple(tensor.shape) for name, tensor in expected.items()}, place)
