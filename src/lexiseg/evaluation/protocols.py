"""Says how a method is measured on a benchmark.

Numbers compare only where this is equal.

Three names for a protocol:

    released    what the authors' code did, which is what their numbers were measured with
    paper       what the paper says, where it says something else
    lexiseg     the variant's own settings, and the benchmark's `background_words` where a background is scored and no
                other rule is set

`published/` has those of the papers; `choosing` says which of them is a method's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["LEXISEG", "NAMES_ONLY", "Protocol", "Row", "Study", "row"]

LEXISEG = "lexiseg"
NAMES_ONLY = "names"  # a wording that every benchmark has: each class by its name alone


@dataclass(frozen=True)
class Protocol:
    """Everything that is chosen beside the model, the photographs and the metric.

    source: the table or section that it is taken from.
    preset: the method's preset that `settings` are applied on top of.
    settings: fields of the method's `Config` or of `Inference`, by name.
    wording: how the benchmark's classes are called, "names" for each name alone; None is the benchmark's own wording.
    background: words that stand for the background: the name of a list, or the words; None for no such words.
    average: which classes the means leave out, see `metrics.scores`.
    options: choices of the benchmark.
    dtype: the precision unless another is asked for, see `lexiseg.load`.
    """

    method: str
    benchmark: str
    name: str
    source: str
    preset: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    wording: str | None = None
    background: str | None = None
    average: str = "present_or_predicted"
    options: Mapping[str, str] = field(default_factory=dict)
    dtype: str = "auto"


@dataclass(frozen=True)
class Row:
    """What a benchmark changes in a `Study`; see `row`."""

    wording: str | None
    background: str | None
    options: Mapping[str, str]
    settings: Mapping[str, Any]


def row(
    wording: str | None = None,
    *,
    background: str | None = None,
    options: Mapping[str, str] | None = None,
    **settings: Any,
) -> Row:
    """One line of a table: the wording, then the settings that this benchmark changes."""
    return Row(wording, background, options or {}, settings)


@dataclass(frozen=True)
class Study:
    """The protocols of one method under one name: what all its tests share, and a row for each benchmark.

    variants: those that the authors measured, by name.
    dtype: of the authors' code; bf16 in place of fp32 changes about one label in a hundred.
    """

    name: str
    source: str
    variants: tuple[str, ...]
    rows: Mapping[str, Row]
    preset: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "fp32"

    def protocol(self, method: str, benchmark: str) -> Protocol:
        line = self.rows[benchmark]
        return Protocol(
            method=method,
            benchmark=benchmark,
            name=self.name,
            source=self.source,
            preset=self.preset,
            settings={**self.settings, **line.settings},
            wording=line.wording,
            background=line.background,
            options=line.options,
            dtype=self.dtype,
        )
