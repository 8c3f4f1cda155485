"""Refuses to compare runs that differ in anything but what the comparison is about."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from dao.errors import UserError
from dao.learner.basics.folders import absolute
from dao.learner.basics.program import command
from dao.learner.experiment.arm_settings import flat
from dao.learner.experiment.arms import KNOWN, PAPER, PLACES, RESTART_LR, SETS_APART
from dao.learner.experiment.findings.runs import Run

__all__ = [
    "FREE",
    "check_comparable",
    "check_planned",
    "check_same_settings",
    "check_same_test",
    "differing",
]

FREE = ("seed", *PLACES, "split_tasks")
"""Settings in which runs of one arm may differ; what `split_tasks` changes shows in the data's
fingerprint, and runs of an earlier revision do not state it."""
BY_TASK = ("dao.priors", "train.select_weights")
"""Settings with a value per task: a task alone can have none of the others'."""
COURSE = ("data", "train", "experts", "encoder")
"""Sections of settings that decide how many steps a run takes, and of which rows."""
RESTARTS, STEPS_OF_RESTARTS = "number of restarts", "steps of the restarts"


def check_comparable(runs: Sequence[Run]) -> None:
    """Refuse runs of several arms that would not be a controlled experiment.

    Settings are equal but for what defines the arm, the seed, and where files go (settings of DAO
    differ in the arm `dao-paper` alone); a known arm is what its name says. All runs have the same
    encoder (one from scratch: the same tokenizer and pretrained weights), precision, source files
    and test rows per task, equally many validations and restarts.
    (With `dendrites.patience`, as many restarts at the same seed.)
    Runs of the same tasks have the same data, and at the same seed as many optimizer steps, the
    same batches in the same order, and restarts after the same steps (with `train.batch_tokens`,
    seeds differ in the number of steps).

    Args:
        runs: finished, of any arms and seeds.

    Raises:
        UserError: naming what differs, and both values.
    """
    tasks = _all_tasks(runs)
    for run in runs:
        _check_arm(run, tasks)
    apart = (*FREE, *SETS_APART, *BY_TASK)
    plain = [run for run in runs if not PAPER.keys() <= KNOWN.get(run.arm, {}).keys()]
    check_same_settings(plain, apart)
    check_same_settings(runs, (*apart, *PAPER))
    together = [run for run in runs if run.arm in KNOWN]
    _check_equal(together, lambda run: {"`tasks`": list(run.config.tasks)})
    for _, same_arm in groupby(sorted(runs, key=_arm), _arm):
        check_same_settings(list(same_arm), FREE)
    if any(run.has_predictions for run in runs):  # of runs that are kept, none may have any
        check_same_test(runs)
    _check_equal(runs, _recorded)
    _check_equal(runs, _validated)
    patient = runs[0].config.dendrites.patience is not None  # as many growths as validations say
    for _, as_many in groupby(sorted(runs, key=_seed), _seed if patient else lambda _: 0):
        _check_equal(list(as_many), lambda run: {RESTARTS: len(_restarts(run))})
    for task in tasks:
        _check_equal(_having(task, runs), partial(_of_task, task))
    for _, same_tasks in groupby(sorted(runs, key=_tasks), _tasks):
        group = sorted(same_tasks, key=_seed)
        _check_equal(group, _shared)
        for _, same_seed in groupby(group, _seed):
            paired = list(same_seed)
            _check_equal(paired, _course)
            recorded = [run for run in paired if run.batches]
            _check_equal(recorded, _ordered)


def check_planned(runs: Sequence[Run], own: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse runs of a plan that differ in more than the plan lets its arms differ in.

    Each arm has its own settings, and every other setting is equal in all runs, but for the seed,
    the tasks, and where files go. Facts that no setting of the arms explains are equal as well:
    encoder, precision, source files, test rows, fingerprint of the data, and, at one seed, steps
    and batches. Runs that stop or grow by their own validations may take any number of steps.

    Args:
        runs: finished, of any arms of the plan and any seeds.
        own: arm -> the settings in which arms differ, by their dotted names, as the arm has them.

    Raises:
        UserError: naming what differs, and both values.
    """
    keys = {key for settings in own.values() for key in settings}
    for run in runs:
        for setting, value in own[run.arm].items():
            _check_setting(run, setting, value)
    check_same_settings(runs, (*FREE, "tasks", *keys, *BY_TASK))
    check_same_test([run for run in runs if run.has_predictions])
    for task in _all_tasks(runs):
        allowed = [f"`{key.removeprefix('tasks.')}`" for key in keys]
        for group in _grouped(_having(task, runs), own, ("data",)):
            _check_equal(group, _without(allowed, partial(_of_task, task)))
    for group in _grouped(runs, own, ("data", "encoder", "device")):
        _check_equal(group, _without([RESTARTS], _recorded))
    for group in _grouped(runs, own, ("data", "tasks"), _tasks):
        _check_equal(group, _without([f"`{key}`" for key in BY_TASK], _shared))
    if not any(run.paced for run in runs):
        _check_courses(runs, own)


def _check_courses(runs: Sequence[Run], own: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse runs of arms that should take the same steps and do not."""
    for group in _grouped(runs, own, COURSE):
        _check_equal(group, _validated)
    for group in _grouped(runs, own, COURSE, lambda run: (_tasks(run), run.seed)):
        _check_equal(group, _without([STEPS_OF_RESTARTS], _course))
        _check_equal([run for run in group if run.batches], _ordered)
    for group in _grouped(runs, own, (*COURSE, "dendrites"), lambda run: (_tasks(run), run.seed)):
        _check_equal(group, _course)


def _grouped(
    runs: Iterable[Run],
    own: Mapping[str, Mapping[str, Any]],
    sections: Sequence[str],
    also: Callable[[Run], object] = lambda _: None,
) -> list[list[Run]]:
    """The runs whose arms are alike in their own settings of some sections."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        settings = {k: v for k, v in own[run.arm].items() if k.partition(".")[0] in sections}
        found.setdefault(repr((also(run), settings)), []).append(run)
    return list(found.values())


def check_same_settings(runs: Sequence[Run], ignored: Iterable[str] = FREE) -> None:
    """Refuse runs whose settings differ in any but those ignored.

    Raises:
        UserError: naming the setting and both values.
    """
    left_out = tuple(ignored)
    below = tuple(f"{name}." for name in left_out)

    def settings(run: Run) -> dict[str, Any]:
        kept = {k: v for k, v in run.settings.items() if not k.startswith(below)}
        return {f"`{k}`": v for k, v in kept.items() if k not in left_out}

    _check_equal(runs, settings)


def check_same_test(runs: Sequence[Run]) -> None:
    """Refuse runs whose test rows of a task differ in id, text or target.

    Raises:
        UserError: naming the task and the first difference.
    """
    for task in _all_tasks(runs):
        reference, *others = _having(task, runs)
        first = reference.test_rows(task)
        for run in others:
            rows = run.test_rows(task)
            where = f"{reference.path} and {run.path}"
            if len(rows) != len(first):
                raise _other_test(task, f"{len(first)} and {len(rows)} rows in {where}")
            for column in ("id", "text", "target"):
                unequal = rows[column] != first[column]
                if unequal.any():
                    row = int(unequal.argmax())
                    both = f"{first[column][row]!r} and {rows[column][row]!r}"
                    at = "" if column == "id" else f" at id {rows['id'][row]!r}"
                    raise _other_test(task, f"{column} {both}{at} in {where}")


def differing(a: Run, b: Run, ignored: Sequence[str]) -> dict[str, list[Any]]:
    """The settings in which two runs differ, with both values.

    A setting with a value per task that holds none is told of by those that the other run has.
    """
    every = a.settings | b.settings
    above = {key for key in every if any(other.startswith(f"{key}.") for other in every)}
    both = {k: [a.settings.get(k), b.settings.get(k)] for k in every if k not in above}
    return {key: pair for key, pair in both.items() if pair[0] != pair[1] and key not in ignored}


def _check_arm(run: Run, tasks: Collection[str]) -> None:
    if run.arm in tasks and list(run.config.tasks) != [run.arm]:
        raise UserError(
            f"`tasks` should be {run.arm} in the arm {run.arm}. Found "
            f"{', '.join(run.config.tasks)} in {run.path}. Train that run again, or rename its "
            f"folder."
        )
    own = dict(KNOWN.get(run.arm, {}))
    own |= {"dendrites.restart_lr": _restart_lr(run)} if run.arm in KNOWN else {}
    for setting, value in own.items():
        _check_setting(run, setting, value)


def _check_setting(run: Run, setting: str, value: object) -> None:
    if run.settings.get(setting) != value:
        raise UserError(
            f"`{setting}` should be {value!r} in the arm {run.arm}. Found "
            f"{run.settings.get(setting)!r} in {run.path}. Train that run again, or rename its "
            f"folder."
        )


def _restart_lr(run: Run) -> float:
    """What `dendrites.restart_lr` is in an arm: 1, but in the one that is there for it."""
    return run.config.dendrites.lr if run.arm == RESTART_LR else 1.0


def _recorded(run: Run) -> dict[str, Any]:
    """The values a run used for settings that it left to the machine."""
    provenance = run.metrics["provenance"]
    return {
        "`encoder` as loaded": _loaded(provenance.get("encoder")),
        **_made(provenance.get("scratch")),
        "precision": provenance.get("precision"),
        "source files": [source.get("sha256") for source in run.metrics["data"]["sources"]],
    }


def _loaded(encoder: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The encoder of a run; a folder by its full path, which earlier runs may have in part."""
    if encoder is None or encoder.get("origin") != "folder":
        return encoder
    return {**encoder, "name": absolute(encoder["name"])}


def _made(scratch: Mapping[str, Any] | None) -> dict[str, Any]:
    """A fingerprint of what an encoder from scratch learnt; random weights are left out."""
    if scratch is None:
        return {}
    return {
        "number of texts that the encoder from scratch was made from": scratch["texts"],
        "tokenizer of the encoder from scratch": scratch.get("tokenizer_sha256"),
        "encoder from scratch": scratch["sha256"] if scratch["pretraining_losses"] else None,
    }


def _shared(run: Run) -> dict[str, Any]:
    return {
        "`dao.priors`": run.config.dao.priors,
        "`train.select_weights`": run.config.train.select_weights,
        "fingerprint of the data": run.metrics["data"]["fingerprint"],
    }


def _course(run: Run) -> dict[str, Any]:
    return {
        "number of optimizer steps": run.metrics["training"]["steps"],
        STEPS_OF_RESTARTS: _restarts(run),
        "step after which growth was over": run.metrics["training"].get("growth_over_after_step"),
    }


def _validated(run: Run) -> dict[str, Any]:
    return {"number of validations": len(run.validations)}


def _ordered(run: Run) -> dict[str, Any]:
    return {"order of the batches": run.batches}


def _without(
    left_out: Collection[str], facts: Callable[[Run], Mapping[str, Any]]
) -> Callable[[Run], dict[str, Any]]:
    """The facts but for some."""
    return lambda run: {name: fact for name, fact in facts(run).items() if name not in left_out}


def _restarts(run: Run) -> list[int]:
    found: list[int] = run.metrics["training"].get("restarted_after_steps", [])
    return found


def _of_task(task: str, run: Run) -> dict[str, Any]:
    settings = flat(run.config.tasks[task].model_dump(mode="json"))
    return {
        **{f"`{task}.{key}`": value for key, value in settings.items()},
        f"class of {task} whose figures are given": run.positive(task),
        f"rows labelled for {task}": run.metrics["data"]["labelled"][task],
    }


def _check_equal(runs: Sequence[Run], facts: Callable[[Run], Mapping[str, Any]]) -> None:
    if not runs:
        return
    first = facts(runs[0])
    for run in runs[1:]:
        other_facts = facts(run)
        for name in {**first, **other_facts}:
            if other_facts.get(name) != first.get(name):
                found, other = _first_difference(first.get(name), other_facts.get(name))
                raise UserError(
                    f"{name} should be equal in runs that are compared. Found {found} in "
                    f"{runs[0].path} and {other} in {run.path}. Train one of them again with the "
                    f"settings of the other, or leave it out."
                )


def _first_difference(a: object, b: object) -> tuple[str, str]:
    """Both values in few words: of long lists, the first item that differs."""
    if isinstance(a, list) and isinstance(b, list) and max(len(a), len(b)) > 9:
        for i, (x, y) in enumerate(zip(a, b, strict=False), start=1):
            if x != y:
                return f"{x!r} at step {i}", f"{y!r}"
        return f"{len(a)} entries", f"{len(b)}"
    return repr(a), repr(b)


def _other_test(task: str, found: str) -> UserError:
    return UserError(
        f"The test rows of {task} should be the same in runs that are compared. Found {found}. "
        f"Measure both by {command('evaluate')} RUN --data FILE, or train them on the same data."
    )


def _all_tasks(runs: Iterable[Run]) -> list[str]:
    return sorted({task for run in runs for task in run.config.tasks})


def _having(task: str, runs: Iterable[Run]) -> list[Run]:
    return [run for run in runs if task in run.config.tasks]


def _arm(run: Run) -> str:
    return run.arm


def _tasks(run: Run) -> str:
    return ",".join(run.config.tasks)


def _seed(run: Run) -> int:
    return run.seed
