"""Brings samples wider than 8 bits to 0-255 by rule.

A note says what was done.

Black is 0, and white is the first of these that fits:

1. what the file says: TIFF's MaxSampleValue, its BitsPerSample below 16, or PNG's sBIT;
2. the largest value of 8, 10, 12, 14, 16, 24 or 32 bits (15 and 31 too where samples have a sign; 1, 255 or 65,535
   where they are fractions), the smallest of them that no sample exceeds.

Where a sample is below zero, above all of these, or all lie within a sixteenth of the range, the lowest becomes black
and the highest white. So pixels of 0-255 in a wider type are the picture that they are in 8 bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["eight_bits", "is_readable"]

Samples = npt.NDArray[Any]

DEPTHS = (8, 10, 12, 14, 16, 24, 32)  # bits that cameras and files have
SIGNED = (15, 31)
FRACTIONS = (1.0, 255.0, 65_535.0)  # the whites of floating-point pictures
NARROW = 16  # samples that fill less than one part in so many are stretched
BLOCK = 1 << 20  # samples that are computed at a time, in 8 bytes each


def is_readable(dtype: np.dtype[Any]) -> bool:
    """Whether `eight_bits` takes samples of this type: whole numbers or fractions, but not true and false."""
    return dtype.kind in "iuf"


def eight_bits(
    samples: Samples, *, stated: int | None = None, stretch: bool = True
) -> tuple[npt.NDArray[np.uint8], str]:
    """Samples of any whole or floating-point type as 0-255, rounded, and a note on the rule that was used.

    stated: the value of white that the file names.
    stretch: whether samples that fill a small part of the range are stretched; for colours, not for alpha.

    Samples that are not finite become 0. The note is empty where white is the type's own (65,535 for uint16, 1.0 for
    floats).
    """
    low, high = _extremes(samples)
    low = low if stretch else 0.0
    black, white, note = _range(samples.dtype, low, high, stated)
    return _scaled(samples, black, white), note


def _extremes(samples: Samples) -> tuple[float, float]:
    """The lowest and the highest finite sample; zeros where there is none."""
    if samples.dtype.kind == "f":
        samples = samples[np.isfinite(samples)]
    return (float(samples.min()), float(samples.max())) if samples.size else (0.0, 0.0)


def _range(dtype: np.dtype[Any], low: float, high: float, stated: int | None) -> tuple[float, float, str]:
    """(black, white, note)."""
    usual = 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)
    if stated is not None and low >= 0 and 0 < high <= stated:
        return 0.0, float(stated), "" if stated == usual else f"{stated:,} is seen as white, as the file says"
    white = next((white for white in _whites(dtype) if high <= white), None)
    if low < 0 or white is None or 0 < (high - low) * NARROW < white:
        note = f"its {dtype.name} values fill a small or unusual range; the lowest is seen as black, the highest white"
        return low, high if high > low else low + 1, note
    note = f"its {dtype.name} values go no further than {white:,.0f}, which is seen as white"
    return 0.0, white, "" if white == usual else note


def _whites(dtype: np.dtype[Any]) -> tuple[float, ...]:
    if dtype.kind == "f":
        return FRACTIONS
    return tuple(2.0**bits - 1 for bits in sorted(DEPTHS + (SIGNED if dtype.kind == "i" else ())))


def _scaled(samples: Samples, black: float, white: float) -> npt.NDArray[np.uint8]:
    if samples.dtype.itemsize == 2 and samples.dtype.kind == "u":
        table = _levels(np.arange(65_536), black, white)
        return np.asarray(table[samples])
    flat = np.ascontiguousarray(samples).reshape(-1)
    scaled = np.empty(flat.size, np.uint8)
    for start in range(0, flat.size, BLOCK):
        scaled[start : start + BLOCK] = _levels(flat[start : start + BLOCK], black, white)
    return scaled.reshape(samples.shape)


def _levels(samples: Samples, black: float, white: float) -> npt.NDArray[np.uint8]:
    shares = (samples.astype(np.float64) - black) * (255 / (white - black))
    return np.nan_to_num(shares, nan=0, posinf=0, neginf=0).clip(0, 255).round().astype(np.uint8)
