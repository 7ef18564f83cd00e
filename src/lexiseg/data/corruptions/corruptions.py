"""Offers the 19 corruptions of ImageNet-C in 5 severities.

Hendrycks & Dietterich (2019) defined them; here they take photographs of any size.

Kinds and parameters are the published ones, which are in pixels of the photograph as it was decoded: MaskCLIP's study
(Table 1b, maskclip.md §2.11) corrupts before it resizes. The functions are this project's own
(`kinds`), and differ from the published code where that is tied to 224 x 224 pixels, to unseeded random
numbers or to OpenCV and ImageMagick:

    frost           is drawn by a fractal: the six photographs of frost are not shipped
    defocus_blur    has a disc that sums to 1: the published ones of severities 4 and 5 brighten by 1 %
    glass_blur      swaps neighbours, as the paper says; the published code writes one of the two over the other
    spatter         finds the outline of the drops from their mask, not by an edge detector
    elastic         moves each pixel once, by the affine map and the wobble together
    all             round to the nearest level instead of cutting off the fraction

The ground truth is never moved along, so elastic_transform and zoom_blur cost mIoU by their geometry too.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lexiseg.data.corruptions import kinds
from lexiseg.errors import ImageError, SettingError, UnknownName
from lexiseg.files import utf8

__all__ = ["CORRUPTIONS", "GROUPS", "SEVERITIES", "Corruption", "corrupt", "image_seed", "parse"]

SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Corruption:
    """A kind and the parameters of its severities 1 to 5, in the order in which its function takes them."""

    apply: Callable[..., kinds.Picture]
    parameters: tuple[tuple[float, ...], ...]


def _single(*values: float) -> tuple[tuple[float, ...], ...]:
    return tuple((value,) for value in values)


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(kinds.gaussian_noise, _single(0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": Corruption(kinds.shot_noise, _single(60, 25, 12, 5, 3)),
    "impulse_noise": Corruption(kinds.impulse_noise, _single(0.03, 0.06, 0.09, 0.17, 0.27)),
    "speckle_noise": Corruption(kinds.speckle_noise, _single(0.15, 0.2, 0.35, 0.45, 0.6)),
    "gaussian_blur": Corruption(kinds.gaussian_blur, _single(1, 2, 3, 4, 6)),
    "defocus_blur": Corruption(kinds.defocus_blur, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))),
    "glass_blur": Corruption(kinds.glass_blur, ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))),
    "motion_blur": Corruption(kinds.motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    "zoom_blur": Corruption(kinds.zoom_blur, ((0.01, 11), (0.01, 16), (0.02, 11), (0.02, 13), (0.03, 11))),
    "snow": Corruption(
        kinds.snow,
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    "frost": Corruption(kinds.frost, ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))),
    "fog": Corruption(kinds.fog, ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))),
    "spatter": Corruption(
        kinds.spatter,
        (
            (0.65, 0.3, 4, 0.69, 0.6, False),
            (0.65, 0.3, 3, 0.68, 0.6, False),
            (0.65, 0.3, 2, 0.68, 0.5, False),
            (0.65, 0.3, 1, 0.65, 1.5, True),
            (0.67, 0.4, 1, 0.65, 1.5, True),
        ),
    ),
    "brightness": Corruption(kinds.brightness, _single(0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": Corruption(kinds.contrast, _single(0.4, 0.3, 0.2, 0.1, 0.05)),
    "saturate": Corruption(kinds.saturate, ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))),
    "elastic_transform": Corruption(
        kinds.elastic_transform,
        ((488, 170.8, 24.4), (488, 19.52, 48.8), (12.2, 2.44, 4.88), (17.08, 2.44, 4.88), (29.28, 2.44, 4.88)),
    ),
    "pixelate": Corruption(kinds.pixelate, _single(0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg_compression": Corruption(kinds.jpeg_compression, _single(25, 18, 15, 10, 7)),
}

GROUPS: dict[str, tuple[str, ...]] = {
    "all": tuple(CORRUPTIONS),
    "maskclip": (  # the rows of MaskCLIP's Table 1b
        "gaussian_noise",
        "shot_noise",
        "impulse_noise",
        "speckle_noise",
        "gaussian_blur",
        "defocus_blur",
        "spatter",
        "jpeg_compression",
    ),
}


def corrupt(rgb: ArrayLike, name: str, severity: int, seed: int, *, bgr: bool = False) -> NDArray[np.uint8]:
    """A corrupted copy [H, W, 3] of a photograph, uint8 [H, W, 3] or grey [H, W], of any size.

    seed: 0 or more, one for each image (`image_seed`); the same one gives the same pixels in every process, and the
        severities of a kind share their random numbers.
    bgr: hand the channels over in reverse, as MaskCLIP's released code did. It shows in the kinds that know colours
        (spatter, jpeg_compression, frost, snow, ...).

    Raises `UnknownName`, `SettingError` for a severity that is not 1 to 5, `ImageError` for any other array.
    """
    kind = _kind(name)
    _check_severity(severity)
    picture = _as_rgb(rgb).astype(np.float32) / 255
    random = np.random.default_rng([seed, zlib.crc32(name.encode())])
    ordered = picture[..., ::-1] if bgr else picture
    changed = kind.apply(np.ascontiguousarray(ordered), random, *kind.parameters[severity - 1])
    levels = np.rint(np.clip(changed, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(levels[..., ::-1]) if bgr else levels


def image_seed(image: str, *, seed: int = 0) -> int:
    """The seed of one image, from its name: independent of the order and the process in which images are read."""
    return int.from_bytes(hashlib.sha256(utf8(f"{seed}:{image}")).digest()[:8], "big")


def parse(text: str) -> list[tuple[str, int]]:
    """(name, severity) pairs of a text: "gaussian_noise:3", "all:1,5", "fog,snow:2"; without ":" all severities.

    Names are corruptions or GROUPS. Raises `UnknownName` and `SettingError`.
    """
    names, colon, severities = text.partition(":")
    chosen = [kind for name in names.split(",") for kind in GROUPS.get(name.strip(), (name.strip(),))]
    for kind in chosen:
        _kind(kind)
    levels = [_severity(part, text) for part in severities.split(",")] if colon else list(SEVERITIES)
    return [(kind, level) for kind in dict.fromkeys(chosen) for level in dict.fromkeys(levels)]


def _kind(name: str) -> Corruption:
    if name not in CORRUPTIONS:
        raise UnknownName("corruption", name, [*CORRUPTIONS, *GROUPS])
    return CORRUPTIONS[name]


def _severity(part: str, text: str) -> int:
    if not part.strip().isdecimal():
        raise SettingError(f"{text!r} has the severity {part!r}; give numbers from 1 to 5, for example 'all:1,5'")
    severity = int(part)
    _check_severity(severity)
    return severity


def _check_severity(severity: int) -> None:
    if severity not in SEVERITIES:
        raise SettingError(f"there is no severity {severity}; give one from 1 (weak) to 5 (strong)")


def _as_rgb(image: ArrayLike) -> NDArray[np.uint8]:
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=-1)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ImageError(f"cannot corrupt {pixels.dtype} {list(pixels.shape)}; give uint8 [H, W, 3] or grey [H, W]")
    return pixels
