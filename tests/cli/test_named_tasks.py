"""What one can do with a run works for tasks of any name and kind.

The export of several tasks is in `test_any_tasks.py`.
"""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dao.learner.storage.record import RunFolder

pytestmark = pytest.mark.slow

NAMES = ("topic", "stars", "urgent")
TASKS = ("--tasks", "topic:classification,stars:ordinal,urgent:binary")
SMALL = (
    "encoder.precision=fp32", "train.page=false",
    "train.epochs=1", "train.batch_size=10", "train.lr=0.01",
    "train.validations_per_epoch=2", "train.log_every=1",
)  # fmt: skip
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng, rows = random.Random(0), []
    topics = {"profit": "money", "sales": "shop", "meeting": "office"}
    for i in range(150):
        word, verb = rng.choice([*topics]), rng.choice(["rose", "fell"])
        how = rng.choice(["sharply", "slightly"])
        stars = {"rose": 3, "fell": 2}[verb] + (how == "sharply") * (1 if verb == "rose" else -1)
        urgent = "yes" if how == "sharply" else "no"
        site = "news" if rng.random() < 0.5 else "forum"
        split = "train" if i < 90 else "validation" if i < 120 else "test"
        cells = [topics[word], "" if i % 7 == 0 else stars, "" if i % 5 == 0 else urgent]
        text = f"{'the company said' if site == 'news' else 'up up'} {word} {verb} {how} {i}"
        rows.append(",".join(map(str, [text, *cells, site, split])))
    path = tmp_path_factory.mktemp("reviews") / "reviews.csv"
    path.write_text("text,topic,stars,urgent,site,split\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def fit(tiny_phi: Path, reviews: Path) -> Run:
    from train import app

    def run(output: Path, *more: str, tasks: Sequence[str] = TASKS) -> Result:
        fixed = ("--encoder", str(tiny_phi), "--data", str(reviews), "--output", str(output))
        arguments = [*fixed, *tasks, *SMALL, *more]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result

    return run


@pytest.fixture(scope="module")
def run(fit: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With DAO, priors and weights of the selection by name."""
    folder = tmp_path_factory.mktemp("named") / "run"
    settings = ("dao.priors.stars=2", "dao.priors.urgent=0.5", "train.select_weights.topic=3")
    fit(folder, "--dao", "dao.alpha=0", *settings)
    return folder


@pytest.fixture(scope="module")
def expert_run(fit: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("named") / "experts"
    stages = ("experts.domain_epochs=1", "experts.router_warmup_steps=5")
    fit(folder, "--experts", "news,forum", "--domain-column", "site", *stages)
    return folder


def evaluated(*arguments: object) -> Result:
    from evaluate import app

    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def read(folder: Path, name: str = "metrics.json") -> Any:
    return json.loads((folder / name).read_text())


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_priors_are_the_weights_where_norms_count_for_nothing(run: Path):
    """With alpha 0 the weights are the priors, scaled to a sum of the number of tasks."""
    last = rows(run / "history.jsonl")[-1]["tasks"]
    total = 1 + 2 + 0.5
    expected = {"topic": 3 / total, "stars": 6 / total, "urgent": 1.5 / total}
    assert {name: task["weight"] for name, task in last.items()} == pytest.approx(expected)


def test_the_selection_weighs_tasks_by_name(run: Path):
    tasks = read(run)["tasks"]
    for row in rows(run / "validation.jsonl"):
        scores = {n: max(-1.0, row["metrics"][n][tasks[n]["selects_by"]]) for n in NAMES}
        mean = (3 * scores["topic"] + scores["stars"] + scores["urgent"]) / 5
        assert row["score"] == pytest.approx(mean)


@pytest.mark.parametrize("setting", ["dao.priors.mood=2", "train.select_weights.mood=2"])
def test_a_weight_of_no_task_is_refused(setting: str):
    from dao.errors import UserError
    from dao.learner.settings.config import load_config

    with pytest.raises(UserError, match=r"names \['mood'\], which is not among `tasks`"):
        load_config(overrides=[setting], flags={"tasks": "topic,stars"})


def test_the_report_is_reproduced(run: Path):
    found = json.loads(evaluated(run, "--format", "json").stdout)["splits"]["test"]
    assert found == read(run)["splits"]["test"]
    assert set(found) == set(NAMES)


def test_new_data_may_call_the_column_of_any_task_otherwise(
    run: Path, reviews: Path, tmp_path: Path
):
    new = tmp_path / "new.csv"
    new.write_text(reviews.read_text().replace("text,topic,stars", "review,subject,grade", 1))
    named = ("data.text=review", "data.topic=subject", "data.stars=grade")
    figures = [
        json.loads(evaluated(run, "--data", *arguments, "--format", "json").stdout)["splits"]
        for arguments in ((reviews,), (new, *named))
    ]
    assert figures[0] == figures[1]
    assert set(figures[0]["test"]) == set(NAMES)


@pytest.mark.parametrize("key", ["data.mood=x", "data.where=x", "topic.kind=ordinal", "seed=1"])
def test_other_settings_of_a_finished_run_stay(run: Path, reviews: Path, key: str):
    from evaluate import app

    result = CliRunner().invoke(app, [str(run), "--data", str(reviews), key])
    assert result.exit_code in (1, 2)
    assert "Traceback" not in result.output
    assert key.partition("=")[0] in result.output


def test_a_threshold_is_chosen_for_the_binary_task(run: Path, tmp_path: Path):
    evaluated(run, "--threshold-sweep", "--output", tmp_path)
    found = read(tmp_path, "threshold.json")
    assert (found["task"], found["validation"]["n"] > 0) == ("urgent", True)
    assert (tmp_path / "precision_recall.png").stat().st_size > 1000


@pytest.mark.slow
def test_thresholds_of_several_tasks_leave_the_run_as_it_is(fit: Run, tmp_path: Path):
    """A task may be called as the folder of the model is."""
    tasks = ("--tasks", "adapter:classification,tokenizer:binary")
    columns = ("adapter.column=topic", "adapter.positive=money", "tokenizer.column=urgent")
    fit(tmp_path, *columns, tasks=tasks)
    before = RunFolder(tmp_path).model_digests()
    found = json.loads(evaluated(tmp_path, "--threshold-sweep", "--format", "json").stdout)
    assert RunFolder(tmp_path).model_digests() == before
    for task in ("adapter", "tokenizer"):
        assert read(tmp_path, f"thresholds/{task}/threshold.json") == found[task]
        assert (tmp_path / "thresholds" / task / "precision_recall.png").exists()
    evaluated(tmp_path)
    fit(tmp_path, *columns, "--overwrite", tasks=tasks)
    assert not (tmp_path / "thresholds").exists()


def test_a_run_is_compared_with_another(run: Path, expert_run: Path):
    result = evaluated(run, "--compare-to", run, "--format", "json")
    assert all(name in result.stdout for name in NAMES)
    tested = json.loads(evaluated("compare", run, run, "--format", "json").stdout)["per_example"]
    assert {row["metric"].partition(".")[0] for row in tested} == set(NAMES)


def test_experts_have_figures_of_every_task(expert_run: Path):
    routing = read(expert_run)["routing"]["test"]
    for way in ("soft", "hard"):
        for group in (routing[way]["all"], *routing[way]["domains"].values()):
            assert set(group) == set(NAMES)
    assert set(routing["soft"]["domains"]) == {"news", "forum"}
    again = json.loads(evaluated(expert_run, "--format", "json").stdout)
    assert again["splits"]["test"] == read(expert_run)["splits"]["test"]


def test_experts_are_merged_into_one_adapter(expert_run: Path, tmp_path: Path):
    arguments = ("--merge-experts", "linear", "--output", tmp_path / "one", "--format", "json")
    found = evaluated(expert_run, *arguments).stdout
    assert all(name in found for name in NAMES)
    assert (tmp_path / "one" / "adapter_model.safetensors").stat().st_size > 1000
