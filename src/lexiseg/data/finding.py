"""Finds photographs by files, folders and patterns, and counts the rest."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lexiseg import files
from lexiseg.data.pictures.headers import KINDS, NEEDED, SUFFIXES
from lexiseg.errors import ImageError

__all__ = ["Found", "LeftOut", "by_reason", "find", "in_folder", "walk"]

# Pictures that lexiseg does not read: camera files, drawings, and formats whose decoders are not safe enough
_OTHERS = {
    **dict.fromkeys((".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"), "camera raw"),
    **dict.fromkeys((".jp2", ".j2k", ".jpf"), "JPEG 2000"),
    **dict.fromkeys((".psd", ".svg", ".eps", ".exr", ".hdr", ".tga", ".ppm", ".pgm", ".ico"), "in other formats"),
}
CONVERT = "convert to JPEG or PNG"
HIDDEN = "hidden"
AGAIN = "linked folders that are listed already"


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that was passed over; reason: what it is, and what to do: "HEIC (run: pip install ...)"."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Found:
    """photographs: each once, those of a folder sorted; left_out: what a folder has that could be a photograph."""

    photographs: tuple[Path, ...]
    left_out: tuple[LeftOut, ...] = ()


def by_reason(left_out: Iterable[LeftOut]) -> str:
    """What was left out, counted: "3 HEIC (run: pip install pillow-heif), 1 hidden"; empty for nothing."""
    counts = Counter(one.reason for one in left_out)
    return ", ".join(f"{count:,} {why}" for why, count in counts.most_common())


def find(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Found:
    """The photographs that files, folders (with all folders inside) and glob patterns name.

    A file that is named is taken as it is. Raises `ImageError` for a URL, a path that does not exist, a folder that
    cannot be read, or where nothing is found.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    photographs: dict[str, Path] = {}  # by absolute path: one that is named twice is one
    left_out: dict[LeftOut, None] = {}
    for path in paths:
        try:
            found = _find(files.local(path, ImageError))
        except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
            if isinstance(error, ImageError):
                raise
            why = getattr(error, "strerror", None) or error
            raise ImageError(f"cannot look at {path}: {why}; allow reading it") from error
        for photo in found.photographs:
            photographs.setdefault(os.path.abspath(photo), photo)  # noqa: PTH100 (links stay apart)
        left_out |= dict.fromkeys(found.left_out)
    return Found(tuple(photographs.values()), tuple(left_out))


def in_folder(folder: Path) -> Found:
    """The photographs of a folder and all folders inside, suffixes in any case; perhaps none.

    Raises `ImageError` for a folder that cannot be read. See `walk`.
    """
    photographs: list[Path] = []
    left_out: list[LeftOut] = []
    for parent, names in walk(folder, left_out):
        for name in names:
            why = _why_not(name)
            if why is None:
                photographs.append(parent / name)
            elif why:
                left_out.append(LeftOut(parent / name, why))
    return Found(tuple(sorted(photographs)), tuple(sorted(left_out, key=lambda one: one.path)))


def walk(root: Path, left_out: list[LeftOut] | None = None) -> Iterator[tuple[Path, list[str]]]:
    """Each folder from `root` down, with the names of its files; hidden folders are passed over.

    Links to folders are followed, after all others, so that a folder comes once and under its own name where it has
    one below `root`. left_out: gets the links that lead to folders that came already.

    Raises `ImageError` for a folder that cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise ImageError(
            f"cannot read the folder {error.filename or root}: {error.strerror or error}; allow it"
        ) from error

    seen: set[Path] = set()
    waiting = [root]
    while waiting:
        for place, folders, names in os.walk(waiting.pop(0), onerror=refuse):
            parent = Path(place)
            if (real := parent.resolve()) in seen:
                folders.clear()
                if left_out is not None:
                    left_out.append(LeftOut(parent, AGAIN))
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            waiting += [parent / name for name in folders if (parent / name).is_symlink()]
            yield parent, names


def _find(path: Path) -> Found:
    if path.is_dir():
        return _some(in_folder(path), f"there are no photographs in {path}")
    if path.exists():
        return Found((path,))
    if not glob.has_magic(str(path)):
        raise ImageError(
            f"there is no {path}; check the spelling, or name a folder or a pattern such as 'photos/*.jpg'"
        )
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
    parts = [in_folder(match) if match.is_dir() else Found((match,)) for match in matches]
    photographs = tuple(photo for part in parts for photo in part.photographs)
    return _some(Found(photographs, tuple(one for part in parts for one in part.left_out)), f"nothing matches {path}")


def _some(found: Found, otherwise: str) -> Found:
    if not found.photographs:
        rest = f"; left out: {by_reason(found.left_out)}" if found.left_out else ""
        raise ImageError(f"{otherwise}; looked for {', '.join(SUFFIXES)}{rest}")
    return found


def _why_not(name: str) -> str | None:
    """Why a file is left out; None for a photograph, empty for what is not a picture at all."""
    suffix = Path(name).suffix.lower()
    if suffix in SUFFIXES:
        # what macOS leaves beside each file on foreign disks begins with "._"
        return None if not name.startswith(".") else "" if name.startswith("._") else HIDDEN
    if suffix in KINDS:
        kind = KINDS[suffix]
        return f"{kind} ({NEEDED[kind]})"
    return f"{_OTHERS[suffix]} ({CONVERT})" if suffix in _OTHERS else ""
