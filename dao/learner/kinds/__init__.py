"""The kinds of task: how targets are read, learned, decided, measured, and what is plain beside it.

A kind is one file with a final class that derives from `base.Task`, and one line in `KINDS`. No
other file of the learner asks for a task's name or kind: it asks the task.
"""

from __future__ import annotations

from dao.learner.kinds.base import Task, TaskSettings
from dao.learner.kinds.binary import Binary
from dao.learner.kinds.classification import Classification
from dao.learner.kinds.multilabel import Multilabel
from dao.learner.kinds.ordinal import Ordinal
from dao.learner.kinds.regression import Regression

__all__ = ["KINDS", "Task", "TaskSettings"]

KINDS: dict[str, type[Task]] = {
    kind.kind: kind for kind in (Binary, Classification, Multilabel, Ordinal, Regression)
}
"""Name -> kind."""
