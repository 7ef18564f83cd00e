"""Starting and stopping: names, tokens and hosts, and a process that finishes what it has accepted."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import lexiseg
from lexiseg import MissingDependency, SettingError
from lexiseg.cli.main import main
from lexiseg.serving import run
from lexiseg.serving.limits import Limits
from serving.servers import png


def test_models_are_served_by_names_without_paths(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert run.parse("maskclip/mini") == {"maskclip/mini": "maskclip/mini"}
    assert run.parse(["cats=maskclip/tiny", str(tmp_path / "mine")]) == {
        "cats": "maskclip/tiny",
        "mine": str(tmp_path / "mine"),
    }
    assert run.parse({"a": tmp_path}) == {"a": str(tmp_path)}


@pytest.mark.parametrize("models", [[], ["a=x", "a=y"], ["=x"], ["a b=x"], ["x" * 65 + "=y"], ["<b>=x"]])
def test_names_that_cannot_be_used_are_refused(models: list[str]) -> None:
    with pytest.raises(SettingError):
        run.parse(models)


def test_a_token_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("  0123456789abcdef\n")
    assert run.read_token(tmp_path / "token") == "0123456789abcdef"
    assert run.read_token(None) is None
    with pytest.raises(SettingError, match="cannot read the token"):
        run.read_token(tmp_path / "nothing")


@pytest.mark.parametrize("token", ["", "short", "0123456789 abcdef", "0123456789abcdéf"])
def test_tokens_that_protect_nothing_are_refused(token: str) -> None:
    with pytest.raises(SettingError, match="the token must be"):
        run.serve("maskclip/tiny", token=token)


def test_loopback_needs_no_token_and_others_may_do_without_if_told() -> None:
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        run._check_token(host, None, no_token=False)
    run._check_token("0.0.0.0", None, no_token=True)
    run._check_token("0.0.0.0", "0123456789abcdef", no_token=False)


def test_which_names_are_the_servers() -> None:
    token = "0123456789abcdef"
    assert run._hosts("127.0.0.1", None, ()) == ("127.0.0.1",)
    assert run._hosts("127.0.0.1", token, ()) == ("127.0.0.1",)
    assert run._hosts("0.0.0.0", token, ()) is None  # the token decides
    assert run._hosts("0.0.0.0", token, ["a.example"]) == ("a.example", "0.0.0.0")
    assert run._hosts("0.0.0.0", None, ["a.example"]) == ("a.example", "0.0.0.0")


def test_without_the_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "NEEDED", {"no_such_module": "fastapi"})
    with pytest.raises(MissingDependency, match=re.escape("pip install 'lexiseg[serve]'")):
        run.serve()


def test_a_port_that_is_taken_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["serve", "maskclip/tiny", "--port", str(taken.getsockname()[1])]) == 1
    assert "choose another, --port 0 for any" in capsys.readouterr().err


def test_a_host_beyond_this_machine_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(run.TOKEN, raising=False)
    assert main(["serve", "maskclip/tiny", "--host", "0.0.0.0"]) == 1
    assert "--token-file" in capsys.readouterr().err


def test_limits_must_be_above_zero() -> None:
    with pytest.raises(SettingError, match="the limit queue must be above 0"):
        Limits(queue=0)


def test_importing_lexiseg_and_asking_for_help_load_no_server() -> None:
    code = (
        "import sys, lexiseg; from lexiseg.cli.main import main; main(['serve', '--help']); "
        "sys.exit(any(name in sys.modules for name in ('fastapi', 'uvicorn', 'starlette', 'torch', 'httpx')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_the_client_needs_no_torch() -> None:
    code = (
        "import sys; from lexiseg.serving.client import Client; Client('http://127.0.0.1:1'); "
        "sys.exit(any(name in sys.modules for name in ('fastapi', 'uvicorn', 'torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@contextlib.contextmanager
def process(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`lexiseg serve` as a user starts it, and its address."""
    command = [sys.executable, "-m", "lexiseg", "serve", "maskclip/tiny", "--port", "0", *arguments]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
    try:
        assert started.stderr is not None
        address = next(found[0] for line in started.stderr if (found := re.search(r"http://[\d.]+:\d+", line)))
        yield started, address
    finally:
        started.kill()
        started.wait()
        assert started.stderr is not None
        started.stderr.close()


def test_a_process_asks_for_the_token_and_when_told_to_stop_finishes_what_it_has_accepted() -> None:
    token = {"Authorization": "Bearer 0123456789abcdef"}
    with process(LEXISEG_TOKEN="0123456789abcdef") as (started, address):
        assert httpx.get(f"{address}/").status_code == 200
        assert httpx.get(f"{address}/v1/models").status_code == 401
        found = httpx.get(f"{address}/v1/models", headers=token).json()
        assert [model["name"] for model in found["models"]] == ["maskclip/tiny"]
        answers: list[int] = []

        def ask(number: int) -> None:
            words = ", ".join(f"thing {number} {place}" for place in range(20))  # thousands of sentences: a moment
            fields = {"words": words, "prompts": "imagenet80"}
            sent = {"files": {"image": png()}, "data": fields, "headers": token, "timeout": 60}
            answers.append(httpx.post(f"{address}/v1/segment", **sent).status_code)  # type: ignore[arg-type]

        threads = [threading.Thread(target=ask, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 30
        while "lexiseg_in_progress 4.0" not in httpx.get(f"{address}/metrics", headers=token).text:
            assert time.monotonic() < deadline
            assert not answers
        started.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(60)
        started.wait(30)
        assert answers == [200] * 4
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address}/health")


def test_the_function_of_the_package_is_the_commands() -> None:
    assert lexiseg.serve is run.serve
