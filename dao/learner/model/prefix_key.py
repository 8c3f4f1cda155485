"""The name of a file of frozen states: a digest of everything that they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import torch

from dao.learner.encoder.layers import Boundary
from dao.learner.model.model import MultiTaskModel
from dao.learner.storage.provenance import package_version

__all__ = ["encoder_digest", "rows_key"]

LAYOUT = 1  # to be raised when the way in which states are computed or laid out changes
PACKAGES = ("torch", "transformers", "bitsandbytes")
PLACE = ("_name_or_path", "_commit_hash")  # where an encoder came from does not change its states


def encoder_digest(model: MultiTaskModel, boundary: Boundary) -> str:
    """Digest of the frozen part: weights, architecture, precision, and what computes with them.

    The weights of the adapted layers are left out.
    """
    base = model.base
    facts = {
        "layout": LAYOUT,
        "boundary": str(boundary),
        "config": {k: v for k, v in base.config.to_dict().items() if k not in PLACE},
        "compute": str(model.compute),
        "attention": base.config._attn_implementation,
        "packages": {name: package_version(name) for name in PACKAGES},
        "hardware": _hardware(model.device),
    }
    if model.separator is not None:
        facts["separator"] = model.separator
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for name, tensor in base.state_dict().items():
        if not _above(name, boundary):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            content = tensor.detach().cpu().contiguous().flatten()
            digest.update(content.view(torch.uint8).numpy())
    return digest.hexdigest()


def rows_key(encoder: str, ids: Sequence[Sequence[int]], batches: Sequence[Sequence[int]]) -> str:
    """Digest of an encoder's digest, the token ids of the rows, and their batches."""
    digest = hashlib.sha256(encoder.encode())
    digest.update(json.dumps([list(rows) for rows in batches]).encode())
    for row in ids:
        content = np.asarray(row, dtype=np.int64)
        digest.update(len(content).to_bytes(8, "little") + content.tobytes())
    return digest.hexdigest()


def _above(name: str, boundary: Boundary) -> bool:
    if not name.startswith(f"{boundary.path}."):
        return False
    return int(name[len(boundary.path) + 1 :].partition(".")[0]) >= boundary.count


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {torch.backends.cpu.get_cpu_capability()}"
