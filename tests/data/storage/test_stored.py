from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from lexiseg.data.storage.stored import TarMember, members, read
from lexiseg.errors import DataError

FILES = {"a.jpg": b"one", "folder/b.png": b"x" * 2000, "empty.txt": b""}


def pack(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_members_are_read_where_they_lie(tmp_path: Path) -> None:
    tar = pack(tmp_path / "a.tar", FILES)
    assert {member.name: read(member) for member in members(tar)} == FILES


def test_a_leading_dot_is_no_part_of_a_name(tmp_path: Path) -> None:
    tar = pack(tmp_path / "a.tar", {"./a.jpg": b"one"})
    assert [member.name for member in members(tar)] == ["a.jpg"]


def test_a_tar_cut_anywhere_is_an_error(tmp_path: Path) -> None:
    content = pack(tmp_path / "a.tar", FILES).read_bytes()
    whole = 512 + 512 + 512 + 2048 + 512  # headers and padded contents, before the zeros that end a tar
    for length in [*range(1, whole, 97), 1024, 1536, whole]:
        (tmp_path / "cut.tar").write_bytes(content[:length])
        with pytest.raises(DataError, match=r"cut\.tar is not a whole"):
            list(members(tmp_path / "cut.tar"))


def test_a_compressed_tar_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="uncompressed"):
        list(members(pack(tmp_path / "a.tar", FILES, "w:gz")))


def test_a_file_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    for file in (tmp_path / "absent.jpg", TarMember(tmp_path / "absent.tar", "a.jpg", 0, 3)):
        with pytest.raises(DataError, match="absent"):
            read(file)


def test_a_member_that_ends_early_is_an_error(tmp_path: Path) -> None:
    tar = pack(tmp_path / "a.tar", {"a.jpg": b"one"})
    with pytest.raises(DataError, match=r"a\.tar:a\.jpg ends after"):
        read(TarMember(tar, "a.jpg", 512, 1_000_000))
