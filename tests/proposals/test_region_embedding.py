"""Regions of patches: where each pixel belongs, as masks without words and as masks with scores."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from lexiseg.inference.labelling import decode
from lexiseg.proposals._proposals import CERTAIN
from lexiseg.proposals._region_embedding import RegionEmbedding, RegionMaps

PATCH = 8


def embedding(maps: RegionMaps = "soft", *, regions: int = 4) -> RegionEmbedding:
    random = torch.Generator().manual_seed(0)
    soft = torch.randn(2, regions, 3, 5, generator=random).softmax(dim=1)
    soft[:, -1] = 0
    return RegionEmbedding(soft, torch.zeros(2, regions, 6), torch.zeros(2, 6), PATCH, maps)


def at(grid: torch.Tensor, row: int, column: int) -> list[float]:
    """Bilinear, pixel centres aligned, borders repeated: [N, h, w] at one pixel, by hand."""
    y, x = (max((place + 0.5) / PATCH - 0.5, 0) for place in (row, column))
    top, left = int(y), int(x)
    bottom, right = min(top + 1, grid.shape[1] - 1), min(left + 1, grid.shape[2] - 1)
    down, aside = y - top, x - left
    corners = ((top, left, (1 - down) * (1 - aside)), (top, right, (1 - down) * aside))
    corners += ((bottom, left, down * (1 - aside)), (bottom, right, down * aside))
    return [sum(share * float(each[i, j]) for i, j, share in corners) for each in grid]


@pytest.mark.parametrize("maps", ["soft", "hard"])
def test_a_pixel_belongs_to_the_region_with_the_largest_share_there(maps: RegionMaps) -> None:
    made = embedding(maps)
    labels = made.labels()
    assert labels.shape == (2, *made.covers) == (2, 24, 40)
    for place in range(2):
        grid = made.soft[place]
        if maps == "hard":
            grid = functional.one_hot(grid.argmax(0), 4).permute(2, 0, 1)
        for row in range(0, 24, 3):
            for column in range(0, 40, 3):
                shares = at(grid, row, column)
                largest = max(shares)
                assert shares[int(labels[place, row, column])] == pytest.approx(largest, abs=1e-6)
    assert not torch.equal(labels, embedding("hard" if maps == "soft" else "soft").labels())


def test_regions_are_proposals_and_empty_ones_are_not_valid() -> None:
    made = embedding(regions=3)
    proposals = made.proposals
    assert proposals.covers == made.covers
    assert torch.equal(proposals.masks.float() == CERTAIN, functional.one_hot(made.labels()).permute(0, 3, 1, 2) == 1)
    assert proposals.valid.all()
    assert not embedding(regions=4).labels().eq(3).any()


def test_the_decoder_gives_each_pixel_the_best_class_of_its_region() -> None:
    made = embedding()
    made = RegionEmbedding(made.soft[:1], made.features[:1], made.image[:1], PATCH)
    scores = torch.rand(1, 4, 6, generator=torch.Generator().manual_seed(1))
    result = made.masks(scores)
    assert result.background
    labels = decode(result, made.covers).labels
    wanted = scores[0].argmax(1)[made.labels()[0]]
    assert torch.equal(torch.from_numpy(labels).long(), torch.where(wanted == 5, 255, wanted))
