"""Reads the tensors of one file, whatever its format, without running code of its; says what other files are."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.torch_version import TorchVersion

from lexiseg.encoders.torchscript import is_archive, read_archive
from lexiseg.errors import WeightsError, first_line

__all__ = ["HOW_TO_ALLOW", "kind_of", "load_pickle", "load_safe", "read_file"]

HOW_TO_ALLOW = "allow pickles where you trust the source (allow_pickle=True)"
SAFETENSORS, TORCHSCRIPT, PICKLE = "a safetensors file", "a TorchScript archive", "a pickle"
EMPTY, UNKNOWN = "an empty file", "a file of an unknown kind"
PICKLED_TYPE = re.compile(r"GLOBAL ([\w.]+)")  # how torch names a type that it does not read
COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # of torch's messages


def read_file(path: Path, *, allow_pickle: bool = False) -> dict[str, Tensor]:
    """The tensors of a file by their names there: safetensors, TorchScript or, with `allow_pickle`, a pickle.

    Raises `WeightsError` for a pickle that is not allowed, and for files that are damaged or hold something else.
    """
    kind = kind_of(path)
    if kind == SAFETENSORS:
        return load_safe(path)
    if kind == TORCHSCRIPT:
        return read_archive(path)
    if kind != PICKLE:
        raise _no_weights(path, kind)
    if not allow_pickle:
        raise WeightsError(f"{path} is {PICKLE}, which can run code; {HOW_TO_ALLOW}")
    return load_pickle(path)


def load_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict written with `torch.save`; `weights_only=True`, so nothing but data is built.

    Raises `WeightsError`.
    """
    try:
        # a version of torch is a text that trainers write beside the weights
        with torch.serialization.safe_globals([TorchVersion]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a damaged file or for what it refuses
        text = COLOURS.sub("", str(error))
        if found := PICKLED_TYPE.search(text):
            raise WeightsError(
                f"{path} holds an object of the type {found[1]} beside the weights, and building it could run code; "
                "save its state dict alone, torch.save(model.state_dict(), FILE)"
            ) from error
        raise _damaged(path, error) from error
    for name in ("state_dict", "model"):  # where trainers keep it
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds {type(content).__name__}, not a state dict; save model.state_dict()")
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def load_safe(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises `WeightsError`."""
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    return tensors


def kind_of(path: Path) -> str:
    """What a file is, told by its first bytes: one of the three formats of weights, or the name of another."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror}); give a file of weights, or a folder") from error
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 30:  # the length of a JSON header
        return SAFETENSORS
    if head.startswith(b"PK"):
        return _kind_of_archive(path)
    # a tar is what the oldest versions of torch wrote
    if head.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")) or head[257:262] == b"ustar":
        return PICKLE
    for start, name in _OTHERS:
        if head.lower().lstrip().startswith(start):
            return name
    return EMPTY if not head else "a text file" if _is_text(head) else UNKNOWN


def _damaged(path: Path, error: Exception) -> WeightsError:
    """What to say of a file that cannot be read: that it is damaged, or was never one of weights."""
    kind = kind_of(path)
    if kind not in (SAFETENSORS, TORCHSCRIPT, PICKLE, EMPTY, UNKNOWN):
        return _no_weights(path, kind)
    return WeightsError(f"{path} is damaged ({first_line(error)}); copy or download it again")


def _no_weights(path: Path, kind: str) -> WeightsError:
    return WeightsError(f"{path} is {kind}, not weights; give a .safetensors, .pt or .pth file, or a folder")


def _kind_of_archive(path: Path) -> str:
    if is_archive(path):
        return TORCHSCRIPT
    try:
        with zipfile.ZipFile(path) as archive:
            written_by_torch = any(name.endswith("data.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return PICKLE  # cut off: torch says so
    return PICKLE if written_by_torch else "a zip archive"


def _is_text(head: bytes) -> bool:
    text = head.decode("utf-8", errors="replace").rstrip("\ufffd")  # a letter may be cut in two
    return all(letter.isprintable() or letter.isspace() for letter in text)


_OTHERS = (
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89png", "a PNG picture"),
    (b"gif8", "a GIF picture"),
    (b"riff", "a WebP picture or a sound"),
    (b"ii*\x00", "a TIFF picture"),
    (b"mm\x00*", "a TIFF picture"),
    (b"%pdf", "a PDF document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"version https://git-lfs", "a pointer of Git LFS (run git lfs pull)"),
    (b"<!doctype html", "a web page (saved in place of the file)"),
    (b"<html", "a web page (saved in place of the file)"),
)
