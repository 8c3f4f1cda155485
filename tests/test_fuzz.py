"""Whatever bytes or settings are given, the answer is data, a Config or one clear line.

pytest tests/test_fuzz.py --hypothesis-profile=many tries 10,000 of each (minutes).
"""

import csv
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from dao.errors import UserError
from dao.learner.data.load import Columns, fit, load
from dao.learner.data.reading.formats import FORMATS
from dao.learner.data.texts import read_texts
from dao.learner.kinds import KINDS
from dao.learner.kinds.declared import task_settings
from dao.learner.settings.config import Config, load_config

COMMON = settings.get_profile(settings.get_current_profile_name())
NAMES = st.sampled_from(["text", "label", "score", "split", "domain", "id", "x", "", " text", "=a"])
SPLITS = st.sampled_from(["train", "validation", "test", "dev", "", "later", None])
WORDS = st.sampled_from(["up", "down", "nan", "1", "1.0", "-0.5", "1e999", "=1+1", "", " ", "\0"])
CELLS = st.one_of(
    WORDS, SPLITS, st.text(max_size=12), st.integers(), st.floats(), st.booleans(), st.none(),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=2), st.none()),
    st.integers(min_value=10**300, max_value=10**400),
)  # fmt: skip
TEXTS = st.one_of(
    st.sampled_from([f"profit {verb} in {q}" for verb in ("rose", "fell") for q in "abcdefgh"]),
    st.text(max_size=8),
)
LABELS = st.one_of(st.sampled_from(["up", "down", "1", ""]), CELLS)
SCORES = st.one_of(st.sampled_from(["0.5", "-1", "", 0.25]), CELLS)


SANE = {
    "text": st.builds(
        "{} {} in {}".format, *[st.sampled_from(["profit", "rose", "fell", "may"])] * 3
    ),
    "label": st.sampled_from(["up", "down"]),
    "score": st.floats(-1, 1),
    "split": st.sampled_from(["train", "train", "train", "validation", "test", "dev", None]),
}


@st.composite
def tables(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows that are often usable, and often not quite."""
    if draw(st.booleans()):
        kinds = SANE
    else:
        column = {"text": TEXTS, "label": LABELS, "score": SCORES, "split": SPLITS}
        names = draw(st.lists(NAMES, max_size=5, unique=True)) if draw(st.booleans()) else [*column]
        kinds = {name: column.get(name, CELLS) for name in names}
    count = draw(st.integers(0, 30))
    return [{name: draw(kind) for name, kind in kinds.items()} for _ in range(count)]


def as_csv(rows: list[dict[str, Any]], separator: str) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=separator, lineterminator="\r\n")
    if rows:
        writer.writerow(rows[0])
        writer.writerows(row.values() for row in rows)
    return file.getvalue().encode("utf-8", "replace")


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    try:
        parquet.write_table(pa.Table.from_pylist(rows), file)
    except (pa.ArrowException, OverflowError, ValueError, TypeError):  # columns of mixed kinds
        texts = [{k: ascii(v) for k, v in row.items()} for row in rows]
        parquet.write_table(pa.Table.from_pylist(texts), file)
    return file.getvalue()


def as_book(rows: list[dict[str, Any]]) -> bytes:
    openpyxl = pytest.importorskip("openpyxl")
    file, book = io.BytesIO(), openpyxl.Workbook()
    for row in ([*rows[0]], *(row.values() for row in rows)) if rows else ():
        book.active.append([ascii(cell)[:32000] for cell in row])
    book.save(file)
    return file.getvalue()


WRITERS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    ".csv": lambda rows: as_csv(rows, ","),
    ".tsv": lambda rows: as_csv(rows, "\t"),
    ".json": lambda rows: json.dumps(rows).encode(),
    ".jsonl": lambda rows: "\n".join(map(json.dumps, rows)).encode(),
    ".parquet": as_parquet,
    ".txt": lambda rows: "\n".join(f"{r.get('text')}@{r.get('label')}" for r in rows).encode(
        "utf-8", "replace"
    ),
    ".xlsx": as_book,
}


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """A suffix, and content that a writer made and something may have damaged."""
    suffix = draw(st.sampled_from(sorted(FORMATS)))
    if draw(st.integers(0, 4)) == 0:
        return suffix, draw(st.binary(max_size=200))
    content = bytearray(WRITERS[suffix](draw(tables())))
    damage = draw(st.sampled_from(["none", "none", "cut", "flip", "mark", "insert"]))
    # Not a bound of the draw: the same rows as a book have another length at another time of day.
    place = draw(st.integers(0, 1 << 16)) % max(1, len(content))
    if damage == "cut":
        del content[place:]
    elif damage == "flip" and content:
        content[place] ^= 1 << draw(st.integers(0, 7))
    elif damage == "mark":
        content[:0] = b"\xef\xbb\xbf"
    elif damage == "insert":
        content[place:place] = draw(st.sampled_from([b'"', b"\0", b"\r", b"\xff", b",", b"\n"]))
    return suffix, bytes(content)


def one_line(error: UserError) -> None:
    message = str(error)
    assert message
    assert "\n" not in message


SAID: list[dict[str, dict[str, str]]] = [
    {"cls": {}},
    {"reg": {}},
    {"cls": {}, "reg": {}},
    {"topic": {"column": "label"}, "price": {"column": "score"}},  # their kinds are proposed
    *({"topic": {"kind": kind, "column": "label"}, "reg": {}} for kind in KINDS),
]


@pytest.mark.slow
@settings(max_examples=COMMON.max_examples // 2)
@given(files(), st.sampled_from(SAID))
def test_the_data_reader_answers_with_a_table_or_one_line(file: tuple[str, bytes], said):
    tasks = {name: task_settings(name, given) for name, given in said.items()}
    suffix, content = file
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"data{suffix}"
        path.write_bytes(content)
        columns = Columns(targets={name: settings.column for name, settings in tasks.items()})
        try:
            texts = read_texts(str(path), columns)
            assert sum(len(some) for _, some in texts.parts(3)) == texts.number
        except UserError as error:
            one_line(error)
        try:
            table = load([str(path)], columns, tasks=tasks)
            for name, task in fit(table).items():
                task.encode(table.frame[name].tolist())
        except UserError as error:
            one_line(error)
        else:
            json.dumps(table.report, ensure_ascii=False).encode()
            table.frame.to_csv(path, index=False)


def keys(model: Any, prefix: str = "") -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        found += [prefix + name, *(keys(field.annotation, f"{prefix}{name}.") if inner else [])]
    return found


KEYS = st.one_of(st.sampled_from(keys(Config)), st.text(max_size=8), st.just("train.lr.x"))
ODD = ["null", "[]", "{}", "[1, a]", "{a: 1}", "2001-99-99", "!!python/none", "[" * 60, "cls,reg",
       "dao", "fixed:1,2", "fp16", "sham", "&a [*a]", "1e400", "0x", "~", "torchjd:A(b=1)", "dwa:x",
       "'\\ud800'", '"\\ud800"', '"\\0"', "? [a]", "a: b"]  # fmt: skip
VALUES = st.one_of(
    st.text(max_size=10), st.integers().map(str), st.floats().map(str), st.booleans().map(str),
    st.sampled_from(ODD),
)  # fmt: skip


@given(st.lists(st.tuples(KEYS, st.sampled_from(["=", "=", ""]), VALUES), max_size=4))
def test_overrides_answer_with_a_config_or_one_line(parts: list[tuple[str, str, str]]):
    try:
        cfg = load_config(None, ["".join(part) for part in parts])
    except UserError as error:
        one_line(error)
    else:
        assert Config.model_validate(yaml.safe_load(cfg.to_yaml())) == cfg
        assert cfg.folder.parts
        cfg.to_yaml().encode()


TREES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from([*Config.model_fields, "lr", "name", "lora", "r", "a"]), inner
        ),
    ),
    max_leaves=8,
)


YAML = TREES.map(lambda tree: yaml.safe_dump(tree).encode())
TYPED = st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace"))


@pytest.mark.slow
@given(st.one_of(YAML, TYPED, st.binary(max_size=60)))
def test_a_config_file_answers_with_a_config_or_one_line(content: bytes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_bytes(content)
        try:
            cfg = load_config(path)
        except UserError as error:
            one_line(error)
        else:
            cfg.to_yaml().encode()


@pytest.mark.slow
def test_the_fuzz_reaches_usable_tables():
    """Else it would only ever see the first refusal."""
    reached = {"table": 0, "refused": 0}
    cls = {"cls": task_settings("cls", {})}

    @settings(COMMON, max_examples=75, derandomize=True, database=None)
    @given(files())
    def look(file: tuple[str, bytes]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"data{file[0]}"
            path.write_bytes(file[1])
            try:
                load([str(path)], Columns(targets={"cls": "label"}), tasks=cls)
                reached["table"] += 1
            except UserError:
                reached["refused"] += 1

    look()
    assert reached["table"] >= 5, reached
    assert reached["refused"] >= 15, reached


if __name__ == "__main__":
    pytest.main([__file__, "--hypothesis-profile=many"])
