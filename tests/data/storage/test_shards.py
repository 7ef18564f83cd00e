from __future__ import annotations

import tarfile

import pytest
from tars import write

from lexiseg.data.storage.shards import CAPTION, IMAGE, Shard, find_shards, parse_object
from lexiseg.errors import BadSample, DataError

SAMPLES = [(f"{i:03d}.{kind}", f"{kind} {i}".encode() * (i + 1)) for i in range(5) for kind in ("jpg", "txt")]


def test_members_that_share_a_name_are_one_sample(tmp_path):
    members = [("a/b.c.jpg", b"1"), ("a/b.txt", b"2"), ("x.PNG", b"3"), ("x.json", b"{}"), ("y.txt", b"4")]
    shard = Shard(write(tmp_path / "s.tar", members), (IMAGE, CAPTION))
    assert shard.keys[:] == ["a/b", "x", "y"]
    assert shard.read(0, 0) is None  # its picture is called c.jpg, which is another field
    assert shard.read(0, 1) == (b"2", "txt")
    assert shard.read(1, 0) == (b"3", "png")
    assert shard.read(1, 1) == (b"{}", "json")
    assert shard.read(2, 0) is None
    assert shard.key(2) == "s/y"
    assert not shard.cut


def test_the_first_extension_of_a_field_wins(tmp_path):
    shard = Shard(write(tmp_path / "s.tar", [("a.json", b"{}"), ("a.txt", b"text")]), (CAPTION,))
    assert shard.read(0, 0) == (b"text", "txt")


def test_contents_are_those_that_tarfile_reads(tmp_path):
    path = write(tmp_path / "s.tar", SAMPLES)
    shard = Shard(path, (IMAGE, CAPTION))
    with tarfile.open(path) as tar:
        for at, key in enumerate(shard.keys):
            assert shard.read(at, 0)[0] == tar.extractfile(f"{key}.jpg").read()
            assert shard.read(at, 1)[0] == tar.extractfile(f"{key}.txt").read()


def test_a_shard_cut_anywhere_keeps_the_members_before_the_cut(tmp_path):
    path = write(tmp_path / "whole.tar", SAMPLES)
    whole, size = Shard(path, (IMAGE, CAPTION)), path.stat().st_size
    with tarfile.open(path) as tar:
        ends = [member.offset_data + member.size for member in tar]
    for length in [0, 1, 511, 512, 513, *(end + more for end in ends for more in (-1, 0, 600)), size - 1]:
        cut = tmp_path / "cut.tar"
        cut.write_bytes(path.read_bytes()[:length])
        shard = Shard(cut, (IMAGE, CAPTION))
        kept = sum(end <= length for end in ends)
        assert [shard.read(at, field) for at in range(len(shard)) for field in (0, 1)][:kept] == [
            whole.read(at, field) for at in range(5) for field in (0, 1)
        ][:kept]
        assert len(shard) == -(-kept // 2)
        assert shard.cut == (length < ends[-1] or any(cut.read_bytes()[-1024:]))


def test_a_file_that_is_no_tar_is_cut_and_empty(tmp_path):
    (tmp_path / "s.tar").write_bytes(b"not a tar file" * 100)
    shard = Shard(tmp_path / "s.tar", (IMAGE,))
    assert shard.cut
    assert len(shard) == 0
    with pytest.raises(DataError, match="ends early"):
        shard.check_whole()


def test_a_missing_field_can_be_an_error(tmp_path):
    shard = Shard(write(tmp_path / "s.tar", [("a.txt", b"")]), (IMAGE, CAPTION))
    assert shard.need(0, 1) == b""
    with pytest.raises(DataError, match="has no jpg or jpeg or png or webp"):
        shard.need(0, 0)


def test_shards_are_found_in_folders_and_by_patterns(tmp_path):
    for name in ("b-1.tar", "a-0.tar", "a-1.tar", "note.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in find_shards(tmp_path)] == ["a-0.tar", "a-1.tar", "b-1.tar"]
    assert [path.name for path in find_shards(tmp_path / "a-*.tar")] == ["a-0.tar", "a-1.tar"]
    with pytest.raises(DataError, match=r"holds no \.tar shards"):
        find_shards(tmp_path / "c-*.tar")


@pytest.mark.parametrize("data", [b"", b"[1]", b"{", b"\xff"])
def test_what_is_no_json_object_is_a_bad_sample(data):
    with pytest.raises(BadSample, match="broken json"):
        parse_object(data)
