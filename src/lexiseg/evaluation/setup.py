"""Names the model, the benchmark, and what is changed about them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any

from lexiseg.benchmarks._benchmark import Opened
from lexiseg.errors import SettingError
from lexiseg.evaluation.protocols import Protocol
from lexiseg.inference.predictor import Predictor

__all__ = ["NO_WORDS", "Model", "Setup"]

NO_WORDS = "none"  # as a background: no words stand for it


@dataclass(frozen=True)
class Model:
    """A model by its name, and what is changed about it; `lexiseg.load` says more of each.

    name: "method/variant", a method, or a saved folder.
    changes: settings by name, on top of those of a protocol.
    """

    name: str
    weights: str | os.PathLike[str] | None = None
    preset: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    changes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check("a model", self.name or None, (str,), "a name (see `lexiseg list`), a folder or a predictor")


@dataclass(frozen=True)
class Setup:
    """A model on a benchmark, before anything is loaded or opened.

    model: by its name, or a predictor, which is measured as it is.
    benchmark: the name of one whose files lie below `data`, or one that is open.
    data: the folder of the benchmark's files.
    protocol: "released", "paper", "lexiseg" ..., or one of your own; None is the one that the method's authors used.
    split: None is the one that numbers are reported on.
    wording: how the classes are called in place of the protocol's way; "names" is each name alone.
    background: words for everything else, or the name of a list of them, in place of the protocol's; "none" for none.
        A text, or a list of words.
    options: choices of the benchmark.
    """

    model: Model | Predictor
    benchmark: str | Opened
    data: str | os.PathLike[str] | None = None
    protocol: str | Protocol | None = None
    split: str | None = None
    wording: str | None = None
    background: str | Sequence[str] | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check("a benchmark", self.benchmark, (str, Opened), "its name; see `lexiseg list benchmarks`")
        _check("data", self.data, (str, os.PathLike, NoneType), "the folder of the benchmark's files")
        _check("a protocol", self.protocol, (str, Protocol, NoneType), "its name")
        _check("a split", self.split, (str, NoneType), "its name")
        _check("a wording", self.wording, (str, NoneType), "its name")
        _check("the background", self.background, (str, list, tuple, NoneType), "words, or the name of a list")
        _check("the options", self.options, (Mapping,), "names with choices, for example {'classes': 'all'}")

    @property
    def on(self) -> str:
        """The name of the benchmark."""
        return self.benchmark if isinstance(self.benchmark, str) else self.benchmark.benchmark.name

    @property
    def folder(self) -> Path | None:
        return None if self.data is None else Path(self.data).expanduser()


def _check(what: str, given: object, kinds: tuple[type, ...], wanted: str) -> None:
    if not isinstance(given, kinds):
        raise SettingError(f"{what} cannot be {given!r}; give {wanted}")
