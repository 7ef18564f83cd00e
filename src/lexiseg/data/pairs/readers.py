"""Reads image-text pairs from wherever they are kept.

That is tar shards, folders, CSV and TSV lists, COCO captions, or Hugging Face `datasets`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from PIL import Image

from lexiseg import files
from lexiseg.data.pairs.pairs import Pairs, locate
from lexiseg.data.storage.images import pictures_below, read_rgb
from lexiseg.data.storage.shards import CAPTION, IMAGE, Shard, find_shards, parse_object
from lexiseg.data.storage.texts import Texts
from lexiseg.errors import BadSample, DataError, MissingDependency
from lexiseg.files import digest

__all__ = ["FilePairs", "HubPairs", "ShardPairs", "coco_captions", "folder_pairs", "listed_pairs", "open_pairs"]

Column = str | int

_IMAGE_COLUMNS = ("image", "filepath", "image_path", "path", "file", "filename", "file_name")
_CAPTION_COLUMNS = ("caption", "title", "text", "description", "raw_caption")
_CAPTION_KEYS = ("captions", "caption", "text", "texts")  # of a JSON beside a picture


def open_pairs(
    place: str | Path,
    *,
    images: str | Path | None = None,
    image_column: Column | None = None,
    caption_column: Column | None = None,
    each_caption: bool = False,
) -> Pairs:
    """The pairs at a place, told by what it is.

    place: a folder or pattern of tar shards, a folder of pictures with .txt or .json beside them, a .csv or .tsv list,
        a COCO captions .json, or "hub:NAME" / "hub:NAME:SPLIT" for Hugging Face `datasets`.
    images: the folder that the paths in a list are relative to; the list's own folder by default.
    image_column, caption_column: names (or numbers, for a list without a header) of a list's or data set's columns.
    each_caption: a COCO JSON gives a pair for each caption, instead of one for each picture.

    Raises `DataError` where nothing of the kind is there.
    """
    if str(place).startswith("hub:"):
        return hub_pairs(str(place)[4:], image_column=image_column, caption_column=caption_column)
    path = files.local(place, DataError).expanduser()
    if path.suffix == ".tar" or (path.is_dir() and any(path.glob("*.tar"))):
        return ShardPairs(path)
    if path.is_dir():
        return folder_pairs(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist; give a folder, shards, a .csv, .tsv or COCO .json, or hub:NAME")
    root = path.parent if images is None else Path(images).expanduser()
    if path.suffix == ".json":
        return coco_captions(path, images=root, each_caption=each_caption)
    return listed_pairs(path, images=root, image_column=image_column, caption_column=caption_column)


class ShardPairs:
    """Tar shards of pictures with a .txt caption, or a .json that holds one or several.

    A manifest.json beside the shards (`lexiseg data pack` writes one) says how many samples each should have. Then a
    shard's members are listed when it is first read, not all at the start, and samples that it lacks stay in the count
    and are bad, so that losing them is noticed. The lists take about 45 bytes a sample.
    """

    def __init__(self, place: Path) -> None:
        self._paths = find_shards(place)
        self._written = _packed(self._paths[0].parent)
        self._shards: list[Shard | None] = [None] * len(self._paths)
        self._lengths = [self._length(at) for at in range(len(self._paths))]
        self._ends = list(accumulate(self._lengths))

    @property
    def blocks(self) -> Sequence[int]:
        return self._lengths

    def key(self, index: int) -> str:
        at, within = locate(self._ends, index)
        shard = self._shard(at)
        return shard.key(within) if within < len(shard) else f"{shard.path.stem}/{within}"

    def read(self, index: int) -> tuple[Image.Image, Sequence[str]]:
        at, within = locate(self._ends, index)
        shard = self._shard(at)
        if within >= len(shard):
            raise BadSample("shard ends early", str(shard.path))
        image, caption = shard.read(within, 0), shard.read(within, 1)
        if image is None or caption is None:
            raise BadSample("missing key", f"no {' or '.join(IMAGE if image is None else CAPTION)}")
        data, extension = caption
        texts = [data.decode("utf-8", "replace")] if extension == "txt" else captions_of(parse_object(data))
        return read_rgb(image[0]), texts

    def manifest(self) -> dict[str, Any]:
        shards = [
            [path.name, length, path.stat().st_size, self._written.get(path.name, {}).get("sha256")]
            for path, length in zip(self._paths, self._lengths, strict=True)
        ]
        return {"kind": "shards", "samples": sum(self._lengths), "shards": len(shards), "sha256": digest(shards)}

    def _length(self, at: int) -> int:
        expected = self._written.get(self._paths[at].name, {}).get("samples")
        return len(self._shard(at)) + self._shard(at).cut if expected is None else int(expected)

    def _shard(self, at: int) -> Shard:
        shard = self._shards[at]
        if shard is None:
            shard = self._shards[at] = Shard(self._paths[at], (IMAGE, CAPTION))
        return shard


class FilePairs:
    """Pictures in files of their own, with captions that are known or lie beside them.

    captions: for each picture its captions as one JSON list, or "" for those in the .txt or .json beside it.
    """

    def __init__(self, root: Path, pairs: Iterable[tuple[str, Sequence[str]]], *, kind: str) -> None:
        paths, captions = [], []
        for path, texts in pairs:
            paths.append(path)
            captions.append(json.dumps(list(texts), ensure_ascii=False) if texts else "")
        self._root, self._kind = root, kind
        self._paths, self._captions = Texts(paths), Texts(captions)

    @property
    def blocks(self) -> Sequence[int]:
        return [len(self._paths)]

    def key(self, index: int) -> str:
        return self._paths[index]

    def read(self, index: int) -> tuple[Image.Image, Sequence[str]]:
        path, captions = self.stored(index)
        return read_rgb(path), captions

    def stored(self, index: int) -> tuple[Path, Sequence[str]]:
        """The picture's file and its captions."""
        path = self._root / self._paths[index]
        known = self._captions[index]
        return path, json.loads(known) if known else _captions_beside(path)

    def manifest(self) -> dict[str, Any]:
        content = digest([self._paths.sha256, self._captions.sha256])
        return {"kind": self._kind, "samples": len(self._paths), "sha256": content}


def folder_pairs(root: Path) -> FilePairs:
    """Every picture under a folder, with the .txt or .json of the same name beside it.

    Raises `DataError` for a folder without pictures, or without a single caption.
    """
    found = pictures_below(root)
    if not any(path.with_suffix(suffix).is_file() for path in found for suffix in (".txt", ".json")):
        name = found[0].relative_to(root)
        raise DataError(
            f"{root} has {len(found)} pictures without captions; put a caption for {name} into "
            f"{name.with_suffix('.txt')} beside it, and so on, or give a .csv or .tsv list of pictures and captions"
        )
    return FilePairs(root, ((path.relative_to(root).as_posix(), ()) for path in found), kind="folder")


def listed_pairs(
    path: Path, *, images: Path, image_column: Column | None = None, caption_column: Column | None = None
) -> FilePairs:
    """A CSV or TSV list of picture paths and captions, such as those of CC3M, CC12M, YFCC and RedCaps.

    Columns are found by the usual names in the first row; with numbers the list has no header. An empty caption stays
    in the list and is bad. Raises `DataError` for a list without those columns.
    """

    def pairs() -> Iterator[tuple[str, Sequence[str]]]:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            rows = csv.reader(file, dialect="excel-tab" if path.suffix.lower() in (".tsv", ".tab") else "excel")
            first, image, caption = _columns(path, rows, image_column, caption_column)
            for row in (*first, *(row for row in rows if row)):
                cells = [row[at] if at < len(row) else "" for at in (image, caption)]
                yield cells[0], [cells[1]]

    return FilePairs(images, pairs(), kind="list")


def coco_captions(path: Path, *, images: Path, each_caption: bool = False) -> FilePairs:
    """A COCO captions JSON: all captions of a picture together, or a pair for each caption."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {image["id"]: image["file_name"] for image in content["images"]}
        found: dict[Any, list[str]] = {image: [] for image in names}
        for annotation in content["annotations"]:
            found[annotation["image_id"]].append(annotation["caption"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not a COCO captions file ({error!r}); it needs images with id and file_name, and annotations "
            "with image_id and caption"
        ) from error
    if each_caption:
        pairs = [(names[image], [caption]) for image, captions in found.items() for caption in captions]
    else:
        pairs = [(names[image], captions or [""]) for image, captions in found.items()]
    return FilePairs(images, pairs, kind="coco captions")


class HubPairs:
    """A data set of Hugging Face `datasets` (or any sequence of mappings) with an image and a caption column."""

    def __init__(self, rows: Any, *, name: str, image_column: Column, caption_column: Column) -> None:
        self._rows, self._name = rows, name
        self._image, self._caption = image_column, caption_column

    @property
    def blocks(self) -> Sequence[int]:
        return [len(self._rows)]

    def key(self, index: int) -> str:
        return f"{self._name}/{index}"

    def read(self, index: int) -> tuple[Image.Image, Sequence[str]]:
        try:
            row = self._rows[index]
        except Exception as error:  # `datasets` decodes the image here, with whatever error that gives
            raise BadSample("broken image", str(error)) from error
        image, captions = row.get(self._image), row.get(self._caption)
        if image is None or captions is None:
            raise BadSample("missing key", f"{self._image} or {self._caption}")
        if not isinstance(image, Image.Image):  # an undecoded column: {"bytes": ..., "path": ...}
            image = read_rgb(image["bytes"] or Path(image["path"]))
        return image.convert("RGB"), [captions] if isinstance(captions, str) else list(captions)

    def manifest(self) -> dict[str, Any]:
        fingerprint = getattr(self._rows, "_fingerprint", None)
        return {"kind": "hub", "name": self._name, "samples": len(self._rows), "fingerprint": fingerprint}


def hub_pairs(name: str, *, image_column: Column | None = None, caption_column: Column | None = None) -> HubPairs:
    """A data set of the Hugging Face hub or a local folder: "NAME", or with another split than train "NAME:SPLIT".

    Raises `MissingDependency` without `datasets`, and `DataError` where it cannot be loaded.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingDependency("datasets", "data", "reading a data set of the Hugging Face hub") from error
    repository, _, split = name.partition(":")
    split = split or "train"
    try:
        rows = datasets.load_dataset(repository, split=split)
    except Exception as error:  # of many kinds: no network, no such name, no such split
        raise DataError(f"the data set {repository}, split {split}, cannot be loaded: {error}") from error
    image = image_column or _first_of(_IMAGE_COLUMNS, rows.column_names)
    caption = caption_column or _first_of(_CAPTION_COLUMNS, rows.column_names)
    return HubPairs(rows, name=f"{repository}:{split}", image_column=image, caption_column=caption)


def captions_of(content: dict[str, Any]) -> list[str]:
    """The captions in a JSON beside a picture: a text or a list of texts under "captions", "caption" or "text"."""
    for key in _CAPTION_KEYS:
        found = content.get(key)
        if isinstance(found, str):
            return [found]
        if isinstance(found, list):
            return [text for text in found if isinstance(text, str)]
    raise BadSample("missing key", f"no {' or '.join(_CAPTION_KEYS)}")


def _captions_beside(path: Path) -> list[str]:
    text, content = path.with_suffix(".txt"), path.with_suffix(".json")
    if text.is_file():
        return [text.read_text(encoding="utf-8-sig", errors="replace")]
    if not content.is_file():
        raise BadSample("missing caption", f"neither {text.name} nor {content.name} is there")
    return captions_of(parse_object(content.read_bytes()))


def _columns(
    path: Path, rows: Iterator[list[str]], image: Column | None, caption: Column | None
) -> tuple[list[list[str]], int, int]:
    """Rows read that are not a header (none or one), and the numbers of the two columns."""
    first = next(rows, [])
    if isinstance(image, int) and isinstance(caption, int):
        return [first] if first else [], image, caption
    header = [name.strip().lower() for name in first]
    found = []
    for wanted, usual in ((image, _IMAGE_COLUMNS), (caption, _CAPTION_COLUMNS)):
        name = str(wanted).lower() if wanted is not None else _first_of(usual, header, path)
        if name not in header:
            raise DataError(f"{path} has no column {name!r}; its first row is {', '.join(first)}")
        found.append(header.index(name))
    return [], found[0], found[1]


def _first_of(usual: Sequence[str], given: Sequence[str], path: Path | str = "the data set") -> str:
    for name in usual:
        if name in given:
            return name
    raise DataError(
        f"{path} has columns {', '.join(given)}, none of the usual {', '.join(usual)}; name the image and the caption "
        "column, by number where there is no header"
    )


def _packed(folder: Path) -> dict[str, dict[str, Any]]:
    """The shards that a manifest.json in the folder lists, by name; none where there is no such file."""
    try:
        content = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        return {shard["name"]: shard for shard in content["shards"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
