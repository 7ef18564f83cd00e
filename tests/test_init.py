"""`import lexiseg` is cheap and offers exactly the names it promises."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

import lexiseg


def modules_after(statement: str) -> set[str]:
    """Top-level packages that a fresh interpreter holds after `statement`."""
    code = (
        f"{statement}\nimport json, sys\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_importing_lexiseg_loads_nothing_heavy() -> None:
    loaded = modules_after("import lexiseg")
    assert not loaded & {"torch", "transformers", "scipy", "skimage", "pydantic", "PIL", "numba"}


def test_results_can_be_opened_without_torch() -> None:
    loaded = modules_after("from lexiseg import Segmentation, Vocabulary; Segmentation; Vocabulary('a')")
    assert "numpy" in loaded
    assert not loaded & {"torch", "transformers", "scipy", "skimage", "pydantic", "PIL", "pycocotools"}


@pytest.mark.parametrize("name", lexiseg.__all__)
def test_every_promised_name_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(lexiseg, name)
    assert name in dir(lexiseg)
    assert name == "__version__" or value.__doc__


def test_a_promised_name_is_the_one_its_module_promises() -> None:
    for name, home in lexiseg._HOMES.items():
        module = importlib.import_module(home)
        assert name in module.__all__
        assert getattr(lexiseg, name) is getattr(module, name)


def test_the_promise_is_sorted_and_says_nothing_twice() -> None:
    assert len(set(lexiseg.__all__)) == len(lexiseg.__all__)
    assert {"load", "Vocabulary", "Segmentation", "LexisegError", "__version__"} <= set(lexiseg.__all__)


def test_every_error_is_there_to_be_caught() -> None:
    from lexiseg import errors

    kinds = [name for name in errors.__all__ if name not in ("first_line", "nearest")]
    assert kinds
    for name in kinds:
        assert name in lexiseg.__all__
        assert getattr(lexiseg, name) is getattr(errors, name)


def test_completion_offers_promised_names_alone() -> None:
    assert set(dir(lexiseg)) == set(lexiseg.__all__)


def test_an_attribute_that_does_not_exist_is_an_attribute_error_that_lists_the_names() -> None:
    with pytest.raises(AttributeError, match=r"'lexiseg' has no attribute 'Vocabluary'.*Vocabulary"):
        lexiseg.Vocabluary  # noqa: B018
    assert not hasattr(lexiseg, "segment")
