"""Which samples are still what they were: by size and time, and where these differ by content."""

from __future__ import annotations

import dataclasses
import os
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import official_trees as trees
import pytest
from PIL import Image

from lexiseg.benchmarks import _benchmark
from lexiseg.data.labelled.samples import Sample
from lexiseg.evaluation import contents
from lexiseg.evaluation.contents import Mark


def marks(samples: Sequence[Sample]) -> dict[str, Mark]:
    return {sample.key: contents.mark(sample, sample.truth()) for sample in samples}


def opened(root: Path, benchmark: str = "folder", **options: str) -> Sequence[Sample]:
    return _benchmark.open(benchmark, root, cache=root / "cache", **options).samples


def test_what_stays_is_not_read_again(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = marks(opened(two))
    samples = opened(two)
    monkeypatch.setattr(Sample, "read", lambda sample: pytest.fail("it was read"))
    assert contents.changed(before, samples) == []


def test_files_that_were_touched_are_compared_by_content(two: Path) -> None:
    before = marks(opened(two))
    for path in (two / "images" / "one.png", two / "masks" / "one.png"):
        os.utime(path, (1, 1))
    assert contents.changed(before, opened(two)) == []


def test_a_label_map_that_is_stored_otherwise_is_the_same(two: Path) -> None:
    before = marks(opened(two))
    path = two / "masks" / "one.png"
    Image.fromarray(np.asarray(Image.open(path)).astype(np.uint16)).save(path)
    assert contents.changed(before, opened(two)) == []


def _edit_photo(root: Path) -> None:
    picture = Image.open(root / "images" / "one.png")
    picture.putpixel((0, 0), (1, 2, 3))
    picture.save(root / "images" / "one.png")


def _edit_labels(root: Path) -> None:
    picture = Image.open(root / "masks" / "one.png")
    picture.putpixel((0, 0), 2)
    picture.save(root / "masks" / "one.png")


def _remove_photo(root: Path) -> None:
    (root / "images" / "one.png").unlink()


@pytest.mark.parametrize("edit", [_edit_photo, _edit_labels, _remove_photo])
def test_one_pixel_is_a_change(two: Path, edit: Callable[[Path], None]) -> None:
    samples = opened(two)
    before = marks(samples)
    edit(two)
    assert contents.changed(before, samples) == ["one"]


def test_samples_that_are_gone_have_changed_and_new_ones_have_not(two: Path) -> None:
    samples = opened(two)
    before = marks(samples[:1])
    assert contents.changed(before, samples) == []
    assert contents.changed(before, samples[1:]) == ["one"]


def test_a_shard_that_is_packed_again_is_compared_by_its_members(two: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "classes.json").write_bytes((two / "classes.json").read_bytes())

    def pack(keys: Sequence[str]) -> Sequence[Sample]:
        with tarfile.open(shards / "all.tar", "w") as tar:
            for key in keys:
                tar.add(two / "images" / f"{key}.png", f"{key}.image.png")
                tar.add(two / "masks" / f"{key}.png", f"{key}.png")
        os.utime(shards / "all.tar", ns=(1, next(times)))
        return opened(shards)

    times = iter(range(100))
    before = marks(pack(["one", "two"]))
    assert contents.changed(before, pack(["two", "one"])) == []
    _edit_labels(two)
    assert contents.changed(before, pack(["one", "two"])) == ["all/one"]


def test_a_file_beside_a_sample_counts(two: Path) -> None:
    samples = opened(two)
    notes = two / "notes.txt"
    notes.write_text("first")
    before = {sample.key: contents.mark(sample, sample.truth(), lambda _: [notes]) for sample in samples}
    assert contents.changed(before, samples, lambda _: [notes]) == []
    notes.write_text("second")
    assert contents.changed(before, samples, lambda _: [notes]) == ["one", "two"]


def test_label_maps_made_of_several_files_change_with_each_of_them(tmp_path: Path) -> None:
    """COCO's panoptic pictures mean what their JSON says."""
    trees.coco_panoptic(tmp_path, [[1, 2], [0, 200]], {1: 1, 2: 3, 200: 200})
    samples = opened(tmp_path, "coco80")
    before = marks(samples)
    (json,) = tmp_path.rglob("panoptic_*.json")
    text = json.read_text()
    json.write_text(text + "\n")
    assert contents.changed(before, opened(tmp_path, "coco80")) == []
    json.write_text(text.replace('"category_id": 1}', '"category_id": 3}'))
    assert contents.changed(before, opened(tmp_path, "coco80")) == [*before]


def test_other_ids_are_another_content(two: Path) -> None:
    sample = opened(two)[0]
    exchanged = sample.table.classes.copy()
    exchanged[[0, 1]] = exchanged[[1, 0]]
    other = dataclasses.replace(sample, table=dataclasses.replace(sample.table, classes=exchanged))
    assert contents.mark(sample, sample.truth()).content != contents.mark(other, other.truth()).content
