"""Whatever a client sends, the server answers, and what is wrong gets one line.

pytest tests/cli/test_serving_fuzz.py --hypothesis-profile=many tries 10,000 of each (minutes).
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from tests.cli.served import client_of, protected, refused, service_of
from tests.test_fuzz import SANE, WRITERS, files

COMMON = settings.get_profile(settings.get_current_profile_name())
FEW = settings(COMMON, max_examples=COMMON.max_examples // (1 if COMMON.max_examples > 999 else 4))
"""A quarter of what other tests try, unless many are asked for: an example is a whole request."""
WORDS = st.one_of(st.text(max_size=12), st.sampled_from(["profit rose", "", " ", "\0", "\x1f"]))
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), WORDS)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["texts", "text", "", "a"]), inner, max_size=3),
    ),
    max_leaves=8,
)
ASKED = st.fixed_dictionaries({"texts": st.lists(WORDS, max_size=4)})
BODIES = st.one_of(
    st.one_of(ASKED, TREES).map(lambda tree: json.dumps(tree).encode()),
    st.binary(max_size=60),
    st.sampled_from([b"[" * 9999, b'{"texts":["\\ud800"]}', b'{"texts":[' + b"9" * 5000 + b"]}"]),
)
TYPES = st.one_of(
    st.just(b"application/json"),
    st.sampled_from([b"application/json; charset=utf-16", b"text/plain", b"multipart/form-data",
                     b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=b"]),
    st.binary(max_size=20).map(lambda b: bytes(c for c in b if 32 <= c != 127)),
)  # fmt: skip
METHODS = st.sampled_from(["POST", "POST", "POST", "POST", "GET", "PUT", "DELETE", "OPTIONS"])
FORMS = st.dictionaries(
    st.sampled_from(["data.text", "data.encoding", "data.missing", "x"]),
    st.one_of(WORDS.map(lambda w: w.encode("utf-8", "replace").decode()),
              st.sampled_from(["text", "utf-16", "[text]", "latin-1", "{", "[a, b]", "&a [*a]"])),
    max_size=2,
)  # fmt: skip
NAMES = st.one_of(
    st.sampled_from(["new", "../new", "C:\\new", "", "a" * 300]),
    st.text(max_size=8).map(lambda t: t.encode("utf-8", "replace").decode()),
)
GOOD = st.tuples(
    st.sampled_from([".csv", ".tsv", ".xlsx"]),
    st.lists(st.fixed_dictionaries(SANE), min_size=1, max_size=6),
).map(lambda drawn: (drawn[0], WRITERS[drawn[0]](drawn[1])))
FILES = st.one_of(files(), GOOD)


ASKED_WHY = st.one_of(
    st.fixed_dictionaries({"text": WORDS, "task": st.sampled_from(["cls", "reg", "", "no such"])}),
    st.dictionaries(st.sampled_from(["text", "task", "a"]), LEAVES, max_size=3),
).map(lambda tree: json.dumps(tree).encode())


@pytest.fixture(scope="module")
def client(full_run: Path) -> Iterator[TestClient]:
    """Of small limits, with `--coverage 0.9`."""
    limits = {"body": 20_000, "file": 50_000, "texts": 3, "characters": 500, "rows": 20}
    with client_of(service_of(full_run, coverage=0.9, **limits)) as found:
        yield found


def sensible(answer: Any, run: Path, place: Path) -> bool:
    """Whether it is no refusal; each is of the right form and names no folder of this machine."""
    for folder in (run, place):
        assert str(folder).encode() not in answer.content
    if answer.status_code == 200:
        protected(answer.headers)
        return True
    refused(answer)
    return False


@FEW
@given(st.data())
def test_any_body_gets_an_answer(client: TestClient, full_run: Path, data: st.DataObject):
    body, kind, method = data.draw(BODIES), data.draw(TYPES), data.draw(METHODS)
    chunked = data.draw(st.booleans())
    content = iter([body[:9], body[9:]]) if chunked else body
    answer = client.request(method, "/predict", content=content, headers={"content-type": kind})
    sensible(answer, full_run, Path(tempfile.gettempdir()) / "dao-serve")


@pytest.mark.slow
@FEW
@given(st.one_of(ASKED_WHY, ASKED_WHY, BODIES), TYPES)
def test_any_question_why_gets_an_answer(client: TestClient, full_run: Path, body, kind: bytes):
    answer = client.post("/explain", content=body, headers={"content-type": kind})
    sensible(answer, full_run, Path(tempfile.gettempdir()) / "dao-serve")


@pytest.mark.slow
@FEW
@given(FILES, NAMES, FORMS, st.sampled_from(["csv", "json", "xml", ""]))
def test_any_file_gets_an_answer(client, full_run: Path, file, name: str, form, kind: str):
    suffix, content = file
    upload = {"file": (name + suffix, content)}
    answer = client.post("/predict/file", files=upload, data=form, params={"format": kind})
    sensible(answer, full_run, Path(tempfile.gettempdir()) / "dao-serve")


@FEW
@given(st.binary(max_size=120), TYPES)
def test_any_form_gets_an_answer(client, full_run: Path, body: bytes, kind: bytes):
    content = b"--b\r\nContent-Disposition: form-data; " + body + b"\r\n--b--\r\n"
    answer = client.post("/predict/file", content=content, headers={"content-type": kind})
    sensible(answer, full_run, Path(tempfile.gettempdir()) / "dao-serve")


@pytest.mark.slow
def test_the_fuzz_reaches_answers(client: TestClient):
    """Else it would only ever see refusals."""
    reached = {"texts": 0, "files": 0}

    @settings(COMMON, max_examples=60, derandomize=True, database=None)
    @given(ASKED, FILES)
    def look(asked: dict[str, Any], file: tuple[str, bytes]) -> None:
        body = json.dumps(asked).encode()
        head = {"content-type": "application/json"}
        reached["texts"] += client.post("/predict", content=body, headers=head).is_success
        upload = {"file": ("new" + file[0], file[1])}
        reached["files"] += client.post("/predict/file", files=upload).is_success

    look()
    assert reached["texts"] >= 5, reached
    assert reached["files"] >= 3, reached
