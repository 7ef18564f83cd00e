"""Transparency, frames and colours of pictures, and that every decision is said."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from lexiseg.data.photographs import Content, Photograph

RNG = np.random.default_rng(0)
SCENE = RNG.integers(0, 256, (12, 10, 3)).astype(np.uint8)
ALPHA = np.full(SCENE.shape[:2], 255, np.uint8)
ALPHA[:3], ALPHA[3:5] = 0, 128
ON_WHITE = np.round(SCENE * (ALPHA / 255)[..., None] + 255 * (1 - (ALPHA / 255)[..., None]))


def saved(picture: Image.Image, form: str, **how: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **how)
    return buffer.getvalue()


def of(source: object) -> Content:
    return Photograph.open(source).content()


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "array", "picture", "float array", "wide array"])
def test_fully_transparent_pixels_are_not_there_and_others_lie_on_white(form: str) -> None:
    rgba = np.dstack([SCENE, ALPHA])
    sources = {
        "array": rgba,
        "picture": Image.fromarray(rgba),
        "float array": rgba / 255,
        "wide array": rgba.astype(np.uint16),
    }
    how = {"lossless": True, "exact": True} if form == "WEBP" else {}
    content = of(sources[form] if form in sources else saved(Image.fromarray(rgba), form, **how))
    assert np.array_equal(content.valid, ALPHA > 0)
    assert np.abs(content.rgb - ON_WHITE).max() <= 1
    notes = ("its fully transparent pixels stay unlabelled", "its partly transparent pixels are seen on white")
    assert content.notes[-2:] == notes


def test_an_opaque_alpha_changes_nothing_and_needs_no_note() -> None:
    content = of(np.dstack([SCENE, np.full_like(ALPHA, 255)]))
    assert content.valid is None
    assert content.notes == ()
    assert np.array_equal(content.rgb, SCENE)


def test_a_picture_that_is_all_transparent_says_so() -> None:
    content = of(np.zeros((2, 2, 4), np.uint8))
    assert not content.valid.any()
    assert content.notes == ("every pixel is fully transparent, so none is labelled",)


def test_grey_with_alpha_and_palettes_with_a_transparent_colour() -> None:
    grey = Image.fromarray(np.dstack([SCENE[..., 0], ALPHA]))
    assert grey.mode == "LA"
    assert np.array_equal(of(saved(grey, "PNG")).valid, ALPHA > 0)
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    assert of(saved(palette, "PNG", transparency=1)).valid.tolist() == [[True, False]]


def test_transparency_is_turned_with_the_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = of(saved(Image.fromarray(np.dstack([SCENE, ALPHA])), "PNG", exif=exif))
    assert np.array_equal(content.valid, np.rot90(ALPHA > 0, -1))
    assert content.rgb.shape[:2] == content.valid.shape


def test_pixels_without_a_number_are_not_there() -> None:
    picture = np.full((2, 2), 0.5)
    picture[0] = (0, np.nan)
    picture[1, 1] = 1
    content = of(picture)
    assert content.valid.tolist() == [[True, False], [True, True]]
    assert content.notes == ("its pixels without a number (NaN or infinite) stay unlabelled",)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_is_used_and_that_is_said(form: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    content = of(saved(frames[0], form, save_all=True, append_images=frames[1:]))
    assert max(content.rgb[0, 0].tolist()[1:]) <= 2
    assert content.notes == ("it has several frames or pages; the first is used",)
    assert of(saved(frames[0], form)).notes == ()


def test_damage_behind_the_first_frame_does_not_matter() -> None:
    frames = [Image.fromarray(RNG.integers(0, 256, (40, 40), np.uint8)) for _ in range(3)]
    whole = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(of(whole[: len(whole) * 2 // 3]).rgb, of(whole).rgb)


def test_smaller_copies_in_a_tiff_are_not_pages(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(SCENE, photometric="rgb")
        file.write(SCENE[::2, ::2], photometric="rgb", subfiletype=1)
    assert of(tmp_path / "a.tif").notes == ()


def test_the_second_picture_in_a_phones_jpeg_is_not_a_frame() -> None:
    picture = Image.fromarray(SCENE)
    assert of(saved(picture, "MPO", save_all=True, append_images=[picture])).notes == ()
