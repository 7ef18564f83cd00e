from __future__ import annotations

import io
import json
import logging
import sys
from itertools import islice

import numpy as np
import pytest
from PIL import Image
from tars import write

from lexiseg.data.loader import Loader
from lexiseg.data.pairs.captions import clean
from lexiseg.data.pairs.pairs import Concatenated, PairSource
from lexiseg.data.pairs.readers import FilePairs, HubPairs, ShardPairs, open_pairs
from lexiseg.data.transforms import PairAugmentation
from lexiseg.errors import BadSample, DataError, MissingDependency


def jpeg(level=0, size=(12, 8)):
    data = io.BytesIO()
    Image.new("RGB", size, (level, 100, 200)).save(data, "PNG")
    return data.getvalue()


def captions_of(pairs):
    return [tuple(clean(text) for text in pairs.read(index)[1]) for index in range(sum(pairs.blocks))]


def reasons_of(pairs):
    found = {}
    for index in range(sum(pairs.blocks)):
        try:
            pairs.read(index)
        except BadSample as error:
            found[pairs.key(index)] = error.reason
    return found


@pytest.fixture
def photos(tmp_path):
    for level in range(4):
        (tmp_path / "photos" / f"{level % 2}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / f"{level % 2}" / f"{level}.png").write_bytes(jpeg(level))
    return tmp_path / "photos"


def test_pictures_are_found_as_segment_finds_them(photos, tmp_path, caplog):
    (photos / "0/0.png").rename(photos / "0/0.Png")
    (photos / "more").symlink_to(tmp_path / "photos" / "1")
    (photos / "raw.cr2").touch()
    (photos / "0/2.txt").write_text("two")
    (photos / ".hidden.png").write_bytes(jpeg())
    pairs = open_pairs(photos)
    assert [pairs.key(index) for index in range(sum(pairs.blocks))] == ["0/0.Png", "0/2.png", "1/1.png", "1/3.png"]
    for said in ("1 camera raw (convert to JPEG or PNG)", "1 hidden", "1 linked folders that are listed already"):
        assert said in caplog.text
    with pytest.raises(DataError, match="is a URL, and lexiseg reads local files"):
        open_pairs("https://example.com/pairs.tsv")


def test_a_folder_has_captions_beside_its_pictures(photos):
    (photos / "0/0.txt").write_text("zero\n")
    (photos / "0/2.json").write_text('{"caption": "two", "source": "x"}')
    (photos / "1/1.json").write_text('{"captions": ["one", "uno"]}')
    pairs = open_pairs(photos)
    assert isinstance(pairs, FilePairs)
    assert pairs.blocks == [4]
    assert [pairs.key(index) for index in range(4)] == ["0/0.png", "0/2.png", "1/1.png", "1/3.png"]
    assert [tuple(map(clean, pairs.read(index)[1])) for index in range(3)] == [("zero",), ("two",), ("one", "uno")]
    assert pairs.read(1)[0].getpixel((0, 0)) == (2, 100, 200)
    assert reasons_of(pairs) == {"1/3.png": "missing caption"}


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("list.csv", 'filepath,title\n0/0.png,"a dog, a cat"\n1/1.png,two\n', {}),  # as open_clip writes CC3M
        ("list.tsv", "a dog, a cat\t0/0.png\ntwo\t1/1.png\n", {"image_column": 1, "caption_column": 0}),  # CC3M itself
        ("list.tsv", "url\tcaption\tpath\nx\ta dog, a cat\t0/0.png\ny\ttwo\t1/1.png\n", {}),
        (
            "list.csv",
            'shot,raw\n0/0.png,"a dog, a cat"\n1/1.png,two\n',
            {"image_column": "shot", "caption_column": "raw"},
        ),
    ],
)
def test_lists_name_pictures_and_captions(photos, name, content, columns):
    (photos / name).write_text(content)
    pairs = open_pairs(photos / name, **columns)
    assert captions_of(pairs) == [("a dog, a cat",), ("two",)]
    assert pairs.read(1)[0].getpixel((0, 0)) == (1, 100, 200)


def test_lists_may_lie_elsewhere_than_their_pictures(photos, tmp_path):
    (tmp_path / "list.csv").write_text("image,caption\n1/3.png,three\n")
    assert captions_of(open_pairs(tmp_path / "list.csv", images=photos)) == [("three",)]


def test_a_list_without_known_columns_says_what_it_has(tmp_path):
    (tmp_path / "list.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="has columns a, b"):
        open_pairs(tmp_path / "list.csv")
    with pytest.raises(DataError, match="no column 'shot'; its first row is a, b"):
        open_pairs(tmp_path / "list.csv", image_column="shot", caption_column="b")


def test_coco_captions_come_together_or_one_by_one(photos):
    content = {
        "images": [
            {"id": 7, "file_name": "0/0.png"},
            {"id": 8, "file_name": "1/1.png"},
            {"id": 9, "file_name": "0/2.png"},
        ],
        "annotations": [
            {"image_id": 8, "caption": "b"},
            {"image_id": 7, "caption": "a"},
            {"image_id": 7, "caption": "c"},
        ],
    }
    (photos / "captions.json").write_text(json.dumps(content))
    pairs = open_pairs(photos / "captions.json")
    assert captions_of(pairs) == [("a", "c"), ("b",), ("",)]
    each = open_pairs(photos / "captions.json", each_caption=True)
    assert [(each.key(index), *captions_of(each)[index]) for index in range(3)] == [
        ("0/0.png", "a"), ("0/0.png", "c"), ("1/1.png", "b"),
    ]  # fmt: skip
    (photos / "wrong.json").write_text('{"images": []}')
    with pytest.raises(DataError, match="not a COCO captions file"):
        open_pairs(photos / "wrong.json")


@pytest.fixture
def shards(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    write(
        folder / "0.tar",
        [("a.png", jpeg(0)), ("a.txt", b"zero"), ("b.png", jpeg(1)), ("b.json", b'{"captions": ["one"]}')],
    )
    write(
        folder / "1.tar",
        [("c.txt", b"no picture"), ("d.png", b"broken"), ("d.txt", b"x"), ("e.png", jpeg(4)), ("e.txt", b" ")],
    )
    return folder


def test_shards_are_read_by_position(shards):
    pairs = open_pairs(shards)
    assert isinstance(pairs, ShardPairs)
    assert pairs.blocks == [2, 3]
    assert tuple(pairs.read(0)[1]) == ("zero",)
    assert tuple(pairs.read(1)[1]) == ("one",)
    assert pairs.read(1)[0].getpixel((0, 0)) == (1, 100, 200)
    assert reasons_of(pairs) == {"1/c": "missing key", "1/d": "broken image"}
    assert open_pairs(shards / "0.tar").blocks == [2]


def test_a_shard_that_ends_early_is_noticed(shards):
    whole = (shards / "0.tar").read_bytes()
    (shards / "0.tar").write_bytes(whole[: len(whole) // 2 - 4096])
    pairs = open_pairs(shards)
    assert "shard ends early" in reasons_of(pairs).values()


def test_a_manifest_tells_how_many_samples_a_shard_lost(shards):
    (shards / "1.tar").write_bytes(b"")
    (shards / "manifest.json").write_text(
        json.dumps(
            {"shards": [{"name": "0.tar", "samples": 2, "sha256": "x"}, {"name": "1.tar", "samples": 3, "sha256": "y"}]}
        )
    )
    pairs = open_pairs(shards)
    assert pairs.blocks == [2, 3]
    assert reasons_of(pairs) == {f"1/{at}": "shard ends early" for at in range(3)}


def test_bad_pairs_are_counted_by_reason_and_named(shards, caplog):
    source = PairSource(open_pairs(shards), PairAugmentation(size=8))
    loader = Loader(source, batch_size=5, max_bad_fraction=1)
    with caplog.at_level(logging.WARNING):
        batch, _ = next(loader.stream())
    assert set(batch["texts"]) == {"zero", "one"}
    assert set(loader.skipped) == {"missing key", "broken image", "empty caption"}
    assert "skipped 1/d: broken image" in caplog.text
    with pytest.raises(DataError, match=r"max_bad_fraction is 0\.2"):
        list(islice(Loader(source, batch_size=5, max_bad_fraction=0.2).stream(), 3))


def test_samples_hold_one_of_the_captions_and_what_is_made_of_it(photos):
    (photos / "list.csv").write_text("image,caption\n0/0.png,a dog\n")
    pairs = Concatenated([open_pairs(photos / "list.csv")] * 2)
    source = PairSource(
        pairs, PairAugmentation(size=8), caption=lambda text, _: text.upper(), prompts=lambda text, _: [text, text]
    )
    sample = source.load(1, np.random.default_rng(0))
    assert sample["text"] == "A DOG"
    assert sample["prompts"] == ["a dog", "a dog"]
    assert sample["image"].shape == (3, 8, 8)
    assert source.blocks == [1, 1]


def test_all_captions_of_a_picture_are_drawn(photos):
    (photos / "0/0.json").write_text('{"captions": ["one", " ", "two"]}')
    source = PairSource(open_pairs(photos), PairAugmentation(size=8))
    drawn = {source.load(0, np.random.default_rng(seed))["text"] for seed in range(30)}
    assert drawn == {"one", "two"}


def test_concatenated_sets_keep_their_order_and_keys(photos, shards):
    (photos / "list.csv").write_text("image,caption\n0/0.png,a\n1/1.png,b\n")
    pairs = Concatenated([open_pairs(shards / "0.tar"), open_pairs(photos / "list.csv")])
    assert pairs.blocks == [2, 2]
    assert [pairs.key(index) for index in range(4)] == ["0/a", "0/b", "0/0.png", "1/1.png"]
    assert tuple(pairs.read(3)[1]) == ("b",)


def test_manifests_change_with_the_data(photos, shards):
    (photos / "list.csv").write_text("image,caption\n0/0.png,a\n")
    first = open_pairs(photos / "list.csv").manifest()
    assert first == open_pairs(photos / "list.csv").manifest()
    (photos / "list.csv").write_text("image,caption\n0/0.png,b\n")
    assert first != open_pairs(photos / "list.csv").manifest()
    assert json.loads(json.dumps(open_pairs(shards).manifest()))["samples"] == 5


def test_rows_of_a_hub_data_set_are_pairs():
    rows = [
        {"image": Image.new("L", (4, 4)), "text": "a"},
        {"image": {"bytes": jpeg(9), "path": None}, "text": ["b", "c"]},
        {"image": None, "text": "d"},
    ]
    pairs = HubPairs(rows, name="x", image_column="image", caption_column="text")
    assert pairs.read(0)[0].mode == "RGB"
    assert tuple(pairs.read(1)[1]) == ("b", "c")
    assert pairs.read(1)[0].getpixel((0, 0))[0] == 9
    assert reasons_of(pairs) == {"x/2": "missing key"}


def test_the_hub_needs_datasets(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependency, match=r"lexiseg\[data\]"):
        open_pairs("hub:owner/name")


def test_nothing_there_is_an_error_that_says_so(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        open_pairs(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no pictures"):
        open_pairs(tmp_path)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("CMYK", (3, 2), (255, 0, 0, 0)), (0, 255, 255)),
        (Image.new("L", (3, 2), 77), (77, 77, 77)),
        (Image.new("RGBA", (3, 2), (10, 20, 30, 0)), (255, 255, 255)),
        (Image.fromarray(np.full((2, 3), 65535, np.uint16)), (255, 255, 255)),
        (Image.new("1", (3, 2), 1), (255, 255, 255)),
    ],
)
def test_any_kind_of_picture_becomes_rgb(tmp_path, image, expected):
    (tmp_path / "a.txt").write_text("text")
    image.save(tmp_path / ("a.tif" if image.mode == "CMYK" else "a.png"))
    assert open_pairs(tmp_path).read(0)[0].getpixel((0, 0)) == expected


def test_pictures_are_turned_as_the_camera_says(tmp_path):
    image = Image.new("RGB", (30, 20))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "a.txt").write_text("text")
    assert open_pairs(tmp_path).read(0)[0].size == (20, 30)


@pytest.mark.parametrize("content", [b"", b"text", jpeg()[:45]], ids=["empty", "text", "cut"])
def test_broken_pictures_are_bad_samples(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    (tmp_path / "a.txt").write_text("text")
    assert reasons_of(open_pairs(tmp_path)) == {"a.png": "broken image"}
