"""The experiment's runner, with a stand-in for train.py that takes no time."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import typer
import yaml

from dao.errors import UserError
from dao.learner.experiment.arms import chosen
from dao.learner.experiment.grid import runner
from dao.learner.experiment.grid.backends import check_room, on_ray
from dao.learner.experiment.grid.factorial import check_not_other, check_shared, factorial_cells
from dao.learner.experiment.grid.job import HEADER, After, Outcome, RunJob, run_job
from dao.learner.experiment.grid.options import Options
from dao.learner.experiment.grid.runner import conclude, run_factorial
from dao.learner.experiment.grid.work import job_of
from dao.learner.settings.config import Config, load_config

ARMS = chosen(("cls", "reg"))
ROOT = str(Path(__file__).parents[2])
FAKE = '''
"""Does what the file `orders` says for its arm, one word per start; else it finishes."""
import json, os, pathlib, signal, sys, time

path = pathlib.Path(sys.argv[2])
folder = path if sys.argv[1] == "--resume" else path.parent
arm = folder.parent.name
with open("starts", "a") as file:
    file.write(f"{arm} {folder.name} {sys.argv[1]} {os.environ['OMP_NUM_THREADS']}\\n")
before = sum(line.split()[0] == arm for line in open("starts"))
orders = json.loads(pathlib.Path("orders").read_text()).get(arm, [])
order = orders[before - 1] if before <= len(orders) else "finish"
print("working", flush=True)
if order == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if order == "fail":
    sys.exit("error: it went wrong.")
if order == "sleep":
    time.sleep(60)
if order == "slow":
    time.sleep(1.5)
if order != "nothing":
    test = {"cls": {"accuracy": 0.75}, "reg": {"mse": 0.0625}}
    tasks = {"cls": ["cls"], "reg": ["reg"]}.get(arm, ["cls", "reg"])
    shown = {"cls": [["accuracy", "+"]], "reg": [["mse", "-"]]}
    shown = {task: shown[task] for task in tasks}
    content = {"headline": shown, "splits": {"test": test}, "training": {"seconds": 7.4}}
    (folder / "metrics.json").write_text(json.dumps(content))
'''


class Place:
    """A working directory with a stand-in for train.py, and what became of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.command = [sys.executable, str(path / "fake.py")]
        self.concluded: list[Path] = []
        self.reported: list[tuple[str, ...]] = []
        (path / "fake.py").write_text(FAKE)
        self.order()

    def order(self, **arms: list[str]) -> None:
        (self.path / "orders").write_text(json.dumps(arms))

    def run(self, *overrides: str, **options: object) -> None:
        settings = (None, ["output=out", *overrides], {})
        asked = Options(**{"seeds": 1, **options})
        run_factorial(settings, asked, self.command, lambda cfg: (None, None))

    def conclude(self, folder: Path, arms: tuple[str, ...]) -> None:
        self.concluded.append(folder)
        self.reported.append(arms)

    def starts(self) -> list[list[str]]:
        file = self.path / "starts"
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def job(self, arm: str = "base") -> RunJob:
        cell = factorial_cells(load_config(None, ["output=out"]), 1, [f"{arm}/0"])[0]
        lock = Path("out/.locks/x")
        text = cell.cfg.to_yaml()
        return RunJob(cell.name, cell.cfg.folder, lock, tuple(self.command), text, 1, 0, self.path)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    made = Place(tmp_path)
    monkeypatch.setattr(runner, "conclude", made.conclude)
    return made


# -- the grid ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arm", "tasks", "weighting", "control"),
    [
        ("base", ("cls", "reg"), "equal", "restart"),
        ("dao", ("cls", "reg"), "dao", "restart"),
        ("dendrites", ("cls", "reg"), "equal", "none"),
        ("dao+dendrites", ("cls", "reg"), "dao", "none"),
        ("sham", ("cls", "reg"), "equal", "sham"),
        ("capacity", ("cls", "reg"), "equal", "capacity"),
        ("cls", ("cls",), "equal", "restart"),
        ("reg", ("reg",), "equal", "restart"),
    ],
)
def test_an_arm_differs_from_the_shared_settings_in_nothing_else(arm, tasks, weighting, control):
    shared = load_config(None, ["train.lr=0.02", "dendrites.grow_at=[0.3]", "dao.alpha=0.5"])
    cell = next(c for c in factorial_cells(shared, 2) if c.name == f"{arm}/1")
    expected = shared.model_dump()
    expected |= {"weighting": weighting, "seed": 1}
    if len(tasks) == 1:
        expected["split_tasks"] = expected["tasks"]
        expected["tasks"] = {arm: expected["tasks"][arm]}
    expected["output"] = f"results/factorial-headlines/{arm}/seed=1"
    expected["dendrites"] |= {"enabled": True, "control": control}
    assert cell.cfg.model_dump() == expected


def test_all_weights_of_restart_lr_have_the_rate_of_the_dendrites():
    shared = load_config(None, ["dendrites.lr=10"])
    cells = {cell.arm: cell.cfg.dendrites for cell in factorial_cells(shared, 1)}
    assert {arm: cfg.restart_lr for arm, cfg in cells.items() if cfg.restart_lr != 1} == {
        "restart-lr": 10.0
    }
    assert cells["restart-lr"].control == "restart"
    assert {cfg.lr for cfg in cells.values()} == {10.0}


def test_the_grid_goes_seed_by_seed_below_the_output():
    shared = load_config(None, ["output=here"])
    names = [cell.name for cell in factorial_cells(shared, 2)]
    assert names == [f"{arm}/{seed}" for seed in (0, 1) for arm in ARMS]
    assert len(names) == 16
    assert [c.cfg.output for c in factorial_cells(shared, 3, ["sham/2"])] == ["here/sham/seed=2"]


def test_a_prior_of_the_other_task_is_not_given_to_a_single_one():
    shared = load_config(None, ["dao.priors={cls: 2, reg: 1}"])
    found = {cell.arm: cell.cfg.dao.priors for cell in factorial_cells(shared, 1)}
    assert found["dao"] == {"cls": 2, "reg": 1}
    assert found["cls"] == {"cls": 2}


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["weighting=dao"], "`weighting`"),
        (["weighting=equal"], "`weighting`"),  # the default, but half of the arms have another
        (["dendrites.enabled=true"], "`dendrites.enabled`"),
        (["dendrites.enabled=true", "dendrites.control=sham"], "`dendrites.enabled`"),
        (["seed=3"], "`seed`"),
        (["dendrites.growths_of=run", "dendrites.enabled=true"], "`dendrites.growths_of`"),
    ],
)
def test_what_the_arms_set_is_refused(place: Place, overrides: list[str], named: str):
    with pytest.raises(UserError) as refused:
        place.run(*overrides)
    assert named in str(refused.value)
    assert place.starts() == []


def test_what_a_yaml_file_sets_is_refused_as_well():
    with pytest.raises(UserError, match="`weighting`"):
        check_shared(Config(weighting="dao"), ())
    check_shared(load_config(None, ["dao.alpha=0.5", "dendrites.where=heads"]), {"dao.alpha"})


@pytest.mark.parametrize("only", ["dao", "dao/5", "nobody/0"])
def test_an_unknown_cell_is_refused(only: str):
    with pytest.raises(UserError, match="0 to 4"):
        factorial_cells(Config(), 5, [only])


@pytest.mark.parametrize(
    ("tasks", "arms", "expected"),
    [
        ("cls,reg", (), tuple(ARMS)),
        ("cls", (), ("base", "dendrites", "sham", "capacity")),
        ("reg", ("dendrites", "base"), ("base", "dendrites")),
        ("cls,reg", ("dao-paper", "reg", "base"), ("base", "reg", "dao-paper")),
    ],
)
def test_chosen_arms_in_the_order_of_all_tables(tasks, arms, expected):
    cells = factorial_cells(load_config(None, [f"tasks=[{tasks}]"]), 1, arms=arms)
    assert tuple(cell.arm for cell in cells) == expected


@pytest.mark.parametrize(
    ("tasks", "arms", "said"),
    [
        ("cls,reg", ["base", "nobody"], "Found 'nobody'. There are base, dao, dendrites,"),
        ("cls,reg", ["base", "base"], "each once. Found 'base'"),
        ("cls", ["dao"], "Found 'dao' for --tasks cls alone. There are base, dendrites, sham"),
        ("cls", ["reg"], "Found 'reg' for --tasks cls alone"),
    ],
)
def test_arms_that_cannot_be(tasks, arms, said):
    with pytest.raises(UserError, match=re.escape(said)):
        factorial_cells(load_config(None, [f"tasks=[{tasks}]"]), 1, arms=arms)


def test_the_papers_arm_is_the_bare_rule_whatever_the_others_share():
    from dao import DAOLoss

    shared = load_config(None, ["dao.ema=0.5", "dao.alpha=0.5"])
    paper, dao = (cell.cfg for cell in factorial_cells(shared, 1, arms=["dao", "dao-paper"])[::-1])
    assert (dao.weighting, paper.weighting) == ("dao", "dao")
    assert (dao.dao.ema, dao.dao.total) == (0.5, "tasks")
    bare = DAOLoss.paper(["cls", "reg"], params=[])
    for name in ("alpha", "ema", "refresh_every", "max_ratio", "total", "absent"):
        assert getattr(paper.dao, name) == getattr(bare, name), name


def test_chosen_arms_are_run_and_reported(place: Place):
    place.run("tasks=[cls]", arms=("base", "dendrites"))
    assert sorted(arm for arm, *_ in place.starts()) == ["base", "dendrites"]
    assert place.reported == [("base", "dendrites")]


@pytest.mark.parametrize("when", ["offline", "always"])
def test_an_encoder_from_scratch_needs_no_hub(place: Place, monkeypatch, when: str):
    def offline(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect to the hub.")

    monkeypatch.setattr("dao.learner.encoder.load.AutoConfig.from_pretrained", offline)
    scratch = (f"encoder.scratch.when={when}", "encoder.scratch.pretrain_epochs=1")
    place.run("tasks=[cls]", "encoder.name=someone/bert", *scratch, arms=("base", "dendrites"))
    assert len(place.starts()) == 2


@pytest.mark.parametrize("flag", [{"seeds": 2}, {"jobs": 2}, {"backend": "ray"}, {"only": ["a"]}])
def test_a_flag_of_the_experiment_needs_it(flag):
    with pytest.raises(typer.BadParameter, match="needs --factorial"):
        Options.given(False, {**dict.fromkeys(("seeds", "jobs")), **flag}, alone=False)
    assert Options.given(True, flag, alone=False) == Options(**flag)
    with pytest.raises(typer.BadParameter, match="--overwrite"):
        Options.given(True, flag, alone=True)


# -- runs ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 3])
def test_every_run_once_and_a_second_call_runs_nothing(place: Place, jobs: int, capsys):
    place.run(seeds=2, jobs=jobs)
    assert sorted(f"{arm} {seed}" for arm, seed, *_ in place.starts()) == sorted(
        f"{arm} seed={seed}" for arm in ARMS for seed in (0, 1)
    )
    assert yaml.safe_load(Path("out/sham/seed=1/config.yaml").read_text())["seed"] == 1
    assert "working" in Path("out/sham/seed=1.log").read_text()
    lines = capsys.readouterr().err.splitlines()
    shown = [line for line in lines if ", trained in 7 s" in line]
    assert len(shown) == 16  # one per run
    assert sum("cls accuracy 0.7500, reg mse 0.0625, trained" in line for line in shown) == 12
    assert (
        sum("cls seed=" in line and ": cls accuracy 0.7500, trained" in line for line in shown) == 2
    )
    assert sum("reg seed=" in line and ": reg mse 0.0625, trained" in line for line in shown) == 2
    assert shown[-1].startswith("16/16 ")
    place.run(seeds=2, jobs=jobs)
    assert len(place.starts()) == 16
    assert place.concluded == [Path("out")] * 2


@pytest.mark.usefixtures("without_pictures")
def test_an_end_writes_and_shows_the_report_and_so_does_the_next(tmp_path: Path, make_arm, capsys):
    for seed in (0, 1):
        make_arm(tmp_path, "base", seed, right=20 + seed)
        make_arm(tmp_path, "dao", seed, right=30 - seed)
    for _ in range(2):
        conclude(tmp_path)
        assert {"Results.csv", "findings.json", "report.html", "report.md"} <= {
            path.name for path in tmp_path.iterdir()
        }
        shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert "dao - base +0.2250" in shown  # 10 and 8 of 40 more
        assert "Missing arms: dendrites, dao+dendrites, sham, capacity" in shown
        assert f"report: {tmp_path}/report.html" in shown
        (tmp_path / "report.html").unlink()


def test_only_what_is_missing_runs(place: Place):
    place.run(only=["dao/0", "reg/0"])
    assert place.concluded == []
    before = Path("out/dao/seed=0/metrics.json").stat().st_mtime_ns
    place.run()
    assert [arm for arm, *_ in place.starts()][2:] == [a for a in ARMS if a not in ("dao", "reg")]
    assert Path("out/dao/seed=0/metrics.json").stat().st_mtime_ns == before
    assert place.concluded == [Path("out")]


def test_a_checkpoint_is_continued_and_half_a_file_does_not_matter(place: Place):
    for arm in ("base", "dao"):
        Path(f"out/{arm}/seed=0").mkdir(parents=True)
        Path(f"out/{arm}/seed=0/config.yaml.partial").write_text("nam")
    cell = factorial_cells(load_config(None, ["output=out"]), 1, ["dao/0"])[0]
    Path("out/dao/seed=0/config.yaml").write_text(cell.cfg.to_yaml())
    Path("out/dao/seed=0/checkpoints").mkdir()
    Path("out/dao/seed=0/checkpoints/latest").write_text("step=000001")
    place.run(only=["base/0", "dao/0"])
    assert [start[2] for start in place.starts()] == ["--config", "--resume"]
    assert not list(Path("out").rglob("*.partial"))


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_killed_run_is_run_again_and_a_failed_one_is_not(place: Place, jobs: int, capsys):
    place.order(dao=["kill"], sham=["kill", "kill"], reg=["fail"], cls=["nothing"])
    with pytest.raises(UserError, match="3 that did not"):
        place.run(jobs=jobs)
    counts = [sum(start[0] == arm for start in place.starts()) for arm in ARMS]
    assert dict(zip(ARMS, counts, strict=True)) == {
        **dict.fromkeys(ARMS, 1), "dao": 2, "sham": 2,
    }  # fmt: skip
    assert Path("out/dao/seed=0.log").read_text().count(HEADER) == 2
    done = {path.parent.parent.name for path in Path("out").rglob("metrics.json")}
    assert done == set(ARMS) - {"sham", "reg", "cls"}
    shown = capsys.readouterr().err
    assert "reg/0 failed: error: it went wrong." in shown
    assert "sham/0 failed: killed by signal 9" in shown
    assert place.concluded == [Path("out")]  # with what there is
    place.run(jobs=jobs)
    assert len(place.starts()) == 10 + 3


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_folder_that_the_system_refuses_is_one_failed_run(place: Place, jobs: int, capsys):
    Path("out/dao").mkdir(parents=True)
    Path("out/dao/seed=0").write_text("no folder")
    with pytest.raises(UserError, match="Found 1 that did not"):
        place.run(jobs=jobs)
    assert sorted(arm for arm, *_ in place.starts()) == sorted(set(ARMS) - {"dao"})
    assert "dao/0 failed: [Errno 17] File exists" in capsys.readouterr().err


def test_where_all_runs_failed_that_is_what_is_said(place: Place, monkeypatch, capsys):
    monkeypatch.setattr(runner, "conclude", conclude)
    place.order(**{arm: ["fail"] for arm in ARMS})
    with pytest.raises(UserError, match=r"Found 8 that did not\. Read out/base/seed=0\.log"):
        place.run()
    assert "no report: An experiment should hold finished runs" in capsys.readouterr().err


@pytest.mark.parametrize(("jobs", "given", "threads"), [(2, None, "4"), (2, "3", "3")])
def test_threads_are_shared_out(place: Place, monkeypatch, jobs, given, threads):
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    place.run(only=["base/0"], jobs=jobs)
    assert place.starts()[0][3] == threads


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_it_leaves_no_process(place: Place, jobs: int, number: int, capsys):
    place.order(**{arm: ["sleep"] for arm in ARMS})

    def stop():
        while len(place.starts()) < jobs:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    threading.Thread(target=stop).start()
    with pytest.raises(typer.Exit) as stopped:
        place.run(jobs=jobs)
    assert stopped.value.exit_code == 130
    assert "the same command again continues" in capsys.readouterr().err
    assert len(place.starts()) == jobs
    for lock in Path("out/.locks").iterdir():  # held as long as a process lives
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.slow
def test_a_process_that_outlives_its_worker_is_waited_for(place: Place):
    place.order(base=["slow"])
    imports = "from dao.learner.experiment.grid.job import *; from pathlib import *"
    code = f"{imports}; run_job({place.job()})".replace("PosixPath", "Path")
    worker = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": ROOT})
    while not place.starts():
        time.sleep(0.02)
    worker.kill()
    worker.wait()
    outcome = run_job(place.job())
    assert outcome == Outcome("base/0", finished=True, attempts=0)
    assert len(place.starts()) == 1


def test_the_folder_of_locks_may_vanish_meanwhile(place: Place, monkeypatch: pytest.MonkeyPatch):
    """Another command that ends removes it when it is empty."""
    once, make = [Path("out/.locks")], Path.mkdir

    def mkdir(path: Path, *arguments, **options) -> None:
        make(path, *arguments, **options)
        if path.name == ".locks" and once:
            place.path.joinpath(once.pop()).rmdir()

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert run_job(place.job()) == Outcome("base/0", finished=True, attempts=1)
    assert not once


def test_other_settings_are_refused_by_name(place: Place):
    place.run(only=["dao/0"])
    with pytest.raises(UserError) as refused:
        place.run("train.lr=0.5")
    assert "`train.lr` 0.0015 in place of 0.5" in str(refused.value)
    assert len(place.starts()) == 1
    place.run("cache=elsewhere", only=["dao/0"])  # decides nothing


def test_an_unfinished_run_is_refused_if_it_could_be_continued(tmp_path: Path):
    def cell(*overrides: str):
        return factorial_cells(load_config(None, [f"output={tmp_path}", *overrides]), 1, ["dao/0"])[
            0
        ]

    folder = tmp_path / "dao" / "seed=0"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(cell().cfg.to_yaml())
    check_not_other(cell("train.epochs=9"))  # nothing would be lost
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "latest").write_text("step=000001")
    check_not_other(cell())
    with pytest.raises(UserError, match=r"unfinished run with `train\.epochs` 4 in"):
        check_not_other(cell("train.epochs=9"))


def test_data_are_read_once_before_any_run_and_never_for_none(place: Place):
    def refuse(cfg: Config) -> None:
        raise UserError("no such file")

    settings = (None, ["output=out"], {})
    one = Options(seeds=1, only=["base/0"])
    with pytest.raises(UserError, match="no such file"):
        run_factorial(settings, one, place.command, refuse)
    assert place.starts() == []
    place.run(only=["base/0"])
    run_factorial(settings, one, place.command, refuse)


def test_ray_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"\.\[cluster\]"):
        list(on_ray([], None))


def test_an_unknown_backend(place: Place):
    with pytest.raises(UserError, match="--backend should be local or ray"):
        place.run(backend="dask")


def test_the_slurm_script_names_every_run_once():
    text = (Path(ROOT) / "docs" / "factorial.md").read_text()
    (script,) = [b for b in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if "SBATCH" in b]
    assert "--array=0-39" in script
    loop = f"for SLURM_ARRAY_TASK_ID in {{0..39}}; do\n{script.replace('python ', 'echo ')}done"
    shown = subprocess.run(["bash", "-c", loop], capture_output=True, text=True, check=True).stdout
    assert re.findall(r"--only (\S+)", shown) == [
        cell.name for cell in factorial_cells(Config(), 5)
    ]


def test_several_processes_are_refused(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dao.learner.processes.ranks.several", lambda: True)
    with pytest.raises(UserError, match="one process, which starts one for each run"):
        place.run()


@pytest.mark.parametrize(
    ("threads", "gpus", "words"),
    [
        (5, 0, "takes 5 CPU, and that the largest has 4"),
        (1, 1, "takes 1 GPU, and that the largest has 0"),
    ],
)
def test_a_run_that_no_machine_has_room_for_is_refused(threads: int, gpus: int, words: str):
    machines = [{"CPU": 4.0, "memory": 1e9}, {"CPU": 2.0}]
    job = RunJob("dao/0", Path("run"), Path("lock"), ("train",), "", threads, gpus, Path())
    with pytest.raises(UserError, match=words):
        check_room(machines, job)
    fits = RunJob("dao/0", Path("run"), Path("lock"), ("train",), "", 4, 0, Path())
    check_room(machines, fits)


# -- arms that copy the growths of one -----------------------------------------------------------

PATIENT = ("dendrites.patience=2", "tasks=[cls]")


def test_with_patience_all_arms_copy_the_growths_of_the_arm_dendrites():
    shared = load_config(None, ["output=here", "dendrites.patience=2"])
    copied = {cell.name: cell.cfg.dendrites.growths_of for cell in factorial_cells(shared, 2)}
    here = Path("here/dendrites").absolute()
    expected = {f"{arm}/{seed}": str(here / f"seed={seed}") for seed in (0, 1) for arm in ARMS}
    assert copied == expected | {"dendrites/0": "", "dendrites/1": ""}
    with pytest.raises(UserError, match=r"Found --arms base,sham\. Add dendrites, or give"):
        factorial_cells(shared, 1, arms=["base", "sham"])


@pytest.mark.parametrize("jobs", [1, 3])
def test_the_arm_that_grows_comes_before_those_that_copy_it(place: Place, jobs: int):
    place.order(dendrites=["slow", "slow"])
    place.run(*PATIENT, seeds=2, jobs=jobs)
    began = [f"{arm}/{folder.removeprefix('seed=')}" for arm, folder, *_ in place.starts()]
    assert len(began) == 8
    for seed in (0, 1):
        own = [name for name in began if name.endswith(f"/{seed}")]
        assert own[0] == f"dendrites/{seed}"
    if jobs == 3:  # nobody waits where another run that grows is to be done
        assert {*began[:2]} == {"dendrites/0", "dendrites/1"}


def test_a_failed_run_fails_those_that_copy_it_with_a_plain_line(place: Place, capsys):
    place.order(dendrites=["fail"])
    with pytest.raises(UserError, match="Found 4 that did not"):
        place.run(*PATIENT)
    assert [start[0] for start in place.starts()] == ["dendrites"]
    shown = capsys.readouterr().err
    for arm in ("base", "sham", "capacity"):
        assert f"{arm}/0 failed: dendrites/0, whose growths it copies, has not finished" in shown
    place.run(*PATIENT)  # the same command again does what is missing
    assert len(place.starts()) == 1 + 4


def test_a_run_by_itself_waits_for_who_is_at_work_on_the_one_it_copies(place: Place):
    cell = factorial_cells(load_config(None, ["output=out", *PATIENT]), 1, ["sham/0"])[0]
    after = After("dendrites/0", Path("out/dendrites/seed=0"), Path("out/.locks/dendrites-0"))
    job = replace(place.job("sham"), settings=cell.cfg.to_yaml(), after=after)
    missing = "dendrites/0, whose growths it copies, has not finished"
    assert run_job(job) == Outcome("sham/0", False, 0, missing)
    (place.path / "out/dendrites/seed=0").mkdir(parents=True)
    with (place.path / after.lock).open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        found: list[Outcome] = []
        worker = threading.Thread(target=lambda: found.append(run_job(job)))
        worker.start()
        time.sleep(0.8)
        assert worker.is_alive()
        assert not place.starts()
        (place.path / "out/dendrites/seed=0/metrics.json").write_text("{}")
    worker.join(20)
    assert found == [Outcome("sham/0", True, 1)]


@pytest.mark.parametrize(("given", "drawn"), [(None, ["dendrites/0"]), (False, []), (True, "all")])
def test_perforatedai_draws_the_graph_of_the_run_that_the_report_shows(given, drawn):
    shared = Config.model_validate({"tasks": ["cls", "reg"], "dendrites": {"graph": given}})
    cells = factorial_cells(shared, 2)
    found = [cell.name for cell in cells if cell.cfg.dendrites.graph]
    assert found == ([cell.name for cell in cells] if drawn == "all" else drawn)


@pytest.mark.parametrize(("given", "written"), [(None, False), (False, False), (True, True)])
def test_a_run_of_an_experiment_writes_its_page_where_that_is_asked_for(given, written, tmp_path):
    shared = Config.model_validate({"tasks": ["cls", "reg"], "train": {"page": given}})
    job = job_of(factorial_cells(shared, 1)[0], tmp_path, ("train",), threads=1)
    assert yaml.safe_load(job.settings)["train"]["page"] is written
