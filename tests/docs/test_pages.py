"""The Markdown pages: lines, links, scripts and command lines are what they seem."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from docs.markdown import PAGES, ROOT, code, commands, prose
from lexiseg.cli.main import app

HISTORY = ROOT / "docs" / "log.md"  # its commands are those of their day
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pages
def test_lines_of_prose_have_at_most_120_letters(page: Path) -> None:
    assert [line for line in prose(page) if len(line) > 120] == []


@pages
def test_links_lead_to_files_of_the_repository(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


@pages
def test_scripts_that_a_page_runs_exist(page: Path) -> None:
    if page == HISTORY:
        return
    scripts = re.findall(r"\bpython ([\w/-]+\.py)\b", page.read_text(encoding="utf-8"))
    assert [script for script in scripts if not (ROOT / script).is_file()] == []


@pages
def test_command_lines_are_understood(page: Path) -> None:
    for line in commands(page):
        command, words = typer.main.get_command(app), shlex.split(line)[1:]
        while subcommands := getattr(command, "commands", {}):
            assert words, line
            assert words[0] in subcommands, line
            command = subcommands[words.pop(0)]
        command.make_context("lexiseg", words)  # exits or raises for an option that is unknown or lacks its value


def test_command_lines_are_found() -> None:
    found = commands(ROOT / "README.md")
    assert 'lexiseg segment street.jpg --words "road, car, person|pedestrian, sky" --out labelled' in found
    assert {"lexiseg demo", "lexiseg list models", "lexiseg doctor", "lexiseg compare a.json b.json"} <= set(found)
    assert "lexiseg train simseg --out runs/simseg --resume" in commands(ROOT / "docs" / "distributed.md")
    assert len(code(ROOT / "README.md")) > 30


def test_the_plan_of_the_code_names_every_folder() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    source = ROOT / "src" / "lexiseg"
    folders = {path.parent.relative_to(source).parts[0] for path in source.glob("*/__init__.py")}
    assert {folder for folder in folders if f"{folder}/" not in text} == set()
