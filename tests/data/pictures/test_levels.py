"""Samples of any depth as 8 bits: the rule, and that it says what it did."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lexiseg.data.pictures.levels import eight_bits

RAMP = np.arange(256)


@given(arrays(np.uint16, (3, 4)))
def test_a_full_16_bit_range_is_divided_by_257_and_rounded(samples: np.ndarray) -> None:
    samples = np.append(samples.ravel(), [0, 65_535]).astype(np.uint16)
    levels, note = eight_bits(samples)
    assert np.array_equal(levels, np.round(samples / 257).astype(np.uint8))
    assert note == ""


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.int32, np.int64, np.float32, np.float64, ">u2", ">i4"])
def test_bytes_in_a_wider_type_are_the_bytes(dtype: str) -> None:
    levels, note = eight_bits(RAMP.astype(dtype))
    assert levels.tolist() == RAMP.tolist()
    assert "255, which is seen as white" in note


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_a_cameras_bits_fill_the_range(bits: int, dtype: type) -> None:
    samples = np.linspace(0, 2**bits - 1, 500).round().astype(dtype)
    levels, note = eight_bits(samples)
    assert np.array_equal(levels, np.round(samples / (2**bits - 1) * 255))
    assert f"{2**bits - 1:,}" in note


def test_fractions_from_0_to_1_need_no_note() -> None:
    levels, note = eight_bits(np.array([0, 0.5, 1.0]))
    assert levels.tolist() == [0, 128, 255]
    assert note == ""


def test_the_files_white_comes_first_unless_a_sample_exceeds_it() -> None:
    samples = np.array([0, 500, 1000], np.uint16)
    levels, note = eight_bits(samples, stated=4095)
    assert levels.tolist() == [0, 31, 62]
    assert note == "4,095 is seen as white, as the file says"
    levels, note = eight_bits(np.array([0, 5000], np.uint16), stated=4095)
    assert levels.tolist() == [0, 78]  # of 14 bits
    assert "16,383" in note


@pytest.mark.parametrize(
    "samples",
    [
        np.array([28_000, 29_500, 31_000], np.uint16),  # a thermal camera, in hundredths of a kelvin
        np.array([-1000, 1000, 3000], np.int16),  # a CT scan
        np.array([0.010, 0.011, 0.012]),  # reflectances
        np.array([-2.0, 0.0, 2.0], np.float16),
        np.array([0, 2**40, 2**41]),
    ],
)
def test_samples_in_an_unusual_range_are_stretched(samples: np.ndarray) -> None:
    levels, note = eight_bits(samples)
    assert levels.tolist()[::2] == [0, 255]
    assert 126 <= levels[1] <= 129
    assert "the lowest is seen as black, the highest white" in note


@given(st.sampled_from([-5, 0, 7, 300]), st.sampled_from([np.int16, np.int32, np.float32]))
def test_one_value_everywhere_divides_by_nothing(value: int, dtype: type) -> None:
    levels, _ = eight_bits(np.full((2, 2), value, dtype))
    assert len(np.unique(levels)) == 1


def test_samples_that_are_not_finite_are_black_and_do_not_count() -> None:
    levels, note = eight_bits(np.array([np.nan, np.inf, -np.inf, 0, 0.2, 1]))
    assert levels.tolist() == [0, 0, 0, 0, 51, 255]
    assert note == ""
    assert eight_bits(np.array([np.nan]))[0].tolist() == [0]


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.arange(1000, dtype=np.int32).reshape(20, 50)
    whole, _ = eight_bits(samples)
    monkeypatch.setattr("lexiseg.data.pictures.levels.BLOCK", 7)
    assert np.array_equal(eight_bits(samples)[0], whole)
