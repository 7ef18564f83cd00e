"""Every kind of photograph is read, every kind of broken one is an `ImageError` that names it."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lexiseg.data import photographs as images
from lexiseg.data.photographs import Photograph
from lexiseg.errors import ImageError, SettingError

RNG = np.random.default_rng(0)
SCENE = np.kron(RNG.integers(0, 256, (6, 5, 3)), np.ones((8, 8, 1))).astype(np.uint8)  # [48, 40, 3]


def saved(folder: Path, name: str, image: Image.Image, **how: object) -> Path:
    path = folder / name
    image.save(path, **how)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_lossless_formats_give_the_pixels_that_were_saved(tmp_path, suffix):
    how = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path, f"a.{suffix}", Image.fromarray(SCENE), **how)
    assert np.array_equal(images.read(path), SCENE)


def test_jpeg_and_gif_are_close(tmp_path):
    jpeg = images.read(saved(tmp_path, "a.jpg", Image.fromarray(SCENE), quality=95, subsampling=0))
    assert np.abs(jpeg.astype(int) - SCENE).mean() < 4
    gif = images.read(saved(tmp_path, "a.gif", Image.fromarray(SCENE).quantize(64)))
    assert np.abs(gif.astype(int) - SCENE).mean() < 8


def test_a_picture_is_the_same_however_it_is_handed_over(tmp_path):
    path = saved(tmp_path, "a.png", Image.fromarray(SCENE))
    data = path.read_bytes()
    for source in (path, str(path), data, io.BytesIO(data), Image.fromarray(SCENE), SCENE, Photograph.open(path)):
        assert np.array_equal(images.read(source), SCENE)
    with path.open("rb") as file:
        assert np.array_equal(images.read(file), SCENE)


def test_pixels_may_be_written_so_that_torch_does_not_warn(tmp_path):
    frozen = SCENE.copy()
    frozen.flags.writeable = False
    for source in (frozen, SCENE[::-1], Image.fromarray(SCENE)):
        pixels = images.read(source)
        assert pixels.flags.writeable
        assert pixels.flags.c_contiguous


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_exif_orientation_is_applied_to_size_and_pixels(tmp_path, orientation, suffix):
    # EXIF 2.3, table of orientations, as what was done to an upright array
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    stored = Image.fromarray(np.ascontiguousarray(undo[orientation](SCENE)))
    exif = stored.getexif()
    exif[0x0112] = orientation
    how = {"jpg": {"quality": 95, "subsampling": 0}, "webp": {"lossless": True}}.get(suffix, {})
    photo = Photograph.open(saved(tmp_path, f"a.{suffix}", stored, exif=exif, **how))
    pixels = photo.pixels()
    assert photo.size == SCENE.shape[:2] == pixels.shape[:2]
    assert np.abs(pixels.astype(int) - SCENE).mean() < 4


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_stop_the_picture(tmp_path):
    path = saved(tmp_path, "a.jpg", Image.fromarray(SCENE), exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff garbage")
    assert images.read(path).shape == SCENE.shape


def test_cmyk_palette_and_grey_become_rgb(tmp_path):
    grey = Image.fromarray(SCENE).convert("L")
    assert np.array_equal(images.read(saved(tmp_path, "g.png", grey)), np.repeat(np.asarray(grey)[..., None], 3, 2))
    bit = grey.convert("1")
    assert set(np.unique(images.read(saved(tmp_path, "b.png", bit)))) <= {0, 255}
    palette = Image.fromarray(SCENE).quantize(30)
    expected = np.asarray(palette.convert("RGB"))
    assert np.array_equal(images.read(saved(tmp_path, "p.png", palette)), expected)
    cmyk = images.read(saved(tmp_path, "c.jpg", Image.fromarray(SCENE).convert("CMYK"), quality=100))
    assert np.abs(cmyk.astype(int) - SCENE).mean() < 8


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    deep = np.linspace(0, 65_535, 48 * 40).round().astype(np.uint16).reshape(48, 40)
    expected = np.round(deep / 257).astype(np.uint8)
    for name in ("d.png", "d.tif"):
        pixels = images.read(saved(tmp_path, name, Image.fromarray(deep)))
        assert np.array_equal(pixels, np.repeat(expected[..., None], 3, 2))
    assert np.array_equal(images.read(deep)[..., 0], expected)
    assert np.array_equal(images.read(np.repeat(deep[..., None], 3, 2))[..., 1], expected)


def test_sixteen_bit_rgb_png_keeps_its_range(tmp_path):
    deep = RNG.integers(0, 65_536, (4, 3, 3)).astype(">u2")
    rows = b"".join(b"\x00" + row.tobytes() for row in deep)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 3, 4, 16, 2, 0, 0, 0)
    path = tmp_path / "rgb16.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    assert np.abs(images.read(path).astype(float) - deep / 257).max() <= 1


def test_transparency_lies_on_white(tmp_path):
    rgba = np.dstack([SCENE, np.zeros(SCENE.shape[:2], np.uint8)])
    rgba[:24, :, 3] = 255
    for pixels in (images.read(rgba), images.read(saved(tmp_path, "a.png", Image.fromarray(rgba)))):
        assert np.array_equal(pixels[:24], SCENE[:24])
        assert (pixels[24:] == 255).all()
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    pixels = images.read(saved(tmp_path, "t.png", palette, transparency=1))
    assert pixels.tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for suffix in ("gif", "png", "webp"):
        how = {"lossless": True} if suffix == "webp" else {}
        path = saved(tmp_path, f"a.{suffix}", frames[0], save_all=True, append_images=frames[1:], **how)
        assert images.read(path)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_thin_pictures_are_read(tmp_path, size):
    path = saved(tmp_path, "a.png", Image.new("RGB", size, "teal"))
    assert images.read(path).shape == (size[1], size[0], 3)


def test_a_large_jpeg_comes_small_but_never_smaller_than_asked(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, "a.jpg", Image.fromarray(np.kron(SCENE, np.ones((20, 20, 1))).astype(np.uint8)), exif=exif)
    photo = Photograph.open(path)
    assert photo.size == (800, 960)
    small = photo.pixels(at_least=(100, 130))
    assert small.shape[0] >= 100
    assert small.shape[1] >= 130
    assert small.shape == (200, 240, 3)  # a quarter: an eighth would be 100 x 120
    assert photo.pixels(at_least=(799, 960)).shape == (800, 960, 3)


def broken_files(folder: Path) -> dict[str, Path]:
    whole = {
        "jpg": saved(folder, "whole.jpg", Image.fromarray(RNG.integers(0, 256, (60, 60, 3), np.uint8))),
        "png": saved(folder, "whole.png", Image.fromarray(RNG.integers(0, 256, (60, 60, 3), np.uint8))),
        "tif": saved(folder, "whole.tif", Image.fromarray(SCENE)),
        "webp": saved(folder, "whole.webp", Image.fromarray(SCENE)),
        "gif": saved(folder, "whole.gif", Image.fromarray(SCENE)),
        "bmp": saved(folder, "whole.bmp", Image.fromarray(SCENE)),
    }
    broken = {}
    for suffix, path in whole.items():
        data = path.read_bytes()
        for part, keep in (("half", len(data) // 2), ("header", 20)):
            broken[f"{part} {suffix}"] = folder / f"{part}.{suffix}"
            broken[f"{part} {suffix}"].write_bytes(data[:keep])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("this is no photograph")
    (folder / "noise.png").write_bytes(b"\x89PNG\r\n\x1a\n" + RNG.bytes(400))
    (folder / "page.png").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    names = ("empty.jpg", "text.jpg", "noise.png", "page.png", "missing.jpg")
    return broken | {name: folder / name for name in names}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_every_broken_file_is_an_image_error_that_names_it(tmp_path):
    for what, path in broken_files(tmp_path).items():
        with pytest.raises(ImageError) as caught:
            images.read(path)
        assert str(path) in str(caught.value), what
        assert "\n" not in str(caught.value), what


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("empty.jpg", "empty"),
        ("text.jpg", "not a photograph"),
        ("half.jpg", "cut|truncated"),
        ("missing.jpg", "there is no"),
        ("", "is a folder"),
    ],
)
def test_the_message_says_what_is_wrong(tmp_path, name, says):
    broken_files(tmp_path)
    with pytest.raises(ImageError, match=says):
        images.read(tmp_path / name)


def test_a_file_that_may_not_be_read_is_an_image_error(tmp_path, monkeypatch):
    path = saved(tmp_path, "a.png", Image.fromarray(SCENE))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match="Permission denied"):
        images.read(path)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / "bomb.png"
    Image.new("1", (30_000, 30_000)).save(path)
    assert path.stat().st_size < 200_000

    def explode(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", explode)
    with pytest.raises(ImageError, match="900,000,000 pixels, more than the limit of 100,000,000"):
        Photograph.open(path)
    assert Photograph.open(path, max_pixels=10**9).size == (30_000, 30_000)


def test_the_limit_holds_for_every_source(tmp_path):
    path = saved(tmp_path, "a.png", Image.fromarray(SCENE))
    pixels = SCENE.shape[0] * SCENE.shape[1]
    for source in (path, path.read_bytes(), Image.fromarray(SCENE), SCENE):
        assert Photograph.open(source, max_pixels=pixels).size == SCENE.shape[:2]
        with pytest.raises(ImageError, match="limit"):
            Photograph.open(source, max_pixels=pixels - 1)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((4, 4), bool), "bool, not whole numbers or fractions"),
        (np.zeros((4, 4), complex), "complex128, not whole numbers"),
        (np.array([["a"]]), "not whole numbers"),
        (np.zeros((3, 40, 40), np.uint8), "channels last"),
        (np.zeros((4, 4, 2), np.uint8), r"\[4, 4, 2\]"),
        (np.zeros(4, np.uint8), r"\[4\]"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
    ],
)
def test_an_array_that_is_no_picture_is_refused(array, says):
    with pytest.raises(ImageError, match=says):
        images.read(array)


@pytest.mark.parametrize("limit", [0, -1, float("nan"), -float("inf")])
def test_a_limit_below_one_pixel_is_refused(limit):
    with pytest.raises(SettingError, match=r"max_pixels must be 1 or more, got"):
        Photograph.open(SCENE, max_pixels=limit)


@pytest.mark.parametrize("url", ["https://example.com/a.jpg", "s3://bucket/a.jpg", "file:///a.jpg", "HTTP://x/y"])
def test_a_url_is_not_a_missing_file(url):
    for source in (url, Path(url)):
        with pytest.raises(ImageError, match="is a URL, and lexiseg reads local files; download it first"):
            images.read(source)


@pytest.mark.parametrize("name", ["a" * 5000 + ".jpg", "a\0b.jpg"])
def test_a_name_that_no_file_can_have_is_an_image_error(name):
    with pytest.raises(ImageError, match="cannot read"):
        images.read(name)


def test_a_picture_may_stay_as_it_is_stored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, "a.png", Image.fromarray(SCENE), exif=exif)
    photo = Photograph.open(path, upright=False)
    assert photo.size == SCENE.shape[:2]
    assert np.array_equal(photo.pixels(), SCENE)


def test_bytes_can_be_given_a_name():
    with pytest.raises(ImageError, match="shard:7 is empty"):
        Photograph.open(b"", name="shard:7")


@pytest.mark.parametrize("source", [None, 3, io.StringIO("text")])
def test_what_is_no_image_at_all_is_refused(source):
    with pytest.raises(ImageError):
        images.read(source)
