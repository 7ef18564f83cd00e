"""Batches are cut and named whatever they hold."""

from __future__ import annotations

import pytest
import torch

from lexiseg.errors import DataError
from lexiseg.training import batches


def test_pieces_laid_end_to_end_are_the_batch():
    batch = {"images": torch.arange(14).view(7, 2), "texts": list("abcdefg")}
    pieces = batches.split(batch, 3)
    assert [batches.size(piece) for piece in pieces] == [3, 3, 1]
    assert torch.equal(torch.cat([piece["images"] for piece in pieces]), batch["images"])
    assert [text for piece in pieces for text in piece["texts"]] == batch["texts"]


def test_values_of_different_length_are_refused_by_name():
    with pytest.raises(DataError, match="'texts': 3"):
        batches.size({"images": torch.zeros(2, 3), "texts": ["a", "b", "c"]})


def test_keys_are_named_up_to_a_limit():
    assert batches.keys({"keys": ["a", "b", "c"]}, most=2) == "a, b and 1 more"
    assert batches.keys({"images": torch.zeros(1)}) == "samples without keys"


def test_moving_leaves_lists_alone():
    moved = batches.move({"images": torch.zeros(2), "texts": ["a", "b"]}, torch.device("meta"))
    assert moved["images"].device.type == "meta"
    assert moved["texts"] == ["a", "b"]
