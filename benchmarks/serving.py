"""How fast the server answers: one client and many, beside a call in the process and beside a server without a queue.

    python benchmarks/serving.py                        about two minutes
    python benchmarks/serving.py --clients 1 8 --requests 200 --rounds 3

Both servers are processes of their own on this machine's loopback and label the same photographs (those that
scikit-image bundles) with the same words, as JSON with run lengths. "one by one" is what a person would write first: a
FastAPI route that calls `Predictor.segment` under a lock. The servers take turns, and the clients, threads of this
script, use the same cores. A request that is refused (503) is asked again and counted.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import script

import lexiseg
from lexiseg.data import bundled
from lexiseg.speed import measuring

WORDS = "person, cat, wall, floor, motorcycle, cup, table, sky"
BOUNDARY = "lexiseg-load"
MARK = "listening at "


@dataclass
class Load:
    """What clients have seen: seconds of each answered request, and how many were refused first."""

    seconds: list[float] = field(default_factory=list)
    refused: int = 0
    wall: float = 0.0

    @property
    def per_second(self) -> float:
        return len(self.seconds) / self.wall


def main(arguments: Sequence[str] | None = None) -> None:
    made = script.parser(__doc__)
    made.add_argument("--model", default="maskclip/mini")
    made.add_argument("--clients", type=int, nargs="+", default=[1, 4, 8, 16])
    made.add_argument("--requests", type=int, default=160, help="of all clients together, in a round")
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--one-by-one", action="store_true", help="run the server without a queue, and nothing else")
    options = script.parse(made, arguments)
    if options.one_by_one:
        one_by_one(options.model)
        return
    if options.quick:
        options.model, options.clients, options.requests, options.rounds = "maskclip/tiny", [2], 4, 1
    bodies = [form(name) for name in bundled.PHOTOGRAPHS]
    rows = [alone(options)]
    script.header("way", "clients", "p50, ms", "p99, ms", "a second", "refused", "batch")
    show(rows[0])
    commands = {"one by one": [sys.executable, __file__, "--one-by-one"], "lexiseg serve": serve_command()}
    with contextlib.ExitStack() as stack:
        servers = {
            name: stack.enter_context(server([*command, *more(name, options)], options.threads))
            for name, command in commands.items()
        }
        for port in servers.values():
            load(port, bodies, clients=2, requests=8)  # the first ones are not counted
        for clients in options.clients:
            found = {name: Load() for name in servers}
            batches = {name: batch_counts(port) for name, port in servers.items()}
            for _ in range(options.rounds):
                for name, port in servers.items():
                    add(found[name], load(port, bodies, clients=clients, requests=options.requests))
            for name, port in servers.items():
                rows.append(row(name, clients, found[name], batch_size(batches[name], batch_counts(port))))
                show(rows[-1])
                script.write(options, "serving", rows)


def alone(options: Any) -> dict[str, Any]:
    """The same work called in this process."""
    model = lexiseg.load(options.model, text_cache=False)
    photographs = [bundled.photograph(name).read_bytes() for name in bundled.PHOTOGRAPHS]
    seconds = []
    for turn in range(options.rounds * len(photographs) * 5 + len(photographs)):
        start = time.perf_counter()
        model.segment(photographs[turn % len(photographs)], WORDS, keep_image=False).to_coco_rle()
        seconds.append(time.perf_counter() - start)
    seconds = seconds[len(photographs) :]
    return row("a call in the process", 0, Load(seconds, 0, sum(seconds)), None)


def row(name: str, clients: int, found: Load, batch: float | None) -> dict[str, Any]:
    ordered = sorted(found.seconds)
    return {
        "way": name,
        "clients": clients,
        "p50_ms": 1e3 * statistics.median(ordered),
        "p99_ms": 1e3 * ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))],
        "requests": len(ordered),
        "per_second": found.per_second,
        "refused": found.refused,
        "batch": batch,
    }


def show(one: dict[str, Any]) -> None:
    batch = "–" if one["batch"] is None else f"{one['batch']:.1f}"
    script.row(one["way"], one["clients"] or "–", f"{one['p50_ms']:.0f}", f"{one['p99_ms']:.0f}",
               f"{one['per_second']:.1f}", one["refused"], batch)  # fmt: skip


def add(total: Load, more: Load) -> None:
    total.seconds += more.seconds
    total.refused += more.refused
    total.wall += more.wall


def load(port: int, bodies: Sequence[bytes], *, clients: int, requests: int) -> Load:
    """So many requests from so many clients, each of which waits for its answer."""
    found, lock = Load(), threading.Lock()
    turns = iter(range(requests))

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while True:
            with lock:
                turn = next(turns, None)
            if turn is None:
                connection.close()
                return
            start = time.perf_counter()
            while ask(connection, bodies[turn % len(bodies)]) == 503:
                with lock:
                    found.refused += 1
                connection.close()
                time.sleep(0.05)
            with lock:
                found.seconds.append(time.perf_counter() - start)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.wall = time.perf_counter() - start
    return found


def ask(connection: http.client.HTTPConnection, body: bytes) -> int:
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    connection.request("POST", "/v1/segment", body, headers)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status not in (200, 503):
        raise SystemExit(f"{answer.status}: {content[:300]!r}")
    return answer.status


def form(name: str) -> bytes:
    """A request with a bundled photograph."""
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{{}}"{{}}\r\n\r\n'
    words = part.format("words", "").encode() + WORDS.encode()
    image = part.format("image", f'; filename="{name}"').encode() + bundled.photograph(name).read_bytes()
    return words + b"\r\n" + image + f"\r\n--{BOUNDARY}--\r\n".encode()


def serve_command() -> list[str]:
    return [sys.executable, "-m", "lexiseg", "serve"]


def more(name: str, options: Any) -> list[str]:
    if name == "lexiseg serve":
        return [options.model, "--port", "0"]
    return ["--model", options.model, "--threads", str(options.threads)]


@contextlib.contextmanager
def server(command: Sequence[str], threads: int) -> Iterator[int]:
    """The port of a server in a process of its own, with so many threads of torch."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        try:
            pattern = re.compile(r"127\.0\.0\.1:(\d+)")
            port = next(int(found[1]) for line in process.stderr if (found := pattern.search(line)))
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield port
        finally:
            process.terminate()
            process.wait(60)


def batch_counts(port: int) -> tuple[float, float] | None:
    """How many photographs passed the network, and in how many batches; None for a server that does not tell."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    found = [re.search(rf"lexiseg_batch_size_{part} ([\d.]+)", text) for part in ("sum", "count")]
    return (float(found[0][1]), float(found[1][1])) if found[0] and found[1] else None


def batch_size(before: tuple[float, float] | None, after: tuple[float, float] | None) -> float | None:
    if before is None or after is None or after[1] == before[1]:
        return None
    return (after[0] - before[0]) / (after[1] - before[1])


def one_by_one(model: str) -> None:
    """The naive server."""
    import socket

    import uvicorn
    from fastapi import FastAPI, Form, UploadFile

    globals().update(UploadFile=UploadFile)  # FastAPI looks annotations up in the module
    predictor, lock = lexiseg.load(model, text_cache=False), threading.Lock()
    predictor.segment(bundled.photograph("chelsea.png").read_bytes(), WORDS)
    app = FastAPI()

    @app.post("/v1/segment")
    def segment(image: UploadFile, words: str = Form()) -> dict[str, Any]:
        with lock:
            result = predictor.segment(image.file.read(), words, keep_image=False)
            return {"classes": result.areas(), "segments": result.to_coco_rle()}

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    print(f"{MARK}127.0.0.1:{listening.getsockname()[1]}", file=sys.stderr, flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="critical")).run(sockets=[listening])


if __name__ == "__main__":
    main()
    if "--one-by-one" not in sys.argv:
        busy = measuring.circumstances().get("foreign_load_cores")
        print(f"\nOther jobs kept {busy} cores busy.", file=sys.stderr)
