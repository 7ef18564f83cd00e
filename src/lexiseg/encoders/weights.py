"""Finds weights, and checks that every tensor fits.

A message names each tensor that is missing or has another shape.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.constants import HF_HUB_CACHE
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from lexiseg import files
from lexiseg.encoders.checkpoints import HOW_TO_ALLOW, load_pickle, load_safe
from lexiseg.errors import UnknownName, WeightsError, first_line
from lexiseg.weights import AnyWeights, Weights

__all__ = ["Origin", "find", "fit", "home_of", "portable", "read_folder", "read_json", "share"]

TIMEOUT_SECONDS = 5.0  # for the first answer of the hub: fail fast when offline
SMALL_FILES = ("*.json", "merges.txt")  # config, tokenizer, preprocessor, indices
SAFE_FILES = ("model.safetensors", "model-*-of-*.safetensors")
PICKLED_FILES = ("pytorch_model.bin", "pytorch_model-*-of-*.bin")
CONVERTER = "SFconvertbot"  # the hub's own account that offers pickled weights as safetensors, in a pull request
SHARED = "shared.json"  # names what a folder takes from another model's: tensors by their names there, and files
SHARED_FILES = {"tokenizer.json": ("tokenizer_config.json",)}  # what may be shared, and what goes with each


def find(weights: AnyWeights, *, allow_pickle: bool = False, weights_too: bool = True) -> Path:
    """The local folder or file of `weights`; a hub id is downloaded if need be.

    weights: as `Weights.of` reads it.
    weights_too: False for the small files alone, such as the tokenizer's.
    Raises `WeightsError` where there is nothing, and says how to get it; `UnknownName` for an unknown asset.
    """
    wanted = Weights.of(weights)
    if wanted.kind == "asset":
        return _asset(wanted.name)
    if wanted.kind in ("by_hand", "none"):
        raise WeightsError(wanted.missing())
    path = files.local(wanted.name, WeightsError).expanduser()
    if wanted.is_here and wanted.name:
        return path
    if wanted.kind == "file":
        raise WeightsError(
            f"there is nothing at {wanted}; give a folder, a file or a hub id such as openai/clip-vit-base-patch16"
        )
    kinds = [SAFE_FILES, PICKLED_FILES][: 1 + allow_pickle] if weights_too else [()]
    return _cached(wanted.name, kinds) or _download(wanted.name, kinds)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; raises `WeightsError` where it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"{path.parent} has no {path.name}; copy the model's whole folder") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read ({error}); copy it again") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds {type(content).__name__}, not settings; copy it again")
    return content


def read_folder(folder: Path, *, allow_pickle: bool = False) -> dict[str, Tensor]:
    """All tensors of a Hugging Face folder by name, sharded or not, and those that it shares with another (`share`).

    Pickled weights are refused unless `allow_pickle`, and then read with `weights_only=True`. Raises `WeightsError`.
    """
    for stem, read in (("model.safetensors", load_safe), ("pytorch_model.bin", load_pickle)):
        found = _shards(folder, stem)
        if not found:
            continue
        if read is load_pickle and not allow_pickle:
            raise WeightsError(
                f"{folder} has only pickled weights ({found[0].name}), and a pickle can run code; give the model as "
                f"safetensors, or {HOW_TO_ALLOW}"
            )
        return {name: tensor for file in found for name, tensor in read(file).items()} | _shared(folder)
    raise WeightsError(f"{folder} has no model.safetensors; copy the model's whole folder")


def portable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as they are stored: on the CPU, and in half precision where it holds their numbers exactly.

    Weights that were published in half precision and loaded in single precision are stored as small as they came.
    """
    return {name: _narrow(tensor.detach().cpu()).contiguous() for name, tensor in tensors.items()}


def _narrow(tensor: Tensor) -> Tensor:
    if tensor.dtype == torch.float32:
        for kind in (torch.float16, torch.bfloat16):
            if torch.equal(tensor.to(kind).float(), tensor):
                return tensor.to(kind)
    return tensor


def share(folder: Path, weights: str) -> int:
    """Takes the tensors and the tokenizer out of `folder` that `weights` has too, so that they are stored once.

    A tensor is the same if its numbers and their type are, and its name there is its own or the end of it ("text.a.b"
    is "a.b" there). shared.json tells `read_folder` and `home_of` where they are. Returns how many bytes were saved.
    Raises `WeightsError`.
    """
    place = find(weights)
    tensors, there = read_folder(folder), read_folder(place)
    names = {name: found for name, tensor in tensors.items() if (found := _same(name, tensor, there)) is not None}
    alike = [name for name in SHARED_FILES if _alike(folder / name, place / name)]
    if not names and not alike:
        raise WeightsError(f"{folder} has nothing in common with {weights}; save it with numbers of the same type")
    own = {name: tensor for name, tensor in tensors.items() if name not in names}
    saved = sum(tensors[name].nbytes for name in names)
    content = {"weights": weights, "tensors": names, "files": alike}
    files.write_text(folder / SHARED, json.dumps(content, indent=1) + "\n")
    files.write_bytes(folder / "model.safetensors", to_safetensors(own, metadata={"format": "pt"}))
    for path in (folder / each for name in alike for each in (name, *SHARED_FILES[name])):
        saved += path.stat().st_size if path.is_file() else 0
        path.unlink(missing_ok=True)
    return saved


def home_of(name: str, folder: Path) -> Path:
    """The folder that a file of a model's is in: its own, or that of the model with which it shares the file."""
    if (folder / name).is_file() or not (folder / SHARED).is_file():
        return folder
    content = read_json(folder / SHARED)
    return find(str(content.get("weights"))) if name in content.get("files", ()) else folder


def _alike(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()


def _same(name: str, tensor: Tensor, there: Mapping[str, Tensor]) -> str | None:
    parts = name.split(".")
    for start in range(len(parts)):
        other = there.get(".".join(parts[start:]))
        if other is not None and other.dtype == tensor.dtype and torch.equal(other, tensor):
            return ".".join(parts[start:])
    return None


def _shared(folder: Path) -> dict[str, Tensor]:
    if not (folder / SHARED).is_file():
        return {}
    content = read_json(folder / SHARED)
    there = read_folder(find(str(content.get("weights"))))
    names = dict(content.get("tensors", {}))
    if missing := sorted(set(names.values()) - set(there)):
        raise WeightsError(
            f"{folder} shares {missing[0]} with {content['weights']}, which has none; "
            "take both from one version of lexiseg"
        )
    return {name: there[other] for name, other in names.items()}


@dataclass(frozen=True)
class Origin:
    """Where a tensor of ours lies in a file.

    name: the tensor's name there. transposed: its two axes are swapped there. third: it is this third of the rows
    there, where query, key and value are stored as one.
    """

    name: str
    transposed: bool = False
    third: int | None = None

    def shape(self, ours: torch.Size) -> tuple[int, ...]:
        """The shape in the file of what has the shape `ours` here."""
        shape = tuple(reversed(ours)) if self.transposed else tuple(ours)
        return shape if self.third is None else (3 * shape[0], *shape[1:])

    def take(self, stored: Tensor) -> Tensor:
        tensor = stored.mT if self.transposed else stored
        return tensor if self.third is None else tensor.chunk(3)[self.third]


def fit(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    source: str | os.PathLike[str],
    origin: Callable[[str], Origin] = Origin,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Puts `tensors` into `module`, which may be on the meta device; numbers become `dtype`, counters stay integers.

    origin: for each name in the module's state dict, where it lies in `tensors`. What no name asks for is left alone.
    Raises `WeightsError` that names every tensor that is missing or has another shape.
    """
    state: dict[str, Tensor] = {}
    wrong: dict[str, str] = {}  # by the name in the file: query, key and value share one
    for name, ours in module.state_dict().items():
        place = origin(name)
        stored, expected = tensors.get(place.name), place.shape(ours.shape)
        if stored is None:
            wrong[place.name] = f"{place.name} {list(expected)} is missing"
        elif tuple(stored.shape) != expected:
            wrong[place.name] = f"{place.name} is {list(stored.shape)} instead of {list(expected)}"
        else:
            kind = dtype if ours.is_floating_point() else ours.dtype
            # copied, since a view into the file may lie unaligned (other rounding) and would follow the file's changes
            state[name] = place.take(stored).to(kind, copy=True).contiguous()
    if wrong:
        raise WeightsError(
            f"the weights in {source} do not fit: {'; '.join(wrong.values())}; "
            "copy the files again, or check that they belong to this model"
        )
    module.load_state_dict(state, assign=True)


def _asset(name: str) -> Path:
    shelf = Path(str(resources.files("lexiseg"))) / "assets"
    known = sorted(
        folder.name for folder in shelf.iterdir() if folder.is_dir() and not folder.name.startswith(("_", "."))
    )
    if name not in known:
        raise UnknownName("embedded model", name, known)
    return shelf / name


def _shards(folder: Path, stem: str) -> list[Path]:
    """The files of `stem` ("model.safetensors"): itself, or those that its index lists; none where there is neither."""
    if (folder / stem).is_file():
        return [folder / stem]
    index = folder / f"{stem}.index.json"
    if not index.is_file():
        return []
    names = sorted({Path(str(name)).name for name in dict(read_json(index).get("weight_map", {})).values()})
    missing = [name for name in names if not (folder / name).is_file()]
    if missing or not names:
        raise WeightsError(f"{folder} lacks {', '.join(missing) or 'all shards'}; copy the model's whole folder")
    return [folder / name for name in names]


def _cached(repository: str, kinds: Sequence[Sequence[str]]) -> Path | None:
    """A complete snapshot in the hub's cache: of the main branch, else of a pull request that was downloaded.

    kinds: patterns of the files that hold the weights, the first of each its usual name; the kinds in order of choice.
    """
    requests = Path(HF_HUB_CACHE, f"models--{repository.replace('/', '--')}", "refs").glob("refs/pr/*")
    for revision in ("main", *sorted(f"refs/pr/{request.name}" for request in requests)):
        for kind in kinds:
            with contextlib.suppress(OSError, ValueError, WeightsError):  # absent, or not whole
                wanted = [*SMALL_FILES, *kind]
                found = snapshot_download(repository, revision=revision, allow_patterns=wanted, local_files_only=True)
                if not kind or (_shards(Path(found), kind[0]) and Path(found, "config.json").is_file()):
                    return Path(found)
    return None


def _download(repository: str, kinds: Sequence[Sequence[str]]) -> Path:
    try:
        revision, kind = _choose(repository, kinds)
        return Path(snapshot_download(repository, revision=revision, allow_patterns=[*SMALL_FILES, *kind]))
    except WeightsError:
        raise
    except Exception as error:  # the hub's errors, and those of whichever HTTP library it was built on
        raise WeightsError(
            f"{repository} is not on this machine and cannot be downloaded ({first_line(error)}); where there is a "
            f"network run 'hf download {repository}' and copy the folder it prints; maskclip/mini needs no download"
        ) from error


def _choose(repository: str, kinds: Sequence[Sequence[str]]) -> tuple[str, Sequence[str]]:
    """The revision to take, and the patterns of its weights."""
    api = HfApi()
    names = {file.rfilename for file in api.model_info(repository, timeout=TIMEOUT_SECONDS).siblings or []}
    held = [kind for kind in kinds if not kind or names & {kind[0], f"{kind[0]}.index.json"}]
    if SAFE_FILES not in held and SAFE_FILES in kinds:
        for offer in api.get_repo_discussions(repository, author=CONVERTER, discussion_status="open"):
            if offer.author == CONVERTER and offer.git_reference and "safetensors" in offer.title:
                return offer.git_reference, SAFE_FILES
    if held:
        return "main", held[0]
    raise WeightsError(
        f"{repository} has only pickled weights, which can run code; choose a repository with a model.safetensors, or "
        f"{HOW_TO_ALLOW}"
    )
