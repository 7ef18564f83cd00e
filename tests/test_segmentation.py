"""What a user receives counts, draws, saves and loads the same label map."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hand_made import GREY, PALETTE, chunk, png
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pycocotools import mask as coco
from skimage import io
from skimage.color import deltaE_ciede2000, rgb2lab

import lexiseg
from lexiseg import files
from lexiseg.errors import DataError, ImageError, OutputError, SettingError, UnknownName
from lexiseg.formats.palette import UNLABELLED, colours
from lexiseg.segmentation import Segmentation, label_dtype
from lexiseg.vocabulary import Vocabulary

WORDS = Vocabulary("road|street, car, sky, dog", background="wall", seen=[True, False, True, False])


def labelled(classes: int, *, size: tuple[int, int] = (37, 53), seed: int = 0) -> npt.NDArray[Any]:
    """Random labels, `unlabelled` among them; the highest class and `unlabelled` always occur."""
    dtype = label_dtype(classes)
    labels = np.random.default_rng(seed).integers(0, classes + 1, size)
    labels.flat[:2] = np.array([classes, classes - 1])[: labels.size]
    return np.where(labels == classes, np.iinfo(dtype).max, labels).astype(dtype)


def segmentation(
    classes: int = 4, *, scores: bool = True, size: tuple[int, int] = (37, 53), **given: Any
) -> Segmentation:
    vocabulary = WORDS if classes == 4 else Vocabulary([f"class {i}" for i in range(classes)])
    posterior = np.random.default_rng(1).random(size).astype(np.float16) if scores else None
    settings = {"window": 448, "size": [1, 2], "dtype": "fp16", "threshold": None}
    return Segmentation(labelled(classes, size=size), posterior, vocabulary, "maskclip/mini", settings, **given)


def assert_same(one: Segmentation, other: Segmentation, *, scores: bool) -> None:
    assert np.array_equal(one.labels, other.labels)
    assert one.labels.dtype == other.labels.dtype
    assert (one.vocabulary, one.model, one.settings) == (other.vocabulary, other.model, other.settings)
    assert one.warnings == other.warnings
    if scores and one.scores is not None:
        assert other.scores is not None
        assert np.array_equal(one.scores, other.scores)
    else:
        assert other.scores is None


# counting


@pytest.mark.parametrize("classes", [1, 4, 255, 256, 847])
def test_areas_are_the_fractions_of_pixels(classes: int) -> None:
    result = segmentation(classes)
    by_hand = [float((result.labels == label).mean()) for label in range(classes)]
    assert list(result.areas().values()) == pytest.approx(by_hand)
    assert list(result.areas()) == list(result.names)
    assert result.unlabelled_area == pytest.approx((result.labels == result.unlabelled).mean())
    assert sum(result.areas().values()) + result.unlabelled_area == pytest.approx(1)


def test_an_area_is_asked_for_by_class_or_by_any_of_its_words() -> None:
    result = segmentation()
    assert result.area("street") == result.area("road") == result.areas()["road"]
    with pytest.raises(UnknownName, match="'road'"):
        result.area("rode")


def test_a_picture_of_many_rows_is_counted_whole() -> None:
    labels = np.repeat(np.array([0, 1, 255], np.uint8), [1000, 2000, 3000])[:, None].repeat(700, 1)
    result = Segmentation(labels, np.full(labels.shape, 0.5, np.float16), Vocabulary("a, b"))
    assert result.areas() == {"a": 1000 / 6000, "b": 2000 / 6000}
    assert [row["score"] for row in result.to_coco_rle()] == [0.5, 0.5]


def test_masks_are_of_the_classes_that_occur_largest_first() -> None:
    labels = np.array([[2, 2, 0], [2, 255, 0]], np.uint8)
    result = Segmentation(labels, None, WORDS)
    assert list(result.masks()) == list(result.found) == ["sky", "road"]
    assert np.array_equal(result.masks()["sky"], labels == 2)
    assert not result.mask("car").any()


@pytest.mark.parametrize(("classes", "dtype", "unlabelled"), [(1, "u1", 255), (255, "u1", 255), (256, "u2", 65_535)])
def test_255_classes_fit_a_byte_and_the_largest_value_is_none_of_them(
    classes: int, dtype: str, unlabelled: int
) -> None:
    assert label_dtype(classes) == np.dtype(dtype)
    assert segmentation(classes).unlabelled == unlabelled


def test_the_repr_tells_size_model_and_the_largest_classes() -> None:
    labels = np.array([[2, 2, 0, 255]], np.uint8)
    text = repr(Segmentation(labels, None, WORDS, "maskclip/mini"))
    assert text == ("Segmentation(4x1 pixels, 4 classes, maskclip/mini: sky 50.0%, road 25.0%, unlabelled 25.0%)")
    assert "842 more" in repr(segmentation(847, size=(100, 400)))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"labels": np.zeros((2, 2), np.int64)}, r"is int64 \[2, 2\]; give uint8"),
        ({"labels": np.zeros((2, 2), np.uint16)}, "is uint16"),
        ({"labels": np.zeros((2, 2, 1), np.uint8)}, r"\[2, 2, 1\]"),
        ({"labels": np.zeros((0, 2), np.uint8)}, "at least one pixel"),
        ({"labels": np.full((2, 2), 4, np.uint8)}, "holds 4, but there are 4 classes; use 0 to 3, and 255"),
        ({"labels": np.full((2, 2), 254, np.uint8)}, "holds 254"),
        ({"scores": np.zeros((2, 3), np.float16)}, r"float16 \[2, 3\]; give float16 \[2, 2\]"),
        ({"scores": np.zeros((2, 2), np.float32)}, "are float32"),
    ],
)
def test_labels_and_scores_that_do_not_fit_are_errors_that_say_what_would(given: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        Segmentation(**{"labels": np.zeros((2, 2), np.uint8), "scores": None, "vocabulary": WORDS, **given})


# COCO


@pytest.mark.parametrize("classes", [4, 300])
def test_coco_decodes_the_run_lengths_to_the_masks(classes: int) -> None:
    result = segmentation(classes)
    annotations = json.loads(json.dumps(result.to_coco_rle()))
    assert [row["category"] for row in annotations] == list(result.found)
    for row in annotations:
        mask = result.labels == row["category_id"]
        assert np.array_equal(coco.decode(row["segmentation"]).astype(bool), mask)
        assert row["area"] == mask.sum() == coco.area(row["segmentation"])
        ys, xs = np.nonzero(mask)
        assert row["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
        assert row["score"] == pytest.approx(result.scores[mask].astype(float).mean())  # type: ignore[index]


def test_without_scores_annotations_have_none() -> None:
    assert all("score" not in row for row in segmentation(scores=False).to_coco_rle())


# saving and loading


@st.composite
def any_segmentation(draw: st.DrawFn) -> Segmentation:
    classes = draw(st.sampled_from([1, 2, 17, 255, 256, 300]))
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))
    values = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, classes)))
    dtype = label_dtype(classes)
    labels = np.where(values == classes, np.iinfo(dtype).max, values).astype(dtype)
    scores = draw(st.none() | hnp.arrays(np.float16, shape, elements=st.floats(0, 1, width=16)))
    vocabulary = Vocabulary([f"Straße {i}" for i in range(classes)], background=draw(st.sampled_from(["", "日本"])))
    return Segmentation(
        labels, scores, vocabulary, "m", {"x": draw(st.text())}, tuple(draw(st.lists(st.text(), max_size=2)))
    )


@given(any_segmentation(), st.sampled_from(["a.png", "b.c.npz", "A.PNG", "A.NPZ"]), st.booleans())
def test_what_is_saved_is_what_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, result: Segmentation, name: str, grey: bool
) -> None:
    path = tmp_path_factory.mktemp("saved") / name
    result.save(path, grey=grey)
    assert_same(result, Segmentation.load(path), scores=name.lower().endswith("npz"))


@pytest.mark.parametrize(("classes", "mode"), [(4, "L"), (255, "L"), (256, "I;16"), (847, "I;16")])
def test_grey_pngs_hold_the_labels_for_programs_that_ignore_palettes(tmp_path: Path, classes: int, mode: str) -> None:
    result = segmentation(classes)
    result.save(tmp_path / "a.png", grey=True)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == mode
    assert np.array_equal(io.imread(tmp_path / "a.png"), result.labels)
    assert_same(result, Segmentation.load(tmp_path / "a.png"), scores=False)


@pytest.mark.parametrize("classes", [4, 300])
def test_bytes_are_those_of_the_files_that_save_writes(tmp_path: Path, classes: int) -> None:
    result = segmentation(classes)
    for grey in (False, True):
        result.save(tmp_path / "a.png", grey=grey)
        assert result.to_png(grey=grey) == (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.npz").write_bytes(result.to_npz())
    loaded = Segmentation.load(tmp_path / "b.npz")
    assert np.array_equal(loaded.labels, result.labels)
    assert loaded.vocabulary == result.vocabulary
    assert loaded.to_json() == result.to_json()


@pytest.mark.parametrize(
    ("classes", "grey", "kind"), [(4, False, "palette"), (4, True, "grey"), (847, False, "grey"), (847, True, "grey")]
)
def test_the_json_says_whether_the_png_has_a_palette(tmp_path: Path, classes: int, grey: bool, kind: str) -> None:
    segmentation(classes).save(tmp_path / "a.png", grey=grey)
    assert json.loads((tmp_path / "a.json").read_text())["png"] == kind
    with Image.open(tmp_path / "a.png") as picture:
        assert (picture.mode == "P") == (kind == "palette")


def test_a_small_vocabulary_is_saved_as_a_palette_png_whose_pixels_are_the_labels(tmp_path: Path) -> None:
    result = segmentation()
    result.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "P"
        assert np.array_equal(np.asarray(picture), result.labels)
        shown = np.asarray(picture.convert("RGB"))
    table = np.array([*colours(WORDS.names), UNLABELLED])
    assert np.array_equal(shown, table[np.minimum(result.labels, 4)])


def test_a_large_vocabulary_is_saved_as_a_16_bit_grey_png(tmp_path: Path) -> None:
    result = segmentation(847)
    result.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "I;16"
        assert np.array_equal(np.asarray(picture), result.labels)


@pytest.mark.parametrize(("bits", "colour"), [(2, GREY), (4, GREY), (4, PALETTE), (8, GREY)])
def test_a_label_map_that_another_tool_made_smaller_is_loaded(tmp_path: Path, bits: int, colour: int) -> None:
    result = Segmentation(np.array([[0, 1, 2, 3]], np.uint8), None, WORDS)
    result.save(tmp_path / "a.png")
    colours = chunk(b"PLTE", bytes(3 * 2**bits)) if colour == PALETTE else b""
    (tmp_path / "a.png").write_bytes(png(result.labels, bits, colour, colours))
    assert Segmentation.load(tmp_path / "a.png", edited=True).labels.tolist() == [[0, 1, 2, 3]]


def test_a_label_map_is_about_as_small_as_with_zlibs_default(tmp_path: Path) -> None:
    labels = np.add.outer(np.arange(512) ** 2, np.arange(512) ** 2) // 40_000 % 4
    result = Segmentation(labels.astype(np.uint8), None, WORDS)
    result.save(tmp_path / "a.png")
    picture = Image.fromarray(result.labels)
    picture.putpalette(bytes(768))
    picture.save(tmp_path / "plain.png")
    assert (tmp_path / "a.png").stat().st_size < 1.5 * (tmp_path / "plain.png").stat().st_size


def test_the_json_beside_a_label_map_explains_every_pixel(tmp_path: Path) -> None:
    result = segmentation(warnings=("'dog' is far from everything the model has seen",))
    result.save(tmp_path / "street.photo.png")
    facts = json.loads((tmp_path / "street.photo.json").read_text())
    told = {key: facts.pop(key) for key in ("made_by", "made_with", "sha256", "png")}
    assert facts == json.loads(json.dumps(result.to_json()))
    assert told["png"] == "palette"
    assert told["made_by"] == f"lexiseg {lexiseg.__version__}"
    assert told["sha256"] == hashlib.sha256((tmp_path / "street.photo.png").read_bytes()).hexdigest()
    assert facts["classes"][0] == {
        "label": 0,
        "name": "road",
        "words": ["road", "street"],
        "colour": "#" + bytes(colours(WORDS.names)[0]).hex(),
        "area": result.area("road"),
    }
    assert [row["name"] for row in facts["classes"]] == list(WORDS.names)
    assert facts["unlabelled"] == {"label": 255, "colour": "#707070", "area": result.unlabelled_area}
    assert (facts["model"], facts["settings"]) == ("maskclip/mini", result.settings)
    assert (facts["size"], facts["background"]) == ([37, 53], ["wall"])
    assert facts["warnings"] == list(result.warnings)


def test_a_setting_that_json_does_not_know_is_kept_as_text(tmp_path: Path) -> None:
    Segmentation(np.zeros((1, 1), np.uint8), None, WORDS, "m", {"weights": Path("a/b")}).save(tmp_path / "a.png")
    assert Segmentation.load(tmp_path / "a.png").settings == {"weights": "a/b"}


def test_saving_over_an_older_result_replaces_it(tmp_path: Path) -> None:
    segmentation(300).save(tmp_path / "a.png")
    segmentation().save(tmp_path / "a.png")
    assert_same(segmentation(), Segmentation.load(tmp_path / "a.png"), scores=False)
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "a.json"}


@pytest.mark.parametrize("name", ["a", "a.jpg", "a.tif", "a.json"])
def test_any_other_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"\.png or \.npz"):
        segmentation().save(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.png", "a.npz"])
def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        segmentation().save(tmp_path / "file" / name)


@pytest.mark.parametrize("failing", [".png", ".json"])
def test_where_one_of_two_files_cannot_be_written_the_old_pair_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    segmentation(300).save(tmp_path / "a.png")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_bytes, write_text = Path.write_bytes, Path.write_text

    def full_disk(path: Path, data: Any, **options: Any) -> int:
        if path.suffix == failing:
            raise OSError(28, "No space left on device")
        return write_bytes(path, data) if isinstance(data, bytes) else write_text(path, data, **options)

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        segmentation().save(tmp_path / "a.png")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_new_words_beside_an_old_label_map_are_refused(tmp_path: Path) -> None:
    """What a kill between the two renames, or two processes that write one name, leave behind."""
    segmentation().save(tmp_path / "a.png")
    segmentation(300).save(tmp_path / "b.png")
    (tmp_path / "b.json").rename(tmp_path / "a.json")
    with pytest.raises(DataError, match=r"not the label map that a\.json was written with"):
        Segmentation.load(tmp_path / "a.png")


def test_an_edited_label_map_is_read_on_request(tmp_path: Path) -> None:
    result = segmentation()
    result.save(tmp_path / "a.png")
    corrected = np.zeros_like(result.labels)
    Image.fromarray(corrected).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="edited=True"):
        Segmentation.load(tmp_path / "a.png")
    assert (Segmentation.load(tmp_path / "a.png", edited=True).labels == corrected).all()


@pytest.mark.parametrize(("target", "foreign"), [("a.png", "a.json"), ("a.png", "a.png"), ("a.npz", "a.npz")])
def test_a_file_that_lexiseg_did_not_write_is_never_replaced(tmp_path: Path, target: str, foreign: str) -> None:
    content = b'{"shapes": [{"label": "hand drawn"}]}'
    (tmp_path / foreign).write_bytes(content)
    with pytest.raises(OutputError, match=f"{foreign} exists and lexiseg did not write it"):
        segmentation().save(tmp_path / target)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [content]


def test_a_data_set_of_one_image_is_read_by_pycocotools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pycocotools.coco import COCO

    result = segmentation()
    (tmp_path / "a.json").write_text(json.dumps(result.to_coco("a.jpg")))
    coco = COCO(str(tmp_path / "a.json"))
    assert [coco.cats[label]["name"] for label in sorted(coco.cats)] == list(result.names)
    for annotation in coco.loadAnns(coco.getAnnIds()):
        assert (coco.annToMask(annotation) == result.mask(annotation["category"])).all()
    assert coco.loadImgs([1])[0]["height"] == result.labels.shape[0]


def test_label_maps_larger_than_pillows_limit_for_photographs_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmentation().save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert_same(segmentation(), Segmentation.load(tmp_path / "a.png"), scores=False)


def _drop_sidecar(path: Path) -> None:
    path.with_suffix(".json").unlink()


def _edit(**changes: Any) -> Any:
    def edit(path: Path) -> None:
        facts = json.loads(path.with_suffix(".json").read_text())
        files.write_text(path.with_suffix(".json"), json.dumps({**facts, **changes}))

    return edit


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        _drop_sidecar,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.write_bytes(path.read_bytes()[:30]),
        lambda path: path.write_text("no picture"),
        lambda path: Image.new("RGB", (53, 37)).save(path),
        lambda path: path.with_suffix(".json").write_text("{"),
        lambda path: path.with_suffix(".json").write_text("[]"),
        lambda path: path.with_suffix(".json").write_text("{}"),
        _edit(size=[53, 37]),
        _edit(classes=[]),
        _edit(classes=[{"name": "road", "words": ["road"]}]),  # fewer than the labels need
        _edit(classes=5),
    ],
)
def test_a_damaged_png_or_sidecar_is_a_data_error_that_names_the_file(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "a.png"
    segmentation().save(path)
    damage(path)
    with pytest.raises(DataError, match=r"a\.png is not a saved segmentation"):
        Segmentation.load(path)


@pytest.mark.parametrize("keep", [0, 10, 500, -100, -1])
def test_a_truncated_npz_is_a_data_error(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.npz"
    segmentation().save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"a\.npz is not a saved segmentation"):
        Segmentation.load(path)


def test_an_npz_with_pickled_objects_is_not_run(tmp_path: Path) -> None:
    path, touched = tmp_path / "a.npz", tmp_path / "touched"

    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (touched,)

    np.savez(path, labels=np.array([Evil()], dtype=object), facts=np.array("{}"))
    with pytest.raises(DataError, match=r"a\.npz is not a saved segmentation"):
        Segmentation.load(path)
    assert not touched.exists()


# drawing


def test_the_overlay_draws_on_the_photograph_that_was_segmented() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    with_photo = np.asarray(segmentation(image=photo).overlay())
    assert np.array_equal(with_photo, np.asarray(segmentation().overlay(photo)))
    assert not np.array_equal(with_photo, np.asarray(segmentation().overlay()))


def test_a_loaded_result_is_drawn_on_a_photograph_given_by_path(tmp_path: Path) -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8))
    photo.save(tmp_path / "photo.png")
    segmentation().save(tmp_path / "a.png")
    drawn = Segmentation.load(tmp_path / "a.png").overlay(tmp_path / "photo.png")
    assert np.array_equal(np.asarray(drawn), np.asarray(segmentation().overlay(photo)))


def test_the_legend_has_the_classes_that_occur_and_no_others() -> None:
    result = Segmentation(np.array([[0, 255]], np.uint8).repeat(50, 0).repeat(25, 1), None, WORDS)
    legend = np.asarray(result.overlay())[:, 50:].reshape(-1, 3).tolist()
    road, car, sky, dog = colours(WORDS.names).tolist()
    assert road in legend
    assert list(UNLABELLED) in legend
    assert all(colour not in legend for colour in (car, sky, dog))


def test_a_class_has_the_same_colour_in_every_picture_with_the_same_words() -> None:
    one, other = (Segmentation(np.full((40, 40), label, np.uint8), None, WORDS) for label in (0, 2))
    assert np.array_equal(one.colours, other.colours)
    assert np.array_equal(one.colours, colours(WORDS.names))


@pytest.mark.parametrize("classes", [100, 847])
def test_of_a_large_vocabulary_the_classes_of_the_picture_differ_clearly(classes: int) -> None:
    found = np.random.default_rng(classes).permutation(classes)[:24]
    labels = found.repeat(9)[None].astype(label_dtype(classes))
    result = Segmentation(labels, None, Vocabulary([f"class {i}" for i in range(classes)]))
    lab = rgb2lab(result.colours[found])
    assert (deltaE_ciede2000(lab[:, None], lab[None]) + np.diag(np.full(24, 99))).min() > 18


@pytest.mark.parametrize("classes", [4, 847])
def test_an_overlay_has_the_same_bytes_twice(classes: int) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    assert segmentation(classes).overlay(photo).tobytes() == segmentation(classes).overlay(photo).tobytes()


def test_words_can_be_left_out() -> None:
    result = Segmentation(np.zeros((100, 100), np.uint8), None, WORDS)
    plain = np.asarray(result.overlay(words=False, legend=False))
    assert len(np.unique(plain.reshape(-1, 3), axis=0)) == 1
    assert not np.array_equal(plain, np.asarray(result.overlay(legend=False)))


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (2000, 3)])
@pytest.mark.parametrize("classes", [1, 847])
def test_odd_pictures_are_drawn(size: tuple[int, int], classes: int) -> None:
    result = segmentation(classes, size=size)
    assert result.overlay(np.zeros((*size, 3), np.uint8), legend=False).size == size[::-1]
    assert result.overlay().width >= size[1]


def test_without_a_legend_the_overlay_has_the_size_of_the_photograph() -> None:
    assert segmentation().overlay(legend=False).size == (53, 37)
    assert segmentation(847).overlay(legend=False).size == (53, 37)


def test_an_overlay_of_the_wrong_photograph_or_alpha_is_an_error() -> None:
    with pytest.raises(ImageError, match="give the photograph that was segmented"):
        segmentation().overlay(np.zeros((53, 37, 3), np.uint8))
    for alpha in (-0.1, 1.5, float("nan")):
        with pytest.raises(SettingError, match="from 0 to 1"):
            segmentation().overlay(alpha=alpha)
