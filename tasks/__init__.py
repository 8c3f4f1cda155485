"""What is learned: the tasks, the table they read and the baselines beside them."""

from tasks.base import Task
from tasks.classification import Classification
from tasks.regression import Regression

__all__ = ["TASKS", "Classification", "Regression", "Task"]

TASKS: dict[str, type[Classification] | type[Regression]] = {
    "cls": Classification,
    "reg": Regression,
}
"""The kind of task behind each task name."""
