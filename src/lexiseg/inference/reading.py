"""Prepares the next photographs while the network works.

They are opened, decoded and resized.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from lexiseg.data.finding import find
from lexiseg.data.photographs import ImageSource, Photograph
from lexiseg.errors import DataError, ImageError
from lexiseg.inference import preprocess
from lexiseg.inference.given_masks import GivenMasks, Masks, given
from lexiseg.segmenter import Inference

__all__ = ["Picture", "Pictures", "Unreadable", "pictures", "read", "read_ahead"]

Pictures = ImageSource | Iterable[ImageSource]  # one photograph, a folder of them, or several
Unreadable = ImageError | DataError  # of a photograph, or of the masks that are stored for it

BLACK = "every pixel is black, so its labels mean nothing"
ONE_COLOUR = "every pixel has the same colour, so its labels mean nothing"
NEARLY_BLACK = "it is nearly black, so its labels mean little"
NO_MASK = "the masks that were given have no pixel of it, so it is unlabelled"
DARK = 16  # levels of 255: the brightest pixel of a picture that is nearly black is below
DRAFT = 2  # a JPEG is decoded at no less than this many times the size the network sees


@dataclass(frozen=True, eq=False)
class Picture:
    """A photograph at the size the network sees, or at several.

    size: (height, width) of the photograph.
    pixels: uint8 [3, h, w], at the first scale.
    image: the photograph itself, RGB [H, W, 3], where it was to be kept.
    valid: which of its pixels are there, and in a mask where masks were given [H, W]; None where all are.
    notes: a sentence each on what had to be decided to read it, and on pictures that show nothing.
    more: the same as `pixels` at each further scale.
    masks: those that were given.
    """

    name: str
    size: tuple[int, int]
    pixels: Tensor
    image: npt.NDArray[np.uint8] | None
    valid: npt.NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()
    more: tuple[Tensor, ...] = ()
    masks: GivenMasks | None = None

    @property
    def resized(self) -> tuple[int, int]:
        return self.pixels.shape[1], self.pixels.shape[2]


def pictures(given: Pictures) -> Iterable[ImageSource]:
    """The photographs of a folder (with all folders inside), or of a glob pattern, or those that are given.

    Raises `ImageError` for what is neither a photograph nor several.
    """
    if isinstance(given, (str, os.PathLike)):
        return find(given).photographs
    single = isinstance(given, (Photograph, bytes, bytearray, memoryview, Image.Image)) or hasattr(given, "read")
    if single or (isinstance(given, np.ndarray) and given.ndim <= 3):
        return [given]  # type: ignore[list-item]
    if not isinstance(given, Iterable):
        raise ImageError(f"photographs cannot be a {type(given).__name__}; give a folder, a path, or a list of paths")
    return cast(Iterable[ImageSource], given)


def read(image: ImageSource, inference: Inference, *, keep_image: bool, masks: Masks | None = None) -> Picture:
    """Raises `ImageError`, and `SettingError` for masks that do not fit.

    An image that is not kept need not be decoded at its full size.
    """
    photo = Photograph.open(image)
    sizes = [preprocess.target_size(*photo.size, inference, scale=scale) for scale in inference.scales]
    largest = max(sizes)
    # a reduced JPEG is smoothed as it is decoded, which is not what a protocol without antialiasing saw
    reduce = inference.antialias and not keep_image
    content = photo.content((DRAFT * largest[0], DRAFT * largest[1]) if reduce else None)
    pixels, *more = (preprocess.resize(content.rgb, size, inference) for size in sizes)
    own = None if masks is None else given(masks, photo.name, photo.size, sizes[0])
    valid, told = content.valid, (*content.notes, *_nothing_to_see(pixels))
    if own is not None:
        valid = own.inside if valid is None else valid & own.inside
        told += () if valid.any() else (NO_MASK,)
    notes = tuple(f"{photo.name}: {note}" for note in told)
    kept = content.rgb if keep_image else None
    return Picture(photo.name, photo.size, pixels, kept, valid, notes, tuple(more), own)


def _nothing_to_see(pixels: Tensor) -> tuple[str, ...]:
    """A note on a picture [3, h, w] that is of one colour or nearly black."""
    brightest = int(pixels.max())
    if bool((pixels == pixels[:, :1, :1]).all()):
        return (BLACK if brightest == 0 else ONE_COLOUR,)
    return (NEARLY_BLACK,) if brightest < DARK else ()


def read_ahead(
    images: Iterable[ImageSource],
    inference: Inference,
    *,
    ahead: int,
    keep_image: bool,
    masks: Callable[[ImageSource], Masks] | None = None,
) -> Iterator[tuple[ImageSource, Picture | Unreadable]]:
    """Images in order, each with what became of it; `ahead` more are read while the caller works on one.

    masks: those of an image; may raise `DataError`.
    """

    def attempt(image: ImageSource) -> Picture | Unreadable:
        try:
            return read(image, inference, keep_image=keep_image, masks=None if masks is None else masks(image))
        except (ImageError, DataError) as error:
            return error

    remaining = iter(images)
    first = list(itertools.islice(remaining, 2))
    if len(first) < 2:  # nothing to overlap, so no thread
        yield from ((image, attempt(image)) for image in first)
        return
    remaining = itertools.chain(first, remaining)
    waiting: deque[tuple[ImageSource, Future[Picture | Unreadable]]] = deque()
    with ThreadPoolExecutor(1, "lexiseg-read") as pool:
        try:
            while True:
                for image in itertools.islice(remaining, 1 + ahead - len(waiting)):
                    waiting.append((image, pool.submit(attempt, image)))
                if not waiting:
                    return
                image, reading = waiting.popleft()
                yield image, reading.result()
        finally:
            for _, reading in waiting:
                reading.cancel()
