"""Stores the label maps that a model made.

There is KEY.png for each picture, and labelling.json, which says how they were made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg import files
from lexiseg.data.labelled.dense import UNLABELLED, Labels
from lexiseg.data.labelled.labels import Png
from lexiseg.errors import BadSample, DataError, OutputError

__all__ = ["PseudoLabels"]

DESCRIPTION = "labelling.json"


@dataclass(frozen=True)
class PseudoLabels:
    """A folder of label maps: class indices, and `ignore` (255, or 65535 above 255 classes) where there is none."""

    folder: Path
    classes: tuple[str, ...]
    ignore: int
    facts: Mapping[str, Any]  # how they were made, as JSON

    @classmethod
    def open(cls, folder: str | Path) -> PseudoLabels:
        """Raises `DataError` for a folder without a description."""
        path = Path(folder).expanduser() / DESCRIPTION
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(path.parent, tuple(content["classes"]), int(content["ignore"]), content["facts"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f'{path} cannot be read ({error!r}); pseudo_labels is a folder that a Labelling wrote, or "@NAME"'
            ) from error

    def begin(self) -> None:
        """Writes the description, or finds the same one; raises `OutputError` for maps that were made otherwise."""
        if not (self.folder / DESCRIPTION).exists():
            content = {"classes": list(self.classes), "ignore": self.ignore, "facts": self.facts}
            files.write_text(self.folder / DESCRIPTION, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        elif PseudoLabels.open(self.folder).digest != self.digest:
            raise OutputError(
                f"{self.folder} holds label maps of another model, other classes or settings; remove the folder"
            )

    @property
    def digest(self) -> str:
        """A hash of what decides the label maps."""
        return files.digest([self.classes, self.ignore, self.facts])

    def path(self, key: str) -> Path:
        """Raises `DataError` for a key that leads out of the folder."""
        if Path(key).is_absolute() or ".." in Path(key).parts:
            raise DataError(f"{key} cannot be the name of a label map in {self.folder}; pictures need relative names")
        return self.folder / f"{key}.png"

    def check(self, classes: Sequence[str]) -> None:
        """Raises `DataError` for label maps of other classes."""
        if tuple(classes) != self.classes:
            raise DataError(
                f"{self.folder} has label maps of {len(self.classes)} classes ({', '.join(self.classes[:3])} ...), and "
                f"the data has {len(classes)} ({', '.join(classes[:3])} ...); name the folder made for them"
            )

    def fill(self, labels: Labels, key: str) -> Labels:
        """Labels [H, W] whose UNLABELLED pixels have the class of the stored map, where there is one."""
        path = self.path(key)
        if not path.is_file():
            raise BadSample("no pseudo-labels", str(path))
        stored: NDArray[Any] = Png(path).ids().astype(np.int64)
        if stored.shape != labels.shape:
            raise BadSample("sizes differ", f"labels {labels.shape}, {path} {stored.shape}")
        if stored.size and (stored[stored != self.ignore] >= len(self.classes)).any():
            raise BadSample("unknown class", f"{path} holds {stored[stored != self.ignore].max()}")
        return np.asarray(np.where((labels == UNLABELLED) & (stored != self.ignore), stored, labels))
