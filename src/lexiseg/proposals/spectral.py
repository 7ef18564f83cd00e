"""Cuts pictures into parts by spectral clustering of pixels.

It is a rival of S-Seg's pseudo-masks.

Shi and Malik, "Normalized Cuts and Image Segmentation", TPAMI 2000, as scikit-learn has it; S-Seg's Table 1
(docs/papers/s_seg.md §4.2) runs it on pictures of an eighth of their size. Pixels that are near and alike are tied
strongly, and the ties between parts should be few for what they are inside. The authors do not say how they measure
either, so the measures of Shi and Malik are settings here.

Letters: L pixels of the small picture, h w its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lexiseg.errors import MissingDependency, SettingError
from lexiseg.proposals._proposals import Proposals

__all__ = ["Config", "Spectral", "affinity", "load"]


@dataclass(frozen=True)
class Config:
    """k: parts.
    side: pixels of the square that a picture is resized to, before it is made smaller.
    shrink: how many times smaller it is made then; 8 in the paper.
    colour: how far apart colours are that are tied by 1/e, as a share of the range of levels.
    place: the same for places, pixels of the small picture.
    radius: pixels of the small picture that are further apart are not tied.
    seed: of the K-means that reads the eigenvectors.
    """

    k: int = 8
    side: int = 224
    shrink: int = 8
    colour: float = 0.1
    place: float = 4.0
    radius: float = 8.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("k", 1), ("side", 1), ("shrink", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise SettingError(f"{name} must be {least} or more, got {getattr(self, name)}")
        for name in ("colour", "place", "radius"):
            if not 0 < getattr(self, name) < float("inf"):
                raise SettingError(f"{name} must be above 0, got {getattr(self, name)}")
        if (self.side // self.shrink) ** 2 <= self.k:
            raise SettingError(f"a picture of {self.side // self.shrink} pixels has no {self.k} parts; raise side")


@dataclass(frozen=True)
class Spectral:
    config: Config

    def propose(self, images: Tensor) -> Proposals:
        return Proposals.of_labels(self.labels(images))

    def labels(self, images: Tensor) -> Tensor:
        """The part of each pixel of the small pictures: uint8 [B, 3, H, W] -> int64 [B, h, w]."""
        side = self.config.side // self.config.shrink
        small = functional.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False)
        maps = [torch.from_numpy(self._parts(each.permute(1, 2, 0).cpu().numpy())) for each in small]
        return torch.stack(maps).to(images.device)

    def _parts(self, rgb: NDArray[np.uint8]) -> NDArray[np.int64]:
        config = self.config
        if len(np.unique(rgb.reshape(-1, 3), axis=0)) == 1:  # nothing to cut by
            return np.zeros(rgb.shape[:2], np.int64)
        found = _clustering()(
            config.k, affinity="precomputed", random_state=config.seed, assign_labels="kmeans", n_init=1
        ).fit_predict(affinity(rgb, config))
        return np.asarray(found, np.int64).reshape(rgb.shape[:2])


def affinity(rgb: NDArray[np.uint8], config: Config) -> NDArray[np.float64]:
    """How strongly pixels of a picture [h, w, 3] are tied: [L, L], from 0 to 1 (Shi and Malik, Eq. 11).

    exp(-|colours' difference|² / colour²) exp(-|places' difference|² / place²), and nothing beyond the radius.
    """
    height, width = rgb.shape[:2]
    colours = rgb.reshape(-1, 3).astype(np.float64) / 255
    places = np.mgrid[:height, :width].reshape(2, -1).T.astype(np.float64)
    apart = ((places[:, None] - places) ** 2).sum(-1)
    unlike = ((colours[:, None] - colours) ** 2).sum(-1)
    ties: NDArray[np.float64] = np.exp(-unlike / config.colour**2 - apart / config.place**2)
    ties[apart > config.radius**2] = 0
    return ties


def load(config: Config) -> Spectral:
    """Raises `MissingDependency` without scikit-learn."""
    _clustering()
    return Spectral(config)


def _clustering() -> Any:
    try:
        from sklearn.cluster import SpectralClustering
    except ImportError as error:
        raise MissingDependency("scikit-learn", "proposals", "spectral clustering") from error
    return SpectralClustering
