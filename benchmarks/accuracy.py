"""How far the weights of `DAOLoss` are off those of norms that are measured exactly, always.

python -m benchmarks.accuracy
python -m benchmarks.accuracy --quick --json result.json

Small models learn generated classification and regression tasks, in turn, whose losses have scales
from 0.01 to 100. At every step the norm of each task's gradient over the shared parameters is taken
exactly, by a backward per task. The ideal weights are inverse to the geometric mean of these norms
over the 51 steps around: that smooths the noise of single batches, which no rule should follow. A
figure is the root mean square over the tasks of the difference between the two log weights, each
without its mean over the tasks, averaged over steps: 0.1 is a weight that is wrong by 10 %.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

from dao import DAOLoss
from dao.importance import gradient_norm, task_gradients
from dao.learner.basics.tables import titled
from dao.learner.console.terminal import plain_console

__all__ = ["ARMS", "Setting", "measure", "off"]

ROWS, FEATURES, CLASSES, BATCH, WIDTH = 2048, 32, 3, 32, 64
AROUND = 25
"""Steps before and after, over which the ideal weights are smoothed."""
EARLY = 100
"""Steps that are reported by themselves."""

Make = Callable[..., DAOLoss]

ARMS: Mapping[str, Make] = {
    "equal weights": partial(DAOLoss, alpha=0.0),
    "refresh_every=1": partial(DAOLoss, refresh_every=1),
    "refresh_every=50": partial(DAOLoss, refresh_every=50),
    "the default, tapped": DAOLoss,
    "the default without a tap": partial(DAOLoss, source="params"),
    "source='rep' at every step": partial(DAOLoss, source="rep", refresh_every=1),
}
"""What is compared, by the name in the table."""


class Setting(NamedTuple):
    """A model and a number of tasks."""

    trunk: str
    tasks: int

    @property
    def label(self) -> str:
        """What the table calls it."""
        return f"{self.trunk}, {self.tasks} tasks"


SETTINGS = (
    Setting("MLP", 2), Setting("transformer", 2),
    Setting("MLP", 8), Setting("MLP", 32), Setting("transformer", 8),
)  # fmt: skip


class Trunk(nn.Module):
    """Features (rows, 32) to a representation (rows, 64)."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.attends = kind == "transformer"
        if self.attends:
            self.enter = nn.Linear(FEATURES // 8, WIDTH)
            layer = nn.TransformerEncoderLayer(
                WIDTH, 4, 2 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
            )
            self.body: nn.Module = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        else:
            self.body = nn.Sequential(
                nn.Linear(FEATURES, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()
            )

    def forward(self, x: Tensor) -> Tensor:
        """The representation; a transformer reads the features as eight tokens."""
        if not self.attends:
            found: Tensor = self.body(x)
            return found
        tokens = x.reshape(len(x), 8, FEATURES // 8)
        states: Tensor = self.body(self.enter(tokens))
        return states.mean(dim=1)


class Tasks(NamedTuple):
    """Rows, and for each task its targets and the scale of its loss."""

    features: Tensor
    targets: Mapping[str, Tensor]
    scales: Mapping[str, float]


def make_tasks(count: int, seed: int) -> Tasks:
    """Targets that small random networks give to random features, with noise."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(ROWS, FEATURES, generator=draw)
    targets, scales = {}, {}
    for number in range(count):
        hidden = torch.randn(FEATURES, 16, generator=draw) / FEATURES**0.5
        out = torch.randn(16, CLASSES, generator=draw)
        scores = torch.tanh(2 * x @ hidden) @ out + torch.randn(ROWS, CLASSES, generator=draw)
        name = f"{('cls', 'reg')[number % 2]}{number}"
        targets[name] = scores.argmax(1) if number % 2 == 0 else scores[:, 0]
        # Neighbours in the list differ, so that kinds of tasks do not have scales of their own.
        place = (number * 7 % count) / max(1, count - 1) if count > 2 else float(number)
        scales[name] = 10 ** (4 * place - 2)
    return Tasks(x, targets, scales)


def measure(setting: Setting, make: Make, steps: int, seed: int = 0) -> tuple[float, float]:
    """How far the weights of a rule are off: in the first 100 steps, and in the others."""
    torch.manual_seed(seed)
    data = make_tasks(setting.tasks, seed)
    trunk = Trunk(setting.trunk)
    heads = {
        name: nn.Linear(WIDTH, CLASSES if name.startswith("cls") else 1) for name in data.targets
    }
    shared = list(trunk.parameters())
    everything = [*shared, *(p for head in heads.values() for p in head.parameters())]
    optimizer = torch.optim.AdamW(everything, lr=1e-3)
    balance = make(list(data.targets), params=shared)
    draw = torch.Generator().manual_seed(seed + 1)
    norms, weights = [], []
    for _ in range(steps):
        rows = torch.randint(ROWS, (BATCH,), generator=draw)
        z = balance.tap(trunk(data.features[rows]))
        losses = {name: _loss(name, heads[name](z), data, rows) for name in data.targets}
        exact = [gradient_norm(task_gradients(loss, shared)) for loss in losses.values()]
        norms.append([float(norm) for norm in exact])
        balance(losses).backward()
        weights.append([float(row.weight) for row in balance.last.values()])
        optimizer.step()
        optimizer.zero_grad()
    found = off(torch.tensor(norms).double(), torch.tensor(weights).double())
    return float(found[:EARLY].mean()), float(found[EARLY:].mean())


def off(norms: Tensor, weights: Tensor) -> Tensor:
    """Distance of weights from the ideal ones, by step.

    Args:
        norms: exact, shape (steps, tasks).
        weights: in force, shape (steps, tasks).

    Returns:
        Shape (steps,): the root mean square over tasks of the difference of log weights.

    Example:
        >>> norms = torch.tensor([[1.0, 4.0]]).expand(3, 2)
        >>> off(norms, 1 / norms).tolist(), round(off(norms, torch.ones(3, 2))[0].item(), 4)
        ([0.0, 0.0, 0.0], 0.6931)
    """
    logs = norms.log()
    smooth = torch.stack(
        [logs[max(0, s - AROUND) : s + AROUND + 1].mean(dim=0) for s in range(len(logs))]
    )
    gap = weights.log() + smooth
    return (gap - gap.mean(dim=1, keepdim=True)).square().mean(dim=1).sqrt()


def _loss(name: str, output: Tensor, data: Tasks, rows: Tensor) -> Tensor:
    target = data.targets[name][rows]
    if name.startswith("cls"):
        return data.scales[name] * functional.cross_entropy(output, target)
    return data.scales[name] * functional.mse_loss(output.squeeze(1), target)


app = typer.Typer(add_completion=False)


@app.command()
def main(
    steps: Annotated[int, typer.Option(min=EARLY + 1)] = 500,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="Two tasks, one seed.")] = False,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Train with every rule and print how far its weights are off."""
    settings = [s for s in SETTINGS if s.tasks == 2] if quick else SETTINGS
    found: dict[str, dict[str, Any]] = {}
    for name, make in ARMS.items():
        for setting in settings:
            pairs = [measure(setting, make, steps, seed) for seed in range(1 if quick else seeds)]
            early, late = (sum(values) / len(values) for values in zip(*pairs, strict=True))
            found.setdefault(name, {})[setting.label] = {"early": early, "late": late}
    if output:
        output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    plain_console().print(_table(found))


def _table(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table:
    labels = list(next(iter(found.values())))
    table = titled(f"weights off; the first {EARLY} steps / the others", ("rule", *labels))
    for name, by_setting in found.items():
        cells = [f"{row['early']:.2f} / {row['late']:.2f}" for row in by_setting.values()]
        table.add_row(name, *cells)
    return table


if __name__ == "__main__":
    app()
