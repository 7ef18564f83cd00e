"""Real servers on free ports of this machine, for tests: real sockets, the real protocol, models that see colours."""

from __future__ import annotations

import contextlib
import io
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from PIL import Image

from inference.fakes import Colours, flag, predictor
from lexiseg.serving.app import create_app
from lexiseg.serving.limits import Limits
from lexiseg.serving.run import http_server
from lexiseg.serving.service import Service

WORDS = "red, green, blue, yellow"


@dataclass
class Running:
    """A server that runs, and how to ask it."""

    service: Service
    port: int
    http: httpx.Client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def segment(self, *images: bytes, words: str = WORDS, **fields: str) -> httpx.Response:
        files = [("image", (f"{place}.png", data)) for place, data in enumerate(images or (png(),))]
        return self.http.post("/v1/segment", files=files, data={"words": words, **fields})

    def embed(self, image: bytes | None = None, **fields: str) -> httpx.Response:
        files = [("image", ("flag.png", png() if image is None else image))]
        return self.http.post("/v1/embed", files=files, data=fields)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


@contextlib.contextmanager
def running(
    predictors: Mapping[str, Any] | None = None,
    *,
    token: str | None = None,
    hosts: tuple[str, ...] | None = (),
    keep_alive: int = 15,
    **limits: Any,
) -> Iterator[Running]:
    """A server of these predictors (colours, if none are given) with these limits, until the block ends."""
    service = Service(predictors or {"colours": predictor()}, Limits(**limits))
    ready = threading.Event()
    server = http_server(create_app(service, token=token, hosts=hosts), service, ready.set)
    server.config.timeout_keep_alive = keep_alive
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        assert ready.wait(20)
        port = listening.getsockname()[1]
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
                yield Running(service, port, http)
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def png(rgb: np.ndarray | None = None, **options: Any) -> bytes:
    """A picture (the flag of `inference.fakes`, if none is given) as a file."""
    content = io.BytesIO()
    Image.fromarray(flag() if rgb is None else rgb).save(content, "PNG", **options)
    return content.getvalue()


def read(raw: socket.socket) -> bytes:
    """One whole answer, or what there is of it before the connection closes."""
    data = b""
    while b"\r\n\r\n" not in data and (more := raw.recv(9999)):
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    while length and len(body) < int(length[1]) and (more := raw.recv(9999)):
        body += more
    return head + b"\r\n\r\n" + body


def kind(answer: httpx.Response) -> str:
    """The kind of a problem, after checking that it is one."""
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] in (answer.headers.get("x-request-id"), "-")
    return str(problem["type"]).removeprefix("urn:lexiseg:problem:")


class Waiting(Colours):
    """Looks at no photograph before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.go = threading.Event(), threading.Event()

    def embed_image(self, images):
        self.entered.set()
        assert self.go.wait(20)
        return super().embed_image(images)


@contextlib.contextmanager
def in_background(function: Callable[[], Any]) -> Iterator[list[Any]]:
    """Calls a function in a thread while the block runs; the list has what it returned, after the block."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()), daemon=True)
    thread.start()
    yield results
    thread.join(20)
    assert not thread.is_alive()
