from __future__ import annotations

import hashlib

import numpy as np
import pytest

from lexiseg.data.storage.pixels import file_hash, keep_pixels
from lexiseg.errors import OutputError

ARRAYS = [np.arange(12, dtype=np.uint8).reshape(3, 4), np.full((2, 2, 3), 7, np.uint8)[:, ::-1]]


@pytest.mark.parametrize("kept", [False, True])
def test_arrays_lie_end_to_end(tmp_path, kept):
    pixels = keep_pixels(24, lambda: ARRAYS, tmp_path / "pixels.bin" if kept else None)
    assert pixels.tolist() == [*range(12), *[7] * 12]


def test_a_kept_file_is_not_made_again(tmp_path):
    keep_pixels(24, lambda: ARRAYS, tmp_path / "pixels.bin")
    assert keep_pixels(24, lambda: pytest.fail("made again"), tmp_path / "pixels.bin")[5] == 5


def test_a_crash_leaves_no_half_of_a_file(tmp_path):
    def crash():
        yield ARRAYS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep_pixels(24, crash, tmp_path / "pixels.bin")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        keep_pixels(24, lambda: ARRAYS, tmp_path / "file" / "pixels.bin")


def test_files_are_hashed_by_content(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_hash(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
