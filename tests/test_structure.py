"""The house: imports point down only, and only the plug-in is installed."""

import ast
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import dao

ROOT = Path(__file__).parents[1]
LEARNER = "dao.learner"
DOORS = {"command.py", "__main__.py"}
"""Where the console script `dao` starts: they open the learner, and are no part of the plug-in."""
PACKAGE = sorted(path for path in (ROOT / "dao").glob("*.py") if path.name not in DOORS)
EVERYTHING = sorted((ROOT / "dao").rglob("*.py"))
LEARNERS = sorted((ROOT / "dao" / "learner").rglob("*.py"))
KINDS = "dao.learner.kinds"
KIND_FILES = sorted((ROOT / "dao" / "learner" / "kinds").rglob("*.py"))
BESIDE_KINDS = [path for path in EVERYTHING if path not in KIND_FILES]
FLOORS = (
    ("basics",),
    ("kinds.parts",),
    ("kinds",),
    ("settings",),
    ("storage",),
    ("processes", "data.reading"),
    ("data", "batches"),
    ("encoder", "scoring", "weighting"),
    ("model",),
    ("dendrites",),
    ("training", "inference.backends"),
    ("console", "inference"),
    ("experts",),
    ("pipeline", "experiment"),
    ("experiment.findings",),
    ("experiment.pictures",),
    ("experiment.report",),
    ("experiment.grid",),
    ("commands",),
)
"""The rooms of the learner from the ground up; a room imports from lower floors alone."""
MOST = 12
"""Files of a room."""
TASKS = sorted((ROOT / "tasks").rglob("*.py"))
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


@pytest.mark.parametrize("name", sorted(DOORS))
def test_a_door_needs_the_standard_library_alone(name: str):
    for found in imports((ROOT / "dao" / name).read_text()):
        assert within(found, "dao.command", *sys.stdlib_module_names), found


@pytest.mark.parametrize("path", EVERYTHING, ids=ids)
def test_nothing_of_dao_knows_the_tasks_or_the_programs(path: Path):
    for name in imports(path.read_text()):
        assert not within(name, "tasks", "train", "evaluate"), name


def room(module: str) -> str:
    """The room of a module of the learner: `dao.learner.kinds.parts.cells` -> `kinds.parts`."""
    inside = module.removeprefix(LEARNER).strip(".")
    rooms = [name for floor in FLOORS for name in floor if within(inside, name)]
    return max(rooms, key=len, default="")


def floor(of: str) -> int:
    return next((number for number, names in enumerate(FLOORS) if of in names), -1)


def wrong_arrows(path: str, source: str) -> set[str]:
    """Modules of the learner that a file imports from its own floor, another room, or above."""
    if path == "dao/learner/__init__.py":
        return set()  # the front door gives out what rooms have, when it is asked for
    own = room(path.removesuffix(".py").replace("/", "."))
    named = {name for name in imports(source) if within(name, LEARNER) and name != LEARNER}
    return {name for name in named if room(name) != own and not floor(room(name)) < floor(own)}


@pytest.mark.parametrize("path", LEARNERS, ids=ids)
def test_a_room_imports_from_lower_floors_alone(path: Path):
    assert wrong_arrows(ids(path), path.read_text()) == set()


@pytest.mark.parametrize(
    ("path", "planted"),
    [
        ("dao/learner/kinds/binary.py", "from dao.learner.training.loop import fit"),
        ("dao/learner/kinds/parts/cells.py", "from dao.learner.kinds.base import Task"),
        ("dao/learner/model/model.py", "def f():\n import dao.learner.experiment.report.page"),
        ("dao/learner/encoder/limits.py", "from dao.learner.weighting import weighting"),
        ("dao/learner/storage/files.py", "from dao.learner import pipeline"),
    ],
)
def test_a_planted_arrow_upwards_is_found(path: str, planted: str):
    assert wrong_arrows(path, planted)


def test_arrows_downwards_are_right():
    assert not wrong_arrows("dao/learner/training/loop.py", "from dao.learner.kinds import Task")
    assert not wrong_arrows("dao/learner/kinds/base.py", "from dao.learner.kinds.parts import text")


def test_every_file_of_the_learner_is_in_a_room():
    outside = {ids(path) for path in LEARNERS if not room(ids(path)[:-3].replace("/", "."))}
    assert outside == {"dao/learner/__init__.py"}


@pytest.mark.parametrize("folder", sorted({path.parent for path in LEARNERS}), ids=ids)
def test_a_room_is_small_and_says_what_is_inside(folder: Path):
    assert len(list(folder.glob("*.py"))) <= MOST
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))


@pytest.mark.parametrize("path", TASKS, ids=ids)
def test_the_named_data_know_the_kinds_and_the_reading_of_data_alone(path: Path):
    for name in imports(path.read_text()):
        assert not within(name, "train", "evaluate"), name
        allowed = ("kinds", "basics", "data.reading", "data")
        assert not within(name, LEARNER) or room(name) in allowed, name


BUILT_IN = re.compile(r"\b(cls|reg)\b")
NOT_OURS = {"dao/learner/encoder/pretraining.py": {"whole.cls"}}
"""Attributes of other packages' objects: the head of a BERT in transformers."""


def built_in_names(source: str) -> set[str]:
    """Where code speaks of the built-in tasks by name, so that other tasks would be left out.

    Docstrings are not code: an example there may call its tasks cls and reg, as the examples of
    the plug-in do, which takes any names.
    """
    tree = ast.parse(source)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            words = node.value if id(node) not in prose else ""
        elif isinstance(node, ast.Attribute):
            words = node.attr
        elif isinstance(node, ast.keyword):
            words = node.arg or ""
        elif isinstance(node, ast.AnnAssign):
            words = ast.unparse(node.target)
        else:
            continue
        if BUILT_IN.search(words):
            found.add(ast.unparse(node))
    return found


@pytest.mark.parametrize("path", BESIDE_KINDS, ids=ids)
def test_no_file_beside_the_kinds_knows_a_task_by_name(path: Path):
    assert built_in_names(path.read_text()) == NOT_OURS.get(ids(path), set())


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
    assert found == {"dao/learner/dendrites/perforated.py"}
    found = {f for f, t in text.items() if "BitsAndBytesConfig" in t}
    assert found == {"dao/learner/encoder/encoder.py"}


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
    assert "PlainConsole(" in (ROOT / "dao/learner/console/terminal.py").read_text()


def test_the_search_for_consoles_can_fail():
    assert consoles("from rich.console import Console\nshown = Console(stderr=True)") == {"Console"}
    assert consoles("from rich.markup import escape") == {"rich.markup"}
    assert consoles("TextColumn('x')") == {"TextColumn, markup"}
    assert consoles("import rich\nrich.print('x')") == {"rich.print"}


def test_these_tests_can_fail():
    assert list(imports("import dao.learner.model.model\nfrom tasks import data")) == [
        "dao.learner.model.model", "tasks", "tasks.data",
    ]  # fmt: skip
    assert within("dao.learner.model.model", LEARNER)
    assert not within("dao.learners", LEARNER)
    assert room("dao.learner.kinds.parts.cells") == "kinds.parts"
    assert room("dao.learner.kindsman") == ""
    assert len(EVERYTHING) == len(PACKAGE) + len(DOORS) + len(LEARNERS)
    assert 0 < len(KIND_FILES) < len(LEARNERS)


@pytest.mark.parametrize(
    "planted",
    ['t["cls"]', "cfg.reg.loss", "f'{x} and data.cls'", "dict(cls=1)", "x = 'cls,reg'",
     "class A:\n reg: int = 1", "raise E('set `cls.positive`')"],
)  # fmt: skip
def test_a_planted_name_of_a_task_is_found(planted: str):
    assert built_in_names(planted)


@pytest.mark.parametrize(
    "harmless",
    ["def f(cls):\n return cls.parse", "x = 'regular classes'", 'def f():\n """Of cls and reg."""'],
)
def test_other_uses_of_the_letters_are_not(harmless: str):
    assert not built_in_names(harmless)


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
    (entry,) = [name for name in names if name.endswith(".dist-info/entry_points.txt")]
    with zipfile.ZipFile(built) as wheel_file:
        assert "dao = dao.command:main" in wheel_file.read(entry).decode()
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        told = wheel_file.read(metadata).decode()
    assert f"Version: {dao.__version__}" in told
    assert "Project-URL: Paper" in told
    assert "dao/learner/model/model.py" in names
    assert "dao/learner/experiment/report/report.py" in names
