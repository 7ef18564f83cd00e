from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from hand_made import GREY, PALETTE, chunk, png
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw
from pycocotools import mask as coco
from scipy.io import savemat

from lexiseg.data.labelled.labels import AdeObjects, Drawn, MatLabelMap, MatSbd, Panoptic, Png, RedGreen
from lexiseg.errors import DataError


def png_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


@given(arrays(np.uint16, (3, 4)))
def test_sixteen_bit_png_ids_come_back(tmp_path_factory: pytest.TempPathFactory, ids: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("png") / "a.png"
    path.write_bytes(png_bytes(ids))
    assert np.array_equal(Png(path).ids(), ids)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_png_ids_are_places_in_the_palette(tmp_path: Path, bits: int) -> None:
    ids = np.arange(2**bits, dtype=np.uint8).reshape(2, -1)
    picture = Image.frombytes("P", (ids.shape[1], 2), ids.tobytes())
    picture.putpalette([3 * index % 256 for index in range(3 * 2**bits)])
    picture.save(tmp_path / "a.png", bits=bits)
    assert np.array_equal(Png(tmp_path / "a.png").ids(), ids)


@pytest.mark.parametrize("colour", [GREY, PALETTE])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_ids_are_the_stored_numbers_at_any_depth(tmp_path: Path, bits: int, colour: int) -> None:
    if (bits, colour) == (16, PALETTE):
        return  # PNG has no such thing
    ids = np.arange(min(2**bits, 300)).reshape(2, -1)
    colours = chunk(b"PLTE", bytes(range(3 * 2**bits % 256)) if bits < 8 else bytes(768)) if colour == PALETTE else b""
    (tmp_path / "a.png").write_bytes(png(ids, bits, colour, colours))
    found = Png(tmp_path / "a.png").ids()
    assert found.dtype == (np.uint16 if bits == 16 else np.uint8)
    assert np.array_equal(found, ids)


def test_a_chunk_about_depth_or_transparency_changes_no_id(tmp_path: Path) -> None:
    ids = np.array([[0, 3, 4000]])
    (tmp_path / "a.png").write_bytes(png(ids, 16, GREY, chunk(b"sBIT", b"\x0c") + chunk(b"tRNS", b"\x00\x03")))
    assert np.array_equal(Png(tmp_path / "a.png").ids(), ids)


@pytest.mark.parametrize("form", ["JPEG", "BMP", "TIFF", "GIF"])
def test_what_is_called_png_and_is_not_is_refused(tmp_path: Path, form: str) -> None:
    Image.new("L", (4, 4), 7).save(tmp_path / "a.png", form)
    with pytest.raises(
        DataError, match=rf"a\.png is a {form} file, whatever it is called; label maps must be saved as"
    ):
        Png(tmp_path / "a.png").ids()


def test_a_label_map_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(DataError, match="100000 x 100000 pixels"):
        Png(tmp_path / "a.png").ids()


def test_a_colour_picture_is_no_label_map(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png is a RGB picture, not a label map"):
        Png(tmp_path / "a.png").ids()


def test_a_grey_picture_holds_no_two_channels(tmp_path: Path) -> None:
    Image.new("L", (2, 2)).save(tmp_path / "a.png")
    for kind in (RedGreen, AdeObjects):
        with pytest.raises(DataError, match=r"a\.png is a L picture"):
            kind(tmp_path / "a.png").ids()


@given(st.integers(0, 999), st.integers(0, 9), st.integers(0, 255))
def test_red_and_green_make_one_number(
    tmp_path_factory: pytest.TempPathFactory, number: int, part: int, instance: int
) -> None:
    path = tmp_path_factory.mktemp("rg") / "a.png"
    path.write_bytes(png_bytes(np.array([[[number % 256, number // 256, 0]]], np.uint8)))
    assert RedGreen(path).ids().tolist() == [[number]]
    # ADE's red is ten times the high part, plus anything below ten
    path.write_bytes(png_bytes(np.array([[[number // 256 * 10 + part, number % 256, instance]]], np.uint8)))
    assert AdeObjects(path).ids().tolist() == [[number]]


@given(
    arrays(np.int64, (4, 5), elements=st.sampled_from([0, 1, 255, 256, 65_535, 65_536, 16_777_215])),
    st.permutations([3, 90, 92, 200, 1, 5]),
)
def test_panoptic_segments_get_the_category_of_their_json(
    tmp_path_factory: pytest.TempPathFactory, segments: np.ndarray, categories: list[int]
) -> None:
    path = tmp_path_factory.mktemp("panoptic") / "a.png"
    colours = np.stack([segments % 256, segments // 256 % 256, segments // 65_536], axis=-1).astype(np.uint8)
    path.write_bytes(png_bytes(colours))
    category_of = dict(zip([1, 255, 256, 65_535, 65_536, 16_777_215], categories, strict=True))
    expected = [[category_of.get(int(segment), 0) for segment in row] for row in segments]
    assert Panoptic(path, category_of, "json").ids().tolist() == expected


def test_a_segment_the_json_does_not_list_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_bytes(np.full((2, 2, 3), 7, np.uint8)))
    with pytest.raises(DataError, match=r"a\.png has segment 460551"):
        Panoptic(tmp_path / "a.png", {1: 1}, "json").ids()


def test_matlab_label_maps_come_back(tmp_path: Path) -> None:
    ids = np.array([[0, 459, 2]], np.uint16)
    savemat(tmp_path / "context.mat", {"LabelMap": ids})
    savemat(tmp_path / "sbd.mat", {"GTcls": {"Segmentation": ids.astype(np.uint8), "Boundaries": 1}})
    assert MatLabelMap(tmp_path / "context.mat").ids().tolist() == ids.tolist()
    assert MatSbd(tmp_path / "sbd.mat").ids().tolist() == ids.astype(np.uint8).tolist()
    with pytest.raises(DataError, match=r"sbd\.mat has no variable LabelMap"):
        MatLabelMap(tmp_path / "sbd.mat").ids()
    savemat(tmp_path / "float.mat", {"LabelMap": np.array([[0.5]])})
    with pytest.raises(DataError, match=r"float\.mat has a LabelMap of float64"):
        MatLabelMap(tmp_path / "float.mat").ids()
    savemat(tmp_path / "empty.mat", {"GTcls": {"Boundaries": 1}})
    with pytest.raises(DataError, match=r"empty\.mat has no GTcls\.Segmentation"):
        MatSbd(tmp_path / "empty.mat").ids()


@pytest.mark.parametrize("kind", [Png, RedGreen, AdeObjects, MatLabelMap, MatSbd])
@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"\x89PNG\r\n\x1a\n\x00\x00", b"MATLAB 5.0 MAT-file" + bytes(200)]
)
def test_a_broken_file_is_an_error_that_names_it(tmp_path: Path, kind: type, content: bytes) -> None:
    (tmp_path / "broken.bin").write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.bin"):
        kind(tmp_path / "broken.bin").ids()


def test_a_file_cut_anywhere_is_an_error_and_never_a_wrong_map(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 150, (40, 40), dtype=np.uint8)
    content = png_bytes(ids)
    for length in range(
        0, len(content) - 12, 37
    ):  # the last 12 bytes are the end mark, without which all pixels are there
        (tmp_path / "cut.png").write_bytes(content[:length])
        with pytest.raises(DataError, match=r"cut\.png"):
            Png(tmp_path / "cut.png").ids()


def drawn(shapes: list, size: tuple[int, int] = (20, 30)) -> Drawn:
    return Drawn(Path("a.json"), "1", size, shapes, "stamp")


def test_polygons_are_filled_like_another_librarys_within_a_pixel_of_the_border() -> None:
    corners = [(3, 2), (25, 4), (20, 17), (6, 15)]
    ids = drawn([(7, [[float(value) for corner in corners for value in corner]])]).ids()
    picture = Image.new("L", (30, 20))
    ImageDraw.Draw(picture).polygon(corners, fill=7)
    filled = np.asarray(picture)
    assert set(np.unique(ids)) == {0, 7}
    assert ((ids != filled).sum()) < 2 * (22 + 14 + 14 + 13)  # the border
    assert (ids[6:14, 8:19] == 7).all()


def test_polygon_and_both_kinds_of_rle_draw_the_same() -> None:
    polygon = [[2.0, 3.0, 12.0, 3.0, 12.0, 9.0, 2.0, 9.0]]
    rle = coco.merge(coco.frPyObjects(polygon, 20, 30))
    mask = coco.decode(rle)
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    compressed = {"size": rle["size"], "counts": rle["counts"].decode()}
    for segmentation in (polygon, compressed, {"size": [20, 30], "counts": counts}):
        assert np.array_equal(drawn([(5, segmentation)]).ids(), 5 * mask.astype(np.uint16))


def test_later_shapes_cover_earlier_ones() -> None:
    whole = [[0.0, 0.0, 30.0, 0.0, 30.0, 20.0, 0.0, 20.0]]
    part = [[5.0, 5.0, 10.0, 5.0, 10.0, 10.0, 5.0, 10.0]]
    assert drawn([(1, whole), (2, part)]).ids()[7, 7] == 2
    assert drawn([(2, part), (1, whole)]).ids()[7, 7] == 1


def test_a_polygon_of_two_points_draws_nothing() -> None:
    assert not drawn([(1, [[1.0, 1.0, 9.0, 9.0]])]).ids().any()
    assert not drawn([(1, [])]).ids().any()


@pytest.mark.parametrize("segmentation", [{"size": [20, 30]}, "nonsense", {"size": [7, 7], "counts": [49]}])
def test_a_shape_that_cannot_be_drawn_is_an_error_that_names_the_json(segmentation: object) -> None:
    with pytest.raises(DataError, match=r"a\.json"):
        drawn([(1, segmentation)]).ids()
