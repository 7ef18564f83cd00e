"""A file of weights is read whatever its format, runs no code, and any other file is called what it is."""

from __future__ import annotations

import argparse
import gzip
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import openai_files
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from lexiseg.encoders.checkpoints import kind_of, load_pickle, load_safe, read_file
from lexiseg.errors import WeightsError

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2)}


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, kind)
    return file.getvalue()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "nothing")
    return file.getvalue()


OTHERS = {
    "a JPEG picture": picture("JPEG"),
    "a PNG picture": picture("PNG"),
    "a GIF picture": picture("GIF"),
    "a TIFF picture": picture("TIFF"),
    "a PDF document": b"%PDF-1.7 ...",
    "a gzip archive": gzip.compress(b"weights"),
    "a zip archive": zipped(),
    "a pointer of Git LFS": b"version https://git-lfs.github.com/v1\noid sha256:0\nsize 3\n",
    "a web page": b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>",
    "a text file": "das hübsche Gewicht".encode(),
    "an empty file": b"",
    "a file of an unknown kind": bytes(range(1, 250)),
}


@pytest.mark.parametrize("zip_", [True, False])
def test_the_three_formats_are_told_apart_and_read(tmp_path: Path, zip_: bool) -> None:
    save_file(TENSORS, tmp_path / "a.bin")  # the name says nothing
    torch.save(TENSORS, tmp_path / "b", _use_new_zipfile_serialization=zip_)
    assert torch.equal(read_file(tmp_path / "a.bin")["a"], TENSORS["a"])
    openai_files.write_archive({"a": TENSORS["a"], "logit_scale": torch.ones(())}, tmp_path / "c")
    assert torch.equal(read_file(tmp_path / "b", allow_pickle=True)["a"], TENSORS["a"])
    assert torch.equal(read_file(tmp_path / "c")["a"], TENSORS["a"].half())
    with pytest.raises(WeightsError, match=r"b is a pickle, which can run code; allow pickles .*allow_pickle=True"):
        read_file(tmp_path / "b")


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("allow_pickle", [False, True])
def test_another_file_is_called_what_it_is_and_never_a_pickle(tmp_path: Path, kind: str, allow_pickle: bool) -> None:
    (tmp_path / "file.pth").write_bytes(OTHERS[kind])
    assert kind_of(tmp_path / "file.pth").startswith(kind)
    with pytest.raises(WeightsError, match=rf"file\.pth is {kind}.* not weights; give a \.safetensors") as caught:
        read_file(tmp_path / "file.pth", allow_pickle=allow_pickle)
    assert "allow" not in str(caught.value)


def test_a_file_in_the_place_of_weights_is_called_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(OTHERS["a pointer of Git LFS"])
    for read in (load_safe, load_pickle):
        with pytest.raises(WeightsError, match=r"a pointer of Git LFS.*git lfs pull"):
            read(tmp_path / "model.safetensors")


def test_a_file_that_is_not_there_or_a_folder_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(WeightsError, match="cannot be read"):
            read_file(path)


def test_a_training_checkpoint_s_state_dict_is_found(tmp_path: Path) -> None:
    torch.save({"state_dict": TENSORS, "step": 3}, tmp_path / "run.pt")
    assert load_pickle(tmp_path / "run.pt").keys() == TENSORS.keys()
    torch.save({"model": TENSORS, "epoch": 3}, tmp_path / "other.pth")  # as GroupViT's authors do
    assert load_pickle(tmp_path / "other.pth").keys() == TENSORS.keys()
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(WeightsError, match="holds list"):
        load_pickle(tmp_path / "list.pt")


@pytest.mark.parametrize("zip_", [True, False])
def test_a_trainer_may_write_its_version_of_torch_beside_the_weights(tmp_path: Path, zip_: bool) -> None:
    """As SimSeg's does."""
    content = {"state_dict": TENSORS, "torch_version": torch.__version__, "epoch": 30}
    assert type(content["torch_version"]) is not str
    torch.save(content, tmp_path / "run.pth", _use_new_zipfile_serialization=zip_)
    assert torch.equal(load_pickle(tmp_path / "run.pth")["a"], TENSORS["a"])


@pytest.mark.parametrize(
    ("value", "name"),
    [(argparse.Namespace(a=1), "argparse.Namespace"), (np.float64(1), "scalar"), (torch.nn.Linear(1, 1), "Linear")],
)
@pytest.mark.parametrize("zip_", [True, False])
def test_a_type_that_is_not_read_is_named_in_one_plain_line(tmp_path: Path, value: Any, name: str, zip_: bool) -> None:
    torch.save({"state_dict": TENSORS, "more": value}, tmp_path / "run.pth", _use_new_zipfile_serialization=zip_)
    with pytest.raises(WeightsError, match=rf"an object of the type [\w.]*{name} .*save its state dict") as caught:
        load_pickle(tmp_path / "run.pth")
    assert str(caught.value).isprintable()
    assert "download" not in str(caught.value)


@pytest.mark.parametrize("zip_", [True, False])
def test_a_pickle_that_was_cut_off_is_damaged(tmp_path: Path, zip_: bool) -> None:
    torch.save(TENSORS, tmp_path / "run.pth", _use_new_zipfile_serialization=zip_)
    (tmp_path / "run.pth").write_bytes((tmp_path / "run.pth").read_bytes()[:-40])
    with pytest.raises(WeightsError, match=r"run\.pth is damaged .*again") as caught:
        load_pickle(tmp_path / "run.pth")
    assert str(caught.value).isprintable()
