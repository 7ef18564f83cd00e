"""Says what went wrong, as RFC 9457 has it.

There is one type of answer for every failure.

A problem names a kind, whose type is `urn:lexiseg:problem:KIND`. Sentences of lexiseg's own errors pass only where they
are about what the request held: photographs, words, settings and names. Others may name paths of the server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from lexiseg.errors import ImageError, SettingError, UnknownName, VocabularyError

__all__ = ["MEDIA_TYPE", "Problem", "body", "of_error", "of_http", "response"]

MEDIA_TYPE = "application/problem+json"

TITLES = {
    "malformed": (400, "The request cannot be read"),
    "host": (400, "This server is not called that"),
    "token": (401, "A token is needed"),
    "not-found": (404, "There is nothing here"),
    "unknown-model": (404, "No such model is served"),
    "unknown-embedding": (404, "The embedding is not kept here (any more)"),
    "method": (405, "Not with this method"),
    "slow-request": (408, "The request took too long to arrive"),
    "too-large": (413, "The request is too large"),
    "media-type": (415, "Not in this format"),
    "invalid": (422, "A value cannot be used"),
    "image": (422, "The photograph cannot be read"),
    "too-many-pixels": (422, "The photograph has too many pixels"),
    "words": (422, "The words cannot be used"),
    "setting": (422, "The setting cannot be used"),
    "internal": (500, "A fault of the server"),
    "queue-full": (503, "The server is busy"),
    "draining": (503, "The server is about to stop"),
    "timeout": (504, "The answer took too long"),
}


class Problem(HTTPException):
    """One kind of `TITLES`, and a sentence on what was wrong.

    errors: places in the request, and what is wrong with each.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        status, self.title = TITLES[kind]
        self.kind, self.errors = kind, tuple(errors)
        super().__init__(status, detail, dict(headers or {}))

    @classmethod
    def about(cls, at: str, why: str) -> Problem:
        """An `invalid` value of one field."""
        return cls("invalid", f"{at}: {why}", errors=[{"at": at, "why": why}])


def of_error(error: Exception) -> Problem | None:
    """A lexiseg error about what a request held; None for any other, whose text is not for strangers."""
    match error:
        case Problem():
            return error
        case ImageError():
            many = "pixels, more than the limit" in str(error)
            return Problem("too-many-pixels" if many else "image", str(error).replace("raise max_pixels", "ask for it"))
        case VocabularyError():
            return Problem("words", str(error))
        case SettingError() | UnknownName():
            return Problem("setting", str(error))
    return None


def of_http(error: HTTPException) -> Problem:
    """What Starlette and FastAPI raise themselves."""
    if isinstance(error, Problem):
        return error
    kinds = {401: "token", 404: "not-found", 405: "method", 408: "slow-request", 413: "too-large", 415: "media-type"}
    kind = kinds.get(error.status_code, "malformed" if error.status_code < 500 else "internal")
    return Problem(kind, str(error.detail), headers=error.headers)


def body(problem: Problem, request_id: str) -> dict[str, Any]:
    """The problem as JSON values."""
    content: dict[str, Any] = {
        "type": f"urn:lexiseg:problem:{problem.kind}",
        "title": problem.title,
        "status": problem.status_code,
        "detail": problem.detail or HTTPStatus(problem.status_code).phrase,
        "request_id": request_id,
    }
    return content | ({"errors": list(problem.errors)} if problem.errors else {})


def response(problem: Problem, request_id: str) -> Response:
    content = json.dumps(body(problem, request_id), ensure_ascii=False).encode("utf-8", "replace")
    return Response(content, problem.status_code, dict(problem.headers or {}), MEDIA_TYPE)
