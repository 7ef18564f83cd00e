"""Opens any description of data as a `Loader`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lexiseg import files
from lexiseg.data.loader import Loader, Source
from lexiseg.errors import DataError

__all__ = ["Opening", "Workers", "folder"]


@dataclass(frozen=True)
class Workers:
    """Who prepares batches beside the training process; see `Loader`."""

    number: int = 0
    kind: Literal["processes", "threads"] = "processes"


class Opening(ABC):
    """What the descriptions share: the trainer opens them all alike."""

    workers: Workers

    @abstractmethod
    def source(self) -> Source:
        """The samples; raises `DataError` where they are missing."""

    def open(self, *, batch_size: int, seed: int, max_bad_fraction: float) -> Loader:
        """Batches of `batch_size` samples for each process; raises `DataError` where the data is missing."""
        return Loader(
            self.source(),
            batch_size=batch_size,
            seed=seed,
            workers=self.workers.number,
            kind=self.workers.kind,
            max_bad_fraction=max_bad_fraction,
        )


def folder(place: str) -> Path:
    path = files.local(place, DataError).expanduser()
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; give the one with the photographs")
    return path
