"""A plan as a file: what is read, what is refused in one line, what an experiment keeps of it."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from dao.errors import UserError
from dao.learner.basics.words import Word
from dao.learner.experiment.plans.design import Design
from dao.learner.experiment.plans.kept import check_same_plan, keep, kept
from dao.learner.experiment.plans.plan import folder_name
from dao.learner.experiment.plans.reading import plan_yaml, read_plan
from dao.learner.experiment.plans.settling import designed, stated
from dao.learner.settings import named
from dao.learner.settings.config import load_config

ROOT = Path(__file__).parents[2]
PLANS = sorted((ROOT / "configs" / "plans").glob("*.yaml"))
HEAD = "title: T\nquestion: Q?\nseeds: 2\n"
TWO = "arms:\n  equal: {weighting: equal}\n  dao: {weighting: dao}\n"
Settle = Callable[..., Design]


@pytest.fixture
def settle(tmp_path: Path) -> Settle:
    """A plan's text, and settings of the command, to an experiment in `out`."""

    def make(text: str, *overrides: str, **flags: object) -> Design:
        path = tmp_path / "plan-of-mine.yaml"
        path.write_text(text)
        return designed(read_plan(path), (None, [*overrides], flags), lambda _: tmp_path / "out")

    return make


def test_settings_come_from_plan_command_and_arm(settle: Settle):
    text = HEAD + "settings: {train: {lr: 1e-3}, train.epochs: 7, data.where.country: [NO]}\n"
    text += "arms:\n  slow: {train: {lr: 1e-4}}\n  scaled: {tasks: {reg: {scale: 10}}}\n"
    text += "  only: {tasks: [cls]}\n"
    found = settle(text, "train.epochs=3")
    slow, scaled, only = found.arms.values()
    assert (slow.train.lr, scaled.train.lr, only.train.lr) == (1e-4, 1e-3, 1e-3)
    assert {cfg.train.epochs for cfg in found.arms.values()} == {3}
    assert (slow.tasks["reg"].scale, scaled.tasks["reg"].scale) == (1, 10)
    assert slow.data.where["country"] == ("NO",)  # a word, and not the value false
    assert (list(only.tasks), list(only.split_tasks)) == (["cls"], ["cls", "reg"])
    assert found.own == {
        "slow": {"train.lr": 1e-4, "tasks.reg.scale": 1},
        "scaled": {"train.lr": 1e-3, "tasks.reg.scale": 10},
        "only": {"train.lr": 1e-3},
    }
    assert found.alone == {"cls": "only"}


@pytest.mark.parametrize(
    ("seeds", "expected"), [("3", (0, 1, 2)), ("[10, 12]", (10, 12)), ("1", (0,))]
)
def test_seeds_are_a_number_or_a_list(settle: Settle, seeds: str, expected: tuple[int, ...]):
    assert settle(HEAD.replace("2", seeds) + TWO).plan.seeds == expected


def test_names_are_words_as_they_were_typed(settle: Settle):
    text = HEAD + "arms:\n  0.10: {train.lr: 1e-4}\n  no: {}\n  010: {weighting: gls}\n"
    text += "compare: [[0.10, no]]\nchoose: {best: [010, 0.10]}\n"
    found = settle(text).plan
    assert list(found.arms) == ["0.10", "no", "010"]
    assert found.compare == (("0.10", "no"),)
    assert found.choose == {"best": ("010", "0.10")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("question: Q\nseeds: 1\n" + TWO, "`title` should be given"),
        (HEAD + TWO + "compares: []\n", "`compares` is no part of a plan. Did you mean `compare`?"),
        (HEAD + TWO + "zzz: 1\n", "`zzz` is no part of a plan. There are title, question, seeds"),
        (HEAD + TWO + "title: twice\n", "should say each thing once. Found 'title' twice"),
        (HEAD + TWO + "  dao: {}\n", "should say each thing once. Found 'dao' twice"),
        (HEAD.replace("2", "0") + TWO, "`seeds` should be one seed or more"),
        (HEAD.replace("2", "[1, 1]") + TWO, "`seeds` should be one seed or more"),
        (HEAD.replace("2", "[-1]") + TWO, "`seeds` should be one seed or more"),
        (HEAD.replace("2", "many") + TWO, "`seeds`"),
        (HEAD + "arms: {}\n", "`arms`"),
        (HEAD, "`arms` should be given"),
        (HEAD + "arms: {a: [1]}\n", "`arms.a`"),
        (HEAD + "arms: {.a: {}, b: {weighting: dao}}\n", "begin with a letter or a digit"),
        (HEAD + "arms: {Figures: {}}\n", "should not be called 'Figures'"),
        (HEAD + "arms: {'a b': {}, a_B: {weighting: dao}}\n", "'a b' and 'a_B' are both 'a_b'"),
        (HEAD + TWO + "choose: {dao: [dao, equal]}\n", "should not call a row as an arm is: 'dao'"),
        (HEAD + TWO + "choose: {best: [dao]}\n", "`choose.best` should name two arms or more"),
        (HEAD + TWO + "reference: dao\ngroups: {a: {arms: [dao]}}\n", "given in each group"),
        (HEAD + TWO + "groups: {a: {arms: []}}\n", "`groups.a.arms`"),
        ("- 1\n", "should hold KEY: VALUE pairs"),
        ("title: [\n", "should be YAML"),
    ],
)
def test_what_is_no_plan_is_refused_in_one_line(settle: Settle, text: str, said: str):
    with pytest.raises(UserError) as refused:
        settle(text)
    assert said in str(refused.value)
    assert "plan-of-mine.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("settings: {seed: 3}\n" + TWO, "Found `seed`, which each run has of its own"),
        ("settings: {weighting: gls}\n" + TWO, "Found `weighting`, which every arm sets"),
        ("settings: {train.lrr: 3}\n" + TWO, "`train.lrr` is not a setting. Did you mean"),
        ("arms: {a: {seed: 3}}\n", "The arm 'a' should leave `seed` to the experiment"),
        ("arms: {a: {output: x}}\n", "The arm 'a' should leave `output` to the experiment"),
        ("arms: {a: {train.lrr: 3}}\n", "In the arm 'a': `train.lrr` is not a setting"),
        ("arms: {a: {tasks: [topic]}}\n", "In the arm 'a': `tasks` of an arm should be names"),
        ("arms: {a: {tasks: {}}}\n", "In the arm 'a': `tasks` of an arm"),
        ("arms: {a: {}, b: {weighting: equal}}\n", "Found 'a' and 'b' alike"),
        ("arms: {a: {}, b: {reg.column: other}}\n", "differ in `tasks.reg.column`"),
        (
            TWO + "compare: [[dao, nobody]]\n",
            "`compare` should name rows of the tables. Found",
        ),
        (TWO + "compare: [[dao, dao]]\n", "Found ['dao', 'dao']."),
        (TWO + "compare: [[dao, equal], [dao, equal]]\n", "Found ['dao', 'equal'] twice"),
        (TWO + "choose: {best: [dao, nobody]}\n", "`choose.best` should name rows of the tables."),
        (TWO + "reference: nobody\n", "`reference` should name rows"),
        (TWO + "groups: {g: {arms: [nobody]}}\n", "`groups.g.arms` should name rows"),
        (TWO + "groups: {g: {arms: [dao], reference: equal}}\n", "`groups.g.reference` should"),
        (TWO + "alone: {cls: dao}\n", "Found 'dao' for cls, whose tasks are cls, reg"),
        ("arms: {cls: {weighting: dao}}\n", "should not have the name of a task"),
        (
            "arms: {c: {tasks: [cls]}, r: {tasks: [reg]}}\ncompare: [[c, r]]\n",
            "Found none in 'c' and 'r'",
        ),
        (
            "arms: {a: {cls.select_by: macro_f1}, b: {}}\nchoose: {best: [a, b]}\n",
            "scored alike on validation. Found 'a' and 'b'",
        ),
    ],
)
def test_what_a_plan_may_not_say_is_refused_in_one_line(settle: Settle, more: str, said: str):
    with pytest.raises(UserError) as refused:
        settle(HEAD + more)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_settings_of_the_command_that_arms_set_are_refused(settle: Settle, tmp_path: Path):
    text = HEAD + "arms: {a: {reg.scale: 2}, b: {}}\n"
    with pytest.raises(UserError, match=r"`tasks\.reg\.scale` should be left to the arms .*'a'"):
        settle(text, "tasks.reg.scale=3")
    with pytest.raises(UserError, match=r"`seed` should be left to the experiment"):
        settle(text, seed=3)
    file = tmp_path / "own.yaml"
    file.write_text("reg: {scale: 3}\n")
    with pytest.raises(UserError, match=r"`reg\.scale` should be left to the arms"):
        designed(read_plan(tmp_path / "plan-of-mine.yaml"), (file, [], {}), lambda _: tmp_path)


def test_an_absent_plan_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="Found nothing at"):
        read_plan(tmp_path / "absent.yaml")


def test_a_plan_that_is_written_reads_back_equal(settle: Settle, tmp_path: Path):
    text = HEAD + "arms:\n  a: {data.where.country: [NO, 010], train.lr: 1e-3}\n  b: {}\n"
    plan = settle(text + "groups: {g: {arms: [a, b], reference: b}}\nby: [domain]\n").plan
    assert isinstance(plan.arms["a"]["data.where.country"][0], Word)
    (tmp_path / "again.yaml").write_text(plan_yaml(plan))
    assert read_plan(tmp_path / "again.yaml") == plan


def test_the_folder_keeps_a_plan_that_needs_nothing_else(settle: Settle):
    design = settle(HEAD + "settings: {tasks: 'stars:ordinal,price:regression'}\n" + TWO,
                    "train.lr=0.01", "cache=somewhere", "price.scale=2")  # fmt: skip
    check_same_plan(design)
    keep(design, "dao experiment --plan out/plan.yaml")
    found = kept(design.folder)
    assert found.own == design.own
    assert found.shared.tasks == design.shared.tasks
    assert (found.shared.train.lr, found.shared.cache) == (0.01, "")
    assert found.plan.began.seeds == (0, 1)
    assert found.plan.began.command == "dao experiment --plan out/plan.yaml"
    assert len(found.plan.began.revision) == 40 or found.plan.began.revision.startswith("version")
    check_same_plan(design)


def test_a_kept_plan_may_state_what_every_arm_sets(settle: Settle):
    text = HEAD + "settings: {tasks: {cls: {}, reg: {density: 0.5}}}\n"
    design = settle(text + "arms: {a: {reg.scale: 2}, b: {reg.scale: 3}}\n")
    keep(design, "again")
    assert kept(design.folder).own == design.own


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("seeds: 2", "seeds: [1, 2]"), r"seeds \[0, 1\] in its plan\.yaml in place of \[1, 2\]"),
        (("seeds: 2", "seeds: 2\nsettings: {train.lr: 0.5}"), r"`train\.lr` 0\.0015 .* of 0\.5"),
        (("weighting: dao", "weighting: gls"), "`weighting` of the arm 'dao' 'dao' .* of 'gls'"),
        (("  dao:", "  Dao:"), r"arms \['equal', 'dao'\] .* \['equal', 'Dao'\]"),
        (("seeds: 2", "seeds: 2\nreference: equal"), "reference '' .* of 'equal'"),
    ],
)
def test_another_plan_is_refused_in_a_folder_that_was_begun(
    settle: Settle, change: tuple[str, str], said: str
):
    text = HEAD + TWO
    keep(settle(text), "again")
    with pytest.raises(UserError, match=said) as refused:
        check_same_plan(settle(text.replace(*change)))
    assert "\n" not in str(refused.value)


def test_seeds_may_be_added_and_words_changed(settle: Settle):
    keep(settle(HEAD + TWO), "again")
    more = settle(HEAD.replace("2", "4").replace("Q?", "Really?") + TWO)
    check_same_plan(more)
    keep(more, "another")
    found = kept(more.folder).plan
    assert (found.seeds, found.began.seeds) == ((0, 1, 2, 3), (0, 1))
    assert (found.question, found.began.command) == ("Really?", "again")


def test_what_is_stated_is_what_differs_from_the_defaults():
    shared = load_config(None, ["train.lr=0.01", "output=x", "name=y", "reg.scale=3"])
    found = stated(shared)
    assert found.pop("tasks")["reg"]["scale"] == 3
    assert found == {"train.lr": 0.01}


def test_what_is_stated_leaves_out_what_registered_data_bring(monkeypatch):
    """And states a usual default that somebody set in its place."""
    shop = named.NamedData("shop", pd.DataFrame, "", {"data.slices": ["place"], "train.epochs": 9})
    monkeypatch.setitem(named._named, "shop", shop)
    sources = {"data.sources": ["shop"]}
    usual = load_config(None, ["data.sources=[shop]"])
    assert (usual.train.epochs, usual.data.slices) == (9, ("place",))
    assert stated(usual) == sources
    changed = load_config(None, ["data.sources=[shop]", "data.slices=null", "train.epochs=4"])
    assert stated(changed) == sources | {"data.slices": None, "train.epochs": 4}


def test_folders_of_arms():
    assert folder_name("fixed:1,30") == "fixed_1,30"
    assert folder_name("a/b c") == "a_b_c"


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_plans_of_the_project_can_be_settled(path: Path):
    overrides = ["experts.names=[news,forum]"] if path.stem == "experts" else []
    design = designed(read_plan(path), (None, overrides, {}), lambda _: Path("out"))
    assert bool(design.plan.compare) == (len(design.rows) > 1)  # one arm alone has nothing beside


def test_weightings_differ_in_nothing_else():
    for name in ("weightings", "weightings-scaled"):
        path = ROOT / "configs" / "plans" / f"{name}.yaml"
        design = designed(read_plan(path), (None, [], {}), lambda _: Path("out"))
        assert {key.partition(".")[0] for key in design.keys} == {"weighting", "dao"}
        assert set(design.alone) == {"cls", "reg"}
        assert design.shared.tasks["reg"].scale == (10 if name == "weightings-scaled" else 1)


def test_options_of_tasks_are_those_of_the_plan_before_those_of_an_arm(settle: Settle):
    text = HEAD + "settings: {tasks: [cls, reg], cls.loss: focal, tasks.reg.density: 0.5}\n"
    design = settle(text + "arms: {a: {}, b: {cls.loss: ce}}\n")
    assert [cfg.tasks["cls"].loss for cfg in design.arms.values()] == ["focal", "ce"]
    assert design.arms["b"].tasks["reg"].density == 0.5
