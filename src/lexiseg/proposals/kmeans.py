"""Clusters the features of each picture with K-means: S-Seg's pseudo-masks.

Lai, "Exploring Simple Open-Vocabulary Semantic Segmentation" (S-Seg), arXiv 2401.12217, section 3.3.1 and Table 1; the
facts and what the paper leaves open are in docs/papers/s_seg.md §4.2. Each picture is clustered on its own, all
pictures of a batch at once, on whatever device they are. The same pictures give the same clusters, whatever else is in
the batch. What the paper leaves open has a setting: which features, whether they have unit length (spherical K-means),
the start (k-means++ with a fixed seed), the number of iterations, and what becomes of a cluster that loses its cells.

Letters: B images, L cells, W channels of a feature, K clusters, h w grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.errors import SettingError
from lexiseg.proposals._features import COLOURS, Reading, open_features
from lexiseg.proposals._proposals import Proposals
from lexiseg.segmenter import at_least_float32

__all__ = ["Config", "KMeans", "assign", "cluster", "load"]

Empty = Literal["drop", "farthest"]


@dataclass(frozen=True)
class Config:
    """features: "colours"; "lite0" to "lite2", EfficientNet-Lite as ImageNet's labels taught it (extra `mini`); or the
        hub id or folder of a CLIP or of any vision model of transformers. The paper's is facebook/dino-vits8.
    read: a transformer's patch "tokens" after its last norm, or the "keys" of its last attention layer.
    k: clusters; the paper's number.
    side: pixels of the square that the picture is resized to for features; for colours, cells of the grid's side.
    spherical: features and centres have unit length; for features alone, not for colours.
    iterations: of Lloyd's algorithm, at most.
    seed: of the start.
    empty: a cluster that has lost its cells keeps its centre, and its mask is "drop"ped if it wins none back; or its
        centre moves to the cell that is "farthest" from its own, as scikit-learn has it.
    """

    features: str = "asset:mini-clip"
    read: Reading = "tokens"
    k: int = 8
    side: int = 224
    spherical: bool = True
    iterations: int = 10
    seed: int = 0
    empty: Empty = "drop"

    def __post_init__(self) -> None:
        for name, least in (("k", 1), ("side", 1), ("iterations", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise SettingError(f"{name} must be {least} or more, got {getattr(self, name)}")


class KMeans(nn.Module):
    """features: pictures [B, 3, side, side], uint8 -> [B, W, h, w].

    Its precision stays as it is when the weights of a model that it is part of are cast: in half of it, cells at a
    border would change sides.
    """

    def __init__(self, features: nn.Module, config: Config) -> None:
        super().__init__()
        self.features, self.config = features, config

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> KMeans:
        def moved(tensor: Tensor) -> Tensor:
            given = fn(tensor)
            return given if given.dtype == tensor.dtype else tensor.to(given.device)

        nn.Module._apply(self, moved, recurse)  # type: ignore[no-untyped-call]
        return self

    def propose(self, images: Tensor) -> Proposals:
        return Proposals.of_labels(self.labels(images))

    @torch.no_grad()
    def labels(self, images: Tensor) -> Tensor:
        """The cluster of each cell: uint8 [B, 3, H, W] of any size -> int64 [B, h, w]."""
        maps = self.maps(images)
        found = self.cluster(maps.flatten(2).mT)
        return found.view(len(images), *maps.shape[-2:])

    @torch.no_grad()
    def maps(self, images: Tensor) -> Tensor:
        """What is clustered: [B, W, h, w], float32 or better."""
        size = (self.config.side, self.config.side)
        resized = functional.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
        return at_least_float32(self.features(resized))

    def cluster(self, cells: Tensor) -> Tensor:
        """[B, L, W] -> [B, L] by the config."""
        config = self.config
        spherical = config.spherical and config.features != COLOURS
        cells = functional.normalize(cells, dim=2) if spherical else cells
        return cluster(
            cells, config.k, seed=config.seed, iterations=config.iterations, spherical=spherical, empty=config.empty
        )


def cluster(
    cells: Tensor, k: int, *, seed: int = 0, iterations: int = 10, spherical: bool = False, empty: Empty = "drop"
) -> Tensor:
    """The cluster of each cell: float [B, L, W] -> int64 [B, L]."""
    centres = start(cells, k, seed=seed)
    distances = _squared(cells, centres)
    labels = distances.argmin(dim=2)
    for _ in range(iterations):
        before = labels
        centres = update(cells, labels, centres, spherical=spherical)
        if empty == "farthest":
            centres = _refill(cells, labels, distances, centres)
        distances = _squared(cells, centres)
        labels = distances.argmin(dim=2)
        # an accelerator would have to wait for the answer, and what has settled stays as it is
        if cells.device.type == "cpu" and torch.equal(before, labels):
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
    """The mean of the cells of each cluster [B, K, W], of unit length if `spherical`; `centres` where it has none."""
    members = functional.one_hot(labels, centres.shape[1]).to(cells)  # [B, L, K]
    count = members.sum(dim=1)[..., None]  # [B, K, 1]
    means = members.mT @ cells / count.clamp(min=1)
    if spherical:
        means = functional.normalize(means, dim=2)
    return torch.where(count > 0, means, centres)


def load(config: Config) -> KMeans:
    """Raises `WeightsError` for a vision model that cannot be had."""
    features = open_features(config.features, side=config.side, read=config.read)
    return KMeans(features, config).eval().requires_grad_(False)


def _refill(cells: Tensor, labels: Tensor, distances: Tensor, centres: Tensor) -> Tensor:
    """Centres [B, K, W], where the n-th that has no cells lies on the cell that is n-th farthest from its own."""
    missing = functional.one_hot(labels, centres.shape[1]).sum(dim=1) == 0  # [B, K]
    own = distances.amin(dim=2)  # [B, L]
    far = own.topk(min(centres.shape[1], own.shape[1]), dim=1).indices  # [B, K]
    place = (missing.cumsum(dim=1) - 1).clamp(0, far.shape[1] - 1)
    moved = cells.gather(1, far.gather(1, place)[..., None].expand(-1, -1, cells.shape[2]))
    return torch.where(missing[..., None], moved, centres)


def _squared(cells: Tensor, centres: Tensor) -> Tensor:
    """Squared distances [B, L, K], as differences, not as products, whose rounding would break ties at random."""
    return torch.cdist(cells, centres, compute_mode="donot_use_mm_for_euclid_dist").square()


def _take(cells: Tensor, at: Tensor) -> Tensor:
    return cells[torch.arange(len(cells), device=cells.device), at]
