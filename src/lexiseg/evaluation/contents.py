"""Tells whether photographs and label maps changed since they were counted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from lexiseg.data.labelled.labelcache import Kept
from lexiseg.data.labelled.labels import Label, SlowLabel
from lexiseg.data.labelled.samples import Sample
from lexiseg.data.storage.stored import File, TarMember, read
from lexiseg.errors import DataError
from lexiseg.files import utf8

__all__ = ["Beside", "Mark", "changed", "mark", "nothing", "told"]

Beside = Callable[[Sample], Sequence[File]]  # other files that decide what is counted of a sample
UNREADABLE = "unreadable"


class Mark(NamedTuple):
    """What a sample was when it was counted.

    stamp: of the sizes and times of its files. Where it is the same, they are taken for unchanged.
    content: hash of the photograph, of the class of every pixel, and of the files beside them.
    """

    stamp: str
    content: str


def nothing(_: Sample) -> Sequence[File]:
    return ()


def mark(sample: Sample, truth: NDArray[Any] | None, beside: Beside = nothing) -> Mark:
    """truth: as it was read from the sample, None where it could not be."""
    return Mark(_stamp(sample, beside), _content(sample, truth, beside))


def changed(counted: Mapping[str, Mark], samples: Sequence[Sample], beside: Beside = nothing) -> list[str]:
    """The images that were counted and are other ones now, or not there any more; sorted."""
    now = {sample.key: sample for sample in samples}
    return sorted(key for key, before in counted.items() if key not in now or _differs(before, now[key], beside))


def told(images: Sequence[str]) -> str:
    """What `changed` found, in words that follow "of"."""
    few = ", ".join(images[:3]) + (", ..." if len(images) > 3 else "")
    return f"other data: photograph or label map of {len(images):,} image{'s' * (len(images) > 1)} changed ({few})"


def _differs(before: Mark, sample: Sample, beside: Beside) -> bool:
    """Files that were copied or touched have another stamp, and are read for their content."""
    if before.stamp == _stamp(sample, beside):
        return False
    try:
        _, truth = sample.read()
    except DataError:
        truth = None
    return before.content != _content(sample, truth, beside)


def _stamp(sample: Sample, beside: Beside) -> str:
    label = sample.label.label if isinstance(sample.label, Kept) else sample.label
    return _digest([_facts(sample.photo), _label_facts(label), *map(_facts, beside(sample))])


def _label_facts(label: Label) -> str:
    if not isinstance(label, SlowLabel):
        return _facts(label.file)
    try:
        return label.fingerprint()
    except DataError:
        return UNREADABLE


def _facts(file: File) -> str:
    path = file.tar if isinstance(file, TarMember) else file
    try:
        found = path.stat()
    except OSError:
        return UNREADABLE
    return f"{found.st_size} {found.st_mtime_ns}"


def _content(sample: Sample, truth: NDArray[Any] | None, beside: Beside) -> str:
    if truth is None:
        return UNREADABLE
    try:
        files = [read(file) for file in (sample.photo, *beside(sample))]
    except DataError:
        return UNREADABLE
    return _digest([*files, repr(truth.shape), truth.astype("<u2").tobytes()])


def _digest(parts: Sequence[str | bytes]) -> str:
    found = hashlib.sha256()
    for part in parts:
        content = utf8(part) if isinstance(part, str) else part
        found.update(len(content).to_bytes(8, "little") + content)
    return found.hexdigest()[:16]
