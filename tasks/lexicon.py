"""The words of the synthetic headlines."""

from typing import NamedTuple

__all__ = [
    "ATTITUDES",
    "CONTRAST",
    "CURRENCIES",
    "EVENTS",
    "FACTS",
    "GAPS",
    "GUIDANCE",
    "MAIN_FIRST",
    "METRICS",
    "MONTHS",
    "PERIODS",
    "RIVALS",
    "ROLES",
    "SUFFIXES",
    "SYLLABLES",
    "TOWNS",
    "VERBS",
    "Metric",
    "Verb",
]


class Metric(NamedTuple):
    """A figure that companies report; `sign` is +1 if more of it is good news."""

    words: str
    sign: int
    unit: str


class Verb(NamedTuple):
    """A change: base form, third person, past tense; `change` is signed, at most 0.8 in size."""

    base: str
    third: str
    past: str
    change: float


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _metrics(sign: int, unit: str, words: str) -> list[Metric]:
    return [Metric(word, sign, unit) for word in _words(words)]


METRICS = [
    *_metrics(+1, "money", "net profit, operating profit, pretax profit, revenue, net sales"),
    *_metrics(+1, "money", "order intake, free cash flow, order backlog, core earnings, turnover"),
    *_metrics(+1, "money", "export sales, net interest income, fee income, subscription revenue"),
    *_metrics(+1, "ratio", "operating margin, market share, gross margin, occupancy rate"),
    *_metrics(+1, "ratio", "return on equity, solvency ratio, capacity utilisation"),
    *_metrics(-1, "money", "operating costs, net debt, raw-material costs, loan losses, tax bill"),
    *_metrics(-1, "money", "restructuring charges, energy bill, inventory write-downs, wage costs"),
    *_metrics(-1, "money", "warranty claims, financing costs, net loss, operating loss"),
    *_metrics(-1, "ratio", "customer churn, bad-loan ratio, vacancy rate, absence rate"),
    *_metrics(-1, "ratio", "defect rate, staff turnover, gearing ratio"),
]
GAPS = _metrics(-1, "money", "net loss, operating loss, pretax loss, cash burn, budget shortfall")

VERBS = [
    Verb("edge up", "edges up", "edged up", 0.2),
    Verb("inch higher", "inches higher", "inched higher", 0.2),
    Verb("creep up", "creeps up", "crept up", 0.25),
    Verb("rise", "rises", "rose", 0.4),
    Verb("increase", "increases", "increased", 0.4),
    Verb("grow", "grows", "grew", 0.45),
    Verb("advance", "advances", "advanced", 0.45),
    Verb("climb", "climbs", "climbed", 0.5),
    Verb("jump", "jumps", "jumped", 0.65),
    Verb("surge", "surges", "surged", 0.75),
    Verb("soar", "soars", "soared", 0.8),
    Verb("almost double", "almost doubles", "almost doubled", 0.8),
    Verb("edge down", "edges down", "edged down", -0.2),
    Verb("slip", "slips", "slipped", -0.2),
    Verb("ease", "eases", "eased", -0.25),
    Verb("fall", "falls", "fell", -0.4),
    Verb("decrease", "decreases", "decreased", -0.4),
    Verb("decline", "declines", "declined", -0.45),
    Verb("shrink", "shrinks", "shrank", -0.45),
    Verb("drop", "drops", "dropped", -0.5),
    Verb("tumble", "tumbles", "tumbled", -0.65),
    Verb("plunge", "plunges", "plunged", -0.75),
    Verb("collapse", "collapses", "collapsed", -0.8),
    Verb("almost halve", "almost halves", "almost halved", -0.8),
]

# Company as subject, a metric's forecast as object: third person, past tense, change.
GUIDANCE = [
    Verb("raise", "raises", "raised", 0.55),
    Verb("lift", "lifts", "lifted", 0.55),
    Verb("hike", "hikes", "hiked", 0.65),
    Verb("nudge up", "nudges up", "nudged up", 0.25),
    Verb("cut", "cuts", "cut", -0.55),
    Verb("lower", "lowers", "lowered", -0.55),
    Verb("slash", "slashes", "slashed", -0.75),
    Verb("trim", "trims", "trimmed", -0.25),
]

# What is said about a coming change: words before and after the metric, its weight.
ATTITUDES = [
    ("expects", "to", 0.6),
    ("is confident that", "will", 0.7),
    ("believes", "may", 0.4),
    ("says", "could", 0.4),
    ("is preparing for", "to", 0.5),
    ("no longer expects", "to", -0.6),
    ("does not expect", "to", -0.6),
    ("denies that", "will", -0.4),
    ("sees no reason why", "should", -0.5),
    ("doubts that", "will", -0.4),
]

# Third person, past tense, change: news without any metric. {m} is a sum of money.
EVENTS = [
    ("wins {m} order", "won an order worth {m}", 0.5),
    ("loses {m} order", "lost an order worth {m}", -0.5),
    ("keeps {m} contract after review", "kept its {m} contract after a review", 0.3),
    ("fails to keep {m} contract", "failed to keep its {m} contract", -0.4),
    ("escapes {m} fine", "escaped a fine of {m}", 0.3),
    ("is fined {m}", "was fined {m}", -0.5),
    ("fails to escape {m} fine", "failed to escape a fine of {m}", -0.5),
    ("gets approval for {m} plant", "got approval for a plant worth {m}", 0.4),
    ("is refused approval for {m} plant", "was refused approval for a plant worth {m}", -0.4),
    ("calls off recall of its pumps", "called off the recall of its pumps", 0.3),
    ("recalls its pumps", "recalled its pumps", -0.4),
    ("swings to net profit of {m}", "swung from a net loss to a profit of {m}", 0.65),
    ("swings to net loss of {m}", "swung from a net profit to a loss of {m}", -0.65),
    ("returns to profit", "returned to profit after a year of losses", 0.6),
    ("falls back into loss", "fell back into loss after a year of profit", -0.6),
    ("resumes dividend", "resumed the dividend it had suspended", 0.5),
    ("suspends dividend", "suspended the dividend it had resumed", -0.6),
    ("drops plan to cut jobs", "dropped its plan to cut jobs", 0.25),
    ("plans to cut jobs", "announced plans to cut jobs", -0.4),
    (
        "settles {m} claim for less than set aside",
        "settled a claim for less than the {m} set aside",
        0.25,
    ),
    (
        "settles claim for more than {m} set aside",
        "settled a claim for more than the {m} set aside",
        -0.25,
    ),
    ("is upgraded by rating agency", "was upgraded by its rating agency", 0.5),
    ("is downgraded by rating agency", "was downgraded by its rating agency", -0.5),
]

# Neither good nor bad. {c} company, {b} another one, {k} metric, {w} was or were, {v} value,
# {m} money, {s} share, {n} count, {d} date, {t} town, {r} role, {p} period or nothing.
FACTS = [
    "{c} to publish {k} figures on {d}",
    "{c} will present its {k} outlook at an investor day in {t}",
    "{c} moves reporting of its {k} to a quarterly basis",
    "{c} explains how it calculates its {k}",
    "{c}'s {k} stood at {v}{p}",
    "{c}'s {k} {w} {v}{p}, unchanged from a year earlier",
    "{c}'s {k} {w} in line with forecasts at {v}",
    "{c} repeats its {k} forecast of {v}",
    "{c} keeps its {k} target at {v}{p}",
    "{c} has about {n} employees in {t}{p}",
    "{c} to open an office in {t}",
    "{c} moves its head office to {t}",
    "{c} appoints a new {r} in {t}",
    "{c} names a new {r} from {d}",
    "{c} and {b} sign a framework agreement on logistics in {t}",
    "{c} sells its unit in {t} to {b} for {m}",
    "{c} buys {s} of {b} for {m}",
    "{c} now holds {s} of the shares in {b} of {t}",
    "{c} will hold its annual general meeting in {t} on {d}",
    "{c} hosts a conference call about its {k} on {d}",
    "{c} issues {n} new shares under a plan tied to its {k}",
    "{c} changes its segment reporting; {k} will be shown by region",
    "{c} publishes a prospectus with {k} figures for three years",
    "{c} refinances a {m} credit facility on the same terms",
    "{c} makes up {s} of the {k} of its owner {b}",
    "{c} rents {n} square metres in {t} from {b}",
    "{c} invites analysts in {t} to discuss its {k}",
    "{c} restates its {k} for last year without effect on equity",
    "{c} starts to report its {k} in euros",
    "{c} updates the wording of its {k} policy",
]

# Joins two clauses about one company: the main statement comes first, or second.
MAIN_FIRST = ["{0}, although {1}", "{0} even though {1}", "{0}, despite the fact that {1}"]
CONTRAST = ["{0}, but {1}", "{0}, yet {1}", "Although {0}, {1}", "While {0}, {1}"]
RIVALS = ["rival", "its competitor", "its peer", "market leader", "its supplier"]

PERIODS = _words(
    "in the first quarter, in the second quarter, in the third quarter, in Q4, in Q2, last year, "
    "in January-March, in the first half, over nine months, in the full year, in its home market, "
    "in the quarter to June, in the summer season, in the final quarter, in Asia, outside Europe, "
    "in the Nordic countries, at its packaging unit, in the consumer segment, in wholesale"
)
TOWNS = _words("Tampere, Leeds, Gdansk, Lyon, Porto, Riga, Bergen, Graz, Turin, Aarhus, Ghent")
MONTHS = _words("January, February, April, May, June, August, September, October, November")
ROLES = _words("head of investor relations, chief financial officer, auditor, head of treasury")
CURRENCIES = ["EUR {} mn", "EUR {} million", "USD {} mn", "SEK {} million", "{} million euros"]
SYLLABLES = _words("ka,lo,ve,ri,tan,mor,sel,du,nor,bri,hal,vix,ost,ema,tir,quo,zan,fel,gra,pol")
SUFFIXES = ["", "", "", " Oyj", " Plc", " AG", " Group", " Corp", " Holding"]
