"""The experiment's own test finds an effect of dendrites that is there, and none that is not.

A frozen encoder counts words, so the heads are all that learns. Where the class depends on how far
the share of rising words is from a half, a linear head cannot tell, and one with dendrites can;
where it depends on the share itself, the linear head is as good as any.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from dao.learner.experiment.findings.effects import findings
from dao.learner.experiment.grid.factorial import factorial_cells
from dao.learner.pipeline.start import train
from dao.learner.settings.config import load_config

UP, DOWN = ("rose", "gained"), ("fell", "lost")
WORDS = ["[PAD]", "[UNK]", *UP, *DOWN]
LENGTH, NOISE = 12, 0.1
ROWS = {"train": 1200, "validation": 200, "test": 300}
SEEDS = 3
SETTINGS = (
    "tasks=[cls]", "encoder.precision=fp32", "encoder.lora.r=1", "encoder.lora.targets=[query]",
    "dendrites.where=heads", "dendrites.grow_at=[0.25]", "dendrites.lr=15", "dendrites.graph=false",
    "dendrites.activation=tanh", "dendrites.init_scale=0.5", "train.lr=0.02",
    "train.epochs=4", "train.batch_size=80", "train.validations_per_epoch=1",
    "train.schedule=constant", "train.checkpoint_every=1000", "train.log_every=100",
)  # fmt: skip


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT whose state of a token is the word: all that would mix tokens writes nothing."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("counting")
    words = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]"
    ).save_pretrained(folder)
    model = BertModel(
        BertConfig(
            vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
            intermediate_size=4, max_position_embeddings=32, pad_token_id=0,
        )
    )  # fmt: skip
    layer, read = model.encoder.layer[0], model.embeddings
    silent = [*layer.attention.output.dense.parameters(), *layer.output.dense.parameters()]
    silent += [read.position_embeddings.weight, read.token_type_embeddings.weight]
    with torch.no_grad():
        for parameter in silent:
            parameter.zero_()
        read.word_embeddings.weight.copy_(torch.eye(len(WORDS), 8))
    model.save_pretrained(folder)
    return folder


def table(path: Path, *, far: bool) -> Path:
    """Texts of rising and falling words; the class is whether there are more rising ones, or with
    `far`, whether there are many more of either; a tenth of the classes is wrong."""
    rng, lines = random.Random(0), ["text,label,split"]
    for split, count in ROWS.items():
        for _ in range(count):
            share = rng.random()
            words = [rng.choice(UP if rng.random() < share else DOWN) for _ in range(LENGTH)]
            more = sum(1 if word in UP else -1 for word in words)
            found = abs(more) > LENGTH / 2 if far else more > 0
            label = "yes" if found ^ (rng.random() < NOISE) else "no"
            lines.append(f"{' '.join(words)},{label},{split}")
    path.write_text("\n".join(lines) + "\n")
    return path


def effects(
    counting: Path, folder: Path, arms: Sequence[str], *, far: bool
) -> dict[str, dict[str, Any]]:
    """Contrast -> what the experiment says of it, in its primary test."""
    places = [f"encoder.name={counting}", f"output={folder / 'runs'}", f"cache={folder / 'cache'}",
              f"data.sources=[{table(folder / 'table.csv', far=far)}]"]  # fmt: skip
    shared = load_config(None, [*SETTINGS, *places])
    for cell in factorial_cells(shared, SEEDS, arms=arms):
        train(cell.cfg)
    found = findings(folder / "runs", arms)
    return {e["name"]: e for e in found["effects"] if e["family"] == "primary"}


@pytest.mark.slow
def test_a_planted_effect_is_found(counting: Path, tmp_path: Path):
    controls = ("base", "restart-lr")
    found = effects(counting, tmp_path, [*controls, "dendrites"], far=True)
    for name in (f"dendrites - {control}" for control in controls):
        assert found[name]["mean"] > 0.1, found[name]
        assert found[name]["significant"], found[name]
    assert not found["restart-lr - base"]["significant"]


@pytest.mark.slow
def test_a_planted_null_is_not_found(counting: Path, tmp_path: Path):
    (found,) = effects(counting, tmp_path, ["base", "dendrites"], far=False).values()
    assert found["name"] == "dendrites - base"
    assert abs(found["mean"]) < 0.05, found
    assert not found["significant"], found
