"""What holds for every command: exit codes, help with examples, speed of the first answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer

import lexiseg
from lexiseg.cli.main import app, main


def commands() -> list[list[str]]:
    """Every command as words, those of groups included."""
    root = typer.main.get_command(app)
    found = []
    for name, command in sorted(root.commands.items()):  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found += [[name, one] for one in sorted(inner)] if inner else [[name]]
    return found


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_help_ends_with_examples(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"lexiseg {' '.join(command)}" in text.rpartition("Examples:")[2]


def test_bad_usage_exits_with_2_and_offers_the_nearest_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segmnt"]) == 2
    assert "segment" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"lexiseg {lexiseg.__version__}"


def test_help_loads_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from lexiseg.cli.main import main; main(['segment', '--help']); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'scipy', 'numba')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_an_error_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(lexiseg, "load", broken)
    with pytest.raises(ZeroDivisionError):
        main(["demo", "--out", str(tmp_path)])
