"""A miniature data root in the form of the real one, and where the real one is, if it is."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

LEXISEG_DATA = Path(os.environ.get("LEXISEG_DATA") or Path(__file__).parents[2] / ".." / "shared" / "data").resolve()

needs_photographs = pytest.mark.skipif(
    not (LEXISEG_DATA / "photos-train").is_dir(),
    reason=f"needs the photographs: set LEXISEG_DATA, or put them in ../shared/data ({LEXISEG_DATA} is not there)",
)

CLASSES = [
    {"id": 1, "name": "person", "synonyms": ["man"], "thing": True},
    {"id": 17, "name": "cat", "synonyms": ["kitty"], "thing": True},
    {"id": 130, "name": "grass", "synonyms": [], "thing": False},
]


def write_root(root: Path) -> Path:
    """Two sheets (one "cat", one "apple"), and two shards of masked photographs."""
    (root / "photos-train").mkdir(parents=True)
    (root / "masks-train").mkdir()
    _write_tar(
        root / "photos-train" / "animals-000.tar",
        _sheet("000000", ["cat", "tabby"], (200, 40, 40), 6)
        + _sheet("000001", ["apple", "fruit"], (40, 200, 40), 3, True),
    )
    (root / "masks-train" / "classes.json").write_text(json.dumps({"ignore": 255, "classes": CLASSES}))
    for shard, number in (("coco-train2017-panoptic", 10), ("msrc-even", 16)):
        members = [member for at in range(number) for member in _masked(shard, at)]
        _write_tar(root / "masks-train" / f"{shard}.tar", members)
    return root


def tile_level(at: int) -> int:
    """What the blue channel of tile `at` of every sheet is."""
    return 20 * at + 10


def _sheet(key, names, colour, count, boxes=False):
    sheet = np.zeros((64, 64 * count, 3), np.uint8)
    tiles = []
    for at in range(count):
        width = 48 if at % 2 else 64
        sheet[:, 64 * at : 64 * at + width] = (*colour[:2], tile_level(at))
        tiles.append([64 * at, 0, width, 64])
    content = {"names": names, "class": names[0], "source": "made up", "count": count, "tiles": tiles}
    if boxes:
        content["boxes"] = [[40, 40, 47, 63]] * count
    return [(f"{key}.webp", _encoded(sheet, "WEBP", lossless=True)), (f"{key}.json", json.dumps(content).encode())]


def _masked(shard, at):
    labels = np.full((48, 64), 255, np.uint8)
    labels[10:] = 130
    labels[20:40, 20:50] = 17 if at % 2 else 1
    image = np.stack([labels, labels, np.full_like(labels, at)], axis=2)
    content = {"source": shard, "id": f"id-{at}", "kind": "made up"}
    if at == 3:
        content["captions"] = ["A cat on the grass.", "a real caption"]
    return [
        (f"{at:06d}.webp", _encoded(image, "WEBP", lossless=True)),
        (f"{at:06d}.png", _encoded(labels, "PNG")),
        (f"{at:06d}.json", json.dumps(content).encode()),
    ]


def _encoded(array, kind, **options):
    data = io.BytesIO()
    Image.fromarray(array).save(data, kind, **options)
    return data.getvalue()


def _write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
