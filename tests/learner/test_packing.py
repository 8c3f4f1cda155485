"""Packing: lines within their limit, rows as if each were alone, for outputs and gradients."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dao.errors import UserError
from dao.learner.batches.batching import Batch, Examples, collate
from dao.learner.batches.packing import (
    Segments,
    first_fit,
    places,
    positions,
    separating_mask,
    unpack,
)
from dao.learner.encoder.pooling import pool
from dao.learner.model.model import MultiTaskModel, build
from dao.learner.model.packing_check import check_packing
from dao.learner.settings.config import load_config

CPU = torch.device("cpu")
OUTPUTS = {"cls": 3, "reg": 1}
LIMIT = 40
LENGTHS = [1, LIMIT, *torch.randint(1, 20, (30,), generator=torch.Generator().manual_seed(1))]
ROWS = [
    torch.randint(3, 60, (int(n),), generator=torch.Generator().manual_seed(i)).tolist()
    for i, n in enumerate(LENGTHS)
]
PACKED = torch.tensor([[2, 2, 2, 1], [3, 3, 0, 0]])


def test_first_fit_by_hand():
    # 7 opens a line, 6 does not fit beside it, 3 does, 3 goes beside 6, 1 fills the second line.
    assert first_fit([3, 7, 1, 6, 3], 10) == [[1, 0], [3, 4, 2]]
    assert first_fit([4, 4, 4], 4) == [[0], [1], [2]]


def test_lines_keep_their_limit_and_hold_every_row_once():
    lines = first_fit([len(row) for row in ROWS], LIMIT)
    assert sorted(row for line in lines for row in line) == list(range(32))
    filled = [sum(len(ROWS[row]) for row in line) for line in lines]
    assert max(filled) <= LIMIT
    assert sum(filled) / (LIMIT * len(lines)) > 0.9


def test_positions_and_masks_by_hand():
    assert positions(PACKED).tolist() == [[0, 1, 2, 0], [0, 1, 0, 1]]
    both = separating_mask(PACKED, causal=False, additive=None)
    assert both.shape == (2, 1, 4, 4)
    assert both[0, 0].int().tolist() == [[1, 1, 1, 0]] * 3 + [[0, 0, 0, 1]]
    causal = separating_mask(PACKED, causal=True, additive=None)
    assert causal[0, 0].int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 1]]
    assert causal[1, 0].int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    added = separating_mask(PACKED, causal=True, additive=torch.bfloat16)
    assert added.dtype == torch.bfloat16
    assert (added == 0).equal(causal)
    assert added[~causal].unique().tolist() == [torch.finfo(torch.bfloat16).min]


def test_pooling_of_packed_rows_by_hand():
    where = torch.from_numpy(places(PACKED.numpy(), np.array([1, 3, 2])))
    assert where.tolist() == [[3, -1, -1], [0, 1, 2], [4, 5, -1]]
    hidden = torch.tensor([[[1.0], [2.0], [6.0], [5.0]], [[7.0], [9.0], [100.0], [100.0]]])
    states, mask = unpack(hidden, Segments(PACKED, where))
    assert mask.tolist() == [[1, 0, 0], [1, 1, 1], [1, 1, 0]]
    assert pool(states, mask, "mean").tolist() == [[5.0], [3.0], [8.0]]
    assert pool(states, mask, "last").tolist() == [[5.0], [6.0], [9.0]]
    assert pool(states, mask, "first").tolist() == [[5.0], [1.0], [7.0]]


def test_a_packed_batch_by_hand():
    examples = Examples([[5], [6, 7, 8], [9, 10]], {"reg": torch.tensor([1.0, 2.0, 3.0])})
    batch = collate(examples, (2, 0, 1), 0, CPU, line_limit=4)
    assert batch.input_ids.tolist() == [[6, 7, 8, 5], [9, 10, 0, 0]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch.segments.ids.tolist() == [[3, 3, 3, 2], [1, 1, 0, 0]]
    assert batch.targets["reg"].tolist() == [3.0, 1.0, 2.0]
    plain = collate(examples, (2, 0, 1), 0, CPU)
    assert (batch.digest, batch.tokens) == (plain.digest, plain.tokens)
    assert plain.segments is None


# -- models ------------------------------------------------------------------------------------


def make(folder: Path, attention: str = "eager", **settings: object) -> MultiTaskModel:
    """With weights far from their start, where adapters do nothing and attention hardly any."""
    cfg = load_config(overrides=[f"encoder.{k}={v}" for k, v in settings.items()]).encoder
    model = build(cfg.model_copy(update={"name": str(folder)}), OUTPUTS, CPU, seed=0)[0]
    model.encoder.get_base_model().set_attn_implementation(attention)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad or (name.endswith("weight") and parameter.ndim == 2):
                parameter.normal_(std=0.2, generator=generator)
    return model.train()


@pytest.fixture(params=["phi", "bert"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(f"tiny_{request.param}")


def forward(model: MultiTaskModel, batch: Batch) -> torch.Tensor:
    found = model(batch.input_ids, batch.attention_mask, segments=batch.segments)
    return torch.cat([found["cls"], found["reg"]], 1)


def gradients(model: MultiTaskModel, batch: Batch) -> dict[str, torch.Tensor]:
    model.zero_grad()
    forward(model, batch).square().sum().backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("pooling", ["mean", "last", "first"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("size", [1, 32])
def test_packed_rows_are_what_they_are_alone(folder: Path, attention: str, size: int, pooling: str):
    causal = "last" if pooling == "first" else pooling  # no setting, but pooling all the same
    model = make(folder, attention, precision="fp32", pooling=causal)
    model.pooling = pooling
    rows = [7] if size == 1 else range(32)
    plain, packed = (collate(Examples(ROWS, {}), rows, 0, CPU, limit) for limit in (None, LIMIT))
    if size > 1:
        assert len(packed.input_ids) < len(plain.input_ids)
    expected = forward(model, plain)
    assert size == 1 or expected.std(0).min() > 1e-2  # the rows differ
    torch.testing.assert_close(forward(model, packed), expected, rtol=1e-5, atol=1e-5)
    wanted, found = gradients(model, plain), gradients(model, packed)
    # The first token of a causal model sees itself alone: no gradient of queries, but rounding.
    rounding = 1e-6 * max(gradient.norm() for gradient in wanted.values())
    for name, gradient in wanted.items():
        assert gradient.norm() > 0 or pooling == "first", name
        assert (found[name] - gradient).norm() <= 1e-5 * gradient.norm() + rounding, name


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packing_never_leaks(folder: Path, attention: str):
    model = make(folder, attention, precision="fp32")
    changed = [*ROWS]
    changed[4] = [i % 50 + 5 for i in ROWS[4]]
    before, after = (
        collate(Examples(rows, {}), range(32), 0, CPU, LIMIT) for rows in (ROWS, changed)
    )
    assert before.segments.ids.equal(after.segments.ids)
    line = before.segments.ids[(before.segments.ids == 5).any(1)]
    assert len(line.unique()) > 2  # the changed row has company
    with torch.no_grad():
        one, other = forward(model, before), forward(model, after)
    others = torch.arange(32) != 4
    assert one[others].equal(other[others])
    assert not torch.isclose(one[4], other[4]).all()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_rows_loss_has_no_gradient_in_other_rows(folder: Path, attention: str):
    model = make(folder, attention, precision="fp32")
    caught = []
    embeddings = model.encoder.get_base_model().get_input_embeddings()
    embeddings.register_forward_hook(lambda _, __, out: caught.append(out.requires_grad_()))
    batch = collate(Examples(ROWS, {}), range(32), 0, CPU, LIMIT)
    forward(model, batch)[4].sum().backward()
    own = batch.segments.ids == 5
    assert caught[0].grad[own].abs().sum(-1).min() > 0
    assert caught[0].grad[~own].count_nonzero() == 0


def test_packing_in_bf16_stays_near_fp32(folder: Path):
    batch = collate(Examples(ROWS, {}), range(32), 0, CPU, LIMIT)
    exact, fast = (forward(make(folder, precision=p), batch) for p in ("fp32", "bf16"))
    assert (fast - exact).norm() < 0.05 * exact.norm()


def test_gradient_checkpointing_and_packing(tiny_phi: Path):
    batch = collate(Examples(ROWS, {}), range(32), 0, CPU, LIMIT)
    plain, saving = (
        gradients(make(tiny_phi, precision="fp32", gradient_checkpointing=c), batch)
        for c in (False, True)
    )
    torch.testing.assert_close(saving, plain)


# -- which encoders can ------------------------------------------------------------------------

SIZE = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 64, "pad_token_id": 1}  # fmt: skip
GPT2 = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
T5 = {"vocab_size": 64, "d_model": 32, "num_layers": 2, "num_heads": 4, "d_ff": 64, "d_kv": 8}
WINDOW = {**SIZE, "global_attn_every_n_layers": 3, "local_attention": 8}


def saved(kind: str, options: dict[str, object], tokenizer: Path, folder: Path) -> Path:
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    config = AutoConfig.for_model(kind, **options)
    for name in ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"):
        if getattr(config, name, None) is not None:
            setattr(config, name, 2)
    AutoModel.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        ("roberta", SIZE, "numbers its positions itself"),
        ("t5", T5, "numbers its positions itself"),
        ("modernbert", WINDOW, "gives other outputs"),
        ("modernbert", {**WINDOW, "local_attention": 80}, None),
        ("gpt2", GPT2, None),
    ],
)
def test_encoders_that_cannot_keep_rows_apart_are_refused(
    kind: str, options: dict[str, object], reason: str | None, tiny_bert: Path, tmp_path: Path
):
    model = make(saved(kind, options, tiny_bert, tmp_path), precision="fp32")
    if reason is None:
        check_packing(model, LIMIT)
    else:
        with pytest.raises(UserError, match=rf"`train\.packing`.*Found {kind}, which {reason}"):
            check_packing(model, LIMIT)


def test_the_check_sees_a_model_that_ignores_the_mask(tiny_bert: Path, tiny_phi: Path):
    for folder, causal in ((tiny_bert, True), (tiny_phi, False)):
        model = make(folder, precision="fp32")
        random = torch.get_rng_state()
        check_packing(model, LIMIT)
        assert model.training
        assert torch.get_rng_state().equal(random)
        model.causal = causal
        with pytest.raises(UserError, match="gives other outputs"):
            check_packing(model, LIMIT)
    model.encoder.get_base_model().config._attn_implementation = "flash_attention_2"
    with pytest.raises(UserError, match="computes attention by flash_attention_2"):
        check_packing(model, LIMIT)
