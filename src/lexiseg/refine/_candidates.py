"""Turns logits on a grid into a posterior, and back.

The posterior has a few classes, at the image's size; every refiner shares this.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.errors import ImageError, SettingError

__all__ = ["candidates", "check_rgb", "refine_candidates"]

# Posterior, 0-1. A class that is below it everywhere, and below a tenth of 1 / C, cannot win: PAMR takes means, and in
# the CRF messages are positive and at most about 13 times the largest Q of the class, so that Q <= P exp(13 max Q).
NEGLIGIBLE = 1e-3
MAX_LOGITS = 1 << 29  # classes times pixels of a result
FLOOR = 1e4  # -inf becomes the smallest finite logit minus this, as in the decoder


def candidates(logits: Tensor, most: int) -> Tensor:
    """The classes [K] of logits [C, h, w] that a refiner should weigh against each other, in ascending order.

    Those whose posterior is not negligible everywhere; of more than `most`, those that win most places, then those
    with the highest posterior anywhere.
    """
    peak = logits.softmax(dim=0).flatten(1).amax(dim=1)  # [C]
    wins = logits.argmax(dim=0).flatten().bincount(minlength=len(logits))
    likely = int((peak >= min(NEGLIGIBLE, 0.1 / len(logits))).sum())
    kept = max(1, min(most, likely))  # 0 are likely where logits are NaN, which the decoder reports
    return (wins + peak.double()).topk(kept).indices.sort().values


def refine_candidates(
    logits: Tensor, rgb: npt.NDArray[np.uint8], most: int, refine: Callable[[Tensor], Tensor]
) -> Tensor:
    """Logits [C, h, w] to refined logits [C, H, W] at the size of `rgb`; their softmax is the refined posterior.

    refine: the posterior of the candidates [K, H, W] to its refined logarithm.

    The candidates share what they have together at each pixel anew; all other classes keep the posterior they had.
    """
    check_rgb(rgb)
    height, width = rgb.shape[:2]
    if len(logits) * height * width > MAX_LOGITS:
        raise SettingError(
            f"a refiner would give {len(logits)} classes at {width} x {height} pixels, "
            f"{len(logits) * height * width * 4 / 1e9:.1f} GB; use fewer classes, a smaller short_side, or no refiner"
        )
    logits = _finite(logits.float())
    index = candidates(logits, most)
    whole = F.interpolate(logits[None], (height, width), mode="bilinear")[0]
    kept = whole[index]
    together = kept.logsumexp(dim=0)
    whole[index] = together + refine((kept - together).exp()).to(whole.device)
    return whole


def check_rgb(rgb: npt.NDArray[np.uint8], fields: Tensor | None = None) -> None:
    """Raises `ImageError` for what is not uint8 RGB, or where `fields` [..., H, W] are of another size."""
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or not rgb.size:
        raise ImageError(f"a refiner needs uint8 RGB [H, W, 3], not {rgb.dtype} {list(rgb.shape)}; convert the image")
    if fields is not None and (fields.ndim < 3 or fields.shape[-2:] != rgb.shape[:2]):
        raise ImageError(
            f"probabilities of size {list(fields.shape)} do not fit an image of {rgb.shape[0]} x {rgb.shape[1]} "
            f"pixels; resize one of them to [..., classes, {rgb.shape[0]}, {rgb.shape[1]}]"
        )


def _finite(logits: Tensor) -> Tensor:
    """-inf would become NaN between two places of the grid."""
    if not torch.isinf(logits.amin()):
        return logits
    finite = logits[torch.isfinite(logits)]
    return logits.clamp(min=float(finite.min()) - FLOOR)
