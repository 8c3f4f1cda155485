"""Texts of four kinds with the ratings of 15 to 99 people each, out of the package vaderSentiment.

C.J. Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social
Media Text", ICWSM 2014. The source distribution on the package index holds the four rated sets (MIT
licence); it is fetched once, its digest is checked, and nothing of it is executed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import pandas as pd

from dao.errors import UserError
from dao.learner.basics.wording import one_line
from dao.learner.data.packages import package_file
from dao.learner.data.splits import group_key
from dao.learner.kinds.base import SPLITS
from dao.learner.settings.named import Reference
from tasks.agreement import one_against_rest, spearman_brown, split_halves

__all__ = ["human_ratings", "references"]

PACKAGE = ("vaderSentiment", "3.3.2")
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
FOLDER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz!hutto_ICWSM_2014/"
FILES = {
    "tweet": "tweets", "product": "amazonReviewSnippets", "movie": "movieReviewSnippets",
    "editorial": "nytEditorialSnippets",
}  # fmt: skip
"""Domain -> the beginning of the names of its two files."""
DOCUMENTS = ("product", "editorial")
"""Domains whose ids say which review or editorial a sentence is of: DOCUMENT_SENTENCE."""
PAPER = "Hutto and Gilbert (ICWSM 2014), Table 4"
PUBLISHED = {
    "one human, as published": {
        "tweet": 0.888, "product": 0.911, "movie": 0.899, "editorial": 0.745,
    },
    "VADER, as published": {"tweet": 0.881, "product": 0.565, "movie": 0.451, "editorial": 0.492},
}  # fmt: skip
"""Pearson correlations with the mean of the raters that the paper gives."""
ONE = "one human against the other raters"
HALVES = "half of the raters against the other half"
ALL = "all raters against as many others"
MEASURED = {
    ONE: "measured on all rows of the data, every rater of a text in turn",
    HALVES: "measured on all rows of the data, mean over ten random halvings",
    ALL: "the halves by the formula of Spearman and Brown, 2 r / (1 + r)",
}
"""What people reach among themselves, and how that is known."""


class Rated(NamedTuple):
    """A rated text.

    Attributes:
        domain: a key of `FILES`.
        key: id within the domain.
        text: of the ground truth, without space around it.
        score: mean of the ratings, from -4 to 4, of the ground truth.
        spread: standard deviation of the ratings.
        ratings: of single raters, in no order.
    """

    domain: str
    key: str
    text: str
    score: float
    spread: float
    ratings: list[int]


def human_ratings() -> pd.DataFrame:
    """Read the rated texts.

    A review or an editorial lies in one split whole, and so does a tweet or a sentence of a movie
    review that occurs twice; which one, a hash decides: about 80 % train, 10 % validation, 10 %
    test. The ratings of one product row have a byte-order mark before its id, which parts them from
    the text; that row is left out. `score` is what the ground truth says, which for 199 tweets is
    not the mean of the ratings that are given (0.33 apart on average; over all tweets the two
    correlate by 0.998).

    Returns:
        Columns id, text, score (-4 to 4), spread (standard deviation of the ratings), raters (how
        many), domain and split.

    Raises:
        UserError: the package cannot be fetched, or does not hold what it should.
    """
    records = [
        {
            "id": f"{row.domain}-{row.key}",
            "text": row.text,
            "score": row.score,
            "spread": row.spread,
            "raters": len(row.ratings),
            "domain": row.domain,
            "split": _split_of(row),
        }
        for row in _rated(SHA256)
    ]
    return pd.DataFrame(records)


def references() -> list[Reference]:
    """What people and VADER reach on `score`: Pearson correlations, by domain and over all.

    Raises:
        UserError: as `human_ratings`.
    """
    rows = _rated(SHA256)
    whole = _agreement([row.ratings for row in rows])
    by_domain = {
        domain: _agreement([row.ratings for row in rows if row.domain == domain])
        for domain in FILES
    }
    measured = [
        Reference(
            name, "score", "pearson", source, whole[name],
            {"domain": {domain: found[name] for domain, found in by_domain.items()}},
        )
        for name, source in MEASURED.items()
    ]  # fmt: skip
    published = [
        Reference(name, "score", "pearson", PAPER, parts={"domain": figures})
        for name, figures in PUBLISHED.items()
    ]
    return measured + published


def _agreement(ratings: Sequence[Sequence[int]]) -> dict[str, float]:
    halves = split_halves(ratings)
    return {ONE: one_against_rest(ratings), HALVES: halves, ALL: spearman_brown(halves)}


@cache
def _rated(sha256: str) -> tuple[Rated, ...]:
    """The texts that have a mean and ratings, in the order of the files; read once per process."""
    return tuple(row for domain, stem in FILES.items() for row in _of_domain(domain, stem, sha256))


def _of_domain(domain: str, stem: str, sha256: str) -> list[Rated]:
    names = f"{stem}_GroundTruth.txt", f"{stem}_anonDataRatings.txt"
    truths, raters = (package_file(*PACKAGE, sha256, f"{FOLDER}{name}") for name in names)
    try:
        known = {
            key: (float(spread), [int(one) for one in json.loads(ratings)])
            for key, _, spread, ratings in _cells(raters, 4)
        }
        return [
            Rated(domain, key, text.strip(), float(score), *known[key])
            for key, score, text in _cells(truths, 3)
            if key in known
        ]
    except ValueError as error:
        raise UserError(
            f"{' and '.join(names)} of {' '.join(PACKAGE)} should hold tab separated cells, id, "
            f"mean, and text or deviation and ratings. Found: {one_line(error)}. Use the package "
            f"as it was published."
        ) from None


def _cells(content: bytes, width: int) -> Iterator[list[str]]:
    """The cells of each line of a file without a header."""
    for line in content.decode().rstrip().split("\n"):
        yield line.split("\t", width - 1)


def _split_of(row: Rated) -> str:
    """The split of a row, by a hash of its document or else of the text."""
    document = re.sub(r"_\d+$", "", row.key) if row.domain in DOCUMENTS else group_key(row.text)
    drawn = int(hashlib.sha256(f"{row.domain}/{document}".encode()).hexdigest()[:12], 16) / 16**12
    return SPLITS[0 if drawn < 0.8 else 1 if drawn < 0.9 else 2]
