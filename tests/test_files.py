"""Whatever happens while a file is written, the old one or the new one stands there, and nothing else."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path

import pytest

from lexiseg import files
from lexiseg.errors import DataError, OutputError


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_text_and_bytes_arrive_as_they_are(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.txt", "Straße\n")
    files.write_bytes(tmp_path / "b", b"\x00\xff")
    assert (tmp_path / "a.txt").read_bytes() == "Straße\n".encode()
    assert (tmp_path / "b").read_bytes() == b"\x00\xff"


def test_missing_folders_are_made(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a" / "b" / "c.txt", "x")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "x"


def test_the_temporary_file_lies_beside_the_target_with_its_suffix(tmp_path: Path) -> None:
    with files.atomic(tmp_path / "map.png") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"new")
        assert not (tmp_path / "map.png").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["map.png"]


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_a_crash_while_writing_leaves_the_old_file_and_no_litter(tmp_path: Path, stop: type[BaseException]) -> None:
    def crash(temporary: Path) -> None:
        temporary.write_text("half of the n")
        raise stop

    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(stop), files.atomic(path) as temporary:
        crash(temporary)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("place", ["write_bytes", "fsync"])
def test_a_full_disk_is_an_output_error_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    monkeypatch.setattr(*((Path, "write_bytes") if place == "write_bytes" else (files.os, "fsync")), full_disk)
    with pytest.raises(OutputError, match=r"cannot write .*a\.txt: No space left on device"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that refuses new files, as /proc does")
def test_a_folder_that_takes_no_files_is_an_output_error() -> None:
    with pytest.raises(OutputError, match=r"cannot write /proc/a\.txt"):
        files.write_text("/proc/a.txt", "x")


def test_bytes_of_a_files_name_that_are_not_utf8_come_back_from_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    files.write_text(tmp_path / "a.json", json.dumps({"photo": name, "word": "猫 🐈"}, ensure_ascii=False))
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"photo": name, "word": "猫 🐈"}
    assert files.digest({"photo": name}) != files.digest({"photo": "caf"})


def test_a_path_below_a_file_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        files.write_text(tmp_path / "file" / "a.txt", "x")


def test_a_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="directory"):
        files.write_text(tmp_path / "folder", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_a_path_without_a_file_name_is_an_output_error(path: str) -> None:
    with pytest.raises(OutputError, match="not the name of a file"):
        files.write_text(path, "x")


@pytest.mark.parametrize("stem", ["x" * 251, "日" * 83])  # 255 bytes with the suffix
def test_names_as_long_as_the_file_system_takes_are_written(tmp_path: Path, stem: str) -> None:
    files.write_text(tmp_path / f"{stem}.txt", "x")
    assert (tmp_path / f"{stem}.txt").read_text() == "x"


def test_two_writers_leave_one_whole_file_and_readers_see_nothing_else(tmp_path: Path) -> None:
    path, contents = tmp_path / "a", [bytes([letter]) * 200_000 for letter in b"ab"]
    files.write_bytes(path, contents[0])
    writers = [
        threading.Thread(target=lambda data=data: [files.write_bytes(path, data) for _ in range(20)])
        for data in contents
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["https://example.com/a", "s3://bucket/a", Path("https://example.com/a")])
def test_a_url_is_not_a_local_path(text: str | Path) -> None:
    said = r"^(https://example.com|s3://bucket)/a is a URL, and lexiseg reads local files; download it first"
    with pytest.raises(DataError, match=said):
        files.local(text, DataError)


@pytest.mark.parametrize("text", ["a.jpg", "/a/b.jpg", "C:/a.jpg", "a:b", "~/x", "x" * 5000])
def test_any_other_path_is_local(text: str) -> None:
    assert files.local(text, DataError) == Path(text)


def test_a_folder_that_looks_like_a_url_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set:").mkdir()
    (tmp_path / "set:" / "a").touch()
    assert files.local("set:/a", DataError) == Path("set:/a")
