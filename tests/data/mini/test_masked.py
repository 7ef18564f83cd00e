from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest
from hand_made import png
from photographs import LEXISEG_DATA, needs_photographs, write_root
from PIL import Image

from lexiseg.data.mini.masked import IGNORE, held_out, read_masked
from lexiseg.errors import DataError


@pytest.mark.parametrize("cached", [False, True])
def test_photographs_come_with_labels_and_captions(tmp_path, cached):
    folder = write_root(tmp_path / "root") / "masks-train"
    masked = read_masked(folder, part="all", cache=tmp_path / "cache" if cached else None)
    assert [kind.names for kind in masked.classes] == [("person", "man"), ("cat", "kitty"), ("grass",)]
    assert len(masked.photographs) == 26
    photograph = masked.photographs[3]
    assert photograph.key == "coco-train2017-panoptic/000003"
    assert photograph.captions == ("A cat on the grass.", "a real caption")
    assert photograph.image().shape == (48, 64, 3)
    assert photograph.truth()[0, 0] == IGNORE
    assert photograph.truth()[30, 30] == 1
    assert photograph.truth()[45, 5] == 2
    assert (photograph.image()[..., 0] == np.array([1, 17, 130, 255])[np.minimum(photograph.truth(), 3)]).all()


def test_parts_are_disjoint_and_follow_the_rule(tmp_path):
    folder = write_root(tmp_path) / "masks-train"
    keys = {
        part: {one.key for one in read_masked(folder, part=part).photographs} for part in ("train", "held_out", "all")
    }
    assert keys["train"] | keys["held_out"] == keys["all"]
    assert keys["held_out"] == {
        *(f"coco-train2017-panoptic/{at:06d}" for at in (4, 9)),
        *(f"msrc-even/{at:06d}" for at in (12, 13, 14)),
    }


def test_a_fifth_is_held_out_and_nothing_else():
    assert sum(held_out(f"coco-train2017-panoptic/{at:06d}") for at in range(100)) == 20
    assert sum(held_out(f"msrc-even/{at:06d}") for at in range(278)) == 54
    assert not any(held_out(f"coco-train2017-things/{at:06d}") for at in range(341))


def test_only_classes_that_occur_can_be_kept(tmp_path):
    folder = write_root(tmp_path) / "masks-train"
    classes = (folder / "classes.json").read_text()
    (folder / "classes.json").write_text(classes.replace('[{"id": 1,', '[{"id": 5, "name": "boat"}, {"id": 1,'))
    every, occurring = read_masked(folder), read_masked(folder, occurring=True)
    assert [kind.names[0] for kind in every.classes] == ["boat", "person", "cat", "grass"]
    assert [kind.names[0] for kind in occurring.classes] == ["person", "cat", "grass"]
    for one, other in zip(every.photographs, occurring.photographs, strict=True):
        expected = np.where(one.truth() == IGNORE, IGNORE, one.truth() - 1)
        assert np.array_equal(other.truth(), expected)


def test_label_maps_of_few_bits_hold_the_same_ids(tmp_path):
    """A 4-bit grey PNG is what an optimiser makes of a map with ids below 16."""
    ids = np.zeros((48, 64), np.uint8)
    ids[:, 20:] = 3
    ids[:, 40:] = 15
    photo = io.BytesIO()
    Image.new("RGB", (64, 48)).save(photo, "WEBP")
    members = {"000000.webp": photo.getvalue(), "000000.png": png(ids, 4), "000000.json": b"{}"}
    with tarfile.open(tmp_path / "own.tar", "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    classes = [{"id": number, "name": name} for number, name in ((0, "sky"), (3, "road"), (15, "car"))]
    (tmp_path / "classes.json").write_text(json.dumps({"ignore": 255, "classes": classes}))
    (photograph,) = read_masked(tmp_path, part="all").photographs
    assert np.array_equal(photograph.truth(), np.searchsorted([0, 3, 15], ids))


def test_nothing_to_read_is_an_error(tmp_path):
    folder = write_root(tmp_path) / "masks-train"
    with pytest.raises(DataError, match="no shard whose name begins with other"):
        read_masked(folder, shards=("other",))
    (folder / "coco-train2017-panoptic.tar").rename(folder / "things.tar")
    with pytest.raises(DataError, match="hold no photographs of the part 'held_out'"):
        read_masked(folder, part="held_out", shards=("things",))
    (folder / "classes.json").write_text("[]")
    with pytest.raises(DataError, match="list of classes"):
        read_masked(folder)


@needs_photographs
def test_the_real_photographs_are_those_of_their_readme():
    msrc = read_masked(LEXISEG_DATA / "masks-train", part="all", shards=("msrc",), occurring=True)
    assert len(msrc.photographs) == 278
    assert len(msrc.classes) == 22
    void = np.mean([(one.truth() == IGNORE).mean() for one in msrc.photographs])
    assert void == pytest.approx(0.19, abs=0.015)
    assert len(read_masked(LEXISEG_DATA / "masks-train", part="held_out", shards=("msrc",)).photographs) == 54
