"""The study of optuna behind a search, kept in the folder of the search."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dao.errors import UserError
from dao.learner.basics.program import install
from dao.learner.experiment.arm_settings import flat
from dao.learner.experiment.tuning.space import Space
from dao.learner.settings.config import Config
from dao.learner.settings.decisive import completed, decisive

__all__ = ["begun", "next_trial", "no_pruning", "open_study"]

LOG = "study.log"
TUNED, SHARED = "tuned", "shared"
"""What the study keeps of what it is about."""
STARTUP = 5  # finished trials before the first is stopped early
FRACTION = 3  # of a run: the first third is never judged
TIMES = ("train.epochs", "train.validations_per_epoch")
"""Settings that move the validations: those of one number are then at different points."""
GROWS = ("dendrites", "experts")


def open_study(folder: Path, space: Space, shared: Config) -> Any:  # noqa: ANN401
    """The study of a folder, begun or gone on with.

    Trials are proposed by TPE, and judged by the median of the finished trials.

    Args:
        folder: of the search.
        space: what is varied.
        shared: the settings that all runs have.

    Raises:
        UserError: optuna is not installed; or the folder holds a search over something else, or
            one whose runs have other settings.
    """
    optuna = _optuna()
    folder.mkdir(parents=True, exist_ok=True)
    journal = optuna.storages.journal
    storage = journal.JournalStorage(journal.JournalFileBackend(str(folder / LOG)))
    pruner = optuna.pruners.NopPruner()
    if not no_pruning(space, shared):
        total = shared.train.epochs * shared.train.validations_per_epoch
        pruner = optuna.pruners.MedianPruner(STARTUP, n_warmup_steps=total // FRACTION)
    study = optuna.create_study(
        storage=storage, study_name="search", direction="maximize", pruner=pruner,
        load_if_exists=True,
    )  # fmt: skip
    _check_same(study, folder, space, shared)
    return study


def no_pruning(space: Space, shared: Config) -> str:
    """Why no trial may be stopped early; empty where trials may.

    Example:
        >>> no_pruning({}, Config())
        ''
    """
    for key in space:
        if key in TIMES:
            return f"`{key}` moves the validations, so that those of two trials cannot be compared"
        if key.partition(".")[0] in GROWS:
            return f"`{key}` changes what a run does in the middle"
    if shared.dendrites.enabled:
        return "a growth of dendrites changes a run in the middle"
    return "experts train in stages" if shared.experts.names else ""


def begun(study: Any) -> list[Any]:  # noqa: ANN401
    """The trials that were begun and not ended, as when the search was stopped."""
    optuna = _optuna()
    running = optuna.trial.TrialState.RUNNING
    # A trial is continued by its number in the storage, for which optuna has no other name.
    return [
        optuna.trial.Trial(study, frozen._trial_id)
        for frozen in study.get_trials(deepcopy=False, states=(running,))
    ]


def next_trial(study: Any, seed: int) -> Any:  # noqa: ANN401
    """A further trial.

    What is proposed depends on the seed, the number of the trial and the trials before it, so that
    a search which was stopped goes on with the proposals that it would have made.
    """
    optuna = _optuna()
    number = len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=(seed * 1_000_003 + number) % 2**32)
    return study.ask()


def _check_same(study: Any, folder: Path, space: Space, shared: Config) -> None:  # noqa: ANN401
    """Write down what the study is about, or compare.

    Raises:
        UserError: the study is about something else.
    """
    about = {TUNED: {k: str(v) for k, v in space.items()}, SHARED: shared.model_dump(mode="json")}
    for name in about.keys() - study.user_attrs.keys():
        study.set_user_attr(name, about[name])
    kept = study.user_attrs
    if kept[TUNED] != about[TUNED]:
        raise UserError(
            f"{folder} should hold a search over what is asked for. Found one over "
            f"{_told(kept[TUNED])}, and not over {_told(about[TUNED])}. Give the old ranges, or "
            f"another --output."
        )
    found, asked = flat(completed(kept[SHARED])), flat(decisive(shared))
    for key in {**asked, **found}:
        if found.get(key) != asked.get(key):
            raise UserError(
                f"{folder} should hold a search with the settings asked for. Found `{key}` "
                f"{found.get(key)!r} in place of {asked.get(key)!r}. Give the old value, or "
                f"another --output."
            )


def _told(tuned: Mapping[str, str]) -> str:
    return "; ".join(f"{key}: {value}" for key, value in tuned.items())


def _optuna() -> Any:  # noqa: ANN401
    try:
        import optuna
        import optuna.storages.journal
    except ImportError:
        raise UserError(
            f"--tune should find optuna. Found it not installed. Run: {install('search')}"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
