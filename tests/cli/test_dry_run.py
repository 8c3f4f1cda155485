"""What --dry-run tells of tasks."""

from pathlib import Path

import pandas as pd
import yaml


def test_a_dry_run_shows_the_kinds_and_what_training_would_say(
    train, tiny_csv: Path, tmp_path: Path
):
    rows = pd.read_csv(tiny_csv)
    rows = rows.assign(stars=[i % 5 + 1 for i in range(len(rows))], urgent=["no", "yes", "no"] * 50)
    rows.to_csv(tmp_path / "tickets.csv", index=False)
    tasks = ("--tasks", "label,stars,urgent")
    result = train(tmp_path / "run", *tasks, "--dry-run", data=tmp_path / "tickets.csv")
    assert result.exit_code == 0, result.output
    lines = [line.removeprefix("# ") for line in result.stdout.splitlines() if line[:1] == "#"]
    assert "stars   stars   ordinal  consecutive integers 1 to 5" in lines
    assert "urgent: yes is the positive class, no the other" in lines
    assert any(line.startswith("labels of  train  validation  test") for line in lines)
    assert any("--tasks label:binary,stars:ordinal,urgent:binary sets them" in x for x in lines)
    told = [line.split()[0] for line in lines[-5:]]
    assert told == [
        "task",
        "label",
        "stars",
        "urgent",
        "kinds",
    ]  # what is to be looked at comes last
    assert yaml.safe_load(result.stdout)["tasks"]["stars"]["kind"] == "ordinal"
    assert not (tmp_path / "run").exists()
