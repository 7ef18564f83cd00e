"""Packs image-text pairs as tar shards with a manifest.

`lexiseg data pack` calls it on a folder or a list of pairs.

Shard k holds the pairs [k * shard_size, (k + 1) * shard_size) of the source that can be read, in order, as
`000000042.jpg` and `000000042.txt` (one caption) or `.json` (several). Nothing in a shard depends on time or on the
other shards, so a run that was killed goes on where it stopped and ends with the same bytes.
"""

from __future__ import annotations

import io
import json
import logging
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from lexiseg import files
from lexiseg.data.loader import LOOK, too_many_bad
from lexiseg.data.pairs.captions import clean
from lexiseg.data.pairs.readers import Column, FilePairs, open_pairs
from lexiseg.data.storage.images import read_rgb
from lexiseg.data.storage.pixels import file_hash
from lexiseg.errors import BadSample, DataError, OutputError

__all__ = ["MANIFEST", "pack"]

MANIFEST = "manifest.json"

_UNFINISHED = ".packing.json"
_logger = logging.getLogger(__name__)
_CHUNK = 256  # pairs read ahead
_QUALITY = 95  # of JPEGs that had to be made smaller

Progress = Callable[[int, int], None]


def pack(
    source: str | Path,
    out: str | Path,
    *,
    shard_size: int = 10_000,
    images: str | Path | None = None,
    image_column: Column | None = None,
    caption_column: Column | None = None,
    short_side: int | None = None,
    workers: int = 1,
    max_bad_fraction: float = 0.05,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Writes the shards and a manifest.json (samples, bytes and SHA-256 of each, what was skipped); returns the latter.

    source, images, image_column, caption_column: as in `pair_readers.open_pairs`; a folder, list or COCO JSON.
    shard_size: pairs of the source in a shard.
    short_side: larger pictures are made this small (pixels) and stored as JPEG; None copies every file as it is.
    workers: threads that read and check pictures.
    max_bad_fraction: of the pairs, as in `loader.too_many_bad`.
    progress: called with the pairs done and their number.

    Raises `DataError` when too many pairs are bad, `OutputError` for a folder with other shards in it.
    """
    pairs = open_pairs(source, images=images, image_column=image_column, caption_column=caption_column)
    if not isinstance(pairs, FilePairs):
        raise DataError(f"{source} is in shards or on the hub already; only a folder or a list can be packed")
    out = Path(out)
    packing = _Packing(pairs, out, shard_size, short_side, max_bad_fraction)
    finished = packing.resume()
    if finished is not None:
        return finished
    total = sum(pairs.blocks)
    with ThreadPoolExecutor(workers) as pool:
        for number in range(len(packing.shards), -(-total // shard_size)):
            packing.write(number, pool)
            if progress is not None:
                progress(min(total, (number + 1) * shard_size), total)
    return packing.finish()


@dataclass
class _Packing:
    """A pack in progress; what is done stands in `_UNFINISHED`, rewritten after each shard."""

    pairs: FilePairs
    out: Path
    shard_size: int
    short_side: int | None
    max_bad_fraction: float

    def __post_init__(self) -> None:
        self.facts = {
            "source": self.pairs.manifest(),
            "shard_size": self.shard_size,
            "short_side": self.short_side,
        }
        self.shards: list[dict[str, Any]] = []
        self.skipped: Counter[str] = Counter()

    def resume(self) -> dict[str, Any] | None:
        """Takes up what an earlier run left behind; returns the manifest if that run had finished."""
        for name in (MANIFEST, _UNFINISHED):
            found = _read_json(self.out / name)
            if found is None:
                continue
            if {key: found.get(key) for key in self.facts} != self.facts:
                raise OutputError(
                    f"{self.out} holds shards of another source or with other settings; choose another folder, or "
                    "empty it"
                )
            if name == MANIFEST:
                return found
            self.shards, self.skipped = self._still_there(found["shards"]), Counter(found["skipped"])
            for half in self.out.glob(".*.tmp.tar"):
                half.unlink()
            return None
        if self.out.is_dir() and any(self.out.glob("*.tar")):
            raise OutputError(f"{self.out} holds shards that no {MANIFEST} describes; choose another folder")
        self._record(_UNFINISHED)
        return None

    def write(self, number: int, pool: ThreadPoolExecutor) -> None:
        """Shard `number`, then the record of it."""
        first = number * self.shard_size
        indices = range(first, min(first + self.shard_size, sum(self.pairs.blocks)))
        path, samples = self.out / f"{number:06d}.tar", 0
        with files.atomic(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            for index, made in zip(indices, self._made(indices, pool), strict=True):
                if isinstance(made, BadSample):
                    self._skip(index, made)
                    continue
                samples += 1
                for extension, data in made:
                    member = tarfile.TarInfo(f"{index:09d}.{extension}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        self.shards.append(
            {"name": path.name, "samples": samples, "bytes": path.stat().st_size, "sha256": file_hash(path)}
        )
        self._record(_UNFINISHED)

    def finish(self) -> dict[str, Any]:
        manifest = self._record(MANIFEST)
        (self.out / _UNFINISHED).unlink(missing_ok=True)
        return manifest

    def _made(self, indices: Sequence[int], pool: ThreadPoolExecutor) -> Iterator[list[tuple[str, bytes]] | BadSample]:
        for start in range(0, len(indices), _CHUNK):
            yield from pool.map(self._make, indices[start : start + _CHUNK])

    def _make(self, index: int) -> list[tuple[str, bytes]] | BadSample:
        """The members of a sample: extension and content."""
        try:
            path, captions = self.pairs.stored(index)
            texts = [text for text in map(clean, captions) if text]
            if not texts:
                return BadSample("empty caption")
            return [self._picture(path), _caption(texts)]
        except BadSample as error:
            return error

    def _picture(self, path: Path) -> tuple[str, bytes]:
        image = read_rgb(path)
        factor = (self.short_side or min(image.size)) / min(image.size)
        if factor >= 1:
            return path.suffix[1:].lower(), path.read_bytes()
        width, height = (max(1, round(side * factor)) for side in image.size)
        smaller = io.BytesIO()
        image.resize((width, height), Image.Resampling.LANCZOS).save(smaller, "JPEG", quality=_QUALITY)
        return "jpg", smaller.getvalue()

    def _skip(self, index: int, error: BadSample) -> None:
        self.skipped[error.reason] += 1
        _logger.warning("skipped %s: %s", self.pairs.key(index), error)
        count, total = self.skipped.total(), sum(self.pairs.blocks)
        if too_many_bad(count, max(index + 1, min(LOOK, total)), self.max_bad_fraction, different=count):
            reasons = ", ".join(f"{number} x {reason}" for reason, number in self.skipped.most_common())
            raise DataError(
                f"{count} of the first {index + 1} pairs could not be used ({reasons}; the last was "
                f"{self.pairs.key(index)}), and max_bad_fraction is {self.max_bad_fraction}; mend the data or raise it"
            )

    def _still_there(self, shards: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for shard in shards:
            path = self.out / shard["name"]
            if not path.is_file() or path.stat().st_size != shard["bytes"]:
                raise OutputError(f"{path} was written before and is gone or changed; empty {self.out} and start again")
        return shards

    def _record(self, name: str) -> dict[str, Any]:
        samples = sum(shard["samples"] for shard in self.shards)
        content = self.facts | {"samples": samples, "skipped": dict(self.skipped), "shards": self.shards}
        files.write_text(self.out / name, json.dumps(content, indent=1) + "\n")
        return content


def _caption(texts: list[str]) -> tuple[str, bytes]:
    if len(texts) == 1:
        return "txt", texts[0].encode()
    return "json", json.dumps({"captions": texts}, ensure_ascii=False).encode()


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} cannot be read: {error}; remove it to start again") from error
