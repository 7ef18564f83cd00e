"""Holds what `evaluate` returns: a number and what decides it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg import files
from lexiseg.errors import DataError
from lexiseg.evaluation.baselines import baselines
from lexiseg.evaluation.pipeline import Profile
from lexiseg.evaluation.tallies import Tallies
from lexiseg.metrics.bootstrap import Bootstrap, Interval, intervals
from lexiseg.metrics.confusion import Confusion
from lexiseg.metrics.scores import accuracy, iou

__all__ = ["FORMAT", "ClassScore", "OwnWords", "Result", "flags", "score"]

FORMAT = "lexiseg evaluation, version 2"


@dataclass(frozen=True)
class ClassScore:
    """Fractions 0-1, NaN where there is nothing to divide. pixels: of the ground truth."""

    iou: float
    accuracy: float
    pixels: int


@dataclass(frozen=True)
class OwnWords:
    """Each image asked about its own classes alone; images with fewer than two are left out."""

    images: int
    scores: dict[str, Interval]
    baselines: dict[str, dict[str, float]]


@dataclass(frozen=True, eq=False)
class Result:
    """facts: all that decides the number: model, benchmark, protocol, settings, hashes, how it was measured.
    images: how many were scored. skipped: those that could not be read, and why.
    scores: by name, fractions 0-1 with their 95 % intervals. classes: the scored ones by name.
    baselines: mIoU and pixel accuracy of labels that know nothing of the photographs.
    subsets: class indices of those that are told apart ("seen", "unseen", "thing" ...).
    warnings: what a reader of the number must know.
    tallies: of each image, which `compare` draws from.
    environment: command, commit, machine, versions.
    path: the file that the result was read from; None for one that was measured just now.
    """

    facts: dict[str, Any]
    images: int
    scores: dict[str, Interval]
    classes: dict[str, ClassScore]
    baselines: dict[str, dict[str, float]]
    tallies: Tallies
    subsets: dict[str, list[int]] = field(default_factory=dict)
    own_words: OwnWords | None = None
    warnings: list[str] = field(default_factory=list)
    profile: Profile = field(default_factory=Profile)
    environment: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None

    @property
    def skipped(self) -> dict[str, str]:
        return self.tallies.skipped

    @property
    def model(self) -> str:
        return str(self.facts["model"])

    @property
    def benchmark(self) -> str:
        return str(self.facts["benchmark"]["benchmark"])

    def __getitem__(self, score: str) -> float:
        """The value of a score by name: result["miou"]."""
        return self.scores[score].value

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; NaN is null."""
        own = self.own_words
        content = {
            "format": FORMAT,
            **self.facts,
            "images": self.images,
            "skipped": self.skipped,
            "scores": {name: asdict(interval) for name, interval in self.scores.items()},
            "classes": {name: asdict(entry) for name, entry in self.classes.items()},
            "baselines": self.baselines,
            "subsets": self.subsets,
            "own_words": None if own is None else asdict(own),
            "warnings": self.warnings,
            "profile": {**asdict(self.profile), "images_per_second": self.profile.images_per_second},
            "environment": self.environment,
        }
        return {**_without_nan(content), "facts": list(self.facts), "tallies": self.tallies.to_json()}

    def dumps(self) -> str:
        """The JSON text: readable, but for the tallies, which take one line."""
        content = self.to_json()
        tallies = json.dumps(content.pop("tallies"), separators=(",", ":"))
        readable = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        return f'{readable[:-2]},\n  "tallies": {tallies}\n}}'

    def save(self, path: str | os.PathLike[str]) -> None:
        """Raises `OutputError` where it cannot be written."""
        files.write_text(path, self.dumps() + "\n")

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Result:
        """Reads `to_json` back; raises `DataError` for anything else."""
        try:
            if content["format"] != FORMAT:
                raise DataError(f"its format is {content['format']!r}, not {FORMAT!r}; evaluate again")
            own = content["own_words"]
            return cls(
                facts={key: content[key] for key in content["facts"]},
                images=content["images"],
                scores=_intervals(content["scores"]),
                classes={name: ClassScore(**_with_nan(entry)) for name, entry in content["classes"].items()},
                baselines={name: _with_nan(entry) for name, entry in content["baselines"].items()},
                tallies=Tallies.from_json(content["tallies"]),
                subsets=dict(content["subsets"]),
                own_words=None if own is None else _own_words(own),
                warnings=list(content["warnings"]),
                profile=Profile(**{k: v for k, v in content["profile"].items() if k != "images_per_second"}),
                environment=content["environment"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"this is not a saved evaluation ({error!r}); evaluate again") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Result:
        """Raises `DataError` for a file that is missing, damaged or something else."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{path} cannot be read: {error}; give a file that `lexiseg evaluate` wrote") from error
        try:
            return replace(cls.from_json(content), path=Path(path))
        except DataError as error:
            raise DataError(f"{path}: {error}") from error


def score(
    facts: dict[str, Any],
    tallies: Tallies,
    names: tuple[str, ...],
    *,
    subsets: Mapping[str, Sequence[int]],
    average: str,
    profile: Profile,
    environment: dict[str, Any],
    warnings: list[str],
) -> Result:
    """The result of tallies over the classes `names`, with 95 % intervals by bootstrap over the images.

    Raises `DataError` where there is no image to score.
    """
    confusion, classes = tallies.confusion, len(names)
    if not confusion.images:
        raise DataError(f"none of the {len(tallies.skipped)} images could be read; see why: {tallies.skipped}")
    scores = intervals(confusion.images, Bootstrap(classes, flags(subsets, classes), average))
    if tallies.boundary:
        scores["boundary_miou"] = intervals(tallies.boundary, Bootstrap(classes, average=average))["miou"]
    return Result(
        facts=facts,
        images=len(confusion.images),
        scores=scores,
        classes=_classes(confusion, names),
        baselines=baselines(confusion, average=average),
        tallies=tallies,
        subsets={name: list(group) for name, group in subsets.items()},
        own_words=None if tallies.own is None else _score_own(tallies.own, average),
        warnings=warnings,
        profile=profile,
        environment=environment,
    )


def flags(subsets: Mapping[str, Sequence[int]], classes: int) -> dict[str, NDArray[np.bool_]]:
    """Which classes belong to each subset [C]."""
    return {name: np.isin(np.arange(classes), group) for name, group in subsets.items()}


def _classes(confusion: Confusion, names: tuple[str, ...]) -> dict[str, ClassScore]:
    ious, accuracies = iou(confusion.tallies), accuracy(confusion.tallies)
    pixels = confusion.counts.sum(axis=1)
    rows = zip(names, ious, accuracies, pixels, strict=True)
    return {name: ClassScore(float(one), float(other), int(count)) for name, one, other, count in rows}


def _score_own(own: Confusion, average: str) -> OwnWords | None:
    if not own.images:
        return None
    scores = intervals(own.images, Bootstrap(own.classes, average=average))
    return OwnWords(len(own.images), scores, baselines(own, own_words=True, average=average))


def _own_words(content: Mapping[str, Any]) -> OwnWords:
    guesses = {name: _with_nan(entry) for name, entry in content["baselines"].items()}
    return OwnWords(content["images"], _intervals(content["scores"]), guesses)


def _intervals(content: Mapping[str, Any]) -> dict[str, Interval]:
    return {name: Interval(**_with_nan(entry)) for name, entry in content.items()}


def _with_nan(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: math.nan if value is None else value for key, value in entry.items()}


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(inner) for inner in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
