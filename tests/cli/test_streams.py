"""Printing never ends the work, in a process of its own, since it is about that process's output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def lexiseg(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "lexiseg", *arguments, "--model", "maskclip/tiny"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / f"{name}.jpg")
    return tmp_path


def test_the_work_goes_on_when_the_reader_of_a_pipe_is_gone(photos: Path, tmp_path: Path) -> None:
    command = lexiseg("segment", str(photos), "--words", "sky", "--out", str(tmp_path / "out"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.close()  # as head does
        _, errors = child.communicate()
    assert child.returncode == 0, errors.decode()
    assert b"3 labelled" in errors
    assert len(list((tmp_path / "out").glob("*.overlay.png"))) == 3


def test_a_word_that_the_console_cannot_show_loses_nothing(photos: Path, tmp_path: Path) -> None:
    command = lexiseg("segment", str(photos / "a.jpg"), "--words", "猫 🐈", "--json")
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr.decode("cp1252")
    (result,) = json.loads(done.stdout.decode("cp1252"))["results"]
    assert len(result["areas"]) == 1
    assert json.loads((tmp_path / "labelled" / "a.json").read_text(encoding="utf-8"))["classes"][0]["name"] == "猫 🐈"
