"""Reads stored masks in any of the usual forms.

    KEY.npz           "masks" [N, H, W], booleans or numbers from 0 to 1
    KEY.png           a label map of whole numbers, each a part; the largest (255, or 65535 of 16 bits) is in none
    KEY/              a PNG for each mask, in the order of their names; what is not 0 is in it
    KEY.json          run lengths as COCO has them: a list of annotations, or {"annotations": [...]}
    FILE.json         the same for many photographs: a COCO data set with "images" and "annotations"

KEY is the photograph's name without its suffix, or with it. What `lexiseg segment --regions` writes (KEY.regions.png,
KEY.regions.npz, KEY.regions.coco.json) is found too. This is not a `Proposer`, which knows pixels alone and no names.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lexiseg import files
from lexiseg.data.labelled.labels import Png
from lexiseg.data.storage.stored import read
from lexiseg.errors import DataError
from lexiseg.formats import coco

__all__ = ["MaskFolder", "StoredMasks"]

Size = tuple[int, int]
Array = NDArray[Any]

KINDS = ("", ".regions")  # what follows the photograph's name


class StoredMasks(Protocol):
    """The masks of one photograph, which have not been read yet."""

    @property
    def files(self) -> Sequence[Path]:
        """All files that they are read from."""
        ...

    def read(self, size: Size) -> Array:
        """A label map of whole numbers [H, W], or masks of booleans or of 0 to 1 [N, H, W]; `size` is (H, W).

        Raises `DataError` for masks that cannot be read, that are not masks, or of another size.
        """
        ...


@dataclass(frozen=True)
class LabelMap:
    path: Path

    @property
    def files(self) -> Sequence[Path]:
        return [self.path]

    def read(self, size: Size) -> Array:
        return _checked(np.asarray(Png(self.path).ids()), self.path, size)


@dataclass(frozen=True)
class Arrays:
    path: Path

    @property
    def files(self) -> Sequence[Path]:
        return [self.path]

    def read(self, size: Size) -> Array:
        how = "save it with numpy.savez_compressed(path, masks=...)"
        try:
            with np.load(self.path, allow_pickle=False) as content:
                masks: Array = content["masks"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.path} cannot be read ({error}); {how}") from error
        if masks.ndim != 3 or masks.dtype.kind not in "biuf":
            raise DataError(f"the masks in {self.path} are {masks.dtype} {list(masks.shape)}; give numbers [N, H, W]")
        if masks.size and not (masks.min() >= 0 and masks.max() <= 1):  # NaN too
            raise DataError(
                f"the masks in {self.path} have numbers from {masks.min():g} to {masks.max():g}; give 0 to 1"
            )
        return _checked(masks, self.path, size)


@dataclass(frozen=True)
class Pngs:
    folder: Path

    @property
    def files(self) -> Sequence[Path]:
        found = [path for path in self.folder.iterdir() if path.suffix.lower() == ".png" and path.name[0] != "."]
        return sorted(found, key=lambda path: (len(path.stem), path.name))  # 2.png before 10.png

    def read(self, size: Size) -> Array:
        if not self.files:
            raise DataError(f"{self.folder} has no PNG; put one there for each mask")
        return np.stack([_checked(Png(path).ids() != 0, path, size) for path in self.files])


@dataclass(frozen=True)
class RunLengths:
    """annotations: of this photograph, where they are read already; None reads the file."""

    path: Path
    annotations: Sequence[Any] | None = None

    @property
    def files(self) -> Sequence[Path]:
        return [self.path]

    def read(self, size: Size) -> Array:
        annotations = _annotations(self.path) if self.annotations is None else self.annotations
        masks = np.empty((len(annotations), *size), bool)
        for place, each in enumerate(annotations):
            try:
                masks[place] = coco.decode(each.get("segmentation", each) if isinstance(each, dict) else each, size)
            except ValueError as error:
                raise DataError(
                    f"{self.path} cannot be used: {error}; write COCO's run lengths at the photograph's size"
                ) from error
        return masks


@dataclass(frozen=True)
class MaskFolder:
    """path: a folder with a file or a folder for each photograph, or a COCO file for all."""

    path: Path
    _of_file: dict[str, list[Any]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, path: str | Path) -> MaskFolder:
        """Raises `DataError` for what is not there, and for a file that is not a COCO data set."""
        path = files.local(path, DataError).expanduser()
        if path.is_dir():
            return cls(path)
        if not path.is_file():
            raise DataError(f"there is no folder {path} of masks; check the spelling")
        return cls(path, _by_photograph(path))

    def of(self, *keys: str) -> StoredMasks:
        """The masks of a photograph, by any of its names; the first that is found. Raises `DataError` where none is."""
        found = self._find(keys)
        if found is None:
            raise _nowhere(self.path, keys[0])
        return found

    def beside(self, *keys: str) -> Sequence[Path]:
        """The files that decide what `of` reads."""
        found = self._find(keys)
        return [self.path / f"{keys[0]}.png"] if found is None else found.files

    def _find(self, keys: Sequence[str]) -> StoredMasks | None:
        if self._of_file:
            known = next((key for key in keys if key in self._of_file), None)
            return None if known is None else RunLengths(self.path, self._of_file[known])
        for stem in (f"{key}{kind}" for key in keys for kind in KINDS):
            if (path := self.path / f"{stem}.npz").is_file():
                return Arrays(path)
            if (path := self.path / f"{stem}.png").is_file():
                return LabelMap(path)
            if (path := self.path / stem).is_dir():
                return Pngs(path)
            for path in (self.path / f"{stem}.json", self.path / f"{stem}.coco.json"):
                if path.is_file():
                    return RunLengths(path)
        return None


def _nowhere(place: Path, key: str) -> DataError:
    """There are no masks of a photograph."""
    if place.is_file():
        return DataError(f'{place} has no masks for {key}; add it to the "images", with annotations of its id')
    return DataError(
        f"{place} has no masks for {key}; put them at {key}.png (a label map), {key}.npz, {key}.json (COCO's run "
        f"lengths) or, a PNG for each, in {key}/"
    )


def _checked(masks: Array, path: Path, size: Size) -> Array:
    """The masks, if they have the photograph's size."""
    height, width = masks.shape[-2:]
    if (height, width) != size:
        raise DataError(
            f"the masks in {path} are {height} x {width} and the photograph is {size[0]} x {size[1]} (height x width); "
            "resize them to the photograph"
        )
    return masks


def _content(path: Path) -> Any:
    try:
        return json.loads(read(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON ({error}); write it again") from error


def _annotations(path: Path) -> Sequence[Any]:
    content = _content(path)
    found = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(found, list):
        raise DataError(f'{path} has no masks; write a list of COCO annotations, or {{"annotations": [...]}}')
    return found


def _by_photograph(path: Path) -> dict[str, list[Any]]:
    """The annotations of each photograph, by its name with its suffix and without."""
    content = _content(path)
    try:
        names = {image["id"]: str(image["file_name"]) for image in content["images"]}
        found: dict[str, list[Any]] = {name: [] for name in names.values()}
        for each in content["annotations"]:
            found[names[each["image_id"]]].append(each)
    except (KeyError, TypeError) as error:
        raise DataError(
            f'{path} is not a COCO data set ({error!r}); it needs "images" with "id" and "file_name", and '
            '"annotations" with "image_id" and "segmentation"'
        ) from error
    if not found:
        raise DataError(f'{path} lists no photograph; give "images" with "id" and "file_name"')
    return {Path(name).with_suffix("").as_posix(): masks for name, masks in found.items()} | found
