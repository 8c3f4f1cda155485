"""Numbers and cells in sentences."""

from dao.learner.basics.limits import LISTED

__all__ = ["count", "listed", "one_line", "short", "shown"]


def count(number: int, thing: str = "row") -> str:
    """A number with its noun.

    Example:
        >>> count(1), count(2)
        ('1 row', '2 rows')
    """
    return f"{number} {thing}{'' if number == 1 else 's'}"


def shown(cell: object) -> str:
    """A cell in a message, cut where it is long.

    Example:
        >>> shown("up"), len(shown("x" * 10**6))
        ("'up'", 61)
    """
    text = repr(cell)
    return text if len(text) <= 60 else f"{text[:60]}…"


def one_line(text: object) -> str:
    r"""A text, such as another package's error, without its line breaks.

    Example:
        >>> one_line(ValueError("no such\n  file"))
        'no such file'
    """
    return " ".join(str(text).split())


def short(name: object) -> str:
    """A column's name in a message, cut where it is long.

    Example:
        >>> short("label"), len(short("x" * 99))
        ('label', 41)
    """
    text = one_line(name)
    return text if len(text) <= 40 else f"{text[:40]}…"


def listed(names: list[str], most: int = LISTED) -> str:
    """Names in a message, with the number of those left out where there are many.

    Example:
        >>> listed(["a", "b"]), listed(["a", "b", "c"], most=2)
        ('a, b', 'a, b and 1 more')
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
