"""The CRF as its formulas stand: every pair of pixels. Photographs and soft maps to try it on."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.special import softmax
from skimage import data

PHOTOGRAPHS = {
    "astronaut": data.astronaut,
    "chelsea": data.chelsea,
    "coffee": data.coffee,
    "motorcycle_left": lambda: data.stereo_motorcycle()[0],
}


def photograph(name: str, side: int) -> np.ndarray:
    return np.array(Image.fromarray(PHOTOGRAPHS[name]()).resize((side, side), Image.Resampling.BILINEAR))


def soft_maps(rgb: np.ndarray, labels: int, *, seed: int = 0, cells: int = 8) -> np.ndarray:
    """A posterior [labels, H, W] that follows the blurred colours of the photograph, coarsely and with noise."""
    random = np.random.default_rng(seed)
    size = (labels, *rgb.shape[:2])
    weight = random.normal(size=(labels, 3)) * 5
    blurred = ndimage.gaussian_filter(rgb / 255.0, (rgb.shape[0] / cells / 2, rgb.shape[1] / cells / 2, 0))
    follows = np.einsum("lc,hwc->lhw", weight, blurred - blurred.mean((0, 1)))
    noise = random.normal(size=(labels, cells, cells))
    return softmax(follows + ndimage.zoom(noise, [1, size[1] / cells, size[2] / cells], order=1), axis=0)


def kernel(features: np.ndarray) -> np.ndarray:
    """exp(-1/2 |features_i - features_j|^2) of all pairs [N, N], of features [N, D]."""
    found = np.empty((len(features), len(features)), np.float32)
    for row, here in enumerate(features):
        found[row] = np.exp(-0.5 * ((features - here) ** 2).sum(1))
    return found


def normalised_kernel(features: np.ndarray) -> np.ndarray:
    """D^-1/2 K D^-1/2."""
    found = kernel(features)
    scale = 1 / np.sqrt(found.sum(1, dtype=float) + 1e-20).astype(np.float32)
    found *= scale
    found *= scale[:, None]
    return found


def places(rgb: np.ndarray) -> np.ndarray:
    return np.indices(rgb.shape[:2]).reshape(2, -1).T.astype(float)


def bilateral_features(rgb: np.ndarray, sigma_space: float, sigma_colour: float) -> np.ndarray:
    return np.concatenate([places(rgb) / sigma_space, rgb.reshape(-1, 3) / sigma_colour], axis=1)


def crfs(problems: list[np.ndarray], rgb: np.ndarray) -> list[np.ndarray]:
    """SimSeg's, with the numbers of simseg.md §2.6 written out: each P [L, H, W] to Q."""
    both = 3 * normalised_kernel(places(rgb) / 3)
    both += 10 * normalised_kernel(bilateral_features(rgb, 40, 13))
    solved = []
    for probabilities in problems:
        energy = -np.log(probabilities.reshape(len(probabilities), -1) + 1e-8)  # U
        q = softmax(-energy, axis=0)
        for _ in range(3):
            q = softmax(-energy + q.astype(np.float32) @ both.T, axis=0)
        solved.append(q.reshape(probabilities.shape))
    return solved
