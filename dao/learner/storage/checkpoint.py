"""Checkpoints: written whole, named the latest at the very end, refused when damaged."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dao.errors import UserError
from dao.learner.basics.wording import one_line
from dao.learner.storage.files import digest, read_tensors, replace_folder, write_atomically

__all__ = [
    "ADVICE",
    "check_fit",
    "check_optimizer",
    "latest",
    "load_checkpoint",
    "save_checkpoint",
    "stamped",
]

LATEST = "latest"
STATE = "state.json"
OPTIMIZER = "optimizer.pt"
OWN = "sha256_of_the_rest"
NAME = re.compile(r"step=\d{6,}")
SAVED = ("optimizer", "weighting", "random", "random_cuda")
ADVICE = "Start the run again with --overwrite."


def save_checkpoint(
    root: Path,
    state: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, Tensor]],
    optimizer: Mapping[str, Any],
    files: Iterable[Path] = (),
) -> None:
    """Write a checkpoint, then name it the latest; a kill at any moment leaves one that is whole.

    Args:
        root: folder of all checkpoints.
        state: JSON-able, with `step`.
        tensors: content of each safetensors file, by its name.
        optimizer: states for torch to save, of types that torch loads without running code.
        files: copied under `files/`, for example perforatedai's own.

    Raises:
        OSError: the checkpoint could not be written; the one before is then still the latest.
    """
    name = f"step={state['step']:06d}"

    def fill(folder: Path) -> None:
        (folder / "files").mkdir()
        for group, content in tensors.items():
            whole = {key: tensor.contiguous() for key, tensor in content.items()}
            save_file(whole, folder / f"{group}.safetensors")
        torch.save(optimizer, folder / OPTIMIZER)
        for file in files:
            shutil.copy2(file, folder / "files" / file.name)
        shapes = {group: _shapes(content) for group, content in tensors.items()}
        facts = stamped({**state, "tensors": shapes, "sha256": _digests(folder)})
        with open(folder / STATE, "w", encoding="utf-8") as stream:
            json.dump(facts, stream)

    root.mkdir(parents=True, exist_ok=True)
    replace_folder(root / name, fill)
    write_atomically(root / LATEST, name)
    for old in root.iterdir():
        if old.name not in (name, LATEST):
            shutil.rmtree(old, ignore_errors=True)  # one that stays takes up room, and that is all


def stamped(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state as JSON gives it back, with the sha256 of its other entries."""
    content = json.loads(json.dumps({k: v for k, v in state.items() if k != OWN}))
    text = json.dumps(content, sort_keys=True)
    return {**content, OWN: hashlib.sha256(text.encode()).hexdigest()}


def latest(root: Path) -> Path | None:
    """The newest whole checkpoint below `root`; None where there is none yet.

    Raises:
        UserError: the file that names the latest checkpoint is damaged.
    """
    try:
        name = (root / LATEST).read_text(encoding="utf-8", errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not NAME.fullmatch(name):
        raise UserError(f"{root / LATEST} should name a checkpoint. Found {name[:40]!r}. {ADVICE}")
    return root / name


def load_checkpoint(
    folder: Path, needed: Iterable[str] = ()
) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The state, tensors and optimizer that `save_checkpoint` was given; no code is run.

    Args:
        folder: the checkpoint.
        needed: keys that the state should have.

    Raises:
        UserError: the checkpoint is damaged; the message names the file, or the tensor, that is
            missing, superfluous, of another shape, not finite or changed.
    """
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        absent = [k for k in (*needed, "step", "tensors", "sha256") if k not in state]
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise _damaged(folder, error) from None
    if absent or not isinstance(state, dict):
        raise _damaged(folder, f"no {' and no '.join(absent)} in {STATE}")
    if OWN in state and stamped(state)[OWN] != state[OWN]:  # earlier checkpoints have no stamp
        raise _damaged(folder, f"{STATE} changed")
    tensors = {path.stem: read_tensors(path) for path in sorted(folder.glob("*.safetensors"))}
    for group in {**state["tensors"], **tensors}:
        wanted = {k: tuple(shape) for k, shape in state["tensors"].get(group, {}).items()}
        check_fit(tensors.get(group, {}), wanted, folder / f"{group}.safetensors", ADVICE)
    found = _digests(folder)
    stated = state["sha256"]
    changed = sorted(n for n in {*found, *stated} if found.get(n) != stated.get(n))
    if changed:
        raise _damaged(folder, f"{', '.join(changed)} missing, superfluous or changed")
    try:
        optimizer = torch.load(folder / OPTIMIZER, weights_only=True, map_location="cpu")
        absent = [key for key in SAVED if key not in optimizer]
    except Exception as error:  # zip, pickle and torch have errors of their own
        raise _damaged(folder / OPTIMIZER, str(error).partition("\n")[0]) from None
    if absent:
        raise _damaged(folder / OPTIMIZER, f"no {' and no '.join(absent)}")
    return state, tensors, optimizer


def check_fit(
    found: Mapping[str, Tensor],
    wanted: Mapping[str, tuple[int, ...]],
    place: Path,
    advice: str = "",
) -> None:
    """Compare tensors with the shapes that a model has for them.

    Args:
        found: the tensors, by name.
        wanted: shapes, by the same names.
        place: the file that the tensors are from.
        advice: last sentence of the error.

    Raises:
        UserError: a tensor is missing, superfluous or of another shape.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    if shapes == dict(wanted):
        return
    wrong = sorted(k for k in {*shapes, *wanted} if shapes.get(k) != wanted.get(k))
    first = wrong[0]
    raise UserError(
        f"{place} should hold the weights of this model. {len(wrong)} tensors differ, "
        f"first {first}: found {shapes.get(first)}, expected {wanted.get(first)}. {advice}".rstrip()
    )


def check_optimizer(
    saved: Mapping[str, Any], parameters: Mapping[str, nn.Parameter], place: Path
) -> None:
    """Refuse the state of an optimizer that does not fit these parameters, or is not finite.

    Args:
        saved: the state.
        parameters: by name, in the order of the optimizer.
        place: the checkpoint.

    Raises:
        UserError: the state does not fit; the message names the parameter.
    """
    names = list(parameters)
    try:
        numbers = [i for group in saved["param_groups"] for i in group["params"]]
        states = {names[i]: dict(state) for i, state in saved["state"].items()}
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(place / OPTIMIZER, repr(error)) from None
    if numbers != list(range(len(names))):
        raise _damaged(place / OPTIMIZER, f"{len(numbers)} parameters, expected {len(names)}")
    for name, state in states.items():
        for key, value in state.items():
            if not isinstance(value, Tensor) or not torch.isfinite(value).all():
                raise _damaged(place / OPTIMIZER, f"{key} of {name} is not finite")
            if value.shape not in ((), parameters[name].shape):
                raise _damaged(place / OPTIMIZER, f"{key} of {name} has {tuple(value.shape)}")


def _damaged(place: Path, reason: object) -> UserError:
    said = one_line(reason)
    return UserError(f"The checkpoint {place} should be whole. Found: {said}. {ADVICE}")


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in tensors.items()}


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file but the state, by its path in the folder."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p != folder / STATE]
    return {str(path.relative_to(folder)): digest(path) for path in files}
