"""A model with its tokenizer, and how to load both from a finished run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from typing_extensions import TypeVar

from dao.errors import UserError
from dao.learner.basics.pairs import columns
from dao.learner.batches.batching import Examples
from dao.learner.batches.token_cache import TokenCache
from dao.learner.batches.tokens import Tokens, cut_line, pad_id, tokenize
from dao.learner.calibration.coverage import Covered
from dao.learner.console.predictions import beside
from dao.learner.dendrites import dendritic
from dao.learner.encoder.limits import check_ids, embeddings, most_tokens
from dao.learner.encoder.scratch import made_encoder
from dao.learner.kinds import Task
from dao.learner.model.experts import EXPERTS, expert_columns
from dao.learner.model.model import MultiTaskModel, build
from dao.learner.model.saving import load_weights
from dao.learner.processes import ranks
from dao.learner.scoring.scoring import Engine, predict
from dao.learner.settings.encoder_section import Lora
from dao.learner.storage.files import read_tensors
from dao.learner.storage.record import RunFolder

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DENDRITES", "CutTexts", "Predictor", "pick_device", "predictor_of", "reload"]

DENDRITES = "dendrites.safetensors"

Model = TypeVar("Model", bound=Engine, default=MultiTaskModel)


@dataclass
class CutTexts:
    """How many of the texts that a predictor was given were longer than its limit.

    Attributes:
        texts: given so far.
        cut: how many of them were cut.
    """

    texts: int = 0
    cut: int = 0


@dataclass(frozen=True)
class Predictor(Generic[Model]):
    """Texts in, outputs per task out; texts are cut at `limit` tokens.

    With a `cache`, the token ids of all texts are kept on disk. `most` is the number of tokens
    that the encoder takes, and `embeddings` the number of token ids, where that is known.
    `counted` keeps count of the texts that were cut. With `pairs`, every text is a pair
    (`basics.pairs`).
    """

    model: Model
    tokenizer: PreTrainedTokenizerBase
    limit: int
    cache: TokenCache | None = None
    most: int | None = None
    embeddings: int | None = None
    counted: CutTexts | None = None
    pairs: bool = False

    @property
    def pad(self) -> int:
        """Token id to pad with."""
        return pad_id(self.tokenizer)

    def examples(self, frame: pd.DataFrame, tasks: Mapping[str, Task]) -> Examples:
        """Token ids and encoded targets of a table's rows."""
        ids = self.tokens(frame["text"].tolist())
        return Examples(ids, {n: task.encode(frame[n].tolist()) for n, task in tasks.items()})

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Outputs per task, (n, outputs of the task), in the order of the texts."""
        return self.of_tokens(self.tokens(texts))

    def of_tokens(self, ids: Tokens) -> dict[str, Tensor]:
        """Outputs per task of texts as token ids, in their order."""
        return predict(self.model, Examples(ids, {}), self.pad)

    def tokens(self, texts: Sequence[str]) -> Tokens:
        """The token ids of texts.

        Raises:
            UserError: a text is no Unicode, or has tokens that the encoder does not know.
        """
        for row, text in enumerate(texts, start=1):
            if not text.isascii() and text.encode("utf-8", "replace").decode() != text:
                raise UserError(f"A text should be Unicode. Found {text[:40]!r}, text {row}.")
        make = tokenize if self.cache is None else self.cache.tokenize
        tokens = make(texts, self.tokenizer, self.limit, pairs=self.pairs)
        check_ids(tokens, self.tokenizer, self.embeddings)
        if self.counted is not None:
            self.counted.texts += len(texts)
            self.counted.cut += tokens.cut
        return tokens

    def cut_lines(self) -> list[str]:
        """A line on the texts that were cut so far, where any was."""
        if self.counted is None:
            return []
        counted = self.counted
        line = cut_line({"": counted.cut}, {"": counted.texts}, self.limit, self.most)
        return [line] if line else []

    def text_columns(self, texts: Sequence[str]) -> dict[str, Sequence[Any]]:
        """Columns of a table for people: `text`, and of pairs `text_pair` as well."""
        return {**columns(texts)} if self.pairs else {"text": texts}

    def answers(
        self, texts: Sequence[str], tasks: Mapping[str, Task], covered: Covered | None = None
    ) -> dict[str, list[Any]]:
        """What each task makes of every text: column of predictions.csv -> a value per text.

        With `covered`, its columns follow; of two columns of one name the later one gets a number.
        """
        ids = self.tokens(texts)
        return self.answers_of(ids, self.of_tokens(ids), tasks, covered)

    def answers_of(
        self,
        ids: Tokens,
        outputs: Mapping[str, Tensor],
        tasks: Mapping[str, Task],
        covered: Covered | None = None,
    ) -> dict[str, list[Any]]:
        """As `answers`, of the outputs that `of_tokens` gave for token ids."""
        found: dict[str, list[Any]] = {}
        for name, task in tasks.items():
            found |= task.predict(outputs[name])
        found |= self.expert_columns(outputs)
        if covered is None:
            return found
        further = covered.columns(outputs, ids)
        names, _ = beside([*found], [*further])
        return found | {names[name]: values for name, values in further.items()}

    def expert_columns(self, outputs: Mapping[str, Tensor]) -> dict[str, list[Any]]:
        """Columns with the experts' weights in `outputs`; none where the model mixes none."""
        experts = getattr(self.model, "experts", None)
        if experts is None or EXPERTS not in outputs:
            return {}
        return expert_columns(outputs[EXPERTS], experts.names)


def predictor_of(
    model: MultiTaskModel,
    tokenizer: PreTrainedTokenizerBase,
    limit: int,
    cache: TokenCache | None = None,
    *,
    pairs: bool = False,
) -> Predictor:
    """A predictor with the limits of its encoder filled in."""
    most, known = most_tokens(tokenizer, model.base), embeddings(model.base)
    return Predictor(model, tokenizer, limit, cache, most, known, pairs=pairs)


def pick_device(name: str) -> torch.device:
    """`auto` takes a GPU if there is one; of several processes, each takes its own.

    Raises:
        UserError: no such device here, or as `ranks.local_device`.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    name = ranks.local_device(name)
    try:
        device = torch.device(name)
        if ranks.several() and device.type == "cuda":
            torch.cuda.set_device(device)  # NCCL and perforatedai take the current one
        torch.zeros(1, device=device).item()  # which `meta` has not
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"`device` should be one of this machine. Found {name!r}: {reason}. Try --device auto."
        ) from None
    return device


def reload(folder: RunFolder, outputs: Mapping[str, int], device: torch.device) -> Predictor:
    """The selected model of a finished run; predictions are those it was tested with.

    Args:
        folder: of the run.
        outputs: head width per task.
        device: where the model goes.

    Raises:
        UserError: a file of the run is missing, damaged, changed or does not fit the others.
    """
    cfg = folder.config()
    # The run recorded what `auto` and the arm meant on its machine; both may differ on this one.
    made = folder.read("metrics.json", "provenance")["provenance"]
    encoder = cfg.encoder.model_copy(update={"precision": made["precision"]})
    if lora := made.get("lora"):  # earlier runs did not record it, and had it as in their settings
        encoder = encoder.model_copy(update={"lora": Lora.model_validate(lora)})
    wider = made.get("wider", 0)
    if made.get("scratch"):
        wider = 0  # the run keeps the whole encoder, as wide as it was trained
        encoder = encoder.model_copy(update={"name": made_encoder(folder.path, cfg)})
    experts = cfg.experts if cfg.routed else None
    pairs = cfg.data.pairs
    built = build(encoder, outputs, device, cfg.seed, experts, pairs=pairs, wider=wider)
    model, tokenizer, limit = built
    load_weights(model, folder.path)
    if cfg.dendrites.grown:
        dendritic.attach(model, folder.read("dendrites.json")["twin"])
        dendritic.load(model, read_tensors(folder.path / DENDRITES))
    folder.check_unchanged()
    return predictor_of(model.to(device), tokenizer, limit, pairs=pairs)
