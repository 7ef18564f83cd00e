"""The embedded CLIP's image tower: its grid, its two paths, and its pool, beside plain readings of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_lite import ClipLite, recolour
from lexiseg.encoders.clip_shape import TINY_LITE
from lexiseg.encoders.efficientnet_lite import MEAN, STD
from lexiseg.layers import pixels


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip.random(TINY_LITE)


@pytest.fixture(scope="module")
def tower(clip: Clip) -> ClipLite:
    assert isinstance(clip.vision, ClipLite)
    return clip.vision


def pictures(height: int, width: int, count: int = 2) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (33, 50), (1, 1), (17, 96), (48, 31)])
@torch.no_grad()
def test_the_grid_has_a_cell_for_every_16_pixels(tower: ClipLite, height: int, width: int) -> None:
    found = tower.trunk(pictures(height, width))
    assert found.shape == (2, TINY_LITE.vision_width, -(-height // 16), -(-width // 16))
    assert tower(pictures(height, width)).shape == (2, TINY_LITE.embed_dim)


def test_images_of_clips_statistics_become_those_of_the_trunk() -> None:
    images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = recolour(pixels.normalise(images, "clip"))
    torch.testing.assert_close(found, pixels.normalise(images, (MEAN, STD)), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_stage_5_and_the_linear_path_are_what_the_description_says(tower: ClipLite) -> None:
    skip, last = tower.maps(pictures(64, 96))
    unlike = torch.rand(2, len(tower.mean), generator=torch.Generator().manual_seed(1)) + 0.5
    tower.mean.copy_(unlike[0])
    tower.deviation.copy_(unlike[1])
    stage = tower.stage5
    standard = (last - unlike[0][:, None, None]) / unlike[1][:, None, None]

    def up(x: Tensor) -> Tensor:
        return functional.interpolate(x, skip.shape[-2:], mode="bilinear", align_corners=False)

    def one_by_one(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        out = torch.einsum("bchw,oc->bohw", x, weight[:, :, 0, 0])
        return out if bias is None else out + bias[:, None, None]

    x = (
        up(one_by_one(standard, stage.last.weight, None)) + one_by_one(skip, stage.skip.weight, stage.skip.bias)
    ).relu()
    for layer, dilation in zip(stage.around, (1, 3), strict=True):
        depthwise = layer.depthwise
        y = functional.conv2d(
            x, depthwise.weight, depthwise.bias, padding=dilation, dilation=dilation, groups=x.shape[1]
        )
        x = x + one_by_one(y, layer.pointwise.weight, layer.pointwise.bias).relu()
    x = x + (x.mean(dim=(2, 3)) @ stage.whole.weight.T + stage.whole.bias).relu()[..., None, None]
    assert tower.direct is not None
    expected = torch.cat([x, up(one_by_one(standard, tower.direct.weight, tower.direct.bias))], dim=1)
    torch.testing.assert_close(tower.read(skip, last), expected, atol=1e-4, rtol=1e-4)
    tower.mean.zero_()
    tower.deviation.fill_(1)


@torch.no_grad()
def test_the_pool_is_pytorchs_attention_with_the_mean_as_query(tower: ClipLite) -> None:
    pool = tower.attnpool
    features = torch.randn(2, tower.width, 3, 4, generator=torch.Generator().manual_seed(0))
    cells = features.flatten(2).mT
    tokens = torch.cat([cells.mean(dim=1, keepdim=True), cells], dim=1)
    query, key, value = pool.q_proj(tokens[:, :1]), pool.k_proj(tokens), pool.v_proj(tokens)
    heads = []
    for head in range(pool.heads):
        q, k, v = (x.chunk(pool.heads, dim=-1)[head] for x in (query, key, value))
        heads.append((q @ k.mT * q.shape[-1] ** -0.5).softmax(dim=-1) @ v)
    expected = pool.c_proj(torch.cat(heads, dim=-1))[:, 0]
    torch.testing.assert_close(pool(features), expected, atol=1e-5, rtol=1e-5)
    assert pool.q_proj.out_features == TINY_LITE.inner
    assert pool.positional_embedding is None


@torch.no_grad()
def test_a_saved_tower_is_read_back_to_the_byte_in_half_precision_too(clip: Clip, tmp_path: Path) -> None:
    images = pictures(64, 64)
    clip.save(tmp_path / "whole")
    again = Clip.load(tmp_path / "whole")
    assert torch.equal(again.image_features(images), clip.image_features(images))
    assert again.shape == clip.shape == TINY_LITE
    for dtype in (torch.bfloat16, torch.float16):
        half = Clip.load(tmp_path / "whole", dtype=dtype)
        found = half.image_features(images.to(dtype))
        assert found.dtype == dtype
        cosine = functional.cosine_similarity(found.float(), clip.image_features(images))
        assert cosine.min() > 0.98


@torch.no_grad()
def test_channels_last_changes_nothing_but_the_last_digits(tower: ClipLite) -> None:
    images = pictures(64, 96)
    found = tower(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, tower(images), atol=1e-5, rtol=1e-4)


def test_its_shape_reads_as_a_sentence() -> None:
    assert "EfficientNet-tiny, a stage of 16 channels" in str(TINY_LITE)
