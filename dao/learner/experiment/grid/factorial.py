"""The runs of `--factorial` and the settings of each (pure but for reading folders)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dao.errors import UserError
from dao.learner.experiment.arms import GROWS, PLACES, SETS_APART, chosen, known_arms
from dao.learner.experiment.findings.runs import comparable_settings
from dao.learner.settings.config import Config, load_config
from dao.learner.storage.record import RunFolder

__all__ = [
    "Cell",
    "check_not_other",
    "check_shared",
    "experiment_folder",
    "factorial_cells",
    "without_pair",
]

SPLIT = "split_tasks"
VARIED = ("dendrites.growths_of", *(s for s in SETS_APART if s != "tasks"), "seed")


class Cell(NamedTuple):
    """One run of the grid."""

    arm: str
    seed: int
    cfg: Config

    @property
    def name(self) -> str:
        """What `--only` calls it."""
        return f"{self.arm}/{self.seed}"


def experiment_folder(shared: Config) -> Path:
    """The folder that holds the folders of the arms."""
    return Path(shared.output or f"results/factorial-{shared.data_name}")


def check_shared(shared: Config, given: Collection[str]) -> None:
    """Refuse settings that the arms make themselves.

    Args:
        shared: the settings that all runs have.
        given: dotted keys that the command line sets.

    Raises:
        UserError: naming the setting.
    """
    values, defaults = _settings(shared), _settings(Config())
    for key in VARIED:
        if key in given or values[key] != defaults[key]:
            raise UserError(
                f"With --factorial, `{key}` should be left to the arms and seeds, which set it. "
                f"Found {values[key]!r} for all runs. Leave it out."
            )
    if shared.experts.names:
        raise UserError(
            "--factorial has no arms with experts. Found `experts.names`. Run python -m "
            "benchmarks.experts, which compares them with one LoRA of their size."
        )
    if shared.train.early_stopping is not None:
        raise UserError(
            "With --factorial, all arms should train for as many steps. Found "
            "`train.early_stopping`, with which each would stop by itself. Leave it out."
        )


def factorial_cells(
    shared: Config, seeds: int, only: Sequence[str] = (), arms: Sequence[str] = ()
) -> list[Cell]:
    """The runs, seed by seed, so that an experiment that is stopped early has whole seeds.

    Args:
        shared: the settings that all runs have.
        seeds: how many, from 0.
        only: names of cells, such as dao/3; empty: all.
        arms: their names; empty: those that `arms.chosen` takes for the tasks.

    Raises:
        UserError: an unknown cell or arm; or the settings exclude an arm.
    """
    wanted = chosen(list(shared.tasks), arms, shared.dendrites.lr)
    if shared.dendrites.patience is not None and GROWS not in wanted:
        raise UserError(
            f"With `dendrites.patience`, all arms copy the growths of the arm {GROWS}. Found "
            f"--arms {','.join(wanted)}. Add {GROWS}, or give dendrites.grow_at."
        )
    known = [f"{arm}/{seed}" for seed in range(seeds) for arm in wanted]
    for name in only:
        if name not in known:
            raise UserError(
                f"--only should name an arm and a seed of the grid. Found {name!r}. The arms are "
                f"{', '.join(wanted)}; the seeds are 0 to {seeds - 1}."
            )
    return [
        Cell(arm, seed, _config(shared, arm, seed))
        for seed in range(seeds)
        for arm in wanted
        if not only or f"{arm}/{seed}" in only
    ]


def check_not_other(cell: Cell) -> None:
    """Refuse a folder whose run, finished or to be continued, has other settings.

    Raises:
        UserError: naming the first such setting.
    """
    folder = RunFolder(cell.cfg.folder)
    resumable = (folder.path / "checkpoints" / "latest").is_file()
    if not folder.finished and not resumable:
        return
    found, asked = _settings(folder.config()), _settings(cell.cfg)
    places = (*PLACES, *([SPLIT] if _before_split_tasks(folder) else []))
    for key in [key for key in {**asked, **found} if not _below(key, places)]:
        if not _same(key, found.get(key), asked.get(key)):
            state = "a finished run" if folder.finished else "an unfinished run"
            raise UserError(
                f"{folder.path} should hold a run of the settings asked for. Found {state} with "
                f"`{key}` {found.get(key)!r} in place of {asked.get(key)!r}. Give the old value, "
                f"another --output, or remove the folder."
            )


def _before_split_tasks(folder: RunFolder) -> bool:
    """Whether the run is of an earlier revision, whose settings had no `split_tasks`."""
    text = (folder.path / "config.yaml").read_text(encoding="utf-8")
    return not any(line.startswith(f"{SPLIT}:") for line in text.splitlines())


def _below(key: str, names: Sequence[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def _same(key: str, found: Any, asked: Any) -> bool:  # noqa: ANN401
    """Whether two values of a setting are one; numbers as cells of a table may be 1 and 1.0."""
    if found == asked or not key.startswith("data.where."):
        return bool(found == asked)
    pairs = [value if isinstance(value, list) else [value] for value in (found, asked)]
    try:
        return [float(cell) for cell in pairs[0]] == [float(cell) for cell in pairs[1]]
    except (TypeError, ValueError):
        return False


def _config(shared: Config, arm: str, seed: int) -> Config:
    settings = shared.model_dump(mode="json")
    own = dict(known_arms(list(shared.tasks), shared.dendrites.lr)[arm])
    names = own.pop("tasks", list(shared.tasks))
    # Priors and weights of tasks that this arm does not learn would be refused.
    by_task = {"dao.priors": shared.dao.priors, "train.select_weights": shared.train.select_weights}
    own = {
        **own,
        **{k: {t: v for t, v in given.items() if t in names} for k, given in by_task.items()},
        "tasks": {name: settings["tasks"][name] for name in names},
        "split_tasks": settings["tasks"] if len(names) < len(settings["tasks"]) else {},
        "seed": seed,
        "output": str(experiment_folder(shared) / arm / f"seed={seed}"),
    }
    if shared.dendrites.patience is not None and arm != GROWS:
        copied = experiment_folder(shared) / GROWS / f"seed={seed}"
        own["dendrites.growths_of"] = str(copied)
    return load_config(None, flags={**settings, **own})


def without_pair(cfg: Config) -> Config:
    """The same settings without the run whose growths are copied, which may not be there yet."""
    dendrites = cfg.dendrites.model_copy(update={"growths_of": ""})
    return cfg.model_copy(update={"dendrites": dendrites})


def _settings(cfg: Config) -> dict[str, Any]:
    return comparable_settings(cfg)
