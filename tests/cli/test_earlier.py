"""Settings files, commands and run folders of before tasks had kinds mean what they meant."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from dao.learner.settings.config import Config, load_config
from dao.learner.storage.files import digest
from dao.learner.storage.record import RunFolder

ROOT = Path(__file__).parents[2]
CLASSES, SCORES = ("classification", "label"), ("regression", "score")
BOTH = {"cls": CLASSES, "reg": SCORES}
DAO = ("--tasks", "cls,reg", "--dao", "cls.positive=negative", "train.epochs=1")


def meaning(cfg: Config) -> dict[str, tuple[str, str]]:
    return {name: (task.kind, task.column) for name, task in cfg.tasks.items()}


# -- settings and commands -----------------------------------------------------------------------

# File -> its tasks, and the options of cls that it sets.
PRESETS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "dao-bare": (BOTH, {}),
    "dao-paper": ({"cls": ("classification", "score"), "reg": SCORES}, {"cut": 3}),
    "factorial": (BOTH, {}),
    "factorial-quick": (BOTH, {}),
    "finsa-moe": (
        {"cls": CLASSES},
        {"loss": "focal", "label_smoothing": 0.1, "class_weights": "effective"},
    ),
    "giant-killer": ({"cls": CLASSES}, {"select_by": "rare_f1", "class_weights": "balanced"}),
    "perforated-phi2": ({"cls": CLASSES}, {"class_weights": "balanced"}),
    "phi2": (BOTH, {}),
    "quick": (BOTH, {}),
}


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_settings_file_has_the_tasks_that_it_had(path: Path):
    tasks, options = PRESETS[path.stem]
    cfg = load_config(path)
    assert meaning(cfg) == tasks
    plain = {**load_config().tasks["cls"].model_dump(), **options}
    places = ("column", "label_column")
    assert {k: v for k, v in cfg.tasks["cls"].model_dump().items() if k not in places} == {
        k: v for k, v in plain.items() if k not in places
    }
    if "reg" in cfg.tasks:
        assert cfg.tasks["reg"] == load_config().tasks["reg"]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ((), BOTH),
        (("data.cls=mood",), {"cls": ("classification", "mood"), "reg": SCORES}),
        (("data.reg=price",), {"cls": CLASSES, "reg": ("regression", "price")}),
        (("cls.cut=3",), {"cls": ("classification", "score"), "reg": SCORES}),
        (
            ("cls.cut=3", "data.reg=price"),
            {"cls": ("classification", "price"), "reg": ("regression", "price")},
        ),
        (
            ("data.reg=price", "data.cls=mood", "cls.cut=[-0.1,0.1]"),
            {"cls": ("classification", "price"), "reg": ("regression", "price")},
        ),
        (("cls.cut=null", "data.reg=price"), {"cls": CLASSES, "reg": ("regression", "price")}),
    ],
)
def test_columns_as_they_were_typed_before(typed: tuple[str, ...], expected: dict[str, Any]):
    assert meaning(load_config(overrides=typed)) == expected
    for one in BOTH:
        alone = load_config(overrides=typed, flags={"tasks": one})
        assert meaning(alone) == {one: expected[one]}


def test_options_as_they_were_typed_before():
    cfg = load_config(
        overrides=["cls.select_by=macro_f1", "reg.standardize=false", "reg.scale=2"],
        flags={"tasks": "reg,cls"},
    )
    assert list(cfg.tasks) == ["reg", "cls"]
    assert cfg.arm == "reg+cls"
    assert cfg.tasks["cls"].select_by == "macro_f1"
    assert (cfg.tasks["reg"].standardize, cfg.tasks["reg"].scale) == (False, 2)
    # Options of a task that is not learned count for nothing, as in files for both.
    assert "cls" not in load_config(overrides=["cls.cut=3"], flags={"tasks": "reg"}).tasks


# -- run folders ---------------------------------------------------------------------------------

LATER = {
    "data": ("rules", "missing", "encoding"),
    "train": ("select_weights", "accumulate", "sampling", "early_stopping"),
    "dendrites": ("lr",),
    "dao": ("rules",),
}
OPTIONS = {
    "cls": (
        "select_by", "positive", "loss", "focal_gamma", "label_smoothing", "class_weights", "beta",
        "cut",
    ),
    "reg": ("standardize", "scale"),
}  # fmt: skip
STATES = {
    "cls": (
        "name", "column", "classes", "class_weights", "loss_kind", "focal_gamma",
        "label_smoothing", "thresholds", "select_by", "positive",
    ),
    "reg": ("name", "column", "mean", "sd", "scale"),
}  # fmt: skip
HEADLINE = {
    "cls": [["accuracy", "↑"], ["macro_f1", "↑"]],
    "reg": [["r2", "↑"], ["mse", "↓"]],
}


def settings_before(now: dict[str, Any]) -> dict[str, Any]:
    """Settings as they were written when tasks were two, with sections of their own."""
    found = {key: value for key, value in now.items() if key != "split_tasks"}
    tasks = found["tasks"]
    for section, names in LATER.items():
        found[section] = {k: v for k, v in found[section].items() if k not in names}
    found["dao"] |= {"source": "params", "refresh_every": 50}
    columns = {name: task["column"] for name, task in tasks.items()}
    found["data"] |= {"text": found["data"]["text"][0], **columns}
    for name, task in tasks.items():
        found[name] = {key: task[key] for key in OPTIONS[name]}
    return found | {"tasks": list(tasks)}


def rewrite(path: Path, change: Any) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))), encoding="utf-8")


def as_before(folder: Path) -> None:
    """Rewrite the files of a run, finished or not, into their earlier form."""
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(settings_before(yaml.safe_load(config.read_text()))))
    rewrite(folder / "data.json", lambda report: {k: v for k, v in report.items() if k != "kinds"})
    for state in folder.glob("checkpoints/step=*/state.json"):
        rewrite(
            state,
            lambda found: {
                **{k: v for k, v in found.items() if k != "sha256_of_the_rest"},
                "settings": settings_before(found["settings"]),
            },
        )
    if not (folder / "metrics.json").exists():
        return
    rewrite(
        folder / "tasks.json",
        lambda tasks: {n: {k: task[k] for k in STATES[n]} for n, task in tasks.items()},
    )
    rewrite(
        folder / "metrics.json",
        lambda found: {
            **{k: v for k, v in found.items() if k not in ("tasks", "texts")},
            "headline": HEADLINE,
            "files": {**found["files"], "tasks.json": digest(folder / "tasks.json")},
            "training": {
                k: v for k, v in found["training"].items() if k not in ("sampling", "stopped_early")
            },
            "data": {k: v for k, v in found["data"].items() if k != "kinds"},
        },
    )
    table = list(csv.reader((folder / "predictions.csv").open(encoding="utf-8")))
    kept = [i for i, name in enumerate(table[0]) if not name.endswith("_row_score")]
    with open(folder / "predictions.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([row[i] for i in kept] for row in table)


def evaluate(*arguments: object) -> Result:
    from evaluate import app

    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def figures_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())["splits"]["test"]


@pytest.fixture(scope="module")
def now(train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("earlier") / "now"
    result = train(folder, *DAO)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def before(now: Path) -> Path:
    folder = now.parent / "before"
    shutil.copytree(now, folder)
    as_before(folder)
    return folder


def test_an_earlier_run_is_read(before: Path):
    cfg = RunFolder(before).config()
    assert meaning(cfg) == BOTH
    assert (cfg.data.rules, cfg.data.text) == (1, ("text",))
    assert cfg.tasks["cls"].positive == "negative"


def test_an_earlier_run_has_the_same_figures(now: Path, before: Path):
    result = evaluate(before, "--format", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["splits"]["test"] == figures_of(now)
    shown = evaluate(before).stdout
    for column in ("cls accuracy ↑", "cls macro_f1 ↑", "reg r2 ↑", "reg mse ↓"):
        assert column in shown


def test_an_earlier_run_predicts(now: Path, before: Path, tiny_csv: Path, tmp_path: Path):
    written = []
    for folder in (now, before):
        output = tmp_path / f"{folder.name}.csv"
        result = evaluate(folder, "--input", tiny_csv, "--output", output)
        assert result.exit_code == 0, result.output
        written.append(output.read_text())
    assert written[0] == written[1]
    assert written[0].startswith("id,text,label,score,split,cls,cls_p_negative,cls_p_positive,reg")


def test_the_threshold_of_an_earlier_run(now: Path, before: Path, tmp_path: Path):
    found = []
    for folder in (now, before):
        place = tmp_path / folder.name
        result = evaluate(folder, "--threshold-sweep", "--output", place)
        assert result.exit_code == 0, result.output
        found.append(json.loads((place / "threshold.json").read_text()))
    assert found[0] == found[1]


def test_an_earlier_run_is_compared_with_one_of_now(now: Path, before: Path):
    result = evaluate("compare", before, now, "--format", "json")
    assert result.exit_code == 0, result.output
    compared = json.loads(result.stdout)["per_example"]
    assert {row["metric"] for row in compared} == {"cls.accuracy", "reg.mse"}
    assert all(row["estimate"] == 0 for row in compared)


@pytest.mark.slow
def test_an_unfinished_earlier_run_goes_on(train, now: Path, tmp_path: Path):
    from train import app

    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        from dao.learner.training import loop
        from dao.learner.training.state import State

        real = loop.train_step

        def step(state: State, number: int, *rest: object) -> None:
            if number == 7:
                raise KeyboardInterrupt
            real(state, number, *rest)

        patch.setattr(loop, "train_step", step)
        assert train(folder, *DAO, "train.checkpoint_every=3").exit_code != 0
    as_before(folder)
    result = CliRunner().invoke(app, ["--resume", str(folder)])
    assert result.exit_code == 0, result.output
    assert figures_of(folder) == figures_of(now)
    name = "adapter/adapter_model.safetensors"
    a, b = load_file(now / name), load_file(folder / name)
    assert all(a[key].equal(b[key]) for key in a)
