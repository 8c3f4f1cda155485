"""Encoders from scratch: equal every time, learnt from the training texts, kept with the run."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

from dao.errors import UserError
from dao.learner.encoder import scratch
from dao.learner.encoder.scratch import Found, find_encoder
from dao.learner.encoder.vocabulary import train_tokenizer
from dao.learner.model.model import build
from dao.learner.settings.config import Config, load_config

CPU = torch.device("cpu")
CHINESE = ["公司净利润同比增长", "公司亏损扩大 股价下跌", "净利润 下跌 5%"] * 4
ENGLISH = [
    f"the company said net {metric} {verb} in quarter {i}"
    for i, (metric, verb) in enumerate(
        (m, v) for m in ("profit", "loss", "sales") for v in ("rose", "fell", "narrowed", "widened")
    )
]
TINY = ("layers=1", "width=16", "heads=2", "intermediate=32", "vocabulary=300")


def settings(tmp_path: Path, *further: str, when: str = "always", tune: str = "full") -> Config:
    small = [f"encoder.scratch.{entry}" for entry in (*TINY, f"when={when}")]
    cache = f"cache={tmp_path / 'cache'}"
    return load_config(None, [*small, f"encoder.tune={tune}", "encoder.max_length=32", cache,
                              *further])  # fmt: skip


def find(cfg: Config, run: Path, texts=ENGLISH, notes: list[str] | None = None, resume=False):
    run.mkdir(exist_ok=True)
    heard = [] if notes is None else notes
    return find_encoder(cfg, texts, run, CPU, heard.append, resume=resume)


def weights(found: Found) -> dict[str, torch.Tensor]:
    return load_file(Path(found.encoder.name) / "model.safetensors")


def test_a_character_tokenizer_reads_chinese():
    tokenizer = train_tokenizer(CHINESE, "characters", 100, 64)
    ids = tokenizer("净利润 增长?")["input_ids"]
    names = ["[CLS]", "净", "利", "润", "增", "长", "[UNK]", "[SEP]"]
    assert tokenizer.convert_ids_to_tokens(ids) == names
    assert tokenizer.convert_ids_to_tokens(range(5)) == [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
    ]


@pytest.mark.slow
def test_word_pieces_are_learnt_and_the_same_in_every_process():
    code = (
        "from dao.command import without; without('torchvision')\n"
        "from dao.learner.encoder.vocabulary import train_tokenizer\n"
        f"print(train_tokenizer({ENGLISH!r}, 'wordpiece', 300, 64).backend_tokenizer.to_str())"
    )
    # The library's hash tables differ from process to process, whatever PYTHONHASHSEED says.
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    tokenizer = train_tokenizer(ENGLISH, "wordpiece", 300, 64)
    assert other == tokenizer.backend_tokenizer.to_str()
    names = tokenizer.convert_ids_to_tokens(tokenizer("Company profitwidened €")["input_ids"])
    assert names[:2] == ["[CLS]", "company"]
    assert "".join(names[2:-2]).replace("##", "") == "profitwidened"
    assert names[-2:] == ["[UNK]", "[SEP]"]


@pytest.mark.parametrize("kind", ["wordpiece", "characters"])
def test_a_vocabulary_is_as_large_as_was_asked_at_most(kind):
    many = ["".join(chr(0x4E00 + i) for i in range(k, k + 60)) for k in range(0, 600, 60)]
    assert len(train_tokenizer(ENGLISH, kind, 16, 64)) <= 16
    assert 290 < len(train_tokenizer(many * 2, kind, 300, 64)) <= 300


def test_texts_without_characters_are_refused():
    with pytest.raises(UserError, match="characters to learn"):
        train_tokenizer(["", " "], "characters", 100, 64)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["bert", "phi"])
def test_language_modelling_is_repeated_exactly_and_learns(tmp_path: Path, architecture: str):
    shape = f"encoder.scratch.architecture={architecture}"
    further = (shape, "encoder.scratch.width=24", "encoder.scratch.pretrain_epochs=30")
    notes: list[str] = []
    one = find(settings(tmp_path / "a", *further), tmp_path / "one", ENGLISH * 8, notes)
    other = find(settings(tmp_path / "b", *further), tmp_path / "other", ENGLISH * 8)
    assert all(weights(one)[n].equal(weights(other)[n]) for n in weights(one))
    assert one.made == other.made
    losses = one.made["pretraining_losses"]
    assert len(losses) == 30
    assert losses[-1] < 0.8 * losses[0]
    assert sum("language modelling, epoch" in note for note in notes) == 30
    base = build(one.encoder, {"cls": 2}, CPU, 0)[0].base
    assert base.config.model_type == architecture
    named = base.state_dict()
    assert all(named[n].equal(tensor) for n, tensor in weights(one).items())


def test_seeds_share_what_was_trained_and_only_that(tmp_path: Path):
    def word(name: str, *further: str) -> torch.Tensor:
        tensors = weights(find(settings(tmp_path, *further), tmp_path / name))
        return tensors["embeddings.word_embeddings.weight"]

    trained = "encoder.scratch.pretrain_epochs=1"
    assert word("a", trained, "seed=0").equal(word("b", trained, "seed=1"))
    assert not word("c", "seed=0").equal(word("d", "seed=1"))
    assert word("e", "seed=1").equal(word("d", "seed=1"))
    assert not word("a", trained).equal(word("f", trained, "encoder.scratch.seed=1"))


def test_the_length_is_shared_unless_language_modelling_cuts_texts_at_it(tmp_path: Path):
    def cached(*further: str) -> int:
        find(settings(tmp_path, *further), tmp_path / "run")
        return len([path for path in (tmp_path / "cache" / "scratch").iterdir() if path.is_dir()])

    assert cached() == cached("encoder.max_length=8") == 1
    trained = "encoder.scratch.pretrain_epochs=1"
    assert cached(trained) == cached(trained) == 2
    assert cached(trained, "encoder.max_length=8") == 3


def test_other_texts_give_another_encoder(tmp_path: Path):
    one = find(settings(tmp_path), tmp_path / "one")
    other = find(settings(tmp_path), tmp_path / "other", [*ENGLISH, "something new"])
    assert one.made["vocabulary"] != other.made["vocabulary"]
    assert one.location.origin == other.location.origin  # which does not depend on the rows


def test_the_run_does_not_need_the_cache(tmp_path: Path):
    cfg = settings(tmp_path, "encoder.scratch.pretrain_epochs=1", tune="lora")
    found = find(cfg, tmp_path / "run")
    shutil.rmtree(tmp_path / "cache")
    assert AutoModel.from_pretrained(found.encoder.name).config.hidden_size == 16
    assert AutoTokenizer.from_pretrained(found.encoder.name)("profit")["input_ids"][0] == 2
    again = find(cfg, tmp_path / "run", resume=True)
    assert again == found
    assert not (tmp_path / "cache").exists()


def test_offline_says_what_it_does_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scratch, "_out_of_reach", lambda name: "no network")
    cfg = settings(tmp_path, "encoder.name=someone/bert", when="offline")
    notes: list[str] = []
    found = find(cfg, tmp_path / "run", notes=notes)
    assert found.location.origin.startswith("scratch: bert, 1 layers of 16")
    assert found.location.origin.endswith("someone/bert could not be had")
    assert notes[0] == "someone/bert is neither on the disk nor to be fetched: no network"
    assert found.location.origin in notes[-1]
    # Begun from scratch, it goes on so although the hub answers by now.
    monkeypatch.setattr(scratch, "_out_of_reach", lambda name: None)
    assert find(cfg, tmp_path / "run", resume=True).made == found.made
    assert not (tmp_path / "run" / "base").exists()


def test_offline_takes_what_can_be_had(tmp_path: Path, tiny_bert: Path, monkeypatch):
    monkeypatch.setattr(scratch, "_out_of_reach", lambda name: None)
    hub = settings(tmp_path, "encoder.name=someone/bert", when="offline")
    assert find(hub, tmp_path / "run").encoder == hub.encoder
    monkeypatch.undo()
    folder = settings(tmp_path, f"encoder.name={tiny_bert}", when="offline")
    found = find(folder, tmp_path / "run")
    assert (found.encoder, found.made) == (folder.encoder, None)
    assert not (tmp_path / "cache").exists()


def test_out_of_reach_is_what_neither_disk_nor_hub_has(tmp_path: Path, monkeypatch):
    class Hub:
        answer: Exception | None = None

        def model_info(self, *_, **__):
            if self.answer is not None:
                raise self.answer

    def on_disk(name: str, *, local_files_only: bool) -> str:
        return str(tmp_path)

    monkeypatch.setattr(scratch, "snapshot_download", on_disk)
    monkeypatch.setattr(scratch, "HfApi", Hub)
    assert scratch._out_of_reach("a/b") is None
    Hub.answer = ConnectionError("no\nroute")
    assert scratch._out_of_reach("a/b") == "no route"  # a folder without weights is none
    (tmp_path / "model.safetensors").touch()
    assert scratch._out_of_reach("a/b") is None


def test_a_name_that_no_hub_model_has_is_left_to_loading():
    assert scratch._out_of_reach("bad name!") is None


def test_lora_on_random_weights_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(scratch, "_out_of_reach", lambda name: "no network")
    cfg = settings(tmp_path, "encoder.name=someone/bert", when="offline", tune="lora")
    with pytest.raises(UserError, match=r"would stay random. Set encoder.tune=full"):
        find(cfg, tmp_path / "run")
    assert not (tmp_path / "cache").exists()


def test_lora_on_weights_that_are_always_random_is_no_setting(tmp_path: Path):
    with pytest.raises(UserError, match=r"random. Set encoder.tune=full, or encoder.scratch.pre"):
        settings(tmp_path, tune="lora")


def test_nothing_is_drawn_while_the_model_is_written(tmp_path: Path, capfd):
    logging.enable_progress_bar()
    find(settings(tmp_path), tmp_path / "run")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (["heads=3"], "multiple of 3"),
        (["architecture=phi", "width=24", "heads=4"], "multiple of 16"),
    ],
)
def test_shapes_that_cannot_be_are_refused(entries: list[str], words: str):
    with pytest.raises(UserError, match=words):
        load_config(None, [f"encoder.scratch.{entry}" for entry in entries])


@pytest.mark.parametrize("architecture", ["bert", "phi"])
def test_dropout_is_a_setting_and_its_default_the_architectures_own(tmp_path, architecture):
    chosen = f"encoder.scratch.architecture={architecture}"
    outputs = {}
    for given in ("null", "0", "0.5"):
        cfg = settings(tmp_path, chosen, f"encoder.scratch.dropout={given}")
        found = find(cfg, tmp_path / f"run {given}")
        model, _, _ = build(found.encoder, {"cls": 2}, CPU, 0)
        ids = torch.arange(5, 17).view(2, 6)
        torch.manual_seed(1)
        with torch.no_grad():
            outputs[given] = [model.train()(ids, torch.ones_like(ids))["cls"] for _ in range(2)]
    still = {given: torch.equal(*pair) for given, pair in outputs.items()}
    assert still == {"null": architecture == "phi", "0": True, "0.5": False}


def test_a_folder_of_the_cache_from_before_there_was_dropout_is_found(tmp_path, monkeypatch):
    find(settings(tmp_path), tmp_path / "one")
    (made,) = [path for path in (tmp_path / "cache" / "scratch").iterdir() if path.is_dir()]
    spec = settings(tmp_path).encoder.scratch.model_dump(mode="json", exclude={"when", "seed"})
    assert spec.pop("dropout") is None
    facts = {**spec, "layout": 3, "positions": 512, "seed": 0}
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for text in ENGLISH:
        key.update(len(text.encode()).to_bytes(8, "little") + text.encode())
    assert made.name == key.hexdigest()
