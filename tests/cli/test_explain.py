"""`dao explain` on real runs."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from .conftest import KINDS

TEXT = "net profit rose sharply in quarter 7"


def explain(run: Path, *arguments: str) -> Result:
    from dao.learner.commands.app import app

    return CliRunner().invoke(app, ["explain", str(run), *arguments], catch_exceptions=False)


def lines_of(run: Path, *arguments: str) -> list[dict[str, Any]]:
    """What --json prints; each line complete: attributions sum to the difference."""
    result = explain(run, *arguments, "--json")
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    for line in lines:
        difference = line["value"] - line["baseline"]
        total = sum(token["attribution"] for token in line["tokens"])
        assert difference
        assert total == pytest.approx(difference, abs=max(0.01 * abs(difference), 1e-3))
        assert line["gap"] == pytest.approx(total - difference, abs=1e-5)
    return lines


def test_attributions_of_a_run_with_dendrites_sum_to_the_difference(full_run: Path):
    lines = lines_of(full_run, "--text", TEXT)
    assert [line["task"] for line in lines] == ["cls", "reg"]
    tokens = [token["token"] for token in lines[0]["tokens"]]
    assert tokens == [*TEXT.split()[:-1], "[UNK]"]
    assert any(token["attribution"] for token in lines[0]["tokens"])


def test_every_kind_and_pairs_of_texts(kinds_run: Path):
    lines = lines_of(kinds_run, "--text", "net profit rose", "--text-pair", "sharply")
    assert [line["task"] for line in lines] == [*KINDS]
    for line in lines:
        assert (line["text"], line["text_pair"]) == ("net profit rose", "sharply")


def test_a_run_with_experts(expert_run: Path):
    (line,) = lines_of(expert_run, "--text", "up up strong profit rose", "--task", "cls")
    assert line["answer"] in ("up", "down")


def test_one_task_in_words(full_run: Path):
    result = explain(full_run, "--text", TEXT, "--task", "reg")
    assert result.exit_code == 0, result.output
    assert "reg: " in result.stdout
    assert "cls: " not in result.stdout
    assert "profit" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give a text with --text"),
        (("--text", " "), "should not be empty"),
        (("--text", "up", "--task", "other"), "--task should be one of cls, reg. Found other"),
        (("data.text=x", "--text", "up"), "can be set: data.text=x"),
    ],
)
def test_wrong_usage(full_run: Path, arguments: tuple[str, ...], said: str):
    result = explain(full_run, *arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())
