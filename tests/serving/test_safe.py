"""One test for each rule that makes the server safe to expose (docs/serving.md, "What it refuses")."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import socket
import struct
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

import lexiseg
from inference.fakes import Colours, flag, predictor
from lexiseg import SettingError, catalog
from lexiseg.encoders import prompts
from lexiseg.serving import run
from lexiseg.serving.guard import HEADERS, access_log
from serving.servers import Running, Waiting, in_background, kind, png, read, running

MEGA = 1_000_000
MULTIPART = {"content-type": "multipart/form-data; boundary=b"}
BEGUN = (
    b"POST /v1/embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    b"Content-Length: 99999\r\n\r\n"
)


def noise(megabytes: float) -> bytes:
    """A photograph of about so many megabytes."""
    side = round((megabytes * MEGA / 3) ** 0.5)
    return png(np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8), compress_level=1)


def bomb(width: int, height: int) -> bytes:
    """A small PNG that claims to be large."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10_000)))
        + chunk(b"IEND", b"")
    )


def parts(count: int, *, file: bool, size: int = 1) -> bytes:
    """A form with so many fields or photographs."""
    name = b'name="image"; filename="a"' if file else b'name="words"'
    part = b"--b\r\nContent-Disposition: form-data; " + name + b"\r\n\r\n" + b"x" * size + b"\r\n"
    return part * count + b"--b--\r\n"


# bytes, fields and files


def test_bytes_are_counted_as_they_stream_whatever_the_header_says() -> None:
    with running(request_bytes=MEGA) as one:
        sent = 0

        def chunks() -> Iterator[bytes]:
            nonlocal sent
            yield parts(1, file=True)[: -len(b"\r\n--b--\r\n")]
            for _ in range(1000):
                sent += 100_000
                yield bytes(100_000)

        # the answer comes at once; a client that sends on for ever is cut off
        with contextlib.suppress(httpx.TransportError):
            answer = one.http.post("/v1/segment", content=chunks(), headers=MULTIPART)
            assert (answer.status_code, kind(answer)) == (413, "too-large")
            assert answer.headers["connection"] == "close"
        assert sent < 50 * MEGA
        body = parts(1, file=True, size=600_000) * 2
        answer = one.http.post("/v1/segment", content=iter([body]), headers=MULTIPART)  # two files: both count
        assert (answer.status_code, kind(answer)) == (413, "too-large")


def test_a_length_above_the_limit_is_refused_before_anything_is_read() -> None:
    with running(request_bytes=1000) as one, one.connect() as raw:
        raw.sendall(b"POST /v1/embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n")
        assert b" 413 " in read(raw)


@pytest.mark.parametrize(
    "body",
    [parts(9, file=True), parts(33, file=False), parts(1, file=False, size=70_000)],
    ids=["files", "fields", "size"],
)
def test_files_fields_and_their_sizes_are_bounded(server: Running, body: bytes) -> None:
    answer = server.http.post("/v1/segment", content=body, headers=MULTIPART)
    assert (answer.status_code, kind(answer)) == (400, "malformed")


def test_uploads_never_touch_the_disk(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def rollover(self: object) -> None:
        raise AssertionError("an upload was written to disk")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", rollover)
    data = noise(3)
    assert len(data) > 2 * MEGA
    assert server.segment(data).status_code == 200


def test_a_refusal_reaches_a_client_that_still_sends() -> None:
    """A connection that is closed with unread bytes is reset, and the answer that says why is lost."""
    with running(request_bytes=1000) as one:
        for _ in range(20):
            answer = one.http.post("/v1/embed", content=bytes(3 * MEGA), headers=MULTIPART)
            assert kind(answer) == "too-large"


# pixels


@pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 1), (7000, 7000)])
def test_bombs_are_refused_before_they_are_decoded(server: Running, size: tuple[int, int]) -> None:
    start = time.monotonic()
    answer = server.segment(bomb(*size))
    assert (answer.status_code, kind(answer)) == (422, "too-many-pixels")
    assert time.monotonic() - start < 2


def test_pixels_of_all_requests_together_are_bounded() -> None:
    slow = Waiting()
    with running({"slow": predictor(slow)}, pixels=5000, images=2) as one:
        with in_background(one.segment) as first, in_background(lambda: one.segment(png(flag(60, 80)))) as second:
            assert slow.entered.wait(10)
            room = one.service.room
            assert room.all == 10_000
            deadline = time.monotonic() + 10
            while room.free > 10_000 - 48 * 64 - 60 * 80 and time.monotonic() < deadline:
                time.sleep(0.01)
            assert room.free == 10_000 - 48 * 64 - 60 * 80
            with in_background(one.segment) as third:
                while not room._waiting and time.monotonic() < deadline:
                    time.sleep(0.01)
                assert room._waiting  # its pixels are not decoded yet
                slow.go.set()
        assert [each[0].status_code for each in (first, second, third)] == [200] * 3
        assert room.free == room.all


# time


def slowly(raw: socket.socket, data: bytes, seconds: float) -> bytes:
    """Sends a byte at a time for so long, then reads what has come back."""
    until = time.monotonic() + seconds
    raw.settimeout(0.02)
    received = b""
    for place in range(len(data)):
        if time.monotonic() > until:
            break
        try:
            raw.sendall(data[place : place + 1])
            received += raw.recv(9999)
            if not received:
                return b"closed"
        except TimeoutError:
            continue
        except OSError:
            return received or b"closed"
        if received:
            return received
    return b"still open"


@pytest.mark.parametrize(
    "data",
    [b"POST /v1/embed HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 999, BEGUN + b"--b\r\n" + b"x" * 9000],
    ids=["header", "body"],
)
def test_a_request_must_arrive_in_time(data: bytes) -> None:
    limits = {"header_seconds": 0.3, "receive_seconds": 0.6}
    with running(**limits) as one, one.connect() as raw:
        head = data.index(b"\r\n\r\n") + 4 if b"\r\n\r\n" in data else 40
        raw.sendall(data[:head])
        answer = slowly(raw, data[head:], 5)
        assert b" 408 " in answer
        assert b"urn:lexiseg:problem:slow-request" in answer
        deadline = time.monotonic() + 5
        while one.service.admitted and time.monotonic() < deadline:
            time.sleep(0.01)
        assert one.service.admitted == 0


def test_an_idle_connection_is_closed() -> None:
    with running(header_seconds=0.3) as one, one.connect() as raw:
        raw.settimeout(5)
        assert b" 408 " in read(raw)
        assert raw.recv(9) == b""


def test_a_second_request_on_a_connection_must_arrive_in_time_too() -> None:
    with running(header_seconds=0.3, receive_seconds=0.6) as one, one.connect() as raw:
        raw.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 200 " in read(raw)
        raw.sendall(b"GET /hea")
        raw.settimeout(5)
        assert b" 408 " in read(raw)


def test_slow_answers_and_connections_that_are_kept_alive_are_left_alone() -> None:
    slow = Waiting()
    with running({"slow": predictor(slow)}, header_seconds=0.2, receive_seconds=0.3) as one:
        with in_background(one.segment) as answers:
            assert slow.entered.wait(10)
            time.sleep(0.7)
            slow.go.set()
        assert answers[0].status_code == 200
        time.sleep(0.7)
        assert one.segment().status_code == 200
        with one.connect() as raw:
            for _ in range(2):
                raw.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert b" 200 " in read(raw)
                time.sleep(0.7)


def test_connections_are_bounded() -> None:
    with running(connections=3) as one:
        kept = [one.connect() for _ in range(3)]
        time.sleep(0.1)
        with one.connect() as raw:
            answer = read(raw)
        assert b" 503 " in answer
        assert b"retry-after: 1" in answer
        for each in kept:
            each.close()


# work


def test_words_are_counted_and_measured(server: Running) -> None:
    many = ", ".join(f"word {number}" for number in range(201))
    for words in (many, json.dumps(many.split(", ")), "red, " + "x" * 101, "x" * 101 + ": red", f"red|{'y' * 101}"):
        answer = server.segment(words=words)
        assert (answer.status_code, kind(answer)) == (422, "words")
    answer = server.segment(words="red", background=many)
    assert (answer.status_code, kind(answer)) == (422, "words")


def test_words_that_would_take_long_to_read_are_refused_at_once(server: Running) -> None:
    alias = "[&a [" + "x," * 3000 + "x], " + "*a, " * 9000 + "*a]"
    for words in (alias, "[" * 60_000, "x," * 30_000, "{" + '"a":' * 9000, "\u200d" * 9000):
        start = time.monotonic()
        assert server.segment(words=words).status_code == 422
        assert time.monotonic() - start < 1


def test_a_full_queue_refuses_before_the_body_is_read() -> None:
    slow = Waiting()
    with running({"slow": predictor(slow)}, queue=1) as one, in_background(one.segment) as first:
        assert slow.entered.wait(10)
        with one.connect() as raw:
            raw.sendall(b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n")
            answer = read(raw)
        assert b" 503 " in answer
        assert b"retry-after: 1" in answer.lower()
        assert b"connection: close" in answer.lower()
        assert b"urn:lexiseg:problem:queue-full" in answer
        assert one.http.get("/health").status_code == 200  # which takes no place
        slow.go.set()
    assert first[0].status_code == 200


def test_places_in_the_queue_are_given_back_whatever_happens() -> None:
    with running(queue=2) as one:
        for _ in range(4):
            one.segment(b"broken")
            one.http.post("/v1/classify", content=b"{", headers={"content-type": "application/json"})
            with one.connect() as raw:  # leaves in the middle
                raw.sendall(BEGUN + b"--b\r\n")
        deadline = time.monotonic() + 5
        while one.service.admitted and time.monotonic() < deadline:
            time.sleep(0.01)
        assert one.service.admitted == 0
        assert one.segment().status_code == 200


# files, the hub, the network


def test_no_name_in_a_request_reaches_the_file_system_the_hub_or_an_import(
    server: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def never(*given: object, **more: object) -> None:
        raise AssertionError(f"a request reached {given}")

    server.segment()
    for place in ("load", "resolve", "get"):
        monkeypatch.setattr(catalog, place, never)
    monkeypatch.setattr(lexiseg.Predictor, "load", never)
    monkeypatch.setattr(prompts, "_read_sentences", never)
    (tmp_path / "p.txt").write_text("a photo of a {}")
    for model in ("maskclip/mini", str(tmp_path), "../colours", "openai/clip-vit-base-patch16", "http://x/y"):
        assert kind(server.segment(model=model)) == "unknown-model"
    for field in ("prompts", "refine"):
        for value in (str(tmp_path / "p.txt"), "os", "../x", "lexiseg.cli.main"):
            assert kind(server.segment(**{field: value})) == "invalid"
    for field in ("weights", "templates", "tokenizer", "allow_pickle", "preset", "set", "path", "url"):
        assert kind(server.segment(**{field: "x"})) == "invalid"
    assert kind(server.segment(words=str(tmp_path / "p.txt"))) == "words"


def test_words_of_visitors_are_not_written_to_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))
    predictors = run._loaded({"tiny": "maskclip/tiny"}, "cpu", "fp32")
    with running(predictors) as one:
        assert one.segment(words="my neighbour's secret").status_code == 200
    assert not (tmp_path / "cache").exists()
    memory = predictors["tiny"].text_cache
    assert memory is not None
    assert any("secret" in word for _, word in memory._vectors)  # type: ignore[attr-defined]


def test_no_address_is_ever_fetched(server: Running) -> None:
    with socket.socket() as trap:
        trap.bind(("127.0.0.1", 0))
        trap.listen()
        trap.settimeout(0.2)
        address = f"http://127.0.0.1:{trap.getsockname()[1]}/a.png"
        answers = [
            server.http.post("/v1/segment", files={"image": (None, address)}, data={"words": "red"}),
            server.segment(address.encode()),
            server.segment(model=address),
        ]
        assert {answer.status_code for answer in answers} <= {404, 422}
        with pytest.raises(TimeoutError):
            trap.accept()


# what is told


def test_answers_tell_nothing_of_the_servers_files(tmp_path: Path) -> None:
    folder = tmp_path / "private" / "my-model"
    (tmp_path / "prompts.txt").write_text("a photo of a {}.\n")
    lexiseg.load("maskclip/tiny", prompts=str(tmp_path / "prompts.txt")).save(folder)
    models = run.parse([str(folder)])
    assert list(models) == ["my-model"]
    with running(run._loaded(models, "cpu", "fp32")) as one:
        answers = [one.segment(format=form) for form in ("json", "map", "coco", "png", "npz", "overlay")]
        answers += [one.http.get(path) for path in ("/v1/models", "/v1/openapi.json", "/metrics")]
        answers += [one.segment(model="x"), one.segment(b"x"), one.segment(words="a,a")]
        answers += [one.http.post("/v1/classify", json={"id": one.embed().json()["id"], "words": "red"})]
        for answer in answers:
            told = answer.content + str(answer.headers).encode()
            assert str(tmp_path).encode() not in told
            assert b"private" not in told
            assert b"prompts.txt" not in told
        assert answers[0].json()["settings"]["model"] == "my-model"


def test_a_fault_of_ours_tells_its_id_alone(server: Running, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    class Broken(Colours):
        def classify(self, embedding, classifier):
            raise RuntimeError("/home" + "/anna/secret")

    with running({"broken": predictor(Broken())}) as one, caplog.at_level(logging.ERROR):
        answer = one.segment()
        assert (answer.status_code, kind(answer)) == (500, "internal")
        assert "secret" not in answer.text
        assert answer.json()["request_id"] in caplog.text
        assert "secret" in caplog.text
        several = one.segment(png(), png())
        assert (several.status_code, kind(several)) == (500, "internal")
        assert "secret" not in several.text
        assert one.http.get("/health").status_code == 200


def test_no_header_names_the_software(server: Running) -> None:
    assert "server" not in server.http.get("/health").headers


def test_log_lines_are_json_without_words_names_or_addresses(server: Running, caplog) -> None:
    with caplog.at_level(logging.INFO, logger=access_log.name):
        access_log.addHandler(caplog.handler)
        files = {"image": ("my-face.png", png())}
        server.http.post(
            "/v1/segment?secret=1", files=files, data={"words": "red, blue"}, headers={"X-Request-Id": "a.1"}
        )
        access_log.removeHandler(caplog.handler)
    (said,) = {record.getMessage() for record in caplog.records if record.name == access_log.name}
    line = json.loads(said)
    assert line["id"] == "a.1"
    assert (line["route"], line["status"], line["pixels"], line["classes"]) == ("/v1/segment", 200, 48 * 64, 2)
    assert not any(word in said for word in ("my-face", "red", "secret", "127.0.0.1"))


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "a;b", "ä"])
def test_a_request_id_that_could_forge_log_lines_is_replaced(server: Running, given: str) -> None:
    answer = server.http.get("/health", headers={"X-Request-Id": given.encode()})
    assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["x-request-id"])


def test_a_request_id_is_in_every_answer(server: Running) -> None:
    for path in ("/", "/health", "/v1/models", "/nothing"):
        assert server.http.get(path, headers={"X-Request-Id": "a-1._B"}).headers["x-request-id"] == "a-1._B"


# who may ask


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", "", "127.0.0.1.nip.io"])
def test_a_name_that_is_not_the_servers_is_refused(server: Running, host: str) -> None:
    answer = server.http.get("/health", headers={"Host": host})
    assert (answer.status_code, kind(answer)) == (400, "host")


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1:8000", "[::1]:8000", "10.0.0.7", "LOCALHOST"])
def test_loopback_and_addresses_in_numbers_are_the_servers(server: Running, host: str) -> None:
    assert server.http.get("/health", headers={"Host": host}).status_code == 200


def test_names_that_are_allowed_are_the_servers() -> None:
    with running(hosts=("labels.example.org",)) as one:
        assert one.http.get("/health", headers={"Host": "labels.example.org:443"}).status_code == 200
        assert one.http.get("/health", headers={"Host": "example.org"}).status_code == 400


def test_pages_of_others_may_not_read_answers(server: Running) -> None:
    origin = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for answer in (server.http.get("/v1/models", headers=origin), server.http.options("/v1/classify", headers=origin)):
        assert not [name for name in answer.headers if name.startswith("access-control")]
    answer = server.http.post("/v1/classify", content=b"{}", headers=origin | {"content-type": "text/plain"})
    assert answer.status_code == 415  # what a page of others can send without asking


def test_without_the_token_only_the_page_and_health_are_open() -> None:
    token = "0123456789abcdef"
    with running(token=token) as one:
        for path in ("/", "/static/page.js", "/health", "/ready"):
            assert one.http.get(path).status_code in (200, 404), path
        for path in ("/v1/models", "/v1/openapi.json", "/metrics", "/nothing"):
            answer = one.http.get(path)
            assert (answer.status_code, kind(answer)) == (401, "token"), path
            assert answer.headers["www-authenticate"] == "Bearer"
        for given in ("", "Bearer", f"Bearer {token}x", f"Bearer {token[:-1]}", f"Basic {token}", "Bearer ÿ"):
            assert one.http.get("/v1/models", headers={"Authorization": given.encode("latin-1")}).status_code == 401
        assert one.segment().status_code == 401
        for given in (f"Bearer {token}", f"bearer  {token}"):
            assert one.http.get("/v1/models", headers={"Authorization": given}).status_code == 200
        described = one.http.get("/v1/openapi.json", headers={"Authorization": f"Bearer {token}"}).json()
        assert described["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "labels.example.org"])
def test_a_host_beyond_this_machine_needs_a_token(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(run.TOKEN, raising=False)
    with pytest.raises(SettingError, match="is reached from other machines, and no token is set"):
        run.serve("maskclip/tiny", host=host)
    with pytest.raises(SettingError, match="the token must be 16 or more letters"):
        run.serve("maskclip/tiny", host=host, token="short")


def test_every_answer_has_the_headers_of_a_careful_server(server: Running) -> None:
    for path in ("/", "/static/page.css", "/health", "/v1/models", "/nothing"):
        answer = server.http.get(path)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    policy = HEADERS["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert server.http.get("/v1/models").headers["cache-control"] == "no-store"


# what is kept


def test_embeddings_are_bounded_in_bytes_and_go_with_their_time() -> None:
    with running(cache_bytes=20_000, cache_seconds=60) as one:
        keys = [one.embed().json()["id"] for _ in range(4)]
        assert 0 < one.service.embeddings.bytes <= 20_000
        assert len(one.service.embeddings) < 4
        codes = [one.http.post("/v1/classify", json={"id": key, "words": "red"}).status_code for key in keys]
        assert (codes[0], codes[-1]) == (404, 200)
        one.service.embeddings.clock = lambda: time.monotonic() + 61
        answer = one.http.post("/v1/classify", json={"id": keys[-1], "words": "red"})
        assert (answer.status_code, kind(answer)) == (404, "unknown-embedding")
        assert one.service.embeddings.bytes == 0


def test_nothing_of_a_photograph_is_kept_at_its_full_size() -> None:
    with running({"colours": predictor(long_side=32)}) as one:
        one.embed(png(np.zeros((900, 1200, 3), np.uint8)))
        assert one.service.embeddings.bytes < 24 * 32 * 3 * 8


# what is not HTTP


def test_what_is_not_http_is_a_problem(server: Running) -> None:
    for data in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9 + b"\r\n\r\n", b"GET\x00 / HTTP/1.1\r\n\r\n"):
        with server.connect() as raw:
            raw.sendall(data)
            answer = read(raw)
            assert b" 400 " in answer
            assert b"urn:lexiseg:problem:malformed" in answer


def test_a_header_without_end_is_cut_off(server: Running) -> None:
    with server.connect() as raw:
        received = b""
        try:
            for _ in range(200):
                raw.sendall(b"X-Long: " + b"y" * 1000)
            received = read(raw)
        except OSError:
            return
        assert b" 400 " in received


def test_many_aborted_uploads_leave_no_descriptors_behind(server: Running) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0

    server.segment()
    before = descriptors()
    for _ in range(50):
        with server.connect() as raw:
            raw.sendall(BEGUN + parts(1, file=True, size=3000)[:2000])
    deadline = time.monotonic() + 5
    while (descriptors() > before or server.service.admitted) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert descriptors() <= before
    assert server.service.admitted == 0
