"""Every name that lexiseg exports has an example in its docstring, and all of them run as written."""

from __future__ import annotations

import doctest
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import lexiseg

VERSION = "__version__"  # a plain text has no docstring of its own; the package's shows it


def examples(name: str, value: Any) -> list[doctest.DocTest]:
    """The docstrings with examples of a name, its own first; of a class also those of its methods."""
    finder = doctest.DocTestFinder(exclude_empty=True, recurse=not isinstance(value, ModuleType))
    found = finder.find(value, name, module=False, globs={})
    return sorted((test for test in found if test.examples), key=lambda test: test.name != name)


def documented(name: str) -> Any:
    return lexiseg if name == VERSION else getattr(lexiseg, name)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples write files into the current folder, and keep words in a cache of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", lexiseg.__all__)
def test_every_exported_name_has_an_example_that_uses_it(name: str) -> None:
    found = examples(name, documented(name))
    assert found, f"the docstring of lexiseg.{name} has no example (>>>)"
    assert found[0].name == name, f"the docstring of lexiseg.{name} has no example (>>>)"
    shown = "".join(example.source + (example.exc_msg or "") for example in found[0].examples)
    assert name in shown


@pytest.mark.parametrize("name", lexiseg.__all__)
def test_the_examples_run_as_written(name: str) -> None:
    for test in examples(name, documented(name)):
        printed: list[str] = []
        outcome = doctest.DocTestRunner(verbose=False).run(test, out=printed.append)
        assert outcome.attempted == len(test.examples)
        assert not outcome.failed, "".join(printed)


def test_an_example_that_is_wrong_or_missing_is_noticed() -> None:
    module = ModuleType("wrong")
    module.__doc__ = ">>> 1 + 1\n3\n"
    (test,) = examples("wrong", module)
    assert doctest.DocTestRunner(verbose=False).run(test, out=lambda text: None).failed == 1
    module.__doc__ = "Adds."
    assert examples("wrong", module) == []
