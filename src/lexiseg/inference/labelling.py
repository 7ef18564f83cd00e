"""An embedded picture and a classifier to a label map, in bounded memory: in bands of rows whatever the way."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lexiseg.errors import SettingError
from lexiseg.inference import windows
from lexiseg.inference.blending import blend
from lexiseg.inference.decoder import CHUNK, Decoded, Decoder, decode
from lexiseg.inference.windows import Box
from lexiseg.segmenter import DenseLogits, Embedding, MaskScores, Segmenter
from lexiseg.vocabulary import Vocabulary

__all__ = ["Embedded", "Labeller", "Refine"]

BAND = 4 * CHUNK  # logits that are held at a time
MAX_REFINED = 1 << 28  # logits: a refiner needs all of them at once
NOTHING = 1e-12  # the share of a class that no mask has, before the logarithm

Result = DenseLogits | MaskScores
Refine = Callable[[Tensor, npt.NDArray[np.uint8]], Tensor]  # logits [C, h, w] and RGB [H, W, 3] to logits


@dataclass(frozen=True, eq=False)
class Embedded:
    """A photograph that has been looked at: what `Predictor.classify` needs to be asked about any words.

    size: of the photograph; resized: of what the network saw; both (height, width).
    views: the embedding of each window, from top to bottom.
    joined: there is one view, of the whole picture, whose logits may go straight to the photograph's size.
    pixels: uint8 [3, *resized] for a refiner, else None.
    image: RGB [*size, 3], for results to draw on; None where nobody asked to keep it.
    valid: which pixels of the photograph are there [*size]; None where all are. The others stay unlabelled.
    notes: a sentence each on what had to be decided to read it.
    """

    name: str
    size: tuple[int, int]
    resized: tuple[int, int]
    views: Iterable[tuple[Box, Embedding]]
    joined: bool
    pixels: Tensor | None = None
    image: npt.NDArray[np.uint8] | None = None
    valid: npt.NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()


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
        decoded = self._label(embedded)
        if embedded.valid is not None:
            decoded.labels[~embedded.valid] = np.iinfo(decoded.labels.dtype).max
            if decoded.scores is not None:
                decoded.scores[~embedded.valid] = 0
        return decoded

    def _label(self, embedded: Embedded) -> Decoded:
        if not embedded.joined:
            return self._windows(embedded)
        ((_, embedding),) = embedded.views
        rows = self._rows_at_once(embedding)
        if rows is not None:
            return self._bands(embedding, rows, embedded.size)
        result = self.segmenter.classify(embedding, self.classifier)
        if self.refine is None:
            return self._decode(result, embedded.size)
        if isinstance(result, DenseLogits):
            return self._refined(result.logits[0], result, embedded)
        pixels = windows.blend_rows([(Box(0, 0, *embedded.resized), result)], embedded.resized, BAND)
        return self._refined(_collect(pixels, result, embedded.resized), result, embedded)

    def _rows_at_once(self, embedding: Embedding) -> int | None:
        """How many grid rows to classify at a time; None for all, because they are few or belong together."""
        if not embedding.grid_fields or self.refine is not None or self.segmenter.traits.whole_image:
            return None
        height, width = windows.grid(embedding)
        rows = max(1, BAND // (len(self.vocabulary.queries) * width))
        return rows if rows < height else None

    def _bands(self, embedding: Embedding, rows: int, size: tuple[int, int]) -> Decoded:
        """Grid rows in bands, each repeating the last row of the one before: pixels in between need both."""
        height, width = windows.grid(embedding)
        decoder = None
        for start in range(0, height, rows):
            first, stop = max(0, start - 1), min(start + rows, height)
            result = self.segmenter.classify(windows.rows(embedding, first, stop), self.classifier)
            if not isinstance(result, DenseLogits) or result.logits.shape[-2:] != (stop - first, width):
                # the method answers on a grid of its own, whose bands nobody could put together
                return self._decode(self.segmenter.classify(embedding, self.classifier), size)
            decoder = decoder or self._decoder(result, size, (height, width))
            decoder.add(result.logits[0], first)
        assert decoder is not None
        return decoder.finish()

    def _windows(self, embedded: Embedded) -> Decoded:
        """The papers' order: windows are averaged at the pixels of the resized picture, then brought to full size."""
        others = ((box, self.segmenter.classify(view, self.classifier)) for box, view in embedded.views)
        box, result = next(others)
        results = itertools.chain([(box, result)], others)
        if self.refine is not None:
            rows = windows.blend_rows(results, embedded.resized, BAND)
            return self._refined(_collect(rows, result, embedded.resized), result, embedded)
        if isinstance(result, MaskScores) and embedded.resized == embedded.size == box.size:
            return self._decode(result, embedded.size)  # one window, no second interpolation
        decoder = self._decoder(result, embedded.size, embedded.resized)
        blend(results, embedded.resized, decoder, BAND)
        return decoder.finish()

    def _refined(self, logits: Tensor, result: Result, embedded: Embedded) -> Decoded:
        assert self.refine is not None
        assert embedded.pixels is not None
        if logits.numel() > MAX_REFINED:
            raise SettingError(
                f"a refiner would need {logits.numel() * 4 / 1e9:.1f} GB of logits for {embedded.name}; "
                f"use fewer classes, a smaller short_side, or no refiner"
            )
        rgb = np.ascontiguousarray(embedded.pixels.permute(1, 2, 0).cpu().numpy())
        refined = self.refine(logits.float(), rgb)
        return self._decode(DenseLogits(refined[None], result.background), embedded.size)

    def _decode(self, result: Result, size: tuple[int, int]) -> Decoded:
        return decode(result, size, threshold=self._threshold(result), scores=self.scores)

    def _decoder(self, result: Result, size: tuple[int, int], grid: tuple[int, int]) -> Decoder:
        return Decoder(
            size,
            grid,
            _channels(result),
            background=result.background,
            threshold=self._threshold(result),
            scores=self.scores,
            shares=isinstance(result, MaskScores),
        )

    def _threshold(self, result: Result) -> float | None:
        """A method that fills in the background by a rule of its own has no second one."""
        if result.background and not self.vocabulary.background:
            if self.threshold is not None:
                raise SettingError("this model has a rule of its own for the background; change its settings instead")
            return None
        return self.own_threshold if self.threshold is None else self.threshold


def _channels(result: Result) -> int:
    return result.logits.shape[1] if isinstance(result, DenseLogits) else result.scores.shape[2]


def _collect(rows: Iterator[tuple[int, Tensor]], result: Result, size: tuple[int, int]) -> Tensor:
    """All bands as logits [C, H, W]; the shares of masks as their logarithm."""
    channels = _channels(result)
    whole = None
    for first, band in rows:
        whole = band.new_empty(channels, *size) if whole is None else whole
        values = band if isinstance(result, DenseLogits) else (band[:-1] / band[-1:]).clamp(min=NOTHING).log()
        whole[:, first : first + band.shape[1]] = values
    assert whole is not None
    return whole
