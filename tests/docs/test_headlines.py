"""The first line of every module says what it does: a verb in the third person, in under 12 words."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "lexiseg"
MODULES = sorted(SOURCE.rglob("*.py"))
VERB = re.compile(r"[A-Z][a-z]+s\b(?![:'-])")  # "Reads", not "Photographs:" or "CLIP's"


def faults(headline: str) -> list[str]:
    words = len(headline.split())
    return [
        fault
        for fault, found in (
            ("it does not begin with a verb, such as 'Reads'", not VERB.match(headline)),
            (f"it has {words} words; use 11 or fewer", words > 11),
            ("it is not a sentence that ends on the first line", not headline.endswith(".")),
        )
        if found
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_the_headline_of_a_module_says_what_it_does(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")), clean=False) or ""
    headline, _, rest = docstring.partition("\n")
    assert faults(headline) == []
    assert rest == "" or rest.startswith("\n"), "a blank line follows the headline"


def test_headlines_of_another_kind_are_noticed() -> None:
    assert faults("Reads photographs.") == []
    assert len(faults("Photographs: any file as RGB.")) == 1
    assert len(faults("What is done to a caption before a model reads it, and what is not")) == 3
