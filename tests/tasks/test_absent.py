"""Missing values, one rule for all columns; rows that two sources share; labels that are none."""

import json
import math

import pyarrow as pa
import pytest
from pyarrow import parquet

from dao.errors import UserError
from dao.learner.data.load import Columns, load, notes
from dao.learner.data.reading.table import MISSING
from dao.learner.data.unseen import load_unseen
from dao.learner.kinds.classification import Classification
from dao.learner.kinds.declared import task_settings
from dao.learner.kinds.parts.cells import USUAL
from dao.learner.kinds.regression import Regression
from dao.learner.settings.data_section import MISSING as SETTING

BOTH = {name: task_settings(name, {}) for name in ("cls", "reg")}
CLS = {"cls": BOTH["cls"]}
TRAINED = {"cls": Classification("cls", "label", ["down", "up"]), "reg": Regression("reg", "score")}


def lines(count=40, start=0):
    return [f"text {i},{'up' if i % 2 else 'down'},{i / 10}" for i in range(start, start + count)]


def table(rows, header="text,label,score"):
    return "\n".join([header, *rows]) + "\n"


def records(label, score, count=40):
    """Rows of which the last three have these cells."""
    rows = [{"text": f"text {i}", "label": "ab"[i % 2], "score": i / 10} for i in range(count)]
    for row in rows[-3:]:
        row |= {"label": label, "score": score}
    return rows


def test_the_learner_and_the_tasks_name_the_same_markers():
    assert SETTING == MISSING


@pytest.mark.parametrize("word", [*USUAL, "", "  "])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_a_marker_is_missing_in_every_task(csv, word, suffix):
    mark = {".csv": ",", ".tsv": "\t"}.get(suffix)
    found = records(word, word)
    if mark:
        content = "\n".join(
            mark.join(map(str, row.values()))
            for row in [{"text": "text", "label": "label", "score": "score"}, *found]
        )
    else:
        content = "\n".join(map(json.dumps, found))
    report = load([csv(content, f"a{suffix}")], Columns(), tasks=BOTH).report
    assert report["dropped"] == {"without text": 0, "without target": 3}
    assert sum(report["labelled"]["cls"].values()) == sum(report["labelled"]["reg"].values()) == 37
    counted = {"label": {word: 3}, "score": {word: 3}} if word.strip() else None
    assert report.get("missing") == counted
    said = [line for line in notes(report) if line.startswith("missing in")]
    assert len(said) == (2 if word.strip() else 0)


def test_null_and_nan_of_parquet_are_missing(tmp_path):
    rows = records(None, math.nan)
    path = str(tmp_path / "a.parquet")
    parquet.write_table(pa.Table.from_pylist(rows), path)
    report = load([path], Columns(), tasks=BOTH).report
    assert sum(report["labelled"]["cls"].values()) == sum(report["labelled"]["reg"].values()) == 37
    assert report["missing"] == {"score": {"nan": 3}}


@pytest.mark.parametrize("word", ["none", "NONE", "NA", "Null", "-"])
def test_a_word_that_may_be_a_class_stays_one_and_is_pointed_out(csv, word):
    rows = [f"text {i},{word if i % 2 else 'up'}" for i in range(40)]
    found = load([csv(table(rows, "text,label"))], Columns(), tasks=CLS).report
    assert found["targets"]["cls"][word] == 16
    said = (
        f"cls: `{word}` counts as a class, of 16 rows; if it means missing, add it to data.missing"
    )
    assert said in notes(found)


def test_a_dash_stands_for_nothing_in_every_task_alike(csv):
    cells = [("up", "1,5", "yes"), ("down", "2,25", "no"), ("-", "-", "-")]
    rows = [f"text {i};{';'.join(cells[i % 3])}" for i in range(60)]
    tasks = {**BOTH, "urgent": task_settings("urgent", {"kind": "binary", "column": "urgent"})}
    columns = Columns(targets={name: str(task.column) for name, task in tasks.items()})
    # A last row has the target of one task alone, because a row without any is dropped.
    rows.append("last;up;-;-")
    found = load([csv(table(rows, "text;label;score;urgent"))], columns, tasks=tasks)
    assert found.report["missing"] == {"label": {"-": 20}, "score": {"-": 21}, "urgent": {"-": 21}}
    assert set(found.report["targets"]["cls"]) == {"up", "down"}
    assert set(found.report["targets"]["urgent"]) == {"yes", "no"}
    assert found.report["targets"]["reg"]["highest"] == 2.25
    assert "missing in `label`: - in 20 rows; data.missing says what counts" in notes(found.report)


@pytest.mark.parametrize(("others", "rules"), [(("+", "0"), 4), (("up",), 4), (("up", "down"), 3)])
def test_a_dash_is_a_class_beside_a_plus_a_single_other_or_in_earlier_runs(csv, others, rules):
    words = ("-", *others)
    rows = [f"text {i},{words[i % len(words)]}" for i in range(60)]

    class Settings:
        text, cls, split, domain, id = ("text",), "label", "split", "domain", "id"
        missing, encoding = MISSING, "utf-8"

    Settings.rules = rules
    columns = Columns.named(Settings, {"cls": "label"})
    found = load([csv(table(rows, "text,label"))], columns, tasks=CLS).report
    assert set(found["targets"]["cls"]) == set(words)
    assert "missing" not in found


def test_other_markers_replace_the_usual_ones(csv):
    rows = [f"text {i},{('N/A', 'up', 'none')[i % 3]},{i}" for i in range(60)] + ["last,up,-999.0"]
    columns = Columns(missing=("none", "-999"))
    report = load([csv(table(rows))], columns, tasks=BOTH).report
    assert set(report["targets"]["cls"]) == {"N/A", "up"}
    assert report["missing"] == {"label": {"none": 20}, "score": {"-999.0": 1}}
    assert report["targets"]["reg"]["lowest"] >= 0


def test_old_runs_keep_their_classes(csv):
    class Old:
        text, cls, split, domain, id = ("text",), "label", "split", "domain", "id"
        missing, encoding, rules = MISSING, "utf-8", 1

    rows = [f"text {i},{('N/A', 'up')[i % 2]}" for i in range(40)]
    report = load(
        [csv(table(rows, "text,label"))], Columns.named(Old(), {"cls": "label"}), tasks=CLS
    ).report
    assert set(report["targets"]["cls"]) == {"N/A", "up"}


@pytest.mark.parametrize(
    ("rules", "given", "classes"),
    [
        (1, MISSING, {"N/A", "null"}),
        (2, MISSING, {"null"}),
        (3, MISSING, set()),
        (3, ("N/A",), {"null"}),
    ],
)
def test_runs_keep_the_words_of_their_time(csv, rules, given, classes):
    class Settings:
        text, cls, split, domain, id = ("text",), "label", "split", "domain", "id"
        missing, encoding = given, "utf-8"

    Settings.rules = rules
    words = ("N/A", "null", "up", "down")
    rows = [f"text {i},{words[i % 4]}" for i in range(60)]
    columns = Columns.named(Settings(), {"cls": "label"})
    report = load([csv(table(rows, "text,label"))], columns, tasks=CLS).report
    assert set(report["targets"]["cls"]) == classes | {"up", "down"}


def test_splits_and_domains_may_be_missing_too_and_texts_may_not(csv):
    rows = [
        f"text {i},{'ab'[i % 2]},{('x', 'y', 'N/A')[i % 3]},{'N/A' if i else 'test'}"
        for i in range(40)
    ]
    found = load([csv(table([*rows, "N/A,a,x,"], "text,label,domain,split"))], Columns(), tasks=CLS)
    assert set(found.frame["domain"].dropna()) == {"x", "y"}
    assert found.report["missing"] == {"domain": {"N/A": 13}, "split": {"N/A": 39}}
    assert "N/A" in found.frame["text"].tolist()


def test_new_data_follow_the_same_rule(csv):
    columns = Columns()
    found = load_unseen([csv(table(["a,up,1", "b,N/A,n/a", "c,down,NaN"]))], columns, tasks=TRAINED)
    assert found.frame["cls"].tolist() == ["up", "down"]
    assert found.report["dropped"]["without target"] == 1


def test_a_score_that_may_mean_missing_names_the_setting(csv):
    with pytest.raises(UserError, match=r"Found 'NA' in row 2\. If it means missing, give data"):
        load([csv(table(["a,up,1", "b,up,NA"]))], Columns(), tasks=BOTH)


def test_a_row_of_a_nested_file_counts_once(csv):
    inner, outer = csv(table(lines(20)), "all.csv"), csv(table(lines(40)), "half.csv")
    found = load([inner, outer], Columns(), tasks=BOTH)
    assert len(found.frame) == 40
    assert found.frame["text"].is_unique
    assert found.report["repeated"] == {outer: 20}
    assert f"{outer}: 20 rows left out that an earlier source has as well" in notes(found.report)
    assert len(load_unseen([inner, outer], Columns(), tasks=TRAINED).frame) == 40
    assert len(load([inner, outer], Columns(rules=1), tasks=BOTH).frame) == 60


def test_rows_that_differ_in_a_target_or_an_id_are_two(csv):
    one = csv(table([*lines(30), "same,up,1"]), "one.csv")
    two = csv(table([*lines(30, start=50), "same,down,1", "text 1,up,"]), "two.csv")
    report = load([one, two], Columns(), tasks=BOTH).report
    assert "repeated" not in report
    assert sum(report["rows"].values()) == 63
    ids = [
        csv(
            f"id,text,label\n{k}1,same,up\n"
            + "".join(f"{k}x{i},{k} {i},{'ab'[i % 2]}\n" for i in range(20)),
            f"{k}.csv",
        )
        for k in "pq"
    ]
    assert "repeated" not in load(ids, Columns(), tasks=CLS).report


def test_copies_within_one_source_stay(csv):
    one = csv(table([*lines(30), "same,up,1", "same,up,1"]), "one.csv")
    two = csv(table([*lines(30, start=50), *["same,up,1"] * 3]), "two.csv")
    found = load([one, two], Columns(), tasks=BOTH)
    assert (found.frame["text"] == "same").sum() == 3
    assert found.report["repeated"] == {two: 2}


@pytest.mark.parametrize("name", ["Unnamed: 0", "__index_level_0__", "", " "])
def test_columns_without_a_name_are_passed_over(csv, name):
    rows = [f"{i % 3},text {i},{'ab'[i % 2]},," for i in range(40)]
    found = load([csv(table(rows, f"{name},text,label,,"))], Columns(), tasks=CLS)
    assert list(found.frame.columns) == ["id", "text", "split", "cls"]
    named = load([csv(table(rows, f"{name},text,label,,"))], Columns(domain=name), tasks=CLS)
    assert set(named.frame["domain"]) == {"0", "1", "2"} if name.strip() else True


def test_separators_at_the_ends_of_lines(csv):
    rows = [f"text {i},{'ab'[i % 2]},," for i in range(40)]
    assert len(load([csv(table(rows, "text,label"))], Columns(), tasks=CLS).frame) == 40


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ("{}.25", r"300 different .* such as 0\.25, which look like a score"),
        ("{}", "numbers such as 0, which look like a score or an identifier"),
        ("said {}", "such as 'said 0', which look like an identifier or free text"),
    ],
)
def test_labels_that_are_no_classes(csv, cells, message):
    rows = [f"text {i},{cells.format(i)}" for i in range(300)]
    with pytest.raises(UserError, match=message):
        load([csv(table(rows, "text,label"))], Columns(), tasks=CLS)


def test_many_classes_of_two_texts_and_one_shot_classes_are_classes(csv):
    rows = [f"text {i},class {i % 100}" for i in range(200)]
    assert (
        len(load([csv(table(rows, "text,label"))], Columns(), tasks=CLS).report["targets"]["cls"])
        == 100
    )
    rows = [
        f"text {i},class {i % 30},{'train' if i < 30 else 'test' if i < 40 else 'dev'}"
        for i in range(50)
    ]
    found = load([csv(table(rows, "text,label,split"))], Columns(), tasks=CLS)
    assert len(found.report["targets"]["cls"]) == 30


def test_levels_of_a_score_may_be_classes_and_are_pointed_out(csv):
    rows = [f"text {i},{(i % 25) / 10 + 0.05:.2f}" for i in range(200)]
    said = notes(load([csv(table(rows, "text,label"))], Columns(), tasks=CLS).report)
    assert any("its 25 classes are numbers with decimals" in line for line in said)


def test_cells_that_stand_for_nothing_are_no_values_of_a_breakdown(csv):
    from dao.learner.scoring.assessment import slice_columns

    places = ("city", "land", "N/A", "", "None", "  ", "-")
    flags = ("yes", "", "N/A")  # one value and nothing else: no breakdown
    rows = [f"text {i},{'ab'[i % 2]},{places[i % 7]},{flags[i % 3]},{i % 99}" for i in range(210)]
    found = load([csv(table(rows, "text,label,place,flag,number"))], Columns(), tasks=CLS)
    assert slice_columns(None, found.frame, ["label"], ["cls"]) == ("place",)
    assert set(found.frame["place"].dropna()) == {"city", "land"}
    assert found.report["missing"] == {"place": {"N/A": 30, "None": 30, "-": 30}}
    assert found.report["empty"] == {"place": 60}
    said = [line for line in notes(found.report) if "place" in line]
    assert said == [
        "missing in `place`: N/A in 30 rows, None in 30 rows, - in 30 rows; data.missing says what "
        "counts",
        "empty cells, which are missing values: 60 in `place`",
    ]
    kept = Columns(missing=())
    found = load([csv(table(rows, "text,label,place,flag,number"))], kept, tasks=CLS)
    assert set(found.frame["place"].dropna()) == {"city", "land", "N/A", "None"}


def test_empty_cells_of_labels_are_counted_in_one_line(csv):
    rows = [f"text {i},{('up', 'down', '', ' ')[i % 4]},{'' if i < 5 else i}" for i in range(40)]
    rows.append("last,N/A,7")
    tasks = {**BOTH, "again": task_settings("again", {"kind": "regression", "column": "score"})}
    columns = Columns(targets={name: str(task.column) for name, task in tasks.items()})
    report = load([csv(table(rows))], columns, tasks=tasks).report
    assert report["empty"] == {"label": 20, "score": 5}  # each cell once, of however many tasks
    assert report["missing"] == {"label": {"N/A": 1}}
    assert [line for line in notes(report) if line.startswith("empty")] == [
        "empty cells, which are missing values: 20 in `label`, 5 in `score`"
    ]
    full = load([csv(table(lines()))], Columns(), tasks=BOTH).report
    assert "empty" not in full
    assert not any("empty cells" in line for line in notes(full))


def test_a_marker_counts_once_of_a_column_that_two_tasks_read(csv):
    rows = [f"text {i},{'ab'[i % 2]},{'N/A' if i < 3 else i}" for i in range(40)]
    tasks = {**BOTH, "again": task_settings("again", {"kind": "regression", "column": "score"})}
    columns = Columns(targets={name: str(task.column) for name, task in tasks.items()})
    report = load([csv(table(rows))], columns, tasks=tasks).report
    assert report["missing"] == {"score": {"N/A": 3}}
