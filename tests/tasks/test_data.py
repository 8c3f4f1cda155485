import json
import math

import datasets
import pandas as pd
import pytest

from dao.errors import UserError
from dao.learner.data.load import Columns, Table, ceilings, check, fit, load, notes
from dao.learner.kinds.declared import task_settings
from tasks.synthetic import headlines, limits

BOTH = {name: task_settings(name, {}) for name in ("cls", "reg")}
CLS, REG = ({name: BOTH[name]} for name in BOTH)
SMALL = {"rows": 300}


def rows(count, header="text,label", cell=lambda i: "up" if i % 2 else "down", start=0):
    lines = [f"text {i + start},{cell(i)}" for i in range(count)]
    return "\n".join([header, *lines]) + "\n"


def by_task(limits):
    return {name: limits[settings.column] for name, settings in BOTH.items()}


def test_synthetic_headlines_are_the_default():
    table = load([], Columns(), tasks=BOTH, synthetic=SMALL)
    assert len(table.frame) == 300
    assert list(table.frame.columns[:6]) == ["id", "text", "split", "domain", "cls", "reg"]
    assert {"clean_label", "clean_score", "template"} <= set(table.frame.columns)
    assert list(table.tasks) == ["cls", "reg"]
    assert table.report["sources"][0]["source"] == "the synthetic headlines"
    json.dumps(table.report, allow_nan=False)


def test_the_noise_of_synthetic_headlines_is_reported(csv):
    table = load([], Columns(), tasks=BOTH, synthetic=SMALL)
    assert table.report["expected_limits"] == by_task(limits())
    noise = "noise of known size: best expected accuracy 0.970, lowest expected MSE 0.00583"
    assert notes(table.report)[-1] == noise
    options = SMALL | {"label_noise": 0.1}
    report = load([], Columns(), tasks=CLS, synthetic=options).report
    assert report["expected_limits"] == {"cls": {"accuracy": 0.9}}
    assert notes(report)[-1] == "noise of known size: best expected accuracy 0.900"
    assert "expected_limits" not in load([csv(rows(30))], Columns(), tasks=CLS).report


def test_one_task_leaves_the_other_column_alone():
    table = load([], Columns(), tasks=CLS, synthetic=SMALL)
    assert list(table.tasks) == ["cls"]
    assert "reg" not in table.frame
    assert "score" in table.frame


@pytest.mark.slow
def test_ceilings_are_the_noise():
    options = {"rows": 4000, "label_noise": 0.1, "score_noise": 0.1}
    table = load([], Columns(), tasks=BOTH, synthetic=options)
    best, expected = ceilings(table, fit(table), "train"), by_task(limits(0.1, 0.1))
    assert best["cls"]["accuracy"] == pytest.approx(expected["cls"]["accuracy"], abs=0.02)
    assert best["reg"]["mse"] == pytest.approx(expected["reg"]["mse"], rel=0.1)
    train = table.rows("train")
    assert best["cls"]["accuracy"] == (train["cls"] == train["clean_label"]).mean()
    assert best["reg"]["n"] == len(train)


def test_ceilings_follow_the_users_column_names(csv, asked):
    path = csv(headlines(300).rename(columns=lambda name: name.replace("label", "mood")).to_csv())
    table = load([path], Columns(targets={"cls": "mood"}), tasks=asked(cls={"column": "mood"}))
    assert ceilings(table, fit(table), "test")["cls"]["accuracy"] > 0.9
    table = load([csv(rows(40))], Columns(), tasks=CLS)
    assert ceilings(table, fit(table), "test") == {}


def test_renamed_columns_and_the_rest_unchanged(csv, asked):
    lines = [f"{i},say {i},{'ab'[i % 2]},news,{i % 3}" for i in range(40)]
    path = csv("key,sentence,mood,origin,grade\n" + "\n".join(lines))
    columns = Columns(text="sentence", targets={"cls": "mood"}, domain="origin", id="key")
    table = load([path], columns, tasks=asked(cls={"column": "mood"}))
    assert list(table.frame.columns) == ["id", "text", "split", "domain", "cls", "grade"]
    assert table.frame["id"].tolist()[:2] == ["0", "1"]
    assert table.frame["domain"].unique().tolist() == ["news"]
    assert table.frame["grade"].tolist()[:4] == ["0", "1", "2", "0"]


def test_formats_agree_on_the_same_rows(csv, tmp_path):
    frame = pd.DataFrame(
        {"text": [f"text {i}" for i in range(40)], "label": [i % 2 for i in range(40)]}
    )
    frame["score"] = [None if i % 4 == 0 else i / 8 for i in range(40)]
    parquet, jsonl = str(tmp_path / "a.parquet"), str(tmp_path / "a.jsonl")
    frame.to_parquet(parquet)
    frame.to_json(jsonl, orient="records", lines=True)
    paths = [csv(frame.to_csv(index=False)), csv(frame.to_csv(sep="\t", index=False), "a.tsv")]
    frame["label"] = frame["label"].astype(float)
    paths.append(csv(frame.to_csv(index=False), "floats.csv"))
    tables = [load([path], Columns(), tasks=BOTH) for path in (*paths, parquet, jsonl)]
    assert len({table.report["fingerprint"] for table in tables}) == 1
    assert set(tables[0].frame["cls"]) == {"0", "1"}
    assert sum(value is None for value in tables[0].frame["reg"]) == 10


def test_fingerprint_follows_content_and_order(csv):
    # A resumed run goes on with batches of row numbers.
    lines = rows(40).splitlines()
    turned = "\n".join([lines[0], *reversed(lines[1:])])
    prints = [
        load([csv(content)], Columns(), tasks=CLS).report["fingerprint"]
        for content in (rows(40), turned, rows(40, cell=lambda i: "up" if i % 3 else "down"))
    ]
    assert len(set(prints)) == 3
    assert load([csv(rows(40))], Columns(), tasks=CLS).report["fingerprint"] == prints[0]


def test_two_files_each_with_a_task_of_its_own(csv):
    one = csv(rows(40), "classes.csv")
    two = csv(rows(60, "text,score", lambda i: i / 60, start=100), "scores.csv")
    table = load([one, two], Columns(), tasks=BOTH)
    assert table.report["labelled"] == {
        "cls": {"train": 32, "validation": 4, "test": 4},
        "reg": {"train": 48, "validation": 6, "test": 6},
    }
    assert [source["rows"] for source in table.report["sources"]] == [40, 60]
    assert table.frame["cls"].map(lambda value: value is None).sum() == 60
    assert table.frame["id"].tolist()[0] == "classes-1"
    assert table.frame["id"].is_unique


def test_repeated_ids_become_distinct(csv):
    table = load(
        [csv("id,text,label\n" + "\n".join(f"7,text {i},{'ab'[i % 2]}" for i in range(30)))],
        Columns(),
        tasks=CLS,
    )
    assert table.frame["id"].tolist()[:3] == ["7", "7#2", "7#3"]


def test_rows_without_text_or_target_are_counted(csv):
    path = csv(rows(30) + " ,up\ntext 99,\nnan,up\n")
    table = load([path], Columns(), tasks=CLS)
    assert table.report["dropped"] == {"without text": 1, "without target": 1}
    assert "nan" in table.frame["text"].tolist()  # a word, not a missing text
    assert sum(table.report["rows"].values()) == 31


def test_notes_say_what_was_read_dropped_and_moved(csv):
    lines = [f"text {i},up,train\ntext {i + 50},down,train" for i in range(50)]
    lines += ["text 0,up,test", "text 200,up,test", ",up,test", "text 201,,test"]
    path = csv("text,label,split\n" + "\n".join(lines))
    assert notes(load([path], Columns(), tasks=CLS).report) == [
        f"{path}: 104 rows",
        "rows: 89 train, 10 validation, 2 test",
        "labelled for cls: 89 train, 10 validation, 2 test",
        "cls in train: down 45, up 44",
        "empty cells, which are missing values: 1 in `label`",
        "dropped: 1 row without text, 1 row without target",
        "duplicates: 1 row removed from train, where their text is also in validation or test",
        "split: 102 rows by their split column",
        "split: validation for cls: 10 rows moved from train (10 % of its texts), seed 0",
    ]


def test_notes_are_short_where_nothing_happened(csv):
    path = csv(rows(40))
    assert notes(load([path], Columns(), tasks=CLS).report)[3:] == [
        "cls in train: down 16, up 16",
        "split: 40 rows without a split: 32 to train, 4 to validation, 4 to test "
        "(80/10/10 by text, seed 0)",
    ]


@pytest.fixture
def hub(monkeypatch):
    """Pretend that the hub has a data set of these splits, 30 rows in each."""

    def build(*splits):
        parts = {}
        for split in splits:
            labels = [-1 if split == "unsupervised" else i % 2 for i in range(30)]
            features = {"text": datasets.Value("string")}
            features["label"] = datasets.ClassLabel(names=["neg", "pos"])
            parts[split] = datasets.Dataset.from_dict(
                {"text": [f"{split} {i}" for i in range(30)], "label": labels},
                features=datasets.Features(features),
            )
        monkeypatch.setattr(datasets, "load_dataset", lambda *_: datasets.DatasetDict(parts))

    return build


def test_other_splits_of_a_hub_data_set_are_left_out(hub):
    hub("train", "test", "unsupervised")
    report = load(["imdb"], Columns(), tasks=CLS).report
    assert report["rows"] == {"train": 26, "validation": 4, "test": 30}
    assert report["sources"][0]["rows"] == 90
    note = "imdb: 30 rows left out, of the split unsupervised"
    assert report["split"][:2] == [note, "60 rows by their split column"]
    assert f"split: {note}" in notes(report)


def test_a_hub_data_set_of_other_splits_only(hub):
    hub("holdout", "extra")
    with pytest.raises(UserError, match=r"owner/a should have a split named .*extra, holdout\. "):
        load(["owner/a"], Columns(), tasks=CLS)


def test_an_empty_split_cell_is_no_error(csv):
    lines = [f"text {i},{'ab'[i % 2]},{('train', 'dev', 'test')[i % 3]}" for i in range(30)]
    path = csv("text,label,split\n" + "\n".join([*lines, "text 30,a, "]))
    report = load([path], Columns(), tasks=CLS).report
    assert report["rows"] == {"train": 11, "validation": 10, "test": 10}
    assert report["split"][1].startswith("1 row without a split: 1 to train")


def test_lists_and_objects_in_other_columns(csv):
    lines = [
        json.dumps(
            {
                "text": f"text {i}",
                "label": "ab"[i % 2],
                "domain": ["x", "y"],
                "id": {"key": i},
                "tags": ["x", str(i)],
                "meta": {"of": [i]} if i % 2 else None,
            }
        )
        for i in range(30)
    ]
    table = load([csv("\n".join(lines), "a.jsonl")], Columns(), tasks=CLS)
    assert table.frame["tags"][3] == ["x", "3"]
    assert table.frame["meta"][3] == {"of": [3]}
    json.dumps(table.report, allow_nan=False)
    assert ceilings(table, fit(table), "test") == {}


def test_split_column_is_followed(csv):
    lines = [f"text {i},{'ab'[i % 2]},{('training', 'dev', 'test')[i % 3]}" for i in range(30)]
    table = load([csv("text,label,split\n" + "\n".join(lines))], Columns(), tasks=CLS)
    assert table.report["rows"] == {"train": 10, "validation": 10, "test": 10}
    assert table.values("cls", "validation").count("a") == 5


def test_check_finds_a_shared_text():
    frame = pd.DataFrame({"text": ["One!", "one", "two"], "split": ["train", "test", "train"]})
    with pytest.raises(AssertionError, match="1 texts are both in train and in test"):
        check(Table(frame, Columns(), {}))


@pytest.mark.parametrize("cell", ["-nan", "inf", "good", "1;5"])
def test_score_that_is_no_number(csv, cell):
    path = csv(f"text,score\na,0.5\nb,{cell}\n", "scores.csv")
    message = rf"`score` of .*scores\.csv should be a finite number.* Found '{cell}' in row 2\."
    with pytest.raises(UserError, match=message):
        load([path], Columns(), tasks=REG)


def test_nan_in_parquet_is_refused_where_nothing_is_a_marker(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": ["a", "b"], "score": pa.array([None, math.nan])}), path)
    with pytest.raises(UserError, match=r"Found nan in row 2.*data\.reg=COLUMN"):
        load([str(path)], Columns(missing=()), tasks=REG)


def test_label_nan_is_refused_where_nothing_is_a_marker(csv):
    with pytest.raises(UserError, match=r"`label` of .* should be a class name.*'nan' in row 1"):
        load([csv("text,label\na,nan\n")], Columns(missing=()), tasks=CLS)


def test_unknown_split_word(csv):
    with pytest.raises(UserError, match=r"`split` of .* Found 'holdout' in row 1\. .*data\.split="):
        load([csv("text,label,split\na,up,holdout\n")], Columns(), tasks=CLS)


@pytest.mark.parametrize(
    ("columns", "tasks", "message"),
    [
        (Columns(text="body"), CLS, r"`body` .*column of .*Found: text, label\. .*data\.text="),
        (Columns(), REG, r"`score` should be a column of .*data\.reg=COLUMN"),
        (Columns(), BOTH, r"`score` should be a column of .*Found: text, label\. .*data\.reg="),
        (Columns(targets={"cls": "x", "reg": "y"}), BOTH, "`x` or `y` should be a column of"),
        (Columns(split="fold"), CLS, r"`fold` should be a column .*data\.split=COLUMN"),
        (Columns(domain="origin"), CLS, r"`origin` should be a column .*data\.domain=COLUMN"),
        (
            Columns(targets={"tox": "tox"}),
            {"tox": task_settings("tox", {})},
            r"`tox` should be a column of .*Found: text, label\. .*data\.tox=COLUMN",
        ),
    ],
)
def test_missing_columns(csv, columns, tasks, message):
    with pytest.raises(UserError, match=message):
        load([csv(rows(30))], columns, tasks=tasks)


def test_a_task_with_empty_cells_only(csv):
    path = csv("text,label,score\na,up,\nb,down,\n")
    with pytest.raises(UserError, match=r"`score` should have a value.*empty cells.*data\.reg="):
        load([path], Columns(), tasks=BOTH)


def test_classes_are_listed_up_to_a_dozen_and_scores_by_their_range(csv):
    lines = [f"text {i},{chr(97 + i % 14)},{i / 100}" for i in range(140)]
    report = load([csv("text,label,score\n" + "\n".join(lines))], Columns(), tasks=BOTH).report
    assert sum(report["targets"]["cls"].values()) == report["labelled"]["cls"]["train"]
    assert list(report["targets"]["cls"]) == list("abcdefghijklmn")
    said = next(line for line in notes(report) if line.startswith("cls in train: a "))
    assert said.endswith(", and 2 more")
    found = report["targets"]["reg"]
    assert 0 <= found["lowest"] < found["mean"] < found["highest"] <= 1.39
    assert f"reg in train: lowest {found['lowest']:.4g}, mean" in "\n".join(notes(report))


def test_the_column_of_the_domains_may_be_a_task_as_well(csv, asked):
    rows = "".join(f"text {i},{'news' if i % 2 else 'forum'},{i % 3}\n" for i in range(60))
    tasks = asked(domain={"kind": "classification"}, score={"kind": "ordinal"})
    columns = Columns(targets={"domain": "domain", "score": "score"})
    table = load([csv(f"text,domain,score\n{rows}")], columns, tasks=tasks)
    assert table.frame.columns.tolist().count("domain") == 1
    assert fit(table)["domain"].classes == ["forum", "news"]
