"""Writes checkpoints that survive a kill at any moment.

A folder is complete under its final name, or does not exist.

    checkpoints/stage-1-step-000500/
        weights.safetensors    the objective's weights and buffers
        average.safetensors    the averaged ones, where the recipe wants them
        optimiser.safetensors  moments and counters by parameter
        state.json             step, recipe, position in the data, random states, scaler
        checksums.json         SHA-256 of each file, so that a damaged checkpoint is known as one

Everything is written under a temporary name, flushed to the disk, and then renamed. There is no pickle.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lexiseg.errors import CheckpointError

__all__ = ["Checkpoint", "atomic_folder", "newest", "prune", "read", "steps_saved", "write"]

_logger = logging.getLogger(__name__)
_NAME = re.compile(r"stage-(\d+)-step-(\d+)")
_TEMPORARY = ".unfinished-"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a checkpoint holds. `tensors` is by file name without its suffix: weights, average, optimiser."""

    stage: int  # from 0
    step: int  # steps done in this stage
    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"stage-{self.stage + 1}-step-{self.step:06d}"


def write(folder: Path, checkpoint: Checkpoint) -> Path:
    """Saves it as `folder`/name, unless it is there already.

    Raises `CheckpointError` where it cannot be written whole, and leaves nothing behind then.
    """
    final = folder / checkpoint.name
    if final.exists():
        return final
    try:
        with atomic_folder(final) as temporary:
            for name, tensors in checkpoint.tensors.items():
                save_file(dict(tensors), temporary / f"{name}.safetensors")
            (temporary / "state.json").write_text(json.dumps(checkpoint.state))
            sums = {path.name: _digest(path) for path in sorted(temporary.iterdir())}
            (temporary / "checksums.json").write_text(json.dumps(sums, indent=1))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(_cannot_write(final, error)) from error
    return final


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole; None where there is none at all.

    A damaged one is named in a warning, moved aside and passed over. Raises `CheckpointError` where all are damaged.
    """
    _remove_unfinished(folder)
    damaged = []
    for path in reversed(_saved(folder)):
        try:
            return read(path)
        except CheckpointError as error:
            damaged.append(str(error))
            _logger.warning("%s; falling back to the one before it", error)
            _move_aside(path)
    if damaged:
        raise CheckpointError(
            f"no checkpoint in {folder} can be read: {'; '.join(damaged)}; restore one from a backup, or start again"
        )
    return None


def read(path: Path) -> Checkpoint:
    """Reads and verifies one; raises `CheckpointError` for a damaged one."""
    try:
        sums = json.loads((path / "checksums.json").read_text())
        for name, digest in sums.items():
            if _digest(path / name) != digest:
                raise CheckpointError(f"the checkpoint {path.name} is damaged: {name} has changed since it was saved")
        state = json.loads((path / "state.json").read_text())
        tensors = {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}
    except (OSError, ValueError, SafetensorError, AttributeError) as error:
        raise CheckpointError(f"the checkpoint {path.name} is damaged: {error}") from error
    stage, step = _place(path)
    return Checkpoint(stage, step, tensors, state)


def prune(folder: Path, keep: int) -> None:
    """Removes all but the newest `keep`; each is renamed first, so that half a checkpoint never bears the name."""
    for path in _saved(folder)[:-keep]:
        doomed = _unfinished(path)
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def steps_saved(folder: Path) -> list[tuple[int, int]]:
    """(stage, step) of all checkpoints, oldest first."""
    return [_place(path) for path in _saved(folder)]


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Gives a temporary folder beside `path`; on a clean exit it is flushed to the disk and takes the name `path`.

    What stood there is replaced. After an error nothing is left of the temporary folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, replaced = _unfinished(path), _unfinished(path)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            _flush(file)
        _flush(temporary)
        if path.exists():
            path.rename(replaced)
        temporary.rename(path)
        _flush(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{_TEMPORARY}{path.name}-{secrets.token_hex(4)}")


def _saved(folder: Path) -> list[Path]:
    """The folders that bear a checkpoint's name, oldest first."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in paths if _NAME.fullmatch(path.name)), key=_place)


def _place(path: Path) -> tuple[int, int]:
    found = _NAME.fullmatch(path.name)
    assert found, "only checkpoints' folders get here"
    return int(found[1]) - 1, int(found[2])


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_unfinished(folder: Path) -> None:
    """What a killed run left behind."""
    for path in folder.glob(f"{_TEMPORARY}*") if folder.is_dir() else ():
        shutil.rmtree(path, ignore_errors=True)


def _move_aside(path: Path) -> None:
    aside = path.with_name(f"damaged-{path.name}-{secrets.token_hex(4)}")
    with contextlib.suppress(OSError):
        path.rename(aside)


def _cannot_write(path: Path, error: Exception) -> str:
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
    reason = "the disk is full" if full else str(error)
    saved = steps_saved(path.parent)
    kept = f"the newest one is of step {saved[-1][1]}" if saved else "there is none yet"
    return f"the checkpoint {path} cannot be written: {reason}; free space and resume ({kept})"
