"""Similarities beside loops over pixels, the order of merges beside all pairs at every step, and masks that differ."""

from __future__ import annotations

import colorsys
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.data import coffee

from lexiseg.errors import SettingError, UnknownName
from lexiseg.proposals import selective_search
from lexiseg.proposals._merging import Hierarchy, distinct
from lexiseg.proposals.selective_search import COLOUR_SPACES, Config, Regions, group, similarity, textures

Mask = NDArray[np.bool_]
LETTERS = ["ctsf", "tsf", "c", "t", "s", "f"]


def patches(seed: int = 0, rows: int = 4, columns: int = 5, side: int = 4) -> tuple[NDArray[np.float64], NDArray]:
    """A picture of noisy patches, and the patch of each pixel."""
    random = np.random.default_rng(seed)
    labels = np.arange(rows * columns).reshape(rows, columns).repeat(side, 0).repeat(side, 1)
    colours = random.random((rows * columns, 3))
    noise = 0.2 * random.standard_normal((*labels.shape, 3))
    return np.clip(colours[labels] + noise, 0, 1), labels


def histogram(values: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    found = np.zeros(bins)
    for value in values:
        found[min(int(value * bins), bins - 1)] += 1
    return found


def histograms(maps: NDArray[np.float64], inside: Mask, bins: int) -> NDArray[np.float64]:
    found = np.concatenate([histogram(maps[inside][:, channel], bins) for channel in range(maps.shape[2])])
    return found / found.sum()


def by_pixels(channels: NDArray[np.float64], one: Mask, other: Mask, letters: str) -> float:
    """The similarity of section 3.2, from the pixels of two regions."""
    total, maps = 0.0, textures(channels)
    for letter, values, bins in (("c", channels, 25), ("t", maps, 10)):
        if letter in letters:
            pairs = zip(histograms(values, one, bins), histograms(values, other, bins), strict=True)
            total += sum(min(pair) for pair in pairs)
    if "s" in letters:
        total += 1 - (one.sum() + other.sum()) / one.size
    if "f" in letters:
        rows, columns = np.nonzero(one | other)
        box = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        total += 1 - (box - one.sum() - other.sum()) / one.size
    return float(total)


def touch(one: Mask, other: Mask) -> bool:
    return bool(
        (one[1:] & other[:-1]).any() or (one[:-1] & other[1:]).any() or (one[:, 1:] & other[:, :-1]).any()
    ) or bool((one[:, :-1] & other[:, 1:]).any())


def check_merges(found: Hierarchy, alike: Callable[[Mask, Mask], float]) -> None:
    """Of all pairs of neighbours, tried anew at every step, the merged one is as alike as any."""
    alive = {number: found.labels == number for number in range(found.leaves)}
    for step, (one, other) in enumerate(found.merges.tolist()):
        pairs = [pair for pair in itertools.combinations(sorted(alive), 2) if touch(alive[pair[0]], alive[pair[1]])]
        values = {pair: alike(alive[pair[0]], alive[pair[1]]) for pair in pairs}
        assert values[one, other] >= max(values.values()) - 1e-12
        assert found.strengths[step] == pytest.approx(values[one, other])
        alive[found.leaves + step] = alive.pop(one) | alive.pop(other)
    assert len(alive) == 1


@pytest.mark.parametrize("letters", LETTERS)
def test_similarities_are_those_of_a_loop_over_pixels(letters: str) -> None:
    """Of start regions, and of a node that was made of two of them and two more."""
    channels, labels = patches()
    regions = Regions.of(channels, labels)
    regions.join(20, (3, 4))
    regions.join(21, (8, 20))
    masks = {number: labels == number for number in range(20)}
    masks[20] = masks[3] | masks[4]
    masks[21] = masks[8] | masks[20]
    others = np.array([0, 7, 9, 20])
    for one in (1, 2, 21):
        expected = [by_pixels(channels, masks[one], masks[other], letters) for other in others.tolist()]
        assert np.allclose(similarity(regions, one, others, letters), expected, atol=1e-12)


@pytest.mark.parametrize("letters", ["ctsf", "tsf", "c"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_merges_is_that_of_trying_all_pairs(letters: str, seed: int) -> None:
    channels, labels = patches(seed, 3, 4)
    found = group(Regions.of(channels, labels), letters)
    assert found.leaves == 12
    check_merges(found, lambda one, other: by_pixels(channels, one, other, letters))


def test_of_equal_pairs_the_first_regions_are_merged() -> None:
    labels = np.arange(4)[None].repeat(2, 0)
    found = group(Regions.of(np.full((2, 4, 3), 0.5), labels), "c")
    # all are alike; after 0 and 1 have become 4, the pairs are (2, 3) and (2, 4)
    assert found.merges.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_the_nodes_of_a_hierarchy_nest_and_the_last_is_the_picture() -> None:
    channels, labels = patches()
    found = group(Regions.of(channels, labels), "ctsf")
    masks = [found.mask(node) for node in range(found.nodes)]
    assert masks[-1].all()
    assert found.sizes.tolist() == [int(mask.sum()) for mask in masks]
    for one, other in itertools.combinations(masks, 2):
        both = (one & other).sum()
        assert both in (0, one.sum(), other.sum())
    for node, parent in enumerate(found.parents[:-1].tolist()):
        assert parent > node
        assert not (masks[node] & ~masks[parent]).any()


def test_a_derivative_counts_in_the_directions_where_it_rises() -> None:
    """On a slope the derivative of a Gaussian is the slope: its cosine with each direction, as far as above 0."""
    rows, columns = np.mgrid[:40, :40] / 40
    found = textures((0.3 * columns + 0.1 * rows)[..., None])[20, 20]
    angles = np.arange(8) * np.pi / 4
    expected = np.maximum(0.3 * np.cos(angles) + 0.1 * np.sin(angles), 0)
    assert np.allclose(found, expected / expected.max(), atol=1e-6)


@pytest.mark.parametrize("space", COLOUR_SPACES)
def test_channels_of_every_colour_space_are_0_to_1_and_grey_is_neutral(space: str) -> None:
    corners = np.array(list(itertools.product((0.0, 0.5, 1.0), repeat=3)))[None]
    random = np.random.default_rng(0).random((20, 30, 3))
    for rgb in (corners, random):
        found = COLOUR_SPACES[space](rgb)
        assert found.shape[:2] == rgb.shape[:2]
        assert np.isfinite(found).all()
        assert found.min() >= 0
        assert found.max() <= 1
    greys = COLOUR_SPACES[space](np.linspace(0.1, 1, 5)[None, :, None].repeat(3, 2))[0]
    if space in ("normalised_rgb", "c", "h"):  # without intensity: light or dark are one
        assert np.allclose(greys, greys[0])
    elif space != "rgb":
        assert (np.abs(np.diff(greys, axis=0)).max(axis=1) > 0.1).all()


def test_hue_and_shares_are_those_of_the_textbook() -> None:
    rgb = np.random.default_rng(1).random((6, 7, 3))
    hsv = [[colorsys.rgb_to_hsv(*pixel) for pixel in row] for row in rgb]
    assert np.allclose(COLOUR_SPACES["hsv"](rgb), hsv)
    assert np.allclose(COLOUR_SPACES["h"](rgb)[..., 0], np.array(hsv)[..., 0])
    assert np.allclose(COLOUR_SPACES["normalised_rgb"](rgb).sum(axis=2), 1)
    assert np.allclose(COLOUR_SPACES["rgi"](rgb)[..., 2], rgb.mean(axis=2))
    dark = COLOUR_SPACES["c"](rgb / 2)  # half the light is the same colour
    assert np.allclose(dark, COLOUR_SPACES["c"](rgb))


def test_the_ranking_multiplies_places_in_the_hierarchy_with_chance() -> None:
    rgb = (255 * patches()[0]).astype(np.uint8)
    config = Config(colour_spaces=("rgb", "lab"), similarities=("ctsf",), scales=(20.0,), min_size=10)
    hierarchies = list(selective_search.groupings(rgb, config))
    chance = np.random.default_rng(0)
    expected: list[tuple[float, Mask]] = []
    for found in hierarchies:
        draws = chance.random(found.nodes)
        expected += [(draws[node] * (found.nodes - node), found.mask(node)) for node in range(found.nodes)]
    expected.sort(key=lambda entry: entry[0])
    ranked = list(selective_search.ranked(rgb, config))
    assert len(ranked) == len(expected) > 4
    assert all(np.array_equal(one, other) for one, (_, other) in zip(ranked, expected, strict=True))


def test_a_strategy_for_each_colour_space_scale_and_similarity() -> None:
    rgb = (255 * patches()[0]).astype(np.uint8)
    fast = list(selective_search.groupings(rgb, Config()))
    assert len(fast) == 8
    assert all(isinstance(found, Hierarchy) for found in fast)
    best = Config(**selective_search.QUALITY)
    assert len(best.colour_spaces) * len(best.similarities) * len(best.scales) == 80


def test_masks_that_are_nearly_the_same_count_once() -> None:
    first, second, third = np.zeros((3, 10, 10), bool)
    first[:, :5], second[:, :5], third[:, :4] = True, True, True
    second[0, 0] = False  # IoU 49 / 50
    masks = [first, second, third, first]
    assert [mask is first or mask is third for mask in distinct(masks, 9, 0.9)] == [True, True]
    assert len(list(distinct(masks, 9, 0.99))) == 3
    assert len(list(distinct(masks, 9, 0.7))) == 1
    assert len(list(distinct(masks, 1, 0.99))) == 1


def picture() -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(coffee()[40:340:4, 150:470:4])).permute(2, 0, 1)[None]


def test_masks_of_a_photograph_differ_and_are_the_same_twice() -> None:
    proposer = selective_search.load(Config(most=30, overlap=0.8))
    found = proposer.propose(picture())
    masks = found.of_image(0, (75, 80)) > 0.5
    assert 10 < len(masks) <= 30
    for one, other in itertools.combinations(masks, 2):
        assert (one & other).sum() <= 0.8 * (one | other).sum()
    again = proposer.propose(picture())
    assert torch.equal(found.masks, again.masks)
    other = selective_search.load(Config(most=30, overlap=0.8, seed=1)).propose(picture())
    assert not torch.equal(found.masks[:, :10], other.masks[:, :10])


def test_pictures_of_a_batch_do_not_mix() -> None:
    proposer = selective_search.load(Config())
    plain = torch.full_like(picture(), 90)
    together = proposer.propose(torch.cat([picture(), plain]))
    alone = proposer.propose(picture())
    assert torch.equal(together.of_image(0, (75, 80)), alone.of_image(0, (75, 80)))
    assert together.valid[1].sum() == 1
    assert (together.of_image(1, (75, 80)) > 0.5).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 2), (3, 200)])
def test_any_size_of_picture_has_a_mask(size: tuple[int, int]) -> None:
    random = torch.randint(0, 256, (1, 3, *size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for images in (random, torch.zeros_like(random)):
        found = selective_search.load(Config()).propose(images)
        assert found.valid.any()
        assert (found.of_image(0, size) > 0.5).flatten(1).any(dim=1).all()


def test_a_large_picture_is_scaled_down_first() -> None:
    found = selective_search.load(Config(long_side=40)).propose(picture())
    assert found.masks.shape[-2:] == (38, 40)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"colour_spaces": ("hvs",)}, UnknownName),
        ({"similarities": ("cx",)}, SettingError),
        ({"similarities": ()}, SettingError),
        ({"scales": (-1.0,)}, SettingError),
        ({"most": 0}, SettingError),
        ({"long_side": 0}, SettingError),
        ({"overlap": float("nan")}, SettingError),
    ],
)
def test_a_mistake_is_a_sentence(wrong: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"hsv|similarities|must be"):
        Config(**wrong)  # type: ignore[arg-type]
