from __future__ import annotations

from dataclasses import FrozenInstanceError
from itertools import islice

import numpy as np
import pytest
from photographs import write_root
from PIL import Image
from transformers import BertTokenizer

from lexiseg import settings
from lexiseg.data.labelled.dense import UNLABELLED, DenseAugmentation
from lexiseg.data.labelled.descriptions import PhotographData
from lexiseg.data.mini.descriptions import MaskedData, MiniData
from lexiseg.data.mini.pairs import Mini
from lexiseg.data.opening import Workers
from lexiseg.data.pairs.captions import nouns_and_verbs
from lexiseg.data.pairs.descriptions import Captions, PairData
from lexiseg.data.scene_data import SceneLabelData, ScenePairData
from lexiseg.data.scenes import Scenes, class_names
from lexiseg.data.transforms import PairAugmentation
from lexiseg.errors import DataError, SettingError, UnknownName

OPEN = {"batch_size": 4, "seed": 0, "max_bad_fraction": 0.1}
SMALL = DenseAugmentation(crop=(32, 32), scale=(64, 48))


@pytest.fixture
def root(tmp_path):
    return str(write_root(tmp_path / "root"))


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    for level in range(3):
        Image.new("RGB", (40, 30), (level, 0, 0)).save(tmp_path / "photos" / f"{level}.png")
        (tmp_path / "photos" / f"{level}.txt").write_text(f"a picture of level {level}")
    return str(tmp_path / "photos")


def test_every_description_opens_as_a_loader(root, photos):
    mini = Mini(size=32, canvases=10, repeats=1)
    one = Workers(number=0)
    for data, fields in (
        (PairData((photos, photos), augmentation=PairAugmentation(size=16)), {"keys", "images", "texts"}),
        (MiniData(root, pairs=mini, augmentation=PairAugmentation(size=16), workers=one), {"keys", "images", "texts"}),
        (ScenePairData(Scenes(count=8, size=24)), {"keys", "images", "texts"}),
        (SceneLabelData(Scenes(count=8, size=24)), {"keys", "images", "labels"}),
        (MaskedData(root, augmentation=SMALL, workers=one), {"keys", "images", "labels"}),
        (PhotographData((photos,), augmentation=SMALL), {"keys", "images", "labels"}),
    ):
        loader = data.open(**OPEN)
        batch, position = next(loader.stream(None, rank=0, world=1))
        assert set(batch) == fields
        assert {len(value) for value in batch.values()} == {4}
        assert position["sample"] + position["epoch"] * loader.samples_per_epoch == 4
        assert loader.manifest()["samples"] == loader.samples_per_epoch


def test_settings_reach_into_a_description(photos):
    data = settings.change(
        PairData((photos,)), {"augmentation.size": "32", "workers.number": "1", "captions.prompts": "2"}
    )
    batch, _ = next(data.open(**OPEN).stream())
    assert batch["images"].shape == (4, 3, 32, 32)
    assert [len(prompts) for prompts in batch["prompts"]] == [2] * 4
    with pytest.raises(UnknownName, match=r"did you mean 'augmentation\.size'"):
        settings.change(data, {"augmentation.sise": "3"})
    with pytest.raises(FrozenInstanceError):
        data.places = ()


def test_a_wordpiece_tokenizer_turns_on_the_noise(photos, tmp_path):
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789"]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "tokenizer")
    captions = Captions(tokenizer=str(tmp_path / "tokenizer"))
    data = PairData((photos,), augmentation=PairAugmentation(size=8), captions=captions)
    texts = [text for batch, _ in islice(data.open(**OPEN).stream(), 10) for text in batch["texts"]]
    assert any("[MASK]" in text for text in texts)
    with pytest.raises(SettingError, match="cannot be loaded"):
        PairData((photos,), captions=Captions(tokenizer=str(tmp_path / "nothing"))).open(**OPEN)


def test_words_of_a_caption_take_its_place(photos):
    data = PairData((photos,), augmentation=PairAugmentation(size=8), captions=Captions(words="a photo of {}."))
    plain = PairData((photos,), augmentation=PairAugmentation(size=8))
    found, captions = (
        {text for batch, _ in islice(each.open(**OPEN).stream(), 10) for text in batch["texts"]}
        for each in (data, plain)
    )
    words = {caption: nouns_and_verbs(caption) for caption in captions}
    assert found == {f"a photo of {' '.join(each)}." if each else caption for caption, each in words.items()}
    with pytest.raises(SettingError, match="where the caption's words go"):
        Captions(words="a photo")
    with pytest.raises(SettingError, match="both change the caption"):
        Captions(words="{}", tokenizer="any")


def test_classes_are_hidden_and_suppressed_by_name(root):
    data = MaskedData(root, hidden=("cat",), suppressed=("grass",), augmentation=SMALL, workers=Workers())
    batches = [batch for batch, _ in islice(data.open(**OPEN).stream(), 10)]
    found = set(np.unique([batch["labels"].numpy() for batch in batches]))
    assert found == {UNLABELLED, 0, 255}  # person is left; cat is ignored
    every = MaskedData(root, suppressed=("*",), augmentation=SMALL, workers=Workers())
    batch, _ = next(every.open(**OPEN).stream())
    assert set(batch["labels"].unique().tolist()) <= {UNLABELLED, 255}
    with pytest.raises(UnknownName, match="did you mean 'grass'"):
        MaskedData(root, hidden=("gras",)).open(**OPEN)


def test_unlabelled_photographs_are_unlabelled_everywhere(photos):
    data = PhotographData((photos,), augmentation=DenseAugmentation(crop=(16, 16), scale=(64, 64), ratio=(1.0, 1.0)))
    batch, _ = next(data.open(**OPEN).stream())
    assert (batch["labels"] == UNLABELLED).all()


def test_photographs_of_a_folder_are_those_that_segment_finds(tmp_path, caplog):
    for name in ("a.Jpg", "b.png"):
        Image.new("RGB", (64, 64), "red").save(tmp_path / name, "PNG")
    (tmp_path / "c.nef").touch()
    data = PhotographData((str(tmp_path),), augmentation=DenseAugmentation(crop=(16, 16), scale=(64, 64)))
    assert sum(data.source().blocks) == 2
    assert "1 camera raw (convert to JPEG or PNG)" in caplog.text
    with pytest.raises(DataError, match=r"https://example.com/photos is a URL"):
        PhotographData(("https://example.com/photos",)).source()


def test_label_free_photographs_are_unlabelled_even_where_their_maps_say_ignore(root):
    whole = DenseAugmentation(crop=(16, 16), scale=(64, 64), ratio=(1.0, 1.0))
    data = MaskedData(root, label_free=True, augmentation=whole, workers=Workers())
    for batch, _ in islice(data.open(**OPEN).stream(), 5):
        assert (batch["labels"] == UNLABELLED).all()


def test_scene_labels_are_over_the_class_names():
    batch, _ = next(SceneLabelData(Scenes(count=8, size=64)).open(**OPEN).stream())
    assert set(batch["labels"].unique().tolist()) <= {*range(len(class_names())), 255}


def test_missing_places_are_errors(tmp_path):
    for data in (
        PairData(()),
        MiniData(str(tmp_path / "no")),
        PhotographData((str(tmp_path),)),
        MaskedData(str(tmp_path)),
    ):
        with pytest.raises(DataError):
            data.open(**OPEN)
