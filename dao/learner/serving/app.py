"""The addresses of a server: the page, health, the model, texts, files, explanations."""

# Annotations are read by FastAPI, so they are not postponed.
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from fastapi import FastAPI, File, Form, HTTPException, Query, Request, UploadFile
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

import dao
from dao.errors import UserError
from dao.learner.basics.wording import one_line
from dao.learner.console.predictions import Columns, completed
from dao.learner.data.reading.table import Columns as Reading
from dao.learner.data.texts import Texts
from dao.learner.inference.load import Model, Text
from dao.learner.serving.about import about
from dao.learner.serving.answers import answered, own_count
from dao.learner.serving.explanations import check_task, explanation, unexplained
from dao.learner.serving.limits import Limits
from dao.learner.serving.problems import Json, explain_errors
from dao.learner.serving.turns import Turns
from dao.learner.serving.uploads import (
    Encoding,
    TooMuchError,
    Upload,
    as_csv,
    as_rows,
    read_upload,
    shown_name,
    told_without,
)

__all__ = ["Service", "make_app"]

STATIC = files("dao.learner.serving") / "static"
PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    **{
        f"/{name}": (name, "text/javascript; charset=utf-8")
        for name in ("page.js", "file.js", "quality.js", "why.js")
    },
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
GONE = 499
"""Status of an answer that nobody waits for, as nginx has it."""
NOTES = "X-Dao-Notes"
"""Header of a CSV answer with the notes, a JSON list in ASCII."""
NOTED = 4000
"""Characters of that header."""
COLUMNS = "X-Dao-Columns"
"""Header of a CSV answer with the number of columns of the file; the predictions follow them."""


class Problem(BaseModel):
    """What every refused request gets."""

    error: str


class Asked(BaseModel):
    """Texts to predict."""

    model_config = ConfigDict(extra="forbid")
    texts: Annotated[list[str], Field(min_length=1, examples=[["a text", "another"]])]


class AskedPairs(BaseModel):
    """Pairs of texts to predict."""

    model_config = ConfigDict(extra="forbid")
    texts: Annotated[
        list[tuple[str, str]], Field(min_length=1, examples=[[["a text", "its pair"]]])
    ]


class Answered(BaseModel):
    """A row per text, in order, with the columns of predictions.csv; and notes on them."""

    rows: list[dict[str, Any]]
    notes: list[str]


class AskedWhy(BaseModel):
    """The text and the task of an answer to explain."""

    model_config = ConfigDict(extra="forbid")
    text: Annotated[str, Field(examples=["a text"])]
    task: Annotated[str, Field(max_length=1000)]


class AskedWhyPair(BaseModel):
    """The pair of texts and the task of an answer to explain."""

    model_config = ConfigDict(extra="forbid")
    text: Annotated[tuple[str, str], Field(examples=[["a text", "its pair"]])]
    task: Annotated[str, Field(max_length=1000)]


class Token(BaseModel):
    """A token of a text and what it adds."""

    token: str
    attribution: float | None


class Explained(BaseModel):
    """What each token adds to an answer: the attributions sum to `value` - `baseline` + `gap`."""

    text: str
    text_pair: str | None = None
    task: str
    answer: str | int | float | None
    of: Annotated[str, Field(description="What the numbers are of.")]
    tokens: list[Token]
    value: Annotated[float | None, Field(description="Of the text.")]
    baseline: Annotated[float | None, Field(description="Of padding in place of its tokens.")]
    gap: Annotated[float | None, Field(description="What too few steps miss.")]
    steps: Annotated[int, Field(description="Of the integral.")]
    notes: list[str]


class Service:
    """A model, and what its server does with requests.

    Args:
        model: Of a finished run.
        columns: How a file is read, from KEY=VALUE settings; raises UserError where they are wrong.
        engine: What runs the model.
        limits: Of the requests.
        coverage: Share of texts whose sets and intervals hold the truth; None for no such columns.

    Raises:
        UserError: As `Model.covered`.
    """

    def __init__(
        self,
        model: Model,
        columns: Callable[[Sequence[str]], Reading],
        engine: str = "eager",
        limits: Limits | None = None,
        coverage: float | None = None,
    ) -> None:
        self.own = model
        self.columns = columns
        self.limits = limits = Limits() if limits is None else limits
        self.turns = Turns(limits.waiting, limits.tables, limits.explanations)
        self.coverage = coverage
        names = list(columns([]).texts)
        told = about(model, engine, names, coverage)
        notes = [] if coverage is None else model.covered(coverage).notes()
        self.unexplained = unexplained(engine)
        explains = {"explains": not self.unexplained, "unexplained": self.unexplained}
        covered = {"coverage": coverage, "notes": notes}
        self.said = {**told, **covered, **explains, "limits": self.limits.told()}

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """As long as the server runs."""
        yield
        self.turns.close()

    async def health(self) -> Json:
        """Whether the server answers, and how many requests it is at."""
        return Json({"status": "ok", "waiting": self.turns.waiting})

    async def about(self) -> Json:
        """The run: its tasks with their figures on test beside those of plain models, its data."""
        return Json(self.said)

    async def texts(self, asked: Asked) -> Json:
        """What every task makes of each text."""
        return await self._answer(asked.texts)

    async def pairs(self, asked: AskedPairs) -> Json:
        """What every task makes of each pair of texts."""
        return await self._answer(asked.texts)

    async def _answer(self, texts: Sequence[Text]) -> Json:
        most = self.limits.texts
        if len(texts) > most:
            raise TooMuchError(
                f"A request should have at most {most:,} texts. Found {len(texts):,}. Send it in "
                f"parts, or as a file."
            )
        for number, text in enumerate(texts, start=1):
            self._check_size(text, f", input {number}")
        with self.turns.place():
            found = await self.turns.model(partial(answered, self.own, texts, self.coverage))
        return Json({"rows": found.rows, "notes": found.notes})

    async def why(self, asked: AskedWhy) -> Json:
        """How much each token of a text adds to the answer of one task (integrated gradients)."""
        return await self._explain(asked.text, asked.task)

    async def why_pair(self, asked: AskedWhyPair) -> Json:
        """How much each token of a pair adds to the answer of one task (integrated gradients)."""
        return await self._explain(asked.text, asked.task)

    async def _explain(self, text: Text, task: str) -> Json:
        if self.unexplained:
            raise UserError(self.unexplained)
        check_task(self.own.tasks, task)
        self._check_size(text)
        work = partial(explanation, self.own, text, task, self.limits.steps)
        with self.turns.place_to_explain():
            return Json(await self.turns.model(work))

    def _check_size(self, text: Text, place: str = "") -> None:
        longest = self.limits.characters
        size = len(text) if isinstance(text, str) else max(map(len, text))
        if size > longest:
            raise TooMuchError(
                f"A text should have at most {longest:,} characters. Found {size:,}{place}. "
                f"Shorten it."
            )

    async def file(
        self,
        request: Request,
        file: Annotated[UploadFile, File(description="A .csv, .tsv or .xlsx file.")],
        text: Annotated[
            str,
            Form(
                alias="data.text",
                max_length=500,
                description="The column of the text, or [COLUMN,COLUMN] of a pair, as in "
                "`dao predict RUN data.text=COLUMN`; default: that of the run.",
            ),
        ] = "",
        encoding: Annotated[
            Encoding, Form(alias="data.encoding", description="Of a CSV or TSV file.")
        ] = "utf-8",
        form: Annotated[
            Literal["csv", "json"], Query(alias="format", description="Of the answer.")
        ] = "csv",
    ) -> Response:
        """The columns of a file in their order, then the predictions, as CSV or JSON."""
        asked = [f"data.text={text}"] if text else []
        asked = [*asked, f"data.encoding={encoding}"]
        upload = Upload(file.file, shown_name(file.filename))
        with self.turns.place():
            async with self.turns.tables:
                with TemporaryDirectory(prefix="dao-serve-") as place:
                    read = partial(self._read, upload, Path(place), asked)
                    texts = await self.turns.files(read)
                    parts, notes = await self._complete(texts, request)
                    table = partial(_table, parts, notes, len(texts.names), form)
                    return await self.turns.files(table)

    def _read(self, upload: Upload, place: Path, asked: Sequence[str]) -> Texts:
        with told_without({str(self.own.folder.path): "the run"}):
            columns = self.columns(asked)
        return read_upload(upload, place, columns, self.limits)

    async def _complete(self, texts: Texts, request: Request) -> tuple[list[Columns], list[str]]:
        own, notes = own_count(self.own), [*texts.said]
        answers = partial(own.answers, coverage=self.coverage)
        rest = completed(texts, answers, notes.extend, self.limits.part)
        parts: list[Columns] = []
        while (part := await self.turns.model(partial(next, rest, None))) is not None:
            parts.append(part)
            if await request.is_disconnected():  # as by the button "Cancel" of the page
                raise HTTPException(GONE, "The client has left.")
        return parts, [*notes, *own.notes()]


def make_app(service: Service) -> FastAPI:
    """The addresses of a service, with their description in /openapi.json.

    The pages that FastAPI makes of it are left out, because they load scripts from other hosts.
    """
    app = FastAPI(
        title=f"dao: {service.said['name']}",
        version=dao.__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=service.lifespan,
    )
    pairs = service.own.pairs
    text = '["a text", "its pair"]' if pairs else '"a text"'
    task = json.dumps(next(iter(service.own.tasks)), ensure_ascii=False)
    explain_errors(
        app,
        {"/predict": f'{{"texts": [{text}]}}', "/explain": f'{{"text": {text}, "task": {task}}}'},
    )
    refused: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem} for status in (400, 403, 408, 413, 415, 422, 503)
    }

    def add(path: str, endpoint: Callable[..., Awaitable[Response]], **more: Any) -> None:  # noqa: ANN401
        app.add_api_route(path, endpoint, response_class=Json, **more)

    for path, (name, kind) in PAGE.items():
        content = (STATIC / name).read_bytes()
        app.add_route(path, _served(content, kind), ["GET"], include_in_schema=False)
    add("/health", service.health)
    add("/about", service.about)
    ask = service.pairs if pairs else service.texts
    answer: dict[int | str, dict[str, Any]] = {200: {"model": Answered}, **refused}
    add("/predict", ask, methods=["POST"], responses=answer)
    add("/predict/file", service.file, methods=["POST"], responses=refused)
    answer = {200: {"model": Explained}, **refused}
    why = service.why_pair if pairs else service.why
    add("/explain", why, methods=["POST"], responses=answer)
    return app


def _served(content: bytes, kind: str) -> Callable[[Any], Response]:
    return lambda _: Response(content, media_type=kind)


def _table(parts: Sequence[Columns], notes: Sequence[str], own: int, form: str) -> Response:
    """Columns as the answer to a file, of which the first `own` are those of the file."""
    if form == "json":
        names = list(parts[0])
        found = {"columns": names, "predicted": names[own:], "rows": as_rows(parts)}
        return Json({**found, "notes": list(notes)})
    told = json.dumps([one_line(note)[: NOTED // 10] for note in notes])
    headers = {
        COLUMNS: str(own),
        NOTES: told if len(told) <= NOTED else "[]",
        "Content-Disposition": 'attachment; filename="predictions.csv"',
    }
    return Response(as_csv(parts), media_type="text/csv; charset=utf-8", headers=headers)
