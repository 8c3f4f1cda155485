"""The runs of `--factorial` and the settings of each (pure but for reading folders)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dao.errors import UserError
from dao.learner.basics.wording import listed
from dao.learner.experiment.arm_settings import arm_config, comparable_settings
from dao.learner.experiment.arms import GROWS, PLACES, SETS_APART, chosen, known_arms
from dao.learner.settings.config import Config
from dao.learner.storage.record import RunFolder

__all__ = [
    "Cell",
    "check_not_other",
    "check_shared",
    "experiment_folder",
    "factorial_cells",
    "known_cells",
    "other_settings",
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
    values, defaults = comparable_settings(shared), comparable_settings(Config())
    for key in VARIED:
        if key in given or values[key] != defaults[key]:
            raise UserError(
                f"In an experiment, `{key}` should be left to the arms and seeds, which set it. "
                f"Found {values[key]!r} for all runs. Leave it out."
            )
    if shared.experts.names:
        raise UserError(
            "The built-in experiment has no arms with experts. Found `experts.names`. Give --plan "
            "configs/plans/experts.yaml, which compares them with one LoRA of their size."
        )
    if shared.train.early_stopping is not None:
        raise UserError(
            "In an experiment, all arms should train for as many steps. Found "
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
    return [
        Cell(arm, seed, _config(shared, arm, seed))
        for arm, seed in known_cells(wanted, range(seeds), only)
    ]


def known_cells(
    arms: Sequence[str], seeds: Sequence[int], only: Sequence[str]
) -> list[tuple[str, int]]:
    """Arm and seed of every run, seed by seed, or of those that `only` names.

    Raises:
        UserError: it names another.

    Example:
        >>> known_cells(["base", "dao"], [0, 1], ["dao/1"])
        [('dao', 1)]
    """
    every = [(arm, seed) for seed in seeds for arm in arms]
    names = [f"{arm}/{seed}" for arm, seed in every]
    whole = list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    told = f"{seeds[0]} to {seeds[-1]}" if whole else listed([str(seed) for seed in seeds])
    for name in only:
        if name not in names:
            raise UserError(
                f"--only should name an arm and a seed of the grid. Found {name!r}. The arms are "
                f"{', '.join(arms)}; the seeds are {told}."
            )
    return [cell for cell, name in zip(every, names, strict=True) if not only or name in only]


def check_not_other(cell: Cell) -> None:
    """Refuse a folder whose run, finished or to be continued, has other settings.

    Raises:
        UserError: naming the first such setting.
    """
    folder = RunFolder(cell.cfg.folder)
    resumable = (folder.path / "checkpoints" / "latest").is_file()
    if not folder.finished and not resumable:
        return
    for key, found, asked in other_settings(cell):
        state = "a finished run" if folder.finished else "an unfinished run"
        raise UserError(
            f"{folder.path} should hold a run of the settings asked for. Found {state} with "
            f"`{key}` {found!r} in place of {asked!r}. Give the old value, another --output, or "
            f"remove the folder."
        )


def other_settings(cell: Cell) -> Iterator[tuple[str, Any, Any]]:
    """The settings in which the run of a folder differs from the one asked for, with both values.

    Those that say where files go do not count.
    """
    folder = RunFolder(cell.cfg.folder)
    found, asked = comparable_settings(folder.config()), comparable_settings(cell.cfg)
    places = (*PLACES, *([SPLIT] if _before_split_tasks(folder) else []))
    for key in [key for key in {**asked, **found} if not _below(key, places)]:
        if not _same(key, found.get(key), asked.get(key)):
            yield key, found.get(key), asked.get(key)


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
    own = dict(known_arms(list(shared.tasks), shared.dendrites.lr)[arm])
    place = str(experiment_folder(shared) / arm / f"seed={seed}")
    if shared.dendrites.patience is not None and arm != GROWS:
        own["dendrites.growths_of"] = str(experiment_folder(shared) / GROWS / f"seed={seed}")
    if arm == GROWS and seed == 0 and shared.dendrites.graph is None:
        own["dendrites.graph"] = True  # the report shows that of one run
    return arm_config(shared, {**own, "seed": seed, "output": place})


def without_pair(cfg: Config) -> Config:
    """The same settings without the run whose growths are copied, which may not be there yet."""
    dendrites = cfg.dendrites.model_copy(update={"growths_of": ""})
    return cfg.model_copy(update={"dendrites": dendrites})
