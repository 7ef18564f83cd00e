"""Computes what each corruption does to the pixels.

Pictures are RGB float32 0-1 [H, W, 3], and so are the results, not yet clipped.

Every function takes the picture, a random generator and the parameters that `corruptions.CORRUPTIONS` lists. Lengths
are in pixels. Published description: Hendrycks & Dietterich 2019, section 3 and appendix B.
"""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, signal
from skimage import color, exposure

Picture = NDArray[np.floating]  # [H, W, 3]
Layer = NDArray[np.floating]  # [H, W]

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
_WATER = np.array([175, 238, 238], dtype=np.float32) / 255  # pale turquoise
_MUD = np.array([63, 42, 20], dtype=np.float32) / 255
_ICE = np.array([0.86, 0.94, 1.0], dtype=np.float32)


# ---- noise ----


def gaussian_noise(picture: Picture, random: Generator, deviation: float) -> Picture:
    return picture + deviation * random.standard_normal(picture.shape, dtype=np.float32)


def shot_noise(picture: Picture, random: Generator, photons: float) -> Picture:
    """Counting noise: white is `photons` photons on average."""
    return (random.poisson(picture * photons) / photons).astype(np.float32)


def impulse_noise(picture: Picture, random: Generator, share: float) -> Picture:
    """Salt and pepper, half each, on `share` of all channel values."""
    draw = random.random(picture.shape, dtype=np.float32)
    return np.where(draw < share / 2, 0, np.where(draw >= 1 - share / 2, 1, picture)).astype(np.float32)


def speckle_noise(picture: Picture, random: Generator, deviation: float) -> Picture:
    return picture * (1 + deviation * random.standard_normal(picture.shape, dtype=np.float32))


# ---- blur ----


def gaussian_blur(picture: Picture, random: Generator, deviation: float) -> Picture:
    return _smooth(picture, deviation)


def defocus_blur(picture: Picture, random: Generator, radius: float, softness: float) -> Picture:
    """Convolution with a disc whose edge is softened by a Gaussian of deviation `softness`."""
    kernel = disc(int(radius), softness)
    reach = len(kernel) // 2
    padded = np.pad(picture, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    return np.asarray(signal.fftconvolve(padded, kernel[:, :, None], mode="valid", axes=(0, 1)), dtype=np.float32)


def glass_blur(picture: Picture, random: Generator, deviation: float, reach: int, rounds: int) -> Picture:
    """Blur, swap each pixel with one near it, blur again."""
    height, width = picture.shape[:2]
    order = _shuffle_nearby(height, width, random, reach, rounds)
    shuffled = _smooth(picture, deviation).reshape(-1, 3)[order].reshape(picture.shape)
    return _smooth(shuffled, deviation)


def motion_blur(picture: Picture, random: Generator, radius: int, deviation: float) -> Picture:
    return smear(picture, radius, deviation, random.uniform(-45, 45))


def zoom_blur(picture: Picture, random: Generator, step: float, steps: int) -> Picture:
    """Mean of the picture and its enlargements by 1, 1 + step, 1 + 2 step ... about the centre."""
    total = picture.copy()
    for index in range(int(steps)):
        total += enlarge(picture, 1 + index * step)
    return total / (int(steps) + 1)


# ---- weather ----


def snow(
    picture: Picture,
    random: Generator,
    mean: float,
    deviation: float,
    flake: float,
    threshold: float,
    radius: int,
    smear_deviation: float,
    keep: float,
) -> Picture:
    """Bright specks enlarged by `flake` and smeared downwards, over a picture that is whitened but for `keep`."""
    specks = random.normal(mean, deviation, picture.shape[:2]).astype(np.float32)
    specks = enlarge(specks, flake)
    flakes = np.clip(np.where(specks < threshold, 0, specks), 0, 1)
    flakes = smear(flakes, radius, smear_deviation, random.uniform(-135, -45))
    grey = (picture @ _LUMA)[..., None]
    whitened = keep * picture + (1 - keep) * np.maximum(picture, grey * 1.5 + 0.5)
    return whitened + (flakes + flakes[::-1, ::-1])[..., None]


def frost(picture: Picture, random: Generator, keep: float, strength: float) -> Picture:
    """The picture, dimmed to `keep`, behind pale-blue crystals.

    The published kind lays one of six photographs of frost over it; here the crystals are the ridges of three plasma
    fractals, thin and bright on a dim haze.
    """
    crystals = np.zeros(picture.shape[:2], dtype=np.float32)
    for decay in (1.4, 1.6, 1.8):
        ridge = 1 - np.abs(2 * plasma(picture.shape[0], picture.shape[1], random, decay) - 1)  # 1 along the level 0.5
        crystals = np.maximum(crystals, ridge**6)
    haze = plasma(picture.shape[0], picture.shape[1], random, 1.7)
    return keep * picture + strength * (0.3 * haze + 0.7 * crystals)[..., None] * _ICE


def fog(picture: Picture, random: Generator, thickness: float, decay: float) -> Picture:
    """Plasma fractal added, then scaled so that the brightest value stays what it was."""
    brightest = float(picture.max())
    hazy = picture + thickness * plasma(picture.shape[0], picture.shape[1], random, decay)[..., None]
    return hazy * (brightest / (brightest + thickness))


def spatter(
    picture: Picture,
    random: Generator,
    mean: float,
    deviation: float,
    size: float,
    threshold: float,
    strength: float,
    mud: bool,
) -> Picture:
    """Drops of water that shimmer at their rims, or opaque mud whose edges are softened by `strength` pixels."""
    liquid = _smooth(random.normal(mean, deviation, picture.shape[:2]).astype(np.float32), size)
    liquid = np.where(liquid < threshold, 0, liquid).astype(np.float32)
    if mud:
        cover = _smooth((liquid > threshold).astype(np.float32), strength)[..., None]
        cover = np.where(cover < 0.8, 0, cover)
        return picture * (1 - cover) + cover * _MUD
    shine = liquid * _shimmer(liquid > 0)
    water = strength * (shine / max(float(shine.max()), 1e-6))[..., None] * _WATER
    return picture + water


# ---- colour, shape, storage ----


def brightness(picture: Picture, random: Generator, amount: float) -> Picture:
    """Adds `amount` to the value of HSV."""
    hsv = color.rgb2hsv(picture)
    hsv[..., 2] = np.clip(hsv[..., 2] + amount, 0, 1)
    return np.asarray(color.hsv2rgb(hsv), dtype=np.float32)


def contrast(picture: Picture, random: Generator, factor: float) -> Picture:
    """Draws each channel to its own mean over the picture."""
    mean: Picture = picture.mean(axis=(0, 1), keepdims=True, dtype=np.float64).astype(np.float32)
    return (picture - mean) * factor + mean


def saturate(picture: Picture, random: Generator, factor: float, shift: float) -> Picture:
    hsv = color.rgb2hsv(picture)
    hsv[..., 1] = np.clip(hsv[..., 1] * factor + shift, 0, 1)
    return np.asarray(color.hsv2rgb(hsv), dtype=np.float32)


def elastic_transform(picture: Picture, random: Generator, wobble: float, deviation: float, jolt: float) -> Picture:
    """Samples at places moved by a random affine map (its three anchors jump by up to `jolt`) and by smooth noise."""
    height, width = picture.shape[:2]
    affine = _random_affine(height, width, random, jolt)  # [3, 2]
    moves = [
        wobble * ndimage.gaussian_filter(noise, deviation, mode="reflect", truncate=3)
        for noise in random.uniform(-1, 1, (2, height, width))
    ]
    y, x = np.mgrid[:height, :width]
    moved = np.stack([y + moves[0], x + moves[1], np.ones((height, width))], axis=-1) @ affine  # [H, W, 2]
    places = (moved[..., 0], moved[..., 1])
    channels = [ndimage.map_coordinates(picture[..., c], places, order=1, mode="reflect") for c in range(3)]
    return np.stack(channels, axis=-1)


def pixelate(picture: Picture, random: Generator, factor: float) -> Picture:
    """Shrinks to `factor` of the size and enlarges again, both with a box filter."""
    image = _to_image(picture)
    small = image.resize((max(1, int(image.width * factor)), max(1, int(image.height * factor))), Image.Resampling.BOX)
    return _from_image(small.resize(image.size, Image.Resampling.BOX))


def jpeg_compression(picture: Picture, random: Generator, quality: float) -> Picture:
    buffer = io.BytesIO()
    _to_image(picture).save(buffer, "JPEG", quality=int(quality))
    return _from_image(Image.open(buffer))


# ---- what they share ----


def disc(radius: int, softness: float) -> Layer:
    """Filled disc that sums to 1, its edge blurred by a small Gaussian."""
    reach = max(8, radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    filled = ((x**2 + y**2) <= radius**2).astype(np.float32)
    soft: Layer = ndimage.gaussian_filter(filled, softness, mode="mirror", radius=1 if radius <= 8 else 2)
    return np.asarray(soft / soft.sum())


def enlarge(picture: Picture, factor: float) -> Picture:
    """Enlarged by `factor` >= 1 about its centre and cut to its own size; bilinear. [H, W] or [H, W, 3]."""
    for axis in (0, 1):
        length = picture.shape[axis]
        centre = (length - 1) / 2
        places = centre + (np.arange(length) - centre) / factor
        lower = np.minimum(places.astype(np.intp), max(length - 2, 0))
        upper = np.minimum(lower + 1, length - 1)
        share = (places - lower).astype(np.float32).reshape([-1 if d == axis else 1 for d in range(picture.ndim)])
        picture = (1 - share) * picture.take(lower, axis) + share * picture.take(upper, axis)
    return picture


def smear(picture: Picture, radius: int, deviation: float, angle: float) -> Picture:
    """Motion blur: a half Gaussian of 2 * radius + 1 taps from each pixel towards `angle` (degrees, y downwards)."""
    reach = 2 * int(radius)
    margin = ((reach, reach), (reach, reach), *[(0, 0)] * (picture.ndim - 2))
    padded = np.pad(picture, margin, mode="edge")
    height, width = picture.shape[:2]
    taps = np.exp(-(np.arange(reach + 1) ** 2) / (2 * deviation**2))
    blurred = np.zeros_like(picture)
    for index, weight in enumerate(taps / taps.sum()):
        y = reach + round(index * math.sin(math.radians(angle)))
        x = reach + round(index * math.cos(math.radians(angle)))
        blurred += np.float32(weight) * padded[y : y + height, x : x + width]
    return blurred


def plasma(height: int, width: int, random: Generator, decay: float) -> Layer:
    """Fractal clouds between 0 and 1 by midpoint displacement on a torus (diamond-square).

    Each octave halves the distance of the points, fills them in with the mean of their four neighbours, and displaces
    the new ones by uniform noise, `decay`**2 times smaller from octave to octave.
    """
    heights = np.zeros((1, 1))
    amplitude = 1.0
    for _ in range(max(1, math.ceil(math.log2(max(height, width))))):
        size = len(heights)
        noise = amplitude * random.uniform(-1, 1, (3, size, size))
        right, below = np.roll(heights, -1, axis=1), np.roll(heights, -1, axis=0)
        centre = (heights + right + below + np.roll(right, -1, axis=0)) / 4 + noise[0]
        top = (heights + right + centre + np.roll(centre, 1, axis=0)) / 4 + noise[1]
        left = (heights + below + centre + np.roll(centre, 1, axis=1)) / 4 + noise[2]
        finer = np.empty((2 * size, 2 * size))
        finer[::2, ::2], finer[::2, 1::2], finer[1::2, ::2], finer[1::2, 1::2] = heights, top, left, centre
        heights = finer
        amplitude /= decay**2
    clouds: Layer = ((heights - heights.min()) / np.ptp(heights)).astype(np.float32)
    return clouds[:height, :width]


def _smooth(picture: Picture, deviation: float) -> Picture:
    deviations = (deviation, deviation, 0)[: picture.ndim]
    return np.asarray(ndimage.gaussian_filter(picture, deviations, mode="nearest", truncate=4.0))


def _shuffle_nearby(height: int, width: int, random: Generator, reach: int, rounds: int) -> list[int]:
    """Flat indices after swapping, from the last pixel to the first, each with one at most `reach` away."""
    order = list(range(height * width))  # a list: its swaps are far faster than an array's
    ys, xs = range(height - reach, reach, -1), range(width - reach, reach, -1)
    for _ in range(rounds):
        moves = random.integers(-reach, reach, (2, len(ys), len(xs)))  # the upper end is exclusive, as published
        for y, steps in zip(ys, (moves[0] * width + moves[1]).tolist(), strict=True):
            for x, step in zip(xs, steps, strict=True):
                here, there = y * width + x, y * width + x + step
                order[here], order[there] = order[there], order[here]
    return order


def _shimmer(drops: NDArray[np.bool_]) -> Layer:
    """Relief of the distance to the drops' outlines, lit from one corner, 0-1."""
    outline = drops & ~ndimage.binary_erosion(drops)
    far = ndimage.distance_transform_edt(~outline) if outline.any() else np.zeros(drops.shape)
    relief = ndimage.uniform_filter(np.minimum(far, 20), 3)  # pixels
    relief = 255 * exposure.equalize_hist(np.floor(relief))
    lit = ndimage.correlate(relief, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]), mode="mirror")
    return np.asarray(ndimage.uniform_filter(np.clip(lit, 0, 255), 3) / 255, dtype=np.float32)


def _random_affine(height: int, width: int, random: Generator, jolt: float) -> NDArray[np.float64]:
    """[3, 2]: (y, x, 1) of the result times this is the place to read from; three anchors around the centre jump."""
    centre, side = np.array([height // 2, width // 2]), max(min(height, width) // 3, 1)
    anchors = centre + side * np.array([[1, 1], [-1, 1], [-1, -1]])
    jumped = anchors + random.uniform(-jolt, jolt, (3, 2))
    solution: NDArray[np.float64] = np.linalg.lstsq(np.column_stack([jumped, np.ones(3)]), anchors, rcond=None)[0]
    return solution


def _to_image(picture: Picture) -> Image.Image:
    return Image.fromarray(np.rint(picture * 255).astype(np.uint8))


def _from_image(image: Image.Image) -> Picture:
    return np.asarray(image, dtype=np.float32) / 255
