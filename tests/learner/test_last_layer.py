"""Running the last layer at the pooled tokens only changes nothing that is read of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedModel

from dao.learner.dendrites.dendritic import attach, has_lora
from dao.learner.encoder.pooling import pool, token_index
from dao.learner.model.last_layer import POSITIONWISE, at_tokens, positionwise
from dao.learner.model.model import MultiTaskModel, build
from dao.learner.settings.encoder_section import Encoder
from dao.learner.settings.experts_section import ExpertSettings

SIZES = {
    "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 64,
    "head_dim": 8, "pad_token_id": 0,
}  # fmt: skip
LENGTHS = (7, 3, 5, 1)


def make(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModel.from_config(AutoConfig.for_model(kind, **SIZES)).double().eval()


def batch(*, left: bool) -> tuple[Tensor, Tensor]:
    ids, mask = torch.zeros(2, len(LENGTHS), max(LENGTHS), dtype=torch.long).unbind()
    for row, length in enumerate(LENGTHS):
        place = slice(-length, None) if left else slice(length)
        ids[row, place] = torch.randint(3, 64, (length,))
        mask[row, place] = 1
    return ids, mask


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("how", ["first", "last"])
@pytest.mark.parametrize("kind", POSITIONWISE)
def test_every_architecture(kind: str, how: str, left: bool):
    model = make(kind)
    ids, mask = batch(left=left)
    direction = torch.randn(len(LENGTHS), 32, dtype=torch.double)

    def run() -> tuple[Tensor, Tensor, list[Tensor]]:
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
        pooled = pool(hidden, mask, how)
        parameters = [p for n, p in model.named_parameters() if "pooler" not in n]
        gradients = torch.autograd.grad((pooled * direction).sum(), parameters)
        return hidden, pooled, list(gradients)

    whole, expected, gradients = run()
    with at_tokens(model, positionwise(model), token_index(mask, how)):
        narrow, found, others = run()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(others, gradients, rtol=1e-10, atol=1e-12)
    elsewhere = mask.bool().clone()
    elsewhere[range(len(LENGTHS)), token_index(mask, how)] = False
    assert not torch.isclose(narrow, whole)[elsewhere].all(-1).any()  # it was not computed there
    again = run()[0]
    assert torch.equal(again, whole)  # and nothing is left behind


def seen_lengths(model: MultiTaskModel) -> dict[str, int]:
    """Tokens per row that parts of both layers of the tiny Phi see in a forward."""
    seen: dict[str, int] = {}
    for path in ("layers.0.mlp.fc1", "layers.1.mlp.fc1", "layers.1.self_attn.k_proj"):
        layer = model.base.get_submodule(path)
        layer.register_forward_hook(lambda _, x, __, path=path: seen.update({path: x[0].shape[1]}))
    model(*batch(left=False))
    return seen


def built(folder: Path, **options: Any) -> MultiTaskModel:
    cfg = Encoder(name=str(folder), precision="fp32", **options)
    return build(cfg, {"cls": 3}, torch.device("cpu"), seed=0)[0]


def test_training_sees_one_token_per_row(tiny_phi: Path):
    assert seen_lengths(built(tiny_phi).train()) == {
        "layers.0.mlp.fc1": 7,
        "layers.1.mlp.fc1": 1,
        "layers.1.self_attn.k_proj": 7,
    }


@pytest.mark.parametrize("options", [{"gradient_checkpointing": True}, {"pooling": "mean"}])
def test_where_all_tokens_are_needed(tiny_phi: Path, options: dict):
    assert set(seen_lengths(built(tiny_phi, **options).train()).values()) == {7}


def test_inference_runs_whole_layers(tiny_phi: Path):
    # Threads may share a model there, and forwards are replaced for all of them.
    assert set(seen_lengths(built(tiny_phi).eval()).values()) == {7}


def check_training_agrees(model: MultiTaskModel) -> None:
    """Gradients with the last layer at the pooled tokens are those with all of it."""
    torch.manual_seed(0)
    ids, mask = batch(left=True)
    parameters = [p for p in model.train().parameters() if p.requires_grad and p.numel()]
    for parameter in parameters:  # LoRA's B and the gates of dendrites start at zero
        parameter.data.add_(torch.randn_like(parameter), alpha=0.05)

    def gradients() -> list[Tensor]:
        return list(torch.autograd.grad(model(ids, mask)["cls"].square().sum(), parameters))

    assert model.at_pooled
    found = gradients()
    model.at_pooled = []
    torch.testing.assert_close(found, gradients(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"quantize": "nf4"},
        {"lora": {"targets": ["q_proj", "dense", "fc2"]}},
        {"lora": {"folded": False, "targets": ["v_proj", "fc1"]}},
        {"tune": "full"},
    ],
)
def test_the_learners_model(tiny_phi: Path, options: dict):
    check_training_agrees(built(tiny_phi, **options))


def test_experts(tiny_phi: Path):
    experts = ExpertSettings(names=("news", "social"), router="states")
    cfg = Encoder(name=str(tiny_phi), precision="fp32")
    check_training_agrees(build(cfg, {"cls": 3}, torch.device("cpu"), seed=0, experts=experts)[0])


@pytest.mark.parametrize("rank", [None, 2])
def test_dendrites(tiny_phi: Path, rank: int | None):
    model = built(tiny_phi, lora={"targets": ["q_proj", "dense"]})
    paths = [name for name, module in model.named_modules() if has_lora(module)]
    if rank is None:
        paths = [f"{path}.lora_B.default" for path in paths]
    dendrites = dict.fromkeys(paths, 2)
    attach(model, {"activation": "sigmoid", "dendrites": dendrites, "rank": rank})
    check_training_agrees(model)


@pytest.mark.parametrize("options", [{"model_type": "unknown"}, {"chunk_size_feed_forward": 2}])
def test_other_architectures_run_whole(options: dict):
    model = make("bert")
    vars(model.config).update(options)
    assert positionwise(model) == []
