"""Refines by a fully connected CRF, with SimSeg's settings.

The CRF is that of Krähenbühl and Koltun (NIPS 2011).

Every pixel is tied to every other, strongly if it is near, more strongly if it is near and of the same colour. With
P_l(i) the posterior of label l at pixel i, mean-field inference repeats (Algorithm 1 there, Potts compatibility)

    Q_l(i) <- softmax over l of  log P_l(i) + w_s [K_s Q_l](i) + w_a [K_a Q_l](i)

from Q = P. K_s(i, j) = exp(-1/2 |position|^2 / sigma_s^2) is the smoothness kernel, K_a the bilateral appearance kernel
of `_bilateral.py`; both contain j = i and are normalised symmetrically, D^-1/2 K D^-1/2 with D the sums of K's rows,
as pydensecrf does by default. K_s is exact to float32, K_a to about 1 % of its value: at 288 x 288 at least 99.5 % of
the labels are those of the exact O(N^2) sum (`benchmarks/refine.py`, `tests/refine/test_crf.py`).

The sums over pixels run on the CPU, whatever the device of the logits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lexiseg.errors import SettingError
from lexiseg.refine._bilateral import Bilateral
from lexiseg.refine._candidates import check_rgb, refine_candidates

__all__ = ["SIMSEG", "Config", "dense_crf", "refine"]


@dataclass(frozen=True)
class Config:
    """The defaults are those of SimSeg's released evaluation (docs/papers/simseg.md §2.6).

    iterations: of mean-field inference.
    smoothness_weight, appearance_weight: w_s and w_a.
    smoothness_sigma, appearance_sigma_space: pixels. appearance_sigma_colour: levels of 0-255.
    added: to each probability before its logarithm.
    candidates: classes of one image that `refine` weighs against each other, at most; see `_candidates.py`.
    """

    iterations: int = 3
    smoothness_weight: float = 3.0
    smoothness_sigma: float = 3.0
    appearance_weight: float = 10.0
    appearance_sigma_space: float = 40.0
    appearance_sigma_colour: float = 13.0
    added: float = 1e-8
    candidates: int = 32

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 1 if field.name in ("iterations", "candidates") else 0
            if not least <= value < math.inf or (value == 0 and not field.name.endswith("weight")):
                raise SettingError(f"{field.name} is {value}; give a number above 0, or 0 for a weight")


SIMSEG = Config()


def refine(logits: Tensor, rgb: npt.NDArray[np.uint8], *, config: Config = SIMSEG) -> Tensor:
    """Class logits [C, h, w] on any grid and RGB uint8 [H, W, 3] to logits [C, H, W], whose softmax is Q.

    A background is a class like any other. Above `config.candidates` classes only the likeliest are refined.

    Raises `SettingError` for more logits than fit in memory, `ImageError` for pixels that are not uint8 RGB.
    """
    return refine_candidates(
        logits, rgb, config.candidates, lambda posterior: _mean_field(posterior[None], rgb, config)[0]
    )


def dense_crf(probabilities: Tensor, rgb: npt.NDArray[np.uint8], *, config: Config = SIMSEG) -> Tensor:
    """Probabilities [..., L, H, W] of L labels and RGB uint8 [H, W, 3] to Q [..., L, H, W].

    Leading dimensions are problems of their own about the same image (one for each class, say), solved together.

    Raises `ImageError` where the sizes differ or the pixels are not uint8 RGB.
    """
    check_rgb(rgb, probabilities)
    problems = probabilities.detach().float().reshape(-1, *probabilities.shape[-3:])
    posterior = _mean_field(problems, rgb, config).exp()
    return posterior.reshape(probabilities.shape).to(probabilities.device)


def _mean_field(probabilities: Tensor, rgb: npt.NDArray[np.uint8], config: Config) -> Tensor:
    """log Q of probabilities [P, L, H, W]; P problems about one image."""
    known = (probabilities.cpu() + config.added).log()  # -U
    appearance, smoothness = _Appearance(rgb, config), _Smoothness(rgb.shape[:2], config.smoothness_sigma)
    log_q = known.log_softmax(dim=1)
    for _ in range(config.iterations):
        q = log_q.exp()
        message = config.smoothness_weight * smoothness(q) + config.appearance_weight * appearance(q)
        log_q = (known + message).log_softmax(dim=1)
    return log_q


class _Appearance:
    """D^-1/2 K_a D^-1/2 of one image."""

    def __init__(self, rgb: npt.NDArray[np.uint8], config: Config) -> None:
        self._sums = Bilateral(rgb, config.appearance_sigma_space, config.appearance_sigma_colour)
        ones = np.ones((1, rgb.shape[0] * rgb.shape[1]), np.float32)
        self._scale = 1 / np.sqrt(self._sums(ones))  # [1, N]; no row is empty, each holds the pixel itself

    def __call__(self, q: Tensor) -> Tensor:
        sums = self._scale * self._sums(self._scale * q.reshape(-1, self._scale.size).numpy())
        return torch.from_numpy(sums).reshape(q.shape)


class _Smoothness:
    """D^-1/2 K_s D^-1/2 for images of one size: a Gaussian along each axis; what lies outside the image is nothing."""

    def __init__(self, size: tuple[int, ...], sigma: float) -> None:
        self._down, self._across = (_gaussian(side, sigma) for side in size)
        self._scale = (self._down.sum(dim=1, keepdim=True) * self._across.sum(dim=0)).rsqrt()  # [H, W]

    def __call__(self, q: Tensor) -> Tensor:
        return self._scale * (self._down @ (self._scale * q) @ self._across)


def _gaussian(side: int, sigma: float) -> Tensor:
    distance = torch.arange(side)[:, None] - torch.arange(side)
    return (-0.5 * (distance / sigma) ** 2).exp()
