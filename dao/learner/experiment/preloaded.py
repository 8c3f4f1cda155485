"""Imports what a training needs. The process that forks the runs of an experiment loads it once."""

import gc
import importlib
from contextlib import suppress

from dao.command import without
from dao.errors import UserError

PACKAGES = (
    "dao.learner.commands.train",
    "dao.learner.pipeline.start",
    "dao.learner.pipeline.run",
    "dao.learner.experts.stages",
)

without("torchvision")
for name in PACKAGES:
    importlib.import_module(name)
with suppress(UserError):  # perforatedai is an extra; a run with dendrites says that it is missing
    importlib.import_module("dao.learner.dendrites.perforated").load_package()
gc.collect()
gc.freeze()  # forks share the memory of what no search for garbage touches
