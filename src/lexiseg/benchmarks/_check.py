"""`lexiseg data check`: what of a benchmark's data is there, what is missing, where to get it and how it must lie."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lexiseg import files
from lexiseg.benchmarks._benchmark import Benchmark, get
from lexiseg.data.labelled.layouts import Layout, folder, missing
from lexiseg.data.storage.stored import File
from lexiseg.errors import DataError, ImageError, UnknownName

__all__ = ["Item", "Report", "check"]

NAMED = 3  # missing files that are named


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
    problems: what else is wrong, a sentence each.
    left_out: files that lie there and are not used, counted by reason; empty for none.
    """

    benchmark: str
    split: str
    root: str
    layout: str
    items: tuple[Item, ...]
    problems: tuple[str, ...]
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
        state = "complete" if self.complete else "NOT COMPLETE"
        lines = [f"{self.benchmark} ({self.split}) in {self.root}: {state}, as {self.layout}"]
        for item in self.items:
            mark = "ok     " if item.complete else "MISSING"
            lines.append(f"  {mark} {item.what}: {item.found:,} of {item.expected:,} in {item.place}")
            if item.missing:
                more = ", ..." if item.expected - item.found > len(item.missing) else ""
                lines.append(f"          not there: {', '.join(item.missing)}{more}")
        lines += [f"  {problem}" for problem in self.problems]
        lines += [f"  left out: {self.left_out}"] if self.left_out else []
        lines += [f"from      {self.home}", f"to get it {self.obtain}", f"licence   {self.licence}"]
        lines += ["the folder must look like this:", *(f"  {line}" for line in self.tree.splitlines())]
        return "\n".join(lines)


def check(benchmark: str, root: str | os.PathLike[str], *, split: str | None = None) -> Report:
    """Looks at a benchmark's data below `root` without reading a picture.

    Raises `UnknownName` for a benchmark or split that does not exist; everything about the data is in the report.
    """
    value = get(benchmark)
    split = value.test if split is None else split
    if split not in value.release.splits:
        raise UnknownName(f"split of {benchmark}", split, value.release.splits)
    place = files.local(root, DataError).expanduser()
    layout = max(value.release.splits[split], key=lambda form: _share(form, place))
    items, problems, left_out = _look(layout, place)
    return _report(value, split, place, layout, items, problems, left_out)


def _share(layout: Layout, root: Path) -> float:
    return sum(part.find(root) is not None for part in layout.parts) / len(layout.parts)


def _look(layout: Layout, root: Path) -> tuple[list[Item], list[str], str]:
    """Its parts, what is wrong with them, and what is not used."""
    if not root.is_dir():
        return [], [f"{root} is not a folder"], ""
    items = []
    for part in layout.parts:
        at = part.find(root)
        if at is None or "{key}" not in at:
            files = layout.images if at is None and "{key}" in part.places[0] else 1
            items.append(Item(part.what, folder(at or part.places[0]), int(at is not None), files or 1))
    if any(not item.complete for item in items):
        return items, [], ""
    try:
        listing = layout.scan(root)
    except (DataError, ImageError) as error:
        return items, [str(error)], ""
    items.append(_files("photographs", [entry.photo for entry in listing.entries], root))
    items.append(_files("label maps", [entry.label.file for entry in listing.entries], root))
    problems = []
    if layout.images is not None and len(listing.entries) != layout.images:
        problems.append(f"the split has {len(listing.entries):,} images, the official one has {layout.images:,}")
    return items, problems, listing.left_out


def _files(what: str, files: Sequence[File], root: Path) -> Item:
    unique = list(dict.fromkeys(files))
    absent = missing(unique)
    names = tuple(str(path.relative_to(root)) for path in absent[:NAMED])
    return Item(what, _where(unique, root), len(unique) - len(absent), len(unique), names)


def _where(files: Sequence[File], root: Path) -> str:
    paths = [file.parent if isinstance(file, Path) else file.tar for file in files]
    return os.path.relpath(os.path.commonpath(paths), root) if paths else "."


def _report(
    benchmark: Benchmark,
    split: str,
    root: Path,
    layout: Layout,
    items: Sequence[Item],
    problems: Sequence[str],
    left_out: str,
) -> Report:
    release = benchmark.release
    return Report(
        benchmark=benchmark.name,
        split=split,
        root=str(root),
        layout=layout.about,
        items=tuple(items),
        problems=tuple(problems),
        left_out=left_out,
        home=release.home,
        obtain=release.obtain,
        licence=release.licence,
        tree=release.tree,
    )
