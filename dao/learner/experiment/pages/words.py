"""Words of a report that a stranger may stumble on, each in a sentence or two."""

from __future__ import annotations

from collections.abc import Mapping

from dao.learner.experiment.pages.page import Words

__all__ = ["MEANINGS", "explained"]

MEANINGS: Mapping[str, str] = {
    "DAO": "A rule that sets the weight of each task's loss so that every task pulls equally hard "
    "at the weights that all tasks share.",
    "dendrites": "Small extra units that are added beside a layer's weights in the middle of "
    "training.",
    "arm": "One way to train that the experiment compares. Arms differ in one thing, and each is "
    "trained with every seed.",
    "base": "The arm that others are compared with: equal weights and no dendrites. Its best "
    "weights are put back and its optimizer begins anew after the same steps as in the arms that "
    "grow.",
    "sham": "The arm to which dendrites are added that never train. Whatever it gains does not "
    "come from dendrites.",
    "capacity": "The arm without dendrites that has at least as many parameters elsewhere: a "
    "higher LoRA rank, or wider feed-forward blocks where the whole encoder trains.",
    "restart-lr": "base whose weights all learn, after the first restart, at the multiple of the "
    "learning rate that dendrites have.",
    "dao-paper": "DAO as DAOLoss.paper() has it: measured at every step, not smoothed, weights "
    "with a sum of one.",
    "alone": "An arm that learns one task, with an encoder of its own.",
    "seed": "The number from which a run's random choices follow. Runs that differ in the seed "
    "alone show how much of a figure is chance.",
    "selection score": "The mean over the tasks of the figure by which each selects its best "
    "model; here on test rows, which selected nothing.",
    "95 % interval": "The range in which the true value is likely to lie. If it holds 0, chance "
    "may explain the difference. It is a t interval: from the mean and spread of the differences "
    "between runs with the same seed.",
    "bootstrap": "Drawing the results again, with replacement, some thousand times, to see how "
    "much their mean moves.",
    "BCa": "An interval by the bootstrap, corrected for results that are lopsided. It is too short "
    "for a handful of seeds.",
    "p": "How often chance alone would bring a difference this large, if there were none in truth.",
    "permutation": "A test that asks how large the difference would be if the two arms were "
    "swapped at random.",
    "Holm": "A correction for several tests at once: among twenty tests, one p below .05 is "
    "expected by chance alone, so each has to be smaller to count as significant.",
    "detectable": "The smallest true mean difference that 80 % of experiments of this size and "
    "spread would find by a paired t test at 5 %. No significant difference is not the same as no "
    "difference.",
    "McNemar": "A test of two models on the same rows. It looks at the rows that one of them has "
    "right and the other wrong.",
    "ECE": "Expected calibration error: how far the share of right answers is from the "
    "probability that the model gave them, on average over the rows. 0 is best.",
    "TF-IDF": "Counts of the words of a text, in which frequent words count less. A linear model "
    "on these counts is the plain model that a fine-tuned one has to beat.",
    "plain model": "A model that anybody has for nothing: it always gives the most frequent class "
    "or the mean, or it is a linear model on counts of words (TF-IDF).",
    "loss": "A number that says how wrong the model is on a batch of rows. Training makes it "
    "small.",
    "gradient norm": "How hard a task pulls at the weights that all tasks share, as one number.",
    "loss weight": "What a task's loss is multiplied by before the losses are added up.",
    "validation": "Rows that are not trained on and decide which model is kept. The test rows "
    "decide nothing and are measured at the end.",
}
"""Word -> its meaning."""


def explained(*words: str) -> Words:
    """The meanings of these words, for where they stand.

    Example:
        >>> list(explained("arm", "seed").meanings)
        ['arm', 'seed']
    """
    return Words({word: MEANINGS[word] for word in words})
