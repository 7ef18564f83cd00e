"""Says where the results of evaluations go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lexiseg.errors import OutputError, SettingError

if TYPE_CHECKING:
    from lexiseg.evaluation.counting import Keep
    from lexiseg.evaluation.pipeline import Corruption
    from lexiseg.evaluation.setup import Setup
    from lexiseg.evaluation.subject import Subject

__all__ = ["Place"]

OWN_DATA = "folder"  # the benchmark whose data is the user's: the name of the folder says which


@dataclass(frozen=True)
class Place:
    """A file for a single result, else a folder with a file for each.

    Raises `SettingError` for one file that should hold several results, `OutputError` for a file where a folder is
    needed.
    """

    out: Path
    single: bool
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.is_file and not self.single:
            raise SettingError(f"--out {self.out} is one file and there are several results; name a folder")
        if not self.is_file and self.out.exists() and not self.out.is_dir():
            raise OutputError(f"--out {self.out} is a file that does not end with .json; name a folder")

    @property
    def is_file(self) -> bool:
        return self.out.suffix == ".json"

    def keep(self, setup: Setup, subject: Subject) -> Callable[[Corruption | None], Keep]:
        def of(corruption: Corruption | None) -> Keep:
            from lexiseg.evaluation.counting import Keep

            return Keep(self.path(setup, subject, corruption), self.resume, self.overwrite)

        return of

    def path(self, setup: Setup, subject: Subject, corruption: Corruption | None) -> Path:
        """MODEL-on-BENCHMARK.json, with split, protocol and corruption where they are not the usual ones."""
        if self.is_file:
            return self.out
        benchmark = subject.opened.benchmark
        parts = [subject.predictor.name.strip("./").replace("/", "-"), "on", benchmark.name]
        parts += [setup.folder.resolve().name] if setup.folder is not None and benchmark.name == OWN_DATA else []
        parts += [subject.opened.split] if subject.opened.split != benchmark.test else []
        parts += [subject.protocol.name] if subject.protocol.name != "lexiseg" else []
        parts += [corruption.kind, str(corruption.severity)] if corruption is not None else []
        return self.out / ("-".join(filter(None, parts)) + ".json")
