"""What of a text counts: for the plain models its words, for the search for copies its key."""

import re
import unicodedata
from functools import lru_cache

__all__ = ["former_key", "group_key", "normalised", "word_pattern"]

# They join letters and emoji, or choose between two pictures of one character.
INVISIBLE = re.compile("[\u200c\u200d\ufe0e\ufe0f]")
PLAIN_SIGNS = re.compile(r"[+<=>$]|-\.?\d")  # all of ASCII that earlier keys were without
SKIN = "\U0001f3fb-\U0001f3ff"  # tones of an emoji's skin
LATIN = 0x100  # below it are signs of European texts, such as the pound and the trade mark


def normalised(text: str) -> str:
    """A text in lower case, its letters and marks composed (Unicode's form NFC).

    Example:
        >>> len("Café"), len(normalised("Café"))
        (5, 4)
    """
    return INVISIBLE.sub("", unicodedata.normalize("NFC", text.lower()))


@lru_cache(maxsize=1)
def word_pattern() -> str:
    """A regular expression of what the plain models see in a normalised text.

    Words of two characters or more, in which combining marks count as letters (the vowels of
    Hindi, Tamil, Thai, ... are such marks), and every emoji or other symbol by itself. A text in
    European letters comes to the same words as by the pattern of scikit-learn.

    Example:
        >>> re.findall(word_pattern(), "x-ray: कमी of 4.5 % 📈")
        ['ray', 'कमी', 'of', '📈']
    """
    marks, signs, _ = _classes()
    return rf"\w[\w{marks}]+|[{signs}][{SKIN}]?"


def group_key(text: str) -> str:
    """What two copies of a text share: in lower case, all but letters, digits and signs a space.

    Signs are combining marks, emoji and other symbols, those of currencies, + < = >, and - before a
    number.

    Example:
        >>> group_key("Profit ROSE, by 4 %!") == group_key("profit rose by 4")
        True
        >>> group_key("Shares: +1.5"), group_key("Shares -1.5"), group_key("2010-2011 👍")
        ('shares + 1 5', 'shares -1 5', '2010 2011 👍')
    """
    if text.isascii() and not PLAIN_SIGNS.search(text):
        return former_key(text)  # the same, ten times as fast
    kept = _key_parts().findall(normalised(text).replace("\N{MINUS SIGN}", "-"))
    return " ".join(kept) or text


@lru_cache(maxsize=1)
def _key_parts() -> re.Pattern[str]:
    marks, signs, currencies = _classes()
    letter = rf"[^\W_]|[{marks}]"
    minus = r"(?:(?<![^\W_])-\.?(?=\d))?"
    return re.compile(rf"{minus}(?:{letter})+|[+<=>$£¥{currencies}{signs}{SKIN}]+")


def former_key(text: str) -> str:
    """The key of earlier versions, in which signs counted as spaces.

    It decides the order in which texts are drawn for a split, so that equal data keep their splits.
    """
    return re.sub(r"[\W_]+", " ", text.lower()).strip() or text


@lru_cache(maxsize=1)
def _classes() -> tuple[str, str, str]:
    """Marks, emoji and other symbols, and currencies, each as the inside of a character class."""
    # Between these two there are letters alone, and after them nothing; all would take .2 s.
    kinds = {c: unicodedata.category(chr(c)) for c in (*range(0x20000), *range(0xE0000, 0xE0200))}
    marks = [code for code, kind in kinds.items() if kind[0] == "M"]
    signs = [c for c, kind in kinds.items() if kind in ("So", "Sm") and c >= LATIN]
    currencies = [c for c, kind in kinds.items() if kind == "Sc" and c >= LATIN]
    return _ranges(marks), _ranges(signs), _ranges(currencies)


def _ranges(codes: list[int]) -> str:
    starts = [code for code, before in zip(codes, [-2, *codes], strict=False) if code != before + 1]
    ends = [code for code, after in zip(codes, [*codes[1:], -2], strict=True) if code + 1 != after]
    pairs = zip(starts, ends, strict=True)
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in pairs)
