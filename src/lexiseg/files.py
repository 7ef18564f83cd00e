"""Writes files atomically, hashes facts, and finds the cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lexiseg.errors import LexisegError, OutputError

__all__ = ["atomic", "cache_folder", "digest", "local", "utf8", "write_bytes", "write_text"]

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")  # a drive of Windows has one letter; `Path` drops a slash


def local(path: str | os.PathLike[str], error: type[LexisegError]) -> Path:
    """The path; raises `error` for a URL, since lexiseg reads local files only."""
    text = os.fspath(path)
    if (url := _URL.match(text)) and not os.path.exists(text):  # noqa: PTH110 (false for names that are too long)
        whole = f"{url[1]}://{text[url.end() :].lstrip('/')}"
        raise error(f"{whole} is a URL, and lexiseg reads local files; download it first, and name the file")
    return Path(text)


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path beside `path`; on a clean exit it is flushed to disk and renamed over `path`.

    Raises `OutputError` where the folder cannot be written or the disk is full; the temporary file is removed and
    whatever stood at `path` stays.
    """
    path = Path(path)
    if not path.name:
        raise OutputError(f"{str(path)!r} is not the name of a file; give one")
    # the suffix is kept, since libraries choose the format by it; the stem is cut, since names end at 255 bytes
    temporary = path.with_name(f".{path.stem[:32]}.{os.getpid()}.{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; free space or choose another place"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes UTF-8, as `utf8` does."""
    write_bytes(path, utf8(text))


def utf8(text: str) -> bytes:
    """The text in UTF-8. A byte of a file's name that is not UTF-8 is written as JSON escapes it: \\udce9."""
    return text.encode("utf-8", errors="backslashreplace")


def digest(facts: Any) -> str:
    """A hash of plain JSON values."""
    return hashlib.sha256(utf8(json.dumps(facts, sort_keys=True, ensure_ascii=False))).hexdigest()


def cache_folder() -> Path:
    """Where lexiseg keeps what it can make again: $LEXISEG_CACHE, else "lexiseg" in the user's cache directory."""
    if own := os.environ.get("LEXISEG_CACHE"):
        return Path(own).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser() / "lexiseg"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "lexiseg"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "lexiseg" / "Cache"
    return Path.home() / ".cache" / "lexiseg"
