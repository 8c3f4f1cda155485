"""Whatever is wrong with a request, as a status and `{"error": "one line"}`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from dao.errors import UserError
from dao.learner.basics.frozen import refused
from dao.learner.basics.wording import one_line, short, shown
from dao.learner.console.terminal import printable
from dao.learner.serving.turns import BusyError
from dao.learner.serving.uploads import TooMuchError

__all__ = ["AGAIN", "UPLOAD", "Json", "explain_errors", "problem"]

UPLOAD = "/predict/file"
"""The address that takes a form with a file."""

LONGEST = 600
"""Characters of a line."""
AGAIN = 2
"""Seconds after which a client that found the server full is asked to come again."""
SAID = {
    404: "There is nothing at this address. GET /openapi.json lists what there is.",
    405: "This address takes another method. GET /openapi.json says which.",
}
AS_A_FORM = "The request should be a form with a file (multipart/form-data)."
SEND = "Send it as curl does with: -F file=@new.csv"
BAD_FORMS = {
    "Missing boundary": "one whose Content-Type has no boundary between its parts",
    "Invalid multipart": "parts that cannot be told apart",
    "The Content-Disposition": "a part without a name",
    "Too many files": "too many files",
    "Too many fields": "too many parts",
    "Part exceeded": "a part of text that is too large",
}
"""How the parser of forms begins its messages, and what they mean."""
UNREADABLE = {
    UnicodeDecodeError: "bytes that are no UTF-8",
    RecursionError: "brackets within brackets, too many to be read",
    ValueError: "a number of too many digits",
}
"""What Python's reader of JSON raises beside its own errors."""


class Json(JSONResponse):
    """JSON in UTF-8, whatever characters a text has."""

    def render(self, content: Any) -> bytes:  # noqa: ANN401
        """The bytes of an answer; half of a surrogate pair becomes a question mark."""
        return json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def problem(status: int, line: object, headers: Mapping[str, str] | None = None) -> Json:
    """The answer to a request that cannot be served.

    Args:
        status: Of HTTP.
        line: What is wrong and what to do.
        headers: Of the answer, beside the usual ones.
    """
    text = printable(one_line(line))
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return Json({"error": text}, status, dict(headers or {}))


def explain_errors(app: FastAPI, examples: Mapping[str, str]) -> None:
    """Let the app answer every error with one line.

    Args:
        app: The app.
        examples: Address that takes JSON to a body that is right.
    """

    async def turned_away(request: Request, error: Exception) -> Json:
        assert isinstance(error, HTTPException)
        line = SAID.get(error.status_code, error.detail)
        if error.status_code == 400:
            line = _unread(request.url.path, error, examples) or line
        return problem(error.status_code, line, error.headers)

    async def invalid(request: Request, error: Exception) -> Json:
        assert isinstance(error, RequestValidationError)
        return _invalid(request, error, examples)

    async def unusable(_: Request, error: Exception) -> Json:
        return problem(413 if isinstance(error, TooMuchError) else 422, error)

    async def busy(_: Request, __: Exception) -> Json:
        line = f"The queue is full. Ask again in {AGAIN} seconds."
        return problem(503, line, {"Retry-After": str(AGAIN)})

    async def failed(_: Request, __: Exception) -> Json:
        return problem(500, "The server failed at this request; its log says how.")

    app.add_exception_handler(HTTPException, turned_away)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(UserError, unusable)
    app.add_exception_handler(BusyError, busy)
    app.add_exception_handler(Exception, failed)


def _unread(path: str, error: HTTPException, examples: Mapping[str, str]) -> str:
    """What is wrong with a body that could not be read; empty where another thing is wrong."""
    if path == UPLOAD:
        said = (words for start, words in BAD_FORMS.items() if error.detail.startswith(start))
        return f"{AS_A_FORM} Found {next(said, 'one that cannot be read')}. {SEND}"
    if path not in examples or error.__cause__ is None:
        return ""
    said = (words for kind, words in UNREADABLE.items() if isinstance(error.__cause__, kind))
    return _should_be_json(examples[path], next(said, "a body that cannot be read"))


def _should_be_json(example: str, found: str) -> str:
    return f"The request should be JSON, as {example} is. Found: {found}."


def _invalid(request: Request, error: RequestValidationError, examples: Mapping[str, str]) -> Json:
    first = error.errors()[0]
    kind = request.headers.get("content-type", "")
    found = repr(kind[:60]) if kind else "no Content-Type"
    example = examples.get(request.url.path)
    if request.url.path == UPLOAD and first["loc"][0] == "body":
        return _invalid_form(first, kind, found)
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    if first["loc"][0] != "body" or example is None:
        return problem(422, f"{refused(place, first)}.")
    if "json" not in kind.lower():
        advice = f"Send {example} as such"
        files = f"; a file goes to POST {UPLOAD}" if "multipart" in kind.lower() else ""
        line = f"The request should be application/json. Found {found}. {advice}{files}."
        return problem(415, line)
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "no JSON")
        return problem(400, _should_be_json(example, f"{reason} at character {first['loc'][-1]}"))
    if first["type"] == "extra_forbidden":
        return problem(422, f"The request should be like {example}. Found {shown(place)} in it.")
    wrong = refused(place, first) if place else f"Found {shown(first['input'])}"
    return problem(422, f"The request should be like {example}. {wrong}.")


def _invalid_form(first: Mapping[str, Any], kind: str, found: str) -> Json:
    """The answer to a form that has not what it should, or to what is no form.

    Args:
        first: The first error, as of pydantic.
        kind: Content-Type of the request.
        found: The same in a message.
    """
    if "multipart" not in kind.lower():
        texts = "; texts in JSON go to POST /predict" if "json" in kind.lower() else ""
        return problem(415, f"{AS_A_FORM} Found {found}. {SEND}{texts}")
    name, value = str(first["loc"][-1]), first["input"]
    if name == "file":
        if not isinstance(value, str):
            return problem(422, f"`file` should be a file. Found no such part. {SEND}")
        return problem(
            422,
            f"`file` should be a file. Found the text {shown(value)}. Put an @ before its name, "
            f"as curl has it: -F file=@new.csv",
        )
    if isinstance(value, UploadFile):
        return problem(
            422,
            f"`{name}` should be text. Found the file {short(value.filename)!r}. Send the text "
            f"itself, as curl does with: -F {name}=...",
        )
    return problem(422, f"{refused(name, first)}.")
