from __future__ import annotations

import json
from pathlib import Path

import pytest

from lexiseg.cli.main import main

TINY = ["bench", "maskclip/tiny", "--size", "32", "--images", "1", "--no-memory"]


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command sets these for its process, which here is everybody's."""
    for name in ("HF_HUB_OFFLINE", "KINETO_LOG_LEVEL"):
        monkeypatch.setenv(name, "1")


def test_tables_have_a_line_for_each_number_of_classes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, "--classes", "2,300", "--profile"]) == 0
    text = capsys.readouterr().out
    ways, stages, operators, about = text.split("\n\n")
    assert [line.split()[0] for line in ways.splitlines()[2:]] == ["2", "300"]
    assert "around the encoder" in stages
    assert "aten::" in operators
    assert "commit" in about


def test_json_is_one_document_and_the_file_has_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "speed.json"
    assert main([*TINY, "--classes", "2", "--json", "--out", str(out)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads(out.read_text())
    (row,) = document["rows"]
    assert row["classes"] == 2
    assert row["faster_than"].keys() == {"peer fp32", "peer half"}
    assert row["around_encoder"] > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--classes", "two"], "--classes 'two' is no list"),
        (["--size", "0"], "--size 0"),
        (["--images", "0"], "--images 0"),
        (["--set", "short_side=many"], "short_side"),
    ],
)
def test_mistakes_are_one_line(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, *options]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


def test_an_unknown_model_is_an_error_with_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "maskclip/vitb16"]) == 1
    assert "did you mean" in capsys.readouterr().err
