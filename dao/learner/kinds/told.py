"""What a person should know of the tasks, with what holds of several of them said once."""

from __future__ import annotations

import re
from collections.abc import Mapping

from dao.learner.basics.limits import IN_A_LINE
from dao.learner.basics.wording import listed
from dao.learner.kinds.base import Task

__all__ = ["notes_of_tasks"]

PLACE = "\0"


def notes_of_tasks(tasks: Mapping[str, Task]) -> list[str]:
    """The notes of all tasks; a line that differs in the name of the task alone comes once.

    Example:
        >>> from dao.learner.kinds.binary import Binary
        >>> tasks = {name: Binary(name, name, ["0", "1"]) for name in ("urgent", "churn")}
        >>> notes_of_tasks(tasks)
        ['urgent, churn: 1 is the positive class, 0 the other']
    """
    names: dict[str, list[str]] = {}
    for name, task in tasks.items():
        word = re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])")
        for line in task.notes():
            names.setdefault(word.sub(PLACE, line), []).append(name)
    return [line.replace(PLACE, listed(found, most=IN_A_LINE)) for line, found in names.items()]
