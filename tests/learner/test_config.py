"""Settings: merging, validation, naming, round trip."""

from pathlib import Path

import pytest
import yaml

from dao.errors import UserError
from dao.learner.settings.config import Config, load_config
from dao.learner.settings.reading import parse_overrides


def test_later_sources_win(tmp_path: Path):
    file = tmp_path / "c.yaml"
    file.write_text("train: {lr: 1.0e-3, epochs: 2}\nseed: 5\n")
    cfg = load_config(file, ["train.lr=5e-4", "seed=6"], {"seed": 7})
    assert (cfg.train.lr, cfg.train.epochs, cfg.seed) == (5e-4, 2, 7)


def test_snapshot_reads_back_equal():
    cfg = load_config(overrides=["dendrites.grow_at=[0.2, 0.6]", "dao.priors={cls: 2}"])
    assert Config.model_validate(yaml.safe_load(cfg.to_yaml())) == cfg


def test_exponent_without_a_dot_is_a_number():
    assert [key for key, _ in parse_overrides(["train.lr=2e-4"])] == ["train.lr"]
    assert load_config(overrides=["train.lr=2e-4"]).train.lr == 2e-4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.lrr=1"], r"`train.lrr` is not a setting. Did you mean `train.lr`\?"),
        (["nothing.like.this=1"], "`nothing` is not a setting, nor a task here: --tasks names"),
        (["train.lr=-1"], "`train.lr` should be above 0. Found -1"),
        (["train.lr=nan"], "`train.lr`"),
        (
            ["tasks=clas:klass"],
            "`tasks.clas.kind` should be one of binary, classification, multilabel, ordinal, "
            "regression. Found 'klass'",
        ),
        (["tasks=cls,cls"], "name each task once"),
        (["lr"], "KEY=VALUE. Found 'lr'"),
        (["seed=1", "seed.x=2"], "`seed` has no settings below it"),
        (["dendrites.grow_at=[0.6, 0.3]"], "ascending"),
        (["dendrites.grow_at=[1.5]"], "should be below 1"),
        (["tasks=cls", "dao.priors={reg: 2}"], "not among `tasks`"),
        (["encoder.precision=fp16"], "'auto', 'fp32' or 'bf16'"),
        (["encoder.prefix_cache=true"], "Set encoder.lora.last_layers"),
    ],
)
def test_errors_name_the_key(overrides: list[str], message: str):
    with pytest.raises(UserError, match=message):
        load_config(overrides=overrides)


def test_all_errors_are_told_at_once():
    with pytest.raises(UserError, match=r"train\.epochs.*train\.lr"):
        load_config(overrides=["train.lr=-1", "train.epochs=0"])


@pytest.mark.parametrize(
    ("content", "message"), [("a: [", "should be YAML"), ("- 1", "KEY: VALUE pairs")]
)
def test_bad_yaml_is_one_line(tmp_path: Path, content: str, message: str):
    file = tmp_path / "c.yaml"
    file.write_text(content)
    with pytest.raises(UserError, match=message) as error:
        load_config(file)
    assert "\n" not in str(error.value)


def test_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="Found nothing at"):
        load_config(tmp_path / "absent.yaml")


def test_folder_names_data_arm_and_seed():
    cfg = load_config(
        overrides=["seed=3"],
        flags={"weighting": "dao", "data.sources": ["x/fin.csv"], "tasks": "reg"},
    )
    assert cfg.folder == Path("results/fin/reg-dao/seed=3")
    assert load_config(flags={"output": "here"}).folder == Path("here")


def test_the_cache_is_where_the_user_or_the_system_wants_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert load_config().cache_folder == Path("/home/me/.cache/dao")
    assert load_config(overrides=["cache=~/shared"]).cache_folder == Path("/home/me/shared")
    monkeypatch.setenv("XDG_CACHE_HOME", "/fast")
    assert load_config().cache_folder == Path("/fast/dao")


def test_an_empty_cache_setting_means_the_default():
    assert load_config(overrides=["cache="]).cache_folder == load_config().cache_folder


def test_cached_states_and_packed_rows_exclude_each_other():
    overrides = ["encoder.prefix_cache=true", "encoder.lora.last_layers=1", "train.packing=true"]
    with pytest.raises(UserError, match="exclude each other"):
        load_config(overrides=overrides)


def test_a_settings_file_keeps_the_bound_that_it_states(tmp_path):
    """Runs of the time when 1e4 was the default have it in their config.yaml."""
    path = tmp_path / "config.yaml"
    path.write_text("weighting: dao\ndao:\n  max_ratio: 10000.0\n  total: tasks\n")
    assert load_config(path).dao.max_ratio == 1e4
    assert load_config(path, overrides=["dao.max_ratio=null"]).dao.max_ratio is None
    assert load_config(overrides=["weighting=dao"]).dao.max_ratio is None
