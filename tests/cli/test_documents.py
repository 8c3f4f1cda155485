"""Every configuration runs, and every command of the README is one that exists."""

import importlib
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

import dao
from dao.learner.kinds import KINDS
from dao.learner.settings.config import load_config

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
README = (ROOT / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_every_config_trains(train, path: Path, tiny_csv: Path, tmp_path: Path):
    small, data = ["train.epochs=1", "encoder.max_length=32"], tiny_csv  # and the tiny encoder
    small += ["encoder.lora.last_layers=1"] if "last_layers" in path.read_text() else []  # of two
    if "experts" in path.read_text():
        rows, data = pd.read_csv(tiny_csv), tmp_path / "domains.csv"
        rows.assign(domain=["news", "forum"] * (len(rows) // 2)).to_csv(data, index=False)
        small.append("experts.router_warmup_steps=5")
    result = train(tmp_path / "run", "--config", str(path), *small, data=data)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "metrics.json").exists()


MEASURED = ("training", "weighting", "dendrites", "expert_steps", "prediction", "units", "scale")


def commands() -> list[str]:
    blocks = re.findall(r"```(?:bash|console)\n(.*?)```", README, re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [
        line for line in joined.splitlines() if line.startswith(("python ", "torchrun ", "dao "))
    ]


def test_the_readme_has_commands():
    assert len(commands()) >= 6


@pytest.fixture
def readers_folder(
    tmp_path: Path,
    tiny_csv: Path,
    full_run: Path,
    expert_run: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A working directory that holds what the README's reader is supposed to have."""
    rows = pd.read_csv(tiny_csv)
    rows = rows.assign(headline=rows["text"], sentiment=rows["label"], agree=1.0)
    for name in ("classes.csv", "scores.csv", "new.csv"):
        rows.to_csv(tmp_path / name, index=False)
    rows.assign(domain=["news", "forum"] * (len(rows) // 2)).to_csv(
        tmp_path / "my.csv", index=False
    )
    tickets = {"topic": ["billing", "delivery", "refund"], "urgent": ["no", "yes"],
               "stars": [1, 2, 3, 4, 5]}  # fmt: skip
    named = {name: [v[i % len(v)] for i in range(len(rows))] for name, v in tickets.items()}
    rows.assign(**named).to_csv(tmp_path / "tickets.csv", index=False)
    pairs = rows.assign(premise=rows["text"], hypothesis="the company rose")
    pairs.to_csv(tmp_path / "nli.csv", index=False)
    rows.to_json(tmp_path / "more-classes.jsonl", orient="records", lines=True)
    sentences = rows["text"] + "@" + rows["label"].fillna("negative")
    (tmp_path / "Sentences_AllAgree.txt").write_text("\n".join(sentences), encoding="latin-1")
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    for name in ("RUN", "RUN_A", "RUN_B"):
        shutil.copytree(full_run, tmp_path / name)
    shutil.copytree(expert_run, tmp_path / "MOE")
    monkeypatch.chdir(tmp_path)


DRY = ("train", "experiment", "search")
LONG = {"--benchmark", "--export", "--quantize"}


@pytest.mark.usefixtures("readers_folder", "exports_once", "rated")
@pytest.mark.parametrize(
    "command",
    [pytest.param(c, marks=[pytest.mark.slow] if LONG & {*c.split()} else []) for c in commands()],
)
def test_every_command_of_the_readme_works(command: str):
    """As written; training as --dry-run, and the run to resume is one that is finished."""
    if command.startswith("dao "):
        from dao.learner.commands.app import app

        arguments = shlex.split(command, comments=True)[1:]
        dry = ["--dry-run"] if arguments[0] in DRY and "--dry-run" not in arguments else []
        result = CliRunner().invoke(app, [*arguments, *dry])
        assert result.exit_code == 0, result.output
        return
    program, *arguments = words = shlex.split(command, comments=True)[1:]
    if command.startswith("torchrun "):
        from torch.distributed.run import get_args_parser

        options = get_args_parser().parse_args(words)  # `tests/cli/test_ranks.py` starts several
        program, arguments = options.training_script, options.training_script_args
    if program == "-m":
        assert arguments[0].removeprefix("benchmarks.") in MEASURED
        app = importlib.import_module(arguments[0]).app
        # Its options are read; it would train for minutes, and on a GPU.
        assert CliRunner().invoke(app, [*arguments[1:], "--help"]).exit_code == 0
        return
    if program.startswith("examples/"):
        assert (ROOT / program).exists()
        main = importlib.import_module(Path(program).stem).main
        main([*arguments, "--steps", "1"])  # `tests/examples` runs them as commands
        return
    if program == "evaluate.py":
        from evaluate import app
    else:
        from train import app

        assert program == "train.py"
    resume = "--resume" in arguments
    dry = ["--dry-run"] if program == "train.py" and not resume else []
    result = CliRunner().invoke(app, [*arguments, *dry])
    assert result.exit_code == (1 if resume else 0), result.output
    assert not resume or "should be unfinished" in result.stderr


def test_no_two_experiments_of_the_readme_share_a_folder():
    folders = []
    for words in (shlex.split(c, comments=True) for c in commands() if "--factorial" in c):
        data = words[words.index("--data") + 1] if "--data" in words else "headlines"
        named = [word.removeprefix("name=") for word in words if word.startswith("name=")]
        plan = Path(words[words.index("--plan") + 1]).stem if "--plan" in words else "factorial"
        folders.append(f"{plan}-{named[0] if named else Path(data).stem}")
    assert len(folders) > 5
    assert len(set(folders)) == len(folders)


def test_the_readme_names_every_example():
    named = {word for line in commands() for word in line.split() if word.startswith("examples/")}
    files = {f"examples/{path.name}" for path in (ROOT / "examples").glob("*.py")}
    assert named == files - {"examples/toy.py"}


def test_the_readme_tells_every_kind_with_all_of_its_options():
    rows = {line.split("|")[1].strip(" `"): line for line in README.splitlines() if "|" in line}
    for kind, task in KINDS.items():
        told = rows[kind]
        for option in set(task.options.model_fields) - {"kind", "column", "show", "label_column"}:
            assert f"`{option}" in told, (kind, option)
        for figure in task.own_figures:
            assert not figure.shown or figure.label.lower() in told.lower(), (kind, figure.label)


def test_the_readme_shows_tasks_in_yaml_that_are_read(tmp_path: Path):
    (block,) = re.findall(r"```yaml\n(tasks:.*?)```", README, re.DOTALL)
    (tmp_path / "tasks.yaml").write_text(block)
    cfg = load_config(tmp_path / "tasks.yaml")
    assert cfg.undecided == ["topic"]
    assert cfg.columns == {"topic": "topic", "urgent": "urgent", "stars": "rating"}


def test_the_readme_gives_the_two_set_up_commands():
    for command in (
        'pip install -c constraints.txt -e ".[learner,dendrites]" && '
        "python train.py --tasks cls,reg --dao --dendrites",
        'pip install -c constraints.txt -e ".[dev]" && pytest',
    ):
        assert command in README


def test_what_to_cite_is_what_the_package_says_of_itself():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert cited["title"] == project["name"]
    assert cited["version"] == dao.__version__
    assert cited["abstract"] == project["description"]
    assert cited["license"] == project["license"]
    assert cited["authors"] == project["authors"]
    assert cited["authors"][0]["name"] in (ROOT / "LICENSE").read_text()
    assert cited["references"][0]["url"] == project["urls"]["Paper"]
    assert project["urls"]["Paper"] in README
