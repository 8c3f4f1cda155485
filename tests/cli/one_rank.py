"""train.py as one rank of several, with something done to it: `one_rank.py WHAT [ARGUMENTS]...`."""

import math
import os
import signal
import sys

import torch

import train
from dao.learner.dendrites.dendrites import Dendrites, Growth
from dao.learner.processes import ranks
from dao.learner.storage.writing import OwnedRecord
from dao.learner.training import loop
from dao.learner.training.state import State

STEP, GROW, WRITE = loop.train_step, Dendrites.validation, OwnedRecord.write


def is_second() -> bool:
    return not ranks.is_first()


def compare_every_step(state: State, step: int, epoch: int, rows: tuple[int, ...]) -> None:
    STEP(state, step, epoch, rows)
    ranks.check_equal(state.trainable(), AssertionError)


def nan_in_step_5(state: State, step: int, epoch: int, rows: tuple[int, ...]) -> None:
    if step == 5 and is_second():
        state.tasks["reg"].scale = math.nan
    STEP(state, step, epoch, rows)


def stumble_in_step_5(state: State, step: int, epoch: int, rows: tuple[int, ...]) -> None:
    if step == 5 and is_second():
        raise ZeroDivisionError("a bug on the second rank")
    STEP(state, step, epoch, rows)


def stop_before_step_14(state: State, step: int, epoch: int, rows: tuple[int, ...]) -> None:
    if step == 14:
        raise KeyboardInterrupt
    STEP(state, step, epoch, rows)


def killed_in_step_14(state: State, step: int, epoch: int, rows: tuple[int, ...]) -> None:
    if step == 14:
        os.kill(os.getpid(), signal.SIGKILL)
    STEP(state, step, epoch, rows)


def grow_apart(self: Dendrites, *arguments: object, **options: object) -> Growth:
    growth = GROW(self, *arguments, **options)
    if growth.restructured and is_second():
        with torch.no_grad():
            next(p for p in self.model.parameters() if p.requires_grad).view(-1)[0] += 1e-6
    return growth


def disk_full_at_the_end(self: OwnedRecord, name: str, content: object) -> None:
    if name == "metrics.json":
        raise OSError(28, "No space left on device", name)
    WRITE(self, name, content)


def main(what: str) -> None:
    if what == "grow_apart":
        Dendrites.validation = grow_apart
    elif what == "disk_full_at_the_end":
        OwnedRecord.write = disk_full_at_the_end
    elif what != "nothing":
        loop.train_step = globals()[what]
    train.app()


if __name__ == "__main__":
    main(sys.argv.pop(1))
