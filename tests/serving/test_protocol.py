"""Timers of connections, without waiting for them: those that real sockets do not show are here."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
import pytest
import uvicorn
from uvicorn.server import ServerState

from lexiseg.serving.limits import Limits
from lexiseg.serving.protocol import LINGER, MOST_LINGER, timed


class Transport(asyncio.Transport):
    """Remembers what was done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []
        self.data = b""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: Any) -> None:
        self.data += bytes(data)

    def is_closing(self) -> bool:
        return "close" in self.done or "abort" in self.done

    def can_write_eof(self) -> bool:
        return True

    def __getattribute__(self, name: str) -> Any:
        if name in ("close", "abort", "write_eof", "pause_reading", "resume_reading"):
            return lambda: self.done.append(name)
        return super().__getattribute__(name)


class Loop:
    """Timers that go off when they are told."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, Any, Any]] = []

    def call_later(self, seconds: float, call: Any, *given: Any) -> Any:
        handle = asyncio.TimerHandle(seconds, call, given, asyncio.new_event_loop())
        self.timers.append((seconds, call, handle))
        return handle

    def running(self) -> list[float]:
        return sorted(seconds for seconds, _, handle in self.timers if not handle.cancelled())

    def ring(self, seconds: float) -> None:
        for after, call, handle in list(self.timers):
            if after == seconds and not handle.cancelled():
                call()

    def create_task(self, coroutine: Any) -> Any:
        coroutine.close()
        return asyncio.Future(loop=asyncio.new_event_loop())


@pytest.fixture
def connection():
    limits = Limits(header_seconds=1, receive_seconds=2, send_seconds=3)
    config = uvicorn.Config(lambda scope: None, ws="none", log_config=None, access_log=False)
    loop, transport = Loop(), Transport()
    protocol = timed(limits)(config, ServerState(), {}, loop)  # type: ignore[call-arg]
    protocol.connection_made(transport)
    return protocol, transport, loop


def test_a_client_that_does_not_read_its_answer_is_dropped(connection) -> None:
    protocol, transport, loop = connection
    protocol.pause_writing()
    protocol.pause_writing()
    assert loop.running().count(3) == 1
    loop.ring(3)
    assert transport.done == ["abort"]


def test_a_client_that_reads_again_is_kept(connection) -> None:
    protocol, transport, loop = connection
    protocol.pause_writing()
    protocol.resume_writing()
    assert 3 not in loop.running()
    assert transport.done == []


def test_timers_stop_when_the_request_is_complete(connection) -> None:
    protocol, _, loop = connection
    assert loop.running() == [1, 2]
    protocol.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n")
    assert loop.running() == [1, 2]
    protocol.data_received(b"\r\n")
    assert loop.running() == [2]
    protocol.data_received(b"xy")
    assert loop.running() == []


def test_timers_stop_with_the_connection(connection) -> None:
    protocol, _, loop = connection
    protocol.pause_writing()
    protocol.connection_lost(ConnectionResetError())
    assert loop.running() == []


def test_a_late_request_is_answered_once_and_its_rest_thrown_away_for_a_moment(connection) -> None:
    protocol, transport, loop = connection
    protocol.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\nx")
    loop.ring(2)
    assert transport.data.startswith(b"HTTP/1.1 408 ")
    assert transport.done == ["write_eof", "resume_reading"]
    answer = transport.data
    protocol.data_received(b"more")
    assert protocol.conn.their_state is h11.SEND_BODY  # it was not read
    assert transport.data == answer
    loop.ring(LINGER)
    assert transport.done[-1] == "close"


def test_a_client_that_sends_on_for_ever_is_cut_off(connection) -> None:
    protocol, transport, loop = connection
    protocol.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\nx")
    loop.ring(2)
    protocol.data_received(bytes(MOST_LINGER))
    assert "abort" not in transport.done
    protocol.data_received(b"x")
    assert transport.done[-1] == "abort"
