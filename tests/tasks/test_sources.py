import hashlib
import json
import math

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet

from dao.errors import UserError
from dao.learner.data.load import load
from dao.learner.data.reading.sources import read
from dao.learner.data.reading.table import Columns
from dao.learner.data.texts import read_texts
from dao.learner.data.unseen import load_unseen
from dao.learner.kinds.classification import Classification
from dao.learner.kinds.declared import task_settings
from dao.learner.pipeline.start import load_table
from dao.learner.settings.config import load_config

DAMAGED = "text\n利益\n".encode() + b"M\xe4ki\n"
ROWS = {"text": ["Profit, rose", 'He said "no"'], "label": ["up", ""], "score": ["0.5", "nan"]}


def cells(source, columns=None):
    frame = read(source, columns or Columns()).frame
    return {name: frame[name].tolist() for name in frame}


def test_csv_keeps_every_cell_a_string(csv):
    path = csv('text,label,score\n"Profit, rose",up,0.5\n\n"He said ""no""",,nan\n')
    assert cells(path) == ROWS


def test_csv_with_byte_order_mark_and_crlf(csv):
    path = csv("text,label\r\na b,up\r\n", encoding="utf-8-sig")
    assert cells(path) == {"text": ["a b"], "label": ["up"]}


def test_tsv(csv):
    path = csv("text\tlabel\nProfit, rose\tup\n", "data.tsv")
    assert cells(path) == {"text": ["Profit, rose"], "label": ["up"]}


def test_cell_with_a_line_break(csv):
    assert cells(csv('text,label\n"one\ntwo",up\n'))["text"] == ["one\ntwo"]


def test_parquet_tells_null_from_nan(tmp_path):
    path = tmp_path / "data.parquet"
    scores = pa.array([0.5, None, math.nan])
    parquet.write_table(pa.table({"text": ["a", "b", "c"], "score": scores}), path)
    first, second, third = cells(str(path))["score"]
    assert (first, second) == (0.5, None)
    assert math.isnan(third)


def test_json_fills_what_a_row_lacks(csv):
    path = csv(json.dumps([{"text": "a", "label": "up"}, {"text": "b", "score": 1}]), "data.json")
    assert cells(path) == {"text": ["a", "b"], "label": ["up", None], "score": [None, 1]}


def test_json_lines(csv):
    assert cells(csv('{"text": "a"}\n\n{"text": "b"}\n', "data.jsonl")) == {"text": ["a", "b"]}


def test_phrase_bank_lines(csv):
    lines = "Mr Mäki@home saw profit rise@positive\r\n\r\nNothing \r happened .@neutral\r\n"
    path = csv(lines, "Sentences_AllAgree.txt", encoding="latin-1")
    columns = Columns(text="sentence", targets={"cls": "class"}, labels="class")
    assert cells(path, columns) == {
        "sentence": ["Mr Mäki@home saw profit rise", "Nothing happened ."],
        "class": ["positive", "neutral"],
    }


@pytest.mark.parametrize(
    ("typed", "task"),
    [
        (["tasks=sentiment"], "sentiment"),
        (["tasks=sentiment:binary", "sentiment.column=mood"], "sentiment"),
        (["tasks=cls"], "cls"),
        (["tasks=cls", "data.cls=mood"], "cls"),
    ],
)
def test_labels_of_sentences_are_those_of_the_task(csv, typed: list[str], task: str):
    words = [("up", "positive") if i % 2 else ("down", "negative") for i in range(40)]
    path = csv("\n".join(f"it goes {w} {i}@{mood}" for i, (w, mood) in enumerate(words)), "x.txt")
    table = load_table(load_config(overrides=[*typed, f"data.sources={path}"]))
    assert set(table.values(task, "train")) == {"negative", "positive"}


def test_digest_is_that_of_the_file(csv):
    path = csv("text\na\n")
    assert read(path, Columns()).digest == hashlib.sha256(b"text\na\n").hexdigest()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", r"a\.csv should have rows of data\. Found an empty file"),
        ("a.csv", " \n", "Found an empty file"),
        ("a.csv", "text,label\n", r"should have rows of data\. Found none"),
        ("a.csv", "\ufeff", r"should have rows of data\. Found none"),
        ("a.tsv", "\ufeff\r\n", r"should have rows of data\. Found none"),
        ("a.json", "[]", r"should have rows of data\. Found none"),
        ("a.csv", "text,label\na,b,c\n", "should be valid CSV.*3 cells in line 2 under 2 column"),
        ("a.csv", "text,label\na\n", "1 cells in line 2 under 2 column"),
        ("a.csv", "text,text\na,b\n", "two columns of one name"),
        ("a.json", "{", r"a\.json should be valid JSON"),
        ("a.json", '{"text": "a"}', "no list of rows at the top"),
        ("a.json", "[1]", "row 1 is no object"),
        ("a.jsonl", '{"text": "a"}\n{', "should be valid JSONL. Found: line 2"),
        ("a.txt", "no label here", "line 1 has no @"),
        ("a.parquet", "no parquet", r"a\.parquet should be valid PARQUET"),
        ("a.xls", "x", r"should end in one of \.csv, \.json.* Found \.xls"),
        ("bare", "x", r"should end in one of .* Found no suffix"),
    ],
)
def test_unusable_files(csv, name, content, message):
    with pytest.raises(UserError, match=message) as caught:
        read(csv(content, name), Columns())
    assert "\n" not in str(caught.value)


def test_undecodable_bytes(csv):
    with pytest.raises(
        UserError, match=r"should be UTF-8 text\. Found byte 0x81 in line 2, which "
    ):
        read(csv("text\nM\x81ki\n", encoding="latin-1"), Columns())


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match=r"gone\.csv should be a file or a hub data set"):
        read(str(tmp_path / "gone.csv"), Columns())
    with pytest.raises(UserError, match="Found a folder"):
        read(str(tmp_path), Columns())


def hub(*, score):
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["down", "up"]),
            "score": datasets.Value("float32"),
        }
    )
    rows = {"text": ["a", "b"], "label": [1, -1], "score": [score, None]}
    return datasets.Dataset.from_dict(rows, features=features)


def test_hub_data_set(monkeypatch):
    asked = []

    def load_dataset(*arguments):
        asked.append(arguments)
        return datasets.DatasetDict(train=hub(score=0.5), test=hub(score=0.25))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    _, frame, digest, *_ = read("owner/finance:all_agree", Columns(split="part"))
    assert asked == [("owner/finance", "all_agree")]
    assert frame["part"].tolist() == ["train", "train", "test", "test"]
    assert frame["label"].tolist() == ["up", None, "up", None]
    assert frame["score"].tolist() == [0.5, None, 0.25, None]
    assert digest == read("owner/finance:all_agree", Columns(split="part")).digest


def test_unreachable_hub_names_the_local_way(monkeypatch):
    def load_dataset(*_):
        raise ConnectionError("Couldn't reach\nthe hub")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(UserError, match=r"owner/name should be .*reach the hub.*give the path"):
        read("owner/name", Columns())


@pytest.mark.parametrize("name", ["imdb", "owner/name-1.0", "owner/name.v2:config-1.0"])
def test_names_of_hub_data_sets(monkeypatch, name):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: {"train": hub(score=0.5)})
    assert read(name, Columns()).hub


def test_a_file_goes_before_a_hub_data_set_of_its_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "name-1.0").write_text("text\na\n")
    with pytest.raises(UserError, match=r"should end in one of .* Found \.0"):
        read("owner/name-1.0", Columns())


def test_a_path_is_never_asked_of_the_hub(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", None)
    for source in ("folder/data.csv", "folder/data.JSONL", "./data", "a/b/c", "../data", "a.xls"):
        with pytest.raises(UserError, match="Found nothing there"):
            read(source, Columns())


def test_frames_hold_plain_objects(csv):
    frame = read(csv("text,label\na,1\n"), Columns()).frame
    assert set(map(str, frame.dtypes)) == {"object"}


@pytest.mark.parametrize("encoding", ["windows-1252", "latin-1", "utf-16", "utf-16-le", "cp1251"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl"])
def test_another_encoding(tmp_path, encoding, suffix):
    word = "прибыль" if encoding == "cp1251" else "Mäkinen"
    rows = {
        "csv": f"text,label\n{word},up\n", "tsv": f"text\tlabel\n{word}\tup\n",
        "json": f'[{{"text": "{word}", "label": "up"}}]',
        "jsonl": f'{{"text": "{word}", "label": "up"}}',
    }  # fmt: skip
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(("\ufeff" * (encoding == "utf-16-le") + rows[suffix]).encode(encoding))
    found = cells(str(path), Columns(encoding=encoding))
    assert found == {"text": [word], "label": ["up"]}


def test_a_phrase_bank_in_another_encoding(csv):
    path = csv("прибыль@up\n", "a.txt", encoding="cp1251")
    assert cells(path, Columns(encoding="cp1251"))["text"] == ["прибыль"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (DAMAGED, r"byte 0xe4 in line 3, which Windows-1252 "),
        (DAMAGED, r"'ä' in 'Mäki'.* give data\.encoding=windows-1252"),
        (b"text\n\x81\n", r"byte 0x81 in line 2, which Latin-1 reads .* data\.encoding=latin-1"),
        ("text\na\n".encode("utf-16"), r"as UTF-16 begins\. Give data\.encoding=utf-16"),
        (b"PK\x03\x04\x14\x00\xd7", r"such as an Excel book\. If it is one, name it FILE\.xlsx"),
        (b"text\n\x00\x01\xd7\n", r"bytes of 0, which text lacks\. Give a file of text"),
    ],
)  # fmt: skip
def test_the_byte_that_is_not_utf_8_is_placed(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(str(path), Columns())
    with pytest.raises(UserError, match=r"should be ASCII text\. Found byte"):
        read(str(path), Columns(encoding="ascii"))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_first_line_of_data_is_pointed_out(csv, name):
    mark = "," if name == "a.csv" else "\t"
    path = csv(f"up{mark}profit rose\ndown{mark}sales fell\nup{mark}profit grew\n", name)
    said = (
        r"The first line \('up', 'profit rose'\) looks like data: put the columns' names above it\."
    )
    with pytest.raises(UserError, match=said):
        load([path], Columns(), tasks={"cls": task_settings("cls", {})})
    with pytest.raises(UserError, match=said):
        read_texts(path, Columns())
    with pytest.raises(UserError, match=said):
        load_unseen(
            [path], Columns(), tasks={"cls": Classification("cls", "label", ["down", "up"])}
        )


def test_names_are_not_taken_for_data(csv):
    with pytest.raises(UserError) as caught:
        load(
            [csv("body,mood\nprofit rose,up\nsales fell,down\n")],
            Columns(),
            tasks={"cls": task_settings("cls", {})},
        )
    assert "looks like" not in str(caught.value)
