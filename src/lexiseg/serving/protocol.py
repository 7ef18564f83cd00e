"""Limits how long requests and answers may take.

uvicorn has no such limits.

A timer runs while a header is incomplete, another while a request is; a slow *answer* of ours and an idle connection
that is kept alive are not its business. What is late gets a 408 where nothing was answered yet, and is closed.

A connection that is closed while its client still sends would be reset, and the client would lose the answer that says
why. So our side is closed first, and what still comes is thrown away for a moment.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

from lexiseg.serving.limits import Limits
from lexiseg.serving.problems import MEDIA_TYPE, Problem, body

__all__ = ["timed"]

LINGER = 1.0  # seconds in which what a refused client still sends is thrown away
MOST_LINGER = 16_000_000  # bytes of it
RECEIVED = (h11.DONE, h11.MUST_CLOSE, h11.CLOSED, h11.ERROR)


def timed(limits: Limits) -> type[asyncio.Protocol]:
    """The protocol with these limits, for `uvicorn.Config(http=...)`."""

    class Timed(_Timed):
        bounds = limits

    return Timed


class _Timed(H11Protocol):
    bounds: Limits

    def __init__(self, config: Config, *given: Any, **more: Any) -> None:
        super().__init__(config, *given, **more)
        self._header: asyncio.TimerHandle | None = None
        self._whole: asyncio.TimerHandle | None = None
        self._sending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transport = self._lingering = _Lingering(transport, self)  # type: ignore[assignment]
        if len(self.connections) > self.bounds.connections:
            self._refuse(Problem("queue-full", "there are too many connections", headers={"retry-after": "1"}))
            return
        self._arm()

    def data_received(self, data: bytes) -> None:
        if self._lingering.lingers:
            self._lingering.drop(len(data))
        else:
            super().data_received(data)
            self._follow()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._follow()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._taken()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._sending = self._sending or self.loop.call_later(self.bounds.send_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        self._taken()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What is not HTTP gets a problem, as everything else."""
        if self.conn.our_state is h11.IDLE or self.conn.our_state is h11.SEND_RESPONSE:
            self._refuse(Problem("malformed", "this is not an HTTP request"))
        else:
            self.transport.close()

    def _follow(self) -> None:
        """Timers as the state of the connection has it."""
        state = self.conn.their_state
        if self.transport.is_closing() or state in RECEIVED:
            self._disarm()
        elif state is h11.SEND_BODY:  # the header is complete
            self._arm()
            _stop(self._header)
        elif self.conn.trailing_data[0]:  # a new header has begun
            self._arm()
        elif self.cycle is not None and self.cycle.response_complete:  # idle: uvicorn's own limit
            self._disarm()

    def _arm(self) -> None:
        if self._whole is None:
            self._header = self.loop.call_later(self.bounds.header_seconds, self._late)
            self._whole = self.loop.call_later(self.bounds.receive_seconds, self._late)

    def _disarm(self) -> None:
        _stop(self._header)
        _stop(self._whole)
        self._header = self._whole = None

    def _taken(self) -> None:
        _stop(self._sending)
        self._sending = None

    def _late(self) -> None:
        self._refuse(Problem("slow-request", "the request did not arrive in time; send it again, or less"))

    def _refuse(self, problem: Problem) -> None:
        """Answers where nothing was answered yet, then closes."""
        self._disarm()
        if self.transport.is_closing():
            return
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            content = json.dumps(body(problem, "-")).encode()
            fields = {"content-type": MEDIA_TYPE, "content-length": len(content), "connection": "close"}
            lines = "".join(f"{name}: {value}\r\n" for name, value in (fields | dict(problem.headers or {})).items())
            self.transport.write(f"HTTP/1.1 {problem.status_code} {problem.title}\r\n{lines}\r\n".encode() + content)
        self.transport.close()


class _Lingering:
    """A transport that closes its own side first where the other one still sends."""

    def __init__(self, transport: asyncio.Transport, protocol: _Timed) -> None:
        self._transport, self._protocol, self.lingers = transport, protocol, False
        self._left = MOST_LINGER

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self.lingers or self._transport.is_closing()

    def drop(self, count: int) -> None:
        """Counts bytes that came after the end."""
        self._left -= count
        if self._left < 0:
            self._transport.abort()

    def close(self) -> None:
        if self.is_closing():
            return
        if self._protocol.conn.their_state is not h11.SEND_BODY or not self._transport.can_write_eof():
            self._transport.close()
            return
        self.lingers = True
        self._transport.write_eof()
        self._transport.resume_reading()
        self._protocol.loop.call_later(LINGER, self._transport.close)


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
