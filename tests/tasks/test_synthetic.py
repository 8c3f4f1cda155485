import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dao.learner.kinds.base import SPLITS
from tasks.speaker import LIMIT
from tasks.synthetic import CLASSES, companies, headlines, limits, skeleton

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def frame():
    return headlines()


def test_the_same_seed_writes_the_same(frame):
    assert headlines(300, 7).equals(headlines(300, 7))
    assert not headlines(300, 7).equals(headlines(300, 8))
    assert headlines(300)["text"].tolist() == frame["text"].tolist()[:300]


@pytest.mark.slow
def test_python_hash_seed_does_not_count():
    code = "from tasks.synthetic import headlines; print(headlines(50, 3).to_json(), end='')"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == headlines(50, 3).to_json()


def test_sizes_and_class_balance(frame):
    sizes = frame["split"].value_counts()
    assert 4000 <= sizes["train"] <= 5000
    assert 540 <= sizes["validation"] <= 700
    assert sizes["test"] >= 950
    shares = frame["clean_label"].value_counts(normalize=True)
    assert shares["neutral"] == pytest.approx(0.43, abs=0.03)
    assert shares["negative"] == pytest.approx(0.285, abs=0.03)
    assert shares["positive"] == pytest.approx(0.285, abs=0.03)


def test_no_skeleton_and_no_company_in_two_splits(frame):
    names = {split: companies(split) for split in SPLITS}
    every = sorted({name for pool in names.values() for name in pool}, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, every)))
    masked = frame["text"].map(lambda text: pattern.sub("@", skeleton(text)))
    assert frame["split"].groupby(masked).nunique().max() == 1
    assert frame["split"].groupby(frame["template"]).nunique().max() == 1
    found = frame["text"].map(lambda text: set(pattern.findall(text)))
    for split, pool in names.items():
        used = set().union(*found[frame["split"] == split])
        assert used <= set(pool)
        assert len(used) > 50
    stems = {name.split()[0] for name in every}
    assert len(stems) == len(every)


def test_no_skeleton_dominates(frame):
    assert frame["template"].value_counts().max() <= 0.005 * len(frame)
    assert frame["text"].is_unique
    assert frame["id"].is_unique


def test_every_placeholder_is_filled(frame):
    assert not frame["text"].str.contains(r"[<>{}]").any()
    assert not frame["text"].str.contains("  ").any()


def test_clean_class_follows_from_the_clean_score(frame):
    expected = frame["clean_score"].map(lambda s: CLASSES[0 if s <= -0.1 else 2 if s >= 0.1 else 1])
    assert (expected == frame["clean_label"]).all()
    assert frame["clean_score"].abs().max() <= LIMIT
    assert frame["score"].abs().max() <= 1


@pytest.mark.slow
def test_noise_has_the_promised_size():
    frame = headlines(12000, 5, label_noise=0.1, score_noise=0.1)
    wrong = frame["label"] != frame["clean_label"]
    expected = limits(label_noise=0.1, score_noise=0.1)
    # Three standard errors of 12,000 draws.
    assert 1 - wrong.mean() == pytest.approx(expected["label"]["accuracy"], abs=0.0083)
    error = frame["score"] - frame["clean_score"]
    assert (error**2).mean() == pytest.approx(expected["score"]["mse"], rel=0.04)
    assert abs(error.mean()) < 0.003
    assert abs(error.corr(frame["clean_score"])) < 0.03
    pairs = frame[wrong].groupby("clean_label")["label"].value_counts(normalize=True)
    assert pairs.between(0.4, 0.6).all()


def test_noise_leaves_the_texts_alone(frame):
    clean = headlines(500, label_noise=0, score_noise=0)
    assert clean["text"].tolist() == frame["text"].tolist()[:500]
    assert (clean["label"] == clean["clean_label"]).all()
    assert (clean["score"] == clean["clean_score"]).all()
    assert limits(0, 0) == {"label": {"accuracy": 1}, "score": {"mse": 0.0}}


def test_another_seed_shares_no_skeleton_across_splits(frame):
    other = headlines(1000, seed=1)
    test = set(other["template"][other["split"] == "test"])
    assert not test & set(frame["template"][frame["split"] == "train"])
