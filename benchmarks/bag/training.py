"""One training of the heads on counts of words: linear, with dendrites, or with a hidden layer."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import CountVectorizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from dao.learner.dendrites import dendritic
from dao.learner.dendrites.dendrites import Dendrites, GrowthOptions
from dao.learner.kinds.base import SPLITS
from dao.learner.pipeline.start import load_data
from dao.learner.settings.config import load_config
from dao.learner.training.parameter_groups import Apart, parameter_groups
from tasks import register

__all__ = ["ARMS", "BATCH", "DECAY", "EVERY", "RAREST", "STEPS", "TIMES", "Arm", "Job", "run"]

STEPS, EVERY, BATCH, DECAY = 1200, 40, 64, 0.01
RAREST = 5
"""Texts that a word has to occur in, to be counted."""
TIMES = 10.0
"""By how much a rate is multiplied, of dendrites or after a restart."""
ONE, THREE = (0.4,), (0.3, 0.5, 0.7)
"""Shares of the steps after which a set is added, or a control restarts."""


@dataclass(frozen=True)
class Arm:
    """A way to spend parameters and steps.

    Attributes:
        about: in words.
        growths: shares of the steps after which a set is added, or the run restarts from the best
            weights with a new optimizer, as a growth does.
        dendrites: none, grown, or sham (whose gates stay at zero).
        times: the multiple of the rate that dendrites have; without them, that all weights have
            after the first restart.
        hidden: units of a hidden layer of ReLU; 0 for linear heads.
    """

    about: str
    growths: tuple[float, ...] = ()
    dendrites: str = "none"
    times: float = 1.0
    hidden: int = 0


ARMS = {
    "linear": Arm("linear heads, one restart", ONE),
    "faster": Arm("linear heads, ten times the rate, one restart", ONE, times=TIMES),
    "sham": Arm("one set whose gates stay at zero", ONE, "sham", TIMES),
    "one set x1": Arm("one set of dendrites at the rate of the heads", ONE, "grown"),
    "one set": Arm("one set of dendrites at ten times the rate", ONE, "grown", TIMES),
    "hidden 8": Arm("as many parameters as one set, in a hidden layer", ONE, hidden=8),
    "linear thrice": Arm("linear heads, three restarts", THREE),
    "faster thrice": Arm("linear heads, ten times the rate, three restarts", THREE, times=TIMES),
    "three sets": Arm("three sets of dendrites at ten times the rate", THREE, "grown", TIMES),
    "hidden 16": Arm("as many parameters as three sets, in a hidden layer", THREE, hidden=16),
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One run and all it depends on.

    Attributes:
        arm: a name in `ARMS`.
        seed: of the table, its split, the initialisation and the order of the batches.
        rate: learning rate.
        rows: of the table.
        steps: optimizer steps.
    """

    arm: str
    seed: int
    rate: float
    rows: int
    steps: int = STEPS

    @property
    def key(self) -> str:
        """Tells it from all others of the study."""
        return f"{self.arm}/{self.rows} rows/{self.steps} steps/rate {self.rate:g}/seed {self.seed}"


class Heads(nn.Module):
    """A head for three classes and one for a number, on counts or on a hidden layer of them."""

    def __init__(self, words: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.below = nn.Sequential(nn.Linear(words, hidden), nn.ReLU()) if hidden else nn.Identity()
        self.cls = nn.Linear(hidden or words, classes)
        self.reg = nn.Linear(hidden or words, 1)

    def forward(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        found = self.below(counts)
        return self.cls(found), self.reg(found)[:, 0]


Rows = tuple[Tensor, Tensor, Tensor]
"""Counts (n, words), classes (n,) and numbers (n,), standardised by those of train."""


@cache
def table(seed: int, rows: int) -> tuple[dict[str, Rows], int]:
    """The generated headlines of a seed, split by split, and how many classes there are."""
    register()
    settings = ["tasks=[cls,reg]", f"data.synthetic.rows={rows}", f"data.synthetic.seed={seed}"]
    _, found, tasks = load_data(load_config(None, [*settings, f"data.split_seed={seed}"]))
    words = CountVectorizer(min_df=RAREST).fit(found.rows("train")["text"])
    numbers = found.rows("train")["reg"].astype(float)
    middle, spread = numbers.mean(), numbers.std(ddof=0)
    return {
        split: (
            torch.tensor(words.transform(part["text"]).toarray(), dtype=torch.float32),
            tasks["cls"].encode(part["cls"].tolist()),
            torch.tensor(((part["reg"].astype(float) - middle) / spread).to_numpy()).float(),
        )
        for split in SPLITS
        for part in [found.rows(split)]
    }, tasks["cls"].outputs


@dataclass
class _Best:
    score: float = -math.inf
    step: int = 0
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    test: tuple[float, float] = (math.nan, math.nan)


def run(job: Job) -> dict[str, Any]:
    """Train and select on validation.

    Returns:
        `key`, and the job; `validation`: the best mean of accuracy and R2; `test`: accuracy and R2
        at that step; `step`; `parameters` that the model has; `shares`: per head the output of its
        dendrites over that of the whole layer, of every set, at the end of the run.
    """
    torch.set_num_threads(1)
    torch.manual_seed(job.seed)
    rows, classes = table(job.seed, job.rows)
    arm = ARMS[job.arm]
    model = Heads(rows["train"][0].shape[1], classes, arm.hidden)
    parameters = sum(p.numel() for p in model.parameters())
    with TemporaryDirectory() as folder:
        dendrites = _wrapped(model, arm, job, rows, folder)
        best = _train(model, dendrites, arm, job, rows)
        shares, added = _facts(dendrites, rows, classes)
    return {
        "key": job.key, **asdict(job), "validation": best.score, "test": list(best.test),
        "step": best.step, "parameters": parameters + added, "shares": shares,
    }  # fmt: skip


def _wrapped(
    model: Heads, arm: Arm, job: Job, rows: Mapping[str, Rows], folder: str
) -> Dendrites | None:
    if arm.dendrites == "none":
        return None
    options = GrowthOptions(
        max_dendrites=len(arm.growths), init_scale=0.1, seed=job.seed, sham=arm.dendrites == "sham"
    )
    few = rows["train"][0][:2]
    return Dendrites(model, ["cls", "reg"], options, run_dir=Path(folder), probe=lambda m: m(few))


def _train(
    model: Heads, dendrites: Dendrites | None, arm: Arm, job: Job, rows: Mapping[str, Rows]
) -> _Best:
    best = _Best()
    growths = {EVERY * round(share * job.steps / EVERY) for share in arm.growths}
    optimizer = _optimizer(model, dendrites, arm, job.rate)
    for step, batch in enumerate(_batches(rows["train"], job), 1):
        classes, numbers = model(batch[0])
        (cross_entropy(classes, batch[1]) + mse_loss(numbers, batch[2])).backward()  # type: ignore[no-untyped-call]
        if dendrites:
            dendrites.record_gradients()
        optimizer.step()
        optimizer.zero_grad()
        if step % EVERY:
            continue
        score = float(np.mean(_figures(model, rows["validation"])))
        if score > best.score:
            weights = copy.deepcopy(model.state_dict()) if dendrites is None else {}
            best = _Best(score, step, weights, _figures(model, rows["test"]))
        if dendrites and dendrites.validation(score, grow=step in growths).restructured:
            optimizer = _optimizer(model, dendrites, arm, job.rate)
        elif dendrites is None and step in growths:
            model.load_state_dict(best.weights)
            optimizer = _optimizer(model, dendrites, arm, job.rate * arm.times)
    return best


def _optimizer(
    model: Heads, dendrites: Dendrites | None, arm: Arm, rate: float
) -> torch.optim.Optimizer:
    apart = [Apart(dendrites.dendrite_parameters(), arm.times)] if dendrites else []
    groups = parameter_groups([p for p in model.parameters() if p.requires_grad], apart)
    rated = [{"params": group["params"], "lr": rate * group["times"]} for group in groups]
    found = torch.optim.AdamW(rated, weight_decay=DECAY)
    if dendrites:
        dendrites.set_optimizer(found)
    return found


def _batches(rows: Rows, job: Job) -> Iterator[Rows]:
    generator = torch.Generator().manual_seed(job.seed)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(job.steps):
        if len(order) < BATCH:
            order = torch.randperm(len(rows[0]), generator=generator)
        chosen, order = order[:BATCH], order[BATCH:]
        yield rows[0][chosen], rows[1][chosen], rows[2][chosen]


@torch.no_grad()
def _figures(model: nn.Module, rows: Rows) -> tuple[float, float]:
    """Accuracy and R2."""
    classes, numbers = model(rows[0])
    right = (classes.argmax(1) == rows[1]).float().mean().item()
    error = (numbers - rows[2]).square().mean() / rows[2].var(correction=0)
    return right, 1 - error.item()


def _facts(
    dendrites: Dendrites | None, rows: Mapping[str, Rows], classes: int
) -> tuple[dict[str, list[float]], int]:
    """Shares of the output, and parameters that the dendrites add; the dendrites come off."""
    if dendrites is None:
        return {}, 0
    added = dendrites.report()["parameters_added"]
    description, tensors = dendrites.twin_state()
    dendrites.detach()
    twin = Heads(rows["train"][0].shape[1], classes, 0)
    dendritic.attach(twin, description)
    dendritic.load(twin, tensors)
    with torch.no_grad():
        shares = dendritic.output_shares(twin, lambda: twin(rows["validation"][0]))
        return shares, added
