"""Attributions of tokens, by hand on a linear model, and what a person sees of them."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dao.errors import UserError
from dao.learner.explaining import attribution
from dao.learner.explaining.attribution import Explanation, explained
from dao.learner.explaining.shown import coloured, numbers_table, print_explanation
from dao.learner.kinds.binary import Binary
from dao.learner.kinds.classification import Classification
from dao.learner.kinds.multilabel import Multilabel
from dao.learner.kinds.ordinal import Ordinal
from dao.learner.kinds.regression import Regression

WORDS = ["[PAD]", "[UNK]", "[EOS]", "up", "down", "flat"]
VALUES = torch.tensor([[0.0], [0.5], [9.0], [2.0], [-1.0], [0.0]])
TOKENIZER = SimpleNamespace(
    all_special_ids=[0, 1, 2], unk_token="[UNK]", unk_token_id=1, decode=lambda ids: WORDS[ids[0]],
    special_tokens_map={"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[EOS]"},
)  # fmt: skip


class Linear(nn.Module):
    """Embeddings of one number each, and per task their mean times a factor."""

    device = torch.device("cpu")
    experts = None

    def __init__(self, **factors: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(VALUES.clone())
        self.factors = factors
        self.base = SimpleNamespace(get_input_embeddings=lambda: self.embedding)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        mean = self.embedding(ids).mean(dim=1)
        return {name: factor * mean for name, factor in self.factors.items()}


def model_of(task, factor: float) -> SimpleNamespace:
    def tokens(texts):
        return [torch.tensor([*map(WORDS.index, text.split()), 2]) for text in texts]

    net = Linear(**{task.name: factor})
    predictor = SimpleNamespace(model=net, tokens=tokens, tokenizer=TOKENIZER, pad=0)
    return SimpleNamespace(predictor=predictor, tasks={task.name: task})


def test_a_linear_model_by_hand():
    task = Regression("price", "x", mean=10.0, sd=2.0)
    (found,) = explained(model_of(task, 4.0), ["up [UNK] down"], ["price"])
    # Four tokens with the end: the mean times 4, times an sd of 2, counts each value twice.
    assert found.tokens == ["up", "[UNK]", "down"]
    assert found.attributions == pytest.approx([4.0, 1.0, -2.0], abs=1e-5)
    assert found.baseline == pytest.approx(10 + 2 * 9.0)  # the end alone, which stays
    assert found.value == pytest.approx(found.baseline + 3.0)
    assert found.gap == pytest.approx(0, abs=1e-5)
    assert found.steps == attribution.FIRST
    assert found.to_dict()["tokens"][2] == {"token": "down", "attribution": pytest.approx(-2.0)}


def test_attributions_of_a_bent_function_sum_to_the_difference():
    task = Binary("urgent", "x", ["no", "yes"]).at(0.5)
    (found,) = explained(model_of(task, 1.0), ["up up down flat"], ["urgent"])
    logit = (2 + 2 - 1 + 0 + 9) / 5 / 0.5
    assert found.answer == "yes"
    assert found.value == pytest.approx(-math.log1p(math.exp(-logit)))
    difference = found.value - found.baseline
    assert sum(found.attributions) == pytest.approx(difference, abs=max(0.01 * difference, 1e-3))
    assert found.attributions[3] == 0.0  # as a padding token
    assert found.attributions[0] == pytest.approx(-2 * found.attributions[2], rel=1e-5)


def test_steps_are_doubled_until_the_sum_is_close(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attribution, "FIRST", 1)
    task = Binary("urgent", "x", ["no", "yes"])
    text = " ".join(["down"] * 30)
    (found,) = explained(model_of(task, 9.0), [text], ["urgent"])
    assert found.steps > 1
    assert abs(found.gap) <= max(0.01 * abs(found.value - found.baseline), 1e-3)


@pytest.mark.parametrize(
    ("task", "outputs", "expected"),
    [
        (Classification("t", "x", ["a", "b"]), [[0.0, 1.0]], -math.log1p(math.exp(-1))),
        (Binary("t", "x", ["a", "b"]), [[-2.0]], -math.log1p(math.exp(-2))),
        (
            Multilabel("t", "x", ["a", "b"]), [[1.0, -3.0]],
            -math.log1p(math.exp(-1)) - math.log1p(math.exp(-3)),
        ),
        (Ordinal("t", "x", ["1", "2", "3"]), [[2.0, -2.0]], -2 * math.log1p(math.exp(-2))),
        (Regression("t", "x", mean=1.0, sd=3.0), [[2.0]], 7.0),
    ],
)  # fmt: skip
def test_the_evidence_of_every_kind(task, outputs, expected):
    given = torch.tensor(outputs)
    decided = task.decide(given)
    assert task.evidence(given, decided).tolist() == pytest.approx([expected])
    exact = given.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: task.evidence(x, decided), exact)
    assert task.evidence(given.repeat(3, 1), decided).tolist() == pytest.approx([expected] * 3)


FOUND = Explanation(
    "up down flat", "urgent", "yes", "the log-probability of the answer", ["up", "down", "flat"],
    [0.4, -0.2, 0.01], -0.1, -0.31, 0.0, 32,
)  # fmt: skip


def test_a_pipe_gets_every_number(capsys: pytest.CaptureFixture[str]):
    print_explanation(FOUND)
    printed = capsys.readouterr().out
    assert "urgent: yes; the log-probability of the answer is -0.1000" in printed
    assert all(number in printed for number in ("+0.4000", "-0.2000", "+0.0100"))
    assert "++++++++++++++++++++" in printed
    assert "\x1b" not in printed


def test_colours_follow_the_sign_and_the_strength():
    styles = [str(span.style) for span in coloured(FOUND).spans if span.style]
    assert styles == ["black on green", "white on red"]
    table = numbers_table(FOUND, 2)
    assert table.title == "the 2 strongest tokens"
    assert [*table.columns[0].cells] == ["up", "down"]


def test_without_captum_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attribution, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"Found none\. Install the extra: .*explain"):
        explained(model_of(Regression("price", "x"), 1.0), ["up"], ["price"])
