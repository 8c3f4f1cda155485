"""The installed command `dao`: its subcommands do what the flags of train.py and evaluate.py do."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import dao
from dao import command
from dao.learner.commands import search
from dao.learner.commands.app import app
from dao.learner.settings import named

ROOT = Path(__file__).parents[2]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def line(result: Result) -> str:
    return " ".join(result.stderr.split())


def test_the_version_is_that_of_the_package():
    assert run("--version").stdout == f"dao {dao.__version__}\n"


def test_help_names_every_command():
    told = run("--help").stdout
    for name in (
        "train",
        "evaluate",
        "predict",
        "serve",
        "compare",
        "export",
        "experiment",
        "search",
    ):
        assert f" {name} " in told
        assert run(name, "--help").exit_code == 0


def test_help_is_quick_because_it_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['dao', 'predict', '--help']\n"
        "from dao.command import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'transformers', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


@pytest.mark.parametrize("missing", ["typer", "pydantic"])
def test_without_the_learners_packages_one_line_says_what_to_install(missing: str, full_run: Path):
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        f"sys.argv = ['dao', 'predict', {str(full_run)!r}, '--text', 'sales fell']\n"
        "from dao.command import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    (said,) = done.stderr.splitlines()
    assert said == (
        f"error: The command dao needs the packages of the learner. Found no `{missing}`. "
        f'Run: pip install "dao[learner]"'
    )


def test_one_text(full_run: Path):
    from evaluate import app as program

    found = run("predict", full_run, "--text", "sales fell", "--text", "net profit rose")
    assert found.exit_code == 0, found.output
    texts = ["--text", "sales fell", "--text", "net profit rose"]
    assert found.stdout == CliRunner().invoke(program, [str(full_run), *texts]).stdout
    rows = [json.loads(row) for row in found.stdout.splitlines()]
    assert [*rows[0]] == ["text", "cls", "cls_p_negative", "cls_p_positive", "reg"]


@pytest.mark.slow
def test_prediction_imports_no_package_of_training(full_run: Path):
    code = (
        f"import sys; sys.argv = ['dao', 'predict', {str(full_run)!r}, '--text', 'sales fell']\n"
        "from dao.command import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "unused = {'sklearn', 'matplotlib', 'datasets', 'torchvision.ops', 'bitsandbytes.nn'}\n"
        "unused |= {'pandas', 'scipy.optimize', 'perforatedai'}\n"
        "print(sorted(unused & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"


def test_only_a_command_with_a_process_of_its_own_spares_packages(monkeypatch: pytest.MonkeyPatch):
    for alone in (False, True):
        monkeypatch.setattr(command._Process, "alone", alone)
        monkeypatch.delitem(sys.modules, "a_package", raising=False)
        command.spare("a_package")
        assert ("a_package" in sys.modules) is alone


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--text", "a", "--input", "b.csv"), "give either --text or --input"),
        ((), "give either --text or --input"),
        (("--text", "a", "--output", "b.csv"), "--output goes with --input"),
        (("--text", " "), "should not be empty"),
        (("--text", "a", "train.lr=1", "--engine", "eager"), "can be set: train.lr=1"),
    ],
)
def test_wrong_usage_of_predict(full_run: Path, arguments: tuple[str, ...], said: str):
    found = run("predict", full_run, *arguments)
    assert found.exit_code == 2
    assert said in line(found).replace("│ ", "")


def test_a_run_of_another_place(tmp_path: Path):
    found = run("predict", tmp_path / "none", "--text", "sales fell")
    assert found.exit_code == 1
    assert line(found).startswith("error: A run folder should hold config.yaml. Found none in ")


def test_the_report_is_that_of_evaluate(full_run: Path):
    from evaluate import app as program

    found = run("evaluate", full_run, "--format", "json")
    assert found.exit_code == 0, found.output
    again = CliRunner().invoke(program, [str(full_run), "--format", "json"])
    assert json.loads(found.stdout) == json.loads(again.stdout)
    before = json.loads((full_run / "metrics.json").read_text())["splits"]["test"]
    assert json.loads(found.stdout)["splits"]["test"] == before


def test_compare_takes_two_runs_and_no_magic_word(full_run: Path, tmp_path: Path):
    from evaluate import app as program

    other = shutil.copytree(full_run, tmp_path / "other")
    found = run("compare", full_run, other)
    assert found.exit_code == 0, found.output
    magic = CliRunner().invoke(program, ["compare", str(full_run), str(other)])
    assert found.stdout == magic.stdout
    assert run("compare", full_run).exit_code == 2
    folder = run("evaluate", "compare", full_run, other)
    assert folder.exit_code == 1  # a folder named compare is a run like any other
    assert "Found none in compare" in line(folder)


def test_train_takes_the_settings_of_train(tiny_csv: Path, tiny_phi: Path, tmp_path: Path):
    arguments = ("--tasks", "cls,reg", "--dao", "--data", tiny_csv, "--encoder", tiny_phi,
                 "--output", tmp_path / "run", "train.epochs=2")  # fmt: skip
    found = run("train", *arguments, "--dry-run")
    assert found.exit_code == 0, found.output
    assert "weighting: dao" in found.stdout
    assert "epochs: 2" in found.stdout
    assert run("train", "--factorial").exit_code == 2
    assert "contradicts" in line(run("train", "--dao", "--weighting", "equal"))
    resumed = run("train", "--resume", tmp_path, "train.epochs=3")
    assert resumed.exit_code == 2
    assert "--resume takes its settings from the run" in line(resumed).replace("│ ", "")


def test_without_data_of_a_project_train_asks_for_a_file(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(named, "_default", [])
    found = run("train", "--tasks", "cls")
    assert found.exit_code == 1
    assert line(found) == (
        "error: Training should know its data. Found no file and no data set. Name one, such as "
        "--data my.csv."
    )


@pytest.mark.slow
def test_a_search_starts_its_runs_outside_the_repository(
    tiny_csv: Path,
    tiny_phi: Path,
    warm_python: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """The runs are processes of their own, which find `dao` and not train.py."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(search, "TRAIN", (warm_python, *search.TRAIN[1:]))
    settings = ("--tasks", "cls", "--data", tiny_csv, "--encoder", tiny_phi, "train.epochs=1",
                "train.batch_size=10", "--output", "grid")  # fmt: skip
    asked = run("search", *settings, "--grid", "train.lr=0.01,0.02")
    assert asked.exit_code == 0, asked.output
    assert len(list(tmp_path.glob("grid/*/seed=0/metrics.json"))) == 2
    assert run("search", *settings).exit_code == 2
    arms = ("--arms", "base,dao", "--seeds", 1, "--dry-run")
    planned = run("experiment", *settings[:-2], "--tasks", "cls,reg", *arms)
    assert planned.exit_code == 0, planned.output
    assert "2 of 2 runs to do" in planned.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("exports_once")
def test_export(full_run: Path, tmp_path: Path):
    place = tmp_path / "model.onnx"
    found = run("export", full_run, "--output", place)
    assert found.exit_code == 0, found.output
    assert place.is_file()
    assert json.loads((tmp_path / "model.onnx.json").read_text())["tasks"].keys() == {"cls", "reg"}
    assert run("export", full_run).exit_code == 2
