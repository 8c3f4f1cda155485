"""The data `human-ratings`: as they lie in the package, from a stand-in of the same layout."""

import hashlib
from pathlib import Path

import pandas as pd
import pytest

import tasks.human_ratings
from dao.errors import UserError
from dao.learner.basics.folders import shared_cache
from dao.learner.settings.named import named_data
from tasks.agreement import one_against_rest
from tasks.human_ratings import human_ratings, references
from tests.packed import rated_files, rated_package
from tests.tasks.test_real_data import source

DOMAINS = ["tweet", "product", "movie", "editorial"]


def published(index: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """`content` is what the index has under the name and the digest of the package."""
    (index / "vaderSentiment-3.3.2.tar.gz").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(tasks.human_ratings, "SHA256", digest)
    monkeypatch.setenv("XDG_CACHE_HOME", str(index / "cache"))


def kept(cache: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """`content` lies in the cache as the package, as if put there by hand."""
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(tasks.human_ratings, "SHA256", digest)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    path = cache / "dao" / "packages" / f"vaderSentiment-3.3.2-{digest[:12]}.tar.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


@pytest.mark.slow
def test_rows_come_out_of_the_package(index: Path, monkeypatch: pytest.MonkeyPatch):
    published(index, monkeypatch, rated_package())
    rows = human_ratings()
    assert list(rows) == ["id", "text", "score", "spread", "raters", "domain", "split"]
    assert rows["domain"].value_counts(sort=False).to_dict() == dict.fromkeys(DOMAINS, 60) | {
        "product": 59
    }
    assert "product-1_1" not in set(rows["id"])  # the mark parts its ratings from the text
    row = rows.set_index("id").loc["editorial-2_3"]  # the 15th, which has 4 ratings
    assert row["text"] == "editorial said caf\u00e9 sales fell \u2019 14"
    assert row["score"] == -2.25  # of -(1, 2, 3) from the third on: -3, -1, -2, -3
    assert row["spread"] == pytest.approx(0.829156198)
    assert row["raters"] == 4


@pytest.mark.usefixtures("rated")
def test_a_document_lies_in_one_split():
    rows = human_ratings()
    assert set(rows["split"]) == {"train", "validation", "test"}
    for domain in ("product", "editorial"):
        own = rows[rows["domain"] == domain]
        assert own.groupby(own["id"].str.split("_").str[0])["split"].nunique().max() == 1
    tweets = rows[rows["domain"] == "tweet"]
    assert tweets["split"].nunique() == 3  # each by itself


@pytest.mark.usefixtures("rated")
def test_references_are_measured_and_published():
    found = {known.name: known for known in references()}
    assert [(known.column, known.figure) for known in found.values()] == [("score", "pearson")] * 5
    one = found["one human against the other raters"]
    ratings = [r.ratings for r in tasks.human_ratings._rated(tasks.human_ratings.SHA256)]
    assert one.whole == one_against_rest(ratings)
    assert list(one.parts["domain"]) == DOMAINS
    assert one.parts["domain"]["tweet"] == one_against_rest(ratings[:60])
    halves = found["half of the raters against the other half"]
    twice = found["all raters against as many others"]
    for domain, half in halves.parts["domain"].items():
        assert twice.parts["domain"][domain] == pytest.approx(2 * half / (1 + half))
    paper = found["VADER, as published"]
    assert paper.whole is None
    assert paper.parts["domain"] == {
        "tweet": 0.881, "product": 0.565, "movie": 0.451, "editorial": 0.492,
    }  # fmt: skip
    assert paper.source == "Hutto and Gilbert (ICWSM 2014), Table 4"


@pytest.mark.slow
def test_another_digest_is_refused_and_nothing_is_kept(
    index: Path, monkeypatch: pytest.MonkeyPatch
):
    published(index, monkeypatch, rated_package())
    monkeypatch.setattr(tasks.human_ratings, "SHA256", "0" * 64)
    with pytest.raises(UserError, match=r"vaderSentiment 3\.3\.2 should have sha256 0{64}\. Found"):
        human_ratings()
    assert list((index / "cache" / "dao" / "packages").iterdir()) == []


def test_a_package_without_the_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = rated_files()
    del files["hutto_ICWSM_2014/tweets_anonDataRatings.txt"]
    kept(tmp_path, monkeypatch, rated_package(files))
    with pytest.raises(UserError, match=r"should hold the file .*/tweets_anonDataRatings\.txt\. "):
        human_ratings()


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (b"\t", b" ", "not enough values to unpack"),
        (b"[", b"", "Extra data|Expecting"),
        ("\ufeff".encode(), b"\xff", "can't decode byte 0xff"),
    ],
)
def test_files_of_another_form_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bytes, new: bytes, found: str
):
    files = rated_files()
    name = "hutto_ICWSM_2014/amazonReviewSnippets_anonDataRatings.txt"
    files[name] = files[name].replace(old, new)
    kept(tmp_path, monkeypatch, rated_package(files))
    with pytest.raises(UserError, match=rf"amazonReviewSnippets_anonData.*Found: .*({found})") as e:
        human_ratings()
    assert "\n" not in str(e.value)


def test_it_is_registered_with_its_terms_and_tasks():
    data = named_data("human-ratings")
    assert data is not None
    assert "MIT" in data.terms
    assert "Hutto and E. Gilbert" in data.terms
    assert data.defaults["tasks"] == "score:regression,spread:regression,domain:classification"


@pytest.mark.slow
def test_the_rows_are_those_of_the_table_made_by_hand(monkeypatch: pytest.MonkeyPatch):
    """For a person with both: the table, and the package in the cache of this user."""
    made = pd.read_csv(source("human-ratings.csv"))
    monkeypatch.delenv("XDG_CACHE_HOME")
    name = f"vaderSentiment-3.3.2-{tasks.human_ratings.SHA256[:12]}.tar.gz"
    kept = shared_cache() / "packages" / name
    if not kept.is_file():
        pytest.skip("fetch the package once: python train.py --data human-ratings --dry-run")
    rows = human_ratings()
    assert len(rows) == 23_702
    for column in ("id", "score", "spread", "raters", "domain"):
        assert rows[column].tolist() == made[column].tolist(), column
    # The table was decoded as Latin-1, and keeps a no-break space at the beginning of a text.
    texts = [text.encode("latin-1").decode().strip() for text in made["text"]]
    assert rows["text"].tolist() == texts
