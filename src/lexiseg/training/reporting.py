"""Reports a run while it runs.

It draws a bar or prints plain lines, and writes metrics.jsonl and TensorBoard files.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lexiseg import files
from lexiseg.errors import MissingDependency, OutputError
from lexiseg.training.trainer import Outcome

__all__ = ["Means", "Reporter", "Silent"]


class Means:
    """Means over the steps since the last log line; they are saved with a checkpoint, so that lines do not differ."""

    def __init__(self, sums: dict[str, float] | None = None, count: int = 0) -> None:
        self.sums, self.count = sums or {}, count
        self.latest: dict[str, float] = {}

    def add(self, outcome: Outcome) -> None:
        if not outcome.finite:
            return
        self.latest = outcome.losses
        parts = {f"loss/{name}": value for name, value in outcome.losses.items()} if len(outcome.losses) > 1 else {}
        besides = {f"report/{name}": value for name, value in outcome.report.items()}
        numbers = {"loss": outcome.loss, **parts, "gradient": outcome.gradient, "rate": outcome.rate, **besides}
        for name, value in numbers.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1

    def take(self) -> dict[str, float]:
        """The means, which start anew."""
        # with fp16 a gradient may be infinite, which JSON cannot say
        means = {name: value / self.count for name, value in self.sums.items() if math.isfinite(value)}
        self.sums, self.count = {}, 0
        return means

    def to_json(self) -> dict[str, Any]:
        return {"sums": {name: value for name, value in self.sums.items() if math.isfinite(value)}, "count": self.count}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Means:
        return cls(dict(data["sums"]), data["count"])


class Reporter:
    """Reports of one stage, from the process that writes them.

    out: the run's folder. Lines of metrics.jsonl from `step` of `stage` on are dropped: a resumed run writes them anew.
    """

    def __init__(self, out: Path, *, stage: int, stages: int, step: int, steps: int, tensorboard: bool = True) -> None:
        self.stage, self.steps = stage, steps
        self._label = f"stage {stage + 1}/{stages} " if stages > 1 else ""
        self._metrics = out / "metrics.jsonl"
        _truncate(self._metrics, stage, step)
        self._writer = _summary_writer(out / "tensorboard" / f"stage-{stage + 1}", step) if tensorboard else None
        self._first, self._started = step, time.monotonic()
        self._bar = _Bar(self._label, step, steps)

    def step(self, step: int, outcome: Outcome) -> None:
        """Moves the bar, where there is a terminal to show it."""
        self._bar.move(step, f"loss {outcome.loss:.4g}  rate {outcome.rate:.3g}")

    def log(self, step: int, numbers: Mapping[str, float], *, samples: int | None = None) -> None:
        """Numbers of a step, for all three. samples: in a step, for the speed; None for what was evaluated."""
        record: dict[str, Any] = {"stage": self.stage + 1, "step": step, **numbers}
        if samples is not None:
            record["samples_per_second"] = round(self._speed(step) * samples, 2)
        record["time"] = datetime.now(UTC).isoformat(timespec="seconds")
        _append(self._metrics, json.dumps(record))
        if self._writer is not None:
            for name, value in record.items():
                if isinstance(value, float):
                    self._writer.add_scalar(name, value, step)
        said = "  ".join(f"{name} {value:.4g}" for name, value in record.items() if isinstance(value, float))
        line = f"{self._label}step {step}/{self.steps}  {said}  left {self._left(step)}"
        self._bar.say(line, beside_the_bar=samples is None)  # losses are in the bar already; what was evaluated is not

    def images(self, step: int, images: Mapping[str, Any]) -> None:
        """Images (PIL or uint8 [H, W, 3]) for TensorBoard."""
        import numpy as np

        if self._writer is not None:
            for name, image in images.items():
                pixels = np.asarray(image.convert("RGB") if hasattr(image, "convert") else image)
                self._writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        self._bar.close()
        if self._writer is not None:
            self._writer.close()

    def _speed(self, step: int) -> float:
        """Steps per second of this session."""
        return (step - self._first) / max(time.monotonic() - self._started, 1e-9)

    def _left(self, step: int) -> str:
        speed = self._speed(step)
        return str(timedelta(seconds=round((self.steps - step) / speed))) if speed > 0 else "unknown"


class Silent:
    """Stands for a `Reporter` in all processes but the main one."""

    def step(self, step: int, outcome: Outcome) -> None:
        pass

    def log(self, step: int, numbers: Mapping[str, float], *, samples: int | None = None) -> None:
        pass

    def images(self, step: int, images: Mapping[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass


class _Bar:
    """A progress bar on a terminal; lines elsewhere. Both go to stderr."""

    def __init__(self, label: str, step: int, steps: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._progress = None
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._progress = Progress(*columns, console=self._console)
            self._task = self._progress.add_task(f"{label}training", total=steps, completed=step)
            self._label = label
            self._progress.start()

    def move(self, step: int, text: str) -> None:
        if self._progress is not None:
            self._progress.update(self._task, completed=step, description=f"{self._label}{text}")

    def say(self, line: str, *, beside_the_bar: bool) -> None:
        if self._progress is None or beside_the_bar:
            self._console.print(line, markup=False)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()


def _summary_writer(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingDependency("tensorboard", "train", "logging for TensorBoard") from error
    return SummaryWriter(str(folder), purge_step=step + 1)


def _append(path: Path, line: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; free space and resume") from error


def _truncate(path: Path, stage: int, step: int) -> None:
    """Drops what was logged after `step` of `stage`, and a line that a kill cut short."""
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if (record["stage"] - 1, record["step"]) <= (stage, step):
            kept.append(line + "\n")
    files.write_text(path, "".join(kept))
