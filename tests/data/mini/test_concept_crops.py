"""Crops of masked photographs: labels stay on their pixels, and what is kept aside stays aside."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from photographs import write_root

from lexiseg.data.mini import meanings
from lexiseg.data.mini.concept_crops import (
    ABSENT,
    PLACE,
    UNKNOWN,
    ConceptCrops,
    Crops,
    CropSource,
    SceneCrops,
    kept_aside,
)
from lexiseg.data.mini.masked import IGNORE, read_masked
from lexiseg.data.mini.meanings import prepare, read_words
from lexiseg.data.mini.pairs import Mini, MiniPairs
from lexiseg.data.opening import Workers
from lexiseg.data.scenes import Scenes, class_names

PLAIN = Crops(size=48, sides=(40, 64), sheets=2, sheet_size=32, spoilt=0.0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A data root, and the words prepared for it."""
    folder = tmp_path_factory.mktemp("data")
    root, words, nouns = write_root(folder / "root"), folder / "words.safetensors", folder / "nouns.txt"
    nouns.write_text("entity\nkitten, pussycat\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            meanings, "sentence_vectors", lambda texts: np.random.default_rng(0).normal(size=(len(texts), 24))
        )
        prepare(MiniPairs(root, Mini(size=48)).concepts, nouns, words, dimension=16)
    return {"root": str(root), "words": str(words)}


def source(place: dict[str, str], crops: Crops = PLAIN, **changes: Any) -> CropSource:
    concepts = read_words(Path(place["words"])).concepts
    return CropSource(Path(place["root"]), concepts, crops, cache=None, **changes)


def test_batches_have_the_shapes_that_the_objective_reads(place: dict[str, str]) -> None:
    loader = ConceptCrops(**place, crops=PLAIN, workers=Workers(0)).open(batch_size=3, seed=0, max_bad_fraction=0.0)
    ((batch, _),) = islice(loader.stream(), 1)
    concepts = len(read_words(Path(place["words"])).concepts.names)
    assert batch["images"].shape == (3, 3, 48, 48)
    assert batch["images"].dtype == batch["sheets"].dtype == torch.uint8
    assert batch["labels"].shape == (3, 6, 6)
    assert batch["exclusive"].shape == batch["things"].shape == (3, concepts)
    assert batch["sheets"].shape == (3, 2, 3, 32, 32)
    assert batch["named"].shape == (3, 2)
    assert batch["labels"].max() < concepts


def test_the_same_number_gives_the_same_sample(place: dict[str, str]) -> None:
    spoilt = replace(PLAIN, spoilt=1.0)
    one, other = (source(place, spoilt).load(5, np.random.default_rng(7)) for _ in range(2))
    for name, value in one.items():
        assert np.array_equal(value, other[name]), name


def test_a_label_is_that_of_its_pixels(place: dict[str, str]) -> None:
    """A photograph that is its own label map, in levels, stays one through scaling, cropping and mirroring."""
    crops = source(place)
    photograph = crops._masked.photographs[0]
    truth = (np.indices((40, 60)).sum(axis=0) // 20 % 2).astype(np.uint8)
    drawn = replace(photograph, _image=np.repeat(truth[..., None] * 200, 3, axis=2), _labels=truth, _indices=None)
    agree = total = 0
    for seed in range(20):
        image, labels = crops._crop(drawn, np.random.default_rng(seed))
        inside = labels != IGNORE
        assert (image[~inside] == 127).all()
        agree += int(((image[..., 0] > 100) == (labels == 1))[inside].sum())
        total += int(inside.sum())
    assert agree / total > 0.93  # but for blended borders


def test_a_crop_larger_than_the_photograph_is_grey_around_it(place: dict[str, str]) -> None:
    crops = source(place, replace(PLAIN, size=96, sides=(40, 40)))
    image, labels = crops._crop(crops._masked.photographs[0], np.random.default_rng(0))
    assert image.shape == (96, 96, 3)
    around = (image == 127).all(axis=2)
    assert around.mean() > 0.3
    assert (labels[around] == IGNORE).mean() > 0.9


def test_what_candidates_are_compared_on_is_left_out(place: dict[str, str]) -> None:
    everything = {one.key for one in read_masked(Path(place["root"]) / "masks-train", part="all").photographs}
    used = {one.key for one in source(place)._masked.photographs}
    assert used == {key for key in everything if not kept_aside(key)}
    assert {one.key for one in source(place, everything=True)._masked.photographs} == everything
    assert sum(kept_aside(f"coco-train2017-things/{at:06d}") for at in range(341)) == 68
    assert sum(kept_aside(f"coco-train2017-panoptic/{at:06d}") for at in range(100)) == 20
    assert sum(kept_aside(f"msrc-even/{at:06d}") for at in range(278)) == 54


def test_noise_and_light_change_the_picture_and_no_label(place: dict[str, str]) -> None:
    plain, spoilt = source(place), source(place, replace(PLAIN, spoilt=1.0, noisy=1.0))
    image = np.full((32, 32, 3), 127, np.uint8)
    assert np.array_equal(plain._spoil(_picture(image), np.random.default_rng(0)), image)
    found = spoilt._spoil(_picture(image), np.random.default_rng(0))
    assert found.dtype == np.uint8
    assert found.std() > 1


def test_drawn_scenes_are_samples_of_the_same_form() -> None:
    loader = SceneCrops(Scenes(count=8, size=64)).open(batch_size=4, seed=0, max_bad_fraction=0.0)
    ((batch, _),) = islice(loader.stream(), 1)
    assert batch["labels"].shape == (4, 64 // PLACE, 64 // PLACE)
    assert batch["labels"].max() < len(class_names())
    assert batch["labels"].min() >= UNKNOWN > ABSENT
    assert batch["exclusive"].all()


def _picture(image: np.ndarray) -> Any:
    from PIL import Image

    return Image.fromarray(image)
