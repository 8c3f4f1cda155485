"""The clauses of the synthetic headlines: what can be said of a company, and how good it is.

The score of a clause follows from its words and figures alone. Companies are placeholders: `<A>`
is named first and counts, `<B>` is a rival, `<C>` a partner.
"""

from collections.abc import Callable

from tasks.lexicon import (
    ATTITUDES,
    CURRENCIES,
    EVENTS,
    FACTS,
    GAPS,
    GUIDANCE,
    MONTHS,
    ROLES,
    TOWNS,
    VERBS,
    Verb,
)
from tasks.speaker import Clause, Speaker, money, percentage, plural, size

__all__ = ["fact", "news"]


def change(say: Speaker) -> Clause:
    """A metric moves; the verb gives direction and size, the metric the sign."""
    metric, verb = say.metric(), say.rng.choice(VERBS)
    text = f"{say.owned(metric)} {say.inflected(verb, metric)}{say.period()}"
    return Clause(text, metric.sign * verb.change)


def gap(say: Speaker) -> Clause:
    """A loss widens or narrows."""
    metric = say.rng.choice(GAPS)
    widen = Verb("widen", "widens", "widened", -0.5)
    narrow = Verb("narrow", "narrows", "narrowed", 0.5)
    verb = say.rng.choice((widen, narrow))
    text = f"{say.owned(metric)} {say.inflected(verb, metric)}{say.period()}"
    return Clause(text, verb.change)


def percent(say: Speaker) -> Clause:
    """A metric moves by a percentage that gives the size."""
    metric, sign = say.metric("money"), say.rng.choice((1, -1))
    amount = percentage(say.rng)
    if say.brief:
        moved = f"{'up' if sign > 0 else 'down'} {amount:g} %"
    else:
        verb = say.rng.choice(("rose", "increased") if sign > 0 else ("fell", "decreased"))
        moved = f"{verb} by {amount:g} per cent"
    text = f"{say.owned(metric)} {moved}{say.period()}"
    return Clause(text, metric.sign * sign * size(amount))


def figures(say: Speaker) -> Clause:
    """Two figures; only comparing them tells the direction and the size."""
    metric = say.metric()
    tens = say.rng.choice((1, 10)) if metric.unit == "money" else 1
    one = round(say.rng.uniform(4, 40) * tens, 1)
    other = round(one * (1.02 + percentage(say.rng) / 100), 1)
    now, old = say.rng.sample((one, other), 2)
    if say.brief:
        forms = ["{s} {now} vs {old} year ago", "{s} {now}, from {old} year earlier"]
    else:
        were = "were" if plural(metric) else "was"
        forms = [
            f"{{s}} {were} {{now}}, compared with {{old}} a year earlier",
            "{s} came to {now} after {old} in the year before",
            "{s} moved from {old} to {now}",
        ]
    shape = say.rng.choice(CURRENCIES) if metric.unit == "money" else "{} %"
    text = say.rng.choice(forms).format(
        s=say.owned(metric), now=shape.format(now), old=shape.format(old)
    )
    sign = metric.sign if now > old else -metric.sign
    return Clause(text, sign * size(100 * (max(now, old) / min(now, old) - 1)))


def surprise(say: Speaker) -> Clause:
    """A metric against what was expected of it, which outweighs its direction."""
    metric, verb = say.metric(), say.strong_verb()
    good = metric.sign * verb.change > 0
    less = say.rng.random() < 0.6
    hoped = say.rng.choice(("hoped", "expected") if good else ("feared", "expected"))
    amount = "less" if less else "more"
    text = f"{say.owned(metric)} {say.inflected(verb, metric)} {amount} than {hoped}"
    return Clause(text, (-0.3 if less else 0.7) * (1 if good else -1))


def forecast(say: Speaker) -> Clause:
    """A metric comes in above or below forecasts."""
    metric, sign = say.metric(), say.rng.choice((1, -1))
    words = {
        (True, 1): ("above forecasts", "higher than analysts forecast"),
        (True, -1): ("below forecasts", "lower than analysts forecast"),
        (False, 1): ("exceeded all forecasts", "came in above the consensus"),
        (False, -1): ("undershot all forecasts", "came in below the consensus"),
    }
    text = f"{say.owned(metric)} {say.rng.choice(words[say.brief, sign])}{say.period()}"
    return Clause(text, metric.sign * sign * 0.5)


def guidance(say: Speaker) -> Clause:
    """The company changes its forecast of a metric."""
    metric, verb = say.metric(), say.rng.choice(GUIDANCE)
    told = verb.third if say.brief else verb.past
    noun = say.rng.choice(("forecast", "guidance", "outlook", "estimate"))
    text = f"{say.company} {told} its {metric.words} {noun}{say.period()}"
    return Clause(text, metric.sign * verb.change)


def outlook(say: Speaker) -> Clause:
    """A coming change, expected, hedged or denied."""
    metric, verb = say.metric(), say.strong_verb()
    attitude, link, weight = say.rng.choice(ATTITUDES)
    text = f"{say.company} {attitude} its {metric.words} {link} {verb.base}{say.period()}"
    return Clause(text, metric.sign * verb.change * weight)


def negated(say: Speaker) -> Clause:
    """A change that did not happen, which is mildly the opposite."""
    metric, verb = say.metric(), say.strong_verb()
    many = plural(metric)
    words: tuple[str, ...]
    if say.brief:
        words = ("fail to", "do not") if many else ("fails to", "does not")
    else:
        words = ("failed to", "did not", "have yet to" if many else "has yet to")
    text = f"{say.owned(metric)} {say.rng.choice(words)} {verb.base}{say.period()}"
    return Clause(text, metric.sign * verb.change * -0.5)


def event(say: Speaker) -> Clause:
    """News without a metric."""
    present, past, score = say.rng.choice(EVENTS)
    text = (present if say.brief else past).format(m=money(say.rng))
    return Clause(f"{say.company} {text}{say.period()}", score)


def fact(say: Speaker) -> Clause:
    """A statement that is neither good nor bad, in the same words and figures."""
    rng, metric = say.rng, say.metric()
    text = rng.choice(FACTS).format(
        c=say.company,
        b="<C>",
        k=metric.words,
        w="were" if plural(metric) else "was",
        v=money(rng) if metric.unit == "money" else f"{rng.uniform(2, 40):.1f} %",
        m=money(rng),
        s=f"{rng.uniform(2, 90):.1f} %",
        n=rng.randint(50, 9000),
        d=f"{rng.randint(1, 28)} {rng.choice(MONTHS)}",
        t=rng.choice(TOWNS),
        r=rng.choice(ROLES),
        p=say.period(),
    )
    return Clause(text, 0.0)


KINDS: dict[Callable[[Speaker], Clause], int] = {
    change: 22,
    gap: 5,
    percent: 14,
    figures: 14,
    surprise: 9,
    forecast: 8,
    guidance: 9,
    outlook: 9,
    negated: 7,
    event: 12,
}


def news(say: Speaker) -> Clause:
    """A clause of any kind but a neutral fact."""
    return say.rng.choices(list(KINDS), list(KINDS.values()))[0](say)
