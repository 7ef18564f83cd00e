"""The Markdown pages of the repository, and what stands in their code blocks."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_PLACES = ("*.md", "docs/*.md", "docs/papers/*.md", "benchmarks/*.md", "tools/**/*.md", "src/lexiseg/assets/*/*.md")
PAGES = sorted({path for place in _PLACES for path in ROOT.glob(place)})
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path, kind: str) -> list[str]:
    """The fenced blocks of a kind ("python", "sh"), in order."""
    return [block for found, block in _FENCE.findall(page.read_text(encoding="utf-8")) if found == kind]


def code(page: Path) -> list[str]:
    """The lines of all code blocks, fenced or indented; a line that ends with a backslash is joined with the next."""
    text = page.read_text(encoding="utf-8")
    fenced = [line for _, block in _FENCE.findall(text) for line in block.splitlines()]
    indented = [line for line in _FENCE.sub("", text).splitlines() if line.startswith("    ")]
    joined = "\n".join([*fenced, *indented]).replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines()]


def prose(page: Path) -> list[str]:
    """The lines outside of fenced blocks and tables."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return [line for line in text.splitlines() if not line.lstrip().startswith("|")]


def commands(page: Path) -> list[str]:
    """The `lexiseg` commands in code blocks, without remarks, which stand behind two blanks or a #."""
    found = []
    for line in code(page):
        line = re.sub(r" {2,}-", " -", re.sub(r"^.* -m lexiseg ", "lexiseg ", line))
        for part in re.split(r" {2,}|(?<= )#", line):
            found += [piece.strip() for piece in part.split("&&") if piece.strip().startswith("lexiseg ")]
    return found
