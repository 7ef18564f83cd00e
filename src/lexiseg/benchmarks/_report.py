"""Holds what `lexiseg data check` found, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lexiseg.benchmarks._reading import Contents

__all__ = ["Item", "Report"]


@dataclass(frozen=True)
class Item:
    """One thing the data is made of. `found` and `expected` are numbers of files; `missing` names the first few."""

    what: str
    place: str
    found: int
    expected: int
    missing: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        return self.found >= self.expected > 0


@dataclass(frozen=True)
class Report:
    """str() is for people, `to_json` for programs.

    layout: the form of the data that was found, or the one of which most is there.
    problems: why it cannot be scored, beside missing files; a sentence each.
    questions: what only the person knows who labelled the photographs, and what to write down in either case.
    contents: what the files hold; None where they were not read.
    background: the words that stand for the background, where one is scored.
    left_out: files that lie there and are not used, counted by reason; empty for none.
    """

    benchmark: str
    split: str
    root: str
    layout: str
    items: tuple[Item, ...]
    problems: tuple[str, ...]
    questions: tuple[str, ...]
    contents: Contents | None
    background: tuple[str, ...]
    left_out: str
    home: str
    obtain: str
    licence: str
    tree: str

    @property
    def complete(self) -> bool:
        return not self.problems and all(item.complete for item in self.items)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "complete": self.complete}

    def __str__(self) -> str:
        state = "complete" if self.complete else "NOT COMPLETE" if self.contents is None else "NOT USABLE"
        lines = [f"{self.benchmark} ({self.split}) in {self.root}: {state}, as {self.layout}"]
        for item in self.items:
            lines += _of_item(item)
        lines += [f"  PROBLEM {problem}" for problem in self.problems]
        lines += [f"  left out: {self.left_out}"] if self.left_out else []
        lines += [] if self.contents is None else _of_contents(self.contents)
        lines += ["", _of_background(self.background)] if self.background else []
        lines += [line for question in self.questions for line in ("", f"QUESTION {question}")]
        lines += ["", f"from      {self.home}", f"to get it {self.obtain}", f"licence   {self.licence}"]
        lines += ["the folder must look like this:", *(f"  {line}" for line in self.tree.splitlines())]
        return "\n".join(lines)


def _of_item(item: Item) -> Iterator[str]:
    mark = "ok     " if item.complete else "MISSING"
    yield f"  {mark} {item.what}: {item.found:,} of {item.expected:,} in {item.place}"
    if item.missing:
        more = ", ..." if item.expected - item.found > len(item.missing) else ""
        yield f"          not there: {', '.join(item.missing)}{more}"


def _of_contents(found: Contents) -> Iterator[str]:
    yield ""
    yield f"{found.maps:,} label maps{_sizes(found)}; {found.unscored:.1%} of their pixels are not scored"
    yield f"ids in them: {_ranges(list(found.ids))}"
    yield ""
    width = max([len(entry.name) for entry in found.classes] + [len("class")])
    yield f"{'class':{width}}  % of pixels  label maps"
    yield from (f"{entry.name:{width}}  {100 * entry.share:11.1f}  {entry.maps:10,}" for entry in found.classes)
    if found.worst:
        yield ""
        yield "the photographs with the most pixels that cannot be scored:"
        yield from (f"  {one.unscored:6.1%}  {one.key}: {one.problem or 'ignored'}" for one in found.worst)


def _of_background(words: Sequence[str]) -> str:
    return (
        f"background: {len(words)} words stand for it ({', '.join(words)}), unless the model has a rule of its own or "
        "--background names others"
    )


def _sizes(found: Contents) -> str:
    if found.smallest is None or found.largest is None:
        return ""
    first, last = (f"{width} x {height}" for height, width in (found.smallest, found.largest))
    return f" of {first} pixels" if first == last else f" of {first} to {last} pixels"


def _ranges(numbers: Sequence[int], most: int = 12) -> str:
    """ "0-3, 7, 255" """
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    texts = [f"{first}-{last}" if first < last else f"{first}" for first, last in parts]
    return ", ".join(texts[:most]) + (", ..." if len(texts) > most else "")
