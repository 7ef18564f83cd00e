from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from lexiseg.data.geometry import resize_labels
from lexiseg.data.labelled.dense import (
    MASKCLIP_PLUS,
    UNLABELLED,
    ZSSEG,
    DenseAugmentation,
    Relabelling,
)
from lexiseg.data.labelled.source import DenseSource
from lexiseg.data.loader import Loader
from lexiseg.errors import DataError
from lexiseg.layers.pixels import IMAGENET_MEAN, normalise

PLAIN = {"ratio": (1.0, 1.0), "flip": 0.0, "distort": False, "most_of_one": 1.0}


class Made:
    """A picture whose red channel is ten times its label."""

    def __init__(self, key, labels):
        self.key, self.labels = key, np.asarray(labels, np.uint8)

    def image(self):
        red = (self.labels * 10)[..., None]
        return np.concatenate([red, np.full_like(red, 50), np.full_like(red, 90)], axis=2)

    def truth(self):
        return self.labels


def blocks(height=40, width=60, classes=4, seed=0):
    coarse = np.random.default_rng(seed).integers(0, classes, (height // 10, width // 10))
    return np.repeat(np.repeat(coarse, 10, axis=0), 10, axis=1)


def test_labels_resize_as_the_nearest_pixel_centre():
    labels = np.random.default_rng(0).integers(-1, 300, (37, 53))
    for size in ((37, 53), (74, 106), (10, 20), (100, 7)):
        ours = resize_labels(labels, size)
        pixels = torch.from_numpy(labels)[None, None].double()
        reference = torch.nn.functional.interpolate(pixels, size, mode="nearest-exact")[0, 0].long()
        assert np.array_equal(ours, reference)


def test_hidden_classes_are_ignored_and_suppressed_ones_unlabelled():
    truth = np.array([[0, 1, 2, 3, 255]], np.uint8)
    assert Relabelling(hidden=(1,), suppressed=(2, 3))(truth).tolist() == [[0, 255, -1, -1, 255]]
    assert Relabelling(suppressed=tuple(range(4)))(truth).tolist() == [[-1, -1, -1, -1, 255]]
    wide = np.array([[0, 255, 300, 65535]], np.uint16)
    assert Relabelling(ignore=65535, suppressed=(255,))(wide).tolist() == [[0, -1, 300, 65535]]
    with pytest.raises(DataError, match="holds 65535"):
        Relabelling()(wide)


@pytest.mark.parametrize("seed", range(20))
def test_image_and_labels_stay_together(seed):
    augment = DenseAugmentation(crop=(32, 48), scale=(90, 60), distort=False)
    sample = Made("a", blocks(seed=seed))
    image, labels = augment(sample.image(), Relabelling()(sample.truth()), np.random.default_rng(seed))
    assert image.shape == (3, 32, 48)
    assert labels.shape == (32, 48)
    inside = torch.zeros_like(labels, dtype=torch.bool)  # pixels whose neighbours agree: no blending between labels
    same = (labels[1:-1, 1:-1] == labels[:-2, 1:-1]) & (labels[1:-1, 1:-1] == labels[2:, 1:-1])
    same &= (labels[1:-1, 1:-1] == labels[1:-1, :-2]) & (labels[1:-1, 1:-1] == labels[1:-1, 2:])
    inside[1:-1, 1:-1] = same & (labels[1:-1, 1:-1] != 255)
    assert inside.float().mean() > 0.3
    assert ((image[0] / 10).round() == labels)[inside].float().mean() > 0.98


@pytest.mark.parametrize(
    ("size", "settings", "expected"),
    [
        ((375, 500), {"scale": (2048, 512)}, (512, 683)),  # short side 512
        ((100, 1000), {"scale": (2048, 512)}, (205, 2048)),  # unless the long side would pass 2048
        ((375, 500), {"scale": (520, 520)}, (390, 520)),  # long side 520
        ((375, 500), {"scale": (2048, 512), "ratio": (0.5, 0.5)}, (256, 341)),
        ((480, 640), {"short_sides": (320,)}, (320, 427)),
        ((100, 1000), {"short_sides": (640,), "longest": 2560}, (256, 2560)),
    ],
)
def test_pictures_are_scaled_by_the_papers_rules(size, settings, expected):
    augment = DenseAugmentation(**PLAIN | settings)
    assert augment.resized(size, np.random.default_rng(0)) == expected


def test_the_ratio_of_scales_is_uniform():
    random, augment = np.random.default_rng(0), DenseAugmentation()
    shorts = [min(augment.resized((512, 512), random)) for _ in range(2000)]
    assert min(shorts) < 270
    assert max(shorts) > 1010
    assert np.mean(shorts) == pytest.approx(1.25 * 512, rel=0.02)


def test_the_published_augmentations_have_their_numbers():
    assert (MASKCLIP_PLUS.crop, MASKCLIP_PLUS.scale, MASKCLIP_PLUS.ratio) == ((512, 512), (2048, 512), (0.5, 2.0))
    assert (MASKCLIP_PLUS.most_of_one, MASKCLIP_PLUS.flip, MASKCLIP_PLUS.pad) == (0.75, 0.5, (124, 116, 104))
    assert len(ZSSEG.short_sides) == 11
    assert (ZSSEG.short_sides[0], ZSSEG.short_sides[-1], ZSSEG.crop, ZSSEG.pad) == (320, 960, (640, 640), (128,) * 3)


def one_label_most_often(labels, most, tries=200):
    augment = DenseAugmentation(crop=(20, 20), scale=(100, 100), **PLAIN | {"most_of_one": most})
    image = np.zeros((*labels.shape, 3), np.uint8)
    shares = []
    for seed in range(tries):
        _, cropped = augment(image, labels, np.random.default_rng(seed))
        counted = cropped[cropped != 255]
        shares.append(Counter(counted.tolist()).most_common(1)[0][1] / max(1, len(counted)))
    return np.array(shares)


def test_crops_of_mostly_one_label_are_drawn_again():
    labels = np.zeros((100, 100), np.int64)
    labels[:, 50:] = 1
    once = 72 / 81  # of the 81 places of a 20 px crop, 9 have more than 5 px of both labels
    assert (one_label_most_often(labels, 1.0) >= 0.75).mean() == pytest.approx(once, abs=0.08)
    assert (one_label_most_often(labels, 0.75) >= 0.75).mean() == pytest.approx(once**11, abs=0.1)


def test_ignored_pixels_do_not_count_against_a_crop():
    labels = np.full((100, 100), 255, np.int64)
    labels[:, 0::4], labels[:, 1::4] = 0, 1
    assert (one_label_most_often(labels, 0.75, tries=20) < 0.75).all()


def test_after_ten_draws_the_eleventh_is_taken():
    class Counting:
        def __init__(self):
            self.numbers, self.drawn = np.random.default_rng(0), 0

        def __getattr__(self, name):
            return getattr(self.numbers, name)

        def integers(self, *arguments):
            self.drawn += 1
            return self.numbers.integers(*arguments)

    random, unlabelled = Counting(), np.full((100, 100), UNLABELLED, np.int64)
    augment = DenseAugmentation(crop=(20, 20), scale=(100, 100), **PLAIN | {"most_of_one": 0.75})
    augment(np.zeros((100, 100, 3), np.uint8), unlabelled, random)
    assert random.drawn == 2 * 11


def test_the_mean_colour_is_nearly_zero_for_a_network():
    grey = torch.tensor(MASKCLIP_PLUS.pad, dtype=torch.uint8)[:, None, None]
    assert np.array_equal(grey.flatten(), np.round(np.array(IMAGENET_MEAN) * 255))
    assert normalise(grey, "imagenet").abs().max() < 0.5 / 255 / 0.22


def test_small_pictures_are_padded_to_the_right_and_below():
    augment = DenseAugmentation(crop=(50, 70), scale=(60, 40), pad=(7, 8, 9), **PLAIN)
    sample = Made("a", blocks())
    image, labels = augment(sample.image(), Relabelling()(sample.truth()), np.random.default_rng(0))
    assert (labels[40:] == 255).all()
    assert (labels[:, 60:] == 255).all()
    assert np.array_equal(labels[:40, :60], sample.truth())
    for channel, level in enumerate((7, 8, 9)):
        assert (image[channel, 40:] == level).all()
        assert (image[channel, :, 60:] == level).all()


def test_a_flip_mirrors_both():
    sample = Made("a", blocks())
    straight, flipped = (
        DenseAugmentation(crop=(40, 60), scale=(60, 40), **PLAIN | {"flip": flip})(
            sample.image(), Relabelling()(sample.truth()), np.random.default_rng(0)
        )
        for flip in (0.0, 1.0)
    )
    assert torch.equal(flipped[0], straight[0].flip(-1))
    assert torch.equal(flipped[1], straight[1].flip(-1))


def source(**settings):
    labelled = [Made(f"labelled-{seed}", blocks(seed=seed)) for seed in range(5)]
    unlabelled = [Made(f"unlabelled-{seed}", blocks(seed=seed)) for seed in range(2)]
    return DenseSource(labelled, DenseAugmentation(crop=(24, 24), scale=(60, 40)), unlabelled=unlabelled, **settings)


def test_pictures_without_labels_are_among_those_with_labels():
    batch, _ = next(Loader(source(relabel=Relabelling(suppressed=(1,))), batch_size=7).stream())
    labels = dict(zip(batch["keys"], batch["labels"], strict=True))
    assert len(labels) == 7
    for key, found in labels.items():
        values = set(found.unique().tolist()) - {255}
        assert values == {UNLABELLED} if key.startswith("unlabelled") else values <= {UNLABELLED, 0, 2, 3}
    assert batch["labels"].dtype == torch.int64


def test_dense_batches_resume_and_do_not_depend_on_workers():
    expected = list(islice(Loader(source(), batch_size=3).stream(), 6))
    position = expected[2][1]
    for settings in ({}, {"workers": 2, "kind": "threads"}, {"workers": 2}):
        rest = list(islice(Loader(source(), batch_size=3, **settings).stream(position), 3))
        for (ours, at), (theirs, where) in zip(rest, expected[3:], strict=True):
            assert ours["keys"] == theirs["keys"]
            assert torch.equal(ours["images"], theirs["images"])
            assert torch.equal(ours["labels"], theirs["labels"])
            assert at == where


def test_a_label_map_of_another_size_or_an_unreadable_one_is_skipped():
    class Wrong(Made):
        def truth(self):
            return self.labels[1:]

    class Broken(Made):
        def image(self):
            raise DataError("cut off")

    samples = [Made("a", blocks()), Wrong("b", blocks()), Broken("c", blocks())]
    loader = Loader(DenseSource(samples, DenseAugmentation(crop=(8, 8))), batch_size=3, max_bad_fraction=1)
    batch, _ = next(loader.stream())
    assert set(batch["keys"]) == {"a"}
    assert set(loader.skipped) == {"sizes differ", "unreadable sample"}


def test_the_manifest_tells_what_the_model_is_told():
    one = source(relabel=Relabelling(hidden=(3,), suppressed=(1,)), facts={"benchmark": "made up"}).manifest()
    assert (one["labelled"], one["unlabelled"], one["hidden"], one["suppressed"]) == (5, 2, [3], [1])
    assert one["benchmark"] == "made up"
    assert one["sha256"] == source().manifest()["sha256"]


def test_pillow_shows_the_same_grid_as_the_labels():
    """Image and labels are resized by different code: an upscaled staircase must keep its steps in one place."""
    labels = np.array([[0, 1], [2, 3]])
    image = np.asarray(Image.fromarray((labels * 60).astype(np.uint8)).resize((40, 40), Image.Resampling.NEAREST))
    assert np.array_equal(resize_labels(labels, (40, 40)) * 60, image)
