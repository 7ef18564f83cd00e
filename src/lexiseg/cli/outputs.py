"""Plans the files of a run, and refuses what loses one.

A result is named after its photograph alone: `inner/a.jpg` in the folder that was named becomes `inner/a.png` and so
on. The suffix of a JPEG is left out and any other stays (`b.tif` becomes `b.tif.png`), so that neighbours do not share
a name. Everything is looked at before a model is loaded.
"""

from __future__ import annotations

import enum
import errno
import functools
import glob
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lexiseg import files
from lexiseg.errors import ImageError, OutputError
from lexiseg.formats import origin

if TYPE_CHECKING:
    from lexiseg.data.finding import LeftOut

__all__ = [
    "Format",
    "Job",
    "Photographs",
    "Plan",
    "check_place",
    "find",
    "free_folder",
    "is_fatal",
    "made_with",
    "plan",
    "settle",
]


class Format(enum.StrEnum):
    png = "png"
    grey_png = "grey-png"
    overlay = "overlay"
    npz = "npz"
    coco_rle = "coco-rle"


SUFFIXES = {
    Format.png: ".png",  # and the sidecar beside it
    Format.grey_png: ".grey.png",  # and the sidecar beside it
    Format.overlay: ".overlay.png",
    Format.npz: ".npz",
    Format.coco_rle: ".coco.json",
}
JPEG = (".jpg", ".jpeg")
OURS = "written by lexiseg"

Masks = Callable[[Path], Iterable[Path]] | None


@dataclass(frozen=True)
class Job:
    """One photograph and where its results go.

    stem: path of the results without a suffix.
    formats: those that are to be written.
    name: of the photograph below the folder or pattern that was named.
    beside: further files that decide the results: the masks that the user gives.
    """

    photo: Path
    stem: Path
    formats: tuple[Format, ...]
    name: Path = Path()
    beside: tuple[Path, ...] = ()

    @property
    def outputs(self) -> dict[Format, Path]:
        return {chosen: self.stem.with_name(self.stem.name + SUFFIXES[chosen]) for chosen in self.formats}

    @property
    def paths(self) -> list[Path]:
        """Every file that is written, sidecars too."""
        maps = (Format.png, Format.grey_png)
        beside = [origin.sidecar(path) for chosen, path in self.outputs.items() if chosen in maps]
        return [*self.outputs.values(), *beside]


@dataclass(frozen=True)
class Plan:
    """What is to be done, and what is there already.

    kept: photographs whose results are all there, made in the same way.
    edited: label maps that another program has changed since; they are kept.
    """

    todo: tuple[Job, ...]
    kept: int = 0
    edited: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Photographs:
    """places: each photograph with its path below the folder or pattern that was named; left_out: what is beside them.

    Files that lexiseg wrote are left out too.
    """

    places: tuple[tuple[Path, Path], ...]
    left_out: tuple[LeftOut, ...]


def find(photos: Sequence[str]) -> Photographs:
    """Raises `ImageError` as `finding.find` does, and for results that are taken for photographs."""
    from lexiseg.data import finding

    places: dict[str, tuple[Path, Path]] = {}
    left_out: dict[LeftOut, None] = {}
    for given in photos:
        root, found = _root(given), finding.find([given])
        left_out |= dict.fromkeys(found.left_out)
        for photo in found.photographs:
            if origin.of(photo) is not None:
                left_out[finding.LeftOut(photo, OURS)] = None
            else:
                relative = photo.relative_to(root) if root else Path(photo.name)
                # not resolve(): two links to one file are two photographs
                places.setdefault(os.path.abspath(photo), (photo, relative))  # noqa: PTH100
    if not places:
        result = next(one.path for one in left_out if one.reason == OURS)
        raise ImageError(f"{result} is a result that lexiseg wrote, not a photograph; name photographs")
    return Photographs(tuple(places.values()), tuple(left_out))


def plan(
    places: Sequence[tuple[Path, Path]], out: Path, formats: Sequence[Format], kind: str = "", masks: Masks = None
) -> list[Job]:
    """A job for each of the photographs' places; the inner structure of folders is kept.

    kind: follows a photograph's name in those of its results, to tell them from others in the same folder.
    masks: the files of a photograph's masks, by its name.

    Raises `OutputError` where two files would have one name, or an output would take the place of a photograph.
    """
    jobs = [
        Job(photo, _with(out / _stem(name), kind), tuple(formats), name, tuple(masks(name)) if masks else ())
        for photo, name in places
    ]
    _check_apart(jobs)
    return jobs


def settle(jobs: Sequence[Job], request: str, *, overwrite: bool) -> Plan:
    """What is left to do where results exist; `request` is a hash of words, model and settings.

    Results of the same request are kept, and formats that are missing are added. Raises `OutputError` for results that
    were made in another way and files that lexiseg did not write; nothing has been written then.
    """
    foreign = [path for job in jobs for path in job.paths if path.exists() and not _ours(path)]
    if foreign:
        raise OutputError(
            f"{foreign[0]} exists and lexiseg did not write it{_and_more(foreign)}; choose another folder with --out"
        )
    if overwrite:
        return Plan(tuple(jobs))
    states = [_state(job, request) for job in jobs]
    others = [path for _, _, others in states for path in others]
    if others:
        raise OutputError(
            f"{others[0]} was made with other words, model, settings or from another photograph{_and_more(others)}; "
            "--overwrite replaces results, --out FOLDER keeps both"
        )
    todo = [replace(job, formats=missing) for job, (missing, _, _) in zip(jobs, states, strict=True) if missing]
    edited = tuple(path for _, edited, _ in states for path in edited)
    return Plan(tuple(todo), len(jobs) - len(todo), edited)


def made_with(job: Job, request: str) -> str:
    """A hash of all that decides the results of a job."""
    return files.digest([request, origin.file_digest(job.photo), *map(_digest, job.beside)])


def free_folder(out: Path) -> Path:
    """`out`, or the first of out-2, out-3 ... that does not exist."""
    names = (out.with_name(f"{out.name}-{number}") for number in range(2, 10_000))
    return next(name for name in names if not name.exists())


def check_place(jobs: Iterable[Job]) -> None:
    """Raises `OutputError` where a folder cannot be made or written, before anything else is done."""
    for folder in dict.fromkeys(job.stem.parent for job in jobs):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise OutputError(
                f"cannot write to {folder}: {error.strerror or error}; choose another folder with --out"
            ) from error


def is_fatal(error: OutputError) -> bool:
    """Whether no other result could be written either: a full or read-only disk."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def _root(given: str) -> Path | None:
    """The folder whose inner structure is kept: a folder itself, or the part of a pattern before its first wildcard."""
    if Path(given).is_dir():
        return Path(given)
    if Path(given).exists() or not glob.has_magic(given):
        return None
    plain = []
    for part in Path(given).parts:
        if glob.has_magic(part):
            break
        plain.append(part)
    return Path(*plain)


def _stem(relative: Path) -> Path:
    return relative.with_suffix("") if relative.suffix.lower() in JPEG else relative


def _with(stem: Path, kind: str) -> Path:
    return stem.with_name(stem.name + kind)


def _digest(path: Path) -> str:
    """Of a file that many photographs may share; of one that is not there too."""
    try:
        facts = path.stat()
    except OSError:
        return ""
    return _digest_of(path, facts.st_size, facts.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _digest_of(path: Path, _size: int, _written: int) -> str:
    return origin.file_digest(path)


def _check_apart(jobs: Sequence[Job]) -> None:
    photos = {os.path.realpath(job.photo): job.photo for job in jobs}
    owners: dict[Path, Path] = {}
    for job in jobs:
        for path in job.paths:
            if (photo := photos.get(os.path.realpath(path))) is not None:
                raise OutputError(
                    f"the result of {job.photo} would take the place of the photograph {photo}; "
                    "choose another folder with --out"
                )
            if (other := owners.setdefault(path, job.photo)) != job.photo:
                raise OutputError(
                    f"{other} and {job.photo} would both be written as {path}; label them in separate runs, each with "
                    "its own --out"
                )


def _ours(path: Path) -> bool:
    return origin.of(path) is not None


def _state(job: Job, request: str) -> tuple[tuple[Format, ...], list[Path], list[Path]]:
    """The formats that are missing, label maps that were edited, and results that were made in another way."""
    existing = {chosen: found for chosen, path in job.outputs.items() if (found := origin.of(path)) is not None}
    if not existing:
        return job.formats, [], []
    wanted = made_with(job, request)
    others = [job.outputs[chosen] for chosen, found in existing.items() if found.made_with != wanted]
    edited = [job.outputs[chosen] for chosen, found in existing.items() if found.edited]
    return tuple(chosen for chosen in job.formats if chosen not in existing), edited, others


def _and_more(paths: Sequence[Path]) -> str:
    return f" ({len(paths)} such files)" if len(paths) > 1 else ""
