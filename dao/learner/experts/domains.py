"""Which expert each row belongs to, by its domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from dao.errors import UserError
from dao.learner.batches.batching import Examples
from dao.learner.kinds import Task
from dao.learner.kinds.base import SPLITS
from dao.learner.scoring.assessment import TableLike
from dao.learner.scoring.scoring import measure, selection_score
from dao.learner.settings.config import Config
from dao.learner.training.loop import ROW_EXPERT

__all__ = [
    "UNKNOWN",
    "check_labels",
    "domain_codes",
    "expert_numbers",
    "rows_of",
    "with_domains",
]

UNKNOWN = -1
NEEDED = SPLITS[:2]  # a domain without test rows has no figures, and that is all


def domain_codes(cfg: Config, table: TableLike) -> dict[str, Tensor]:
    """Split -> the number of each row's expert, (rows,).

    Raises:
        UserError: a row has no domain; or the domains of the rows are not the experts' names, in
            the training rows and in the validation rows.
    """
    names, column = cfg.experts.names, cfg.data.domain
    if "domain" not in table.frame:
        raise UserError(
            f"`{column}` should hold the domain of each row, for --experts. Found no such column, "
            f"or an empty one. Name it with --domain-column."
        )
    without = int(table.frame["domain"].isna().sum())
    if without:
        raise UserError(
            f"`{column}` should hold the domain of each row, for --experts. Found {without} of "
            f"{len(table.frame)} rows without one. Fill them, or remove these rows."
        )
    known = set(table.frame["domain"].map(str))
    unknown = sorted(known - set(names))
    absent = [n for s in NEEDED for n in names if n not in set(table.rows(s)["domain"].map(str))]
    if unknown or absent:
        extra = f"rows of {', '.join(unknown)}" if unknown else ""
        lacking = f"no training or no validation rows of {', '.join(dict.fromkeys(absent))}"
        found = " and ".join(filter(None, (extra, lacking if absent else "")))
        raise UserError(
            f"`{column}` should hold the names of --experts, {', '.join(names)}, and rows of each. "
            f"Found {found}. Name all of the data's domains, or leave rows out."
        )
    return {split: expert_numbers(table.rows(split), names) for split in SPLITS}


def check_labels(
    names: Sequence[str],
    codes: Tensor,
    rows: pd.DataFrame,
    tasks: Mapping[str, Task],
) -> None:
    """See that each expert has a figure to be selected by.

    Args:
        names: of the experts.
        codes: the number of each row's expert, (rows,).
        rows: of validation.
        tasks: by name, fitted.

    Raises:
        UserError: naming the domain that has none.
    """
    targets = {name: task.encode(rows[name].tolist()) for name, task in tasks.items()}
    for number, expert in enumerate(names):
        own = {name: values[codes == number] for name, values in targets.items()}
        guesses = {name: torch.zeros(len(own[name]), t.outputs) for name, t in tasks.items()}
        try:
            selection_score(tasks, measure(tasks, guesses, own))
        except UserError:
            raise UserError(
                f"The validation rows of each domain should allow a figure to select its expert "
                f"by. Found too few labels of {expert}, or all alike. Give more of them."
            ) from None


def expert_numbers(rows: pd.DataFrame, names: Sequence[str]) -> Tensor:
    """The number of each row's expert, (rows,); -1 where the domain is none of theirs."""
    numbers = {name: i for i, name in enumerate(names)}
    values = rows["domain"] if "domain" in rows else [None] * len(rows)
    return torch.tensor([numbers.get(str(v), UNKNOWN) for v in values], dtype=torch.int64)


def with_domains(examples: Examples, codes: Mapping[str, Tensor], split: str) -> Examples:
    """The rows of a split with the number of each row's expert beside the targets, if there are."""
    known = {ROW_EXPERT: codes[split]} if codes else {}
    return replace(examples, targets={**examples.targets, **known})


def rows_of(examples: Examples, expert: int) -> tuple[Examples, list[int]]:
    """The rows of one domain, and their numbers."""
    rows = (examples.targets[ROW_EXPERT] == expert).nonzero()[:, 0]
    listed: list[int] = rows.tolist()
    targets = {name: values[rows] for name, values in examples.targets.items()}
    return Examples([examples.ids[row] for row in listed], targets), listed
