"""Writes label maps as PNG files, and reads stored numbers.

Written are run lengths of what differs from the pixel above or to the left.

Pillow compresses label maps well, but with 16 bits a pixel it takes three times as long as zlib needs for the same
bytes. This writes the two kinds of PNG that label maps are (PNG specification, 3rd edition): 8 bits with a palette, and
16-bit grey.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngImageFile  # importing lexiseg does not wait for Pillow

__all__ = ["encode", "stored"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, INDEXED = 0, 3  # colour types, §11.2.1
SUB, UP = 1, 2  # the filters that subtract the pixel to the left, and the one above, §9.2
DEPTH_AT = 24  # the byte of a file that tells the bits of a sample, §11.2.1
BLOCK = 1 << 20  # bytes that are filtered at a time


def encode(
    labels: npt.NDArray[np.uint8 | np.uint16],
    palette: npt.NDArray[np.uint8] | None = None,
    *,
    texts: Mapping[str, str] | None = None,
) -> bytes:
    """The file's content: any PNG reader gives back `labels` [H, W], one by one.

    palette: RGB [256, 3] for uint8 labels, which without one are grey; uint16 has none.
    texts: what the file says of itself, in Latin-1, by keyword.
    """
    assert labels.dtype.newbyteorder("=") in (np.uint8, np.uint16), "PNG has 8 or 16 bits a pixel"
    assert palette is None or labels.dtype == np.uint8, "PNG has palettes of 256 colours at most"
    height, width = labels.shape
    kind = GREY if palette is None else INDEXED
    header = struct.pack(">IIBBBBB", width, height, 8 * labels.itemsize, kind, 0, 0, 0)
    colours = b"" if palette is None else _chunk(b"PLTE", palette.tobytes())
    told = b"".join(_chunk(b"tEXt", f"{key}\0{text}".encode("latin-1")) for key, text in (texts or {}).items())
    pixels = b"".join(_compressed(labels))
    return SIGNATURE + _chunk(b"IHDR", header) + told + colours + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def stored(picture: PngImageFile) -> npt.NDArray[np.uint8 | np.uint16]:
    """The numbers that a grey or palette PNG stores [H, W], at whatever depth; the picture must not be decoded yet.

    Pillow scales grey of 1, 2 and 4 bits to 0-255, by a whole number.
    """
    assert picture.fp is not None, "decoded already"
    place = picture.fp.tell()
    picture.fp.seek(DEPTH_AT)
    (depth,) = picture.fp.read(1)
    picture.fp.seek(place)
    ids: npt.NDArray[np.uint8 | np.uint16] = np.array(picture)
    if picture.mode == "1":
        return ids.astype(np.uint8)  # false and true
    return ids // np.uint8(255 // (2**depth - 1)) if picture.mode == "L" and depth < 8 else ids


def _compressed(labels: npt.NDArray[np.uint8 | np.uint16]) -> Iterator[bytes]:
    # most of a label map is as the row above: zeros, which run lengths hold as well as a search for repetitions would
    deflate = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_RLE)
    for rows in _filtered(labels):
        yield deflate.compress(rows.data)
    yield deflate.flush()


def _filtered(labels: npt.NDArray[np.uint8 | np.uint16]) -> Iterator[npt.NDArray[np.uint8]]:
    """Rows as they are compressed [n, 1 + bytes of a row]: the filter's number, then the differences."""
    height, size = len(labels), labels.shape[1] * labels.itemsize
    above = np.zeros((1, size), np.uint8)
    step = max(1, BLOCK // size)
    for top in range(0, height, step):
        rows = labels[top : top + step]
        raw = np.ascontiguousarray(rows, rows.dtype.newbyteorder(">")).view(np.uint8)  # [n, size]
        filtered = np.empty((len(raw), 1 + size), np.uint8)
        filtered[:, 0], differences = UP, filtered[:, 1:]
        np.subtract(raw[:1], above, out=differences[:1])
        np.subtract(raw[1:], raw[:-1], out=differences[1:])
        _where_other(filtered, raw, labels.itemsize)
        above = raw[-1:]
        yield filtered


def _where_other(filtered: npt.NDArray[np.uint8], raw: npt.NDArray[np.uint8], pixel: int) -> None:
    """Rows that differ much from the one above (a region begins) are compared with the pixel to the left instead."""
    changes = np.count_nonzero(filtered[:, 1:], axis=1)
    for row in np.flatnonzero(changes > raw.shape[1] // 16):
        differences = raw[row].copy()
        differences[pixel:] -= raw[row, :-pixel]
        if np.count_nonzero(differences) < changes[row]:
            filtered[row, 0], filtered[row, 1:] = SUB, differences


def _chunk(name: bytes, content: bytes) -> bytes:
    """§5.3: length, name, content, and a check of the last two."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(name)))
