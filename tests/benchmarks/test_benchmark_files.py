"""Every benchmark on a miniature tree of its official download, against label maps worked out by hand."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import official_trees as trees
import pytest
from PIL import Image
from pycocotools import mask as coco

from lexiseg import catalog
from lexiseg.benchmarks import _benchmark
from lexiseg.errors import DataError, UnknownName

Opens = Callable[..., _benchmark.Opened]
NAMES = catalog.names("benchmarks")


def truth(opened: _benchmark.Opened, place: int = 0) -> list[list[int]]:
    image, labels = opened.samples[place].read()
    assert image.shape == (*labels.shape, 3)
    assert image.dtype == np.uint8
    return labels.tolist()


# ---------------------------------------------------------------------------------------------- Pascal VOC


VOC = [[0, 1, 255], [20, 15, 0]]  # background, aeroplane, void, tvmonitor, person


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("voc20", [[255, 0, 255], [19, 14, 255]]),
        ("voc_15_5", [[255, 0, 255], [19, 14, 255]]),
        ("voc21", [[20, 0, 255], [19, 14, 20]]),
        ("voc21_15_5", [[20, 0, 255], [19, 14, 20]]),
    ],
)
def test_voc_palettes_become_classes(name: str, expected: list[list[int]], data: Path, opened: Opens) -> None:
    trees.voc(data, VOC)
    assert truth(opened(name)) == expected


def test_voc_may_lie_in_the_folder_itself(data: Path) -> None:
    trees.voc(data, VOC)
    for root in (data, data / "VOCdevkit", data / "VOCdevkit" / "VOC2012"):
        assert len(_benchmark.open("voc20", root, cache=False).samples) == 1


def test_voc_keeps_the_order_of_the_list(data: Path, opened: Opens) -> None:
    for key in ("2007_000042", "2007_000033"):
        trees.voc(data, VOC, key=key)
    trees.text(data / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt", "2007_000042", "2007_000033")
    assert [sample.key for sample in opened("voc20").samples] == ["2007_000042", "2007_000033"]


def test_trainaug_is_voc_train_and_sbd_without_voc_val(data: Path, opened: Opens) -> None:
    trees.voc(data, [[20, 255]], key="2007_000033", split="train")
    trees.voc(data, [[1, 1]], key="2007_000042", split="val")
    lists = {"train": ["2007_000033", "2008_000002"], "val": ["2007_000042"]}
    trees.sbd(data, "2007_000033", [[5, 5]], lists=lists)
    trees.sbd(data, "2007_000042", [[5, 5]], lists=lists)
    trees.sbd(data, "2008_000002", [[0, 3]], lists=lists)
    found = opened("voc20", split="trainaug")
    assert [sample.key for sample in found.samples] == ["2007_000033", "2008_000002"]
    assert truth(found, 0) == [[19, 255]]  # VOC's own label map, which has a void border
    assert truth(found, 1) == [[255, 2]]


def test_trainaug_reads_segmentation_class_aug_too(data: Path, opened: Opens) -> None:
    trees.voc(data, [[0, 3]], key="2008_000002", split="trainaug")
    (data / "VOCdevkit/VOC2012/SegmentationClass").rename(data / "VOCdevkit/VOC2012/SegmentationClassAug")
    assert truth(opened("voc20", split="trainaug")) == [[255, 2]]


# ---------------------------------------------------------------------------------------------- Pascal Context


# raw ids of the 459 classes: 2 aeroplane, 458 wood, 1 accordion (none of the 59), 187 grass, 397 table
CONTEXT = [[0, 2, 458], [1, 187, 397]]
CONTEXT_59 = [[255, 0, 58], [255, 28, 49]]
CONTEXT_60 = [[59, 0, 58], [59, 28, 49]]


def context_forms(data: Path, form: str) -> None:
    if form == "mat":
        trees.context_mat(data, CONTEXT)
    elif form == "detail":
        trees.context_detail(data, CONTEXT)
    elif form == "png59":  # lines of 59_labels.txt: 1 aeroplane, 11 table, 36 grass, 59 wood
        trees.context_png59(data, [[0, 1, 59], [0, 36, 11]])
    else:  # in alphabetical order: 1 aeroplane, 29 grass, 50 table, 59 wood
        trees.context_mmseg(data, [[0, 1, 59], [0, 29, 50]])


@pytest.mark.parametrize("form", ["mat", "detail", "png59", "mmseg"])
def test_every_form_of_context_means_the_same(form: str, data: Path, opened: Opens) -> None:
    context_forms(data, form)
    assert truth(opened("context59")) == CONTEXT_59
    assert truth(opened("context60")) == CONTEXT_60
    assert truth(opened("context_50_10")) == CONTEXT_60


def test_detail_reads_the_images_of_its_phase(data: Path, opened: Opens) -> None:
    trees.context_detail(data, CONTEXT)
    trees.photo(data / "VOCdevkit/VOC2010/JPEGImages/2008_000003.jpg", CONTEXT)
    assert [sample.key for sample in opened("context59", split="train").samples] == ["2008_000003"]


# ---------------------------------------------------------------------------------------------- COCO


PIXELS = [[0, 1, 255], [91, 89, 181]]  # person, bicycle, unlabelled; banner, toothbrush, wood


def test_coco80_scores_objects_only(data: Path, opened: Opens) -> None:
    trees.coco_pixels(data, PIXELS)
    assert truth(opened("coco80")) == [[0, 1, 255], [255, 79, 255]]


def test_coco_object_takes_unlabelled_pixels_for_background_unless_strict(data: Path, opened: Opens) -> None:
    trees.coco_pixels(data, PIXELS)
    released, strict = opened("coco_object"), opened("coco_object", conversion="strict")
    assert truth(released) == [[0, 1, 80], [80, 79, 80]]
    assert truth(strict) == [[0, 1, 255], [80, 79, 80]]
    assert released.options == {"conversion": "released"}
    assert strict.options == {"conversion": "strict"}


@pytest.mark.parametrize("name", ["coco_stuff171", "coco_stuff_156_15"])
def test_coco_stuff_scores_every_labelled_pixel(name: str, data: Path, opened: Opens) -> None:
    trees.coco_pixels(data, PIXELS)
    assert truth(opened(name)) == [[0, 1, 255], [80, 79, 170]]


def test_converted_copies_beside_the_pixel_maps_are_passed_over(data: Path, opened: Opens) -> None:
    trees.coco_pixels(data, PIXELS)
    folder = data / "coco" / "stuffthingmaps_trainval2017" / "val2017"
    trees.png(folder / "000000000139_labelTrainIds.png", PIXELS)
    trees.png(folder / "._000000000139.png", PIXELS)
    assert [sample.key for sample in opened("coco80").samples] == ["000000000139"]


@pytest.mark.parametrize("layout", ["images/val2017 and annotations/val2017", "one folder"])
def test_coco_may_be_unpacked_in_other_folders(layout: str, data: Path, opened: Opens) -> None:
    one = layout == "one folder"
    trees.photo(data / ("val2017" if one else "images/val2017") / "000000000139.jpg", PIXELS)
    trees.png(data / ("val2017" if one else "annotations/val2017") / "000000000139.png", PIXELS)
    assert truth(opened("coco_stuff171")) == [[0, 1, 255], [80, 79, 170]]


def test_coco_panoptic_gives_the_same_objects(data: Path, opened: Opens) -> None:
    # segments above 16 bits, and unlabelled 0; category 184 is tree-merged
    trees.coco_panoptic(data, [[70_000, 300, 0], [5, 9, 5]], {70_000: 1, 300: 2, 5: 184, 9: 90})
    assert truth(opened("coco80")) == [[0, 1, 255], [255, 79, 255]]
    assert truth(opened("coco_object")) == [[0, 1, 80], [80, 79, 80]]
    assert truth(opened("coco_object", conversion="strict")) == [[0, 1, 255], [80, 79, 80]]


def test_coco_object_follows_the_released_conversion_for_every_id(data: Path, opened: Opens) -> None:
    # docs/papers/simseg.md §6.4: things 0..89 -> 1..80 without the ten unused ids, above 90 and 255 -> 0
    unused = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82}
    ids = [value for value in range(182) if value not in unused | {90}] + [255]
    trees.coco_pixels(data, [ids])
    things = [value for value in range(90) if value not in unused]
    released = [things.index(value) + 1 if value in things else 0 for value in ids]
    assert truth(opened("coco_object")) == [[80 if value == 0 else value - 1 for value in released]]


# ---------------------------------------------------------------------------------------------- ADE20K, Cityscapes


def test_ade150_leaves_out_id_0(data: Path, opened: Opens) -> None:
    trees.ade150(data, [[0, 1, 150], [2, 0, 13]])
    assert truth(opened("ade150")) == [[255, 0, 149], [1, 255, 12]]


def test_ade847_reads_object_numbers_from_red_and_green(data: Path, opened: Opens) -> None:
    trees.ade847(data, [[0, 2978, 312], [2420, 9, 2131]])  # nothing, wall, building, sky, no class, road
    found = opened("ade847")
    names = [found.names[index] if index != found.ignore else "-" for row in truth(found) for index in row]
    assert names == ["-", "wall", "building", "sky", "-", "road"]
    assert found.ignore == 65535
    assert found.samples[0].truth().dtype == np.uint16


def test_cityscapes_scores_the_19_classes_of_the_label_ids(data: Path, opened: Opens) -> None:
    trees.cityscapes(data, [[0, 7, 33], [9, 26, 3]])  # unlabeled, road, bicycle; parking, car, out of roi
    found = opened("cityscapes19")
    assert truth(found) == [[255, 0, 18], [255, 13, 255]]
    assert [sample.key for sample in found.samples] == ["frankfurt/frankfurt_000000_000294"]


# ---------------------------------------------------------------------------------------------- ImageNet-S


def test_imagenet_s_reads_two_channels(data: Path, opened: Opens) -> None:
    trees.imagenet_s(data, [[0, 1, 919], [1000, 300, 256]])
    found = opened("imagenet_s919")
    assert truth(found) == [[65535, 0, 918], [65535, 299, 255]]
    assert truth(opened("imagenet_s919", other="background")) == [[919, 0, 918], [65535, 299, 255]]
    assert found.vocabulary.names[0] == "tench"


# ---------------------------------------------------------------------------------------------- LVIS


def test_lvis_draws_the_smaller_instance_over_the_larger(data: Path, opened: Opens) -> None:
    table = [[0, 0, 6, 0, 6, 4, 0, 4]]  # the whole 4 x 6 picture
    bow = np.zeros((4, 6), np.uint8, order="F")
    bow[1:3, 2:4] = 1
    rle = coco.encode(bow)
    rle["counts"] = rle["counts"].decode()
    annotations = [
        {"id": 1, "image_id": 397133, "category_id": 2, "segmentation": rle, "area": 4.0},
        {"id": 2, "image_id": 397133, "category_id": 3, "segmentation": table, "area": 24.0},
    ]
    trees.lvis(data, annotations)
    found = opened("lvis1103")
    assert found.vocabulary.names == ("bow (weapon)", "table")  # the classes that occur, by id
    expected = np.ones((4, 6), int)
    expected[1:3, 2:4] = 0
    assert [sample.key for sample in found.samples] == ["9", "397133"]
    assert truth(found, 1) == expected.tolist()
    assert truth(found, 0) == np.full((4, 6), 255).tolist()  # no instance: nothing is scored


def test_lvis_options_take_all_classes_and_a_background(data: Path, opened: Opens) -> None:
    uncompressed = {"size": [4, 6], "counts": [0, 4, 20]}  # the first column
    trees.lvis(data, [{"id": 1, "image_id": 9, "category_id": 3, "segmentation": uncompressed, "area": 4.0}])
    found = opened("lvis1103", classes="all", unlabelled="background")
    assert found.names == ("aerosol can", "bow (weapon)", "table", "background")
    assert truth(found, 0) == [[2, 3, 3, 3, 3, 3]] * 4


def test_lvis_words_are_the_first_name_or_all_synonyms(data: Path, opened: Opens) -> None:
    trees.lvis(data, [{"id": 1, "image_id": 9, "category_id": 1, "segmentation": [[0, 0, 6, 0, 6, 4]], "area": 9.0}])
    assert opened("lvis1103").vocabulary.words == (("aerosol can",),)
    assert opened("lvis1103", wording="synonyms").vocabulary.words == (("aerosol can", "spray can"),)


# ---------------------------------------------------------------------------------------------- zero-shot splits


@pytest.mark.parametrize(
    ("name", "build", "unseen", "unseen_things"),
    [
        ("voc_15_5", lambda data: trees.voc(data, VOC), [15, 16, 17, 18, 19], 5),
        ("voc21_15_5", lambda data: trees.voc(data, VOC), [15, 16, 17, 18, 19], 5),
        # docs/papers/maskclip_plus.md §3.3 counts the background as 0, here it comes last
        (
            "context_50_10",
            lambda data: trees.context_mat(data, CONTEXT),
            sorted(i - 1 for i in (20, 34, 49, 15, 8, 25, 7, 55, 32, 1)),
            None,
        ),
        (
            "coco_stuff_156_15",
            lambda data: trees.coco_pixels(data, PIXELS),
            [19, 23, 28, 29, 36, 51, 76, 88, 94, 112, 133, 136, 137, 157, 160],
            7,
        ),
    ],
)
def test_zero_shot_splits_keep_the_papers_classes_unseen(
    name: str, build: Callable[[Path], None], unseen: list[int], unseen_things: int | None, data: Path, opened: Opens
) -> None:
    build(data)
    found = opened(name)
    assert list(found.subsets["unseen"]) == unseen
    assert found.seen is not None
    assert [index for index, seen in enumerate(found.seen) if not seen] == unseen
    assert len(found.seen) == len(found.names) == len(found.subsets["seen"]) + len(unseen)
    assert found.vocabulary.seen == found.seen[: len(found.vocabulary)]
    assert found.background is None or found.seen[found.background]
    if unseen_things not in (None, len(unseen)):
        assert len(found.subsets["unseen_thing"]) == unseen_things
        assert len(found.subsets["unseen_stuff"]) == len(unseen) - unseen_things


def test_zsseg_names_the_same_coco_classes_by_label_id(data: Path, opened: Opens) -> None:
    trees.coco_pixels(data, [[20, 24, 32, 33, 40, 56, 86, 99, 105, 123, 144, 147, 148, 168, 171]])
    found = opened("coco_stuff_156_15")
    assert truth(found) == [list(found.subsets["unseen"])]


# ---------------------------------------------------------------------------------------------- every benchmark


SIZES = {
    "voc20": 20,
    "voc21": 21,
    "voc_15_5": 20,
    "voc21_15_5": 21,
    "context59": 59,
    "context60": 60,
    "context_50_10": 60,
    "coco80": 80,
    "coco_object": 81,
    "coco_stuff171": 171,
    "coco_stuff_156_15": 171,
    "ade150": 150,
    "ade847": 847,
    "cityscapes19": 19,
    "imagenet_s919": 919,
}


def build(name: str, data: Path) -> None:
    makers: dict[str, Callable[[], None]] = {
        "voc": lambda: trees.voc(data, VOC),
        "context": lambda: trees.context_mat(data, CONTEXT),
        "coco": lambda: trees.coco_pixels(data, PIXELS),
        "ade150": lambda: trees.ade150(data, [[1]]),
        "ade847": lambda: trees.ade847(data, [[2978]]),
        "cityscapes": lambda: trees.cityscapes(data, [[7]]),
        "imagenet": lambda: trees.imagenet_s(data, [[1]]),
    }
    next(make for start, make in makers.items() if name.startswith(start))()


@pytest.mark.parametrize("name", NAMES)
def test_a_file_holds_the_benchmark_of_its_name(name: str) -> None:
    benchmark = _benchmark.get(name)
    assert benchmark.name == name
    assert benchmark.test in benchmark.release.splits
    assert benchmark.train in benchmark.release.splits
    assert benchmark.wording in _benchmark.wordings(benchmark)
    for choices in benchmark.options.values():
        assert next(iter(choices.values())) == {}  # the first choice is what the benchmark is without it


@pytest.mark.parametrize("name", sorted(SIZES))
def test_numbers_of_scored_classes_are_the_papers(name: str, data: Path, opened: Opens) -> None:
    build(name, data)
    found = opened(name)
    assert len(found.names) == SIZES[name] == found.facts["classes"]
    assert (found.background is not None) == (found.names[-1] == "background")
    assert found.ignore == (255 if SIZES[name] <= 255 else 65535)


@pytest.mark.parametrize("name", sorted(SIZES))
def test_every_wording_gives_a_vocabulary_with_the_same_classes(name: str, data: Path, opened: Opens) -> None:
    build(name, data)
    own = opened(name)
    for wording in _benchmark.wordings(own.benchmark):
        other = opened(name, wording=wording)
        assert other.vocabulary.names == own.vocabulary.names
        same_words = other.vocabulary.words == own.vocabulary.words
        assert (other.class_digest == own.class_digest) == same_words


def test_a_background_changes_the_digest(data: Path, opened: Opens) -> None:
    trees.context_mat(data, CONTEXT)
    assert opened("context59", wording="mmseg").class_digest != opened("context60", wording="mmseg").class_digest


def test_samples_can_be_sent_to_another_process(data: Path, opened: Opens) -> None:
    trees.context_detail(data, CONTEXT)
    sample = opened("context59").samples[0]
    assert pickle.loads(pickle.dumps(sample)).truth().tolist() == CONTEXT_59


# ---------------------------------------------------------------------------------------------- what can be wrong


def test_an_absent_data_set_is_said_to_be_absent_with_how_to_get_it(data: Path, opened: Opens) -> None:
    with pytest.raises(
        DataError, match=r"ImageSets/Segmentation/val\.txt.*VOCtrainval_11-May-2012\.tar.*data check voc20"
    ):
        opened("voc20")


def test_a_missing_photograph_is_named_before_anything_is_read(data: Path, opened: Opens) -> None:
    trees.voc(data, VOC, key="2007_000042")
    trees.voc(data, VOC)
    trees.text(data / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt", "2007_000033", "2007_000042")
    (data / "VOCdevkit/VOC2012/JPEGImages/2007_000042.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 2 photographs.*2007_000042\.jpg.*VOCtrainval"):
        opened("voc20")


def test_a_missing_label_map_is_named(data: Path, opened: Opens) -> None:
    trees.voc(data, VOC)
    trees.text(data / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt", "2007_000033", "2007_000061")
    trees.photo(data / "VOCdevkit/VOC2012/JPEGImages/2007_000061.jpg", VOC)
    with pytest.raises(DataError, match=r"1 of 2 label maps.*2007_000061\.png"):
        opened("voc20")


def test_an_id_of_no_class_is_an_error_that_names_file_and_id(data: Path, opened: Opens) -> None:
    trees.voc(data, [[0, 21]])
    with pytest.raises(DataError, match=r"2007_000033\.png holds id 21"):
        opened("voc20").samples[0].truth()


def test_a_label_map_cut_short_is_an_error_that_names_the_file(data: Path, opened: Opens) -> None:
    random = np.random.default_rng(0).integers(0, 21, (64, 64)).tolist()
    trees.voc(data, random)
    path = data / "VOCdevkit/VOC2012/SegmentationClass/2007_000033.png"
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(DataError, match=r"2007_000033\.png is broken"):
        opened("voc20").samples[0].truth()


def test_a_label_map_of_another_size_is_an_error(data: Path, opened: Opens) -> None:
    trees.voc(data, VOC)
    Image.new("RGB", (7, 7)).save(data / "VOCdevkit/VOC2012/JPEGImages/2007_000033.jpg")
    with pytest.raises(DataError, match=r"7x7 pixels.*3x2"):
        opened("voc20").samples[0].read()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "vall"}, "no split of voc20 is called 'vall'.*'val'"),
        ({"wording": "maskclipp"}, "no wording of voc20 is called 'maskclipp'.*'maskclip'"),
        ({"conversion": "strict"}, "no option of voc20 is called 'conversion'"),
    ],
)
def test_names_that_do_not_exist_get_the_nearest(
    options: dict[str, str], message: str, data: Path, opened: Opens
) -> None:
    trees.voc(data, VOC)
    with pytest.raises(UnknownName, match=message):
        opened("voc20", **options)


def test_a_choice_that_does_not_exist_gets_the_nearest(opened: Opens) -> None:
    with pytest.raises(UnknownName, match=r"no choice of conversion is called 'strikt'.*'strict'"):
        opened("coco_object", conversion="strikt")
    with pytest.raises(UnknownName, match="no benchmark is called 'voc22'"):
        opened("voc22")
