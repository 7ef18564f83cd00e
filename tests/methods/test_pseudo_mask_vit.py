"""The second baseline against loops over parts, and its pictures' vectors against their formula."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lexiseg.errors import SettingError, WeightsError
from lexiseg.layers import pixels
from lexiseg.methods import pseudo_mask_vit as method
from lexiseg.proposals._proposals import Proposals
from lexiseg.segmenter import Variant
from lexiseg.weights import Weights

TINY: Variant = method.VARIANTS["tiny"]


def model(**changes: Any) -> method.PseudoMaskVit:
    return method.load(replace(TINY, config=replace(TINY.config, **changes)))


def images(height: int = 40, width: int = 48) -> Tensor:
    coarse = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(3)) * 255
    return functional.interpolate(coarse, size=(height, width), mode="bilinear").to(torch.uint8)


def cells_of(segmenter: method.PseudoMaskVit, pictures: Tensor) -> Tensor:
    """The patches after the last block [B, h, w, W], as transformers' own encoder gives them."""
    vision = segmenter.clip.vision
    tokens, grid = vision.embed(pixels.normalise(pictures, (segmenter.clip.mean, segmenter.clip.std)))
    for block in vision.model.encoder.layers:
        tokens = block(tokens, None)
    return tokens[:, 1:].reshape(len(pictures), *grid, -1)


def test_parts_are_means_weighted_by_their_shares_of_the_patches() -> None:
    random = np.random.default_rng(0)
    cells, shares = random.normal(size=(2, 5, 3)), random.uniform(size=(2, 4, 5))
    shares[1, 2] = 0
    found = method.pool_parts(torch.tensor(cells).float(), torch.tensor(shares).float()).numpy()
    for image, part in np.ndindex(2, 4):
        total = sum(shares[image, part, cell] * cells[image, part * 0 + cell] for cell in range(5))
        wanted = total / shares[image, part].sum() if shares[image, part].any() else np.zeros(3)
        assert np.allclose(found[image, part], wanted, atol=1e-5)


@torch.no_grad()
def test_a_parts_vector_is_projected_from_its_patches_at_any_size() -> None:
    """A picture of 40 x 44 has 5 x 6 patches of 8 pixels, whose last column is half filling."""
    segmenter, pictures = model(), images(40, 44)
    labels = torch.randint(0, 3, (2, 40, 44), generator=torch.Generator().manual_seed(1))
    found = segmenter.embed_image(pictures, Proposals.of_labels(labels))
    cells = cells_of(segmenter, pictures)
    for image in range(2):
        for part in range(3):
            share = np.zeros((5, 6))
            for row, column in zip(*np.nonzero((labels[image] == part).numpy()), strict=True):
                share[row // 8, column // 8] += 1
            weight = torch.tensor(share / share.sum()).float()
            pooled = torch.einsum("hw,hwd->d", weight, cells[image])
            wanted = segmenter.clip.vision.project(pooled)
            assert torch.allclose(found.features[image, part], wanted, atol=1e-4)


@torch.no_grad()
def test_a_pictures_vector_comes_of_the_parts_that_it_has() -> None:
    pictures = images()
    pictures[1] = 7  # one colour: one part
    for pooling in ("mean", "max"):
        segmenter = model(pooling=pooling)
        proposals = segmenter.generator.propose(pictures)
        assert proposals.valid.sum(1).tolist() == [4, 1]
        parts, _ = segmenter.parts(pictures, proposals)
        found = segmenter.image_vectors(pictures)
        for image, own in enumerate((parts[0], parts[1][proposals.valid[1]])):
            whole = own.mean(0) if pooling == "mean" else own.amax(0)
            wanted = functional.normalize(segmenter.clip.vision.project(whole), dim=0)
            assert torch.allclose(found[image], wanted, atol=1e-5)
        one_part = functional.normalize(
            segmenter.clip.vision.project(cells_of(segmenter, pictures)[1].mean((0, 1))), dim=0
        )
        assert torch.allclose(found[1], one_part, atol=1e-5)


def test_it_learns_from_captions_alone() -> None:
    trained = method.Training().build(model()).train()
    assert not trained.segmenter.generator.training
    losses = trained({"images": images(), "texts": ["a cat", "a dog on grass"]})
    assert list(losses) == ["contrast"]
    with pytest.raises(SettingError, match="leave the teacher out"):
        method.Training().build(model(), teacher=object())


def test_a_clip_without_patches_is_refused(tmp_path: Any) -> None:
    from lexiseg.encoders.clip import Clip
    from lexiseg.encoders.clip_shape import TINY_RESNET

    Clip.random(TINY_RESNET).save(tmp_path)
    with pytest.raises(WeightsError, match="no patches to pool"):
        method.load(replace(TINY, weights=Weights.of(tmp_path)))
