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
from dao.learner.basics.wording import one_line, short
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

    async def refused(_: Request, error: Exception) -> Json:
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

    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(UserError, unusable)
    app.add_exception_handler(BusyError, busy)
    app.add_exception_handler(Exception, failed)


def _invalid(request: Request, error: RequestValidationError, examples: Mapping[str, str]) -> Json:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:])
    kind = request.headers.get("content-type", "")
    example = examples.get(request.url.path)
    if first["loc"][0] != "body" or example is None:
        return problem(422, f"`{place}` of the request should be {_wanted(first)}.")
    if "json" not in kind.lower():
        found = repr(kind[:60]) if kind else "no Content-Type"
        return problem(415, f"The request should be application/json. Found {found}.")
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "no JSON")
        found = f"{reason} at character {first['loc'][-1]}"
        return problem(400, f"The request should be JSON, as {example} is. Found: {found}.")
    return problem(422, f"The request should be like {example}. Found {_found(first, place)}.")


def _wanted(error: Mapping[str, Any]) -> str:
    """What a field of a form or of an address should be, and what was found."""
    limits = error.get("ctx", {})
    wanted = (
        limits["expected"].replace("'", "")
        if "expected" in limits
        else f"at most {limits['max_length']} characters"
        if "max_length" in limits
        else "a file"
        if error["loc"][-1] == "file"
        else "there, once, as text"
    )
    found = "none" if error["type"] == "missing" else _shown(error.get("input"))
    return f"{wanted}. Found {found}"


def _found(error: Mapping[str, Any], place: str) -> str:
    """What is wrong in a JSON body, as it was found."""
    if error["type"] == "missing":
        return f"no `{place}`" if place else "no body"
    if error["type"] == "extra_forbidden":
        return f"`{short(place)}`, which is no part of it"
    limits = error.get("ctx", {})
    if "max_length" in limits and isinstance(error.get("input"), str):
        return f"{len(error['input']):,} characters at `{place}`"
    return _shown(error.get("input")) + (f" at `{place}`" if place else "")


def _shown(value: Any) -> str:  # noqa: ANN401
    """A value as JSON, cut where it is long.

    Example:
        >>> _shown(None), _shown(["a"])
        ('null', '["a"]')
    """
    if isinstance(value, UploadFile):
        return "a file"
    try:
        return short(json.dumps(value, ensure_ascii=False, default=repr))
    except (ValueError, RecursionError):
        return "what JSON has not"
