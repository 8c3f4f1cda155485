"""The runs of a plan, with a stand-in for train.py that takes no time."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import typer

from dao.errors import UserError
from dao.learner.experiment.grid import planned
from dao.learner.experiment.grid.options import Options
from dao.learner.experiment.grid.planned import run_plan
from dao.learner.experiment.plans.kept import kept
from dao.learner.settings.config import Config

FAKE = '''
"""Does what the file `orders` says for its arm; else it finishes."""
import json, os, pathlib, signal, sys

path = pathlib.Path(sys.argv[2])
folder = path if sys.argv[1] == "--resume" else path.parent
arm = folder.parent.name
with open("starts", "a") as file:
    file.write(f"{arm}/{folder.name}\\n")
order = json.loads(pathlib.Path("orders").read_text()).get(arm, "finish")
if order != "refuse":
    (folder / "history.jsonl").touch()
if order == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if order == "bug":
    raise ValueError("a bug")
if order in ("diverge", "refuse"):
    sys.exit("error: The loss should be finite. Found nan.")
test = {"cls": {"accuracy": 0.75}, "reg": {"mse": 0.0625}}
shown = {"cls": [["accuracy", "+"]], "reg": [["mse", "-"]]}
content = {"headline": shown, "splits": {"test": test}, "training": {"seconds": 7.4}}
(folder / "metrics.json").write_text(json.dumps(content))
'''
PLAN = """
title: T
question: Q?
seeds: [3, 4]
arms:
  equal: {weighting: equal}
  "dao: x10": {weighting: dao, reg.scale: 10, dendrites.grow_at: [0.25, 0.5]}
compare: [["dao: x10", equal]]
"""


class Place:
    """A working directory with a plan, a stand-in for train.py, and what became of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.command = [sys.executable, str(path / "fake.py")]
        self.concluded: list[Path] = []
        self.read: list[str] = []
        self.rows = {"equal": ["a", "b"], "dao": ["a", "b"]}
        (path / "fake.py").write_text(FAKE)
        (path / "own.yaml").write_text(PLAN)
        self.order()

    def order(self, **arms: str) -> None:
        (self.path / "orders").write_text(json.dumps(arms))

    def run(self, *overrides: str, dry_run: bool = False, **options: object) -> None:
        asked = Options(**{"plan": Path("own.yaml"), **options})
        settings = (None, [*overrides], {})
        run_plan(settings, asked, self.command, self.data, dry_run=dry_run)

    def data(self, cfg: Config) -> tuple[Config, SimpleNamespace, dict]:
        self.read.append(cfg.weighting)
        texts = self.rows[cfg.weighting]
        columns = {"id": range(len(texts)), "text": texts, "split": "test", "domain": "x"}
        frame = pd.DataFrame({**columns, "cls": "up", "reg": 0.5})
        table = SimpleNamespace(rows=lambda _: frame, frame=frame, report={})
        return cfg, table, {"cls": None, "reg": None}

    def starts(self) -> list[str]:
        file = self.path / "starts"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    made = Place(tmp_path)
    monkeypatch.setattr(planned, "conclude_plan", made.concluded.append)
    return made


OUT = Path("results/own-headlines")
EVERY = ["equal/seed=3", "dao__x10/seed=3", "equal/seed=4", "dao__x10/seed=4"]


def test_every_run_once_and_a_second_call_runs_and_reads_nothing(place: Place):
    place.run()
    assert place.starts() == EVERY
    assert kept(OUT).plan.seeds == (3, 4)
    assert kept(OUT).plan.began.command.endswith(f"--plan {OUT}/plan.yaml")
    read = len(place.read)
    place.run()
    assert (place.starts(), len(place.read)) == (EVERY, read)
    assert place.concluded == [OUT, OUT]


def test_the_plan_that_the_folder_keeps_continues_it(place: Place):
    place.run("train.lr=0.01", only=["equal/3"])
    assert place.concluded == []
    place.run(plan=OUT / "plan.yaml")
    assert sorted(place.starts()) == sorted(EVERY)
    lr = {kept(OUT).shared.train.lr}
    lr |= {float(p.read_text().split("lr: ")[1].split()[0]) for p in OUT.rglob("config.yaml")}
    assert 0.01 in lr
    assert place.concluded == [OUT]


def test_another_plan_or_other_settings_are_refused_before_any_run(place: Place):
    place.run(only=["equal/3"])
    with pytest.raises(UserError, match=r"`train\.lr` 0\.0015 in its plan\.yaml in place of 0\.5"):
        place.run("train.lr=0.5")
    (place.path / "own.yaml").write_text(PLAN.replace("scale: 10", "scale: 9"))
    with pytest.raises(UserError, match=r"`tasks\.reg\.scale` of the arm 'dao: x10' 10\.0 .* 9\.0"):
        place.run()
    assert place.starts() == ["equal/seed=3"]
    place.run("output=elsewhere", seeds=1)
    assert kept(Path("elsewhere")).plan.seeds == (0,)


def test_a_run_that_stopped_while_it_trained_is_a_result(place: Place, capsys):
    place.order(dao__x10="diverge")
    place.run()
    assert place.concluded == [OUT]
    note = OUT / "dao__x10" / "seed=3.failed"
    assert note.read_text() == "The loss should be finite. Found nan.\n"
    assert "dao: x10/3 stopped: The loss should be finite." in capsys.readouterr().err
    place.run()
    assert len(place.starts()) == 4  # it is not made again
    note.unlink()
    place.order()
    place.run()
    assert len(place.starts()) == 5
    assert not note.exists()


@pytest.mark.parametrize("order", ["refuse", "kill", "bug"])
def test_a_run_that_failed_otherwise_is_an_error_and_made_again(place: Place, order: str, capsys):
    place.order(dao__x10=order)
    with pytest.raises(UserError, match="Found 2 that did not") as failed:
        place.run()
    assert str(OUT / "dao__x10" / "seed=3.log") in str(failed.value)
    assert place.concluded == [OUT]  # with what there is
    assert not list(OUT.rglob("*.failed"))
    place.order()
    before = len(place.starts())
    place.run()
    assert len(place.starts()) == before + 2


def test_other_test_rows_are_refused_before_any_run(place: Place):
    place.rows["dao"] = ["a", "c"]
    with pytest.raises(UserError, match="other test rows of cls in 'dao: x10' than in 'equal'"):
        place.run()
    assert place.starts() == []
    assert not OUT.exists()


def test_a_column_to_break_down_by_has_to_be_there(place: Place):
    (place.path / "own.yaml").write_text(f"{PLAN}by: [origin]\n")
    with pytest.raises(UserError, match=r"`by` should name columns .* Found 'origin'\. There are"):
        place.run()
    assert place.starts() == []


def test_a_dry_run_shows_the_arms_and_makes_nothing(place: Place, monkeypatch, capsys):
    monkeypatch.setattr(planned, "print_plan", lambda cfg, table: print(f"# {cfg.output}"))
    place.run(dry_run=True)
    shown = capsys.readouterr().out
    assert "# dao: x10: tasks.reg.scale=10.0 weighting=dao dendrites.grow_at=[0.25,0.5]" in shown
    assert "4 of 4 runs to do" in shown
    assert not OUT.exists()


@pytest.mark.parametrize("only", ["dao: x10", "dao: x10/0", "nobody/3"])
def test_an_unknown_cell_is_refused(place: Place, only: str):
    with pytest.raises(UserError, match="seeds are 3 to 4"):
        place.run(only=[only])


def test_built_in_arms_exclude_a_plan():
    with pytest.raises(typer.BadParameter, match="--only ARM/SEED takes runs"):
        Options.given(True, {"plan": Path("x"), "arms": "dao"}, alone=False)
    with pytest.raises(typer.BadParameter, match="--plan needs --factorial"):
        Options.given(False, {"plan": Path("x")}, alone=False)
