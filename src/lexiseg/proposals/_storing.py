"""Stores the pseudo-masks of pairs.

A training step then never waits for them.

What is stored is one map for each picture, of the picture's own size, which `data.maps` crops with it: in shards of the
pairs' names for pairs in shards, else a PNG in the place of each picture. A run that was interrupted goes on.
"""

from __future__ import annotations

import io
import json
import logging
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from lexiseg import files
from lexiseg.data.geometry import resize_labels
from lexiseg.data.pairs.pairs import Pairs
from lexiseg.data.pairs.readers import ShardPairs
from lexiseg.errors import BadSample, DataError, OutputError
from lexiseg.formats import png

__all__ = ["Parts", "store"]

DESCRIPTION = "masks.json"
MOST = 255  # parts of a map of 8 bits; the number itself is no part

_logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
Map = NDArray[np.uint8]


class Parts(Protocol):
    """A proposer whose masks are the parts of a map; `proposals.kmeans` and `proposals.spectral` are such."""

    config: Any  # with `side`, pixels of the square that it looks at

    def labels(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] -> whole numbers from 0 [B, h, w]."""
        ...


def store(
    proposer: Parts,
    pairs: Pairs,
    out: Path,
    *,
    facts: dict[str, Any],
    batch_size: int = 32,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> dict[str, int]:
    """Writes a map for every picture that has none yet; returns how many were "made" now and how many "skipped".

    facts: what decides the maps, as JSON. progress: called with the pairs done and their number.
    Raises `OutputError` for a folder with maps that were made otherwise, `DataError` where a map has too many parts.
    """
    _begin(out, {**facts, "pairs": pairs.manifest()})
    counts = {"made": 0, "skipped": 0}
    start, total = 0, sum(pairs.blocks)
    for length in pairs.blocks:
        indices = range(start, start + length)
        start += length
        if isinstance(pairs, ShardPairs):
            if indices and not (path := out / f"{_shard(pairs.key(indices[0]))}.tar").is_file():
                with files.atomic(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
                    for key, found in _maps(proposer, pairs, indices, batch_size, device, counts):
                        data = png.encode(found)
                        member = tarfile.TarInfo(f"{key.partition('/')[2]}.png")
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))
        else:
            wanted = [at for at in indices if not _path(out, pairs.key(at)).is_file()]
            for key, found in _maps(proposer, pairs, wanted, batch_size, device, counts):
                files.write_bytes(_path(out, key), png.encode(found))
        if progress is not None:
            progress(start, total)
    return counts


def _begin(out: Path, facts: dict[str, Any]) -> None:
    """Writes the description, or finds the same one."""
    path, text = out / DESCRIPTION, json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if not path.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise OutputError(f"{out} holds something else; name an empty folder, or one that is not there yet")
        files.write_text(path, text)
    elif path.read_text(encoding="utf-8") != text:
        raise OutputError(f"{out} holds masks of other pictures or settings; name another folder, or empty it")


def _maps(
    proposer: Parts,
    pairs: Pairs,
    indices: Sequence[int],
    batch_size: int,
    device: torch.device | str,
    counts: dict[str, int],
) -> Iterator[tuple[str, Map]]:
    """The key of each picture that can be read, and its map [H, W]."""
    for start in range(0, len(indices), batch_size):
        pictures: list[tuple[str, Image.Image]] = []
        for index in indices[start : start + batch_size]:
            try:
                pictures.append((pairs.key(index), pairs.read(index)[0]))
            except BadSample as error:
                counts["skipped"] += 1
                _logger.warning("skipped %s: %s", pairs.key(index), error)
        if not pictures:
            continue
        seen = torch.cat([_square(image, proposer.config.side) for _, image in pictures]).to(device)
        for (key, image), labels in zip(pictures, proposer.labels(seen).cpu().numpy(), strict=True):
            if labels.max() >= MOST:
                raise DataError(f"{key} has {labels.max() + 1} parts and a map holds {MOST}; make fewer")
            counts["made"] += 1
            yield key, resize_labels(labels.astype(np.uint8), (image.height, image.width))


def _square(image: Image.Image, side: int) -> Tensor:
    """uint8 [1, 3, side, side], as the proposer would resize it itself."""
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None]
    return functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True, align_corners=False)


def _shard(key: str) -> str:
    return key.partition("/")[0]


def _path(out: Path, key: str) -> Path:
    """Raises `DataError` for a key that leads out of the folder."""
    path = Path(key)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{key} cannot be the name of a map in {out}; pairs need relative names")
    return out / path.with_suffix(".png")
