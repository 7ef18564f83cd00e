"""Borders beside loops over pixels, the order of merges beside all pairs at every step, and heights that nest."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2lab
from skimage.data import coffee

from lexiseg.errors import SettingError
from lexiseg.proposals import contours
from lexiseg.proposals._merging import Hierarchy
from lexiseg.proposals.contours import Borders, Config, Gradient, borders, chosen, heights, hierarchy

SIGMAS = (1.0, 2.0)


def noise(seed: int = 0, height: int = 24, width: int = 28) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A smooth random picture, and random regions that hang together: the nearest of twelve points."""
    random = np.random.default_rng(seed)
    smooth = gaussian_filter(random.random((height, width, 3)), (2, 2, 0))
    points = random.random((12, 2)) * (height, width)
    places = np.stack(np.mgrid[:height, :width], axis=-1)[:, :, None] - points
    return (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8), np.square(places).sum(-1).argmin(-1)


def meetings(labels: NDArray[np.int64]) -> dict[tuple[int, int], list[tuple[tuple[int, int], tuple[int, int]]]]:
    """Of each pair of regions the pixels that meet, that of the smaller number first."""
    found: dict[tuple[int, int], list[tuple[tuple[int, int], tuple[int, int]]]] = {}
    height, width = labels.shape
    for y, x in itertools.product(range(height), range(width)):
        for other in ((y + 1, x), (y, x + 1)):
            if other[0] < height and other[1] < width and labels[y, x] != labels[other]:
                pixels = sorted([(y, x), other], key=lambda place: labels[place])
                found.setdefault(tuple(sorted((int(labels[y, x]), int(labels[other])))), []).append(tuple(pixels))  # type: ignore[arg-type]
    return found


def slopes(rgb: NDArray[np.uint8], sigma: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Along x and along y, of each channel of CIELAB [H, W, 3]."""
    lab = np.asarray(rgb2lab(rgb))
    along, down = (
        np.stack([gaussian_filter(lab[..., channel], sigma, order=order) for channel in range(3)], axis=2)
        for order in ((0, 1), (1, 0))
    )
    return sigma * along, sigma * down


def test_the_strength_of_a_border_is_what_crosses_it_place_by_place() -> None:
    rgb, labels = noise()
    found = borders(labels, Gradient.of(rgb, SIGMAS))
    each = [slopes(rgb, sigma) for sigma in SIGMAS]
    strength = np.mean([np.sqrt((x * x + y * y).sum(2)) for x, y in each], axis=0)
    assert np.allclose(Gradient.of(rgb, SIGMAS).strength, strength)
    expected = meetings(labels)
    assert [tuple(pair) for pair in found.pairs.tolist()] == sorted(expected)
    for pair, total, length in zip(found.pairs.tolist(), found.totals, found.lengths, strict=True):
        places = expected[tuple(pair)]
        normal = np.sum([(b[1] - a[1], b[0] - a[0]) for a, b in places], axis=0)
        straight = np.abs(normal).sum() / len(places)
        x, y = normal / max(np.linalg.norm(normal), 1e-12)
        wanted = 0.0
        for a, b in places:
            place = a if strength[a] > strength[b] else b
            values = [
                straight * np.square(x * along[place] + y * down[place]).sum()
                + (1 - straight) * (np.square(along[place]) + np.square(down[place])).sum()
                for along, down in each
            ]
            wanted += float(np.mean(np.sqrt(values)))
        assert length == len(places)
        assert total == pytest.approx(wanted)


def naive(labels: NDArray[np.int64], between: Borders, min_size: int) -> list[tuple[int, int]]:
    """All pairs anew at every step, from the start regions that each consists of."""
    totals = {tuple(pair): value for pair, value in zip(between.pairs.tolist(), between.totals, strict=True)}
    lengths = {tuple(pair): value for pair, value in zip(between.pairs.tolist(), between.lengths, strict=True)}
    sizes = np.bincount(labels.ravel())
    alive = {number: {number} for number in range(len(sizes))}
    merges: list[tuple[int, int]] = []
    while len(alive) > 1:
        ranks = []
        for one, other in itertools.combinations(sorted(alive), 2):
            shared = [pair for pair in totals if len({*pair} & alive[one]) == 1 and len({*pair} & alive[other]) == 1]
            if shared:
                mean = sum(totals[pair] for pair in shared) / sum(lengths[pair] for pair in shared)
                small = min(sum(sizes[part] for part in alive[each]) for each in (one, other)) < min_size
                ranks.append((not small, mean, one, other))
        _, _, one, other = min(ranks)
        merges.append((one, other))
        alive[len(sizes) - 1 + len(merges)] = alive.pop(one) | alive.pop(other)
    return merges


@pytest.mark.parametrize("min_size", [1, 50])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_order_of_merges_is_that_of_trying_all_pairs(seed: int, min_size: int) -> None:
    rgb, labels = noise(seed)
    between = borders(labels, Gradient.of(rgb, SIGMAS))
    found = hierarchy(labels, between, min_size)
    assert [tuple(pair) for pair in found.merges.tolist()] == naive(labels, between, min_size)


def separations(found: Hierarchy) -> NDArray[np.float64]:
    """The height at which two start regions come into one node [R, R]."""
    height, result = heights(found), np.zeros((found.leaves, found.leaves))
    for one, other in itertools.combinations(range(found.leaves), 2):
        above, node = {one}, one
        while node != found.nodes - 1:
            node = int(found.parents[node])
            above.add(node)
        node = other
        while node not in above:
            node = int(found.parents[node])
        result[one, other] = result[other, one] = height[node]
    return result


@pytest.mark.parametrize("min_size", [1, 50])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_heights_are_an_ultrametric(seed: int, min_size: int) -> None:
    rgb, labels = noise(seed)
    found = hierarchy(labels, borders(labels, Gradient.of(rgb, SIGMAS)), min_size)
    apart = separations(found)
    assert (apart[:, :, None] <= np.maximum(apart[:, None], apart[None]).transpose(0, 2, 1)).all()
    assert (np.diff(np.stack([heights(found)[:-1], heights(found)[found.parents[:-1]]]), axis=0) >= 0).all()
    # what is apart below a height is what the cut there leaves apart, so rising cuts are coarser
    sizes = found.sizes[found.leaves :][heights(found)[found.leaves :] > 0]
    assert (sizes >= min_size).all()


def test_cuts_at_rising_heights_are_coarser_partitions() -> None:
    rgb, labels = noise()
    found = hierarchy(labels, borders(labels, Gradient.of(rgb, SIGMAS)))
    before = None
    for threshold in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        masks = [found.mask(node) for node in chosen(found, (threshold,))]
        assert (np.sum(masks, axis=0) == 1).all()  # every pixel in one region
        if before is not None:
            assert len(masks) <= len(before)
            assert all(any(not (one & ~mask).any() for mask in masks) for one in before)
        before = masks
    assert before is not None
    assert len(before) == 1
    every = chosen(found, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0))
    assert len(every) == len(set(every)) > 3
    assert every[0] == found.nodes - 1


def halves() -> torch.Tensor:
    """A red square on blue, with a little noise."""
    generator = torch.Generator().manual_seed(0)
    image = torch.zeros(1, 3, 60, 80)
    image[:, 2], image[:, 0, 15:45, 20:60], image[:, 2, 15:45, 20:60] = 180.0, 200.0, 20.0
    return (image + 6 * torch.rand(1, 3, 60, 80, generator=generator)).to(torch.uint8)


def test_a_square_is_a_mask_with_its_own_borders() -> None:
    truth = torch.zeros(60, 80, dtype=torch.bool)
    truth[15:45, 20:60] = True
    masks = contours.load(Config()).propose(halves()).of_image(0, (60, 80)) > 0.5
    best = max(float((mask & truth).sum() / (mask | truth).sum()) for mask in masks)
    assert best > 0.97
    assert masks[0].all()  # the whole picture comes first
    assert float((masks[1] & truth).sum() / (masks[1] | truth).sum()) > 0.97 or (masks[1] ^ truth).float().mean() > 0.97


def photograph() -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(coffee()[40:340:4, 150:470:4])).permute(2, 0, 1)[None]


def test_masks_of_a_photograph_are_the_same_twice_and_do_not_mix_in_a_batch() -> None:
    proposer = contours.load(Config(min_size=20))
    found = proposer.propose(photograph())
    assert torch.equal(found.masks, proposer.propose(photograph()).masks)
    masks = found.of_image(0, (75, 80)) > 0.5
    assert len(masks) > 10
    assert (masks.flatten(1).sum(1) >= 20).all()
    for one, other in itertools.combinations(masks, 2):
        assert int((one & other).sum()) in (0, int(one.sum()), int(other.sum()))  # nodes of one hierarchy nest
    together = proposer.propose(torch.cat([torch.full_like(photograph(), 7), photograph()]))
    assert torch.equal(together.of_image(1, (75, 80)), found.of_image(0, (75, 80)))
    assert together.valid[0].sum() == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 2), (3, 200)])
def test_any_size_of_picture_has_a_mask(size: tuple[int, int]) -> None:
    random = torch.randint(0, 256, (1, 3, *size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for images in (random, torch.zeros_like(random)):
        found = contours.load(Config()).propose(images)
        assert found.valid.any()
        assert (found.of_image(0, size) > 0.5).flatten(1).any(dim=1).all()


@pytest.mark.parametrize(
    "wrong",
    [{"sigmas": ()}, {"sigmas": (0.0,)}, {"thresholds": (1.5,)}, {"thresholds": ()}, {"min_size": 0}, {"most": 0}],
)
def test_a_mistake_is_a_sentence(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingError, match="must be"):
        Config(**wrong)  # type: ignore[arg-type]
