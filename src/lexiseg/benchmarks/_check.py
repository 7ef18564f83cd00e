"""Checks a benchmark's data, and says what is missing.

It reports what is there, what it holds, and where to get what is not there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lexiseg import files
from lexiseg.benchmarks import _advice, _benchmark
from lexiseg.benchmarks._benchmark import Benchmark, Opened
from lexiseg.benchmarks._classes import with_background
from lexiseg.benchmarks._reading import Contents, Progress, look
from lexiseg.benchmarks._report import Item, Report
from lexiseg.data.labelled.layouts import Layout, Listing, folder, missing
from lexiseg.data.storage.stored import File
from lexiseg.errors import DataError, ImageError, UnknownName, VocabularyError

__all__ = ["check"]

NAMED = 3  # missing files that are named


@dataclass(frozen=True)
class _Found:
    """What was found of a split: its files, then what they hold."""

    items: tuple[Item, ...] = ()
    problems: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    contents: Contents | None = None
    background: tuple[str, ...] = ()
    left_out: str = ""


def check(
    benchmark: str,
    root: str | os.PathLike[str],
    *,
    split: str | None = None,
    read: bool = True,
    progress: Progress | None = None,
) -> Report:
    """Looks at a benchmark's data below `root`.

    read: whether every photograph and label map is opened, where all of them are there.
    progress: called with the number of those that were read, and how many there are.

    Raises `UnknownName` for a benchmark or split that does not exist; everything about the data is in the report.
    """
    value = _benchmark.get(benchmark)
    split = value.test if split is None else split
    if split not in value.release.splits:
        raise UnknownName(f"split of {benchmark}", split, value.release.splits)
    place = files.local(root, DataError).expanduser()
    layout = max(value.release.splits[split], key=lambda form: _share(form, place))
    found, listing = _files_of(layout, place)
    if read and listing is not None:
        found = _contents_of(found, value, split, layout, listing, place, progress)
    return _report(value, split, place, layout, found)


def _share(layout: Layout, root: Path) -> float:
    return sum(part.find(root) is not None for part in layout.parts) / len(layout.parts)


def _files_of(layout: Layout, root: Path) -> tuple[_Found, Listing | None]:
    """The files, and their list where none is missing."""
    if not root.is_dir():
        return _Found(problems=(f"{root} is not a folder",)), None
    items = _parts(layout, root)
    if not all(item.complete for item in items):
        return _Found(items), None
    try:
        listing = layout.scan(root)
    except (DataError, ImageError) as error:
        return _Found(items, (str(error),)), None
    items += (
        _files("photographs", [entry.photo for entry in listing.entries], root),
        _files("label maps", [entry.label.file for entry in listing.entries], root),
    )
    problems: tuple[str, ...] = ()
    if layout.images is not None and len(listing.entries) != layout.images:
        problems = (f"the split has {len(listing.entries):,} images, the official one has {layout.images:,}",)
    found = _Found(items, problems, left_out=listing.left_out)
    return found, listing if all(item.complete for item in items) else None


def _parts(layout: Layout, root: Path) -> tuple[Item, ...]:
    """What is not a folder of many files."""
    items = []
    for part in layout.parts:
        at = part.find(root)
        if at is None or "{key}" not in at:
            wanted = layout.images if at is None and "{key}" in part.places[0] else 1
            items.append(Item(part.what, folder(at or part.places[0]), int(at is not None), wanted or 1))
    return tuple(items)


def _contents_of(
    found: _Found,
    benchmark: Benchmark,
    split: str,
    layout: Layout,
    listing: Listing,
    root: Path,
    progress: Progress | None,
) -> _Found:
    """What the files hold is counted over all classes, those that do not occur too."""
    everything = replace(benchmark, occurring=False)
    try:
        opened = _benchmark.opened(everything, split, layout, listing, options={})
    except (DataError, VocabularyError) as error:
        return replace(found, problems=(*found.problems, str(error)))
    contents = look(opened.samples, opened.names, root, progress)
    own = listing.classes if benchmark.classes is None else ()
    return replace(
        found,
        problems=(*found.problems, *_problems(contents)),
        questions=tuple(_advice.questions(own, contents.ids) if own else ()),
        contents=contents,
        background=_background(opened),
    )


def _problems(contents: Contents) -> list[str]:
    found = []
    if contents.unlisted:
        few = ", ".join(f"{number} (in {contents.ids[number]:,})" for number in contents.unlisted[:NAMED])
        more = ", ..." if len(contents.unlisted) > NAMED else ""
        found.append(f"label maps hold ids that the class list lacks: {few}{more}")
    if contents.broken:
        found.append(f"{contents.broken:,} of {contents.samples:,} photographs cannot be scored; the worst are below")
    if not any(entry.share for entry in contents.classes):
        found.append("no pixel of any label map is scored; compare the ids in them with those of the class list")
    return found


def _background(opened: Opened) -> tuple[str, ...]:
    """The words that stand for it unless a protocol, a model or a person says otherwise."""
    if opened.background is None:
        return ()
    return with_background(opened.vocabulary, opened.background_default).background


def _files(what: str, files: Sequence[File], root: Path) -> Item:
    unique = list(dict.fromkeys(files))
    absent = missing(unique)
    names = tuple(str(path.relative_to(root)) for path in absent[:NAMED])
    return Item(what, _where(unique, root), len(unique) - len(absent), len(unique), names)


def _where(files: Sequence[File], root: Path) -> str:
    paths = [file.parent if isinstance(file, Path) else file.tar for file in files]
    return os.path.relpath(os.path.commonpath(paths), root) if paths else "."


def _report(benchmark: Benchmark, split: str, root: Path, layout: Layout, found: _Found) -> Report:
    release = benchmark.release
    return Report(
        benchmark=benchmark.name,
        split=split,
        root=str(root),
        layout=layout.about,
        **vars(found),
        home=release.home,
        obtain=release.obtain,
        licence=release.licence,
        tree=release.tree,
    )
