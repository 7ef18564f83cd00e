"""Reads tensors from TorchScript archives without running their code.

Such an archive is a zip: `NAME/data.pkl` holds the modules and where their tensors lie, `NAME/data/N` the numbers of
storage N, `NAME/code/` programs, which nothing here reads. The pickle is read by an unpickler that can build modules
without behaviour, lists and tensors, and refuses every other name.
"""

from __future__ import annotations

import collections
import io
import math
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lexiseg.errors import WeightsError, first_line

__all__ = ["is_archive", "read_archive"]


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a TorchScript archive, rather than a plain `torch.save` file or something else."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.partition("/")[2] for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return False
    # torch.save writes no constants
    return {"data.pkl", "constants.pkl"} <= members


def read_archive(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """All parameters, buffers and other tensors of the modules, by their dotted names, in the types they have.

    Raises `WeightsError` for a damaged archive and for one that asks for anything but modules and tensors.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            root = _root(archive)
            views: dict[str, _View] = {}
            _collect(_Unpickler(archive.read(f"{root}/data.pkl"), path).load(), "", views)
            storages = {view.storage: _numbers(archive, root, view.storage) for view in views.values()}
        return {name: _tensor(storages[view.storage], view) for name, view in views.items()}
    except WeightsError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise WeightsError(f"{path} is damaged ({first_line(error)}); download it again") from error


class _Module:
    """What a scripted module becomes: its attributes, and no behaviour."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.attributes = dict(state)


class _Storage(NamedTuple):
    dtype: torch.dtype
    key: str
    length: int


class _View(NamedTuple):
    """A tensor before its numbers are read."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Builds values that do nothing. Tensors are made after it, so that no pickle acts on one."""

    def __init__(self, data: bytes, path: Path) -> None:
        super().__init__(io.BytesIO(data))
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._view
        if (module, name) in _TYPE_MARKS:
            return self._unmarked
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        raise WeightsError(
            f"{self.path} asks for {module}.{name}, which weights do not need and which could run code; it is not read"
        )

    def persistent_load(self, reference: Any) -> _Storage:
        kind, dtype, key, _, length = reference  # the fourth is the device that it was saved from
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"unknown reference {reference!r}")
        return _Storage(dtype, key, length)

    def _view(self, storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> _View:
        return _View(storage, offset, size, stride)

    def _unmarked(self, value: Any, *_: Any) -> Any:
        return value


_TYPE_MARKS = {
    ("torch.jit._pickle", name)
    for name in ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag")
}
_DTYPES = {
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
}


def _root(archive: zipfile.ZipFile) -> str:
    """The folder that everything in the archive lies in."""
    roots = [name.removesuffix("/data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise ValueError(f"it has {len(roots)} data.pkl")
    order = f"{roots[0]}/byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
        raise ValueError("its numbers are big-endian")
    return roots[0]


def _collect(value: Any, name: str, views: dict[str, _View]) -> None:
    if isinstance(value, _View):
        views[name] = value
    elif isinstance(value, _Module):
        for key, child in value.attributes.items():
            _collect(child, f"{name}.{key}" if name else key, views)


def _numbers(archive: zipfile.ZipFile, root: str, storage: _Storage) -> Tensor:
    record = archive.getinfo(f"{root}/data/{storage.key}")
    # said twice, and checked: a compressed record could fill the memory
    if record.compress_type != zipfile.ZIP_STORED or record.file_size != storage.length * storage.dtype.itemsize:
        raise ValueError(f"storage {storage.key} does not hold {storage.length} numbers of {storage.dtype}")
    if not storage.length:
        return torch.empty(0, dtype=storage.dtype)
    return torch.frombuffer(bytearray(archive.read(record)), dtype=storage.dtype)


def _tensor(numbers: Tensor, view: _View) -> Tensor:
    if math.prod(view.size) > len(numbers):  # strides of zero would make much of little
        raise ValueError(f"a tensor of size {view.size} in a storage of {len(numbers)}")
    return torch.as_strided(numbers, view.size, view.stride, view.offset)  # torch checks that it lies inside
