"""Guards every route.

It decides who may ask, how much may be sent and how many at once, and gives one answer for each failure.

It is the outermost layer, so that its problems, request ids, headers, counts and log lines are those of every answer.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import logging
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lexiseg.serving.problems import Problem, response
from lexiseg.serving.service import Service

__all__ = ["HEADERS", "Guard", "Record", "access_log"]

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
OPEN = ("/", "/health", "/ready")  # without a token, beside what is below STATIC
STATIC = "/static/"
API = "/v1/"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}

access_log = logging.getLogger("lexiseg.serving.access")
_logger = logging.getLogger(__name__)


@dataclass
class Record:
    """What is written about a request: sizes and times, never words, names of files or pixels."""

    id: str
    method: str
    route: str = "other"
    status: int = 0
    problem: str | None = None
    bytes: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)


class Guard:
    """hosts: names that this server may be asked for, beside loopback's and addresses in numbers; None for any.

    token: what requests must bring, beside those of the page and of health checks; None for nothing.
    """

    def __init__(
        self, app: ASGIApp, service: Service, *, token: str | None = None, hosts: Iterable[str] | None = ()
    ) -> None:
        self.app, self.service = app, service
        self._token = None if token is None else token.encode()
        self._hosts = None if hosts is None else {*LOOPBACK, *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        record = Record(_request_id(headers), scope["method"][:16])
        scope.setdefault("state", {})["record"] = record
        admitted = False

        async def counted() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                record.bytes += len(message.get("body", b""))
                if record.bytes > self.service.limits.request_bytes:
                    raise self._too_large()
            return message

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                _add_headers(MutableHeaders(scope=message), scope["path"], record)
            await send(message)

        try:
            self._check(scope, headers)
            admitted = self._admit(scope)
            await self.app(scope, counted, answered)
        except Problem as problem:
            await self._refuse(problem, record, answered)
        except ClientDisconnect:
            record.problem = "client-left"
        except Exception:
            _logger.exception("request %s failed", record.id)
            if not record.status:
                fault = Problem("internal", "the request failed; report it with its id")
                await self._refuse(fault, record, answered)
        finally:
            self.service.admitted -= admitted
            self._note(scope, record)

    def _check(self, scope: Scope, headers: Headers) -> None:
        path = scope["path"]
        if self._hosts is not None and not _is_ours(headers.get("host", ""), self._hosts):
            raise Problem("host", "call it by its own name, or start it with --allow-host")
        if self._token is not None and path not in OPEN and not path.startswith(STATIC):
            scheme, _, given = headers.get("authorization", "").partition(" ")
            right = hmac.compare_digest(given.strip().encode(), self._token)
            if not right or scheme.lower() != "bearer":
                raise Problem(
                    "token",
                    "send the server's token as 'Authorization: Bearer TOKEN'",
                    headers={"www-authenticate": "Bearer"},
                )
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self.service.limits.request_bytes:
            raise self._too_large()

    def _too_large(self) -> Problem:
        return Problem(
            "too-large",
            f"requests of more than {self.service.limits.request_bytes:,} bytes are not read; send less",
            headers={"connection": "close"},
        )

    def _admit(self, scope: Scope) -> bool:
        """Whether the request takes one of the places in the queue; before its body is read."""
        if scope["method"] != "POST" or not scope["path"].startswith(API):
            return False
        close = {"retry-after": "1", "connection": "close"}
        if self.service.draining:
            raise Problem("draining", "it finishes what it has accepted; ask another one, or later", headers=close)
        if self.service.admitted >= self.service.limits.queue:
            raise Problem("queue-full", "as many requests as may wait are waiting; ask again", headers=close)
        self.service.admitted += 1
        return True

    async def _refuse(self, problem: Problem, record: Record, send: Send) -> None:
        record.problem = problem.kind
        if not record.status:
            answer = response(problem, record.id)
            # what was not read of the request would be taken for the next one
            answer.headers["connection"] = "close"
            await answer({"type": "http"}, _nothing, send)

    def _note(self, scope: Scope, record: Record) -> None:
        route = scope.get("route")
        record.route = getattr(route, "path", "other")
        seconds = time.monotonic() - record.begun
        metrics = self.service.metrics
        metrics.requests.labels(record.route, str(record.status)).inc()
        metrics.seconds.labels(record.route).observe(seconds)
        if record.problem is not None:
            metrics.rejected.labels(record.problem).inc()
        line = {"id": record.id, "method": record.method, "route": record.route, "status": record.status}
        line |= {"bytes": record.bytes, "ms": round(1000 * seconds, 1), **record.facts}
        access_log.info(json.dumps(line | ({"problem": record.problem} if record.problem else {})))


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def _is_ours(host: str, names: set[str]) -> bool:
    """A name of the server, or an address in numbers: a rebound name in another's page is neither."""
    name = host.strip().lower()
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    if name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _add_headers(headers: MutableHeaders, path: str, record: Record) -> None:
    headers["x-request-id"] = record.id
    for name, value in HEADERS.items():
        headers[name] = value
    headers.setdefault("cache-control", "no-cache" if not path.startswith(API) else "no-store")


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
