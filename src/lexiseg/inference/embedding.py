"""Embeds pictures, whole or in windows, several at a time.

The precision is the fastest that holds their numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lexiseg.errors import LexisegError, SettingError
from lexiseg.inference import devices, windows
from lexiseg.inference.given_masks import cut
from lexiseg.inference.labelling import Embedded
from lexiseg.inference.looks import Look
from lexiseg.inference.reading import Picture
from lexiseg.inference.windows import Box
from lexiseg.proposals._proposals import Proposals
from lexiseg.segmenter import Embedding, Inference, Segmenter

__all__ = ["Embedder", "batches"]

MAX_WHOLE = 2048**2  # pixels of a resized picture that is looked at whole; larger ones get windows
TILE, TILE_STRIDE = 1024, 768  # pixels: the windows they get where the settings name none
FORWARD = 16 * 512**2  # pixels that pass the network at a time, in windows

Item = TypeVar("Item")


class Embedder:
    """A segmenter's image side on a device, in a precision.

    widen: give up a precision that overflows on a picture for a wider one, from then on. Weights that were rounded to
        the narrow one stay so.
    """

    def __init__(
        self,
        segmenter: Segmenter[Any, Any],
        inference: Inference,
        device: torch.device,
        dtype: torch.dtype,
        *,
        widen: bool,
    ) -> None:
        self.segmenter, self.inference, self.device, self.widen = segmenter, inference, device, widen
        if isinstance(segmenter, nn.Module):
            segmenter.eval().to(device)
        self.narrowest = dtype  # that the weights have been rounded to
        self._cast(dtype)

    def embed(self, pictures: Sequence[Picture], *, keep_pixels: bool = False) -> Iterator[Embedded]:
        """The pictures in order; the windows of each are embedded as they are asked for.

        keep_pixels: whether a refiner will want them.

        Raises `SettingError` for a picture with masks whose windows would become one embedding.
        """
        plans = [self._plan(picture.resized) for picture in pictures]
        crops = ((picture, box) for picture, plan in zip(pictures, plans, strict=True) for box in plan)
        several = len(self.inference.scales) > 1 or self.inference.flip
        views = self._crops(crops, len(pictures))
        for picture, plan in zip(pictures, plans, strict=True):
            pixels = picture.pixels if keep_pixels else None
            masks = "" if picture.masks is None else picture.masks.digest
            if several and picture.masks is not None:
                raise SettingError(
                    f"{picture.name} is looked at several times, and masks have one size; set scales=1 flip=false"
                )
            if several:
                looks = self._looks(picture)
            else:
                looks = (self._look(itertools.islice(views, len(plan)), len(plan), picture),)
            yield Embedded(
                picture.name, picture.size, looks, pixels, picture.image, picture.valid, picture.notes, masks=masks
            )

    def _looks(self, picture: Picture) -> tuple[Look, ...]:
        """The picture at every scale, each mirrored too where that is wanted."""
        turns = (False, True) if self.inference.flip else (False,)
        return tuple(
            self._look_alone(replace(picture, pixels=pixels.flip(2) if turned else pixels), turned)
            for pixels in (picture.pixels, *picture.more)
            for turned in turns
        )

    def _look_alone(self, seen: Picture, mirrored: bool) -> Look:
        """One with an iterator of its own, since the rows of several looks are wanted side by side."""
        plan = self._plan(seen.resized)
        views = self._crops(((seen, box) for box in plan), 1)
        return replace(self._look(views, len(plan), seen), mirrored=mirrored)

    def _look(self, views: Iterator[tuple[Box, Embedding]], count: int, picture: Picture) -> Look:
        own, joined = self._join(views, count, picture)
        return Look(picture.resized, own, joined)

    def _plan(self, resized: tuple[int, int]) -> list[Box]:
        window, stride = self.inference.window, self.inference.stride
        if window is None and resized[0] * resized[1] > MAX_WHOLE:
            window, stride = TILE, TILE_STRIDE
        multiple = self.segmenter.multiple if self.inference.blend == "features" else 1
        return windows.boxes(resized, window, stride, multiple=multiple)

    def _join(
        self, views: Iterator[tuple[Box, Embedding]], count: int, picture: Picture
    ) -> tuple[Iterable[tuple[Box, Embedding]], bool]:
        """Windows as one view of the whole picture, where that is wanted and their grids fit together; all finished."""
        joined = self.inference.blend == "features"
        if joined and count > 1:
            first, patch = next(views), self.segmenter.patch
            views = itertools.chain([first], views)
            joined = windows.fits(*first, patch)
            if joined and picture.masks is not None:
                raise SettingError(
                    f"{picture.name} is seen in {count} windows that become one embedding, and masks cannot be joined; "
                    "set blend=logits, so that each window is classified with its part of the masks, or window=none"
                )
            if joined:
                views = iter([(Box(0, 0, *picture.resized), windows.stitch(views, picture.resized, patch))])
        return self._finished(views), joined

    def _finished(self, views: Iterable[tuple[Box, Embedding]]) -> Iterator[tuple[Box, Embedding]]:
        for box, embedding in views:
            with torch.inference_mode():
                finished = self.segmenter.finish(embedding)
            yield box, finished

    def _crops(self, crops: Iterable[tuple[Picture, Box]], images: int) -> Iterator[tuple[Box, Embedding]]:
        """Neighbouring crops of one size, of one image or of several, pass the network together."""
        for size, group in itertools.groupby(crops, key=lambda crop: crop[1].size):
            for batch in batches(group, max(images, FORWARD // (size[0] * size[1]), 1)):
                stack = torch.stack([picture.pixels[(..., *box.slices)] for picture, box in batch])
                masks = [cut(picture.masks.proposals, box) for picture, box in batch if picture.masks is not None]
                embedding = self._forward(stack, batch[0][0].name, Proposals.batch(masks) if masks else None)
                for place, (_, box) in enumerate(batch):
                    yield box, windows.take(embedding, place)

    def _forward(self, pixels: Tensor, name: str, masks: Proposals | None) -> Embedding:
        """uint8 [B, 3, H, W], and masks where they were given, as an embedding whose numbers are finite."""
        embed: Any = self.segmenter.embed_image  # takes masks where the trait `accepts_masks` says so
        given = {} if masks is None else {"proposals": masks.to(self.device)}
        while True:
            with torch.inference_mode():
                embedding: Embedding = embed(pixels.to(self.device), **given)
                if windows.is_finite(embedding):
                    return embedding
            wider = devices.safer(self.dtype, self.device)
            if wider is None:
                raise LexisegError(f"the model gives NaN or infinite numbers for {name}; its weights are damaged")
            if not self.widen:
                raise LexisegError(f"{name} overflows {devices.name(self.dtype)}; use dtype='auto' or 'fp32'")
            self._cast(wider)

    def _cast(self, dtype: torch.dtype) -> None:
        """Weights in `dtype`, but scalars: a logit scale of 4.6052, rounded to bf16, would be off by 1 %."""
        self.dtype = dtype
        if isinstance(self.segmenter, nn.Module):
            for tensor in itertools.chain(self.segmenter.parameters(), self.segmenter.buffers()):
                if tensor.is_floating_point() and tensor.ndim:
                    tensor.data = tensor.data.to(dtype)


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, size)):
        yield batch
