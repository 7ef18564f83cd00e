"""Reads files of a data set, alone or inside shards.

Both are read by the same call.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lexiseg.errors import DataError

__all__ = ["File", "TarMember", "members", "read"]


@dataclass(frozen=True)
class TarMember:
    """One file of an uncompressed tar; `offset` and `size` are in bytes."""

    tar: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.tar}:{self.name}"


File = Path | TarMember


def read(file: File) -> bytes:
    """All bytes of a file; raises `DataError` where it is missing or ends early."""
    try:
        if isinstance(file, Path):
            return file.read_bytes()
        with file.tar.open("rb") as shard:  # a handle each, so that threads do not share a position
            shard.seek(file.offset)
            content = shard.read(file.size)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}; copy it again") from error
    if len(content) < file.size:
        raise DataError(f"{file} ends after {len(content):,} of {file.size:,} bytes; copy the shard again")
    return content


def members(tar: Path) -> Iterator[TarMember]:
    """The regular files of a shard in their order; only the headers are read.

    Raises `DataError` for a file that is not a tar, is compressed or ends early.
    """
    try:
        with tarfile.open(tar, mode="r:") as shard:
            for info in shard:
                if info.isfile():
                    yield TarMember(tar, info.name.removeprefix("./"), info.offset_data, info.size)
            end = shard.offset
        with tar.open(
            "rb"
        ) as content:  # a whole tar ends with blocks of zeros, and tarfile does not mind their absence
            content.seek(end)
            if content.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("it ends early")
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{tar} is not a whole, uncompressed tar file: {error}; copy or pack it again") from error
