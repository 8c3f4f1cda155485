"""Classes cut from a score, filters and shares of splits."""

import json

import pytest

from dao.errors import UserError
from dao.learner.data.load import Columns, ceilings, fit, load, notes
from dao.learner.data.unseen import load_unseen
from dao.learner.kinds.classification import Classification
from dao.learner.kinds.declared import task_settings
from dao.learner.kinds.parts.cuts import class_names, classes_of
from dao.learner.kinds.regression import Regression

BOTH, CLS = ("cls", "reg"), ("cls",)
SCORES = [i / 10 for i in range(-9, 10)]


@pytest.fixture
def cutting(asked):
    """Settings of such tasks, the classification cut from the score."""

    def settings_of(cut, names=BOTH):
        return asked(**{name: {"cut": cut} if name == "cls" else {} for name in names})

    return settings_of


def cut_table(sources, tasks, **options):
    targets = {name: settings.column for name, settings in tasks.items()}
    return load(sources, Columns(targets=targets), tasks=tasks, **options)


def thresholds(table):
    return table.recodings["cls"].about["thresholds"]


def scored(splits: bool = True, label: bool = False) -> str:
    """Scores from -0.9 to 0.9 in training; those of the other splits lie outside."""
    lines = ["text,score,split" + (",label" if label else "")]
    more = ",up" if label else ""
    for i, score in enumerate(SCORES):
        lines.append(f"train {i},{score},{'train' if splits else ''}{more}")
    for split in ("validation", "test"):
        mark = split if splits else ""
        lines += [f"{split} {i},{0.95 if i % 2 else -0.95},{mark}{more}" for i in range(9)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("names", [BOTH, CLS])
def test_a_number_of_classes_looks_at_the_training_rows_alone(csv, cutting, names):
    tasks = cutting(3, names)
    tasks["cls"] = tasks["cls"].model_copy(update={"class_weights": "balanced"})
    table = cut_table([csv(scored())], tasks)
    # 19 scores: the nearest cuts to thirds are after 6 (between -0.4 and -0.3) and 13 of them.
    assert thresholds(table) == pytest.approx([-0.35, 0.35])
    assert table.report["cut"]["cls"]["thresholds"] == thresholds(table)
    assert table.report["targets"]["cls"] == {"high": 6, "low": 6, "middle": 7}
    assert list(table.tasks) == list(names)
    assert ("reg" in table.frame) == ("reg" in names)
    task = fit(table)["cls"]
    assert task.classes == ["low", "middle", "high"]
    assert task.class_weights == pytest.approx([19 / 18, 19 / 21, 19 / 18])
    assert json.loads(json.dumps(task.to_dict()))["thresholds"] == thresholds(table)


def test_given_thresholds(csv, cutting):
    table = cut_table([csv(scored())], cutting([-0.5, 0.05, 0.5]))
    names = ["1: to -0.5", "2: to 0.05", "3: to 0.5", "4: above 0.5"]
    assert fit(table)["cls"].classes == names
    rows = table.frame[["cls", "reg"]].to_numpy().tolist()
    assert [names[0], -0.5] in rows  # a score at a threshold belongs below it
    assert [names[1], -0.4] in rows
    assert "cls: cut from `score` at -0.5, 0.05, 0.5" in notes(table.report)


def test_a_label_column_is_said_not_to_be_used(csv, cutting):
    table = cut_table([csv(scored(label=True))], cutting([0.0]))
    assert set(table.frame["cls"]) == {"low", "high"}
    assert "cls: cut from `score` at 0; column `label` is not used" in notes(table.report)


def test_all_arms_share_splits_and_classes(csv, cutting):
    path = csv(scored(splits=False))
    found = {names: cut_table([path], cutting(3, names)) for names in (BOTH, CLS)}
    alone = cut_table([path], cutting(3, ("reg",)))
    assert len({tuple(table.frame["split"]) for table in [*found.values(), alone]}) == 1
    assert len({tuple(thresholds(table)) for table in found.values()}) == 1
    assert alone.recodings == {}


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (
            40,
            "at most the number of distinct values of `score` in the train split. Found 40 for 19",
        ),
        ([-2.0, 0.0], "Found none in 'low': `score` runs over -0.9 to 0.9"),
        ([0.0, 0.9], "Found none in 'high'"),
    ],
)
def test_a_class_without_training_rows(csv, cutting, cut, message):
    with pytest.raises(UserError) as caught:
        cut_table([csv(scored())], cutting(cut))
    assert message in str(caught.value)


def test_no_score_to_cut(csv, cutting):
    with pytest.raises(UserError, match=r"`score` should be a column of"):
        cut_table([csv("text,label\na,up\n")], cutting(3, CLS))


def test_synthetic_headlines_keep_their_ceiling(cutting):
    table = cut_table([], cutting(3), synthetic={"rows": 300})
    assert list(table.report["expected_limits"]) == ["reg"]
    best = ceilings(table, {"cls": fit(table)["cls"]}, "test")["cls"]
    rows = table.rows("test")
    truth = classes_of(rows["clean_score"], thresholds(table))
    right = [a == b for a, b in zip(truth, rows["cls"], strict=True)]
    assert best["accuracy"] == pytest.approx(sum(right) / len(right))


def with_truth(*columns: str) -> str:
    """The rows of `scored`, whose truth behind the score is the score, and the label's `odd`."""
    head, *rows = scored(label=True).splitlines()
    cells = {"clean_score": lambda row: row.split(",")[1], "clean_label": lambda _: "odd"}
    lines = [",".join([row, *(cells[c](row) for c in columns)]) for row in rows]
    return "\n".join([",".join([head, *columns]), *lines]) + "\n"


@pytest.mark.parametrize(
    ("columns", "reachable"),
    [
        (("clean_score",), {"cls": 1.0}),
        (("clean_score", "clean_label"), {"cls": 1.0}),
        (("clean_label",), {}),  # its classes are not those of the score
    ],
)
def test_the_truth_in_a_file_is_cut_as_the_score_is(csv, cutting, columns, reachable):
    table = cut_table([csv(with_truth(*columns))], cutting(3))
    tasks = {"cls": fit(table)["cls"]}
    unseen = load_unseen([csv(with_truth(*columns))], from_score(BOTH), tasks=tasks)
    for found in (table, unseen):
        best = ceilings(found, tasks, "test")
        assert {task: figures["accuracy"] for task, figures in best.items()} == reachable


def from_score(names):
    return Columns(targets=dict.fromkeys(names, "score"))


def trained(names, ends):
    cut = Classification("cls", "score", class_names(ends), thresholds=ends)
    found = {"cls": cut, "reg": Regression("reg", "score")}
    return {name: found[name] for name in names}


def test_a_truth_that_is_no_number_is_named(csv):
    path = csv("text,score,clean_score\na,0.1,0.1\nb,0.2,much\nc,-0.2,\n")
    tasks = trained(BOTH, [0.0])
    with pytest.raises(UserError, match=r"`clean_score` should be a finite number.*Found 'much'"):
        ceilings(load_unseen([path], from_score(BOTH), tasks=tasks), tasks, "test")


@pytest.mark.parametrize("names", [BOTH, CLS])
def test_new_data_are_cut_where_training_was(csv, names):
    path = csv("text,score,label\na,-0.2,odd\nb,,odd\nc,0.2,odd\n")
    tasks, columns = trained(names, [-0.1, 0.1]), from_score(names)
    table = load_unseen([path], columns, tasks=tasks)
    assert table.frame["cls"].tolist() == ["low", "high"]
    assert [name for name in BOTH if name in table.frame] == list(names)
    assert table.report["rows"]["test"] == 2
    with pytest.raises(UserError, match=r"`score` should be a column of"):
        load_unseen([csv("text,label\na,low\n")], columns, tasks=tasks)


def labelled(*columns: tuple[str, list[str]]) -> str:
    names = [name for name, _ in columns]
    rows = zip(*(values for _, values in columns), strict=True)
    lines = [f"text {i},{'up' if i % 2 else 'down'},{','.join(r)}" for i, r in enumerate(rows)]
    return f"text,label,{','.join(names)}\n" + "\n".join(lines) + "\n"


def test_rows_are_kept_by_what_a_column_holds(csv, asked):
    agree, source = ["1.0", "0.66", "1", "0.5"] * 20, ["a", "a", "b", "c"] * 20
    path = csv(labelled(("agree", agree), ("source", source)))
    table = load([path], Columns(), tasks=asked(cls={}), where={"agree": 1, "source": ("a", "c")})
    assert set(table.frame["agree"]) == {"1.0"}
    assert len(table.frame) == 20
    said = "dropped: 40 rows without 1 in agree, 20 rows without a or c in source"
    assert said in notes(table.report)


def test_a_source_without_the_column_is_left_out(csv, asked):
    paths = [csv(labelled(("agree", ["1.0"] * 40)), "a.csv"), csv("text,label\nz,up\n", "b.csv")]
    assert len(load(paths, Columns(), tasks=asked(cls={}), where={"agree": 1.0}).frame) == 40


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"agre": 1.0}, "`data.where` should name columns of the data. Found 'agre' in none of"),
        ({"agree": 2}, "`data.where` should leave some rows. Found no agree that is 2; it holds"),
    ],
)
def test_conditions_that_cannot_be_met(csv, asked, where, message):
    with pytest.raises(UserError, match=message):
        load(
            [csv(labelled(("agree", ["1.0", "0.5"])))], Columns(), tasks=asked(cls={}), where=where
        )


def test_shares_of_the_splits(csv, asked):
    path = csv(labelled(("split", ["train"] * 200)))
    table = load([path], Columns(split=""), tasks=asked(cls={}), fractions=(0.7, 0.15, 0.15))
    assert table.report["rows"] == {"train": 140, "validation": 30, "test": 30}
    for split in ("train", "validation", "test"):
        classes = table.rows(split)["cls"].value_counts()
        assert classes["up"] == classes["down"]
    assert any("(70/15/15 by text, seed 0)" in note for note in table.report["split"])
    assert "split" in table.frame


@pytest.mark.parametrize(
    ("value", "rows"),
    [("010", 10), ("10", 20), ("8", 10), ("8.0", 10), ("NO", 10), ("no", 0), ("", 10),
     ("12:30", 10), ("1_000", 10), ("1000", 10), ("1e3", 10),
     (("NO", "010"), 20), ("TRUE", 10), ("yes", 0)],
)  # fmt: skip
def test_conditions_compare_text_as_typed_and_numbers_as_numbers(csv, value, rows):
    held = ["010", "10", "8", "NO", "", "12:30", "1_000", "1000", "True"]
    lines = [f"text {n} {cell},{'ab'[n % 2]},{cell}" for cell in held for n in range(10)]
    path = csv("text,label,code\n" + "\n".join(lines) + "\n")
    if not rows:
        with pytest.raises(UserError, match="should leave some rows"):
            load([path], Columns(), tasks={"cls": task_settings("cls", {})}, where={"code": value})
        return
    assert (
        len(
            load(
                [path], Columns(), tasks={"cls": task_settings("cls", {})}, where={"code": value}
            ).frame
        )
        == rows
    )
