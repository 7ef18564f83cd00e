"""Labels embedded pictures in bounded memory, in bands of rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lexiseg.errors import SettingError
from lexiseg.inference import masks, windows
from lexiseg.inference.blending import Window, blend, blend_rows
from lexiseg.inference.canvas import CHUNK, Canvas
from lexiseg.inference.checking import check, check_covers, sound
from lexiseg.inference.decoder import Decoded, Decoder
from lexiseg.inference.looks import Blended, Look, Seen, Whole, mean_rows, mirrored
from lexiseg.inference.posterior import Posterior
from lexiseg.inference.upsample import Axis, Result, Size, axes
from lexiseg.inference.windows import Box
from lexiseg.segmenter import DenseLogits, Embedding, MaskScores, Segmenter
from lexiseg.vocabulary import Vocabulary

__all__ = ["Embedded", "Labeller", "Refine", "decode"]

BAND = 4 * CHUNK  # logits that are held at a time
MAX_REFINED = 1 << 28  # logits: a refiner needs all of them at once
NOTHING = 1e-12  # the least weight, and the least share of a class before the logarithm

Refine = Callable[[Tensor, npt.NDArray[np.uint8]], Tensor]  # logits [C, h, w] and RGB [H, W, 3] to logits
Map = TypeVar("Map", bound=Canvas)
Make = Callable[[Result, Axis, Axis], Map]  # an empty map whose rows and columns lie as given on a result's grid


@dataclass(frozen=True, eq=False)
class Embedded:
    """A photograph that has been looked at: what `Predictor.classify` needs to be asked about any words.

    size: (height, width) of the photograph.
    looks: one for each size that the network saw it at, mirrored or not.
    pixels: uint8 [3, h, w] of the first look for a refiner, else None.
    image: RGB [*size, 3], for results to draw on; None unless it was to be kept.
    valid: which pixels of the photograph are there, and in a mask where masks were given [*size]; None where all are.
        The others stay unlabelled.
    notes: a sentence each on what had to be decided to read it.
    model, fingerprint: which model has looked at it, by its name and by its `fingerprint`; empty where the context
        tells it.
    masks: a hash of the masks that were given; empty where there were none.
    """

    name: str
    size: tuple[int, int]
    looks: tuple[Look, ...]
    pixels: Tensor | None = None
    image: npt.NDArray[np.uint8] | None = None
    valid: npt.NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()
    model: str = ""
    fingerprint: str = ""
    masks: str = ""

    @property
    def views(self) -> Iterable[tuple[Box, Embedding]]:
        """Those of the first look."""
        return self.looks[0].views

    @property
    def resized(self) -> tuple[int, int]:
        """(height, width) of the first look."""
        return self.looks[0].resized

    @property
    def joined(self) -> bool:
        """Of the first look."""
        return self.looks[0].joined


@dataclass(frozen=True, eq=False)
class Labeller:
    """One question, put to as many embedded pictures as one likes.

    own_threshold: of the model; threshold: the user's, which comes first. Posterior, 0-1, or None.
    """

    segmenter: Segmenter[Any, Any]
    classifier: Any
    vocabulary: Vocabulary
    own_threshold: float | None = None
    threshold: float | None = None
    scores: bool = True
    refine: Refine | None = None

    def label(self, embedded: Embedded) -> Decoded:
        """The label map at the photograph's own size; pixels that are not there are unlabelled, with score 0."""
        decoded = self._filled(embedded, self._decoder).finish()
        if embedded.valid is not None:
            decoded.labels[~embedded.valid] = np.iinfo(decoded.labels.dtype).max
            if decoded.scores is not None:
                decoded.scores[~embedded.valid] = 0
        return decoded

    def posterior(self, embedded: Embedded, name: str) -> npt.NDArray[np.float16]:
        """The posterior of one class at every pixel of the photograph, 0-1 [H, W]; 0 where pixels are not there.

        name: of the class, or any of its words. Raises `UnknownName` for one that was not asked about.
        """
        channel = self.vocabulary.index(name)

        def make(result: Result, rows: Axis, columns: Axis) -> Posterior:
            return Posterior(rows, columns, result.channels, channel, shares=isinstance(result, MaskScores))

        scores = self._filled(embedded, make).scores
        if embedded.valid is not None:
            scores[~embedded.valid] = 0
        return scores

    def _filled(self, embedded: Embedded, make: Make[Map]) -> Map:
        if len(embedded.looks) > 1:
            return self._averaged(embedded, make)
        if not embedded.joined:
            return self._windows(embedded, make)
        ((box, view),) = embedded.views
        rows = self._rows_at_once(view)
        canvas = None if rows is None else self._bands(view, rows, embedded, make)
        if canvas is not None:
            return canvas
        result = self._classify(view, box.size)
        if self.refine is None:
            return _drawn(result, embedded.size, box.size, make)
        if isinstance(result, DenseLogits) and result.covers is None:
            return self._refined(result.logits[0], result, embedded, make)
        return self._refined(self._at_pixels([(box, result)], result, embedded), result, embedded, make)

    def _classify(self, view: Embedding, seen: Size) -> Result:
        """Checked and sound; `seen` is the size of the view's input."""
        result = check(self.segmenter.classify(view, self.classifier), self._method, self.vocabulary)
        check_covers(result.covers, result.grid, seen, self._method)
        return sound(result)

    @property
    def _method(self) -> str:
        return f"{type(self.segmenter).__name__}.classify"

    def _rows_at_once(self, embedding: Embedding) -> int | None:
        """How many grid rows to classify at a time; None for all, because they are few or belong together."""
        if not embedding.grid_fields or self.refine is not None or self.segmenter.traits.whole_image:
            return None
        height, width = windows.grid(embedding)
        rows = max(1, BAND // (len(self.vocabulary.queries) * width))
        return rows if rows < height else None

    def _bands(self, view: Embedding, rows: int, embedded: Embedded, make: Make[Map]) -> Map | None:
        """Grid rows in bands, each repeating the last row of the one before: pixels in between need both.

        None where the method answers on a grid of its own, whose bands do not fit together.
        """
        height, width = windows.grid(view)
        canvas, covers = None, None
        for start in range(0, height, rows):
            first, stop = max(0, start - 1), min(start + rows, height)
            result = self._part(view, first, stop)
            if result is None:
                return None
            if canvas is None:
                covers = _covers(result, height)
                check_covers(covers, (height, width), embedded.resized, self._method)
                canvas = make(result, *axes((height, width), embedded.size, covers=covers, seen=embedded.resized))
            elif _covers(result, height) != covers:
                return None
            canvas.add(result.logits[0], first)
        return canvas

    def _windows(self, embedded: Embedded, make: Make[Map]) -> Map:
        """The papers' order: windows are averaged at the pixels of the resized picture, then brought to full size."""
        others = ((box, self._classify(view, box.size)) for box, view in embedded.views)
        box, result = next(others)
        results = itertools.chain([(box, result)], others)
        if self.refine is not None:
            return self._refined(self._at_pixels(results, result, embedded), result, embedded, make)
        if isinstance(result, MaskScores) and embedded.resized == embedded.size == box.size:
            return _drawn(result, embedded.size, box.size, make)  # one window, no second interpolation
        canvas = make(result, *axes(embedded.resized, embedded.size))
        blend(results, embedded.resized, canvas, BAND)
        return canvas

    def _averaged(self, embedded: Embedded, make: Make[Map]) -> Map:
        """The mean of several looks, at the photograph's pixels; for a refiner at those of the first look."""
        size = embedded.size if self.refine is None else embedded.resized
        seen = [self._seen(look, size) for look in embedded.looks]
        result = seen[0].result
        bands = mean_rows(seen, size, BAND)
        if self.refine is not None:
            return self._refined(_gathered(bands, result, size, embedded.name), result, embedded, make)
        canvas, every = make(result, *axes(size, size)), Axis.of(size[1], size[1])
        for _, values in bands:
            canvas.fill(values, Axis.of(values.shape[1], values.shape[1]), every)
        return canvas

    def _seen(self, look: Look, size: Size) -> Seen:
        """What one look says of a map of `size`."""
        if not look.joined:
            others = ((box, self._classify(view, box.size)) for box, view in look.views)
            first = next(others)
            rows, columns = _turned(axes(look.resized, size), look)
            return Seen(first[1], Blended(itertools.chain([first], others), look.resized, rows, columns, BAND))
        ((box, view),) = look.views
        if self._rows_at_once(view) is not None:
            part = self._part(view, 0, 1)
            if part is not None:
                height, width = windows.grid(view)
                covers = _covers(part, height)
                check_covers(covers, (height, width), look.resized, self._method)
                rows, columns = _turned(axes((height, width), size, covers=covers, seen=look.resized), look)
                return Seen(part, Whole(part, rows, columns, again=partial(self._rows_of, view)))
        result = self._classify(view, box.size)
        rows, columns = _turned(axes(result.grid, size, covers=result.covers, seen=look.resized), look)
        return Seen(result, Whole(result, rows, columns))

    def _part(self, view: Embedding, first: int, stop: int) -> DenseLogits | None:
        """Grid rows `first` to `stop` of a view; None where the method answers on a grid of its own."""
        band = self.segmenter.classify(windows.rows(view, first, stop), self.classifier)
        result = sound(check(band, self._method, self.vocabulary))
        if not isinstance(result, DenseLogits) or result.grid != (stop - first, windows.grid(view)[1]):
            return None
        return result

    def _rows_of(self, view: Embedding, first: int, stop: int) -> Result:
        found = self._part(view, first, stop)
        assert found is not None, "bands of one grid are alike"
        return found

    def _at_pixels(self, results: Iterable[Window], result: Result, embedded: Embedded) -> Tensor:
        """The mean of windows as logits [C, *resized]; the shares of masks as their logarithm."""
        return _gathered(blend_rows(results, embedded.resized, BAND), result, embedded.resized, embedded.name)

    def _refined(self, logits: Tensor, result: Result, embedded: Embedded, make: Make[Map]) -> Map:
        assert self.refine is not None
        assert embedded.pixels is not None
        _check_room(len(logits), logits.shape[1:], embedded.name)
        rgb = np.ascontiguousarray(embedded.pixels.permute(1, 2, 0).cpu().numpy())
        refined = sound(DenseLogits(self.refine(logits, rgb)[None], result.background))
        return _drawn(refined, embedded.size, embedded.resized, make)

    def _decoder(self, result: Result, rows: Axis, columns: Axis) -> Decoder:
        return _decoder_of(result, rows, columns, self._threshold(result), self.scores)

    def _threshold(self, result: Result) -> float | None:
        """A method that fills in the background by a rule of its own has no second one."""
        if result.background and not self.vocabulary.background:
            if self.threshold is not None:
                raise SettingError("this model has a rule of its own for the background; change its settings instead")
            return None
        return self.own_threshold if self.threshold is None else self.threshold


def decode(
    result: Result, size: Size, *, seen: Size | None = None, threshold: float | None = None, scores: bool = True
) -> Decoded:
    """The label map of one image (B = 1) at `size` (height, width).

    result: of any float type.
    seen: the size of the input that the result is of, where that is not `size`; only its `covers` ask for it.
    threshold: pixels whose winner has a smaller posterior stay unlabelled, as do those the background wins.
    scores: whether the posteriors are wanted. They are a softmax over classes for `DenseLogits`, correct to 1e-4 of
        their value before they are rounded to float16; for `MaskScores` the mean of the winner's scores over masks, by
        the masks' weights.

    Raises `LexisegError` for logits that are NaN or infinite; -inf is allowed and never wins.
    """

    def make(result: Result, rows: Axis, columns: Axis) -> Decoder:
        return _decoder_of(result, rows, columns, threshold, scores)

    return _drawn(sound(result), size, seen or size, make).finish()


def _decoder_of(result: Result, rows: Axis, columns: Axis, threshold: float | None, scores: bool) -> Decoder:
    return Decoder(
        rows,
        columns,
        result.channels,
        background=result.background,
        threshold=threshold,
        scores=scores,
        shares=isinstance(result, MaskScores),
    )


def _drawn(result: Result, size: Size, seen: Size, make: Make[Map]) -> Map:
    """A map of `size` of a sound result whose input had the size `seen`."""
    canvas = make(result, *axes(result.grid, size, covers=result.covers, seen=seen))
    if isinstance(result, DenseLogits):
        canvas.add(result.logits[0])
    else:
        masks.draw(result, canvas)
    return canvas


def _gathered(bands: Iterable[tuple[int, Tensor]], result: Result, size: Size, name: str) -> Tensor:
    """All of a mean as logits [C, *size]; the shares of masks as their logarithm."""
    _check_room(result.channels, size, name)
    whole = None
    for first, band in bands:
        whole = band.new_empty(result.channels, *size) if whole is None else whole
        if isinstance(result, MaskScores):
            band = (band[:-1] / band[-1:].clamp(min=NOTHING)).clamp(min=NOTHING).log()
        whole[:, first : first + band.shape[1]] = band
    assert whole is not None
    return whole


def _turned(found: tuple[Axis, Axis], look: Look) -> tuple[Axis, Axis]:
    """Rows and columns on the grid of a look that may be mirrored."""
    rows, columns = found
    return rows, mirrored(columns) if look.mirrored else columns


def _covers(band: DenseLogits, height: int) -> tuple[float, float] | None:
    """What all `height` rows of a grid cover, from what a band of them does."""
    if band.covers is None:
        return None
    return band.covers[0] * height / band.grid[0], band.covers[1]


def _check_room(channels: int, size: Sequence[int], name: str) -> None:
    numbers = channels * size[0] * size[1]
    if numbers > MAX_REFINED:
        raise SettingError(
            f"a refiner would need {numbers * 4 / 1e9:.1f} GB of logits for {name}; "
            f"use fewer classes, a smaller short_side, or no refiner"
        )
