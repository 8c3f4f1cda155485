"""The house: imports point down only, and only the plug-in is installed."""

import ast
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEARNER = "dao.learner"
PACKAGE = sorted((ROOT / "dao").glob("*.py"))
LEARNERS = sorted((ROOT / "dao" / "learner").rglob("*.py"))
EXPERIMENT = "dao.learner.experiment"
BESIDE_EXPERIMENT = [path for path in LEARNERS if path.parent.name != "experiment"]
KINDS = "dao.learner.kinds"
OF_KINDS = [path for path in LEARNERS if path.parent.name == "kinds"]
BELOW_KINDS = tuple(f"{LEARNER}.{name}" for name in ("frozen", "numbers", "wording", "words"))
LEAVES = tuple(f"{LEARNER}.{name}" for name in ("numbers", "spreadsheets", "wording"))
TASKS = sorted((ROOT / "tasks").glob("*.py"))
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
FRAMEWORK = {"accelerate_loop.py": "accelerate", "hf_trainer.py": "transformers"}


def imports(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{name.name}" for name in node.names)


def within(name: str, *packages: str) -> bool:
    return any(name == p or name.startswith(f"{p}.") for p in packages)


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PACKAGE, ids=ids)
def test_the_plug_in_needs_torch_and_nothing_else(path: Path):
    for name in imports(path.read_text()):
        assert within(name, "torch", "dao", *sys.stdlib_module_names), name
        assert not within(name, LEARNER), name


@pytest.mark.parametrize("path", LEARNERS, ids=ids)
def test_the_learner_does_not_know_the_tasks(path: Path):
    for name in imports(path.read_text()):
        assert not within(name, "tasks", "train", "evaluate"), name


@pytest.mark.parametrize("path", BESIDE_EXPERIMENT, ids=ids)
def test_a_single_run_does_not_know_the_experiment(path: Path):
    for name in imports(path.read_text()):
        assert not within(name, EXPERIMENT), name


@pytest.mark.parametrize("path", TASKS, ids=ids)
def test_the_tasks_know_the_kinds_and_what_cells_and_sentences_are_made_of(path: Path):
    for name in imports(path.read_text()):
        assert within(name, KINDS, *LEAVES) or not within(name, LEARNER, "train", "evaluate"), name


@pytest.mark.parametrize("path", OF_KINDS, ids=ids)
def test_the_kinds_know_no_model(path: Path):
    for name in imports(path.read_text()):
        assert within(name, KINDS, *BELOW_KINDS) or not within(name, LEARNER), name


@pytest.mark.parametrize("leaf", LEAVES)
def test_what_the_tasks_know_beside_the_kinds_knows_nothing_of_the_learner(leaf: str):
    source = (ROOT / f"{leaf.replace('.', '/')}.py").read_text()
    assert [name for name in imports(source) if within(name, LEARNER)] == []


def named_tasks(source: str) -> list[int]:
    """Lines in which the name of a built-in task is a value."""
    found = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant))
    return [node.lineno for node in found if node.value in ("cls", "reg")]


@pytest.mark.parametrize("path", [*PACKAGE, *LEARNERS], ids=ids)
def test_no_task_is_known_by_name_outside_the_kinds(path: Path):
    if path.parent.name != "kinds":
        assert named_tasks(path.read_text()) == []


def test_the_search_for_names_of_tasks_can_fail():
    assert named_tasks('def f(cls):\n    """Of cls."""\n    return tasks["cls"]') == [3]


@pytest.mark.parametrize("path", EXAMPLES, ids=ids)
def test_an_example_needs_torch_and_its_framework(path: Path):
    allowed = {"torch", "dao", "toy", FRAMEWORK.get(path.name, "torch")}
    found = set(imports(path.read_text()))
    for name in found:
        assert within(name, *allowed, *sys.stdlib_module_names), name
    # The guard for a broken torchvision, and nothing inside.
    learner = {name for name in found if within(name, LEARNER)}
    assert learner == ({LEARNER} if path.name == "hf_trainer.py" else set())


def test_one_door_each_to_perforatedai_and_bitsandbytes():
    files = [*PACKAGE, *LEARNERS, *TASKS, ROOT / "train.py", ROOT / "evaluate.py"]
    text = {ids(path): path.read_text() for path in files}
    found = {f for f, t in text.items() if any(within(n, "perforatedai") for n in imports(t))}
    assert found == {"dao/learner/perforated.py"}
    found = {f for f, t in text.items() if "BitsAndBytesConfig" in t}
    assert found == {"dao/learner/encoder.py"}


def consoles(source: str) -> set[str]:
    """What makes or borrows a console of rich, and text that rich would read as markup."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).split(".")[-1]
            markup = [ast.unparse(k.value) for k in node.keywords if k.arg == "markup"]
            if name in ("Console", "get_console", "from_markup", "RichHandler"):
                found.add(name)
            if (name == "TextColumn" and markup != ["False"]) or "True" in markup:
                found.add(f"{name}, markup")
    named = set(imports(source))
    found |= {"rich.print"} if {"rich", "rich.print"} & named else set()
    return found | {"rich.markup"} & named


def test_every_console_is_plain():
    places = [*LEARNERS, *TASKS, *(ROOT / "benchmarks").glob("*.py"), *ROOT.glob("*.py")]
    found = {ids(path): consoles(path.read_text()) for path in places}
    assert {path for path, names in found.items() if names} == set()
    assert "PlainConsole(" in (ROOT / "dao/learner/console.py").read_text()


def test_the_search_for_consoles_can_fail():
    assert consoles("from rich.console import Console\nshown = Console(stderr=True)") == {"Console"}
    assert consoles("from rich.markup import escape") == {"rich.markup"}
    assert consoles("TextColumn('x')") == {"TextColumn, markup"}
    assert consoles("import rich\nrich.print('x')") == {"rich.print"}


def test_these_tests_can_fail():
    assert list(imports("import dao.learner.model\nfrom tasks import data")) == [
        "dao.learner.model", "tasks", "tasks.data",
    ]  # fmt: skip
    assert within("dao.learner.model", LEARNER)
    assert not within("dao.learners", LEARNER)
    assert {path.parent.name for path in LEARNERS} == {"learner", "experiment", "kinds"}
    assert 0 < len(BESIDE_EXPERIMENT) < len(LEARNERS)


def test_the_wheel_holds_dao_and_nothing_else(tmp_path: Path):
    wheel = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    source = tmp_path / "source"
    source.mkdir()
    for name in (
        "dao",
        "tasks",
        "train.py",
        "evaluate.py",
        "pyproject.toml",
        "README.md",
        "LICENSE",
    ):
        subprocess.run(["cp", "-r", str(ROOT / name), str(source)], check=True)
    subprocess.run([*wheel, "-w", str(tmp_path), str(source)], check=True)
    (built,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(built).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"dao"}
    assert "dao/py.typed" in names
    assert "dao/learner/model.py" in names
    assert "dao/learner/experiment/report.py" in names
