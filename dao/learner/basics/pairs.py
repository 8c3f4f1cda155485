"""Two texts of a row as one string, which tables, splits, plain models and files pass on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dao.errors import UserError

__all__ = ["PAIR", "check_number", "columns", "join", "parts", "split", "typed"]

PAIR = "\x1f"
"""Unicode's unit separator, which stands between the two texts; no text of a pair holds it."""


def join(one: str, other: str) -> str:
    """Both texts in one string.

    Example:
        >>> split(join("A man sleeps.", "He is awake."))
        ('A man sleeps.', 'He is awake.')
    """
    return f"{one}{PAIR}{other}"


def split(text: str) -> tuple[str, str]:
    """The two texts that `join` made one string of.

    Raises:
        UserError: it is one text.
    """
    one, between, other = text.partition(PAIR)
    if not between:
        raise UserError(
            f"A pair should hold two texts. Found only {text[:60]!r}. Give the second one as well."
        )
    return one, other


def parts(texts: Iterable[str]) -> list[str]:
    """Texts of which both of a pair count by themselves.

    Example:
        >>> parts([join("a", "b"), "c"])
        ['a', 'b', 'c']
    """
    return [part for text in texts for part in text.split(PAIR)]


def columns(texts: Iterable[str]) -> dict[str, list[str]]:
    """Pairs as the columns `text` and `text_pair` of a table of predictions.

    Example:
        >>> columns([join("a", "b"), join("c", "d")])
        {'text': ['a', 'c'], 'text_pair': ['b', 'd']}
    """
    ones, others = [], []
    for text in texts:
        one, other = split(text)
        ones.append(one)
        others.append(other)
    return {"text": ones, "text_pair": others}


def check_number(names: Sequence[str], trained: Sequence[str]) -> None:
    """Refuse columns of new data that are one text where a run learnt from two, or the reverse.

    Args:
        names: of the columns of new data.
        trained: of the columns that the run learnt from.

    Raises:
        UserError: their numbers differ.
    """
    if len(names) != len(trained):
        should = "[COLUMN,COLUMN]" if len(trained) == 2 else "COLUMN"
        raise UserError(
            f"`data.text` should be {should}, because the run learnt from {_named(trained)}. "
            f"Found {_named(names)}. Correct it."
        )


def typed(texts: Sequence[str], others: Sequence[str] | None, trained: Sequence[str]) -> list[str]:
    """Texts of a command line as a run takes them: pairs as one string.

    Args:
        texts: of --text.
        others: of --text-pair, as many; None if there are none.
        trained: the columns of text that the run learnt from.

    Raises:
        UserError: the run takes no pairs, or nothing else; or a text holds `PAIR`.
    """
    if (len(trained) == 2) != bool(others):
        how = "Leave --text-pair out" if others else "Give --text-pair as well"
        raise UserError(
            f"--text should come {'without' if others else 'with'} --text-pair, because the run "
            f"learnt from {_named(trained)}. {how}."
        )
    if others and any(PAIR in text for text in (*texts, *others)):
        raise UserError(
            "A text of a pair should be without the control character U+001F, which stands between "
            "the two. Found it in --text or --text-pair. Remove it."
        )
    return (
        [join(one, other) for one, other in zip(texts, others, strict=True)] if others else [*texts]
    )


def _named(names: Sequence[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)
