"""An encoder with random weights and its own tokenizer, where the settings ask for one."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
)
from transformers import AutoModel, BertConfig, PhiConfig, PreTrainedConfig
from transformers.utils import logging

from dao.errors import UserError
from dao.learner.basics.pairs import parts
from dao.learner.basics.wording import count, one_line
from dao.learner.encoder.find import Location, locate
from dao.learner.encoder.pretraining import pretrain
from dao.learner.encoder.vocabulary import SPECIAL, train_tokenizer
from dao.learner.processes import ranks
from dao.learner.settings.config import Config
from dao.learner.settings.encoder_section import Encoder, Scratch
from dao.learner.storage.files import digest, replace_folder

__all__ = [
    "BASE",
    "Found",
    "find_encoder",
    "forget_start",
    "made_encoder",
    "planned_encoder",
]

LAYOUT = 3  # raise this number when equal settings and texts make another encoder
POSITIONS = 512  # an encoder has at least so many, like BERT
TIMEOUT = 10.0  # seconds for the hub to answer
BASE = "base"  # in the run folder: the encoder that LoRA adapts, a part of the saved model
START = "start"  # in an unfinished run folder: a wholly trained encoder as it was at the start
WEIGHTS = (".safetensors", ".bin")
DROPOUT = {
    "bert": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "phi": ("embd_pdrop", "resid_pdrop", "attention_dropout"),
}
"""What transformers calls the probabilities."""


@dataclass(frozen=True)
class Found:
    """The encoder that a run really has.

    Attributes:
        encoder: the settings with the name by which `locate` finds the encoder.
        location: where the encoder is, in the words that reports use.
        made: how the encoder was made from scratch, for the record; None where it was not.
    """

    encoder: Encoder
    location: Location
    made: dict[str, Any] | None


def _describe(scratch: Scratch) -> str:
    """The encoder that these settings make, in a line."""
    objective = "masked" if scratch.architecture == "bert" else "causal"
    epochs = scratch.pretrain_epochs
    learnt = (
        f"{count(epochs, 'epoch')} of {objective} language modelling on the training texts"
        if epochs
        else "random weights"
    )
    dropout = "" if scratch.dropout is None else f", dropout {scratch.dropout:g}"
    return (
        f"{scratch.architecture}, {scratch.layers} layers of {scratch.width}, {scratch.heads} "
        f"heads, {scratch.tokenizer} of the training texts, {learnt}{dropout}"
    )


def planned_encoder(encoder: Encoder) -> str:
    """The encoder that a run would have, in a line; the hub is not asked.

    Raises:
        UserError: as `locate`.
    """
    made = f"{encoder.scratch.architecture} from scratch ({_describe(encoder.scratch)})"
    if encoder.scratch.when == "always":
        return made
    location = locate(encoder.name)
    named = f"{location.name} ({location.origin})"
    maybe = encoder.scratch.when == "offline" and location.origin == "hub"
    return f"{named}, or where it cannot be had: {made}" if maybe else named


def find_encoder(
    cfg: Config,
    texts: Sequence[str],
    run: Path,
    device: torch.device,
    note: Callable[[str], None],
    *,
    resume: bool,
) -> Found:
    """The encoder of the settings, or one made from scratch, as `encoder.scratch.when` says.

    An encoder that is made stays in the cache, where other runs find it. The run folder gets a
    copy, so that the run can do without the cache from then on. A resumed run keeps the encoder
    that it began with.

    Args:
        cfg: the run's settings.
        texts: of the training rows.
        run: the run folder.
        device: for language modelling.
        note: is given a line on which encoder is made, and why.
        resume: whether the run began before.

    Raises:
        UserError: LoRA would adapt weights that are random; as `locate` and `train_tokenizer`.
    """
    named = locate(cfg.encoder.name) if cfg.encoder.scratch.when != "always" else None
    kept = run / (BASE if cfg.encoder.tune == "lora" else START)
    reason = None
    if named is not None:
        reason = _why_not(named, cfg, kept, resume)
        if reason is None:
            return Found(cfg.encoder, named, None)
        if not resume:
            note(f"{named.name} is neither on the disk nor to be fetched: {reason}")
        reason = f"{named.name} could not be had"
        _refuse_random(cfg, reason)
    with ranks.first_rank_first():
        if not (resume and kept.is_dir()):
            folder = _made(cfg, texts, device, note)
            if ranks.is_first():
                replace_folder(kept, lambda place: _copy(folder, place))
    encoder = cfg.encoder.model_copy(update={"name": str(kept)})
    why = f"; {reason}" if reason else ""
    origin = f"scratch: {_describe(cfg.encoder.scratch)}{why}"
    name = f"{cfg.encoder.scratch.architecture} from scratch"
    facts = json.loads((kept / "made.json").read_text(encoding="utf-8"))
    facts["sha256"] = digest(kept / "model.safetensors")
    facts["tokenizer_sha256"] = digest(kept / "tokenizer.json")
    note(f"encoder {origin}; {facts['vocabulary']:,} entries, {facts['texts']:,} texts")
    return Found(encoder, Location(name, str(kept), origin), facts)


def made_encoder(run: Path, cfg: Config) -> str:
    """Where a finished run keeps the encoder that was made for it."""
    return str(run / (BASE if cfg.encoder.tune == "lora" else "encoder"))


def forget_start(run: Path) -> None:
    """Remove the copy of a wholly trained encoder as it was at the start of a finished run."""
    shutil.rmtree(run / START, ignore_errors=True)


def _refuse_random(cfg: Config, reason: str) -> None:
    if cfg.encoder.tune == "lora" and not cfg.encoder.scratch.pretrain_epochs:
        raise UserError(
            f"LoRA should adapt weights that have learnt something. Found an encoder from scratch, "
            f"because {reason}, whose frozen weights would stay random. Set encoder.tune=full, or "
            f"encoder.scratch.pretrain_epochs to 1 or more."
        )


def _why_not(named: Location, cfg: Config, kept: Path, resume: bool) -> str | None:
    """The reason for which the named encoder cannot be used; None where it can."""
    if cfg.encoder.scratch.when == "never" or named.origin != "hub":
        return None
    if resume:
        return "the run began without it" if kept.is_dir() else None
    reason = _out_of_reach(named.path) if ranks.is_first() else None
    return next(iter(ranks.gather(reason)))


def _out_of_reach(name: str) -> str | None:
    """The reason for which a hub model cannot be had; None where disk or hub have it."""
    try:
        folder = Path(snapshot_download(name, local_files_only=True))
        if any(file.suffix in WEIGHTS for file in folder.iterdir()):
            return None
    except HFValidationError:
        return None  # this is no name of a model; the loader will say so
    except LocalEntryNotFoundError:
        pass
    try:
        HfApi().model_info(name, timeout=TIMEOUT)
    except HfHubHTTPError:
        return None  # the hub answers, and the loader will say what is wrong with the name
    except Exception as error:  # errors of the transport are of types that the client does not name
        return one_line(error) or type(error).__name__
    return None


def _made(
    cfg: Config, texts: Sequence[str], device: torch.device, note: Callable[[str], None]
) -> Path:
    """The folder of the encoder in the cache; the encoder is made if the cache lacks it."""
    scratch = cfg.encoder.scratch
    # Without language modelling the weights are random, and so follow the seed of the run.
    seed = scratch.seed if scratch.pretrain_epochs else cfg.seed
    positions = max(POSITIONS, cfg.encoder.max_length)
    unsaid = {"dropout"} if scratch.dropout is None else set[str]()  # folders made before it stay
    spec = scratch.model_dump(mode="json", exclude={"when", "seed", *unsaid})
    facts = {**spec, "layout": LAYOUT, "positions": positions, "seed": seed}
    if cfg.data.pairs:
        facts["pairs"] = True
    if scratch.pretrain_epochs:
        facts["length"] = cfg.encoder.max_length  # where language modelling cuts the texts
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        key.update(len(content).to_bytes(8, "little") + content)
    folder = cfg.cache_folder / "scratch" / key.hexdigest()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            length, pairs = cfg.encoder.max_length, cfg.data.pairs
            make = _Maker(scratch, seed, positions, length, device, note, pairs)
            replace_folder(folder, lambda place: make(texts, place))
    return folder


@dataclass(frozen=True)
class _Maker:
    scratch: Scratch
    seed: int
    positions: int
    length: int
    device: torch.device
    note: Callable[[str], None]
    pairs: bool

    def __call__(self, texts: Sequence[str], place: Path) -> None:
        """Write model, tokenizer and how they were made into a folder."""
        scratch = self.scratch
        alone = parts(texts) if self.pairs else texts
        tokenizer = train_tokenizer(alone, scratch.tokenizer, scratch.vocabulary, self.positions)
        tokenizer.save_pretrained(place)  # first, because using a tokenizer changes what is saved
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            model = AutoModel.from_config(_shape(scratch, len(tokenizer), self.positions))
            losses = pretrain(
                model, tokenizer, texts, epochs=scratch.pretrain_epochs, lr=scratch.pretrain_lr,
                seed=self.seed, limit=self.length, device=self.device, note=self.note,
                pairs=self.pairs,
            )  # fmt: skip
        logging.disable_progress_bar()  # writing the model takes no time
        model.save_pretrained(place)
        facts = {"vocabulary": len(tokenizer), "texts": len(texts), "seed": self.seed}
        content = json.dumps({**facts, "pretraining_losses": losses})
        (place / "made.json").write_text(content, encoding="utf-8")


def _shape(scratch: Scratch, vocabulary: int, positions: int) -> PreTrainedConfig:
    sizes: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": scratch.width,
        "num_hidden_layers": scratch.layers,
        "num_attention_heads": scratch.heads,
        "intermediate_size": scratch.intermediate,
        "max_position_embeddings": positions,
        "pad_token_id": SPECIAL.index("[PAD]"),
    }
    drop = () if scratch.dropout is None else DROPOUT[scratch.architecture]
    sizes |= dict.fromkeys(drop, scratch.dropout)
    if scratch.architecture == "bert":
        return BertConfig(**sizes)
    ends = {"bos_token_id": SPECIAL.index("[CLS]"), "eos_token_id": SPECIAL.index("[SEP]")}
    return PhiConfig(**sizes, **ends)


def _copy(folder: Path, place: Path) -> None:
    for file in folder.iterdir():
        shutil.copyfile(file, place / file.name)
