"""The house: imports point down only, and only the plug-in is installed."""

import ast
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from statistics import median

import pytest

import dao
from dao.learner.kinds import KINDS as KINDS_BY_NAME

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
    ("encoder", "scoring", "weighting", "calibration"),
    ("model",),
    ("dendrites",),
    ("training", "console", "inference.backends"),
    ("inference", "tracking"),
    ("experts", "explaining"),
    ("serving",),
    ("pipeline", "experiment"),
    ("experiment.plans",),
    ("experiment.findings",),
    ("experiment.plans.findings",),
    ("experiment.pictures",),
    ("experiment.pages",),
    ("experiment.report",),
    ("experiment.plans.report",),
    ("experiment.grid", "run_page"),
    ("experiment.tuning",),
    ("commands",),
)
"""The rooms of the learner from the ground up; a room imports from lower floors alone."""
MOST = 12
"""Files of a room."""
REGISTRY = "dao.learner.settings.named"
"""Where named data are registered."""
TASKS = sorted((ROOT / "tasks").rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))
MEASURED = [*EVERYTHING, *TASKS, *BENCHMARKS]
LONGEST_FILE, MEDIAN_FILE, LONGEST_FUNCTION = 350, 130, 50
"""Lines. A function is as long as its whole `def`, signature included, without the docstring."""
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
FRAMEWORK = {
    "accelerate_loop.py": "accelerate",
    "hf_trainer.py": "transformers",
    "lightning_module.py": "lightning",
    "vision_digits.py": "sklearn",
}
GUARDED = ("hf_trainer.py", "lightning_module.py")
"""Examples whose framework imports torchvision, where there is one."""


parsed = cache(ast.parse)
"""Source -> its tree, which several tests look at."""


@cache
def imports(source: str) -> tuple[str, ...]:
    return tuple(imported(parsed(source)))


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
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


def faults(paths: Iterable[Path], found: Callable[[str, str], set[str]]) -> dict[str, set[str]]:
    """Path -> what `found` says of the path and its source, where it says anything."""
    told = {ids(path): found(ids(path), path.read_text()) for path in paths}
    return {path: names for path, names in told.items() if names}


ON_REQUEST = {"dao/history.py": ("pandas", "matplotlib")}
"""What a method of the plug-in imports when it is called, and asks for where it is missing."""


@pytest.mark.parametrize("path", PACKAGE, ids=ids)
def test_the_plug_in_needs_torch_and_nothing_else(path: Path):
    late = ON_REQUEST.get(ids(path), ())
    for name in imports(path.read_text()):
        assert within(name, "torch", "dao", *late, *sys.stdlib_module_names), name
        assert not within(name, LEARNER), name


@pytest.mark.parametrize("path", [ROOT / name for name in ON_REQUEST], ids=ids)
def test_what_is_imported_on_request_is_imported_by_functions_alone(path: Path):
    tree = parsed(path.read_text())
    at_once = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.If)]
    names = [name for node in at_once for name in imported(node)]
    assert not any(within(name, *ON_REQUEST[ids(path)]) for name in names)
    (guard,) = [node for node in tree.body if isinstance(node, ast.If)]
    assert ast.unparse(guard.test) == "TYPE_CHECKING"


@pytest.mark.parametrize("name", sorted(DOORS))
def test_a_door_needs_the_standard_library_alone(name: str):
    for found in imports((ROOT / "dao" / name).read_text()):
        assert within(found, "dao.command", *sys.stdlib_module_names), found


def test_nothing_of_dao_knows_the_tasks_or_the_programs():
    def foreign(_: str, source: str) -> set[str]:
        return {name for name in imports(source) if within(name, "tasks", "train", "evaluate")}

    assert faults(EVERYTHING, foreign) == {}
    assert foreign("", "import tasks.excel, trains") == {"tasks.excel"}


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


def test_a_room_imports_from_lower_floors_alone():
    assert faults(LEARNERS, wrong_arrows) == {}


@pytest.mark.parametrize(
    ("path", "planted"),
    [
        ("dao/learner/kinds/binary.py", "from dao.learner.training.loop import fit"),
        ("dao/learner/kinds/parts/cells.py", "from dao.learner.kinds.base import Task"),
        ("dao/learner/model/model.py", "def f():\n import dao.learner.experiment.pages.page"),
        ("dao/learner/encoder/limits.py", "from dao.learner.weighting import weighting"),
        ("dao/learner/storage/files.py", "from dao.learner import pipeline"),
        ("dao/learner/console/report.py", "from dao.learner.training.plan import Plan"),
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
    assert ast.get_docstring(parsed((folder / "__init__.py").read_text()))


def function_lengths(source: str) -> dict[str, int]:
    """Lines of every function by its dotted name: the whole `def` without its docstring."""
    found = {}

    def visit(node: ast.AST, inside: str) -> None:
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            name = f"{inside}.{child.name}".lstrip(".") if named else inside
            if named and not isinstance(child, ast.ClassDef):
                lines = child.end_lineno - child.lineno + 1
                if ast.get_docstring(child) is not None:
                    lines -= child.body[0].end_lineno - child.body[0].lineno + 1
                found[name] = max(lines, found.get(name, 0))
            visit(child, name)

    visit(parsed(source), "")
    return found


def above(lengths: Mapping[str, int], limit: int) -> dict[str, int]:
    return {name: lines for name, lines in lengths.items() if lines > limit}


def worst(lengths: Mapping[str, int], count: int = 10) -> str:
    rows = sorted(lengths.items(), key=lambda row: -row[1])[:count]
    return "the longest:\n" + "\n".join(f"{lines:5} {name}" for name, lines in rows)


def test_no_file_is_too_long():
    lengths = {ids(path): len(path.read_text().splitlines()) for path in MEASURED}
    assert above(lengths, LONGEST_FILE) == {}, worst(lengths)
    learner = [lengths[ids(path)] for path in LEARNERS if path.name != "__init__.py"]
    assert median(learner) <= MEDIAN_FILE, worst(lengths)


def test_no_function_is_too_long():
    lengths = {
        f"{ids(path)} {name}": lines
        for path in MEASURED
        for name, lines in function_lengths(path.read_text()).items()
    }
    assert above(lengths, LONGEST_FUNCTION) == {}, worst(lengths)


def test_the_length_of_a_function_is_its_whole_def_without_the_docstring():
    source = 'class A:\n def f(\n  self,\n ):\n  """One.\n\n  Two."""\n  def g():\n   return 1\n'
    assert function_lengths(source) == {"A.f": 5, "A.f.g": 2}
    assert above({"a": 51, "b": 50}, 50) == {"a": 51}
    assert worst({"a": 1, "b": 2}, 1) == "the longest:\n    2 b"


def public_classes(sources: Mapping[str, str]) -> dict[str, list[str]]:
    """Name of a public class -> the files that define one of this name."""
    found: dict[str, list[str]] = {}
    for path, source in sources.items():
        for node in parsed(source).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(path)
    return found


def test_no_two_public_classes_have_one_name():
    found = public_classes({ids(path): path.read_text() for path in EVERYTHING})
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}
    assert len(found) > 100


def test_two_classes_of_one_name_are_found():
    planted = {"a.py": "class Job: ...\nclass _Own: ...", "b.py": "class Job: ..."}
    assert public_classes(planted) == {"Job": ["a.py", "b.py"]}


@pytest.mark.parametrize("path", TASKS, ids=ids)
def test_the_named_data_know_the_kinds_and_the_reading_of_data_alone(path: Path):
    for name in imports(path.read_text()):
        assert not within(name, "train", "evaluate"), name
        allowed = room(name) in ("kinds", "basics", "data.reading", "data")
        assert not within(name, LEARNER) or allowed or within(name, REGISTRY), name


KIND_NAMES = tuple(KINDS_BY_NAME)
BUILT_IN = re.compile(r"\b(cls|reg)\b")
NOT_OURS = {"dao/learner/encoder/pretraining.py": {"whole.cls"}}
"""Attributes of other packages' objects: the head of a BERT in transformers."""


def built_in_names(source: str) -> set[str]:
    """Where code speaks of the built-in tasks by name, so that other tasks would be left out.

    Docstrings are not code: an example there may call its tasks cls and reg, as the examples of
    the plug-in do, which takes any names.
    """
    tree = parsed(source)
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


def test_no_file_beside_the_kinds_knows_a_task_by_name():
    found = faults([*BESIDE_KINDS, *TASKS], lambda _, source: built_in_names(source))
    assert found == NOT_OURS


def kinds_asked_for(source: str) -> set[str]:
    """Names of kinds, of figures of a rare class, and of one kind's settings or task."""
    words = {n.value for n in ast.walk(parsed(source)) if isinstance(n, ast.Constant)}
    told = {w for w in words if isinstance(w, str) and (w in KIND_NAMES or w.startswith("rare_"))}
    return told | {name for name in imports(source) if within(name, *OWN_FILES)}


OWN_FILES = [f"{KINDS}.{name}" for name in KIND_NAMES]
OF_EARLIER_RUNS = {"dao/learner/experiment/findings/runs.py": {"rare_f1"}}
"""What is said of runs that recorded too little of their tasks."""


def test_no_file_beside_the_kinds_tells_them_apart():
    found = faults([*BESIDE_KINDS, *TASKS], lambda _, source: kinds_asked_for(source))
    assert found == OF_EARLIER_RUNS


@pytest.mark.parametrize("path", EXAMPLES, ids=ids)
def test_an_example_needs_torch_and_its_framework(path: Path):
    allowed = {"torch", "dao", "toy", FRAMEWORK.get(path.name, "torch")}
    found = set(imports(path.read_text()))
    for name in found:
        assert within(name, *allowed, *sys.stdlib_module_names), name
    # The guard for a broken torchvision, and nothing inside.
    learner = {name for name in found if within(name, LEARNER)}
    assert learner == ({LEARNER} if path.name in GUARDED else set())


QUANTISERS = ("bitsandbytes", "transformers.BitsAndBytesConfig")


def test_one_door_each_to_perforatedai_and_bitsandbytes():
    files = [*PACKAGE, *LEARNERS, *TASKS, ROOT / "train.py", ROOT / "evaluate.py"]
    text = {ids(path): path.read_text() for path in files}
    found = {f for f, t in text.items() if any(within(n, "perforatedai") for n in imports(t))}
    assert found == {"dao/learner/dendrites/perforated.py"}
    found = {f for f, t in text.items() if any(within(n, *QUANTISERS) for n in imports(t))}
    assert found == {"dao/learner/encoder/load.py"}


def consoles(source: str) -> set[str]:
    """What makes or borrows a console of rich, and text that rich would read as markup."""
    found = set()
    for node in ast.walk(parsed(source)):
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
    places = [*LEARNERS, *TASKS, *BENCHMARKS, *ROOT.glob("*.py")]
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
    "planted",
    ["from dao.learner.kinds.classification import ClassificationSettings", "x == 'binary'",
     "key.startswith('rare_')", "TYPES = {'regression': 1}"],
)  # fmt: skip
def test_a_planted_name_of_a_kind_is_found(planted: str):
    assert kinds_asked_for(planted)


@pytest.mark.parametrize(
    "harmless",
    ["def f(cls):\n return cls.parse", "x = 'regular classes'", 'def f():\n """Of cls and reg."""'],
)
def test_other_uses_of_the_letters_are_not(harmless: str):
    assert not built_in_names(harmless)


@pytest.mark.slow
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
    for name in ("index.html", "style.css", "page.js", "file.js", "quality.js", "icon.svg"):
        assert f"dao/learner/serving/static/{name}" in names
