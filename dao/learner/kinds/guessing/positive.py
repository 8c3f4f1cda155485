"""Which of two classes is the positive one, where nobody has said it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["positive_class"]

OPPOSITES = {"1": ("0", "-1"), "yes": ("no",), "true": ("false",), "y": ("n",), "t": ("f",)}
"""Names of a positive class in lower case, each with those of its negative one."""


def positive_class(classes: Sequence[str], counts: Mapping[str, int]) -> str:
    """The class that is named as the opposite of the other, or else the one with fewer rows.

    A name alone says little: of x and y, y is no yes. Of equals it is the later name.

    Example:
        >>> positive_class(["no", "yes"], {"no": 1, "yes": 9})
        'yes'
        >>> positive_class(["x", "y"], {"x": 1, "y": 9})
        'x'
    """
    one, other = classes
    for label, rest in ((one, other), (other, one)):
        if rest.lower() in OPPOSITES.get(label.lower(), ()):
            return label
    return min(reversed(classes), key=lambda label: counts[label])
