"""Runs the mask decoder's inner loops in numba.

In each cell it sums only classes that can win and masks that change.

Between the same four cells of a mask's grid the sigmoid of the mask stays within the sigmoids of its corners, so the
sums of a class over all masks stay within `low` and `high`, the sums of those bounds. A class whose upper bound is
below the largest lower bound wins nowhere there. Of those that are left, only masks that vary, and that count for
them, are evaluated at each pixel; what others add is the middle of their bounds.
"""

from __future__ import annotations

import numpy as np

from lexiseg.inference._kernels import ONE, SLACK, ZERO, _compiled, _exp, _write

__all__ = ["effort", "label_masks", "label_sums"]

ROUNDING = np.float32(1e-6)  # of the best sum: what all masks that are left out may change a sum by, together
ENOUGH = np.float32(1e-4)  # the same for the sum of all masks, by which scores are divided before float16 rounds them
STEEP = np.float32(80)  # logits beyond have a sigmoid of 0 or 1
HALF = np.float32(0.5)


@_compiled
def _candidates(low, high, channels, classes):  # type: ignore[no-untyped-def]
    """Fills the classes that can win, in ascending order; returns how many, and the largest lower bound."""
    sure = low[0]
    for q in range(channels):
        sure = sure if sure > low[q] else low[q]
    bound, count = sure - SLACK * max(abs(sure), ROUNDING), 0
    for q in range(channels):
        if high[q] >= bound:
            classes[count] = q
            count += 1
    return count, sure


@_compiled
def _active(inside, cell, scores, classes, count, sure, shares, weights, active):  # type: ignore[no-untyped-def]
    """Fills the masks that are not constant within the cell, as far as the candidates can tell; returns how many.

    `weights` becomes the middle of the bounds of the others, and 0 for these.
    """
    a, b, c, d = inside[cell[0], cell[2]], inside[cell[0], cell[3]], inside[cell[1], cell[2]], inside[cell[1], cell[3]]
    masks = len(a)
    weights[:] = ZERO
    for k in range(count):
        row = scores[classes[k]]
        for n in range(masks):
            weight = abs(row[n])
            weights[n] = weights[n] if weights[n] > weight else weight
    tolerance, enough = ROUNDING * abs(sure) / np.float32(masks), ENOUGH * shares / np.float32(masks)
    found = 0
    for n in range(masks):
        least, most = min(a[n], b[n], c[n], d[n]), max(a[n], b[n], c[n], d[n])
        spread = most - least
        if spread * weights[n] > tolerance or (shares > ZERO and spread > enough):
            active[found], weights[n] = n, ZERO
            found += 1
        else:
            weights[n] = HALF * (most + least)
    return found


@_compiled
def effort(inside, low, high, axis_y, axis_x, runs_y, runs_x, channels, step):  # type: ignore[no-untyped-def]
    """Candidates times masks that vary, the mean over every `step`-th tile: what a pixel would cost."""
    masks = inside.shape[2]
    classes, total, tiles = np.empty(channels, np.int32), 0.0, 0
    for s in range(len(runs_y) - 1):
        up, down = axis_y[0][runs_y[s]], axis_y[1][runs_y[s]]
        for t in range(s % step, len(runs_x) - 1, step):
            left, right = axis_x[0][runs_x[t]], axis_x[1][runs_x[t]]
            count, _ = _candidates(low[s, t], high[s, t], channels, classes)
            a, b, c, d = inside[up, left], inside[up, right], inside[down, left], inside[down, right]
            vary = 0
            for n in range(masks):
                spread = max(a[n], b[n], c[n], d[n]) - min(a[n], b[n], c[n], d[n])
                vary += spread > ENOUGH
            total += vary * count
            tiles += 1
    return total / max(1, tiles)


@_compiled
def label_masks(logits, inside, scores, low, high, axis_y, axis_x, runs_y, runs_x, shares, policy, labels, out):  # type: ignore[no-untyped-def]
    """Labels, and the winner's share if asked for, of the rows that `runs_y` spans.

    logits, inside: masks and their sigmoids [h, w, N].
    scores: [C + 1, N], the last row ones; low, high: bounds of their sums over masks [rows of tiles, tiles, C + 1].
    axis_y, axis_x: (low, high, fraction) of each pixel; runs_y, runs_x: where tiles start, then the end.
    shares: whether the winner's sum is wanted as a share of the sum of all masks.
    policy, labels, out: `policy`, `labels` and `scores` of `label_tiles`.
    """
    channels, masks, first_row = scores.shape[0] - 1, inside.shape[2], runs_y[0]
    longest = max(np.max(runs_x[1:] - runs_x[:-1]), np.max(runs_y[1:] - runs_y[:-1]))
    classes, active, bits = np.empty(channels + 1, np.int32), np.empty(masks, np.int32), np.empty(masks, np.int32)
    weights, gathered = np.empty(masks, np.float32), np.empty((channels + 1, masks), np.float32)
    base, corners = np.empty(channels + 1, np.float32), np.empty((4, masks), np.float32)
    start, step, value = np.empty(masks, np.float32), np.empty(masks, np.float32), np.empty(masks, np.float32)
    best, total = np.empty((longest, longest), np.float32), np.empty((longest, longest), np.float32)
    winner = np.empty((longest, longest), np.int32)
    for s in range(len(runs_y) - 1):
        top_row, bottom_row = runs_y[s], runs_y[s + 1]
        up, down = axis_y[0][top_row], axis_y[1][top_row]
        for t in range(len(runs_x) - 1):
            left, right = runs_x[t], runs_x[t + 1]
            cell = up, down, axis_x[0][left], axis_x[1][left]
            fy, fx = axis_y[2][top_row:bottom_row], axis_x[2][left:right]
            bounds = low[s, t], high[s, t]
            count, sure = _candidates(bounds[0], bounds[1], channels, classes)
            if count == 1 and not shares:
                winner[: len(fy), : len(fx)] = classes[0]
            else:
                whole = bounds[0][channels] if shares else ZERO
                found = _active(inside, cell, scores, classes, count, sure, whole, weights, active)
                rows = count
                if shares:  # the row of ones, which no pixel can win
                    classes[count] = channels
                    rows += 1
                for n in range(found):
                    m = active[n]
                    corners[0, n], corners[1, n] = logits[cell[0], cell[2], m], logits[cell[0], cell[3], m]
                    corners[2, n], corners[3, n] = logits[cell[1], cell[2], m], logits[cell[1], cell[3], m]
                for k in range(rows):
                    row, constant = scores[classes[k]], ZERO
                    for n in range(masks):
                        constant += row[n] * weights[n]
                    base[k] = constant
                    for n in range(found):
                        gathered[k, n] = row[active[n]]
                for y in range(len(fy)):
                    for n in range(found):
                        start[n] = corners[0, n] + (corners[2, n] - corners[0, n]) * fy[y]
                        step[n] = corners[1, n] + (corners[3, n] - corners[1, n]) * fy[y] - start[n]
                    for x in range(len(fx)):
                        for n in range(found):
                            value[n] = min(max(-(start[n] + step[n] * fx[x]), -STEEP), STEEP)
                        _exp(value, found, value, bits)
                        for n in range(found):
                            value[n] = ONE / (ONE + value[n])
                        for k in range(rows):
                            sum_ = base[k]
                            for n in range(found):
                                sum_ += gathered[k, n] * value[n]
                            if k == count:
                                total[y, x] = sum_
                            elif k == 0 or sum_ > best[y, x]:
                                best[y, x], winner[y, x] = sum_, classes[k]
            place = slice(top_row - first_row, bottom_row - first_row)
            _write(best, total, winner, policy, labels[top_row:bottom_row, left:right], out[place, left:right])


@_compiled
def label_sums(sums, runs, policy, labels, out):  # type: ignore[no-untyped-def]
    """Labels of the rows that `runs` spans, of sums [H, W, C + 1] that are known at every pixel."""
    channels = sums.shape[2] - 1
    best, total = np.empty((1, labels.shape[1]), np.float32), np.empty((1, labels.shape[1]), np.float32)
    winner = np.empty((1, labels.shape[1]), np.int32)
    for y in range(runs[0], runs[-1]):
        for x in range(labels.shape[1]):
            values, high = sums[y, x], sums[y, x, 0]
            for q in range(channels):
                high = high if high > values[q] else values[q]
            first = 0
            while values[first] != high:
                first += 1
            best[0, x], total[0, x], winner[0, x] = high, values[channels], first
        row = y - runs[0]
        _write(best, total, winner, policy, labels[y : y + 1], out[row : row + 1])
