"""Clusters the patch features of each picture with K-means: S-Seg's pseudo-masks.

Lai, "Exploring Simple Open-Vocabulary Semantic Segmentation" (S-Seg), 2024, section 3.1, Table 1. Each picture is
clustered on its own, all pictures of a batch at once. What the paper leaves open has a setting: which features, whether
they have unit length (spherical K-means), the start (k-means++ with a fixed seed), the number of iterations. A cluster
that loses all its cells keeps its centre, and may win cells again.

Letters: B images, L cells, W channels of a feature, K clusters, h w grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_vit import ClipVit
from lexiseg.encoders.weights import find, read_json
from lexiseg.errors import SettingError, WeightsError, first_line
from lexiseg.layers import pixels
from lexiseg.proposals._proposals import Proposals

__all__ = ["Config", "KMeans", "assign", "cluster", "load"]

COLOURS = "colours"


@dataclass(frozen=True)
class Config:
    """features: "colours", or the hub id or folder of a CLIP or of any vision transformer of transformers.
    k: clusters.
    side: pixels of the square that the picture is resized to for features; for colours, cells of the grid's side.
    spherical: features and centres have unit length; for features alone, not for colours.
    iterations: of Lloyd's algorithm, at most.
    seed: of the start.
    """

    features: str = "asset:mini-clip"
    k: int = 8
    side: int = 224
    spherical: bool = True
    iterations: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("k", 1), ("side", 1), ("iterations", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise SettingError(f"{name} must be {least} or more, got {getattr(self, name)}")


class KMeans(nn.Module):
    """features: pictures [B, 3, side, side], uint8 -> [B, W, h, w]."""

    def __init__(self, features: nn.Module, config: Config) -> None:
        super().__init__()
        self.features, self.config = features, config

    @torch.inference_mode()
    def propose(self, images: Tensor) -> Proposals:
        config = self.config
        size = (config.side, config.side)
        resized = functional.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
        maps = self.features(resized).float()
        cells = maps.flatten(2).mT  # [B, L, W]
        if config.spherical and config.features != COLOURS:
            cells = functional.normalize(cells, dim=2)
            labels = cluster(cells, config.k, seed=config.seed, iterations=config.iterations, spherical=True)
        else:
            labels = cluster(cells, config.k, seed=config.seed, iterations=config.iterations)
        return Proposals.of_labels(labels.view(len(images), *maps.shape[-2:]))


def cluster(cells: Tensor, k: int, *, seed: int = 0, iterations: int = 10, spherical: bool = False) -> Tensor:
    """The cluster of each cell: float [B, L, W] -> int64 [B, L]."""
    centres = start(cells, k, seed=seed)
    labels = assign(cells, centres)
    for _ in range(iterations):
        centres = update(cells, labels, centres, spherical=spherical)
        before, labels = labels, assign(cells, centres)
        if torch.equal(before, labels):
            break
    return labels


def start(cells: Tensor, k: int, *, seed: int) -> Tensor:
    """k-means++ (Arthur and Vassilvitskii, 2007): centres [B, K, W], drawn with odds of the squared distance.

    The random numbers are the same for every picture, so that no picture depends on others of its batch.
    """
    batch, length, _ = cells.shape
    drawn = torch.rand(k, generator=torch.Generator().manual_seed(seed)).tolist()
    at = torch.full((batch,), min(int(drawn[0] * length), length - 1), device=cells.device)
    centres = [_take(cells, at)]
    nearest = _squared(cells, centres[0][:, None])[..., 0]  # [B, L]
    for number in drawn[1:]:
        odds = nearest.double().cumsum(dim=1)
        at = torch.searchsorted(odds, number * odds[:, -1:], right=True).clamp(max=length - 1)[:, 0]
        centres.append(_take(cells, at))
        nearest = torch.minimum(nearest, _squared(cells, centres[-1][:, None])[..., 0])
    return torch.stack(centres, dim=1)


def assign(cells: Tensor, centres: Tensor) -> Tensor:
    """The nearest centre of each cell [B, L]; the first one of several."""
    return _squared(cells, centres).argmin(dim=2)


def update(cells: Tensor, labels: Tensor, centres: Tensor, *, spherical: bool) -> Tensor:
    """The mean of the cells of each cluster [B, K, W], of unit length if `spherical`."""
    members = functional.one_hot(labels, centres.shape[1]).to(cells)  # [B, L, K]
    count = members.sum(dim=1)[..., None]  # [B, K, 1]
    means = members.mT @ cells / count.clamp(min=1)
    if spherical:
        means = functional.normalize(means, dim=2)
    return torch.where(count > 0, means, centres)


def load(config: Config) -> KMeans:
    """Raises `WeightsError` for a vision model that cannot be had."""
    return KMeans(_features(config), config).eval().requires_grad_(False)


class Colours(nn.Module):
    """The picture's own colours, 0-1: the paper's plainest rival."""

    def forward(self, images: Tensor) -> Tensor:
        return images.float() / 255


class ClipFeatures(nn.Module):
    """What a CLIP's image tower has before its projection: a ViT's patch tokens, or a ResNet's last map."""

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self.vision = clip.vision

    def forward(self, images: Tensor) -> Tensor:
        images = pixels.normalise(images, "clip", pixels.dtype_of(self.vision))
        if not isinstance(self.vision, ClipVit):
            trunk: Tensor = self.vision.trunk(images)
            return trunk
        tokens, grid = self.vision.tokens(images)
        patches: Tensor = self.vision.model.post_layernorm(self.vision.last_block(tokens, None)[:, 1:])  # [B, L, W]
        return patches.mT.reshape(len(patches), -1, *grid)


class VitFeatures(nn.Module):
    """The patch tokens of any vision transformer of transformers (DINO), after its last norm."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.patch = int(model.config.patch_size)

    def forward(self, images: Tensor) -> Tensor:
        images = pixels.normalise(images, "imagenet", pixels.dtype_of(self.model))
        grid = (images.shape[-2] // self.patch, images.shape[-1] // self.patch)
        tokens: Tensor = self.model(images, interpolate_pos_encoding=True).last_hidden_state
        tokens = tokens[:, -grid[0] * grid[1] :]  # class and register tokens come first
        return tokens.mT.reshape(len(tokens), -1, *grid)


def _features(config: Config) -> nn.Module:
    if config.features == COLOURS:
        return Colours()
    folder = find(config.features)
    if folder.is_file() or read_json(folder / "config.json").get("model_type", "").startswith(("clip", "lexiseg_clip")):
        return ClipFeatures(Clip.load(config.features))
    from transformers import AutoModel

    try:
        model = AutoModel.from_pretrained(folder)
    except Exception as error:  # of many kinds: another architecture, damaged or missing files
        raise WeightsError(
            f"features={config.features} cannot be loaded ({first_line(error)}); give a CLIP, or a vision transformer "
            "of transformers such as facebook/dino-vits8"
        ) from error
    if not hasattr(model.config, "patch_size"):
        raise WeightsError(f"features={config.features} has no patch tokens; give a vision transformer or a CLIP")
    if config.side % int(model.config.patch_size):
        raise SettingError(f"side must be a multiple of the patch, {model.config.patch_size}, got {config.side}")
    return VitFeatures(model)


def _squared(cells: Tensor, centres: Tensor) -> Tensor:
    """Squared distances [B, L, K], as differences, not as products, whose rounding would break ties at random."""
    return torch.cdist(cells, centres, compute_mode="donot_use_mm_for_euclid_dist").square()


def _take(cells: Tensor, at: Tensor) -> Tensor:
    return cells[torch.arange(len(cells), device=cells.device), at]
