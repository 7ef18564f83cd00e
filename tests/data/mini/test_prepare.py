"""Official downloads in small, made up here, packed and read back; the project's own shards as the layout's witness."""

from __future__ import annotations

import io
import json
import tarfile
from importlib import resources

import numpy as np
import pytest
from photographs import LEXISEG_DATA, needs_photographs
from PIL import Image
from pycocotools import mask as coco

from lexiseg.data.mini import prepare as mini_prepare
from lexiseg.data.mini.label_maps import MSRC_COLOURS
from lexiseg.data.mini.masked import IGNORE, read_masked
from lexiseg.data.mini.pairs import MiniPairs
from lexiseg.data.mini.prepare import prepare_mini
from lexiseg.data.mini.sheet_writer import lay_out
from lexiseg.data.mini.sheets import read_sheets
from lexiseg.data.mini.sources import SOURCES
from lexiseg.errors import DataError, UnknownName

ASSETS = resources.files("lexiseg") / "assets" / "_mini-data"
CONTENTS = json.loads((ASSETS / "contents.json").read_text())
CLASSES = {one["name"]: one["id"] for one in json.loads((ASSETS / "classes.json").read_text())["classes"]}
RED, GREEN, BLUE = (220, 40, 40), (40, 200, 40), (40, 40, 220)


def picture(path, colour, size=(64, 64)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_tiny_imagenet(root):
    write_text(root / "wnids.txt", "n02\nn01\n")
    write_text(root / "words.txt", "n00\tentity\nn01\tgoldfish, Carassius auratus\nn02\tbullfrog\n")
    # as in the release, numbers do not sort as texts do
    for label, colour in (("n01", RED), ("n02", GREEN)):
        rows = []
        for number in (0, 1, 2, 10):
            picture(root / "train" / label / "images" / f"{label}_{number}.JPEG", tuple(c - 3 * number for c in colour))
            rows.append(f"{label}_{number}.JPEG\t{number}\t1\t60\t61")
        write_text(root / "train" / label / f"{label}_boxes.txt", "\n".join(rows) + "\n")
    for number, colour in ((0, GREEN), (1, RED), (2, GREEN)):
        picture(root / "val" / "images" / f"val_{number}.JPEG", colour)
    rows = ["val_2.JPEG\tn02\t1\t2\t3\t4", "val_0.JPEG\tn02\t5\t6\t7\t8", "val_1.JPEG\tn01\t0\t0\t63\t63"]
    write_text(root / "val" / "val_annotations.txt", "\n".join(rows) + "\n")


def write_caltech101(root):
    for label in [*CONTENTS["caltech101"], "Faces", "BACKGROUND_Google"]:
        for number in (1, 2):
            picture(root / label / f"image_{number:04d}.jpg", BLUE, (300, 200) if number == 1 else (100, 120))


def write_pacs(root):
    for label in (*mini_prepare.PACS_CLASSES, "person"):
        picture(root / "photo" / label / "056_0001.jpg", RED, (227, 227))


def write_grocery(root):
    places = {"Granny-Smith": "Fruit/Apple", "Avocado": "Fruit/Avocado"}
    rows = [
        "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),Iconic Image Path (str),"
        "Product Description Path (str)",
        "Avocado,1,Avocado,1,/i/Avocado.jpg,/iconic/Avocado.txt",
        "Granny-Smith,0,Apple,0,/i/Granny-Smith.jpg,/iconic/Granny-Smith.txt",
    ]
    write_text(root / "dataset" / "classes.csv", "\n".join(rows) + "\n")
    listed = []
    for number, (label, place) in enumerate(places.items()):
        write_text(root / "dataset" / "iconic" / f"{label}.txt", f"About {label}.\n")
        for at in (1, 2):
            name = f"train/{place}/{label}/{label}_{at:03d}.jpg"
            picture(root / "dataset" / name, GREEN, (348, 464))
            listed.append(f"{name}, {number}, {number}")
    write_text(root / "dataset" / "train.txt", "\n".join(reversed(listed)) + "\n")


def write_coco(root):
    """Photographs of 600 x 300: the left half is one thing or stuff; a small one lies in it."""
    images, shapes, captions, segments = [], [], [], []
    for number in CONTENTS["coco-panoptic"] + CONTENTS["coco-things"]:
        picture(root / "train2017" / f"{number:012d}.jpg", GREEN, (600, 300))
    for number in CONTENTS["coco-panoptic"]:
        ids = np.zeros((300, 600, 3), np.uint8)
        ids[:, :300] = (7, 1, 0)  # segment 7 + 256
        path = root / "annotations" / "panoptic_train2017" / f"{number:012d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ids).save(path)
        parts = [{"id": 263, "category_id": CLASSES["grass"]}]
        segments.append({"image_id": number, "file_name": path.name, "segments_info": parts})
    for at, number in enumerate(CONTENTS["coco-things"]):
        images.append({"id": number, "height": 300, "width": 600, "license": 4})
        left = [[0, 0, 300, 0, 300, 300, 0, 300]]
        crowd = np.zeros((300, 600), np.uint8, order="F")
        crowd[100:200, 100:200] = 1
        run_lengths = coco.encode(crowd)
        run_lengths["counts"] = run_lengths["counts"].decode()
        # the small one is listed first, and must not be hidden by the large one
        shapes += [
            {
                "image_id": number,
                "category_id": CLASSES["cat"],
                "area": 10_000,
                "segmentation": run_lengths,
                "iscrowd": 1,
            },
            {"image_id": number, "category_id": CLASSES["dog"], "area": 90_000, "segmentation": left, "iscrowd": 0},
        ]
        captions += [] if at % 2 else [{"image_id": number, "caption": " A cat on a dog.\n"}]
    folder = root / "annotations"
    write_text(folder / "panoptic_train2017.json", json.dumps({"annotations": segments}))
    write_text(folder / "instances_train2017.json", json.dumps({"images": images, "annotations": shapes}))
    write_text(folder / "captions_train2017.json", json.dumps({"annotations": captions}))


def write_msrc(root):
    left_of = {"1_1": "cow", "1_2": "sheep", "1_10": "dog", "2_3": "horse", "6_1": "face", "9_10": "road"}
    left_of |= {"12_2": "boat", "12_5": "body"}
    for key, left in left_of.items():
        labels = np.zeros((213, 320, 3), np.uint8)
        labels[:, :200] = MSRC_COLOURS[left]
        for place in ("Images", "GroundTruth"):
            (root / place).mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels).save(root / "GroundTruth" / f"{key}_s_GT.bmp")
        picture(root / "Images" / f"{key}_s.bmp", BLUE, (320, 213))


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    root = tmp_path_factory.mktemp("downloads")
    write_tiny_imagenet(root / "tiny-imagenet-200")
    write_caltech101(root / "caltech-101" / "101_ObjectCategories")
    write_pacs(root / "PACS")
    write_grocery(root / "GroceryStoreDataset")
    write_coco(root / "coco")
    write_msrc(root / "MSRC_ObjCategImageDatabase_v2")
    return root


@pytest.fixture(scope="module")
def prepared(downloads, tmp_path_factory):
    root = tmp_path_factory.mktemp("prepared")
    progress = []
    report = prepare_mini(root, [downloads], progress=lambda *done: progress.append(done))
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*.*")) == sorted(report.made)
    assert progress[-1] == (len(report.made), len(report.made))
    return root


def test_tiny_imagenet_comes_with_its_names_and_boxes_in_the_order_of_numbers(prepared):
    tiles = read_sheets(prepared / "photos-train", shards=("tiny",))
    assert [sheet.names for sheet in tiles.sheets] == [("goldfish", "Carassius auratus"), ("bullfrog",)]
    assert tiles.boxes[:4].tolist() == [[number, 1, 60, 61] for number in (0, 1, 2, 10)]
    for at, number in enumerate((0, 1, 2, 10)):
        assert np.abs(tiles.photograph(at).mean(axis=(0, 1)) - np.subtract(RED, 3 * number)).max() <= 4  # JPEG and WebP
    val = read_sheets(prepared / "photos-val")
    assert val.sheet.tolist() == [0, 1, 1]
    assert val.boxes.tolist() == [[0, 0, 63, 63], [5, 6, 7, 8], [1, 2, 3, 4]]
    assert (
        prepared / "words" / "wordnet-noun-synsets.txt"
    ).read_text() == "entity\ngoldfish, Carassius auratus\nbullfrog\n"


def test_other_photographs_are_made_small_and_never_larger(prepared):
    tiles = read_sheets(prepared / "photos-train", shards=("caltech",))
    assert {sheet.names[0] for sheet in tiles.sheets} == {names[0] for names in CONTENTS["caltech101"].values()}
    assert [tiles.photograph(at).shape for at in (0, 1)] == [(128, 192, 3), (120, 100, 3)]
    pacs = read_sheets(prepared / "photos-train", shards=("pacs",))
    assert [sheet.names for sheet in pacs.sheets] == [(label,) for label in mini_prepare.PACS_CLASSES]


def test_products_are_called_by_fine_and_coarse_names(prepared):
    tiles = read_sheets(prepared / "photos-train", shards=("grocery",))
    assert [sheet.names for sheet in tiles.sheets] == [("granny smith", "apple", "granny smith apple"), ("avocado",)]
    with tarfile.open(prepared / "photos-train" / "grocery-train-000.tar") as tar:
        assert json.load(tar.extractfile("000000.json"))["description"] == "About Granny-Smith."


def names_in(masked, photograph):
    return {masked.classes[at].names[0] for at in np.unique(photograph.truth()) if at != IGNORE}


def test_coco_has_its_segments_small_things_over_large_ones_and_captions(prepared):
    masked = read_masked(prepared / "masks-train", part="all", shards=("coco-train2017-panoptic",))
    assert len(masked.photographs) == 100
    one = masked.photographs[0]
    assert one.truth().shape == (240, 480)
    assert names_in(masked, one) == {"grass"}
    assert (one.truth()[:, 240:] == IGNORE).all()
    masked = read_masked(prepared / "masks-train", part="all", shards=("coco-train2017-things",))
    assert len(masked.photographs) == 341
    one, other = masked.photographs[:2]
    assert names_in(masked, one) == {"cat", "dog"}
    assert masked.classes[one.truth()[120, 120]].names[0] == "cat"
    assert (one.captions, other.captions) == (("A cat on a dog.",), ())


def test_msrc_is_cut_in_halves_without_faces_horses_and_copies(prepared):
    for folder, shard, wanted in (
        ("masks-train", "msrc", ["sheep", "dog", "boat"]),
        ("masks-val", "msrc", ["cow", "body"]),
    ):
        masked = read_masked(prepared / folder, part="all", shards=(shard,))
        assert [names_in(masked, one) for one in masked.photographs] == [{name} for name in wanted]
        assert (masked.photographs[0].truth()[:, 200:] == IGNORE).all()


def test_the_packed_set_is_what_recipes_read(prepared):
    pairs = MiniPairs(prepared)
    assert len(pairs.concepts) > 200
    image, captions = pairs.read(0)
    assert image.size == (128, 128)
    assert captions


def test_what_is_there_stays_and_gives_the_same_bytes_again(prepared, downloads, tmp_path):
    again = prepare_mini(prepared, [downloads])
    assert again.made == ()
    lost = prepared / "masks-val" / "msrc-odd.tar"
    before = lost.read_bytes()
    lost.unlink()
    assert prepare_mini(prepared, [downloads]).made == ("masks-val/msrc-odd.tar",)
    assert lost.read_bytes() == before


def test_all_that_is_missing_is_listed_before_anything_is_written(downloads, tmp_path):
    with pytest.raises(DataError) as raised:
        prepare_mini(tmp_path / "out", [downloads / "PACS"])
    assert all(source.name in str(raised.value) for source in SOURCES if source.name != "pacs")
    assert "pacs (" not in str(raised.value)
    assert not (tmp_path / "out").exists()
    write_msrc(tmp_path / "msrc")
    (tmp_path / "msrc" / "Images" / "1_1_s.bmp").unlink()
    with pytest.raises(DataError, match=r"msrc \(.*\) in .* lacks Images/1_1_s.bmp"):
        prepare_mini(tmp_path / "out", [tmp_path / "msrc"], only=["msrc"])


def test_a_few_sources_can_be_taken(downloads, tmp_path):
    assert prepare_mini(tmp_path, [downloads / "PACS"], only=["pacs"]).made == ("photos-train/pacs-photo-000.tar",)
    with pytest.raises(UnknownName, match="did you mean 'pacs'"):
        prepare_mini(tmp_path, [downloads], only=["pac"])


def test_a_colour_or_photograph_that_should_not_be_there_is_named(tmp_path):
    write_msrc(tmp_path)
    Image.new("RGB", (320, 213), (1, 2, 3)).save(tmp_path / "GroundTruth" / "1_2_s_GT.bmp")
    with pytest.raises(DataError, match=r"1_2_s_GT\.bmp has the colour #010203"):
        prepare_mini(tmp_path / "out", [tmp_path], only=["msrc"])
    assert not list((tmp_path / "out").rglob("*even*"))


@needs_photographs
def test_tiles_lie_where_they_do_in_the_projects_own_shards():
    widths = {"tiny-imagenet-train": mini_prepare.TINY_TRAIN, "caltech101": mini_prepare.CALTECH}
    widths |= {"pacs-photo": mini_prepare.PACS, "grocery-train": mini_prepare.GROCERY}
    for name, style in widths.items():
        with tarfile.open(LEXISEG_DATA / "photos-train" / f"{name}-000.tar") as tar:
            for member in [one for one in tar if one.name.endswith("json")]:
                content = json.load(io.TextIOWrapper(tar.extractfile(member)))
                sizes = [tuple(tile[2:]) for tile in content["tiles"]]
                assert [list(tile) for tile in lay_out(sizes, style.width)] == content["tiles"]


@needs_photographs
def test_the_chosen_photographs_and_classes_are_those_of_the_projects_own_shards():
    assert json.loads((LEXISEG_DATA / "masks-train" / "classes.json").read_text()) == json.loads(
        (ASSETS / "classes.json").read_text()
    )
    for kind in ("panoptic", "things"):
        with tarfile.open(LEXISEG_DATA / "masks-train" / f"coco-train2017-{kind}.tar") as tar:
            ids = [int(json.load(tar.extractfile(one))["id"]) for one in tar.getmembers() if one.name.endswith("json")]
        assert ids == CONTENTS[f"coco-{kind}"]
