"""How perforatedai 3.2.9 is called: late, silent, with fixed settings, inside one folder."""

from __future__ import annotations

import builtins
import contextlib
import io
import pdb
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dao.errors import UserError
from dao.learner.basics.program import install
from dao.learner.dendrites.dendritic import LowRank, has_lora
from dao.learner.processes.ranks import first_rank_first
from dao.learner.storage.files import share

__all__ = [
    "FOLDER",
    "DendriteError",
    "Package",
    "configure",
    "guarded",
    "keep_type",
    "load_package",
    "low_rank_copies",
    "perforate",
]

FOLDER = "PAI"
"""Everything that perforatedai writes is in this folder of the run."""

LAST_WORDS = 1000  # characters of captured output that an error repeats

FIXED: dict[str, Any] = {
    # perforatedai asks no questions and uses no network.
    "silent": True,
    "verbose": False,
    "extra_verbose": False,
    "configuration_confirmed": True,
    "unwrapped_modules_confirmed": True,
    "checked_skipped_modules": True,
    "weight_decay_accepted": True,
    "dashboard_events_enabled": False,
    # The default, a self-test, adds a dendrite at every call and stops after three.
    "testing_dendrite_capacity": False,
    # perforatedai reads no file back but best_model.pt.
    "test_saves": False,
    "pai_saves": False,
    "using_safe_tensors": True,
    "strict_loading": True,
    "weight_tying_experimental": False,
    "drawing_pai": True,
    "drawing_extra_graphs": True,
    # The caller sets the learning rate.
    "find_best_lr": False,
    "dont_give_up_unless_learning_rate_lowered": False,
    # Modules are chosen by their path alone.
    "modules_to_perforate": [],
    "module_names_to_perforate": [],
    "modules_to_track": [],
    "module_names_to_track": [],
    "module_ids_to_track": [],
    "parameter_ids_to_track": [],
    "modules_to_replace": [],
    "replacement_modules": [],
    "module_names_with_processing": [],
    # The default, ".base_model", would silently skip every module of a peft model.
    "module_names_to_not_save": [],
    # With the default, 0, the first validation after the start or a growth cannot be the best.
    "initial_history_after_switches": -1,
    "history_lookback": 1,
    # A higher score is better, by however little; so the best is the one that the caller keeps.
    "improvement_threshold": 0.0,
    "improvement_threshold_raw": 0.0,
    "reset_best_score_on_switch": True,
    "retain_all_dendrites": False,
    "perforated_backpropagation": False,
    "learn_dendrites_live": False,
    "global_candidates": 1,
    "candidate_weight_init_by_main": False,
    "output_dimensions": [-1, 0, -1, -1],
}


class DendriteError(RuntimeError):
    """perforatedai did, or was about to do, something that a run must not go on from."""


@dataclass(frozen=True)
class Package:
    """The three modules of perforatedai that are used; `globals` holds its settings and state."""

    globals: Any
    utils: Any
    modules: Any


def load_package() -> Package:
    """Import perforatedai, which takes more than a second and prints.

    Raises:
        UserError: it is not installed, or something that it needs is not.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            from perforatedai import (
                globals_perforatedai,
                modules_perforatedai,
                utils_perforatedai,
            )
    except ImportError as error:
        raise UserError(
            f"Dendrites need perforatedai 3.2.9. Found: {error}. "
            f"Run: {install('learner,dendrites')}"
        ) from None
    return Package(globals_perforatedai, utils_perforatedai, modules_perforatedai)


def configure(package: Package, options: Mapping[str, Any]) -> None:
    """Forget earlier models and settings of this process; then set `FIXED` and `options`.

    Raises:
        DendriteError: a setting does not exist. perforatedai would ignore it.
    """
    package.globals.pai_tracker = []
    settings = package.globals.pc
    settings.__init__()
    for name, value in {**FIXED, **options}.items():
        if not hasattr(settings, f"get_{name}"):
            raise DendriteError(
                f"perforatedai should have the setting {name!r}. Found none. "
                f"Install perforatedai==3.2.9; its interface changes between patch releases."
            )
        # A list is changed in place by perforatedai, and FIXED must stay as it is.
        getattr(settings, f"set_{name}")(list(value) if isinstance(value, list) else value)


def perforate(
    package: Package, model: nn.Module, run_dir: Path, shapes: Mapping[str, tuple[int, int]]
) -> None:
    """Wrap modules of a model, in place.

    Args:
        package: perforatedai.
        model: whose modules are wrapped.
        run_dir: in which perforatedai's folder is; one that is there is removed.
        shapes: path of each module -> number of axes, and width, of its output.

    Raises:
        DendriteError: perforatedai has left a module unwrapped.
    """
    shutil.rmtree(run_dir / FOLDER, ignore_errors=True)
    package.utils.perforate_model(
        model, save_name=FOLDER, maximizing_score=True, making_graphs=False
    )
    for name, (axes, width) in shapes.items():
        module: Any = model.get_submodule(name)
        if type(module) is not package.modules.PAINeuronModule:
            raise DendriteError(
                f"perforatedai should have wrapped {name!r}. Found {type(module).__name__}. "
                f"Leave it out of the targets."
            )
        module.set_this_output_dimensions([-1] * (axes - 1) + [0])
        # The first backward pass would set these up. But it exits the process where shapes differ,
        # and for a layer whose output carries no gradient yet it never comes.
        values = module.dendrite_module.dendrite_values[0]
        values.setup_arrays([1] * (axes - 1) + [width])
        values.current_d_init[0] = 1
        module._fb_init_done = True


def keep_type(module: Any) -> list[RemovableHandle]:  # noqa: ANN401
    """Give the output of a wrapped module the type that the layer alone would give it.

    perforatedai's gates are in fp32, and so its sums are in fp32, whatever the layer computes in.

    Returns:
        Handles of the hooks, to take them off.
    """
    types: dict[str, torch.dtype] = {}

    def remember(_: nn.Module, __: object, out: Tensor) -> None:
        types["own"] = out.dtype

    def restore(_: nn.Module, __: object, out: Tensor) -> Tensor:
        return out.to(types["own"])

    main: nn.Module = module.main_module
    handles = [main.register_forward_hook(remember), module.register_forward_hook(restore)]
    return list(handles)


@contextlib.contextmanager
def low_rank_copies(package: Package, rank: int | None) -> Iterator[None]:
    """Give perforatedai a `LowRank` wherever it would copy a layer with LoRA.

    perforatedai makes a spare copy of a layer when it wraps the layer, and again at every reload;
    a dendrite is a copy of the spare one. Such copies would hold the frozen weights as well.
    perforatedai's own `set_create_dendrite` replaces only what is copied at the wrapping, and 3.2.9
    has no setting for reloads.

    Args:
        package: perforatedai.
        rank: of the low-rank layers; None leaves everything as it is.
    """
    copied = package.utils.deep_copy_pai

    def copy(module: nn.Module) -> nn.Module:
        if rank and has_lora(module):
            return LowRank.of(module, rank)
        duplicate: nn.Module = copied(module)
        return duplicate

    package.utils.deep_copy_pai = copy
    try:
        yield
    finally:
        package.utils.deep_copy_pai = copied


@contextlib.contextmanager
def guarded(run_dir: Path, seed: int) -> Iterator[None]:
    """Around every call of perforatedai: keep its files, words, questions and numbers to itself.

    `run_dir` is the working directory meanwhile, because perforatedai writes below the working
    directory. What it prints is kept for the error message; a debugger, a prompt or an exit becomes
    a `DendriteError`. perforatedai draws its random numbers on the CPU: they come from `seed`, and
    the caller's generator stays as it was. The working directory and the replaced functions belong
    to the whole process, so no other thread should need them meanwhile.

    Args:
        run_dir: an existing folder.
        seed: of the numbers drawn inside.

    Raises:
        DendriteError: perforatedai asked a question or wanted to exit.
    """
    words = io.StringIO()

    def refuse(*_: object, **__: object) -> NoReturn:
        said = words.getvalue()[-LAST_WORDS:].strip()
        raise DendriteError(
            f"perforatedai should not ask or exit. Found that it did. Its last words: {said}"
        )

    saved = pdb.set_trace, builtins.input, sys.exit
    with (
        first_rank_first(),  # the first rank writes best_model.pt; every rank reads it in this call
        contextlib.chdir(run_dir),
        contextlib.redirect_stdout(words),
        torch.random.fork_rng(devices=[]),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # perforatedai reads every attribute, deprecated ones too
        torch.default_generator.manual_seed(seed)
        pdb.set_trace = builtins.input = sys.exit = refuse
        try:
            yield
        finally:
            pdb.set_trace, builtins.input, sys.exit = saved
        if Path(FOLDER).is_dir():
            share(Path(FOLDER))
