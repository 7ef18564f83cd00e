"""Opens a data set on disk as a vocabulary and samples.

Every pixel has one meaning.

Classes keep their order and never hold the background. Where a benchmark scores the background, it is one more class
after the others, as it is one more channel in the library: index C, and the pixels a model leaves unlabelled count
for it. Anything else that is not scored holds 255, or 65535 above 255 classes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lexiseg import catalog, files
from lexiseg.benchmarks import _classes
from lexiseg.data.labelled.labelcache import Kept
from lexiseg.data.labelled.labels import Label, SlowLabel
from lexiseg.data.labelled.layouts import Entry, LabelClass, Layout, Listing, Part, folder, missing
from lexiseg.data.labelled.official import Release
from lexiseg.data.labelled.samples import IdTable, Sample, ignore_value
from lexiseg.errors import DataError, UnknownName
from lexiseg.vocabulary import Vocabulary

__all__ = ["BACKGROUND", "Benchmark", "Opened", "get", "locate", "open", "opened", "wordings"]

BACKGROUND = "background"


@dataclass(frozen=True)
class Benchmark:
    """A protocol's data side. Each file of `benchmarks/` holds one as BENCHMARK, under the file's name.

    about: one line for `lexiseg list`.
    release: the data, its splits, where to get it and how it must lie.
    classes: the label set in `classes/`; None where the release brings its own.
    wording: the wording of the class names that is used unless another is asked for, see `wordings`.
    background: whether everything that is none of the classes is scored as a class of its own, or not at all.
    void_is_background: whether pixels the release marks as unlabelled are background too.
    background_words: what everything else is asked for with by default; see `_classes.with_background`.
    occurring: whether only the classes that occur in the split are asked for and scored.
    unseen: classes that a zero-shot split keeps from training.
    test, train: the splits to score and to train on; train is None where there is none.
    options: choices a user has, each with the fields it changes; the first choice of each is the default.
    """

    name: str
    about: str
    release: Release
    classes: str | None
    wording: str = ""
    background: bool = False
    void_is_background: bool = False
    background_words: str = "sclip"
    occurring: bool = False
    unseen: tuple[str, ...] = ()
    test: str = "val"
    train: str | None = "train"
    options: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)

    def open(self, root: str | os.PathLike[str], **choices: Any) -> Opened:
        """`open` below, for callers that have the benchmark from the catalog."""
        return open(self.name, root, **choices)

    def vocabulary(self, wording: str | None = None) -> Vocabulary:
        """The classes and their words, known without any data; not for releases that bring their own classes.

        wording: as in `open`. Raises `UnknownName` for one that there is not.
        """
        assert self.classes is not None, f"{self.name} has its classes from its data"
        return _vocabulary(_classes.classes(self.classes, self.wording if wording is None else wording), self.unseen)

    def chosen(self, options: Mapping[str, str]) -> Benchmark:
        """With the options applied; raises `UnknownName` for an option or choice that does not exist."""
        changed = self
        for name, choice in options.items():
            if name not in self.options:
                raise UnknownName(f"option of {self.name}", name, self.options)
            if choice not in self.options[name]:
                raise UnknownName(f"choice of {name}", str(choice), self.options[name])
            changed = dataclasses.replace(changed, **self.options[name][choice])
        return changed


@dataclass(frozen=True, eq=False)
class Opened:
    """A split that can be scored.

    layout: in which of its forms the data was found.
    vocabulary: the C classes in order, with the words of the wording; never the background.
    samples: photographs with label maps of class indices.
    background: the index C where the background is scored, else None.
    ignore: what pixels hold that are not scored, 255 or 65535.
    seen: for each scored class whether a zero-shot model may train on it; None where the benchmark has no such split.
    subsets: class indices of "thing", "stuff", "seen", "unseen", "seen_thing" ..., those that are told apart.
    class_digest: hash of classes, words and background; two scores compare only where it is equal.
    ids_digest: hash of which raw ids of the label maps mean which class.
    options: the choice made for each option.
    left_out: files that lie there and are not used, counted by reason; empty for none.
    background_words: what the data's own class list says of the background beside its name; empty for nothing.
    """

    benchmark: Benchmark
    split: str
    layout: str
    vocabulary: Vocabulary
    samples: Sequence[Sample]
    background: int | None
    ignore: int
    seen: tuple[bool, ...] | None
    subsets: Mapping[str, tuple[int, ...]]
    class_digest: str
    ids_digest: str
    options: Mapping[str, str]
    left_out: str = ""
    background_words: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The scored classes, the background last."""
        return self.vocabulary.names + ((BACKGROUND,) if self.background is not None else ())

    @property
    def background_default(self) -> str:
        """What everything else is asked for with by default: the words that the data gives, else the benchmark's."""
        return "|".join(self.background_words) or self.benchmark.background_words

    @property
    def facts(self) -> dict[str, Any]:
        """What a result must say of its data, as plain JSON."""
        return {
            "benchmark": self.benchmark.name,
            "split": self.split,
            "layout": self.layout,
            "images": len(self.samples),
            "classes": len(self.names),
            "wording": self.benchmark.wording,
            "class_digest": self.class_digest,
            "ids_digest": self.ids_digest,
            "background": self.background is not None,
            "ignore": self.ignore,
            "options": dict(self.options),
        }


def get(name: str) -> Benchmark:
    """The benchmark `name`; raises `UnknownName` with the nearest names."""
    benchmark: Benchmark = catalog.get("benchmarks", name).BENCHMARK
    return benchmark


def open(
    name: str,
    root: str | os.PathLike[str],
    *,
    split: str | None = None,
    wording: str | None = None,
    cache: str | os.PathLike[str] | bool = True,
    **options: str,
) -> Opened:
    """Opens a benchmark whose data lies below `root`; photographs and label maps are read one by one later.

    split: the one to score unless another is named.
    wording: the wording of the class names, see `wordings`; the benchmark's own unless another is named.
    cache: the folder where copies of slow label maps are kept; True for the user's cache folder, False for none.
    options: choices of the benchmark, for example conversion="strict".

    Raises `UnknownName` for a benchmark, split, wording or option that does not exist, and `DataError`, saying what is
    missing and where to get it, for data that is not complete.
    """
    benchmark = get(name).chosen(options)
    if wording is not None:
        benchmark = _reworded(benchmark, wording)
    split = _split(benchmark, split)
    layout, listing = locate(benchmark, files.local(root, DataError).expanduser(), split)
    _require_files(benchmark, split, listing)
    return opened(benchmark, split, layout, listing, options=options, cache=cache)


def opened(
    benchmark: Benchmark,
    split: str,
    layout: Layout,
    listing: Listing,
    *,
    options: Mapping[str, str],
    cache: str | os.PathLike[str] | bool = True,
) -> Opened:
    """A split that was found, and whose files are all there.

    options: those that `benchmark` was changed by. cache: see `open`.

    Raises `DataError` and `VocabularyError` for a class list that cannot be scored with.
    """
    found, background = _label_classes(benchmark, listing)
    vocabulary = _vocabulary(found, benchmark.unseen)
    table = _table(benchmark, listing, found, len(found) if background else None)
    copies = _copies(cache)
    return Opened(
        benchmark=benchmark,
        split=split,
        layout=layout.about,
        vocabulary=vocabulary,
        samples=[_sample(entry, listing, table, copies) for entry in listing.entries],
        background=len(found) if background else None,
        ignore=table.ignore,
        seen=None if vocabulary.seen is None else vocabulary.seen + (True,) * background,
        subsets=_subsets(found, vocabulary.seen, background),
        class_digest=_digest([vocabulary.digest, background]),
        ids_digest=_digest(table.scored),
        options={option: options.get(option, next(iter(choices))) for option, choices in benchmark.options.items()},
        left_out=listing.left_out,
        background_words=_background_words(listing) if background else (),
    )


def locate(benchmark: Benchmark, root: Path, split: str) -> tuple[Layout, Listing]:
    """The first form of the split that is below `root`; raises `DataError` where none is."""
    fewest: tuple[Part, ...] | None = None
    for layout in benchmark.release.splits[split]:
        absent = tuple(part for part in layout.parts if part.find(root) is None)
        if not absent:
            return layout, layout.scan(root)
        fewest = absent if fewest is None or len(absent) < len(fewest) else fewest
    wanted = " and no ".join(f"{part.what} ({folder(part.places[0])})" for part in fewest or ())
    raise DataError(
        f"{benchmark.name} ({split}) is not complete below {root}: there is no {wanted}. "
        f"To get it, {benchmark.release.obtain}. "
        f"`lexiseg data check {benchmark.name} --data {root}` shows how the folders must look"
    )


def wordings(benchmark: Benchmark) -> dict[str, str]:
    """The names of a benchmark's wordings, and what each is."""
    if benchmark.classes is not None:
        return _classes.wordings(benchmark.classes)
    return {"first": "the first name of each class", "synonyms": "every name of a class as a word of its own"}


def _reworded(benchmark: Benchmark, wording: str) -> Benchmark:
    known = wordings(benchmark)
    if wording not in known:
        raise UnknownName(f"wording of {benchmark.name}", wording, known)
    return dataclasses.replace(benchmark, wording=wording)


def _split(benchmark: Benchmark, split: str | None) -> str:
    split = benchmark.test if split is None else split
    if split not in benchmark.release.splits:
        raise UnknownName(f"split of {benchmark.name}", split, benchmark.release.splits)
    return split


def _require_files(benchmark: Benchmark, split: str, listing: Listing) -> None:
    if not listing.entries:
        raise DataError(f"{benchmark.name} ({split}) lists no photographs. To get them, {benchmark.release.obtain}")
    for what, wanted in (
        ("photographs", [entry.photo for entry in listing.entries]),
        ("label maps", [entry.label.file for entry in listing.entries]),
    ):
        absent = missing(wanted)
        if absent:
            raise DataError(
                f"{len(absent):,} of {len(wanted):,} {what} of {benchmark.name} ({split}) are missing, the first is "
                f"{absent[0]}. To get them, {benchmark.release.obtain}"
            )


def _label_classes(benchmark: Benchmark, listing: Listing) -> tuple[tuple[LabelClass, ...], bool]:
    """The classes to ask for, and whether the background is scored."""
    if benchmark.classes is not None:
        found, background = _classes.classes(benchmark.classes, benchmark.wording), benchmark.background
    else:
        found = tuple(label for label in listing.classes if label.name.casefold() != BACKGROUND)
        background = benchmark.background or len(found) < len(listing.classes)
        if benchmark.wording == "first":
            found = tuple(dataclasses.replace(label, words=label.words[:1]) for label in found)
    if benchmark.occurring:
        occurring = _occurring(listing) if listing.occurring is None else listing.occurring
        found = tuple(label for label in found if label.ids[listing.ids] in occurring)
    if not found:
        raise DataError(f"{benchmark.name} has no class that occurs in its label maps; `lexiseg data check` shows ids")
    return found, background


def _occurring(listing: Listing) -> frozenset[int]:
    """The raw ids of all label maps, each of which is read for it."""

    def ids(entry: Entry) -> frozenset[int]:
        return frozenset(np.unique(entry.label.ids()).tolist())

    with ThreadPoolExecutor() as pool:
        return frozenset().union(*pool.map(ids, listing.entries))


def _vocabulary(found: Sequence[LabelClass], unseen: Sequence[str]) -> Vocabulary:
    first: dict[str, LabelClass] = {}
    for label in found:
        if (other := first.setdefault(label.name.casefold(), label)) is not label:
            ids = [one.ids.get("id") for one in (other, label)]
            raise DataError(
                f"{other.name!r} names two classes (ids {ids[0]} and {ids[1]}); give each a name of its own"
            )
    return Vocabulary(
        {label.name: label.words or (label.name,) for label in found},
        seen=[label.name not in unseen for label in found] if unseen else None,
        shared_words=True,  # wordings of papers repeat words between classes, and classes among background words
    )


def _table(benchmark: Benchmark, listing: Listing, found: Sequence[LabelClass], background: int | None) -> IdTable:
    ignore = ignore_value(len(found) + (background is not None))
    rest = ignore if background is None else background
    index_of = {label.ids[listing.ids]: index for index, label in enumerate(found)}
    void = rest if benchmark.void_is_background else ignore
    return IdTable.of({**dict.fromkeys(listing.void, void), **index_of}, others=listing.legal, rest=rest, ignore=ignore)


def _sample(entry: Entry, listing: Listing, table: IdTable, cache: Path | None) -> Sample:
    label: Label = entry.label
    if cache is not None and isinstance(label, SlowLabel):
        label = Kept(label, cache)
    return Sample(entry.key, entry.photo, label, table, listing.upright)


def _copies(cache: str | os.PathLike[str] | bool) -> Path | None:
    if cache is False:
        return None
    if cache is True:
        return files.cache_folder() / "labels"
    return Path(cache).expanduser()


def _subsets(found: Sequence[LabelClass], seen: Sequence[bool] | None, background: bool) -> dict[str, tuple[int, ...]]:
    """Class indices of each kind; kinds that are empty, or everything, are left out. The background counts as seen."""
    scored = len(found) + background
    groups: dict[str, set[int]] = {}
    if all(label.thing is not None for label in found):
        groups["thing"] = {index for index, label in enumerate(found) if label.thing}
        groups["stuff"] = {index for index, label in enumerate(found) if not label.thing}
    if seen is not None:
        groups["unseen"] = {index for index, flag in enumerate(seen) if not flag}
        groups["seen"] = set(range(scored)) - groups["unseen"]
        for kind in ("thing", "stuff"):
            for side in ("seen", "unseen") if kind in groups else ():
                groups[f"{side}_{kind}"] = groups[side] & groups[kind]
    return {name: tuple(sorted(group)) for name, group in groups.items() if 0 < len(group) < scored}


def _background_words(listing: Listing) -> tuple[str, ...]:
    found = (label.words for label in listing.classes if label.name.casefold() == BACKGROUND)
    return tuple(word for words in found for word in words if word.casefold() != BACKGROUND)


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
