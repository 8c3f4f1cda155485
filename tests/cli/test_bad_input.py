"""A table of bad inputs, each with the line and the exit code that answer it."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner, Result

EMPTY = (
    "FILE should have rows of data. Found an empty file. Give one with a header and a row per text."
)
HEAD = "text,label,score,split\n"
ROWS = "".join(
    f"profit {verb} in quarter {i},{label},{score},{split}\n"
    for i, (verb, label, score, split) in enumerate(
        [("rose", "up", 0.5, "train"), ("fell", "down", -0.5, "train")] * 10
        + [("rose", "up", 0.4, "validation"), ("fell", "down", -0.4, "test")] * 4
    )
)
GOOD = HEAD + ROWS
RECORDS = [
    {"text": f"profit {i}", "label": "up" if i % 2 else "down", "score": i / 20} for i in range(20)
]


def pq(columns, names: list[str] | None = None) -> bytes:
    table = pa.table(columns) if names is None else pa.Table.from_arrays(columns, names)
    file = io.BytesIO()
    parquet.write_table(table, file)
    return file.getvalue()


# Name, file, content, arguments, answer. FILE is the file's path; what follows ... is a library's.
CASES = [
    (
        "nothing",
        "data.csv",
        b"",
        (),
        EMPTY,
    ),
    (
        "blank",
        "data.csv",
        " \n\r\n",
        (),
        EMPTY,
    ),
    ("mark only", "data.csv", "\ufeff", (), "FILE should have rows of data. Found none."),
    ("header only", "data.csv", HEAD, (), "FILE should have rows of data. Found none."),
    (
        "too many cells",
        "data.csv",
        GOOD + "a,up,1,train,more\n",
        (),
        "FILE should be valid CSV. Found: 5 cells in line 30 under 4 column names.",
    ),
    (
        "too few cells",
        "data.csv",
        GOOD + "a,up\n",
        (),
        "FILE should be valid CSV. Found: 2 cells in line 30 under 4 column names.",
    ),
    (
        "twice a column",
        "data.csv",
        "text,label,label\na,up,down\n",
        (),
        "FILE should be valid CSV. Found: two columns of one name among text, label, label.",
    ),
    (
        "open quote",
        "data.csv",
        GOOD + '"profit rose,up,0.5,train\n',
        (),
        "FILE should be valid CSV. Found: unexpected end of data, up to line 30; a quotation mark "
        "that opens a cell is never closed.",
    ),
    (
        "quote inside",
        "data.csv",
        GOOD + '"profit "rose"",up,0.5,train\n',
        (),
        "FILE should be valid CSV. Found: ',' expected after '\"', up to line 30, as a comma "
        "follows a cell in quotes.",
    ),
    (
        "nul",
        "data.csv",
        GOOD + "profit\0rose,up,0.5,train\n",
        (),
        "FILE should be valid CSV. Found: a NUL character at position 1169, a sign of UTF-16: try "
        "data.encoding=utf-16.",
    ),
    (
        "utf-16",
        "data.csv",
        GOOD.encode("utf-16"),
        (),
        "FILE should be UTF-8 text. Found byte 0xff in line 1, as UTF-16 begins. Give "
        "data.encoding=utf-16, or save it as UTF-8.",
    ),
    (
        "utf-16 without mark",
        "data.csv",
        GOOD.encode("utf-16-le"),
        (),
        "FILE should be valid CSV. Found: a NUL character at position 1, a sign of UTF-16: try "
        "data.encoding=utf-16.",
    ),
    (
        "latin-1",
        "data.csv",
        (GOOD + "利益 rose,up,0.5,train\n").encode() + "Mäki,up,1,train\n".encode("latin-1"),
        (),
        "FILE should be UTF-8 text. Found byte 0xe4 in line 31, which Windows-1252 (Latin-1) reads "
        "as 'ä' in 'Mäki,up,1,train'. If that is right, give data.encoding=windows-1252, or save "
        "it as UTF-8.",
    ),
    (
        "latin-1 and no header",
        "data.csv",
        ("Mäki rose in all of the quarters,up\nfell,利益\n").encode().replace(b"\xc3", b""),
        (),
        "FILE should be UTF-8 text. Found byte 0xa4 in line 1, which Windows-1252 (Latin-1) reads "
        "as '¤' in 'M¤ki rose in all'. If that is right, give data.encoding=windows-1252, or save "
        "it as UTF-8. The first line ('M¤ki rose in all of the quarters', 'up') looks like data: "
        "put the columns' names above it.",
    ),
    (
        "no header",
        "data.csv",
        "up,rose\ndown,fell\nup,grew\n",
        (),
        "`text` should be a column of FILE. Found: up, rose. The first line ('up', 'rose') looks "
        "like data: put the columns' names above it. Add it, or name another column with "
        "data.text=COLUMN.",
    ),
    (
        "encoding",
        "data.csv",
        GOOD,
        ("data.encoding=utf-61",),
        "`data.encoding` should be a text encoding, such as utf-8 or windows-1252. Found 'utf-61'.",
    ),
    (
        "semicolons and commas",
        "data.csv",
        GOOD.replace(",", ";") + "profit, rose,up,0.5,train\n",
        (),
        "FILE should be valid CSV. Found: 1 cells in line 30 under 4 column names.",
    ),
    (
        "tsv as csv",
        "data.tsv",
        GOOD,
        (),
        "`text` should be a column of FILE. Found: text,label,score,split; the first line seems to "
        "be separated by commas, where a .csv file should have commas and a .tsv file tabs. Add "
        "it, or name another column with data.text=COLUMN.",
    ),
    (
        "json cut",
        "data.json",
        json.dumps(RECORDS)[:-5],
        (),
        "FILE should be valid JSON. Found: ...",
    ),
    (
        "json object",
        "data.json",
        json.dumps(RECORDS[0]),
        (),
        "FILE should be valid JSON. Found: no list of rows at the top.",
    ),
    (
        "json numbers",
        "data.json",
        "[1, 2]",
        (),
        "FILE should be valid JSON. Found: row 1 is no object with named values.",
    ),
    (
        "json twice",
        "data.json",
        '[{"text": "a", "text": "b", "label": "up"}]',
        (),
        "FILE should be valid JSON. Found: one name twice among text, text, label.",
    ),
    (
        "json deep",
        "data.json",
        "[" * 100000,
        (),
        "FILE should be valid JSON. Found: values nested too deeply.",
    ),
    (
        "json surrogate",
        "data.json",
        '[{"text": "profit \\ud83d", "label": "up"}]',
        (),
        "FILE should be valid JSON. Found: half of a surrogate pair (\\ud800 to \\udfff alone).",
    ),
    (
        "jsonl line",
        "data.jsonl",
        '{"text": "a", "label": "up"}\n{"text": "b"',
        (),
        "FILE should be valid JSONL. Found: line 2: Expecting ',' delimiter.",
    ),
    (
        "jsonl list",
        "data.jsonl",
        "[1, 2]\n",
        (),
        "FILE should be valid JSONL. Found: row 1 is no object with named values.",
    ),
    (
        "jsonl huge number",
        "data.jsonl",
        '{"text": "a", "label": 1' + "0" * 5000 + "}\n",
        (),
        "FILE should be valid JSONL. Found: line 1: ...",
    ),
    (
        "no parquet",
        "data.parquet",
        b"PAR1 but not really PAR1",
        (),
        "FILE should be valid PARQUET. Found: ...",
    ),
    (
        "parquet twice",
        "data.parquet",
        pq([pa.array(["a"]), pa.array(["b"])], ["text", "text"]),
        (),
        "FILE should be valid PARQUET. Found: two columns of one name among text, text.",
    ),
    (
        "parquet bytes",
        "data.parquet",
        pq({"text": [b"a"], "label": ["up"], "score": [1.0]}),
        (),
        "`text` of FILE should be text, or empty where it is missing. Found b'a' in row 1. Correct "
        "it, or name another column with data.text=COLUMN.",
    ),
    (
        "parquet list label",
        "data.parquet",
        pq({"text": ["a"], "label": [["up"]], "score": [1.0]}),
        (),
        "`label` of FILE should be a class name, or empty where it is missing. Found "
        "['up'] in row 1. Correct it, or name another column with data.cls=COLUMN.",
    ),
    (
        "txt without mark",
        "data.txt",
        "profit rose\n",
        ("--tasks", "cls"),
        "FILE should be valid TXT. Found: line 1 has no @ before its label.",
    ),
    (
        "suffix",
        "data.xls",
        "PK",
        (),
        "FILE should end in one of .csv, .json, .jsonl, .parquet, .tsv, .txt, .xlsx. Found .xls.",
    ),
    (
        "no suffix",
        "data",
        "text\n",
        (),
        "FILE should end in one of .csv, .json, .jsonl, .parquet, .tsv, .txt, .xlsx. Found no "
        "suffix.",
    ),
    (
        "no text",
        "data.csv",
        "headline,label,score\na,up,1\n",
        (),
        "`text` should be a column of FILE. Found: headline, label, score. Add it, or "
        "name another column with data.text=COLUMN.",
    ),
    (
        "no task",
        "data.csv",
        "text,other\na,b\n",
        (),
        "`label` or `score` should be a column of FILE. Found: text, other. Add it, or "
        "name another column with data.cls=COLUMN or data.reg=COLUMN, or learn other columns with "
        "--tasks COLUMN,COLUMN.",
    ),
    (
        "column absent",
        "data.csv",
        GOOD,
        ("data.cls=sentiment",),
        "`sentiment` should be a column of FILE. Found: text, label, score, split. Add "
        "it, or name another column with data.cls=COLUMN.",
    ),
    (
        "split absent",
        "data.csv",
        GOOD,
        ("data.split=part",),
        "`part` should be a column of FILE. Found: text, label, score, split. Add it, "
        "or name another column with data.split=COLUMN.",
    ),
    (
        "slice absent",
        "data.csv",
        GOOD,
        ("data.slices=[region]",),
        "`data.slices` should name columns of the data. Found 'region'. There are: id, "
        "text, split.",
    ),
    (
        "no label",
        "data.csv",
        HEAD + "a,,0.5,train\n" * 9,
        (),
        "`label` should have a value in some row with text. Found only empty cells. "
        "Fill some, or name another column with data.cls=COLUMN.",
    ),
    (
        "no score",
        "data.csv",
        HEAD + "a,up,,train\n" * 9,
        (),
        "`score` should have a value in some row with text. Found only empty cells. "
        "Fill some, or name another column with data.reg=COLUMN.",
    ),
    (
        "no row with text",
        "data.csv",
        HEAD + ",up,0.5,train\n" * 9,
        (),
        "`label` should have a value in some row with text. Found only empty cells. "
        "Fill some, or name another column with data.cls=COLUMN.",
    ),
    (
        "one class",
        "data.csv",
        GOOD.replace(",down,", ",up,"),
        (),
        "`label` should have at least two classes in the train split. Found: up. Name "
        "the label column of cls with cls.column=COLUMN.",
    ),
    (
        "unseen class",
        "data.csv",
        GOOD + "sales,sideways,0.1,test\n",
        (),
        "`label` should have every class in the train split. Found 'sideways' only in "
        "the test split (1 row). Add training rows of it, or remove it.",
    ),
    (
        "one score",
        "data.csv",
        GOOD.replace("-0.5", "0.5"),
        (),
        "`score` should vary in the train split. Found 0.5 in all 20 rows. Name another"
        " column with reg.column=COLUMN.",
    ),
    (
        "tiny scores",
        "data.csv",
        GOOD.replace("-0.5", "1e-300").replace("0.5", "2e-300"),
        (),
        "`score` should vary in the train split. Found 2e-300 in all 20 rows. Name "
        "another column with reg.column=COLUMN.",
    ),
    (
        "score nan",
        "data.csv",
        GOOD + "sales,up,nan,train\n",
        ("data.missing=[]",),
        "`score` of FILE should be a finite number, or empty where it is missing. Found"
        " 'nan' in row 29. If it means missing, give data.missing=[nan]. Correct it, or "
        "name another column with data.reg=COLUMN.",
    ),
    (
        "score inf",
        "data.csv",
        GOOD + "sales,up,-inf,train\n",
        (),
        "`score` of FILE should be a finite number, or empty where it is missing. Found"
        " '-inf' in row 29. Correct it, or name another column with data.reg=COLUMN.",
    ),
    (
        "score huge",
        "data.csv",
        GOOD + "sales,up,1e300,train\n",
        (),
        "`score` of FILE should be a number of at most 3.4e+38 in size. Found '1e300' "
        "in row 29. Correct it, or name another column with data.reg=COLUMN.",
    ),
    (
        "score word",
        "data.csv",
        GOOD + "sales,up,many,train\n",
        (),
        "`score` of FILE should be a finite number, or empty where it is missing. Found"
        " 'many' in row 29. Correct it, or name another column with data.reg=COLUMN.",
    ),
    (
        "score comma",
        "data.csv",
        GOOD + 'sales,up,"0,5",train\n',
        (),
        "`score` of FILE should be a finite number, or empty where it is missing. Found"
        " '0,5' in row 29. Correct it, or name another column with data.reg=COLUMN.",
    ),
    (
        "score underscore",
        "data.csv",
        GOOD + "sales,up,1_000,train\n",
        (),
        "`score` of FILE should be a finite number, or empty where it is missing. Found"
        " '1_000' in row 29. Correct it, or name another column with data.reg=COLUMN.",
    ),
    (
        "score true",
        "data.json",
        json.dumps([*RECORDS, {"text": "a", "score": True}]),
        (),
        "`score` of FILE should be a finite number, or empty where it is missing. Found"
        " True in row 21. Correct it, or name another column with data.reg=COLUMN.",
    ),
    (
        "score huge integer",
        "data.json",
        json.dumps([*RECORDS, {"text": "a", "score": 10**400}]),
        (),
        "`score` of FILE should be a finite number, or empty where it is missing. Found"
        " 100000000000000000000000000000000000000000000000000000000000… in row 21. "
        "Correct it, or name another column with data.reg=COLUMN.",
    ),
    (
        "label nan",
        "data.csv",
        GOOD + "sales,nan,0.1,train\n",
        ("data.missing=[]",),
        "`label` of FILE should be a class name, or empty where it is missing. Found "
        "'nan' in row 29. If it means missing, give data.missing=[nan]. Correct it, or "
        "name another column with data.cls=COLUMN.",
    ),
    (
        "label list",
        "data.json",
        json.dumps([*RECORDS, {"text": "a", "label": ["up"]}]),
        (),
        "`label` of FILE should be a class name, or empty where it is missing. Found "
        "['up'] in row 21. Correct it, or name another column with data.cls=COLUMN.",
    ),
    (
        "split word",
        "data.csv",
        GOOD + "sales,up,1,someday\n",
        (),
        "`split` of FILE should be train, validation or test (or training, valid, val, "
        "dev, eval, testing). Found 'someday' in row 29. Correct it, or name another "
        "column with data.split=COLUMN.",
    ),
    (
        "few texts",
        "data.csv",
        "text,label,score\na,up,1\nb,down,2\n",
        (),
        "`label` should have enough texts to take a test split from train, which keeps one text of "
        "each class. Found 2 texts with a value, 2 of 2 classes in train. Add rows, or mark some "
        "as test in the split column, or leave this task out.",
    ),
    (
        "few scores",
        "data.csv",
        "text,label,score\n"
        + "".join(f"rose {i},{'ab'[i % 2]},{i if i < 2 else ''}\n" for i in range(40)),
        (),
        "`score` should have enough texts to take a validation split from train, which keeps one "
        "score. Found 2 texts with a value, 1 in train. Add rows, or mark some as validation in "
        "the split column, or leave this task out.",
    ),
    (
        "scores as classes",
        "data.csv",
        "text,label\n" + "".join(f"rose {i},{i / 1000 - 0.05:.4f}\n" for i in range(40)),
        ("--tasks", "cls"),
        "`label` should name classes that several texts share. Found 40 different values for 40 "
        "texts, numbers with decimals such as -0.0500, which look like a score. Learn them with "
        "--tasks cls:regression cls.column=label, or cut them into classes with cls.column=label "
        "cls.cut=3.",
    ),
    (
        "identifiers as classes",
        "data.csv",
        "text,label\n" + "".join(f"rose {i},row-{i}\n" for i in range(1600)),
        ("--tasks", "cls"),
        "`label` should name classes that several texts share. Found 1600 different values for "
        "1600 texts, such as 'row-0', which look like an identifier or free text. Name the column "
        "of the classes with cls.column=COLUMN.",
    ),
    (
        "missing by another word",
        "data.csv",
        GOOD + "sales,up,NA,train\n",
        (),
        "`score` of FILE should be a finite number, or empty where it is missing. Found 'NA' in "
        "row 29. If it means missing, give "
        "data.missing=[NA,N/A,n/a,#N/A,<NA>,NaN,nan,None,null]. Correct it, or "
        "name another column with data.reg=COLUMN.",
    ),
    (
        "unknown key",
        "data.csv",
        GOOD,
        ("train.lrr=1",),
        "`train.lrr` is not a setting. Did you mean `train.lr`?",
    ),
    (
        "unknown section",
        "data.csv",
        GOOD,
        ("trian.lr=1",),
        "`trian` is not a setting. Did you mean `train`?",
    ),
    (
        "section as value",
        "data.csv",
        GOOD,
        ("train=5",),
        "`train` should hold KEY: VALUE pairs. Found 5.",
    ),
    (
        "below a value",
        "data.csv",
        GOOD,
        ("seed.x=1",),
        "`seed` should be a whole number. Found {'x': 1}.",
    ),
    (
        "no equals",
        "data.csv",
        GOOD,
        ("train.lr",),
        "An override should look like KEY=VALUE. Found 'train.lr'.",
    ),
    ("no key", "data.csv", GOOD, ("=5",), "An override should look like KEY=VALUE. Found '=5'."),
    (
        "negative rate",
        "data.csv",
        GOOD,
        ("train.lr=-1",),
        "`train.lr` should be above 0. Found -1.",
    ),
    (
        "rate nan",
        "data.csv",
        GOOD,
        ("train.lr=.nan",),
        "`train.lr` should be a finite number. Found nan.",
    ),
    (
        "rate word",
        "data.csv",
        GOOD,
        ("train.lr=fast",),
        "`train.lr` should be a number. Found 'fast'.",
    ),
    (
        "no epoch",
        "data.csv",
        GOOD,
        ("train.epochs=0",),
        "`train.epochs` should be at least 1. Found 0.",
    ),
    (
        "half an epoch",
        "data.csv",
        GOOD,
        ("train.epochs=0.5",),
        "`train.epochs` should be a whole number. Found 0.5.",
    ),
    (
        "no batch",
        "data.csv",
        GOOD,
        ("train.batch_size=0",),
        "`train.batch_size` should be at least 1. Found 0.",
    ),
    (
        "seed word",
        "data.csv",
        GOOD,
        ("--seed", "4294967296"),
        "`seed` should be below 4294967296. Found 4294967296.",
    ),
    (
        "no task named",
        "data.csv",
        GOOD,
        ("--tasks", ""),
        "`tasks` should have names of at most 60 letters, digits, _ and -, that begin with a "
        "letter. Found ''. Choose such a name and give its column with NAME.column=COLUMN.",
    ),
    (
        "task twice",
        "data.csv",
        GOOD,
        ("--tasks", "cls,cls"),
        "`tasks` should name each task once, for example cls,reg. Found ['cls', 'cls'].",
    ),
    (
        "task unknown",
        "data.csv",
        GOOD,
        ("--tasks", "cls,sentiment"),
        "`sentiment` should be a column of FILE. Found: text, label, score, split. Add it, or name "
        "another column with data.sentiment=COLUMN.",
    ),
    (
        "fp16",
        "data.csv",
        GOOD,
        ("encoder.precision=fp16",),
        "`encoder.precision`: fp16 overflows in Phi's attention; use 'auto', 'fp32' or "
        "'bf16'. Found 'fp16'.",
    ),
    (
        "nonfinite",
        "data.csv",
        GOOD,
        ("train.nonfinite=ignore",),
        "`train.nonfinite` should be stop or skip. Found 'ignore'.",
    ),
    (
        "quantise",
        "data.csv",
        GOOD,
        ("--quantize", "int4"),
        "`encoder.quantize` should be none, nf4 or int8. Found 'int4'.",
    ),
    (
        "device",
        "data.csv",
        GOOD,
        ("--device", "nowhere"),
        "`device` should be one of this machine. Found 'nowhere': ...",
    ),
    (
        "device without numbers",
        "data.csv",
        GOOD,
        ("--device", "meta"),
        "`device` should be one of this machine. Found 'meta': ...",
    ),
    (
        "device absent",
        "data.csv",
        GOOD,
        ("--device", "cpu:x"),
        "`device` should be one of this machine. Found 'cpu:x': ...",
    ),
    (
        "weighting",
        "data.csv",
        GOOD,
        ("--weighting", "best"),
        "`weighting` should be one of dao, equal, gls, uw, uw_so, dwa, rlw, gradnorm, "
        "famo, dbmtl, imtl_l, norm0, autoscale, fixed:W,W,..., torchjd:NAME. Found 'best'",
    ),
    (
        "weights",
        "data.csv",
        GOOD,
        ("--weighting", "fixed:1"),
        "`weighting` `fixed` should have a weight for each of cls, reg, in order. Found 'fixed:1'.",
    ),
    (
        "growth order",
        "data.csv",
        GOOD,
        ("--dendrites", "dendrites.grow_at=[0.6, 0.3]"),
        "`dendrites.grow_at` should be one or more ascending fractions of the budget. "
        "Found [0.6, 0.3].",
    ),
    (
        "control alone",
        "data.csv",
        GOOD,
        ("dendrites.control=sham",),
        "`dendrites`: control 'sham' should stand in for dendrites. Found none switched"
        " on. Add --dendrites, or leave `control` out. Found {'control': 'sham'}.",
    ),
    (
        "linear frozen",
        "data.csv",
        GOOD,
        ("--dendrites", "dendrites.where=linear"),
        "`dendrites.where=linear` should find trained linear layers. Found a frozen "
        "encoder: each dendrite would copy frozen weights, 840 million of them for "
        "Phi-2, 1.7 GB in bf16. Set encoder.tune=full for a small encoder, or "
        "dendrites.where=lora_B+heads.",
    ),
    (
        "prefix cache alone",
        "data.csv",
        GOOD,
        ("encoder.prefix_cache=true",),
        "`encoder.prefix_cache` should have frozen layers to cache. Found adapters in "
        "every layer. Set encoder.lora.last_layers, for example to half of the layers.",
    ),
    (
        "prior",
        "data.csv",
        GOOD,
        ("dao.priors={mood: 1}",),
        "`dao.priors` names ['mood'], which is not among `tasks`. These are cls, reg. Name one of "
        "them.",
    ),
    (
        "nul in a name",
        "data.csv",
        GOOD,
        ('name="a\\0b"',),
        "`name`: text should have no NUL and no half of a surrogate pair. Found 'a\\x00b'.",
    ),
    (
        "encoder folder",
        "data.csv",
        GOOD,
        ("--encoder", "/nowhere/at/all"),
        "`encoder.name` should be a folder or a hub id (owner/name). Found "
        "'/nowhere/at/all', which is no folder here. Correct the path: --encoder FOLDER of "
        "dao train, encoder.name=FOLDER of dao evaluate.",
    ),
    (
        "encoder name",
        "data.csv",
        GOOD,
        ("--encoder", "a/b/c"),
        "`encoder.name` should be a folder or a hub id (owner/name). Found 'a/b/c', "
        "which is no folder here. Correct the path: --encoder FOLDER of dao train, "
        "encoder.name=FOLDER of dao evaluate.",
    ),
]


def answered(result: Result, code: int, line: str) -> None:
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    last = result.stderr.strip().splitlines()[-1]
    own, ellipsis, _ = line.partition("...")
    assert last.startswith(own) if ellipsis else last == own


def train(*arguments: object) -> Result:
    from train import app

    return CliRunner().invoke(app, list(map(str, arguments)))


def evaluate(*arguments: object) -> Result:
    from evaluate import app

    return CliRunner().invoke(app, list(map(str, arguments)))


def test_the_table_is_long_enough():
    assert len({name for name, *_ in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize(
    ("name", "content", "arguments", "line"),
    [pytest.param(*case, id=name) for name, *case in CASES],
)
def test_bad_input_gets_its_line(tmp_path: Path, name: str, content, arguments, line: str):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = train("--data", file, "--output", tmp_path / "run", *arguments, "--dry-run")
    answered(result, 1, "error: " + line.replace("FILE", str(file)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (None, "The config file should exist. Found nothing at FILE."),
        (b"seed: [", "The config file FILE should be YAML. Found: ..."),
        (b"seed: 2001-99-99", "`seed` should be a whole number. Found '2001-99-99'."),
        (b"[" * 10000, "The config file FILE should be YAML. Found: ..."),
        (b"- seed", "The config file FILE should hold KEY: VALUE pairs. Found ['seed']."),
        (b"seed: \xff", "The config file FILE cannot be read: ..."),
        (b"1: 2", "`1` should have names that are text. Found 1."),
        (b"train: {lr: {}}", "`train.lr` should be a number. Found {}."),
        (b"data: {sources: [{}]}", "`data.sources.0` should be text. Found {}."),
        (b'encoder: {name: "\\ud800"}', "`encoder.name`: text should have no NUL ..."),
    ],
)
def test_a_bad_config_file_gets_its_line(tmp_path: Path, content: bytes | None, answer: str):
    file = tmp_path / "config.yaml"
    if content is not None:
        file.write_bytes(content)
    answered(train("--config", file, "--dry-run"), 1, "error: " + answer.replace("FILE", str(file)))


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (("--data", "gone.csv"), "gone.csv should be a file or a hub data set (owner/name). ..."),
        (("--data", "."), ". should be a file. Found a folder. Name one of the files in it."),
        (("--data", "/dev/zero"), "/dev/zero should be a file or a hub data set (owner/name). ..."),
        (
            ("--resume", "nowhere"),
            "A run folder should hold config.yaml. Found none in nowhere. ...",
        ),
        (("--output", "a\0b"), "`output`: text should have no NUL ..."),
    ],
)
def test_a_bad_path_gets_its_line(tmp_path: Path, monkeypatch, arguments, answer: str):
    monkeypatch.chdir(tmp_path)
    answered(train(*arguments), 1, "error: " + answer)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (train, ("--daoo",)),
        (train, ("--seed", "one")),
        (train, ("--resume", "run", "--seed", "1")),
        (train, ("--resume", "run", "--overwrite")),
        (train, ("--dao", "--weighting", "uw")),
        (evaluate, ()),
        (evaluate, ("run", "--output", "new.csv")),
        (evaluate, ("run", "--text", "a", "--data", "new.csv")),
        (evaluate, ("run", "--engine", "fast")),
        (evaluate, ("run", "--format", "xml")),
    ],
)
def test_wrong_usage_exits_with_2(command, arguments):
    result = command(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        ("headline\na\n", "`text` should be a column of FILE. Found: headline. ..."),
        (
            'text\na\n""\n',
            "`text` of FILE should have a text in every row. Found none in row 2. ...",
        ),
        ("text\n", "FILE should have rows of data. Found none."),
    ],
)
def test_texts_to_predict_that_are_none(full_run: Path, tmp_path: Path, content: str, answer: str):
    file, output = tmp_path / "new.csv", tmp_path / "predictions.csv"
    file.write_text(content)
    result = evaluate(full_run, "--input", file, "--output", output)
    answered(result, 1, "error: " + answer.replace("FILE", str(file)))
    assert not output.exists()


@pytest.mark.parametrize("place", ["nowhere/out.csv", ".", "pipe"])
def test_predictions_replace_no_device_and_no_folder(full_run: Path, tmp_path: Path, place: str):
    import os

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "new.csv").write_text("text\na\n")
    result = evaluate(full_run, "--input", tmp_path / "new.csv", "--output", tmp_path / place)
    answered(result, 1, "error: The output should be a file in a folder that can be written. ...")
    assert (tmp_path / "pipe").is_fifo()
