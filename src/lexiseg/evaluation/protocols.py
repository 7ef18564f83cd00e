"""How a method is measured on a benchmark, as a frozen value: numbers compare only where these are equal.

Three names for a protocol:

    released    what the authors' code did, which is what their numbers were measured with
    paper       what the paper says, where it says something else
    lexiseg     the variant's own settings, and `BACKGROUND_WORDS` where a background is scored and no other rule is set

`published.py` has those of the papers. A method's own is "released", else "paper", for the variants that its authors
measured; for any other (an embedded or a tiny model, weights of one's own) it is "lexiseg".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["BACKGROUND_WORDS", "LEXISEG", "NAMES_ONLY", "Protocol", "Row", "Study", "row"]

LEXISEG = "lexiseg"
BACKGROUND_WORDS = "sclip"  # a name of `lexiseg.benchmarks._classes.background_lists`
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
    """

    method: str
    name: str
    source: str
    variants: tuple[str, ...]
    rows: Mapping[str, Row]
    preset: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def protocol(self, benchmark: str) -> Protocol:
        line = self.rows[benchmark]
        return Protocol(
            method=self.method,
            benchmark=benchmark,
            name=self.name,
            source=self.source,
            preset=self.preset,
            settings={**self.settings, **line.settings},
            wording=line.wording,
            background=line.background,
            options=line.options,
        )
