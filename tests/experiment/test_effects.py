"""An experiment's folder to findings: what is planted is found, what is unfair is refused."""

import json
import shutil
from pathlib import Path

import pytest

from dao.errors import UserError
from dao.learner.experiment.arms import ARMS, chosen
from dao.learner.experiment.findings.contrasts import EFFECTS, measured
from dao.learner.experiment.findings.effects import findings
from dao.learner.experiment.findings.runs import experiment, read_arm, read_run
from dao.learner.experiment.report.tables import arms_table, sentences

pytestmark = pytest.mark.slow

EIGHT = chosen(("cls", "reg"))
# Right answers of 40 per seed, and root of the squared error: seeds differ more than arms do.
LUCK = {0: (24, 0.30), 1: (30, 0.20), 2: (27, 0.26), 3: (25, 0.22), 4: (29, 0.28)}
NOISE = {"base": (0, 1, 0, -1, 1), "dendrites": (1, 0, -1, 1, 0), "capacity": (0, 1, 0, 0, -1)}

MADE = {
    "texts": 100, "vocabulary": 50, "seed": 0, "pretraining_losses": [3.0], "sha256": "c",
    "tokenizer_sha256": "a",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, make_arm) -> Path:
    """DAO adds six right answers in every seed; dendrites and capacity change nothing but luck."""
    folder = tmp_path_factory.mktemp("experiment")
    for arm in EIGHT:
        for seed, (right, error) in LUCK.items():
            noise = NOISE.get({"sham": "base", "dao": "base"}.get(arm, arm), NOISE["base"])[seed]
            if arm == "dao+dendrites":
                noise = NOISE["dendrites"][seed]
            grown = {"dendrites_kept": 1, "parameters_added": 50} if "dendrites" in arm else None
            make_arm(
                folder, arm, seed, dendrites=grown, error=error + 0.001 * noise,
                right=right + noise + 6 * arm.startswith("dao"),
            )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def found(made: Path) -> dict:
    return findings(made)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def effect(found: dict, name: str, metric: str) -> dict:
    (match,) = [e for e in found["effects"] if (e["name"], e["metric"]) == (name, metric)]
    return match


def test_a_planted_effect_is_found_and_planted_nothing_is_not_claimed(found: dict):
    dao = effect(found, "DAO", "cls.accuracy")
    assert dao["mean"] == pytest.approx(6 / 40)
    assert dao["n"] == 5
    # Equal differences: no spread to judge by, so neither claimed nor denied, however large.
    assert (dao["t95"], dao["p_t"], dao["verdict"]) == (None, None, "not tested")
    assert not dao["significant"]
    # The mean of accuracy, which rises by 6 / 40, and R², which stays.
    assert effect(found, "DAO", "selection")["mean"] == pytest.approx(3 / 40)
    for name in ("dendrites", "interaction", "dendrites - sham", "sham - base", "capacity - base"):
        assert effect(found, name, "cls.accuracy")["verdict"] == "no significant difference"
        assert not effect(found, name, "reg.mse")["significant"]
        assert effect(found, name, "selection")["verdict"] == "no significant difference"


@pytest.mark.slow
def test_a_planted_effect_with_spread_is_found(folder: Path, make_arm):
    for seed, more in enumerate((6, 7, 6, 5, 6)):
        for arm, plain in (("dao", "base"), ("dao+dendrites", "dendrites")):
            right, error = LUCK[seed]
            shutil.rmtree(folder / arm / f"seed={seed}")
            make_arm(
                folder, arm, seed, right=right + NOISE[plain][seed] + more,
                error=error - 0.1 - 0.001 * more,
            )  # fmt: skip
    found = findings(folder)
    dao = effect(found, "DAO", "cls.accuracy")
    # Mean 6 / 40; differences 6, 7, 6, 5, 6 have sd sqrt(1/2), so t = 6 / sqrt(.5 / 5) = 18.97.
    assert dao["mean"] == pytest.approx(0.15)
    assert dao["sd"] == pytest.approx(0.5**0.5 / 40)
    half = 2.776445 * (0.5 / 5) ** 0.5 / 40
    assert dao["t95"] == pytest.approx([0.15 - half, 0.15 + half], rel=1e-5)
    assert dao["p_permutation"] == 0.0625
    assert dao["p_t"] < dao["p_holm"] < 0.05
    assert (dao["significant"], dao["verdict"]) == (True, "higher (better)")
    assert effect(found, "DAO", "reg.mse")["verdict"] == "lower (better)"
    assert effect(found, "dao - base", "cls.accuracy")["verdict"] == "higher (better)"
    assert not effect(found, "interaction", "cls.accuracy")["significant"]
    rows = {(t["metric"], t["a"], t["b"]): t for t in found["per_example"]}
    # 30 rows that one alone has right, in runs of one order over the seeds.
    assert rows["cls.accuracy", "dao", "base"]["estimate"] == pytest.approx(0.15)
    assert rows["cls.accuracy", "dao", "base"]["only_a"] == 30
    assert ("cls.accuracy", "sham", "base") not in rows
    assert rows["cls.accuracy", "base", "cls"]["n"] == 40
    assert rows["reg.mse", "dao", "base"]["verdict"] == "lower (better)"


def test_findings_are_written_as_they_are_returned(made: Path, found: dict):
    assert json.loads((made / "findings.json").read_text()) == found
    assert found["folder_arms"] == list(EIGHT)
    assert (found["seeds"], found["missing"], found["notes"]) == ([0, 1, 2, 3, 4], [], [])
    assert found["views"] == {"cls": "confusion", "reg": "scatter"}
    assert found["baselines"] == {
        "majority class": {"cls.accuracy": 0.5},
        "mean predictor": {"reg.mse": 0.35},
    }
    base, grown = found["arms"]["base"], found["arms"]["dendrites"]
    assert base["values"]["cls.accuracy"]["1"] == 31 / 40
    assert base["mean"]["cls.accuracy"] == pytest.approx((24 + 31 + 27 + 24 + 30) / 200)
    assert set(found["arms"]["cls"]["values"]) == {"cls.accuracy", "cls.macro_f1"}
    assert (base["parameters"], grown["parameters"]) == (1000, 1050)
    assert (base["dendrites_kept"], grown["dendrites_kept"]["3"]) == ({}, 1)
    assert (base["steps"], base["validations"], base["seconds"]["0"]) == (18, 4, 1.5)


def test_every_contrast_is_tested_in_every_figure_its_arms_have(found: dict):
    found = found["effects"]
    assert len(found) == 5 * len(EFFECTS) + 2 * 2
    alone = {e["metric"] for e in found if e["name"] == "base - cls alone"}
    assert alone == {"cls.accuracy", "cls.macro_f1"}
    for family in ("primary", "secondary"):
        ps = [e for e in found if e["family"] == family and e["p_t"] is not None]
        smallest = min(ps, key=lambda e: e["p_t"])
        assert smallest["p_holm"] == pytest.approx(min(1.0, smallest["p_t"] * len(ps)))


def test_a_check_makes_no_family_stricter(found: dict):
    for metric, family in (("selection", "primary"), ("cls.accuracy", "secondary")):
        families = {e["name"]: e["family"] for e in found["effects"] if e["metric"] == metric}
        assert families.pop("sham - base") == "check"
        assert set(families.values()) == {family}
    assert (effect(found, "sham - base", "cls.accuracy")["t95"]) == [0.0, 0.0]
    assert not any("sham - base" in line for line in sentences(found))
    tested = [e for e in found["effects"] if e["family"] == "primary" and e["p_t"] is not None]
    assert sentences(found)[0].startswith(f"Of {len(tested)} effects")


def test_contrasts_weigh_arms_to_nothing():
    for contrast in EFFECTS:
        assert sum(contrast.weights.values()) == 0
        assert contrast.weights.keys() <= ARMS.keys()


@pytest.mark.slow
def test_runs_that_are_not_finished_are_left_out_and_named(folder: Path):
    (folder / "dao" / "seed=3" / "metrics.json").unlink()
    shutil.rmtree(folder / "sham")
    shutil.rmtree(folder / "capacity" / "seed=4")
    found = findings(folder)
    assert found["missing"] == [{"arm": "dao", "seed": 3}, {"arm": "capacity", "seed": 4}]
    assert effect(found, "DAO", "reg.mse")["seeds"] == [0, 1, 2, 4]
    assert effect(found, "base - cls alone", "cls.accuracy")["n"] == 5
    assert found["notes"] == [
        "dao: no finished run of seed 3",
        "capacity: no finished run of seed 4",
        "not tested, for want of an arm or of a common seed: dendrites - sham; sham - base",
    ]


def test_one_seed_has_no_interval(tmp_path: Path, make_arm):
    make_arm(tmp_path, "base", 0, right=10)
    make_arm(tmp_path, "dao", 0, right=40)
    found = findings(tmp_path)
    only = effect(found, "dao - base", "cls.accuracy")
    assert (only["n"], only["mean"], only["t95"], only["p_holm"]) == (1, 0.75, None, None)
    assert (only["verdict"], only["significant"]) == ("not tested", False)
    assert "fewer than two seeds in common, so no interval: dao - base" in found["notes"]


def test_a_figure_that_is_undefined_in_one_seed_is_not_tested_on_the_others(
    tmp_path: Path, make_arm
):
    for seed, error in enumerate((0.2, 0.3, 0.25)):
        make_arm(tmp_path, "base", seed, error=error)
        path = make_arm(tmp_path, "dao", seed, error=error / 2 + 0.05) / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["splits"]["test"]["reg"] |= {"mse": float("nan"), "r2": None}
    path.write_text(json.dumps(metrics))
    found = findings(tmp_path)
    lost = effect(found, "dao - base", "reg.mse")
    assert (lost["n"], lost["mean"], lost["verdict"]) == (3, None, "not tested")
    # Without the task that diverged, its score would be the accuracy of the other.
    lost = effect(found, "dao - base", "selection")
    assert (lost["n"], lost["mean"], lost["verdict"]) == (3, None, "not tested")
    assert found["arms"]["dao"]["values"]["reg.mse"]["2"] is None


def test_what_may_differ_and_changes_figures_is_told(tmp_path: Path, make_arm):
    make_arm(tmp_path, "base", 0, provenance__threads=1, provenance__git={"commit": "a"})
    make_arm(tmp_path, "dao", 0, provenance__threads=2, provenance__git={"commit": "b"})
    assert [note for note in findings(tmp_path)["notes"] if note.startswith("the runs were")] == [
        "the runs were made with different numbers of threads",
        "the runs were made with different revisions of the code",
    ]


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"set": ["train.lr=0.002"]}, "`train.lr`.* 0.0015 .* 0.002 "),
        ({"set": ["data.split_seed=1"]}, "`data.split_seed`"),
        ({"set": ["dendrites.grow_at=[0.4]"]}, "`dendrites.grow_at`"),
        ({"set": ["dao.ema=0.5"]}, "`dao.ema`"),
        ({"set": ["dao.priors={cls: 2}"]}, "`dao.priors`"),
        ({"set": ["train.select_weights={cls: 2}"]}, "`train.select_weights`"),
        ({"set": ["tasks=cls"]}, "`tasks`"),
        ({"validations": 5}, "number of validations .* 4 .* 5 "),
        ({"restarts": []}, "number of restarts .* 1 .* 0 "),
        ({"restarts": [10]}, r"steps of the restarts .* \[9\] .* \[10\] "),
        ({"steps": 19}, "number of optimizer steps .* 18 .* 19 "),
        ({"batch": "xy"}, "order of the batches .* 'ab10' at step 1 .* 'xy10'"),
        ({"data__fingerprint": "other"}, "fingerprint of the data"),
        ({"data__sources": [{"sha256": "2"}]}, "source files"),
        ({"provenance__precision": "bf16"}, "precision .* 'fp32' .* 'bf16' "),
        ({"provenance__scratch": MADE}, "number of texts .* None .* 100 "),
        ({"targets": ["positive"] * 40}, "test rows of cls .* target 'negative' and 'positive' at"),
    ],
)
def test_a_run_that_differs_in_one_thing_is_refused_by_name(
    tmp_path: Path, make_arm, about: dict, message: str
):
    make_arm(tmp_path, "base", 0)
    make_arm(tmp_path, "base", 1)
    make_arm(tmp_path, "dao", 0)
    make_arm(tmp_path, "dao", 1, **about)
    with pytest.raises(UserError, match=message) as refusal:
        findings(tmp_path)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "findings.json").exists()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"texts": 80}, "number of texts that the encoder from scratch .* 100 .* 80 "),
        ({"tokenizer_sha256": "b"}, "tokenizer of the encoder from scratch .* 'a' .* 'b' "),
        ({"sha256": "d"}, "encoder from scratch .* 'c' .* 'd' "),
    ],
)
def test_encoders_from_scratch_that_learnt_other_things_are_refused(
    tmp_path: Path, make_arm, other: dict, message: str
):
    make_arm(tmp_path, "base", 0, provenance__scratch=MADE)
    make_arm(tmp_path, "cls", 0, provenance__scratch={**MADE, **other})
    with pytest.raises(UserError, match=message):
        findings(tmp_path)


def test_random_weights_from_scratch_may_differ(tmp_path: Path, make_arm):
    random = {**MADE, "pretraining_losses": []}
    make_arm(tmp_path, "base", 0, provenance__scratch=random)
    make_arm(tmp_path, "base", 1, provenance__scratch={**random, "sha256": "d"})
    assert list(findings(tmp_path)["arms"]) == ["base"]


def test_an_arm_is_what_its_name_says(tmp_path: Path, make_arm, make_run):
    make_arm(tmp_path, "base", 0)
    make_run(
        tmp_path / "dao" / "seed=0", set=["dendrites.enabled=true", "dendrites.control=restart"]
    )
    with pytest.raises(
        UserError, match=r"`weighting` should be 'dao' in the arm dao\. Found 'equal'"
    ):
        findings(tmp_path)


def test_an_arm_of_another_name_is_kept_but_has_one_setting_for_all_seeds(tmp_path: Path, make_run):
    grown = ["dendrites.enabled=true"]
    make_run(tmp_path / "mine" / "seed=0", 0, set=[*grown, "weighting=gls"])
    make_run(tmp_path / "mine" / "seed=1", 1, set=[*grown, "weighting=gls"])
    found = findings(tmp_path)
    assert list(found["arms"]) == ["mine"]
    assert arms_table(found).rows[0][0] == "mine"  # not one task alone, whatever its name
    assert set(found["arms"]["mine"]["values"]) == set(found["metrics"])
    make_run(tmp_path / "mine" / "seed=2", 2, set=[*grown, "weighting=uw"])
    with pytest.raises(UserError, match=r"`weighting`.* 'gls' .* 'uw' "):
        findings(tmp_path)


def test_one_task_alone_may_take_fewer_steps_on_the_same_rows(tmp_path: Path, make_arm):
    make_arm(tmp_path, "base", 0, set=["dao.priors={reg: 2}", "train.select_weights={reg: 2}"])
    make_arm(tmp_path, "cls", 0, steps=10, restarts=[5], batch="cd")
    assert effect(findings(tmp_path), "base - cls alone", "cls.accuracy")["mean"] == 0
    shutil.rmtree(tmp_path / "cls")
    shutil.rmtree(tmp_path / "base")
    make_arm(tmp_path, "base", 0)
    make_arm(tmp_path, "cls", 0, data__labelled={"cls": {"train": 99, "test": 40}})
    with pytest.raises(UserError, match=r"rows labelled for cls .* 100, .* 99, "):
        findings(tmp_path)


def test_seeds_may_differ_in_steps_where_batches_are_cut_by_tokens(tmp_path: Path, make_arm):
    cut = {"set": ["train.batch_tokens=256"]}
    for arm in ("base", "dao"):
        make_arm(tmp_path, arm, 0, steps=18, restarts=[9], **cut)
        make_arm(tmp_path, arm, 1, steps=20, restarts=[10], **cut)
    assert effect(findings(tmp_path), "dao - base", "cls.accuracy")["n"] == 2


def test_plain_models_that_earlier_runs_measured_apart_are_shown_in_the_mean(
    tmp_path: Path, make_arm
):
    # One revision measured TF-IDF at the threshold of each run.
    for seed, share in ((0, 0.2), (1, 0.6)):
        plain = {"test": {"cls": {"TF-IDF": {"accuracy": share, "macro_f1": 0.1}}}}
        path = make_arm(tmp_path, "base", seed) / "metrics.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"baselines": plain}))
    shown = findings(tmp_path)["baselines"]["TF-IDF"]
    assert shown == {"cls.accuracy": pytest.approx(0.4), "cls.macro_f1": 0.1}


def test_a_folder_without_runs_is_refused(tmp_path: Path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="Found none in"):
            experiment(folder)


def test_a_seed_is_that_of_its_folder(tmp_path: Path, make_run):
    make_run(tmp_path / "base" / "seed=0", 1)
    with pytest.raises(UserError, match=r"`seed` should be that of the folder's name\. Found 1"):
        read_arm(tmp_path / "base")


def test_files_that_are_missing_are_named(tmp_path: Path, make_run):
    run = read_run(make_run(tmp_path / "run"))
    (tmp_path / "run" / "predictions.csv").unlink()
    with pytest.raises(UserError, match=r"should hold predictions\.csv"):
        run.test_rows("cls")
    (tmp_path / "run" / "validation.jsonl").write_text("{")
    with pytest.raises(UserError, match=r"should hold validation\.jsonl"):
        _ = run.validations


def test_class_names_are_text_and_empty_cells_are_missing(tmp_path: Path, make_run):
    run = make_run(tmp_path / "run")
    (run / "predictions.csv").write_text(
        "id,text,cls_target,cls,reg_target,reg\n2,b,NA,1,,0.5\n10,a,1,1,0.25,0.5\n7,c,,NA,1,1\n"
    )
    rows = read_run(run).test_rows("cls")
    assert rows["id"].tolist() == ["10", "2"]
    assert rows["target"].tolist() == ["1", "NA"]
    assert read_run(run).test_rows("reg")["target"].tolist() == [0.25, 1.0]


def test_metrics_say_which_way_is_better(tmp_path: Path, make_run):
    metrics = measured(read_run(make_run(tmp_path / "run")).tasks)
    assert {m: about["better"] for m, about in metrics.items()} == {
        "selection": "higher", "cls.accuracy": "higher", "cls.macro_f1": "higher",
        "reg.r2": "higher", "reg.mse": "lower",
    }  # fmt: skip
    assert [m for m, about in metrics.items() if about["family"] == "primary"] == ["selection"]
