from __future__ import annotations

import pytest
import torch

from lexiseg.networks.mini_trunk import MINIS, MiniTrunk


@pytest.mark.parametrize("name", MINIS)
@pytest.mark.parametrize("size", [(128, 128), (65, 97), (8, 200), (1, 1)])
def test_maps_cover_the_image_at_strides_8_16_and_32(name: str, size: tuple[int, int]) -> None:
    trunk = MiniTrunk(MINIS[name]).eval()
    maps = trunk(torch.zeros(1, 3, *size))
    expected = [
        (1, channels, -(-size[0] // stride), -(-size[1] // stride))
        for channels, stride in zip(trunk.channels, (8, 16, 32), strict=True)
    ]
    assert [tuple(x.shape) for x in maps] == expected
    assert trunk.strides == (8, 16, 32)


def test_the_coarsest_map_sees_a_whole_128_pixel_image() -> None:
    """So that the middle of the image can know what its corners show."""
    torch.manual_seed(0)
    images = torch.randn(1, 3, 128, 128, requires_grad=True)
    MiniTrunk(MINIS["mini"]).eval()(images)[-1][0, :, 2, 2].sum().backward()
    assert images.grad is not None
    seen = images.grad[0].abs().sum(dim=0) > 0
    assert bool(seen[0].any() and seen[-1].any() and seen[:, 0].any() and seen[:, -1].any())
