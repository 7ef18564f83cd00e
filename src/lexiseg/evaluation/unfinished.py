"""Keeps what an interrupted evaluation has counted, for its next run.

Each process of each session writes what it has counted itself, atomically, to a file of its own:

    STATE/facts.json                   what was being measured
    STATE/tallies-SESSION-RANK.json

A later session adds all of them up and counts what is not in them, whatever its number of processes is.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lexiseg import files
from lexiseg.data.labelled.samples import Sample
from lexiseg.errors import DataError
from lexiseg.evaluation import contents
from lexiseg.evaluation.contents import Beside
from lexiseg.evaluation.facts import difference
from lexiseg.evaluation.group import Processes
from lexiseg.evaluation.tallies import Tallies

__all__ = ["Unfinished"]


@dataclass(eq=False)
class Unfinished:
    """The state of one evaluation in one process.

    folder: where it is kept; None keeps nothing.
    before: what earlier sessions counted, in the main process; `done` are their images, in all processes.
    """

    folder: Path | None
    processes: Processes
    before: Tallies
    session: int = 0
    done: set[str] = field(default_factory=set)

    @classmethod
    def open(
        cls,
        folder: Path | None,
        facts: Mapping[str, Any],
        *,
        empty: Tallies,
        resume: bool,
        processes: Processes,
    ) -> Unfinished:
        """Finds what was left behind, or with `resume` False removes it.

        Raises `DataError` where something else was being measured there, or where its files are damaged.
        """
        before, session = empty, 0
        if folder is not None and processes.main:
            if resume:
                before, session = _read(folder, facts, empty)
            else:
                cls.remove(folder)
            files.write_text(folder / "facts.json", json.dumps(dict(facts), indent=2))
        session, done = processes.of_main((session, before.done))
        return cls(folder, processes, before, session, done)

    def check(self, samples: Sequence[Sample], beside: Beside) -> None:
        """Raises `DataError` where earlier sessions counted images that are other ones now."""
        changed = contents.changed(self.before.marks, samples, beside) if self.processes.main else []
        if changed := self.processes.of_main(changed):
            raise DataError(f"{self.folder} counted {contents.told(changed)}; begin afresh, without resume=True")

    def save(self, counted: Tallies) -> None:
        """Keeps what this process has counted in this session."""
        if self.folder is not None:
            path = self.folder / f"tallies-{self.session:03d}-{self.processes.rank:03d}.json"
            files.write_text(path, json.dumps(counted.to_json(), separators=(",", ":")))

    def total(self, counted: Tallies) -> Tallies:
        """Of all sessions and processes; every process must call, and all get the same."""
        parts = self.processes.of_all((self.before if self.processes.main else None, counted.to_json()))
        total = next(before for before, _ in parts if before is not None)
        for _, part in parts:
            total += Tallies.from_json(part)
        return total

    @staticmethod
    def remove(folder: Path) -> None:
        """Nothing is unfinished any more."""
        shutil.rmtree(folder, ignore_errors=True)


def _read(folder: Path, facts: Mapping[str, Any], empty: Tallies) -> tuple[Tallies, int]:
    """What earlier sessions counted, and the number of the next one."""
    paths = sorted(folder.glob("tallies-*.json"))
    if not paths:
        return empty, 0
    before = _load(folder / "facts.json")
    if changed := difference(before, facts):
        raise DataError(
            f"{folder} belongs to another evaluation: {changed}; "
            "give the same settings, or begin afresh, without resume=True"
        )
    total = empty
    for path in paths:
        total += Tallies.from_json(_load(path))
    return total, 1 + max(int(path.stem.split("-")[1]) for path in paths)


def _load(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); begin afresh, without resume=True") from error
    return content
