"""What holds for every command: exit codes, help with examples, speed of the first answer."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import lexiseg
from lexiseg.cli.main import app, main


def commands() -> list[list[str]]:
    """Every command as words, groups and those in them included; lexiseg itself is none."""
    root = typer.main.get_command(app)
    found: list[list[str]] = [[]]
    for name, command in sorted(root.commands.items()):  # type: ignore[attr-defined]
        found += [[name], *([name, one] for one in sorted(getattr(command, "commands", {})))]
    return found


def examples(command: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines below "Examples:" in the help of a command."""
    assert main([*command, "--help"]) == 0
    return [line.strip() for line in capsys.readouterr().out.rpartition("Examples:")[2].splitlines() if line.strip()]


@pytest.mark.parametrize("command", commands(), ids=lambda command: " ".join(command) or "lexiseg")
def test_every_help_ends_with_examples_that_are_understood(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = examples(command, capsys)
    assert any(line.startswith(" ".join(["lexiseg", *command])) for line in lines)
    for line in lines:
        current, words = typer.main.get_command(app), shlex.split(line.rpartition("-m lexiseg ")[2])
        words = words[words[0] == "lexiseg" :]
        while subcommands := getattr(current, "commands", {}):
            assert words[0] in subcommands, line
            current = subcommands[words.pop(0)]
        current.make_context("lexiseg", words)  # exits or raises for an option that is unknown or lacks its value


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
