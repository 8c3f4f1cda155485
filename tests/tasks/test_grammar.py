import random
import re

import pytest

from tasks import clauses, grammar
from tasks.grammar import headline
from tasks.lexicon import METRICS
from tasks.speaker import LIMIT, STYLES, Clause, Speaker, plural, size

SIGNS = {metric.words: metric.sign for metric in METRICS}


def draws(kind, style, count=300):
    speaker = Speaker(random.Random(0), style, "<A>")
    return [kind(speaker) for _ in range(count)]


def sign_of_metric(text):
    return SIGNS[max((words for words in SIGNS if words in text), key=len)]


@pytest.mark.parametrize("style", STYLES)
def test_two_figures_decide_direction_and_size(style):
    for clause in draws(clauses.figures, style):
        now, old = map(float, re.findall(r"\d+\.\d", clause.text))
        if "moved from" in clause.text:
            now, old = old, now
        direction = sign_of_metric(clause.text) * (1 if now > old else -1)
        expected = direction * size(100 * (max(now, old) / min(now, old) - 1))
        assert clause.score == pytest.approx(expected)


@pytest.mark.parametrize("style", STYLES)
def test_a_percentage_sets_the_size(style):
    for clause in draws(clauses.percent, style):
        amount = float(re.search(r"(\d+\.?\d*) (%|per cent)", clause.text)[1])
        rises = any(word in clause.text for word in (" up ", " rose ", " increased "))
        direction = sign_of_metric(clause.text) * (1 if rises else -1)
        assert clause.score == pytest.approx(direction * size(amount))


def test_size_grows_to_its_limit():
    assert size(0) == 0.15
    assert size(20) == pytest.approx((0.15 + LIMIT) / 2)
    assert size(40) == size(400) == LIMIT


def test_a_denied_change_is_news_of_the_other_sign():
    for clause in draws(clauses.negated, "report"):
        up = any(f" {verb}" in clause.text for verb in ("rise", "incr", "grow", "adv", "climb"))
        up = up or any(f" {verb}" in clause.text for verb in ("jump", "surge", "soar"))
        assert clause.score * sign_of_metric(clause.text) * (1 if up else -1) < 0


def test_less_than_feared_is_good_and_less_than_hoped_is_bad():
    for clause in draws(clauses.surprise, "report"):
        if clause.text.endswith("less than feared"):
            assert clause.score == 0.3
        elif clause.text.endswith("less than hoped"):
            assert clause.score == -0.3
        elif clause.text.endswith("more than feared"):
            assert clause.score == -0.7


def test_facts_are_neutral_and_name_no_direction():
    texts = draws(clauses.fact, "headline")
    assert {clause.score for clause in texts} == {0.0}
    assert len({re.sub(r"[\d.]+", "#", clause.text) for clause in texts}) > 200


def test_verbs_agree_with_their_metric():
    assert {metric.words for metric in METRICS if plural(metric)} >= {"net sales", "wage costs"}
    assert not plural(next(metric for metric in METRICS if metric.words == "net loss"))


@pytest.mark.slow
def test_the_text_alone_determines_the_score():
    rng = random.Random(0)
    scores: dict[str, set[float]] = {}
    for _ in range(30000):
        clause = headline(rng, rng.choice(STYLES))
        scores.setdefault(clause.text, set()).add(round(clause.score, 9))
    assert max(len(found) for found in scores.values()) == 1


def test_the_company_of_the_headline_is_named_before_its_rival():
    rng = random.Random(0)
    signs = set()
    for _ in range(2000):
        clause = headline(rng, "report")
        if "<B>" in clause.text:
            assert clause.text.index("<A>") < clause.text.index("<B>")
            signs.add((clause.score > 0) - (clause.score < 0))
    assert signs == {-1, 0, 1}


def test_only_news_of_the_company_itself_counts(monkeypatch):
    def told(say):
        return Clause(f"{say.company} sinks", -0.5 if "<B>" in say.company else 0.5)

    monkeypatch.setattr(grammar, "news", told)
    rng = random.Random(0)
    found = [headline(rng, "report") for _ in range(300)]
    assert {c.score for c in found if "<B> sinks" in c.text and "<A> sinks" in c.text} == {0.5}


@pytest.mark.parametrize(
    ("conjunction", "score"),
    [
        ("although it", 0.2),
        ("even though it", 0.2),
        ("despite the fact that it", 0.2),
        ("but it", -0.2),
        ("yet it", -0.2),
        ("Although <A>", -0.2),
        ("While <A>", -0.2),
    ],
)
def test_the_conjunction_decides_which_clause_weighs_more(monkeypatch, conjunction, score):
    def told(say):
        return Clause(f"{say.company} speaks", 0.4 if say.company == "<A>" else -0.4)

    monkeypatch.setattr(grammar, "news", told)
    rng = random.Random(0)
    found = [headline(rng, "report") for _ in range(3000)]
    scores = {round(c.score, 9) for c in found if conjunction in c.text and "it speaks" in c.text}
    assert scores == {score}
