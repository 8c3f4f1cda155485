"""How much dendrites contribute to the output of their layers, in figures and in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

__all__ = ["LITTLE", "contribution", "percent", "share_lines", "shares_of_sets"]

LITTLE = 0.01
"""A set whose median share is below this contributes little, and readers are told so."""


def shares_of_sets(shares: Iterable[Mapping[str, Sequence[float]]]) -> list[dict[str, float]]:
    """Median and range over layers, a row per set of dendrites.

    Args:
        shares: of one run or of several, whose layers are then taken together: layer to a share
            per set, as from `dendritic.output_shares`.

    Example:
        >>> shares_of_sets([{"a": [0.1], "b": [0.4], "c": [0.2]}])
        [{'layers': 3, 'median': 0.2, 'lowest': 0.1, 'highest': 0.4}]
    """
    layers = [of_layer for run in shares for of_layer in run.values()]
    sets = max(map(len, layers), default=0)
    columns = [[found[i] for found in layers if i < len(found)] for i in range(sets)]
    return [
        {"layers": len(c), "median": median(c), "lowest": min(c), "highest": max(c)}
        for c in columns
    ]


def share_lines(dendrites: Mapping[str, Any] | None) -> list[str]:
    """Lines about the contribution of a run's dendrites, with a warning where it is little.

    Args:
        dendrites: as in metrics.json; None, or a record without shares, gives no line.
    """
    found = shares_of_sets([(dendrites or {}).get("output_shares") or {}])
    if dendrites is None or not found:
        return []
    return contribution(found, dendrites.get("lr", 1.0))


def contribution(sets: Sequence[Mapping[str, float]], times: float, who: str = "") -> list[str]:
    """One line for the shares of the sets, and one more where the median of a set is below 1 %.

    Args:
        sets: as from `shares_of_sets`.
        times: `dendrites.lr` of the run.
        who: the arm whose runs of all seeds they are; empty for a single run.
    """
    several, of_seeds = len(sets) > 1, " of all seeds" if who else ""
    told = [
        f"{f'set {number}: ' if several else ''}median {percent(row['median'])}, from "
        f"{percent(row['lowest'])} to {percent(row['highest'])} over {row['layers']} layers"
        f"{of_seeds}"
        for number, row in enumerate(sets, start=1)
    ]
    owner = f"{who}: " if who else ""
    lines = [f"{owner}share of the layers' output that dendrites contribute: {'; '.join(told)}"]
    little = {n: row["median"] for n, row in enumerate(sets, start=1) if row["median"] < LITTLE}
    if little:
        which = f" of set {', '.join(map(str, little))}" if several else ""
        shares = ", ".join(map(percent, little.values()))
        measured = (
            "what is measured here is hardly more than reloads and restarts of the optimizer, and "
            "no verdict on dendrites"
            if len(little) == len(sets)
            else "what is measured here is the work of the other sets"
        )
        lines.append(
            f"{owner}warning: the dendrites{which} contribute {shares} of the output of their "
            f"layers in the median, less than 1 %: {measured}. They learnt at "
            f"{times:g} x the model's rate; raise dendrites.lr, for example to {10 * times:g}, or "
            f"train them for longer"
        )
    return lines


def percent(share: float) -> str:
    """Two digits of a share in percent.

    Example:
        >>> percent(0.02534), percent(0.000307), percent(1.264)
        ('2.5 %', '0.031 %', '126 %')
    """
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"
