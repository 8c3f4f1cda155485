"""The API of a served run: right answers to right requests, one line to all others."""

import asyncio
import csv
import io
import json
import re
import socket
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

import dao
from dao.errors import UserError
from dao.learner import load
from dao.learner.serving import uploads
from dao.learner.serving.guard import HEADERS, LOOPBACK, Guard, names_of
from dao.learner.serving.limits import Limits
from dao.learner.serving.turns import BusyError, Turns
from tests.cli.served import at_a_port, client_of, guarded, protected, refused, service_of

JSON = {"content-type": "application/json"}
TEXTS = ["net profit rose sharply", "sales fell", "=1+1 costs <b>up</b>"]
TABLE = "when,text,score\n2024-01-02,net profit rose,1.50\n,=cost fell,-2\n"
ADDED = ["cls", "cls_p_negative", "cls_p_positive", "reg"]


@pytest.fixture(scope="module")
def client(full_run: Path) -> Iterator[TestClient]:
    with client_of(service_of(full_run)) as found:
        yield found


@pytest.fixture(scope="module")
def small(full_run: Path) -> Iterator[TestClient]:
    """A server with limits that a test can reach."""
    limits = {"body": 400, "file": 20_000, "texts": 3, "characters": 50, "rows": 4, "cells": 12}
    with client_of(service_of(full_run, table=2000, unpacked=100_000, **limits)) as found:
        yield found


def send(client: TestClient, content: bytes | str, name: str = "new.csv", **more: object):
    return client.post("/predict/file", files={"file": (name, content)}, **more)


def rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def test_texts_get_the_answers_of_the_model(client: TestClient, full_run: Path):
    answer = client.post("/predict", json={"texts": TEXTS})
    assert answer.status_code == 200
    assert answer.json() == {"rows": load(full_run, device="cpu").predict(TEXTS), "notes": []}
    protected(answer.headers)


def test_texts_that_are_cut_are_noted_for_their_own_request(client: TestClient):
    (note,) = client.post("/predict", json={"texts": ["up " * 100, "up"]}).json()["notes"]
    assert note.startswith("1 of 2 texts was cut at 64 tokens")
    assert client.post("/predict", json={"texts": ["up"]}).json()["notes"] == []


def test_a_coverage_adds_sets_intervals_and_marks(kinds_run: Path, monkeypatch):
    with client_of(service_of(kinds_run, coverage=0.8)) as client:
        told = client.get("/about").json()
        assert told["coverage"] == 0.8
        assert any("tags" in note for note in told["notes"]), told["notes"]
        found = {name: task["coverage"] for name, task in told["tasks"].items()}
        assert found["tags"] == ""
        assert found["area"].startswith("80 % asked (where 90 % is asked, ")
        urgent = told["tasks"]["urgent"]
        assert urgent["rule"] == f"yes from {100 * urgent['threshold']:.3g} %"
        assert told["tasks"]["area"]["rule"] == ""
        assert told["tasks"]["area"]["threshold"] is None
        monkeypatch.setattr("dao.learner.inference.load.read_calibration", None)  # is read once
        found = client.post("/predict", json={"texts": [["net profit", "rose"]]}).json()["rows"]
        monkeypatch.undo()
        expected = load(kinds_run, device="cpu").predict([("net profit", "rose")], coverage=0.8)
        assert found == expected
        assert {"unsure", "unlike"} <= found[0].keys()
        assert any(name.endswith("_low") for name in found[0])
        assert any(name.endswith("_set") for name in found[0])
        table = send(client, "title,body\nnet profit,rose\n").text
        assert rows(table)[0][-2:] == ["unsure", "unlike"]


def test_a_coverage_that_the_run_cannot_give_is_one_line(kinds_run: Path):
    with pytest.raises(UserError, match="coverage"):
        service_of(kinds_run, coverage=0.9999)


def test_what_another_engine_reaches_is_not_claimed(kinds_run: Path):
    told = service_of(kinds_run, "merged", coverage=0.9).said["tasks"]
    assert told["area"]["coverage"].endswith(" test rows (as trained)")


def test_pairs_of_texts(kinds_run: Path):
    with client_of(service_of(kinds_run)) as client:
        found = client.post("/predict", json={"texts": [["net profit", "rose"]]}).json()["rows"]
        assert found == load(kinds_run, device="cpu").predict([("net profit", "rose")])
        for wrong in (["a text"], [["a"]], [["a", "b", "c"]], [["a", 1]]):
            line = refused(client.post("/predict", json={"texts": wrong}), 422)
            assert '{"texts": [["a text", "its pair"]]}' in line
        line = refused(client.post("/predict", json={"texts": [["a\x1fb", "c"]]}), 422)
        assert "U+001F" in line
        told = client.get("/about").json()
        assert told["pairs"]
        assert told["text_columns"] == ["title", "body"]
        answer = send(client, "one,two\nnet profit,rose\n", data={"data.text": '["one", "two"]'})
        assert answer.status_code == 200, answer.text
        assert rows(answer.text)[0][:3] == ["one", "two", "urgent"]


def test_the_run_is_told_without_folders(client: TestClient, full_run: Path, tiny_csv: Path):
    told = client.get("/about").json()
    metrics = json.loads((full_run / "metrics.json").read_text())
    assert told["dao"] == dao.__version__
    assert told["trained_on"]["sources"] == ["tiny.csv"]
    assert told["trained_on"]["rows"] == metrics["data"]["rows"]
    assert told["encoder"].startswith("tiny-phi")
    assert [*told["tasks"]] == ["cls", "reg"]
    assert told["tasks"]["cls"]["classes"] == ["negative", "positive"]
    assert told["tasks"]["reg"]["classes"] == []
    for name, task in told["tasks"].items():
        assert task["kind"] == metrics["tasks"][name]["kind"]
        own, plain = metrics["splits"]["test"][name], metrics["baselines"]["test"][name]
        assert task["tested_on"] == own["n"]
        assert [f["key"] for f in task["figures"]] == [
            f["key"] for f in metrics["tasks"][name]["figures"]
        ]
        for figure in task["figures"]:
            assert figure["model"] == own[figure["key"]]
            assert figure["plain"] == {k: row[figure["key"]] for k, row in plain.items()}
    text = json.dumps(told)
    assert str(full_run) not in text
    assert str(tiny_csv.parent) not in text
    assert "/tmp" not in text


def test_every_kind_has_its_classes(kinds_run: Path):
    tasks = service_of(kinds_run).said["tasks"]
    assert {name: task["classes"] for name, task in tasks.items()} == {
        "urgent": ["no", "yes"],
        "area": ["costs", "loss", "profit", "sales"],
        "tags": tasks["tags"]["classes"],
        "stars": ["1", "2", "3"],
        "amount": [],
    }
    assert {"rose", "sharp"} <= {*tasks["tags"]["classes"]}
    assert tasks["tags"]["separator"] == ";"
    assert {*tasks["amount"]["targets"]} == {"lowest", "mean", "highest"}


def test_a_task_says_where_plain_models_are_better(kinds_run: Path):
    from dao.learner.experiment.findings.runs import read_run
    from dao.learner.run_page.beside import mains, not_better

    tasks = service_of(kinds_run).said["tasks"]
    told = [task["not_beaten"] for task in tasks.values() if task["not_beaten"]]
    assert told == not_better(mains(read_run(kinds_run)))
    assert told  # of a run of a few steps


def test_a_threshold_says_what_it_suits(kinds_run: Path):
    tasks = service_of(kinds_run).said["tasks"]
    suits = {name: task["threshold_suits"] for name, task in tasks.items()}
    assert suits == {"urgent": "F1", "area": "", "tags": "", "stars": "", "amount": ""}


def test_earlier_runs_are_told():
    """Runs of every revision whose records are kept; their models are not."""
    from dao.learner.inference.elsewhere import RunElsewhere
    from dao.learner.kinds import KINDS
    from dao.learner.kinds.recorded import recorded_tasks
    from dao.learner.serving import about

    for path in sorted((Path(__file__).parents[2] / "results" / "reference").iterdir()):
        folder = RunElsewhere(path)
        cfg, metrics = folder.config(), folder.read("metrics.json")
        for name, recorded in recorded_tasks(metrics, cfg.tasks).items():
            assert recorded.kind in KINDS
            assert isinstance(about._targets(metrics, name), dict)
        trained = about._trained_on(metrics, cfg.data.sources)
        assert trained["sources"]
        assert trained["rows"]["train"]
        assert about._encoder(metrics, cfg.encoder.name)


def test_a_file_keeps_its_columns_and_their_order(client: TestClient, full_run: Path, tmp_path):
    from dao.learner.commands.app import app

    answer = send(client, TABLE, "../../C:\\x\\new.csv")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["x-dao-columns"] == "3"
    protected(answer.headers)
    (tmp_path / "new.csv").write_text(TABLE)
    wanted = CliRunner().invoke(app, ["predict", str(full_run), "--input", f"{tmp_path}/new.csv"])
    assert answer.text == wanted.stdout
    assert rows(answer.text)[0] == ["when", "text", "score", *ADDED]


def test_a_file_as_json(client: TestClient):
    found = send(client, TABLE.replace("score", "cls"), params={"format": "json"}).json()
    assert found["columns"] == ["when", "text", "cls", "cls_2", *ADDED[1:]]
    assert found["predicted"] == ["cls_2", *ADDED[1:]]
    assert [row["cls"] for row in found["rows"]] == ["1.50", "-2"]
    assert found["rows"][1]["text"] == "=cost fell"
    assert found["notes"] == ["`cls` is a column of the input: the predictions are in `cls_2`"]


@pytest.mark.parametrize(
    ("name", "content", "form"),
    [
        ("a.TSV", b"id\ttext\n1\tsales fell\n", {}),
        ("a.csv", "id;text\n1;sales fell\n".encode("utf-16"), {"data.encoding": "utf-16"}),
        ("a.csv", b"id,body\n1,sales fell\n", {"data.text": "body"}),
        ("a.csv", b"id,a: b\n1,sales fell\n", {"data.text": '["a: b"]'}),
    ],
)
def test_files_of_other_kinds(client: TestClient, name: str, content: bytes, form: dict[str, str]):
    answer = send(client, content, name, data=form)
    assert answer.status_code == 200, answer.text
    assert rows(answer.text)[1][:2] == ["1", "sales fell"]


def book(cells: list[list[object]]) -> bytes:
    openpyxl = pytest.importorskip("openpyxl")
    file, made = io.BytesIO(), openpyxl.Workbook()
    for row in cells:
        made.active.append(row)
    made.save(file)
    return file.getvalue()


def test_an_excel_book(client: TestClient):
    answer = send(client, book([["id", "text"], [7, "sales fell"]]), "my book.xlsx")
    assert answer.status_code == 200, answer.text
    assert rows(answer.text)[1][:2] == ["7", "sales fell"]


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files lie."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_nothing_of_an_upload_stays(client: TestClient, private: Path):
    assert send(client, TABLE).status_code == 200
    refused(send(client, "a,b\n1,2\n"))
    refused(send(client, b"PK\x03\x04", "a.xlsx"))
    assert [*private.iterdir()] == []


WRONG_FILES: dict[str, tuple[str, bytes | str, dict[str, str], str]] = {
    "no column": ("n.csv", "a,b\n1,2\n", {}, "`text` should be a column of n.csv. Found: a, b."),
    "no ending": ("passwd", "a", {}, "passwd should end in .csv, .tsv or .xlsx. Found no ending"),
    "other ending": ("a.parquet", "a", {}, "Found .parquet. Save it as one of these."),
    "empty": (
        "n.csv",
        "",
        {},
        "n.csv should have rows of data. Found an empty file.",
    ),
    "no rows": ("n.csv", "text\n", {}, "Found none."),
    "no text": ("n.csv", "text,b\nup,1\n,2\n", {}, "Found none in row 2."),
    "NUL": ("n.csv", "text\nup\0\n", {}, "Found: a NUL character at position 7"),
    "quote": ("n.csv", 'text\n"up\n', {}, "n.csv should be valid CSV"),
    "bytes": ("n.csv", b"text\n\xc3\x28\x81\n", {}, "n.csv should be UTF-8 text. Found byte 0xc3"),
    "UTF-16": ("n.csv", "text\nup\n".encode("utf-16"), {}, "as UTF-16 begins"),
    "no book": ("n.xlsx", b"PK", {}, "n.xlsx should be valid XLSX. Found: a damaged file"),
    "encoding": ("n.csv", "text\nup\n", {"data.encoding": "punycode"}, "`data.encoding` should be"),
    "two columns": ("n.csv", "text\nup\n", {"data.text": "[a,b]"}, "`data.text` should be COLUMN"),
    "long column": (
        "n.csv",
        "text\nup\n",
        {"data.text": "x" * 999},
        "`data.text` should have at most 500 characters",
    ),
    "odd column": ("n.csv", "text\nup\n", {"data.text": "{a: 1}"}, "data.text"),
    "a path": ("n.csv", "text\nup\n", {"data.text": "/etc/passwd"}, "`/etc/passwd` should be a"),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_a_wrong_file_gets_one_line(client: TestClient, case: str, full_run: Path, private: Path):
    name, content, form, said = WRONG_FILES[case]
    line = refused(send(client, content, name, data=form), 422)
    assert said in line
    assert str(private) not in line
    assert str(full_run.parent) not in line
    assert "upload." not in line


DEEP = b"[" * 100_000
WRONG_BODIES: dict[str, tuple[bytes, dict[str, Any], int]] = {
    "nothing": (b"", JSON, 422),
    "no type": (b'{"texts": ["up"]}', {"content-type": ""}, 415),
    "form": (b"texts=up", {"content-type": "application/x-www-form-urlencoded"}, 415),
    "no JSON": (b"{texts}", JSON, 400),
    "no object": (b'["up"]', JSON, 422),
    "a text": (b'{"texts": "up"}', JSON, 422),
    "no texts": (b'{"texts": []}', JSON, 422),
    "empty text": (b'{"texts": ["up", " "]}', JSON, 422),
    "number": (b'{"texts": [1]}', JSON, 422),
    "null": (b'{"texts": [null]}', JSON, 422),
    "NaN": (b'{"texts": [NaN, Infinity]}', JSON, 422),
    "huge number": (b'{"texts": ' + b"9" * 5000 + b"}", JSON, 400),
    "large number": (b'{"texts": [1e999]}', JSON, 422),
    "deep": (DEEP, JSON, 400),
    "deep object": (b'{"texts": ' * 50_000, JSON, 400),
    "half a pair": (b'{"texts": ["\\ud800"]}', JSON, 422),
    "no UTF-8": (b'{"texts": ["\xff\xfe"]}', JSON, 400),
    "pairs": (b'{"texts": [["a", "b"]]}', JSON, 422),
    "another key": (b'{"texts": ["up"], "path": "/etc/passwd"}', JSON, 422),
    "odd type": (b"{}", {"content-type": b"application/json; charset=\xff"}, 422),
    "no boundary": (b"x", {"content-type": "multipart/form-data"}, 415),
}


@pytest.mark.parametrize("case", WRONG_BODIES)
def test_a_wrong_body_gets_one_line(client: TestClient, case: str):
    body, headers, status = WRONG_BODIES[case]
    refused(client.post("/predict", content=body, headers=headers), status)


def test_a_text_with_odd_characters_is_answered(client: TestClient):
    texts = [
        "up\0down",
        "up\x1fdown",
        "\N{BYTE ORDER MARK}",
        "\u202e\U0010ffff",
        "a\nb\r\n",
        "<script>",
    ]
    answer = client.post("/predict", json={"texts": texts})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["rows"]) == len(texts)


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"x", {}, 415), (b"x", JSON, 415), (b"", {"content-type": "multipart/form-data"}, 400),
        (b"--b\r\n", {"content-type": "multipart/form-data; boundary=b"}, None),
        (b"--b\r\nContent-Disposition: form-data; name=file\r\n\r\nup\r\n--b--\r\n",
         {"content-type": "multipart/form-data; boundary=b"}, 422),
    ],
)  # fmt: skip
def test_a_wrong_form_gets_one_line(client: TestClient, content, headers, status):
    refused(client.post("/predict/file", content=content, headers=headers), status)


FORM = {"content-type": "multipart/form-data; boundary=b"}
AS_A_FORM = "The request should be a form with a file (multipart/form-data)."
SEND = "Send it as curl does with: -F file=@new.csv"
TABLE_PART = ("file", ("a.csv", "text\nup\n"))
WRONG_FORMS: dict[str, tuple[dict[str, Any], int, str]] = {
    "forgotten @": (
        {"files": [("file", (None, "new.csv"))]}, 422,
        "`file` should be a file. Found the text 'new.csv'. Put an @ before its name, as curl has "
        "it: -F file=@new.csv",
    ),
    "no file": (
        {"files": [("data.text", (None, "up"))]}, 422,
        f"`file` should be a file. Found no such part. {SEND}",
    ),
    "a file for a column": (
        {"files": [TABLE_PART, ("data.text", ("b.csv", "up"))]}, 422,
        "`data.text` should be text. Found the file 'b.csv'. Send the text itself, as curl does "
        "with: -F data.text=...",
    ),
    "a file for an encoding": (
        {"files": [TABLE_PART, ("data.encoding", ("b.csv", "up"))]}, 422,
        "`data.encoding` should be text. Found the file 'b.csv'. Send the text itself, as curl "
        "does with: -F data.encoding=...",
    ),
    "JSON": (
        {"json": {"texts": ["up"]}}, 415,
        f"{AS_A_FORM} Found 'application/json'. {SEND}; texts in JSON go to POST /predict",
    ),
    "a form without files": (
        {"data": {"file": "new.csv"}}, 415,
        f"{AS_A_FORM} Found 'application/x-www-form-urlencoded'. {SEND}",
    ),
    "no type": ({"content": b"text"}, 415, f"{AS_A_FORM} Found no Content-Type. {SEND}"),
    "no boundary": (
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400,
        f"{AS_A_FORM} Found one whose Content-Type has no boundary between its parts. {SEND}",
    ),
    "not between boundaries": (
        {"content": b"up", "headers": FORM}, 400,
        f"{AS_A_FORM} Found parts that cannot be told apart. {SEND}",
    ),
    "without a name": (
        {"content": b"--b\r\nContent-Disposition: form-data\r\n\r\nup\r\n--b--\r\n",
         "headers": FORM}, 400,
        f"{AS_A_FORM} Found a part without a name. {SEND}",
    ),
    "unreadable": (
        {"content": b"--b\r\n", "headers": {"content-type": "multipart/form-data; boundary=" +
                                             "b" * 5000}}, 400,
        f"{AS_A_FORM} Found ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_FORMS)
def test_a_wrong_form_is_told_in_words_of_the_user(client: TestClient, case: str):
    asked, status, said = WRONG_FORMS[case]
    line = refused(client.post("/predict/file", **asked), status)
    assert line.startswith(said)
    if case != "unreadable":
        assert line == said


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"texts": ["\xff\xfe"]}', "bytes that are no UTF-8"),
        (b'{"texts": ' + b"[" * 100_000, "brackets within brackets, too many to be read"),
        (b'{"texts": ' + b"9" * 5000 + b"}", "a number of too many digits"),
    ],
)
def test_unreadable_json_is_told_in_words_of_the_user(client: TestClient, body: bytes, found: str):
    line = refused(client.post("/predict", content=body, headers=JSON), 400)
    assert line == f'The request should be JSON, as {{"texts": ["a text"]}} is. Found: {found}.'


def test_another_type_than_json_is_told_what_to_send(client: TestClient):
    line = refused(client.post("/predict", files={"file": ("a.csv", "text\nup\n")}), 415)
    assert line.startswith("The request should be application/json. Found 'multipart/form-data; ")
    assert line.endswith('. Send {"texts": ["a text"]} as such; a file goes to POST /predict/file.')


def test_the_parser_of_forms_logs_nothing(full_run: Path, caplog):
    service = service_of(full_run)
    with at_a_port(service) as url:
        answer = httpx2.post(f"{url}/predict/file", content=b"up", headers=FORM)
    refused(answer, 400)
    assert not [record for record in caplog.records if "multipart" in record.name]


def test_wrong_addresses_and_methods(client: TestClient):
    for path in ("/docs", "/redoc", "/static/page.js", "/../pyproject.toml", "/%2e%2e/etc/passwd",
                 "/page.js/", "/%00", "/%ff"):  # fmt: skip
        refused(client.get(path), 404)
    assert refused(client.get("/predict"), 405).startswith("This address takes another method")
    assert client.get("/predict").headers["allow"] == "POST"
    refused(send(client, TABLE, params={"format": "xml"}), 422)


SAID: dict[str, tuple[object, str]] = {
    "none": ({}, "Found no `texts`."),
    "another key": ({"texts": ["up"], "path": 1}, "Found `path`, which is no part of it."),
    "number": ({"texts": ["up", 7]}, "Found 7 at `texts.1`."),
    "no list": ({"texts": "up"}, 'Found "up" at `texts`.'),
    "empty": ({"texts": []}, "Found [] at `texts`."),
    "list": (["up"], 'Found ["up"].'),
}


# -- why an answer is as it is --------------------------------------------------------------------


def why(client: TestClient, text: object, task: object = "cls", status: int = 200) -> Any:
    answer = client.post("/explain", json={"text": text, "task": task})
    if status != 200:
        return refused(answer, status)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_answer_is_explained_as_by_the_command(client: TestClient, full_run: Path):
    from dao.learner.explaining.attribution import explained

    assert client.get("/about").json()["explains"]
    found = why(client, "net profit rose")
    (wanted,) = explained(load(full_run, device="cpu"), ["net profit rose"], ["cls"], 64)
    assert found == {**wanted.to_dict(), "notes": []}
    assert [one["token"] for one in found["tokens"]] == ["net", "profit", "rose"]
    (row,) = client.post("/predict", json={"texts": ["net profit rose"]}).json()["rows"]
    assert found["answer"] == row["cls"]
    (note,) = why(client, "up " * 100)["notes"]
    assert note.startswith("1 of 1 text")


@pytest.mark.slow
def test_an_answer_to_a_pair_is_explained(kinds_run: Path):
    with client_of(service_of(kinds_run)) as client:
        found = why(client, ["net profit", "rose"], "tags")
        assert (found["text"], found["text_pair"]) == ("net profit", "rose")
        line = why(client, "net profit", "tags", 422)
        assert line.startswith('The request should be like {"text": ["a text", "its pair"], "task"')


@pytest.mark.parametrize(
    ("text", "task", "said", "status"),
    [
        ("up", "other", "`task` should be one of cls, reg. Found other.", 422),
        (" ", "cls", "An input should be a text with characters in it.", 422),
        ("x" * 100_001, "cls", "should have at most 100,000 characters. Found 100,001.", 413),
        (None, "cls", 'The request should be like {"text": "a text", "task": "cls"}. `text` should '
                      "be text. Found None.", 422),
        ("up", "x" * 2000, "`task` should have at most 1000 characters.", 422),
    ],
)  # fmt: skip
def test_what_cannot_be_explained_gets_one_line(client, text, task, said: str, status: int):
    assert said in why(client, text, task, status)


def test_explanations_wait_like_predictions(full_run: Path):
    service = service_of(full_run, waiting=1)
    with client_of(service) as client, service.turns.place():
        answer = client.post("/explain", json={"text": "up", "task": "cls"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


def test_few_explanations_wait_and_their_steps_are_few(full_run: Path, monkeypatch):
    from dao.learner.explaining import attribution

    monkeypatch.setattr(attribution, "CLOSE", -1.0)  # no sum is close enough
    monkeypatch.setattr(attribution, "TINY", -1.0)
    service = service_of(full_run, explanations=1)
    ask = {"text": "up", "task": "cls"}
    with client_of(service) as client:
        assert why(client, "up")["steps"] == 64
        with service.turns.place_to_explain():
            assert client.post("/explain", json=ask).status_code == 503
            assert client.post("/predict", json={"texts": ["up"]}).status_code == 200
    assert (service.turns.waiting, service.turns.explaining) == (0, 0)


def test_a_server_that_cannot_explain_says_so(full_run: Path, monkeypatch):
    with client_of(service_of(full_run, "merged")) as client:
        assert not client.get("/about").json()["explains"]
        line = why(client, "up", "cls", 422)
    assert line.startswith("Answers are explained by the engine eager alone. Found merged.")
    from dao.learner.serving import explanations

    monkeypatch.setattr(explanations, "find_spec", lambda name: None)
    with client_of(service_of(full_run)) as client:
        told = client.get("/about").json()
        assert not told["explains"]
        assert told["unexplained"] == why(client, "up", "cls", 422)
        assert "should have the package captum. Found none." in why(client, "up", "cls", 422)


# -- limits ---------------------------------------------------------------------------------------


def test_the_limits_of_a_request(small: TestClient):
    line = refused(small.post("/predict", json={"texts": ["up"] * 4}), 413)
    assert line == (
        "A request should have at most 3 texts. Found 4. Send it in parts, or as a file."
    )
    line = refused(small.post("/predict", json={"texts": ["up", "x" * 51]}), 413)
    assert line == "A text should have at most 50 characters. Found 51, input 2. Shorten it."
    line = refused(small.post("/predict", json={"texts": ["x" * 500]}), 413)
    assert line == "The request should have at most 400 bytes. Found more. Send it in parts."
    assert small.get("/about").json()["limits"]["texts"] == 3


def test_a_body_without_a_length_is_counted(small: TestClient):
    def parts(number: int) -> Iterator[bytes]:
        yield b'{"texts": ["'
        for _ in range(number):
            yield b"up "
        yield b'"]}'

    assert small.post("/predict", content=parts(5), headers=JSON).status_code == 200
    refused(small.post("/predict", content=parts(500), headers=JSON), 413)
    refused(small.post("/predict", content=parts(5000), headers=JSON), 413)
    refused(small.post("/nowhere", content=parts(5), headers=JSON), 404)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("text\n" + "up\n" * 5, "new.csv should have at most 4 rows. Found 5."),
        ("text,a,b,c\n" + "up,,,\n" * 4, "new.csv should have at most 12 cells. Found 16."),
        ("text\nup\n" + "x" * 51, "at most 50 characters. Found 51 in row 2. Shorten it."),
        ("text,b\nup," + "x" * 3000, "new.csv should have at most 2,000 characters. Found more."),
        (f"text,{'x' * 900}\n" + "up,\n" * 3, "at most 2,000 characters. Found more."),
        ("text\n" + "x" * 30_000, "The request should have at most 20,000 bytes."),
    ],
)
def test_the_limits_of_a_file(small: TestClient, content: str, said: str):
    assert said in refused(send(small, content), 413)


def test_a_cell_of_a_megabyte(client: TestClient):
    line = refused(send(client, "text\n" + "x" * 10**6), 413)
    assert "at most 100,000 characters. Found 1,000,000 in row 1" in line
    answer = send(client, f"text,b\nup,{'x' * 10**6}\n")
    assert answer.status_code == 200
    assert len(rows(answer.text)[1][1]) == 10**6


def test_a_small_excel_file_cannot_become_a_large_table(small: TestClient):
    line = refused(send(small, book([["text"], ["up"], [None] * 20 + ["x"]]), "a.xlsx"), 413)
    assert line.startswith("a.xlsx should have at most 12 cells. Found more.")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("xl/worksheets/sheet1.xml", b"0" * 200_000)
    assert "once it is unpacked" in refused(send(small, packed.getvalue(), "a.xlsx"), 413)


STRINGS = (
    '<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
    f"{'<si><t/></si>' * 30}</sst>"
)
KIND = "application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"


@pytest.mark.parametrize("place", ["xl/sharedStrings.xml", "xl/worksheets/other.bin"])
def test_texts_that_no_cell_has_are_counted(small: TestClient, place: str):
    """A book of 30 kB has a million empty ones, each of which takes the reader time."""
    whole = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(book([["text"], ["up"]]))) as source,
        zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as made,
    ):
        for name in set(source.namelist()) - {"xl/sharedStrings.xml"}:
            content = source.read(name)
            if name == "[Content_Types].xml":
                content = re.sub(rb"<Override[^>]*sharedStrings[^>]*>", b"", content)
                own = f'<Override PartName="/{place}" ContentType="{KIND}"/></Types>'
                content = content.replace(b"</Types>", own.encode())
            made.writestr(name, content)
        made.writestr(place, STRINGS)
    line = refused(send(small, whole.getvalue(), "a.xlsx"), 413)
    assert line.startswith("a.xlsx should have at most 12 cells. Found more.")


def test_marks_that_no_book_needs_are_counted(small: TestClient, monkeypatch):
    monkeypatch.setattr(uploads, "MARKS", 500)
    whole = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(book([["text"], ["up"]]))) as source,
        zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as made,
    ):
        for name in source.namelist():
            content = source.read(name)
            if name == "xl/styles.xml":
                content = content.replace(b"</cellXfs>", b"<xf/>" * 600 + b"</cellXfs>")
            made.writestr(name, content)
    line = refused(send(small, whole.getvalue(), "a.xlsx"), 413)
    assert line.startswith("a.xlsx should have at most 500 marks of its format. Found more.")


def test_a_gap_of_a_billion_rows_is_refused(client: TestClient):
    whole = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(book([["text"], ["up"]]))) as source,
        zipfile.ZipFile(whole, "w") as made,
    ):
        for name in source.namelist():
            content = source.read(name)
            if name == "xl/worksheets/sheet1.xml":
                content = content.replace(b'r="2"', b'r="999999999"').replace(b"A2", b"A999999999")
            made.writestr(name, content)
    assert "2,000,000 cells" in refused(send(client, whole.getvalue(), "a.xlsx"), 413)


def test_a_client_that_falls_silent_is_told(full_run: Path):
    app = guarded(service_of(full_run, seconds=0.05))
    sent: list[dict[str, object]] = []

    async def ask() -> None:
        parts = iter([{"type": "http.request", "body": b"{", "more_body": True}])

        async def receive() -> dict[str, object]:
            for part in parts:
                return part
            await asyncio.sleep(60)
            raise AssertionError

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"",
                 "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")],
                 "scheme": "http", "http_version": "1.1", "root_path": ""}  # fmt: skip
        await app(scope, receive, send)

    asyncio.run(ask())
    assert sent[0]["status"] == 408
    assert "Found nothing more for 0.05 s" in json.loads(sent[1]["body"])["error"]


# -- one at a time --------------------------------------------------------------------------------


def test_the_queue_serves_in_order_and_one_at_a_time():
    turns, seen, running = Turns(8), [], []

    def work(number: int) -> int:
        running.append(number)
        assert len(running) == 1
        seen.append(number)
        running.remove(number)
        return number

    async def ask(number: int) -> int:
        with turns.place():
            return await turns.model(lambda: work(number))

    async def together() -> list[int]:
        return await asyncio.gather(*map(ask, range(8)))

    assert asyncio.run(together()) == seen == [*range(8)]
    assert turns.waiting == 0
    turns.close()


def test_a_full_queue_is_told():
    turns = Turns(2)
    with turns.place(), turns.place(), pytest.raises(BusyError), turns.place():
        raise AssertionError
    assert turns.waiting == 0
    turns.close()


def test_a_full_queue_answers_503(full_run: Path):
    service = service_of(full_run, waiting=1)
    with client_of(service) as client, service.turns.place():
        for ask in (lambda: client.post("/predict", json={"texts": ["up"]}),
                    lambda: send(client, TABLE)):  # fmt: skip
            answer = ask()
            assert answer.status_code == 503
            assert answer.json() == {"error": "The queue is full. Ask again in 2 seconds."}
            assert answer.headers["retry-after"] == "2"
        assert client.get("/health").json() == {"status": "ok", "waiting": 1}
    assert service.turns.waiting == 0


@pytest.mark.slow
def test_a_text_does_not_wait_for_the_whole_of_a_file(full_run: Path):
    service, order = service_of(full_run, part=1), []
    real, begun = type(service.own.predictor).answers, threading.Event()

    def slowly(self, texts, *more):
        order.append(texts[0])
        begun.set()
        threading.Event().wait(0.03)
        return real(self, texts, *more)

    with pytest.MonkeyPatch.context() as patch, client_of(service) as client:
        patch.setattr(type(service.own.predictor), "answers", slowly)
        file = threading.Thread(target=send, args=(client, "text\n" + "profit rose\n" * 20))
        file.start()
        assert begun.wait(60)
        client.post("/predict", json={"texts": ["sales fell"]})
        file.join()
    assert len(order) == 21
    assert order.index("sales fell") < 10


def test_a_file_whose_client_has_left_is_not_predicted_to_its_end(full_run: Path):
    service, asked, left = service_of(full_run, part=1), [], threading.Event()
    real = type(service.own.predictor).answers

    def slowly(self, texts, *more):
        asked.append(texts[0])
        if len(asked) == 2:
            left.wait(60)
        return real(self, texts, *more)

    with pytest.MonkeyPatch.context() as patch, at_a_port(service) as url:
        patch.setattr(type(service.own.predictor), "answers", slowly)
        file = {"file": ("a.csv", "text\n" + "profit rose\n" * 50)}
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(f"{url}/predict/file", files=file, timeout=httpx2.Timeout(10, read=0.5))
        left.set()
        for _ in range(500):
            if not service.turns.waiting:
                break
            threading.Event().wait(0.02)
        assert httpx2.get(f"{url}/health").json()["waiting"] == 0
    assert len(asked) < 10


# -- who may ask ----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8000", "LOCALHOST", "[::1]:8000"])
def test_names_of_this_machine_are_answered(client: TestClient, host: str):
    assert client.get("/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", "", "[::2]",
             "a@localhost.", "[", "169.254.169.254"],
)  # fmt: skip
def test_other_names_are_refused(client: TestClient, host: str):
    line = refused(client.get("/health", headers={"host": host}), 400)
    assert line.startswith("The server should be called by a name that it was given.")


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "file://", "http://[",
               "http://127.0.0.1\\@evil.example"],
)  # fmt: skip
def test_pages_of_other_sites_are_refused(client: TestClient, origin: str):
    line = refused(send(client, TABLE, headers={"origin": origin}), 403)
    assert line.startswith("Only the server's own page may ask it.")


def test_the_own_page_and_allowed_ones_may_ask(client: TestClient, full_run: Path):
    assert client.get("/health", headers={"origin": "http://127.0.0.1"}).status_code == 200
    app = Guard(client.app.app, Limits(), ["dao.example"], ["dao.example"])
    behind = TestClient(app, base_url="http://dao.example:8000")
    assert behind.get("/health", headers={"origin": "https://dao.example"}).status_code == 200
    refused(behind.get("/health", headers={"host": "127.0.0.1"}), 400)


def test_the_page_and_what_it_loads(client: TestClient):
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert HEADERS["Content-Security-Policy"].startswith("default-src 'self'")
    protected(page.headers)
    named = set(re.findall(r'(?:src|href)="([^"#]+)"', page.text))
    assert {
        "style.css",
        "page.js",
        "file.js",
        "quality.js",
        "why.js",
        "icon.svg",
        "openapi.json",
    } <= named
    for name in named:
        assert client.get(f"/{name}").status_code == 200, name
    for name in ("", "style.css", "page.js", "file.js", "quality.js", "why.js"):
        text = client.get(f"/{name}").text
        assert not re.search(r"https?://|//[a-z]+\.|innerHTML|insertAdjacentHTML|eval\(", text)
    assert not re.search(r"<style|style=|<script>|\son[a-z]+=", page.text)


def test_the_api_is_described(client: TestClient):
    told = client.get("/openapi.json").json()
    assert [*told["paths"]] == ["/health", "/about", "/predict", "/predict/file", "/explain"]
    ask = told["paths"]["/predict"]["post"]
    assert {*ask["responses"]} == {"200", "400", "403", "408", "413", "415", "422", "503"}
    assert all(
        answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Problem"}
        for status, answer in ask["responses"].items() if status != "200"
    )  # fmt: skip
    why = told["components"]["schemas"]
    assert {*why["AskedWhy"]["properties"]} == {"text", "task"}
    assert {"tokens", "answer", "value", "baseline", "notes"} <= {*why["Explained"]["properties"]}
    fields = told["components"]["schemas"]["Body_file_predict_file_post"]["properties"]
    assert {*fields} == {"file", "data.text", "data.encoding"}


def test_a_bug_gives_one_line_and_no_traceback(full_run: Path):
    service = service_of(full_run)
    app = guarded(service)
    service.own = None  # what no request can do
    client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    with client:
        answer = client.post("/predict", json={"texts": ["up"]})
    assert answer.status_code == 500
    assert answer.json() == {"error": "The server failed at this request; its log says how."}


def test_other_engines_answer_alike(client: TestClient, full_run: Path):
    with client_of(service_of(full_run, "merged")) as merged:
        assert merged.get("/about").json()["engine"] == "merged"
        (found,) = merged.post("/predict", json={"texts": ["sales fell"]}).json()["rows"]
    (eager,) = client.post("/predict", json={"texts": ["sales fell"]}).json()["rows"]
    assert found["reg"] == pytest.approx(eager["reg"], abs=1e-5)


# -- the command ----------------------------------------------------------------------------------


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[object, list[object]]]:
    """Runs `dao serve` up to where the server would start; gives the app that it would serve."""
    from dao.learner.commands.app import app
    from dao.learner.serving import running

    started: list[object] = []

    def run(served: object, listener, host: str, limits: Limits) -> None:
        started.append(served)
        listener.close()

    monkeypatch.setattr(running, "run", run)

    def invoke(*arguments: object):
        words = ["serve", *map(str, arguments)]
        return CliRunner().invoke(app, words, catch_exceptions=False), started

    return invoke


def test_the_command_binds_to_this_machine(command, full_run: Path):
    result, (app,) = command(full_run, "--port", 0)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert app.hosts == {"localhost", "127.0.0.1", "::1"}
    assert not app.origins


def test_the_command_warns_when_other_machines_reach_it(command, full_run: Path):
    result, (app,) = command(full_run, "--port", 0, "--host", "0.0.0.0")
    (line,) = result.stderr.splitlines()
    said = "note: 0.0.0.0 is reached from other machines, and nobody has to log in; it answers to"
    assert line.startswith(said)
    asks = TestClient(app, base_url="http://192.168.1.7:8000").get
    for host in ("192.168.1.7:8000", "[fe80::7]", "localhost", socket.gethostname().upper()):
        assert asks("/icon.svg", headers={"host": host}).status_code == 200, host
    for host in ("evil.example", "192.168.1.7.evil.example", "", "1.2.3"):
        refused(asks("/icon.svg", headers={"host": host}), 400)
    assert "any address" not in app.hosts
    _, (_, app) = command(full_run, "--port", 0, "--host", "0.0.0.0", "--allow-host", "dao.example")
    assert {"dao.example", "0.0.0.0", "localhost", "127.0.0.1", "::1"} <= app.hosts
    assert app.origins == {"dao.example"}


def test_this_machine_is_called_by_all_its_names(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "box.lan")
    monkeypatch.setattr(socket, "getfqdn", lambda: "box.corp.example")
    own = {"box.lan", "box", "box.local", "box.corp.example"}
    assert names_of("0.0.0.0", ["dao"]) == {*LOOPBACK, "0.0.0.0", "dao", *own}
    assert names_of("127.0.0.1", ["dao"]) == {*LOOPBACK, "dao"}


def test_any_name_is_allowed_on_request(command, full_run: Path):
    result, (app,) = command(full_run, "--port", 0, "--host", "0.0.0.0", "--allow-host", "*")
    (line,) = result.stderr.splitlines()
    assert line.endswith("any name will do, so a page of another site can point one here (DNS "
                         "rebinding)")  # fmt: skip
    asks = TestClient(app, base_url="http://any.example").get
    assert asks("/icon.svg").status_code == 200
    refused(asks("/icon.svg", headers={"origin": "http://evil.example"}), 403)


def test_the_command_takes_the_columns_of_new_data(command, full_run: Path):
    result, (app,) = command(full_run, "--port", 0, "data.text=body")
    assert result.exit_code == 0, result.output
    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert client.get("/about").json()["text_columns"] == ["body"]
        assert rows(send(client, "body\nup\n").text)[1][0] == "up"
    assert command(full_run, "--port", 0, "train.lr=1")[0].exit_code == 2


def test_wrong_addresses_get_one_line(command, full_run: Path, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result, _ = command(full_run, "--port", port)
    assert result.exit_code == 1
    assert (
        result.stderr.split()
        == (
            f"error: The port should be free. Found port {port} of 127.0.0.1 taken. Choose another "
            f"with --port, or 0 for any."
        ).split()
    )
    result, _ = command(full_run, "--host", "no such host")
    assert result.exit_code == 1
    assert "error: --host should be an address of this machine." in result.stderr
    result, _ = command(tmp_path)
    assert result.exit_code == 1
    assert "A run folder should hold config.yaml" in result.stderr


def test_without_its_packages_one_line_says_what_to_install(command, full_run, monkeypatch):
    from dao.learner.commands.serving import serve

    monkeypatch.setattr(serve, "PACKAGES", ("fastapi", "no_such_package"))
    result, _ = command(full_run)
    assert result.exit_code == 1
    said = "error: dao serve needs the packages of the extra serve. Found no `no_such_package`. Run"
    assert said in " ".join(result.stderr.split())
    assert '".[serve]"' in result.stderr


def test_a_wrong_coverage_is_refused_before_anything_is_looked_at(command, tmp_path: Path):
    for wrong in ("1.5", "0", "-1", "1"):
        result, started = command(tmp_path / "no run", "--coverage", wrong, "train.lr=1")
        assert result.exit_code == 2
        assert "--coverage should be between 0 and 1. Found" in " ".join(result.stderr.split())
        assert not started


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"texts": [1]}, "`texts.0` should be text. Found 1."),
        ({"texts": "up"}, "`texts` should be a list. Found 'up'."),
        ({"texts": []}, "`texts` should have at least 1 item. Found []."),
        ({}, "`texts` should be given. Found {}."),
        ({"texts": ["up"], "more": 1}, "Found 'more' in it."),
        ([], "Found []."),
    ],
)
def test_a_wrong_request_is_told_in_the_words_of_the_settings(client: TestClient, asked, said):
    line = refused(client.post("/predict", json=asked), 422)
    assert line == f'The request should be like {{"texts": ["a text"]}}. {said}'


def test_a_wrong_question_is_told_in_the_words_of_the_settings(client: TestClient):
    line = refused(send(client, "text\nup\n", params={"format": "xml"}), 422)
    assert line == "`query.format` should be csv or json. Found 'xml'."
