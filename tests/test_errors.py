"""What a user sees of a mistake: one family of errors, readable messages, the nearest name."""

from __future__ import annotations

import pickle

import pytest

from lexiseg import errors
from lexiseg.errors import LexisegError, MissingDependency, OutputError, UnknownName, VocabularyError, nearest

CLASSES = [kind for name in errors.__all__ if isinstance(kind := getattr(errors, name), type)]


@pytest.mark.parametrize("kind", CLASSES)
def test_catching_LexisegError_catches_every_error(kind: type[Exception]) -> None:
    assert issubclass(kind, LexisegError)


def test_the_tree_in_the_docstring_names_every_error_class_of_the_module() -> None:
    defined = {
        name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert defined == {kind.__name__ for kind in CLASSES}
    assert all(name in (errors.__doc__ or "") for name in defined)


@pytest.mark.parametrize(
    ("raised", "builtin"),
    [
        (VocabularyError("no"), ValueError),
        (OutputError("no"), OSError),
        (UnknownName("model", "x", []), KeyError),
        (MissingDependency("onnx", "export", "exporting"), ImportError),
    ],
)
def test_errors_are_also_the_builtin_ones_that_callers_expect(raised: Exception, builtin: type[Exception]) -> None:
    assert isinstance(raised, builtin)


@pytest.mark.parametrize(
    "error",
    [
        UnknownName("model", "maskclp", ("maskclip", "simseg")),
        MissingDependency("onnx", "export", "exporting"),
        OutputError("cannot write x"),
        VocabularyError("no classes"),
    ],
)
def test_errors_survive_the_way_from_a_worker_process(error: LexisegError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_an_unknown_name_says_kind_name_and_the_nearest_one_without_quotes_around_it() -> None:
    text = str(UnknownName("model", "maskclp", ("maskclip", "simseg")))
    assert text == "no model is called 'maskclp'; did you mean 'maskclip'?"


def test_a_missing_package_says_how_to_install_it() -> None:
    assert "pip install 'lexiseg[export]'" in str(MissingDependency("onnx", "export", "exporting a model"))


def test_the_nearest_names_come_before_the_list() -> None:
    assert nearest("vit_b16", ["rn50", "vit-b16"]) == "did you mean 'vit-b16'?"


def test_without_a_near_name_the_first_choices_are_listed_and_the_rest_counted() -> None:
    assert nearest("zzz", [f"a{i}" for i in range(10)], most=3) == "choose from a0, a1, a2 and 7 more"
    assert nearest("zzz", ["a", "b"]) == "choose from a, b"
    assert nearest("zzz", []) == "there are none to choose from"
