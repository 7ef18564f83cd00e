"""A user's masks, in whatever form, are what a method that takes masks is asked about, at the right pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional

import lexiseg
from lexiseg.errors import DataError, SettingError
from lexiseg.inference.given_masks import cut, given
from lexiseg.inference.windows import Box
from lexiseg.proposals._proposals import Proposals
from lexiseg.segmenter import Traits
from methods.shelf import doubles

from .fakes import Colours, predictor

WORDS = ["cat", "grass", "sky", "road", "dog"]
SIZE = (48, 64)


@pytest.fixture(autouse=True)
def _doubles() -> Iterator[None]:
    with doubles():
        yield


def masked(**changes: Any) -> Any:
    return lexiseg.load("masked/tiny", device="cpu", dtype="fp32", **changes)


def photo(height: int = SIZE[0], width: int = SIZE[1], seed: int = 2) -> np.ndarray:
    coarse = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(seed)) * 255
    return functional.interpolate(coarse, (height, width), mode="bilinear")[0].permute(1, 2, 0).byte().numpy()


def parts(height: int = SIZE[0], width: int = SIZE[1]) -> np.ndarray:
    """Six blocks with numbers that leave gaps, and a strip at the right that is in none."""
    labels = np.full((height, width), 255, np.uint8)
    for place, number in enumerate((3, 0, 250, 7, 90, 12)):
        row, column = divmod(place, 3)
        labels[row * height // 2 : (row + 1) * height // 2, column * width // 4 : (column + 1) * width // 4] = number
    return labels


def stack(labels: np.ndarray) -> np.ndarray:
    return np.stack([labels == number for number in np.unique(labels) if number != 255])


def numbered(labels: np.ndarray) -> torch.Tensor:
    """Parts from 0 on, -1 for none [1, H, W]."""
    found = np.full(labels.shape, -1)
    for place, mask in enumerate(stack(labels)):
        found[mask] = place
    return torch.from_numpy(found)[None]


def by_hand(model: Any, image: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The best class of each mask alone, where masks do not overlap."""
    labels = np.full(masks.shape[1:], 255, np.uint8)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    classifier = model.embed_text(WORDS)
    with torch.inference_mode():
        for mask in masks:
            embedding = model.segmenter.embed_image(pixels, Proposals.of_weights(torch.from_numpy(mask)[None, None]))
            labels[mask] = int(model.segmenter.classify(embedding, classifier).scores[0, 0].argmax())
    return labels


def test_each_part_gets_its_own_class_and_what_is_in_none_is_unlabelled() -> None:
    model, labels = masked(), parts()
    found = model.segment(photo(), WORDS, masks=labels)
    expected = by_hand(model, photo(), stack(labels))
    assert np.array_equal(found.labels, expected)
    assert len(np.unique(found.labels)) > 2
    assert (found.labels[labels == 255] == 255).all()
    assert (found.scores[labels == 255] == 0).all()
    assert not np.array_equal(found.labels, model.segment(photo(), WORDS).labels)


@pytest.mark.parametrize("short_side", [None, 20, 100])
def test_all_forms_of_the_same_masks_give_the_same_labels(short_side: int | None) -> None:
    model = masked(short_side=short_side)
    labels = parts()
    forms = [
        labels,
        labels.astype(np.uint16) + (labels == 255) * np.uint16(65280),
        np.where(labels == 255, -1, labels.astype(np.int64)),
        torch.from_numpy(labels),
        stack(labels),
        stack(labels).astype(np.uint8),
        stack(labels).astype(np.float32),
        torch.from_numpy(stack(labels)).to(torch.bfloat16),
        list(stack(labels)),
    ]
    results = [model.segment(photo(), WORDS, masks=masks).labels for masks in forms]
    assert all(np.array_equal(results[0], other) for other in results[1:])
    for mask in stack(labels):  # one class each, but for lines of pixels between the parts
        found = results[0][ndimage.binary_erosion(mask, iterations=3)]
        assert len(np.unique(found)) == 1
        assert found[0] != 255
    if short_side is None:
        assert np.array_equal(results[0], by_hand(model, photo(), stack(labels)))
    for proposals in (
        Proposals.of_labels(numbered(labels)),
        Proposals.of_weights(torch.from_numpy(stack(labels))[None]),
    ):
        again = model.segment(photo(), WORDS, masks=proposals).labels
        assert (again != results[0]).mean() < (0.03 if short_side else 1e-9)


def test_proposals_on_a_grid_that_ends_beyond_the_photograph_lie_where_it_says() -> None:
    rows = given(Proposals.of_labels(torch.tensor([[[0], [1]]]), (64, 128)), "photo", (48, 64), (24, 32))
    above, below = rows.proposals.masks[0].float() > 0  # they meet at row 32 of the photograph
    assert above[:16].all()
    assert below[16:].all()
    assert not (above & below).any()
    columns = given(Proposals.of_labels(torch.tensor([[[0, 1]]]), (64, 96)), "photo", (48, 64), (24, 32))
    left, right = columns.proposals.masks[0].float() > 0
    assert left[:, :24].all()
    assert right[:, 24:].all()
    assert rows.inside.all()
    assert columns.inside.all()


def test_proposals_that_lie_outside_the_picture_do_not_count() -> None:
    weights = torch.zeros(1, 1, 4, 4)
    weights[..., 3] = 1  # columns 12 to 15 of 16, and the picture has 8
    found = given(replace(Proposals.of_weights(weights), covers=(8, 16)), "photo", (8, 8), (8, 8))
    assert not found.inside.any()
    assert not (found.proposals.masks > 0).any()


def test_masks_that_overlap_share_their_pixels() -> None:
    model = masked(scale=60.0)
    masks = np.zeros((2, *SIZE), bool)
    masks[0, :, :40], masks[1, :, 24:] = True, True
    found = model.segment(photo(), WORDS, masks=masks)
    alone = [by_hand(model, photo(), masks[[place]]) for place in (0, 1)]
    assert np.array_equal(found.labels[:, :24], alone[0][:, :24])
    assert np.array_equal(found.labels[:, 40:], alone[1][:, 40:])
    assert set(np.unique(found.labels[:, 24:40])) <= {alone[0][0, 0], alone[1][0, -1]} | set(range(len(WORDS)))


@pytest.mark.parametrize(
    "masks", [np.zeros((0, *SIZE), bool), np.zeros((3, *SIZE), bool), np.full(SIZE, 255, np.uint8)]
)
def test_a_photograph_without_masks_is_unlabelled_and_says_so(masks: np.ndarray) -> None:
    found = masked().segment(photo(), WORDS, masks=masks)
    assert (found.labels == 255).all()
    assert found.unlabelled_area == 1
    assert any("no pixel of it" in warning for warning in found.warnings)


def test_masks_of_no_pixel_change_nothing() -> None:
    model, masks = masked(), stack(parts())
    more = np.concatenate([np.zeros((2, *SIZE), bool), masks, np.zeros((1, *SIZE), bool)])
    one, other = (model.segment(photo(), WORDS, masks=each) for each in (masks, more))
    assert np.array_equal(one.labels, other.labels)
    assert np.allclose(one.scores, other.scores, atol=1e-3)


def test_one_mask_of_one_pixel_labels_one_pixel() -> None:
    mask = np.zeros(SIZE, bool)
    mask[5, 9] = True
    for side in (None, 12):  # also where the network sees a quarter of the pixels
        found = masked(short_side=side).segment(photo(), WORDS, masks=mask)
        assert (found.labels != 255).sum() == 1
        assert found.labels[5, 9] != 255


def test_a_picture_of_one_pixel_can_have_a_mask() -> None:
    for masks in (np.zeros((1, 1), np.int64), np.ones((1, 1, 1), bool), np.ones((2, 1, 1), bool)):
        assert masked().segment(photo()[:1, :1], WORDS, masks=masks).labels[0, 0] < len(WORDS)
    assert masked().segment(photo()[:1, :1], WORDS, masks=np.zeros((1, 1, 1), bool)).labels[0, 0] == 255


def test_pixels_that_are_not_there_stay_unlabelled() -> None:
    image = np.dstack([photo(), np.full(SIZE, 255, np.uint8)])
    image[:10, :, 3] = 0
    found = masked().segment(image, WORDS, masks=np.ones((1, *SIZE), bool))
    assert (found.labels[:10] == 255).all()
    assert (found.labels[10:] != 255).all()


def test_results_say_which_masks_were_given() -> None:
    model = masked()
    plain, one, same, other = (
        model.segment(photo(), WORDS, **more).settings
        for more in ({}, {"masks": parts()}, {"masks": parts()}, {"masks": parts() + 1})
    )
    assert "masks" not in plain
    assert one["masks"] == same["masks"] != other["masks"]


def test_an_embedding_of_masks_can_be_asked_many_times() -> None:
    model = masked()
    embedded = model.embed(photo(), masks=parts())
    for words in (WORDS, WORDS[:2]):
        assert np.array_equal(
            model.classify(embedded, words).labels, model.segment(photo(), words, masks=parts()).labels
        )


def test_photographs_with_different_masks_pass_the_network_together() -> None:
    model = masked()
    images = [photo(seed=seed) for seed in range(4)]
    masks = [parts(), stack(parts())[:2], np.zeros((0, *SIZE), bool), np.arange(64)[None].repeat(48, 0)]
    own = {id(image): each for image, each in zip(images, masks, strict=True)}
    together = model.segment_many(images, WORDS, batch_size=3, masks=lambda image: own[id(image)])
    for image, each, found in zip(images, masks, together, strict=True):
        alone = model.segment(image, WORDS, masks=each)
        assert (found.labels == alone.labels).mean() > 0.999
        assert found.settings["masks"] == alone.settings["masks"]


def test_masks_that_cannot_be_read_skip_their_photograph_alone() -> None:
    def masks(image: Any) -> np.ndarray:
        if image is images[1]:
            raise DataError("there are none")
        return parts()

    images, skipped = [photo(seed=seed) for seed in range(3)], []
    results = list(
        masked().segment_many(images, WORDS, masks=masks, skip=lambda image, error: skipped.append((image, str(error))))
    )
    assert len(results) == 2
    assert [(image is images[1], error) for image, error in skipped] == [(True, "there are none")]
    with pytest.raises(DataError, match="there are none"):
        list(masked().segment_many(images, WORDS, masks=masks))


def test_windows_have_their_part_of_each_mask() -> None:
    """Windows side by side are pictures of their own, with what of the masks lies in them."""
    model = masked(window=32, stride=32)
    image, labels = photo(64, 96), parts(64, 96)
    found = model.segment(image, WORDS, masks=labels)
    for top in (0, 32):
        for left in (0, 32, 64):
            place = (slice(top, top + 32), slice(left, left + 32))
            alone = masked().segment(image[place], WORDS, masks=labels[place])
            assert np.array_equal(found.labels[place], alone.labels)


def test_cutting_masks_keeps_their_number_and_drops_what_is_elsewhere() -> None:
    proposals = Proposals.of_weights(torch.from_numpy(stack(parts()))[None])
    inside = cut(proposals, Box(0, 0, 24, 16))
    assert inside.masks.shape == (1, 6, 24, 16)
    assert inside.valid.sum() == 1


class Features(Colours):
    """A method with a grid, whose windows become one embedding."""

    traits = Traits(accepts_masks=True)

    def embed_image(self, images: Any, proposals: Any = None) -> Any:
        return super().embed_image(images)


def test_masks_are_refused_where_windows_become_one_embedding() -> None:
    red = np.zeros((64, 64, 3), np.uint8)
    masks = np.ones((1, 64, 64), bool)
    with pytest.raises(SettingError, match=r"4 windows that become one embedding.*blend=logits"):
        predictor(Features(), window=32, stride=32).segment(red, ["red"], masks=masks)
    for changes in ({"window": 32, "stride": 32, "blend": "logits"}, {}):
        assert (predictor(Features(), **changes).segment(red, ["red"], masks=masks).labels == 0).all()


def test_a_model_that_does_not_take_masks_says_so() -> None:
    for call in (
        lambda: predictor().segment(photo(), ["red"], masks=parts()),
        lambda: predictor().embed(photo(), masks=parts()),
        lambda: next(predictor().segment_many([photo()], ["red"], masks=lambda _: parts())),
    ):
        with pytest.raises(SettingError, match="colours does not take masks"):
            call()


@pytest.mark.parametrize(
    ("masks", "reason"),
    [
        (parts(10, 12), "10 x 12 and the photograph is 48 x 64"),
        (np.zeros((2, 10, 64), bool), "10 x 64 and the photograph"),
        (np.zeros(SIZE), r"float64 \[48, 64\]; give a label map"),
        (np.zeros((1, 2, *SIZE)), r"\[1, 2, 48, 64\]; give"),
        (np.full((1, *SIZE), 1.5), "from 1.5 to 1.5"),
        (np.full((1, *SIZE), -1), "from -1 to -1"),
        (np.full((1, *SIZE), np.nan), "from nan to nan"),
        (np.full((2, *SIZE), 255, np.uint8), "from 255 to 255"),
        ([{"segmentation": parts()}], "a list"),
        ([np.zeros((2, 2)), np.zeros((3, 3))], "a list"),
        ("masks.png", "masks of the array are"),
        (Proposals.of_weights(torch.ones(2, 1, 4, 4)), "of 2 pictures"),
    ],
)
def test_what_cannot_be_masks_is_a_sentence(masks: Any, reason: str) -> None:
    with pytest.raises(SettingError, match=reason):
        masked().segment(photo(), WORDS, masks=masks)


def test_more_masks_than_memory_should_hold_are_refused() -> None:
    with pytest.raises(SettingError, match="does not fit into memory"):
        given(np.arange(48 * 64).reshape(SIZE), "photo", SIZE, (1000, 1000))
