"""Names and cells in settings stay as they were typed; numbers and truth values do not."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dao.errors import UserError
from dao.learner.basics.words import read_yaml, settled
from dao.learner.experiment.grid.factorial import Cell, check_not_other
from dao.learner.experiment.grid.search import read_grid
from dao.learner.settings.config import Config, load_config
from dao.learner.settings.decisive import check_settings, completed, decisive
from dao.learner.storage.record import RunFolder

WORDS = [
    "NO", "no", "Yes", "on", "off", "y", "010", "0o10", "0x10", "12:30", "1_000", "1e3",
    "1.0", "-7",
    "2020-01-01", "2001-99-99", "null", "~", "None", ".nan", ".inf", "true", "False", "=", "<<",
    "0x",
    "a: b", "#5", "@x", "*x", "&a", "!b", "{a}", "- a", "[/INST]", "it's", "100%", "a # b",
]  # fmt: skip
UNLISTED = [word for word in WORDS if word != "[/INST]"]
"""Without the one that is a list where lists are taken."""


def again(cfg: Config, folder: Path) -> Config:
    """The settings that are read from those that were written."""
    file = folder / "config.yaml"
    file.write_text(cfg.to_yaml(), encoding="utf-8")
    return load_config(file)


@pytest.mark.parametrize("word", WORDS)
def test_names_on_the_command_line_stay_as_typed(word: str, tmp_path: Path):
    keys = ("data.cls", "data.reg", "data.domain", "data.id", "cls.positive")
    # Two columns are a list, so a column whose name looks like one needs quotes.
    text = f"'{word}'" if word not in UNLISTED else word
    cfg = load_config(overrides=[f"data.text={text}", *(f"{key}={word}" for key in keys)])
    cls, reg = cfg.tasks["cls"], cfg.tasks["reg"]
    names = [*cfg.data.text, cls.column, reg.column, cfg.data.domain, cfg.data.id]
    assert names == [word] * 5
    assert cls.positive == ("1" if word == "1.0" else word)  # a class, as cells spell it
    assert again(cfg, tmp_path) == cfg == Config.model_validate(yaml.safe_load(cfg.to_yaml()))


@pytest.mark.parametrize("word", UNLISTED)
def test_cells_on_the_command_line_stay_as_typed(word: str, tmp_path: Path):
    cfg = load_config(overrides=[f"data.where.my.column={word}", f"data.missing={word}"])
    assert cfg.data.where == {"my.column": word}
    assert cfg.data.missing == (word,)
    assert again(cfg, tmp_path) == cfg


def test_lists_of_cells_stay_as_typed(tmp_path: Path):
    given = ["data.where.a=[NO,010,12:30, null,'x,y']", "data.missing=[1_000,~]"]
    cfg = load_config(overrides=[*given, "data.slices=[no,010]", "experts.names=[NO,SE]"])
    assert cfg.data.where == {"a": ("NO", "010", "12:30", "null", "x,y")}
    assert (cfg.data.missing, cfg.data.slices) == (("1_000", "~"), ("no", "010"))
    assert cfg.experts.names == ("NO", "SE")
    assert again(cfg, tmp_path) == cfg


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("[]", ()),
        ("[ ]", ()),
        ("[a,]", ("a",)),
        ("[ NO , 010 ]", ("NO", "010")),
        ("[?,#N/A,<NA>,-,--,*]", ("?", "#N/A", "<NA>", "-", "--", "*")),
        ("['x,y',\"q\\\"r\",'it''s','']", ("x,y", 'q"r', "it's", "")),
        ('[it\'s,a "b" c]', ("it's", 'a "b" c')),
        ("[a b,a: b]", ("a b", "a: b")),
    ],
)
def test_lists_of_any_words(typed: str, words: tuple[str, ...], tmp_path: Path):
    cfg = load_config(overrides=[f"data.missing={typed}", f"data.where.x={typed}"])
    assert cfg.data.missing == cfg.data.where["x"] == words
    assert again(cfg, tmp_path) == cfg


def test_words_in_a_file_stay_as_written(tmp_path: Path):
    file = tmp_path / "c.yaml"
    file.write_text(
        "data: {cls: NO, where: {NO: [yes, 010], day: 2020-01-01, agree: 1.0, flag: true}}\n"
        "cls: {positive: no}\ntrain: {packing: yes, epochs: 3}\nname: 010\n"
    )
    cfg = load_config(file)
    where = {"NO": ("yes", "010"), "day": "2020-01-01", "agree": "1.0", "flag": "true"}
    cls = cfg.tasks["cls"]
    assert (cls.column, cfg.data.where, cls.positive) == ("NO", where, "no")
    assert (cfg.train.packing, cfg.train.epochs, cfg.name) == (True, 3, "010")
    assert again(cfg, tmp_path) == cfg


@pytest.mark.parametrize(("word", "value"), [("yes", True), ("Off", False), ("true", True)])
def test_switches_take_the_words_they_took(word: str, value: bool):
    assert load_config(overrides=[f"train.packing={word}"]).train.packing is value


def test_null_and_nothing_mean_what_they_meant():
    cfg = load_config(
        overrides=["data.slices=null", "data.split=null", "dao.max_ratio=~", "cache="]
    )
    assert (cfg.data.slices, cfg.data.split, cfg.dao.max_ratio, cfg.cache) == (None, "", None, "")
    assert load_config(overrides=["data.split="]).data.split == ""
    assert load_config(overrides=["data.missing=[]"]).data.missing == ()
    with pytest.raises(UserError, match=r"`output` should be text\. Found None"):
        load_config(overrides=["output=null"])


def test_quotes_are_no_part_of_a_name():
    cfg = load_config(overrides=['data.text="a b"', "data.where.x='[A]'"])
    assert (cfg.data.text, cfg.data.where) == (("a b",), {"x": "[A]"})


def test_numbers_are_numbers_where_numbers_are_taken():
    cfg = load_config(overrides=["train.lr=1e-3", "cls.cut=[1e-1,0.5]", "dao.priors.cls=2"])
    cut = cfg.tasks["cls"].cut
    assert (cfg.train.lr, cut, cfg.dao.priors) == (1e-3, (0.1, 0.5), {"cls": 2.0})


def test_a_later_condition_joins_a_mapping_of_conditions():
    cfg = load_config(overrides=["data.where={a: NO}", "data.where.b=010"])
    assert cfg.data.where == {"a": "NO", "b": "010"}


def test_values_of_a_grid_stay_as_typed_where_the_setting_is_text():
    found = read_grid(["encoder.name=010,NO", "train.epochs=2,4", "train.packing=yes,no"])
    assert found == {
        "encoder.name": ["010", "NO"], "train.epochs": [2, 4], "train.packing": [True, False],
    }  # fmt: skip


@pytest.mark.parametrize("value", ["&a [*a]", "{a: &a [*a]}"])
def test_a_value_that_contains_itself(value: str):
    with pytest.raises(UserError, match="contains itself"):
        load_config(overrides=[f"train.lr={value}"])


TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.one_of(TEXT, st.sampled_from(WORDS)), st.lists(TEXT, min_size=1, max_size=3))
def test_what_a_run_writes_reads_back_equal(word: str, cells: list[str]):
    flags = {"data.cls": word, "data.where": {word: tuple(cells), "b": word}, "cls.positive": word}
    cfg = load_config(flags={**flags, "data.missing": tuple(cells)})
    assert cfg.data.where == {word: tuple(cells), "b": word}
    assert Config.model_validate(settled(Config, read_yaml(cfg.to_yaml()))) == cfg


def test_a_run_that_began_before_is_read_by_the_old_rules(tmp_path: Path):
    new = load_config(overrides=["data.where.agree=1"])
    (tmp_path / "config.yaml").write_text(new.to_yaml())
    assert RunFolder(tmp_path).config() == new
    old = "data: {sources: [a.csv], where: {agree: 1.0, flag: false}}\nseed: 3\n"
    (tmp_path / "config.yaml").write_text(old)
    cfg = RunFolder(tmp_path).config()
    assert (cfg.data.rules, cfg.seed, cfg.data.sources) == (1, 3, ("a.csv",))
    assert cfg.data.where == {"agree": "1.0", "flag": "false"}
    assert load_config(tmp_path / "config.yaml").data.rules == 5


def test_old_rules_take_no_markers():
    with pytest.raises(UserError, match="`missing` should come with rules=2 or more"):
        load_config(overrides=["data.rules=1", "data.missing=[NA]"])


def test_an_experiment_that_began_before_goes_on(tmp_path: Path):
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "config.yaml").write_text("data: {where: {agree: 1.0, code: [8.0, 9.0]}}\n")
    where = ["data.where.agree=1", "data.where.code=[8,9]", "dao.rules=2"]
    cfg = load_config(overrides=where, flags={"output": str(tmp_path)})
    check_not_other(Cell("base", 0, cfg))
    cfg = load_config(overrides=[*where, "data.where.agree=2"], flags={"output": str(tmp_path)})
    with pytest.raises(UserError, match=r"`data\.where\.agree` '1\.0' in place of '2'"):
        check_not_other(Cell("base", 0, cfg))


def test_a_run_that_began_before_is_resumed():
    now = load_config(overrides=["data.where.agree=1.0"], before={"data.rules": 1})
    old = now.model_dump(mode="json")
    for name in ("rules", "missing", "encoding"):
        del old["data"][name]
    old["data"]["where"] = {"agree": 1.0}
    check_settings(completed(old), decisive(now))
    with pytest.raises(UserError, match=r"`data\.split_seed` changed from 0 to 1"):
        check_settings(completed(old), decisive(load_config(overrides=["data.split_seed=1"])))


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("dao.priors.cls=1,2", [1, 2]),
        ("data.where.country=NO,SE", ["NO", "SE"]),
        ("train.lr=1e-4,0.01", ["1e-4", 0.01]),
        ("seed.x=1", [1]),
    ],
)
def test_a_grid_takes_keys_at_any_depth(option: str, values: list):
    from dao.learner.experiment.grid.search import FIXED, read_grid

    key = option.partition("=")[0]
    if any(key == name or key.startswith(f"{name}.") for name in FIXED):
        with pytest.raises(UserError, match="should vary settings whose runs are scored alike"):
            read_grid([option])
    else:
        assert read_grid([option]) == {key: values}


def test_a_checkpoint_with_a_relative_encoder_folder_is_of_the_same_settings(
    tmp_path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    now = load_config(flags={"encoder.name": "./plain"})
    assert now.encoder.name == str(tmp_path / "plain")
    early = {**now.model_dump(mode="json")}
    early["encoder"] = {**early["encoder"], "name": "./plain"}
    check_settings(completed(early), decisive(now))


@pytest.mark.parametrize(
    "typed",
    [
        "train.epochs=yes", "train.lr=on", "seed=true", "dendrites.patience=no",
        "dao.max_ratio=yes",
        "dao.priors.cls=yes", "train.select_weights={cls: no}", "data.fractions=[yes,0.1,0.1]",
        "dendrites.grow_at=[0.5,yes]", "cls.beta=no", "reg.scale=yes", "cls.cut=yes",
        "dao.refresh_every=yes", "data.synthetic.rows=yes",
    ],
)  # fmt: skip
def test_a_truth_value_is_no_number(typed: str):
    key = typed.partition("=")[0]
    with pytest.raises(UserError, match="should be a number") as refusal:
        load_config(overrides=[typed])
    parts = key.split(".")[:2]
    assert all(part in str(refusal.value) for part in parts)
    assert "\n" not in str(refusal.value)


def test_a_truth_value_in_a_file_is_no_number(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("train:\n  epochs: yes\n")
    with pytest.raises(UserError, match=r"`train\.epochs` should be a number.* Found True"):
        load_config(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("encoder:\n  lora: {folded: no}\n")
    assert load_config(tmp_path / "a.yaml").encoder.lora.folded is False


def test_a_control_that_copies_growths_is_resumed_by_a_later_version():
    now = load_config(
        overrides=[
            "dendrites.enabled=true", "dendrites.control=restart", "dendrites.patience=2",
            "dendrites.growths_of=/there",
        ]
    )  # fmt: skip
    saved = decisive(now)
    assert saved["dendrites"]["growths_of"] == "RUN"
    del saved["train"]["rate_floor"]  # as an earlier version saved it
    check_settings(completed(saved), decisive(now))
    without = {**saved, "dendrites": {**saved["dendrites"], "growths_of": "", "control": "none"}}
    with pytest.raises(UserError, match=r"`dendrites\.control` changed from none to restart"):
        check_settings(completed(without), decisive(now))
