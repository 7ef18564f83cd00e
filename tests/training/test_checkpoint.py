"""Checkpoints are whole or absent, and a damaged one is known as one."""

from __future__ import annotations

import logging
import resource

import pytest
import torch

from lexiseg.errors import CheckpointError
from lexiseg.training import checkpoint
from lexiseg.training.checkpoint import Checkpoint


def _checkpoint(step: int = 5, *, stage: int = 0, size: int = 10) -> Checkpoint:
    generator = torch.Generator().manual_seed(step)
    weights = {"a.weight": torch.randn(size, generator=generator), "count": torch.tensor(step)}
    return Checkpoint(stage, step, {"weights": weights, "optimiser": {}}, {"position": {"batch": step}})


def test_what_is_read_is_what_was_written(tmp_path):
    made = _checkpoint()
    read = checkpoint.read(checkpoint.write(tmp_path, made))
    assert (read.stage, read.step, read.state) == (0, 5, {"position": {"batch": 5}})
    torch.testing.assert_close(read.tensors["weights"], made.tensors["weights"], rtol=0, atol=0)
    assert read.tensors["optimiser"] == {}


def test_no_file_is_a_pickle(tmp_path):
    folder = checkpoint.write(tmp_path, _checkpoint())
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}


def test_the_newest_counts_stages_before_steps(tmp_path):
    for made in (_checkpoint(900), _checkpoint(1_000_000), _checkpoint(3, stage=1)):
        checkpoint.write(tmp_path, made)
    assert checkpoint.steps_saved(tmp_path) == [(0, 900), (0, 1_000_000), (1, 3)]
    newest = checkpoint.newest(tmp_path)
    assert (newest.stage, newest.step) == (1, 3)


def test_an_empty_or_missing_folder_has_none(tmp_path):
    assert checkpoint.newest(tmp_path) is None
    assert checkpoint.newest(tmp_path / "absent") is None


@pytest.mark.parametrize("file", ["weights.safetensors", "optimiser.safetensors", "state.json", "checksums.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "empty"])
def test_a_damaged_newest_one_is_named_and_passed_over(tmp_path, caplog, file, damage):
    checkpoint.write(tmp_path, _checkpoint(5))
    path = checkpoint.write(tmp_path, _checkpoint(6)) / file
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        path.write_bytes({"flipped": flipped, "cut": content[:-1], "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        assert checkpoint.newest(tmp_path).step == 5
    assert "stage-1-step-000006" in caplog.text
    assert checkpoint.steps_saved(tmp_path) == [(0, 5)]  # so that step 6 can be saved again


def test_all_damaged_is_an_error_that_names_them(tmp_path):
    for step in (5, 6):
        (checkpoint.write(tmp_path, _checkpoint(step)) / "state.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"step-000006.*step-000005"):
        checkpoint.newest(tmp_path)


def test_pruning_keeps_the_newest(tmp_path):
    for step in range(1, 6):
        checkpoint.write(tmp_path, _checkpoint(step))
        checkpoint.prune(tmp_path, 2)
    assert checkpoint.steps_saved(tmp_path) == [(0, 4), (0, 5)]
    assert len(list(tmp_path.iterdir())) == 2


def test_what_a_kill_left_unfinished_is_removed(tmp_path):
    checkpoint.write(tmp_path, _checkpoint(5))
    (tmp_path / ".unfinished-stage-1-step-000006-abcd").mkdir()
    assert checkpoint.newest(tmp_path).step == 5
    assert len(list(tmp_path.iterdir())) == 1


def test_a_write_that_fails_half_way_leaves_the_old_ones_and_nothing_else(tmp_path):
    checkpoint.write(tmp_path, _checkpoint(5))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # bytes: the file really is cut short
    try:
        with pytest.raises(CheckpointError, match=r"free space and resume.*step 5"):
            checkpoint.write(tmp_path, _checkpoint(6, size=1_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["stage-1-step-000005"]


def test_a_full_disk_is_called_that(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CheckpointError, match=r"the disk is full; free space and resume \(there is none yet\)"):
        checkpoint.write(tmp_path, _checkpoint())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    def fill(text):
        with checkpoint.atomic_folder(tmp_path / "model") as temporary:
            (temporary / "weights").write_text(text)
            if text == "broken":
                raise RuntimeError

    fill("first")
    with pytest.raises(RuntimeError):
        fill("broken")
    assert (tmp_path / "model" / "weights").read_text() == "first"
    fill("second")
    assert (tmp_path / "model" / "weights").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
