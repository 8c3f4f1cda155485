"""A finished run as a model: loaded from a folder or from the hub, put to use, saved, shared."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from dao.errors import UserError
from dao.learner.basics.pairs import PAIR, join
from dao.learner.basics.wording import one_line
from dao.learner.calibration.coverage import Covered, check_coverage, covered
from dao.learner.calibration.record import CALIBRATION, Calibration, read_calibration
from dao.learner.inference.elsewhere import RunElsewhere
from dao.learner.inference.engines import EngineName, make_engine
from dao.learner.inference.predictor import CutTexts, Predictor, pick_device, reload
from dao.learner.inference.saving import PUBLISHED, save_run, upload
from dao.learner.kinds import Task
from dao.learner.kinds.recorded import restored_tasks

__all__ = ["CHUNK", "Model", "Text", "load", "opened"]

Text = str | tuple[str, str]
"""One text; for a run on pairs of texts, two of them."""

CHUNK = 2048
"""Texts that are sorted by length and predicted together; the memory needed grows with it."""

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True)
class Model:
    """A finished run that predicts.

    Attributes:
        folder: of the run.
        tasks: by name, as the run learnt them.
        predictor: the model with its tokenizer.
        told: lines on where the encoder is and what runs the model, where that is not as trained.
    """

    folder: RunElsewhere
    tasks: Mapping[str, Task]
    predictor: Predictor[Any]
    told: Sequence[str] = field(default=())

    @property
    def pairs(self) -> bool:
        """Whether every input is a pair of texts."""
        return self.predictor.pairs

    def predict(
        self, texts: Sequence[Text], *, coverage: float | None = None
    ) -> list[dict[str, Any]]:
        """What every task makes of each text.

        Args:
            texts: the texts; for a run on pairs, a tuple of two texts each.
            coverage: share of texts whose set or interval is to hold the truth, such as 0.9; None
                for neither.

        Returns:
            A row per text, in order, with the columns of predictions.csv: per task `TASK`, and
            where the kind has them `TASK_p_CLASS`. With a coverage also `TASK_set`, classes with
            `|` between them, or `TASK_low` and `TASK_high`, in the unit of the data, and of the
            row `unsure` and `unlike`.

        Raises:
            UserError: a text is empty or no text, or no pair where the run learnt from pairs; as
                `covered`.

        Example::

            model = load("results/my/a+b/seed=0")
            model.predict(["Net loss narrowed in the third quarter"])
        """
        if isinstance(texts, str):
            raise UserError(f"predict takes a list of texts. Found one text, {texts[:40]!r}.")
        return list(self.predict_iter(texts, coverage=coverage))

    def predict_iter(
        self, texts: Iterable[Text], chunk: int = CHUNK, *, coverage: float | None = None
    ) -> Iterator[dict[str, Any]]:
        """As `predict`, for any number of texts: no more than `chunk` are in memory at a time.

        Args:
            texts: the texts; read as they are needed.
            chunk: texts that are sorted by length and predicted together.
            coverage: as for `predict`.
        """
        number, waiting = 0, iter(texts)
        while some := list(islice(waiting, chunk)):
            plain = [self.checked(text, number + i) for i, text in enumerate(some, start=1)]
            number += len(some)
            yield from rows_of(self.answers(plain, coverage))

    def answers(self, texts: Sequence[str], coverage: float | None = None) -> dict[str, list[Any]]:
        """Columns of answers to texts that are known to be usable; pairs as one string each.

        Args:
            texts: the texts.
            coverage: as for `predict`.

        Raises:
            UserError: as `covered`.
        """
        regions = None if coverage is None else self.covered(coverage)
        return self.predictor.answers(texts, self.tasks, regions)

    def covered(self, coverage: float) -> Covered:
        """The tasks with the limits of their sets and intervals at a coverage.

        Raises:
            UserError: the run is of an earlier revision and keeps no calibration; no task has
                regions; a task has too few validation rows for this coverage.
        """
        if self.calibration is None:
            check_coverage(coverage)
            raise UserError(
                f"A run that is asked for a coverage should hold {CALIBRATION}. Found none in "
                f"{self.folder.path}: it was trained by an earlier revision. Train it again."
            )
        return covered(self.tasks, self.calibration, coverage)

    @cached_property
    def calibration(self) -> Calibration | None:
        """What the run keeps of its validation rows; None for a run of an earlier revision.

        Raises:
            UserError: the file is damaged.
        """
        return read_calibration(self.folder)

    def notes(self) -> list[str]:
        """What there is to say of the model, and of the texts that it was given so far."""
        return [*self.told, *self.predictor.cut_lines()]

    def save(self, path: str | Path) -> Path:
        """Write what `load` needs, and the model card, into a new folder.

        Checkpoints, histories and predictions stay behind, and so do the folders of this machine.

        Args:
            path: of the folder.

        Returns:
            The folder.

        Raises:
            UserError: something else is there already.
            OSError: it could not be written.
        """
        return save_run(self.folder, Path(path))

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
        """Put what `save` writes into a repository of the Hugging Face hub.

        Args:
            repo_id: OWNER/NAME; it is made if it is not there.
            private: whether a repository that is made is for its owner alone.
            token: of the hub; by default the one that `hf auth login` has stored.

        Returns:
            The address of the commit.

        Raises:
            UserError: the hub refuses, or cannot be reached.
        """
        return upload(self.folder, repo_id, private=private, token=token)

    def checked(self, text: Text, number: int) -> str:
        """A text, or a pair of texts, as the predictor takes it.

        Args:
            text: of a caller.
            number: of the input, for the error.

        Raises:
            UserError: it is empty or no text, or no pair where the run learnt from pairs.
        """
        parts = tuple(text) if isinstance(text, tuple | list) else (text,)
        wanted = 2 if self.pairs else 1
        if len(parts) != wanted or not all(isinstance(p, str) and p.strip() for p in parts):
            raise UserError(
                f"An input should be {'a pair of texts' if self.pairs else 'a text'} with "
                f"characters in it. Found {text!r:.80}, input {number}."
            )
        if self.pairs and PAIR in "".join(parts):
            raise UserError(
                f"A text of a pair should be without the control character U+001F. Found it in "
                f"input {number}."
            )
        return join(*parts) if self.pairs else parts[0]


def rows_of(columns: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Columns as rows.

    Example:
        >>> list(rows_of({"a": [1, 2], "b": [3, 4]}))
        [{'a': 1, 'b': 3}, {'a': 2, 'b': 4}]
    """
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def load(
    source: str | Path,
    *,
    device: str = "auto",
    engine: EngineName = "eager",
    encoder: str = "",
    revision: str | None = None,
) -> Model:
    """Load a finished run; nothing of what is loaded is executed.

    Args:
        source: a run folder, a folder that `Model.save` wrote, or the id of a hub repository.
        device: `auto` takes a GPU if there is one; else `cpu`, `cuda`, `cuda:1`, ...
        engine: what runs the model: `eager`, as it was trained and tested; `merged`, `bf16`,
            `int8`, `onnx`, `onnx-int8`.
        encoder: folder or hub id of the run's encoder, where that has moved.
        revision: branch, tag or commit of a hub repository.

    Raises:
        UserError: there is no finished run, a file of it is damaged, changed or missing, or the
            device or engine cannot be had.

    Example::

        from dao.learner import load

        model = load("results/my/a+b/seed=0")
        for row in model.predict(["Net loss narrowed in the third quarter"]):
            print(row)
    """
    folder = RunElsewhere(_local(str(source), revision), encoder)
    folder.check_finished()
    return opened(folder, device, engine)


def opened(folder: RunElsewhere, device: str | None, engine: EngineName = "eager") -> Model:
    """The model of a run folder that is known to be finished.

    Args:
        folder: of the run.
        device: None for the one that the run was trained on.
        engine: what runs the model.
    """
    tasks = restored_tasks(folder.read("tasks.json"))
    outputs = {name: task.outputs for name, task in tasks.items()}
    trained = reload(folder, outputs, pick_device(device or folder.config().device))
    predictor, merged = make_engine(engine, trained)
    told = [*folder.told(), *([f"engine {engine}: {merged}"] if merged else [])]
    counting: Predictor[Any] = replace(predictor, counted=CutTexts())
    return Model(folder, tasks, counting, told)


def _local(source: str, revision: str | None) -> Path:
    """The folder of a run; of one on the hub, the folder that it was fetched into."""
    path = Path(source)
    if path.exists() or not HUB_ID.fullmatch(source):
        return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=PUBLISHED))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = one_line(error)
        raise UserError(
            f"{source} should be a run folder or a repository of the hub. Found no such folder, "
            f"seen from {Path.cwd()}, and of the hub: {reason[:200]}. Correct the path or the id."
        ) from None
