"""What `train.sampling` may be: how often the rows of each task come."""

from __future__ import annotations

__all__ = ["parse_sampling"]


def parse_sampling(text: str) -> float:
    """The temperature that `train.sampling` names: 1 for `proportional`, infinity for `equal`.

    Raises:
        ValueError: there is no such sampling.

    Example:
        >>> [parse_sampling(t) for t in ("proportional", "temperature:2.5", "equal")]
        [1.0, 2.5, inf]
    """
    named = {"proportional": 1.0, "equal": float("inf")}
    if text in named:
        return named[text]
    kind, _, number = text.partition(":")
    try:
        temperature = float(number) if kind == "temperature" else 0.0
    except ValueError:
        temperature = 0.0
    if not temperature >= 1:  # NaN included
        raise ValueError(
            "should be proportional, equal, or temperature:T with T from 1 on, such as "
            "temperature:3"
        )
    return temperature
