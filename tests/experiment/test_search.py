"""A grid over options of tasks: how they are named, and kinds that are proposed from the data."""

import json
import sys
from pathlib import Path

import pytest

from dao.errors import UserError
from dao.learner.experiment.grid.search import _values, cells, read_grid, run_search
from dao.learner.kinds.declared import task_settings
from dao.learner.settings.config import Config, load_config


@pytest.mark.parametrize("key", ["topic.class_weights", "tasks.topic.class_weights"])
def test_options_of_a_task_may_be_given_with_tasks_before_them(key: str, tmp_path: Path):
    asked = read_grid([f"{key}=none,balanced"])
    assert asked == {key: ["none", "balanced"]}
    settings = (None, ["tasks=topic:classification", f"output={tmp_path}"], {})
    found = cells(settings, asked)
    assert [cell.cfg.tasks["topic"].class_weights for cell in found] == ["none", "balanced"]
    assert [_values(cell, asked) for cell in found] == [["none"], ["balanced"]]
    assert [cell.arm for cell in found] == [f"{key}=none", f"{key}=balanced"]


@pytest.mark.parametrize(
    "text",
    [
        "topic.kind=ordinal,regression", "tasks.topic.column=a,b", "topic.levels=[a],[b]",
        "tags.separator=a,b", "tags.empty=a,b", "tasks=a,b", "split_tasks=a,b", "data.topic=a,b",
        "train.select_weights={a: 1},{a: 2}", "output=a,b",
    ],
)  # fmt: skip
def test_what_changes_the_score_itself_is_no_part_of_a_grid(text: str):
    with pytest.raises(UserError, match="scored alike"):
        read_grid([text])


FAKE = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[2]).parent
(folder / "validation.jsonl").write_text(json.dumps({"step": 1, "score": 0.5}) + "\\n")
(folder / "metrics.json").write_text(json.dumps({"training": {"selected_after_step": 1}}))
"""


def test_kinds_that_are_proposed_stay_as_they_were_when_the_grid_is_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The runs have settings with the kind, which the command has not."""
    (tmp_path / "fake.py").write_text(FAKE)
    shown = []
    monkeypatch.setattr(
        "dao.learner.experiment.grid.search.print_results", lambda *told: shown.append(told)
    )
    read = []

    def decide(cfg: Config):
        read.append(cfg)
        return cfg.with_tasks({"topic": task_settings("topic", {"kind": "ordinal"})}), None, None

    settings = (None, ["tasks=topic", f"output={tmp_path / 'grid'}"], {})
    assert load_config(*settings[:2]).undecided == ["topic"]
    command = [sys.executable, str(tmp_path / "fake.py")]
    for _ in range(2):
        run_search(settings, {"train.lr": [0.1, 0.01]}, None, command, decide)
    made = sorted(tmp_path.glob("grid/*/seed=0/config.yaml"))
    assert [load_config(path).tasks["topic"].kind for path in made] == ["ordinal"] * 2
    content = json.loads((tmp_path / "grid" / "grid.json").read_text())
    assert [run["score"] for run in content["runs"]] == [0.5, 0.5]
    assert len(shown) == 2
