"""Cached states of frozen layers: the same numbers, kept safely, and the layers do not run."""

import shutil
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from dao.errors import UserError
from dao.learner.batches.batching import Examples, collate
from dao.learner.batches.prefix_store import PrefixStates, StateFile
from dao.learner.model.model import MultiTaskModel, build
from dao.learner.model.prefix import cache_prefix
from dao.learner.scoring.scoring import predict
from dao.learner.settings.config import load_config

CPU = torch.device("cpu")
OUTPUTS = {"cls": 3, "reg": 1}
SIZE = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 40, "pad_token_id": 1}  # fmt: skip
OTHERS = {
    "roberta": SIZE,
    "mpnet": SIZE,
    "gpt2": {"vocab_size": 64, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 40},
    "distilbert": {"vocab_size": 64, "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 64,
                   "max_position_embeddings": 40},
    "modernbert": {**SIZE, "global_attn_every_n_layers": 2},
    "deberta-v2": SIZE,
    "t5": {"vocab_size": 64, "d_model": 32, "num_layers": 3, "num_heads": 4, "d_ff": 64, "d_kv": 8},
}  # fmt: skip


def make(folder: Path, *overrides: str, last: int = 1) -> MultiTaskModel:
    fixed = [f"encoder.name={folder}", f"encoder.lora.last_layers={last}", "encoder.precision=fp32"]
    cfg = load_config(overrides=[*fixed, *overrides]).encoder
    model = build(cfg, OUTPUTS, CPU, seed=0)[0]
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.shared_parameters():  # as fresh, B is zero and A gets no gradient
            parameter.normal_(std=0.3)
    return model


def texts(n: int = 40, seed: int = 0) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 30, (n,), generator=generator).tolist()
    return Examples([torch.randint(3, 64, (k,), generator=generator).tolist() for k in lengths], {})


def cached(
    model: MultiTaskModel, examples: Examples, folder: Path, notes: list[str] | None = None
) -> tuple[Examples, bool]:
    said = [] if notes is None else notes
    (found,), figures = cache_prefix(model, [examples], 0, folder, said.append)
    assert figures["rows"] == len(examples)
    return found, figures["warm"]


def step(
    model: MultiTaskModel, examples: Examples, rows: range
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and all gradients of the encoder."""
    batch = collate(examples, rows, 0, CPU)
    model.train().zero_grad()
    outputs = model(batch.input_ids, batch.attention_mask, prefix=batch.prefix)
    loss = outputs["cls"].square().mean() + outputs["reg"].exp().mean()
    loss.backward()
    gradients = [p.grad for p in model.shared_parameters()]
    assert all(g is not None and g.abs().max() > 0 for g in gradients)
    return loss.detach(), torch.cat([g.flatten() for g in gradients])


def assert_equal_steps(model: MultiTaskModel, plain: Examples, with_states: Examples) -> None:
    for rows in (range(1), range(7, 8), range(32)):
        loss, gradient = step(model, plain, rows)
        found, other = step(model, with_states, rows)
        assert abs(found - loss) <= 1e-5 * loss.abs()
        assert (other - gradient).norm() <= 1e-5 * gradient.norm()


@pytest.fixture(params=["phi", "bert"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(f"tiny_{request.param}")


@pytest.mark.parametrize("settings", ["", "gradient_checkpointing=true", "quantize=nf4"])
def test_loss_and_gradients_are_those_without_the_cache(
    folder: Path, tmp_path: Path, settings: str
):
    model = make(folder, *[f"encoder.{s}" for s in settings.split()])
    examples = texts()
    assert_equal_steps(model, examples, cached(model, examples, tmp_path)[0])


def test_evaluation_with_states_is_equal_to_the_bit(folder: Path, tmp_path: Path):
    model, examples = make(folder), texts(100)
    plain = predict(model, examples, 0)
    found = predict(model, cached(model, examples, tmp_path)[0], 0)
    assert all(found[task].equal(plain[task]) for task in OUTPUTS)


def test_bf16_keeps_its_own_states(folder: Path, tmp_path: Path):
    model, examples = make(folder, "encoder.precision=bf16"), texts()
    with_states, _ = cached(model, examples, tmp_path)
    plain, found = predict(model, examples, 0), predict(model, with_states, 0)
    assert all(found[task].equal(plain[task]) for task in OUTPUTS)


def test_the_frozen_layers_do_not_run(folder: Path, tmp_path: Path):
    model, examples = make(folder), texts()
    with_states, _ = cached(model, examples, tmp_path)
    calls: Counter[str] = Counter()
    names = [name for name, _ in model.named_modules()]
    for name, module in model.named_modules():
        if name.endswith((".0", ".1", "dense", "fc1", "k_proj.base_layer")):
            module.register_forward_hook(lambda *_, name=name: calls.update([name]))
    step(model, with_states, range(8))
    below = {n for n in calls if "layer.0." in n or "layers.0." in n}
    assert not below
    assert any("layer.1." in n or "layers.1." in n for n in calls)
    calls.clear()
    step(model, examples, range(8))
    assert any("layer.0." in n or "layers.0." in n for n in calls)
    assert [name for name, _ in model.named_modules()] == names


def test_states_are_read_where_nothing_has_changed(folder: Path, tmp_path: Path):
    examples, notes = texts(), []
    cold, warm = cached(make(folder), examples, tmp_path, notes)
    assert not warm
    again = make(folder)
    with torch.no_grad():
        for parameter in again.shared_parameters():  # above the boundary, so without effect
            parameter.zero_()
    found, warm = cached(again, examples, tmp_path, notes)
    assert warm
    assert found.prefix.states.equal(cold.prefix.states)
    assert "computing 40 rows" in notes[0]
    assert "computed in" in notes[1]
    assert "read from cache" in notes[2]
    assert len(notes) == 3
    assert len(list(tmp_path.glob("*.states"))) == 1
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.slow
def test_anything_that_the_states_depend_on_gives_another_file(
    tiny_phi: Path, tiny_bert: Path, tmp_path: Path
):
    examples = texts()
    assert not cached(make(tiny_phi), examples, tmp_path)[1]
    other = [list(row) for row in examples.ids]
    other[3][0] = 3 if other[3][0] != 3 else 4
    assert not cached(make(tiny_phi), replace(examples, ids=other), tmp_path)[1]
    assert not cached(make(tiny_phi), texts(39), tmp_path)[1]
    assert not cached(make(tiny_phi, "encoder.precision=bf16"), examples, tmp_path)[1]
    assert not cached(make(tiny_phi, "encoder.quantize=nf4"), examples, tmp_path)[1]
    assert not cached(make(tiny_bert), examples, tmp_path)[1]
    for part in ("layers.0.mlp.fc1.bias", "embed_tokens.weight"):
        model = make(tiny_phi)
        with torch.no_grad():
            model.encoder.get_base_model().get_parameter(part).view(-1)[5] += 1e-6
        assert not cached(model, examples, tmp_path)[1]
    assert cached(make(tiny_phi), examples, tmp_path)[1]
    assert len(list(tmp_path.glob("*.states"))) == 8


@pytest.mark.parametrize("damage", ["flip", "short", "empty"])
def test_a_damaged_file_is_computed_anew(tiny_bert: Path, tmp_path: Path, damage: str):
    model, examples, notes = make(tiny_bert), texts(), []
    expected = cached(model, examples, tmp_path)[0].prefix.states.clone()
    (file,) = tmp_path.glob("*.states")
    content = bytearray(file.read_bytes())
    content[1000] ^= 1
    file.write_bytes({"flip": content, "short": content[:-1], "empty": b""}[damage])
    file.with_suffix(".partial").write_bytes(b"left by a kill")
    found, warm = cached(model, examples, tmp_path, notes)
    assert not warm
    assert "in place of a damaged file" in notes[0]
    assert found.prefix.states.equal(expected)
    assert cached(model, examples, tmp_path)[1]


def test_too_little_disk_is_refused_before_the_work(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    free = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(UserError, match=r"`cache` should have room for.*Found 0 MiB free"):
        cached(make(tiny_bert), texts(), tmp_path)
    assert not list(tmp_path.glob("*.states"))


@pytest.mark.parametrize("kind", OTHERS)
def test_other_architectures_give_the_same_or_are_refused(
    kind: str, tiny_bert: Path, tmp_path: Path
):
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    config = AutoConfig.for_model(kind, **OTHERS[kind])
    for name in ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"):
        if getattr(config, name, None) is not None:
            setattr(config, name, 2)
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path)
    model, examples = make(tmp_path, last=1), texts()
    if kind == "t5":  # its first layer makes the position bias that all others use
        with pytest.raises(UserError, match="T5Stack is not one"):
            cached(model, examples, tmp_path)
        return
    with_states, _ = cached(model, examples, tmp_path)
    assert model.boundary.count == 2
    assert_equal_steps(model, examples, with_states)


def test_layers_that_hand_on_more_than_their_states_are_found_out(tiny_bert: Path, tmp_path: Path):
    model, seen = make(tiny_bert), []
    lower, upper = model.encoder.get_base_model().encoder.layer
    lower.attention.register_forward_hook(lambda *_: seen.append(1))
    upper.register_forward_hook(lambda _, __, output: output + (seen.pop() if seen else 0))
    with pytest.raises(UserError, match="BertModel is not one"):
        cached(model, texts(), tmp_path)


def test_a_second_run_waits_for_the_first_and_reads(tiny_bert: Path, tmp_path: Path):
    examples, notes, found = texts(), [], []
    cached(make(tiny_bert), examples, tmp_path)
    (file,) = tmp_path.glob("*.states")
    hidden = file.rename(tmp_path / "elsewhere")
    second = threading.Thread(
        target=lambda: found.append(cached(make(tiny_bert), examples, tmp_path, notes))
    )
    with FileLock(file.with_suffix(".lock")):
        second.start()
        while not notes and second.is_alive():
            time.sleep(0.01)
        hidden.rename(file)
    second.join()
    assert "waiting for another run" in notes[0]
    assert found[0][1]


def test_nothing_frozen_below_is_refused(tiny_phi: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"`encoder\.prefix_cache` should have frozen layers"):
        cached(make(tiny_phi, last=2), texts(), tmp_path)


def test_rows_are_gathered_by_hand():
    states = torch.arange(12.0).view(6, 2)
    prefix = PrefixStates(states, starts=[4, 0], lengths=[2, 3])
    assert prefix.gather([1, 0], 3).tolist() == [
        [[0, 1], [2, 3], [4, 5]],
        [[8, 9], [10, 11], [0, 0]],
    ]


def test_a_file_holds_what_was_written_in_any_type(tmp_path: Path):
    for dtype in (torch.float32, torch.bfloat16):
        numbers = torch.randn(5, 3).to(dtype)
        file = StateFile(tmp_path / f"{dtype}.states", 5, 3, dtype)
        assert not file.whole()
        file.write(iter([numbers[:2], numbers[2:]]))
        assert file.whole()
        assert file.path.stat().st_size == file.size == 15 * dtype.itemsize + 32
        assert file.read().equal(numbers)
