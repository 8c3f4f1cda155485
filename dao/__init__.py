"""Balances the losses of a multi-task model by the gradients they send into its shared part.

>>> import torch
>>> from dao import DAOLoss
>>> encoder = torch.nn.Linear(4, 8)
>>> heads = torch.nn.ModuleDict({"cls": torch.nn.Linear(8, 3), "reg": torch.nn.Linear(8, 1)})
>>> balance = DAOLoss(["cls", "reg"], params=encoder.parameters())
>>> optimizer = torch.optim.AdamW([*encoder.parameters(), *heads.parameters()])
>>> for _ in range(3):
...     x, label, score = torch.randn(16, 4), torch.randint(3, (16,)), torch.randn(16)
...     z = encoder(x)
...     losses = {
...         "cls": torch.nn.functional.cross_entropy(heads["cls"](z), label),
...         "reg": torch.nn.functional.mse_loss(heads["reg"](z)[:, 0], score),
...     }
...     balance(losses).backward()
...     optimizer.step()
...     optimizer.zero_grad()
>>> sorted(balance.telemetry()["cls"])  # numbers of the last step, by task
['loss', 'norm', 'share', 'weight']
"""

import importlib
from typing import TYPE_CHECKING

from dao.errors import UserError

if TYPE_CHECKING:
    from dao.data_weights import (
        balanced_thresholds,
        class_balanced_weights,
        label_density_weights,
        weighted_loss,
    )
    from dao.distributed import keep_alive
    from dao.history import DAOHistory
    from dao.importance import (
        adapter_norm,
        frobenius_norm,
        gradient_norm,
        inverse_norm_weights,
        task_gradients,
    )
    from dao.loss import DAOLoss
    from dao.records import TaskRecord

__all__ = [
    "DAOHistory",
    "DAOLoss",
    "TaskRecord",
    "UserError",
    "__version__",
    "adapter_norm",
    "balanced_thresholds",
    "class_balanced_weights",
    "frobenius_norm",
    "gradient_norm",
    "inverse_norm_weights",
    "keep_alive",
    "label_density_weights",
    "task_gradients",
    "weighted_loss",
]

__version__ = "0.1.0"

# Each is imported when it is first asked for, so that `dao --help` need not wait for torch.
_MODULES = {
    "data_weights": (
        "balanced_thresholds",
        "class_balanced_weights",
        "label_density_weights",
        "weighted_loss",
    ),
    "distributed": ("keep_alive",),
    "history": ("DAOHistory",),
    "importance": (
        "adapter_norm",
        "frobenius_norm",
        "gradient_norm",
        "inverse_norm_weights",
        "task_gradients",
    ),
    "loss": ("DAOLoss",),
    "records": ("TaskRecord",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
