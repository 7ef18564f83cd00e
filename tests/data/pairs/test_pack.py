from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest
from PIL import Image

from lexiseg.data.pairs.pack import MANIFEST, pack
from lexiseg.data.pairs.readers import open_pairs
from lexiseg.data.storage.pixels import file_hash
from lexiseg.errors import DataError, OutputError


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for at in range(23):
        pixels = np.random.default_rng(at).integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{at:02d}.jpg")
        (folder / f"{at:02d}.txt").write_text(f"caption {at}\n")
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_shards_hold_the_pictures_as_they_are_and_their_captions(photos, tmp_path):
    (photos / "03.txt").unlink()
    (photos / "03.json").write_text('{"captions": ["one", " ", "two"]}')
    manifest = pack(photos, tmp_path / "out", shard_size=10)
    packed = open_pairs(tmp_path / "out")
    assert packed.blocks == [10, 10, 3]
    assert [shard["samples"] for shard in manifest["shards"]] == [10, 10, 3]
    for at in range(23):
        image, captions = packed.read(at)
        assert np.array_equal(image, Image.open(photos / f"{at:02d}.jpg"))
        assert tuple(captions) == (("one", "two") if at == 3 else (f"caption {at}",))
    with tarfile.open(tmp_path / "out" / "000001.tar") as tar:
        assert tar.getnames()[:2] == ["000000010.jpg", "000000010.txt"]
        assert tar.extractfile("000000010.jpg").read() == (photos / "10.jpg").read_bytes()


def test_the_manifest_counts_and_hashes(photos, tmp_path):
    manifest = pack(photos, tmp_path / "out", shard_size=10)
    assert json.loads((tmp_path / "out" / MANIFEST).read_text()) == manifest
    assert manifest["samples"] == 23
    for shard in manifest["shards"]:
        path = tmp_path / "out" / shard["name"]
        assert shard["sha256"] == file_hash(path)
        assert shard["bytes"] == path.stat().st_size
    assert set(contents(tmp_path / "out")) == {MANIFEST, "000000.tar", "000001.tar", "000002.tar"}


def test_bytes_do_not_depend_on_time_or_workers(photos, tmp_path):
    pack(photos, tmp_path / "one", shard_size=7)
    for path in photos.iterdir():
        os.utime(path, (1, 1))
    pack(photos, tmp_path / "two", shard_size=7, workers=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_bad_pairs_are_left_out_counted_and_named(photos, tmp_path, caplog):
    (photos / "04.jpg").write_bytes(b"broken")
    (photos / "05.txt").write_text("  ")
    (photos / "06.txt").unlink()
    with caplog.at_level(logging.WARNING):
        manifest = pack(photos, tmp_path / "out", shard_size=10, max_bad_fraction=0.2)
    assert manifest["skipped"] == {"broken image": 1, "empty caption": 1, "missing caption": 1}
    assert [shard["samples"] for shard in manifest["shards"]] == [7, 10, 3]
    assert "skipped 04.jpg: broken image" in caplog.text
    with pytest.raises(DataError, match=r"max_bad_fraction is 0\.1"):
        pack(photos, tmp_path / "other", shard_size=10, max_bad_fraction=0.1)


def test_a_single_bad_pair_does_not_spoil_a_small_set(photos, tmp_path):
    (photos / "00.jpg").write_bytes(b"broken")
    assert pack(photos, tmp_path / "out", max_bad_fraction=0.01)["skipped"] == {"broken image": 1}
    with pytest.raises(DataError, match="1 of the first 1 pairs"):
        pack(photos, tmp_path / "strict", max_bad_fraction=0)


def test_photographs_without_any_caption_are_told_what_is_missing(photos, tmp_path):
    for caption in (*photos.glob("*.txt"), *photos.glob("*.json")):
        caption.unlink()
    with pytest.raises(DataError, match=r"23 pictures without captions; put a caption for 00\.jpg into 00\.txt"):
        pack(photos, tmp_path / "out")


def test_large_pictures_can_be_made_smaller(photos, tmp_path):
    pack(photos, tmp_path / "out", short_side=15)
    assert open_pairs(tmp_path / "out").read(0)[0].size == (20, 15)
    pack(photos, tmp_path / "same", short_side=30)
    with tarfile.open(tmp_path / "same" / "000000.tar") as tar:
        assert tar.extractfile("000000000.jpg").read() == (photos / "00.jpg").read_bytes()


def test_a_list_can_be_packed_and_progress_is_told(photos, tmp_path):
    (tmp_path / "list.csv").write_text("image,caption\n" + "".join(f"{at:02d}.jpg,text {at}\n" for at in range(8)))
    told = []
    pack(tmp_path / "list.csv", tmp_path / "out", images=photos, shard_size=3, progress=lambda *at: told.append(at))
    assert told == [(3, 8), (6, 8), (8, 8)]
    assert tuple(open_pairs(tmp_path / "out").read(7)[1]) == ("text 7",)


def test_a_finished_pack_is_not_done_again(photos, tmp_path):
    manifest = pack(photos, tmp_path / "out", shard_size=10)
    written = (tmp_path / "out" / "000000.tar").stat().st_mtime_ns
    assert pack(photos, tmp_path / "out", shard_size=10) == manifest
    assert (tmp_path / "out" / "000000.tar").stat().st_mtime_ns == written


def test_other_shards_are_never_overwritten(photos, tmp_path):
    pack(photos, tmp_path / "out", shard_size=10)
    with pytest.raises(OutputError, match="another source or with other settings"):
        pack(photos, tmp_path / "out", shard_size=5)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.tar").touch()
    with pytest.raises(OutputError, match=r"shards that no manifest\.json describes"):
        pack(photos, tmp_path / "mine")


def test_shards_cannot_be_packed(photos, tmp_path):
    pack(photos, tmp_path / "out")
    with pytest.raises(DataError, match="in shards or on the hub already"):
        pack(tmp_path / "out", tmp_path / "again")


SLOW_PACK = """
import sys, time
from lexiseg.data.pairs import pack as module
make = module._Packing._make
def slow(self, index):
    time.sleep(0.01)
    return make(self, index)
module._Packing._make = slow
module.pack(sys.argv[1], sys.argv[2], shard_size=3)
"""


@pytest.mark.parametrize("shards_before", [0, 1, 4])
def test_a_killed_pack_goes_on_and_ends_with_the_same_bytes(photos, tmp_path, shards_before):
    pack(photos, tmp_path / "whole", shard_size=3)
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", SLOW_PACK, str(photos), str(out)])
    try:
        while not out.is_dir() or len(list(out.glob("*.tar"))) <= shards_before:  # one is being written
            time.sleep(0.005)
            assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (out / MANIFEST).exists()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("0*.tar")}
    pack(photos, out, shard_size=3)
    assert contents(out) == contents(tmp_path / "whole")
    # at most the last one was written without being recorded
    assert sum(path.stat().st_mtime_ns == stamp for path, stamp in kept.items()) >= shards_before - 1
