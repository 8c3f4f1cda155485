"""What the loss did over many steps: as rows, as a data frame, as a figure."""

from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, Any

from dao.errors import UserError
from dao.loss import DAOLoss
from dao.records import TaskRecord, numbers

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DAOHistory"]

BLOCK = 100
"""Steps whose numbers are read from the device at once."""
PANELS = {
    "weight": ("weight", "log"),
    "norm": ("gradient norm", "log"),
    "share": ("share of the weighted norms", "linear"),
    "loss": ("loss", "linear"),
}


class DAOHistory:
    """Keeps what :class:`dao.DAOLoss` did: loss, weight, gradient norm and share of every task.

    :meth:`record` is called once per step, after the loss, in any loop or callback. The numbers
    stay on their device, and 100 steps are read at once, so that a step does not wait for them.
    With several ranks every rank could record the same; one is enough.

    Args:
        loss: The loss to watch.
        every: Calls of :meth:`record` of which one is kept: 10 keeps the first, the eleventh, ...
        keep: Steps that are kept at most, the latest ones; None: all. A step takes about a kilobyte
            with two tasks.

    Raises:
        UserError: `every` or `keep` is below 1.

    Example:
        >>> import torch
        >>> shared = torch.nn.Linear(2, 2)
        >>> balance = DAOLoss(["cls", "reg"], params=shared.parameters())
        >>> history = DAOHistory(balance)
        >>> for step in range(3):
        ...     z = shared(torch.ones(4, 2))
        ...     balance({"cls": z.square().mean(), "reg": 9 * z.square().mean()}).backward()
        ...     history.record(step)
        >>> len(history), [row["task"] for row in history.rows()[-2:]]
        (3, ['cls', 'reg'])
        >>> sorted(history.rows()[0])
        ['loss', 'norm', 'share', 'step', 'task', 'weight']
    """

    def __init__(self, loss: DAOLoss, *, every: int = 1, keep: int | None = None) -> None:
        for name, value in (("every", every), ("keep", 1 if keep is None else keep)):
            if value < 1:
                raise UserError(f"`{name}` of DAOHistory should be at least 1. Found {value}.")
        self._loss, self._every = loss, every
        self._block = BLOCK if keep is None else min(BLOCK, keep)
        self._calls = 0
        self._next = 0
        self._waiting: list[tuple[int, dict[str, TaskRecord]]] = []
        self._read: deque[list[dict[str, Any]]] = deque(maxlen=keep)

    def record(self, step: int | None = None) -> None:
        """Keep what the tasks did in the last training call of the loss.

        A task that was absent from that call has no row.

        Args:
            step: Its number; None: one more than the last, from 0.

        Raises:
            UserError: The loss was not called in training yet.
        """
        last = self._loss.last
        if not last:
            raise UserError(
                "DAOHistory.record should come after a training call of the loss. Found none yet. "
                "Call it behind `loss(...)`, in train mode."
            )
        number = self._next if step is None else step
        self._next = number + 1
        self._calls += 1
        if (self._calls - 1) % self._every:
            return
        self._waiting.append((number, last))
        if len(self._waiting) >= self._block:
            self._flush()

    def rows(self) -> list[dict[str, Any]]:
        """A row per step and task that was kept: step, task, loss, weight, norm, share.

        As in :class:`dao.TaskRecord`: a norm is the one last measured, NaN while there is none.
        """
        self._flush()
        return list(chain.from_iterable(self._read))

    def to_frame(self) -> "pd.DataFrame":
        """:meth:`rows` as a data frame of pandas.

        ``history.to_frame().pivot(index="step", columns="task", values="weight")`` has a column per
        task.

        Raises:
            UserError: pandas is not installed.
        """
        columns = ["step", "task", *TaskRecord.__dataclass_fields__]
        frame: pd.DataFrame = _pandas().DataFrame(self.rows(), columns=columns)
        return frame

    def plot(self) -> tuple[Any, Any]:
        """Draws weights, norms, shares and losses over the steps, a line per task.

        Returns:
            The figure of matplotlib and its four axes, shape ``(2, 2)``, as ``plt.subplots`` does.

        Raises:
            UserError: matplotlib is not installed.
        """
        figure, axes = _pyplot().subplots(2, 2, sharex=True, figsize=(9, 6), layout="constrained")
        rows = self.rows()
        tasks = dict.fromkeys(row["task"] for row in rows)
        for panel, (key, (title, scale)) in zip(axes.flat, PANELS.items(), strict=True):
            for task in tasks:
                own = [row for row in rows if row["task"] == task]
                panel.plot([row["step"] for row in own], [row[key] for row in own], label=task)
            panel.set(title=title, yscale=scale)
        for panel in axes[1]:
            panel.set_xlabel("step")
        if tasks:
            axes[0, 0].legend()
        return figure, axes

    def __len__(self) -> int:
        """Steps that are kept."""
        self._flush()
        return len(self._read)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        records = {f"{n} {t}": r for n, (_, tasks) in enumerate(waiting) for t, r in tasks.items()}
        found = numbers(records)
        for n, (step, tasks) in enumerate(waiting):
            self._read.append([{"step": step, "task": t, **found[f"{n} {t}"]} for t in tasks])


def _pandas() -> Any:  # noqa: ANN401
    try:
        import pandas as pd
    except ImportError:
        raise _missing("to_frame", "pandas") from None
    return pd


def _pyplot() -> Any:  # noqa: ANN401
    try:
        from matplotlib import pyplot as plt
    except ImportError:
        raise _missing("plot", "matplotlib") from None
    return plt


def _missing(method: str, package: str) -> UserError:
    return UserError(
        f"DAOHistory.{method} should find {package}. Found it not installed. Run: pip install "
        f"{package}"
    )
