"""Every configuration runs, and every command of README and docs is one that exists."""

import importlib
import re
import shlex
import shutil
import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

import dao
from dao.learner.kinds import KINDS
from dao.learner.settings import named
from dao.learner.settings.config import load_config

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
README = (ROOT / "README.md").read_text()
PAGES = {path.stem: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
DOCUMENTS = {"README": README, **PAGES}


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


MEASURED = (
    "training", "weighting", "dendrites", "expert_steps", "prediction", "units", "scale", "bag",
    "budget",
)  # fmt: skip


def blocks(text: str, *languages: str) -> list[str]:
    return re.findall(rf"```(?:{'|'.join(languages)})\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> list[str]:
    joined = "\n".join(blocks(text, "bash", "console")).replace("\\\n", " ")
    steps = (step for line in joined.splitlines() for step in line.split(" && "))
    lines = (re.sub(r"^(?:[A-Z_]+=\S* )+", "", step) for step in steps)
    return [line for line in lines if line.startswith(("python ", "torchrun ", "dao "))]


def all_commands() -> list[str]:
    found = (shlex.split(c, comments=True) for text in DOCUMENTS.values() for c in commands(text))
    return list(dict.fromkeys(shlex.join(words) for words in found))


def test_the_documents_have_commands():
    assert len(commands(README)) >= 4
    assert len(all_commands()) > 60


@pytest.fixture(scope="module")
def readers_files(
    tiny_csv: Path, full_run: Path, expert_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder that holds what a reader is supposed to have."""
    place = tmp_path_factory.mktemp("reader")
    rows = pd.read_csv(tiny_csv)
    rows = rows.assign(headline=rows["text"], sentiment=rows["label"], agree=1.0)
    for name in ("classes.csv", "scores.csv", "new.csv"):
        rows.to_csv(place / name, index=False)
    rows.assign(domain=["news", "forum"] * (len(rows) // 2)).to_csv(place / "my.csv", index=False)
    tickets = {"topic": ["billing", "delivery", "refund"], "urgent": ["no", "yes"],
               "stars": [1, 2, 3, 4, 5]}  # fmt: skip
    named = {name: [v[i % len(v)] for i in range(len(rows))] for name, v in tickets.items()}
    rows.assign(**named).to_csv(place / "tickets.csv", index=False)
    rows.to_excel(place / "new.xlsx", index=False)
    pairs = rows.assign(premise=rows["text"], hypothesis="the company rose")
    pairs.to_csv(place / "nli.csv", index=False)
    rows.to_json(place / "more-classes.jsonl", orient="records", lines=True)
    sentences = rows["text"] + "@" + rows["label"].fillna("negative")
    (place / "Sentences_AllAgree.txt").write_text("\n".join(sentences), encoding="latin-1")
    shutil.copytree(ROOT / "configs", place / "configs")
    shutil.copyfile(ROOT / "configs" / "plans" / "loss-scales.yaml", place / "my-plan.yaml")
    for name in ("RUN", "RUN_A", "RUN_B"):
        shutil.copytree(full_run, place / name)
    shutil.copytree(expert_run, place / "MOE")
    return place


@pytest.fixture
def readers_folder(readers_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with a copy of `readers_files`, and few of the generated headlines."""
    shutil.copytree(readers_files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    headlines = named.default_data()
    few = replace(headlines, read=lambda options: headlines.read({**options, "rows": 600}))
    monkeypatch.setattr(named, "_default", [few])


DRY = ("train", "experiment", "search")


@pytest.mark.slow
@pytest.mark.usefixtures("readers_folder", "exports_once", "rated")
@pytest.mark.parametrize("command", all_commands())
def test_every_command_works(command: str, monkeypatch: pytest.MonkeyPatch):
    """As written; training as --dry-run, and the run to resume is one that is finished."""
    if kept := re.search(r"results/my-plan-my/plan.yaml", command):
        Path(kept[0]).parent.mkdir(parents=True)
        shutil.copyfile("my-plan.yaml", kept[0])
    if command.startswith("dao "):
        from dao.learner.commands.app import app

        arguments = shlex.split(command, comments=True)[1:]
        dry = ["--dry-run"] if arguments[0] in DRY and "--dry-run" not in arguments else []
        if arguments[0] == "serve":  # `tests/cli/test_server.py` lets it serve
            monkeypatch.setattr("dao.learner.serving.running.run", lambda *given: None)
            dry = ["--port", "0"]
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
        module = importlib.import_module(arguments[0])
        if hasattr(module, "__path__"):
            module = importlib.import_module(f"{arguments[0]}.__main__")
        app = module.app
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


@pytest.mark.usefixtures("readers_folder")
def test_every_command_of_a_script_for_slurm_works():
    """Run by bash with a `python` that says what it was given."""
    (script,) = blocks(PAGES["factorial"], "sh")
    assert script.startswith("#!/bin/bash")
    said = "python() { printf '%s\\n' \"$@\"; }\nSLURM_ARRAY_TASK_ID=11 SLURM_CPUS_PER_TASK=2\n"
    run = ["bash", "-eu", "-c", said + script]
    program, *given = subprocess.run(run, capture_output=True, check=True, text=True).stdout.split()
    assert program == "train.py"
    assert given[-2:] == ["--only", "dao+dendrites/1"]
    from train import app

    result = CliRunner().invoke(app, [*given, "--dry-run"])
    assert result.exit_code == 0, result.output


@pytest.mark.usefixtures("readers_folder")
def test_the_lines_of_python_in_the_readme_predict(capsys: pytest.CaptureFixture[str]):
    (block,) = blocks(README, "python")
    assert len([line for line in block.splitlines() if line and line[0] != "#"]) <= 3
    exec(block, {})
    assert "'cls_p_negative'" in capsys.readouterr().out


@pytest.mark.parametrize("page", DOCUMENTS)
def test_no_two_experiments_of_a_page_share_a_folder(page: str):
    folders = {}
    for line in commands(DOCUMENTS[page]):
        if "--factorial" not in (words := shlex.split(line, comments=True)):
            continue
        data = words[words.index("--data") + 1] if "--data" in words else "headlines"
        named = [word.removeprefix("name=") for word in words if word.startswith("name=")]
        plan = Path(words[words.index("--plan") + 1]).stem if "--plan" in words else "factorial"
        folder = f"{plan}-{named[0] if named else Path(data).stem}"
        # Another number of seeds, jobs or machines is the same experiment.
        same = tuple(w for w in words if w.startswith(("--arms", "name=")))
        assert folders.setdefault(folder, same) == same, folder


def test_the_documents_name_every_example():
    named = {w for line in all_commands() for w in line.split() if w.startswith("examples/")}
    files = {f"examples/{path.name}" for path in (ROOT / "examples").glob("*.py")}
    assert named == files - {"examples/toy.py"}


def test_the_page_of_tasks_tells_every_kind_with_all_of_its_options():
    lines = [line for line in PAGES["tasks"].splitlines() if "|" in line]
    rows = {line.split("|")[1].strip(" `"): line for line in lines}
    for kind, task in KINDS.items():
        told = rows[kind]
        for option in set(task.options.model_fields) - {"kind", "column", "show", "label_column"}:
            everywhere = option in task.options.__base__.model_fields
            assert f"`{option}" in (PAGES["tasks"] if everywhere else told), (kind, option)
        for figure in task.own_figures:
            assert not figure.shown or figure.label.lower() in told.lower(), (kind, figure.label)


def test_the_tasks_in_yaml_are_read(tmp_path: Path):
    (block,) = re.findall(r"```yaml\n(tasks:.*?)```", PAGES["tasks"], re.DOTALL)
    (tmp_path / "tasks.yaml").write_text(block)
    cfg = load_config(tmp_path / "tasks.yaml")
    assert cfg.undecided == ["topic"]
    assert cfg.columns == {"topic": "topic", "urgent": "urgent", "stars": "rating"}


@pytest.mark.usefixtures("readers_folder")
def test_the_plan_that_is_shown_is_one():
    from train import app

    (block,) = blocks(PAGES["plans"], "yaml")
    Path("shown.yaml").write_text(block)
    result = CliRunner().invoke(app, ["--factorial", "--plan", "shown.yaml", "--dry-run"])
    assert result.exit_code == 0, result.output


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
