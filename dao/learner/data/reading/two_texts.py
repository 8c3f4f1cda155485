"""Two columns of texts as one: both texts of a row, or neither."""

from collections.abc import Sequence

from dao.errors import UserError
from dao.learner.basics.pairs import PAIR, join
from dao.learner.basics.wording import shown
from dao.learner.data.reading.table import Columns

__all__ = ["joined"]


def joined(
    ones: Sequence[str | None],
    others: Sequence[str | None],
    columns: Columns,
    source: str,
    first: int = 1,
) -> list[str | None]:
    """Every row's two texts in one string, None where both are empty.

    Args:
        ones: texts of the column `columns.text`.
        others: texts of the column `columns.second`.
        columns: The user's names.
        source: where the texts are from, for messages.
        first: number of the first row, for messages.

    Raises:
        UserError: One text of a row is empty and the other is not, or a text holds the character
            that stands between the two.
    """
    found: list[str | None] = []
    for row, (one, other) in enumerate(zip(ones, others, strict=True), start=first):
        if one is None or other is None:
            if one is not None or other is not None:
                raise _half(row, columns.texts if one is None else columns.texts[::-1], source)
            found.append(None)
            continue
        for name, text in zip(columns.texts, (one, other), strict=True):
            if PAIR in text:
                raise UserError(
                    f"`{name}` of {source} should be without the control character U+001F, which "
                    f"stands between the two texts of a pair. Found it in row {row}, in "
                    f"{shown(text)}. Remove it."
                )
        found.append(join(one, other))
    return found


def _half(row: int, names: Sequence[str], source: str) -> UserError:
    empty, filled = names
    return UserError(
        f"`{empty}` of {source} should have a text in every row in which `{filled}` has one. Found "
        f"none in row {row}. Fill it, or empty both or remove the row."
    )
