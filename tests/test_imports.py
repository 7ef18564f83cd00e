"""No files of the package import each other in a circle, wherever in them the imports are."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import lexiseg

ROOT = Path(lexiseg.__file__).parent
# the packages' own files are left out: they hold a headline, and lexiseg's fetches names when they are asked for
FILES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts): path.read_text(encoding="utf-8")
    for path in sorted(ROOT.rglob("*.py"))
    if path.name != "__init__.py"
}


def imported(source: str) -> Iterator[str]:
    """Everything that could be a module: at the top, inside functions, and for the type checker alone."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, "imports are written in full"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def circle(files: Mapping[str, str]) -> list[str]:
    """The files of one circle of imports, the first one again at the end; empty where there is none."""
    graph = {name: {other for other in imported(source) if other in files} for name, source in files.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [str(name) for name in reversed(error.args[1])]
    return []


def test_no_files_import_each_other_in_a_circle() -> None:
    assert len(FILES) > 150
    assert not circle(FILES)


@pytest.mark.parametrize(
    "third",
    [
        "import a.one",
        "from a import one",
        "from a.one import f",
        "def g():\n    from a import one",
        "if TYPE_CHECKING:\n    from a.one import f",
    ],
)
def test_a_circle_is_found(third: str) -> None:
    files = {"a.one": "from a.two import g", "a.two": "from a import three", "a.three": third, "a.four": "import a.one"}
    assert set(circle(files)) == {"a.one", "a.two", "a.three"}
    assert not circle({**files, "a.three": "import os"})
