"""Which texts move to another split, so that classes and their sum keep their shares."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

__all__ = ["choose", "choose_one", "only_holders"]

Order = Callable[[str], str]


def choose(
    members: Mapping[str, Sequence[str]],
    share: float,
    order: Order,
    training: pd.DataFrame,
) -> set[str]:
    """Take a share of the texts of each stratum, and the same share of all together.

    Each stratum gives its share, rounded by itself. Where these miss the share of all texts by more
    than one, as with many strata of few texts, each gives its share rounded down and those with the
    largest remainders one more (largest remainder method, Hamilton 1792). The last training text of
    a class, or with a score, is never taken.

    Args:
        members: Stratum -> its texts, by their keys.
        share: Of the texts of a stratum, at most 1.
        order: Sorts texts, and strata of equal remainders.
        training: Of the training rows the column `key`, and one per task with what has to stay in
            training: the class, or a mark that there is a score; None where the target is missing.

    Example:
        >>> members = {name: [f"{name}{i}" for i in range(4)] for name in "abcde"}
        >>> rows = [(key, name) for name, keys in members.items() for key in keys]
        >>> sorted(choose(members, 0.1, str, pd.DataFrame(rows, columns=["key", "cls"])))
        ['a0', 'b0']
    """
    ordered = {name: sorted(keys, key=order) for name, keys in members.items()}
    kept = only_holders(training)
    while True:
        free = {name: [key for key in keys if key not in kept] for name, keys in ordered.items()}
        quota = _quota(ordered, free, share, order)
        chosen = {key for name, keys in free.items() for key in keys[: quota[name]]}
        emptied = _emptied(training, chosen, order)
        if not emptied:
            return chosen
        kept |= emptied


def choose_one(
    members: Mapping[str, Sequence[str]], order: Order, training: pd.DataFrame
) -> set[str]:
    """A text of the largest stratum that has one to spare; none where no stratum has."""
    kept = only_holders(training)
    for keys in sorted(members.values(), key=len, reverse=True):
        if free := [key for key in keys if key not in kept]:
            return {min(free, key=order)}
    return set()


def only_holders(training: pd.DataFrame) -> set[str]:
    """The texts that are the only ones of their class, or the only one with a score."""
    found: set[str] = set()
    for task in training.columns.drop("key"):
        pairs = training[["key", task]].dropna().drop_duplicates()
        found |= set(pairs["key"][~pairs[task].duplicated(keep=False)])
    return found


def _quota(
    members: Mapping[str, Sequence[str]],
    free: Mapping[str, Sequence[str]],
    share: float,
    order: Order,
) -> dict[str, int]:
    """How many texts each stratum gives."""
    parts = {name: share * len(keys) for name, keys in members.items()}
    wanted = round(share * sum(map(len, members.values())))
    quota = {name: round(part) for name, part in parts.items()}
    if abs(sum(quota.values()) - wanted) <= 1:
        return quota
    # The sum of some floating-point shares is a little below a whole number.
    quota = {name: min(int(part + 1e-9), len(free[name])) for name, part in parts.items()}
    rest = {name: part - int(part + 1e-9) for name, part in parts.items()}
    for name in sorted(rest, key=lambda name: (-round(rest[name], 9), order(name))):
        if sum(quota.values()) >= wanted:
            break
        if rest[name] > 1e-9 and quota[name] < len(free[name]):
            quota[name] += 1
    return quota


def _emptied(training: pd.DataFrame, chosen: set[str], order: Order) -> set[str]:
    """For everything that would be in no training text any more, the last text that has it."""
    stays = ~training["key"].isin(chosen)
    last: set[str] = set()
    for task in training.columns.drop("key"):
        here = training[["key", task]].dropna()
        gone = here[~here[task].isin(set(here[task][stays[here.index]]))]
        last |= {max(keys, key=order) for _, keys in gone.groupby(task)["key"]}
    return last
