"""Keeps word vectors on disk, by model and prompts.

So a word is put through the text tower once.

CACHE/text/KEY/ holds the vectors of one model and one set of prompts. Each run adds one file with the words that were
new, named by the hash of its content and never changed: two processes that write at once write two files, a file whose
content does not match its name is damaged and skipped. A few files are read faster than a file per word (847 words:
one file against 847), and need no locks, which a database on a network disk would.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from lexiseg import files
from lexiseg.encoders.prompts import Prompts
from lexiseg.errors import OutputError

__all__ = ["TextCache", "TextMemory", "fold_tensors", "hash_tensors", "sample_tensors"]

MOST_FILES = 16  # under one key, before they are merged
LANES = 1 << 14  # 32-bit sums that a tensor is folded into
MULTIPLIER = 2_654_435_761  # odd, so that no number is ever lost; the golden ratio of 2**32


class TextCache:
    """folder: where the vectors lie; `files.cache_folder()` where None.

    A cache never fails a job: what cannot be read is as good as absent, what cannot be written is not kept.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = Path(files.cache_folder() if folder is None else folder) / "text"

    @staticmethod
    def key(model: str, prompts: Prompts) -> str:
        """The name under which the vectors of a model (its digest) and of prompts are kept."""
        return _hash(json.dumps([model, prompts.digest]).encode())

    def read(self, key: str, words: Iterable[str]) -> dict[str, Tensor]:
        """The vectors [D] that are known, by word."""
        wanted = set(words)
        found: dict[str, Tensor] = {}
        for path in self._files(key):
            if wanted <= found.keys():
                break
            found |= {word: vector for word, vector in _read(path).items() if word in wanted}
        return found

    def write(self, key: str, vectors: Mapping[str, Tensor]) -> None:
        """Keeps the vector [D] of each word; merges the key's files where they have become many."""
        paths = self._files(key)
        old = {path: _read(path) for path in paths} if len(paths) >= MOST_FILES else {}
        together: dict[str, Tensor] = {}
        for part in (*old.values(), vectors):
            together |= part
        with contextlib.suppress(OutputError):
            kept = _write(self.folder / key, together)
            # only what is in the new file goes, so that no process can lose what another one wrote
            for path in (path for path, part in old.items() if part and path != kept):
                _remove(path)

    def _files(self, key: str) -> list[Path]:
        try:
            # names with a dot in front are being written by another process
            return sorted((self.folder / key).glob("[!.]*.safetensors"))
        except OSError:
            return []


class TextMemory(TextCache):
    """The latest words of one process, and nothing on disk: for words of people who did not ask to have them kept.

    most: words with their vectors, over all keys.
    """

    def __init__(self, most: int = 4096) -> None:
        self.most = most
        self._vectors: dict[tuple[str, str], Tensor] = {}

    def read(self, key: str, words: Iterable[str]) -> dict[str, Tensor]:
        found = {word: self._vectors.pop((key, word)) for word in set(words) if (key, word) in self._vectors}
        self._vectors |= {(key, word): vector for word, vector in found.items()}  # the latest last
        return found

    def write(self, key: str, vectors: Mapping[str, Tensor]) -> None:
        self._vectors |= {(key, word): vector.detach().clone() for word, vector in vectors.items()}
        for oldest in list(self._vectors)[: max(0, len(self._vectors) - self.most)]:
            del self._vectors[oldest]


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Hash of names, types, shapes and every number."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def fold_tensors(tensors: Mapping[str, Tensor]) -> str:
    """A check of names, types, shapes and every number, as fast as memory is read: a quarter of `hash_tensors`' time.

    Each of LANES columns of a tensor's bytes becomes one sum in powers of an odd number, and the sums are hashed. One
    changed number, or rows that changed places, always show; of other changes by accident one in 2**32 does not. It
    is not safe against deliberate collisions.
    """
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        whole = len(data) - len(data) % (4 * LANES)
        sums = np.zeros(LANES, np.uint32)
        for row in data[:whole].view(np.uint32).reshape(-1, LANES):
            sums *= np.uint32(MULTIPLIER)
            sums += row
        digest.update(sums.tobytes() if whole else b"")
        digest.update(data[whole:].tobytes())
    return digest.hexdigest()


def sample_tensors(tensors: Mapping[str, Tensor]) -> str:
    """A cheap sign that tensors may have changed: their types and version counters, and some numbers of each.

    The numbers are for writes through `.data`, which the counters miss; training changes nearly all of them.
    """
    facts = [f"{tensor.dtype} {0 if tensor.is_inference() else tensor._version}" for tensor in tensors.values()]
    sample = torch.cat([tensor.detach().flatten()[:: tensor.numel() // 64 + 1].float() for tensor in tensors.values()])
    return _hash(" ".join(facts).encode() + sample.cpu().numpy().tobytes())


def _write(folder: Path, vectors: Mapping[str, Tensor]) -> Path:
    words = sorted(vectors)
    rows = torch.stack([vectors[word].detach().float().cpu() for word in words])  # [N, D]
    content = save({"vectors": rows}, metadata={"words": json.dumps(words)})
    path = folder / f"{_hash(content)}.safetensors"
    files.write_bytes(path, content)
    return path


def _read(path: Path) -> dict[str, Tensor]:
    """The vectors of one file by word; none where it is damaged, and then it is removed."""
    try:
        content = path.read_bytes()
    except OSError:  # another process merged it a moment ago, or it cannot be read
        return {}
    if _hash(content) != path.stem:
        _remove(path)
        return {}
    return dict(zip(_words(content), load(content)["vectors"], strict=True))


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # another process was faster, or the folder is read-only
        path.unlink()


def _words(content: bytes) -> list[str]:
    """The words in a file's header, which safetensors reads from paths only."""
    length = int.from_bytes(content[:8], "little")
    words: list[str] = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["words"])
    return words


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
