"""Running the last layer at the pooled tokens only changes nothing that is read of it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from dao.learner.encoder import pool, token_index
from dao.learner.last_layer import POSITIONWISE, at_tokens, positionwise
from dao.learner.model import build
from dao.learner.sections import Encoder

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


def test_parts_see_one_token_per_row(tiny_phi: Path):
    seen: dict[str, tuple[int, ...]] = {}
    model, _, _ = build(Encoder(name=str(tiny_phi)), {"cls": 3}, torch.device("cpu"), seed=0)
    for path in ("layers.0.mlp.fc1", "layers.1.mlp.fc1", "layers.1.self_attn.k_proj"):
        layer = model.base.get_submodule(path)
        layer.register_forward_hook(lambda _, x, __, path=path: seen.update({path: x[0].shape[:2]}))
    model(*batch(left=False))
    assert seen == {
        "layers.0.mlp.fc1": (4, 7),
        "layers.1.mlp.fc1": (4, 1),
        "layers.1.self_attn.k_proj": (4, 7),
    }


@pytest.mark.parametrize("options", [{"gradient_checkpointing": True}, {"pooling": "mean"}])
def test_where_all_tokens_are_needed(tiny_phi: Path, options: dict):
    cfg = Encoder(name=str(tiny_phi), **options)
    model, _, _ = build(cfg, {"cls": 3}, torch.device("cpu"), seed=0)
    assert model.narrowed == []


def test_an_unknown_architecture_runs_whole():
    class Unknown(nn.Module):
        config = AutoConfig.for_model("bert")
        config.model_type = "unknown"

    assert positionwise(Unknown()) == []
