"""What a server does when clients misbehave: it answers everything, never falls over, and holds on to nothing.

    python benchmarks/serving_faults.py                          every case (minutes)
    python benchmarks/serving_faults.py --cases bombs slow       some
    python benchmarks/serving_faults.py --fuzz 10000             with schemathesis, if it is installed

A server of `maskclip/tiny`, in a process of its own on this machine's loopback, gets short limits in time, so that the
slow clients are cut off within seconds. Each case is bounded in number and time. After each, descriptors, threads and
memory of the server are read (Linux) and a plain request must be answered. 5xx answers other than 503 are faults, and
end the script with exit code 1.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import script

from lexiseg.data import bundled

BOUNDARY = "lexiseg-faults"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
START = """
import sys
from lexiseg.serving import run
from lexiseg.serving.limits import Limits
limits = Limits(header_seconds=2, receive_seconds=4, queue=16, cache_bytes=20_000_000)
run.serve("maskclip/tiny", port=0, limits=limits, started=lambda address: print(address, file=sys.stderr, flush=True))
"""


@dataclass(frozen=True)
class Scale:
    """How often each case is tried."""

    slow: int
    aborted: int
    malformed: int
    bombs: int
    requests: int


FULL, QUICK = Scale(100, 200, 500, 40, 5000), Scale(3, 5, 20, 3, 20)


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    process: subprocess.Popen[str]
    port: int

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> int:
        """The status of the answer; 0 where the connection was closed without one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def plain(self) -> int:
        """The status of an ordinary request, which a server that is still busy may refuse for a moment."""
        until, status = time.monotonic() + 20, 503
        while status == 503 and time.monotonic() < until:
            status = self.ask("POST", "/v1/segment", form("chelsea.png"), **FORM)
        return status

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    @property
    def held(self) -> dict[str, float]:
        """Open descriptors, threads, and megabytes in memory."""
        folder = Path(f"/proc/{self.process.pid}")
        if not folder.is_dir():
            return {"descriptors": 0, "threads": 0, "megabytes": 0}
        status = (folder / "status").read_text()
        numbers = {name: int(re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)[1]) for name in ("Threads", "VmRSS")}  # type: ignore[index]
        descriptors = len(list((folder / "fd").iterdir()))
        return {"descriptors": descriptors, "threads": numbers["Threads"], "megabytes": numbers["VmRSS"] / 1000}


def main(arguments: Sequence[str] | None = None) -> None:
    made = script.parser(__doc__)
    made.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    made.add_argument("--requests", type=int, help="of the case 'requests'")
    made.add_argument("--fuzz", type=int, default=0, help="requests that schemathesis makes up")
    options = script.parse(made, arguments)
    scale = QUICK if options.quick else FULL
    rows: list[dict[str, Any]] = []
    script.header("case", "tries", "answers", "seconds", "descriptors", "threads", "MB")
    with server(options.threads) as one:
        for _ in range(20):
            one.ask("POST", "/v1/segment", form("chelsea.png"), **FORM)
        note(rows, "at first", 0, Counter(), 0, one)
        for name in options.cases:
            tries = getattr(scale, name) if options.requests is None or name != "requests" else options.requests
            start = time.perf_counter()
            answers = CASES[name](one, tries)
            plain = one.plain()
            note(rows, name, tries, answers, time.perf_counter() - start, one, plain=plain)
            script.write(options, "serving faults", rows)
        if options.fuzz:
            rows.append(fuzz(one, options.fuzz))
            script.row("fuzz", options.fuzz, rows[-1]["summary"], *("–" for _ in range(4)))
        rows.append(stop(one))
        script.row(
            "stop under load", rows[-1]["tries"], rows[-1]["answers"], f"{rows[-1]['seconds']:.1f}", "–", "–", "–"
        )
        script.write(options, "serving faults", rows)
    faults = [row for row in rows if row.get("plain", 200) != 200 or any(bad(one) for one in row.get("statuses", ()))]
    if faults:
        raise SystemExit(f"faults in {', '.join(row['case'] for row in faults)}")


def bad(status: int) -> bool:
    return status >= 500 and status != 503


def note(
    rows: list[dict[str, Any]],
    case: str,
    tries: int,
    answers: Counter[int],
    seconds: float,
    one: Server,
    *,
    plain: int = 200,
) -> None:
    time.sleep(1.5)  # closed connections are let go
    held = one.held
    told = ", ".join(f"{count} x {status or 'closed'}" for status, count in sorted(answers.items())) or "–"
    rows.append({"case": case, "tries": tries, "answers": told, "statuses": list(answers), "plain": plain,
                 "seconds": seconds, **held})  # fmt: skip
    script.row(case, tries, told, f"{seconds:.1f}", held["descriptors"], held["threads"], f"{held['megabytes']:.0f}")


def slow(one: Server, tries: int) -> Counter[int]:
    """Clients that send a header, or a body, a byte at a time; half of each."""
    whole = b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    begun = whole + b"Content-Length: 99999\r\n\r\n--x\r\n"
    clients = [one.connect() for _ in range(tries)]
    for place, client in enumerate(clients):
        client.sendall(whole if place % 2 else begun)
        client.setblocking(False)
    until, answers = time.monotonic() + 12, Counter[int]()
    waiting = set(clients)
    while waiting and time.monotonic() < until:
        for client in list(waiting):
            with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                client.send(b"x")
            try:
                data = client.recv(4096)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            status = re.match(rb"HTTP/1\.1 (\d+)", data)
            answers[int(status[1]) if status else 0] += 1
            waiting.discard(client)
            client.close()
        time.sleep(0.05)
    answers[1] += len(waiting)  # still open: there should be none
    for client in waiting:
        client.close()
    return +answers


def aborted(one: Server, tries: int) -> Counter[int]:
    """Clients that leave in the middle of an upload."""
    body = form("chelsea.png")
    for place in range(tries):
        with contextlib.suppress(OSError), one.connect() as raw:
            head = f"POST /v1/embed HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
            head += f"Content-Type: {FORM['Content-Type']}\r\n\r\n"
            raw.sendall(head.replace("Host: a", "Host: localhost").encode() + body[: len(body) * place // tries])
    return Counter()


def malformed(one: Server, tries: int) -> Counter[int]:
    """Bodies of random bytes, broken forms, thousands of fields, NULs, deep JSON."""
    chance = random.Random(1)
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="words"\r\n\r\na\r\n'.encode()
    kinds: list[Callable[[], tuple[str, bytes, str]]] = [
        lambda: ("/v1/segment", chance.randbytes(chance.randint(0, 5000)), FORM["Content-Type"]),
        lambda: ("/v1/segment", part * 5000, FORM["Content-Type"]),
        lambda: ("/v1/segment", form("chelsea.png").replace(b"\r\n\r\n", bytes(9), 1), FORM["Content-Type"]),
        lambda: ("/v1/segment", b"x", "multipart/form-data"),
        lambda: ("/v1/segment", form("chelsea.png")[: chance.randint(1, 9000)], FORM["Content-Type"]),
        lambda: ("/v1/classify", b"[" * 100_000, "application/json"),
        lambda: ("/v1/classify", chance.randbytes(200), "application/json"),
        lambda: ("/v1/classify", json.dumps({"id": "\0" * 9, "words": "\0,\0"}).encode(), "application/json"),
        lambda: ("/v1/scores", json.dumps({"id": 1, "words": {"a": None}, "name": []}).encode(), "application/json"),
    ]
    answers = Counter[int]()
    for place in range(tries):
        path, body, kind = kinds[place % len(kinds)]()
        answers[one.ask("POST", path, body, **{"Content-Type": kind})] += 1
    return answers


def bombs(one: Server, tries: int) -> Counter[int]:
    """Small files that claim to be huge pictures."""
    answers = Counter[int]()
    for place in range(tries):
        size = [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (1, 2**31 - 1), (20_000, 20_000)][place % 4]
        answers[one.ask("POST", "/v1/segment", form("a.png", bomb(*size)), **FORM)] += 1
    return answers


def requests(one: Server, tries: int) -> Counter[int]:
    """Good and bad requests from four clients; memory must not grow over the second half."""
    answers, lock = Counter[int](), threading.Lock()
    bodies = [form(name) for name in ("chelsea.png", "coffee.png")]
    turns = iter(range(tries))
    half: list[float] = []

    def client() -> None:
        while True:
            with lock:
                turn = next(turns, None)
                if turn == tries // 2:
                    half.append(one.held["megabytes"])
            if turn is None:
                return
            path = ("/v1/segment", "/v1/embed", "/v1/embed", "/v1/segment")[turn % 4]
            body = (
                bodies[turn % 2]
                if path == "/v1/segment"
                else bodies[turn % 2].replace(b'name="words"', b'name="model"')
            )
            if path == "/v1/embed":
                body = body.replace(b"\r\n\r\ncat, wall", b"\r\n\r\nmaskclip/tiny")
            status = one.ask("POST", path, body if turn % 10 else body[:2000], **FORM)
            with lock:
                answers[status] += 1

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"(half way {half[0]:.0f} MB)" if half else "", file=sys.stderr)
    return answers


CASES: dict[str, Callable[[Server, int], Counter[int]]] = {
    "slow": slow,
    "aborted": aborted,
    "malformed": malformed,
    "bombs": bombs,
    "requests": requests,
}


def fuzz(one: Server, cases: int) -> dict[str, Any]:
    """Requests that follow, and break, the server's own description."""
    tool = shutil.which("schemathesis")
    if tool is None:
        raise SystemExit("schemathesis is not installed: pip install schemathesis")
    url = f"http://127.0.0.1:{one.port}"
    command = [tool, "run", f"{url}/v1/openapi.json", "--url", url, "-n", str(max(1, cases // 70)), "--seed", "1"]
    # random bytes are no photograph: that a form follows the description does not make it one
    command += ["--continue-on-failure", "--exclude-checks", "positive_data_acceptance", "--max-time", "600"]
    found = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})
    print(found.stdout[-4000:], file=sys.stderr)
    told = re.findall(r"[\d,]+ generated[^\n]*", found.stdout)
    plain = one.plain()
    return {
        "case": "fuzz",
        "tries": cases,
        "summary": told[-1] if told else f"exit code {found.returncode}",
        "plain": plain,
    }


def stop(one: Server) -> dict[str, Any]:
    """SIGTERM while requests are being answered: those that were accepted are finished, then the process is gone."""
    answers, lock = Counter[int](), threading.Lock()

    def client() -> None:
        status = one.ask("POST", "/v1/segment", form("motorcycle_left.png"), **FORM)
        with lock:
            answers[status] += 1

    threads = [threading.Thread(target=client) for _ in range(12)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    start = time.perf_counter()
    one.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(60)
    one.process.wait(60)
    told = ", ".join(f"{count} x {status or 'closed'}" for status, count in sorted(answers.items()))
    return {"case": "stop under load", "tries": 12, "answers": told, "seconds": time.perf_counter() - start}


def form(name: str, data: bytes | None = None) -> bytes:
    """A request with a photograph: a bundled one, unless its bytes are given."""
    data = bundled.photograph(name).read_bytes() if data is None else data
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{{}}"{{}}\r\n\r\n'
    words = part.format("words", "").encode() + b"cat, wall"
    return (
        words
        + b"\r\n"
        + part.format("image", f'; filename="{name}"').encode()
        + data
        + f"\r\n--{BOUNDARY}--\r\n".encode()
    )


def bomb(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9999))) + chunk(b"IEND", b"")
    )


@contextlib.contextmanager
def server(threads: int) -> Iterator[Server]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-c", START]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        try:
            port = next(int(found[1]) for line in process.stderr if (found := re.search(r"127\.0\.0\.1:(\d+)", line)))
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield Server(process, port)
        finally:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
