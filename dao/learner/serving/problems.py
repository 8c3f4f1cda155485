"""Whatever is wrong with a request, as a status and `{"error": "one line"}`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from dao.errors import UserError
from dao.learner.basics.frozen import refused
from dao.learner.basics.wording import one_line, shown
from dao.learner.console.terminal import printable
from dao.learner.serving.turns import BusyError
from dao.learner.serving.uploads import TooMuchError

__all__ = ["AGAIN", "Json", "explain_errors", "problem"]

LONGEST = 600
"""Characters of a line."""
AGAIN = 2
"""Seconds after which a client that found the server full is asked to come again."""
SAID = {
    404: "There is nothing at this address. GET /openapi.json lists what there is.",
    405: "This address takes another method. GET /openapi.json says which.",
}


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

    async def turned_away(_: Request, error: Exception) -> Json:
        assert isinstance(error, HTTPException)
        line = SAID.get(error.status_code, error.detail)
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


def _invalid(request: Request, error: RequestValidationError, examples: Mapping[str, str]) -> Json:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    kind = request.headers.get("content-type", "")
    example = examples.get(request.url.path)
    if first["loc"][0] != "body" or example is None:
        return problem(422, f"{refused(place, first)}.")
    if "json" not in kind.lower():
        found = repr(kind[:60]) if kind else "no Content-Type"
        return problem(415, f"The request should be application/json. Found {found}.")
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "no JSON")
        found = f"{reason} at character {first['loc'][-1]}"
        return problem(400, f"The request should be JSON, as {example} is. Found: {found}.")
    if first["type"] == "extra_forbidden":
        return problem(422, f"The request should be like {example}. Found {shown(place)} in it.")
    wrong = refused(place, first) if place else f"Found {shown(first['input'])}"
    return problem(422, f"The request should be like {example}. {wrong}.")
