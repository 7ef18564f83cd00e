"""Runs the decoder's inner loops in numba.

The decoder imports this file only where numba is installed.

Bilinear interpolation stays within the corners of its cell. So a class whose largest corner is below the largest of
all classes' smallest corners cannot win anywhere in the cell, and is not looked at. The
softmax needs no exponential per pixel either: along a row a logit is linear in x, so its exponential is multiplied by
the same number at each step; four exponentials per class and tile do for up to 16 x 16 pixels.

Releases the GIL: the caller runs bands of rows on threads of its own, which, unlike numba's, may be forked and nested.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

__all__ = ["LABELS", "SHARES", "SOFTMAX", "label_tiles"]

# what the scores of a label map are: not wanted, the winner's softmax, the winner's part of the last channel
LABELS, SOFTMAX, SHARES = 0, 1, 2

LOWEST = np.float32(-3.0e38)
SLACK = np.float32(1e-5)  # rounding of the corners' interpolation, relative
STEEPEST = np.float32(80)  # exp(-87) is the smallest normal float32
LOG2E = np.float32(1.4426950408889634)
# 2**f for -1/2 <= f <= 1/2, Taylor: the next term is below 1.3e-8
_2, _3, _4, _5, _6 = (np.float32(0.6931471805599453**n / k) for n, k in ((2, 2), (3, 6), (4, 24), (5, 120), (6, 720)))
_1, ONE, HALF = np.float32(0.6931471805599453), np.float32(1), np.float32(0.5)
ZERO, SMALLEST_EXPONENT, BIAS = np.float32(0), np.float32(-126), np.int32(127)
FEW_PIXELS = 2  # tiles this small are not worth looking for candidates


def _compiled(function: Callable[..., Any]) -> Any:
    # sums may be reordered so that they use the vector units; infinities and NaN never come here
    options = {"nogil": True, "fastmath": {"reassoc", "contract", "nnan", "nsz"}}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # nowhere to keep the compiled code
        return njit(**options)(function)


@_compiled
def _exp(values, count, out, bits):  # type: ignore[no-untyped-def]
    """out = exp(values), all float32 [count]; libm's is called one value at a time, this one is vectorised."""
    for q in range(count):
        power = values[q] * LOG2E
        power = power if power > SMALLEST_EXPONENT else SMALLEST_EXPONENT
        whole = np.int32(np.floor(power + HALF))
        f = power - np.float32(whole)
        out[q] = ONE + f * (_1 + f * (_2 + f * (_3 + f * (_4 + f * (_5 + f * _6)))))
        bits[q] = np.int32((whole + BIAS) << np.int32(23))
    scale = bits.view(np.float32)
    for q in range(count):
        out[q] *= scale[q]


@_compiled
def _bounds(a, b, c, d, largest):  # type: ignore[no-untyped-def]
    """Fills `largest` corner of each class [C]; returns the largest smallest corner and the largest corner of all."""
    sure, top = LOWEST, LOWEST
    for q in range(len(a)):
        low = a[q] if a[q] < b[q] else b[q]
        high = a[q] if a[q] > b[q] else b[q]
        low2 = c[q] if c[q] < d[q] else d[q]
        high2 = c[q] if c[q] > d[q] else d[q]
        low = low if low < low2 else low2
        high = high if high > high2 else high2
        largest[q] = high
        sure = sure if sure > low else low
        top = top if top > high else high
    return sure, top


@_compiled
def _gather(a, b, c, d, largest, bound, corners, classes):  # type: ignore[no-untyped-def]
    """The corners [4, n] of the classes that reach `bound`, in ascending order; returns n and the smallest corner."""
    count, lowest = 0, -LOWEST
    for q in range(len(a)):
        if largest[q] >= bound:
            corners[0, count], corners[1, count], corners[2, count], corners[3, count] = a[q], b[q], c[q], d[q]
            classes[count] = q
            lowest = min(lowest, a[q], b[q], c[q], d[q])
            count += 1
    return count, lowest


@_compiled
def _winners(corners, classes, count, fy, fx, best, winner):  # type: ignore[no-untyped-def]
    """The best logit and its class at every pixel of a tile; the first class wins ties, as in torch's argmax."""
    for y in range(len(fy)):
        row, who = best[y], winner[y]
        row[:] = LOWEST
        for m in range(count):
            left = corners[0, m] + (corners[2, m] - corners[0, m]) * fy[y]
            right = corners[1, m] + (corners[3, m] - corners[1, m]) * fy[y]
            step, q = right - left, classes[m]
            for x in range(len(fx)):
                value = left + step * fx[x]
                if value > row[x]:
                    row[x] = value
                    who[x] = q


@_compiled
def _step(fraction):  # type: ignore[no-untyped-def]
    """One pixel in cells: the pixels of a tile lie evenly between two cells."""
    return (fraction[-1] - fraction[0]) / np.float32(len(fraction) - 1) if len(fraction) > 1 else ZERO


@_compiled
def _totals(corners, count, top, fy, fx, work, bits, total):  # type: ignore[no-untyped-def]
    """The sum over classes of exp(logit - top) at every pixel of a tile, by geometric progressions."""
    dy, dx = _step(fy), _step(fx)
    start, right, down, both = work[0], work[1], work[2], work[3]
    for q in range(count):
        a, b, c, d = corners[0, q], corners[1, q], corners[2, q], corners[3, q]
        cross = d - c - b + a
        along, across = (b - a) + cross * fy[0], (c - a) + cross * fx[0]
        start[q] = (a - top) + (b - a) * fx[0] + across * fy[0]
        right[q], down[q], both[q] = along * dx, across * dy, cross * (dx * dy)
    for values in (start, right, down, both):
        _exp(values, count, values, bits)
    here = work[4]
    for y in range(len(fy)):
        for q in range(count):
            here[q] = start[q]
            start[q] *= down[q]
        _sum_along(here, right, count, len(fx), total[y])
        for q in range(count):
            right[q] *= both[q]


@_compiled
def _sum_along(here, ratio, count, width, total):  # type: ignore[no-untyped-def]
    """total[x] = the sum of here * ratio**x; four pixels for each time the vectors are read."""
    for x in range(0, width, 4):
        s0, s1, s2, s3 = ZERO, ZERO, ZERO, ZERO
        for q in range(count):
            r = ratio[q]
            v0 = here[q]
            v1 = v0 * r
            v2 = v1 * r
            v3 = v2 * r
            s0 += v0
            s1 += v1
            s2 += v2
            s3 += v3
            here[q] = v3 * r
        total[x] = s0
        if x + 1 < width:
            total[x + 1] = s1
        if x + 2 < width:
            total[x + 2] = s2
        if x + 3 < width:
            total[x + 3] = s3


@_compiled
def _directly(a, b, c, d, fy, fx, posterior, work, bits, best, winner, total):  # type: ignore[no-untyped-def]
    """All classes at every pixel of a tile; `total` becomes the sum of exp(logit - best)."""
    values, count = work[0], len(a)
    for y in range(len(fy)):
        for x in range(len(fx)):
            high = LOWEST
            for q in range(count):
                left = a[q] + (c[q] - a[q]) * fy[y]
                right = b[q] + (d[q] - b[q]) * fy[y]
                value = left + (right - left) * fx[x]
                values[q] = value
                high = high if high > value else value
            first = 0
            while values[first] != high:
                first += 1
            best[y, x], winner[y, x] = high, first
            if posterior:
                for q in range(count):
                    values[q] -= high
                _exp(values, count, values, bits)
                sum_ = ZERO
                for q in range(count):
                    sum_ += values[q]
                total[y, x] = sum_


@_compiled
def _write(best, total, winner, policy, labels, scores):  # type: ignore[no-untyped-def]
    """A tile's labels, and its scores best / total where `scores` has the tile's size."""
    background, threshold, unlabelled = policy
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = winner[y, x]
            if label == background:
                label = unlabelled
            if scores.shape[0]:
                share = best[y, x] / total[y, x] if total[y, x] > ZERO else ZERO
                share = min(max(share, ZERO), ONE)
                scores[y, x] = share
                if share < threshold:
                    label = unlabelled
            labels[y, x] = label


@_compiled
def label_tiles(logits, axis_y, axis_x, runs_y, runs_x, mode, margin, policy, labels, scores):  # type: ignore[no-untyped-def]
    """Labels, and the winner's score if asked for, of the rows that `runs_y` spans.

    logits: float32 [h, w, C]; with SHARES [h, w, C + 1], where the last channel is what scores are shares of.
    axis_y, axis_x: (low, high, fraction) of each pixel; runs_y, runs_x: where tiles start, then the end. The pixels of
    a tile lie evenly between the same cells.
    mode: LABELS, SOFTMAX or SHARES.
    margin: classes whose posterior stays below exp(-margin) of the winner's are left out of a softmax's sum.
    policy: (background channel or -1, threshold on the score, label of what is none of the classes).
    labels: unsigned [H, W]; scores: float32 [rows, W], or [0, 0] with LABELS.
    """
    low_y, high_y, fraction_y = axis_y
    low_x, high_x, fraction_x = axis_x
    channels, first_row = logits.shape[2] - (1 if mode == SHARES else 0), runs_y[0]
    longest = 0
    for t in range(len(runs_x) - 1):
        longest = max(longest, runs_x[t + 1] - runs_x[t])
    for s in range(len(runs_y) - 1):
        longest = max(longest, runs_y[s + 1] - runs_y[s])
    largest, bits = np.empty(channels, np.float32), np.empty(max(channels, longest), np.int32)
    corners, classes = np.empty((4, channels), np.float32), np.empty(channels, np.int32)
    work = np.empty((5, channels), np.float32)
    best, total = np.empty((longest, longest), np.float32), np.empty((longest, longest), np.float32)
    winner = np.empty((longest, longest), np.int32)
    for s in range(len(runs_y) - 1):
        top_row, bottom_row = runs_y[s], runs_y[s + 1]
        fy = fraction_y[top_row:bottom_row]
        upper, lower = logits[low_y[top_row]], logits[high_y[top_row]]
        for t in range(len(runs_x) - 1):
            left, right = runs_x[t], runs_x[t + 1]
            fx = fraction_x[left:right]
            a, b = upper[low_x[left]], upper[high_x[left]]
            c, d = lower[low_x[left]], lower[high_x[left]]
            wholes = a[-1], b[-1], c[-1], d[-1]
            a, b, c, d = a[:channels], b[:channels], c[:channels], d[:channels]
            tile_best, tile_winner, tile_total = best[: len(fy), : len(fx)], winner[: len(fy)], total[: len(fy)]
            direct = len(fy) * len(fx) <= FEW_PIXELS
            if not direct:
                sure, top = _bounds(a, b, c, d, largest)
                bound = sure - SLACK * max(ONE, abs(sure))
                count, lowest = _gather(a, b, c, d, largest, bound, corners, classes)
                _winners(corners, classes, count, fy, fx, tile_best, tile_winner)
                if mode == SOFTMAX:
                    count, lowest = _gather(a, b, c, d, largest, sure - margin, corners, classes)
                    if lowest < top - STEEPEST:
                        direct = True
                    else:
                        _totals(corners, count, top, fy, fx, work, bits, tile_total)
                        for y in range(len(fy)):
                            for x in range(len(fx)):
                                best[y, x] -= top
                            _exp(best[y], len(fx), best[y], bits)
            if direct:
                _directly(a, b, c, d, fy, fx, mode == SOFTMAX, work, bits, best, winner, total)
                if mode == SOFTMAX:
                    tile_best[:] = ONE
            if mode == SHARES:
                for y in range(len(fy)):
                    for x in range(len(fx)):
                        start = wholes[0] + (wholes[2] - wholes[0]) * fy[y]
                        end = wholes[1] + (wholes[3] - wholes[1]) * fy[y]
                        total[y, x] = start + (end - start) * fx[x]
            place = slice(top_row - first_row, bottom_row - first_row)
            _write(best, total, winner, policy, labels[top_row:bottom_row, left:right], scores[place, left:right])
