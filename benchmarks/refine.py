"""How long the refiners take on photographs, and how many labels the fast dense CRF has in common with the exact one.

    python benchmarks/refine.py                          seconds, a table
    python benchmarks/refine.py --exact                  the agreement too: minutes of one core for each photograph
    python benchmarks/refine.py --out results/refine.json

Photographs are those of scikit-image, 288 x 288 as SimSeg sees them. Soft maps are made of the photograph itself: how
like the colours of each of 18 x 18 patches are to those of one patch, scaled to 0-1 and repeated (two labels, as in
SimSeg), or random projections of the patches' colours, interpolated, as a softmax (20 labels); both with noise.
The exact CRF sums the appearance kernel over all pairs of pixels in float32, a block at a time. "changed" is the share
of labels that the CRF moved: without it, agreement would say nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import script
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from skimage import data
from torch import Tensor

from lexiseg.refine import crf, pamr
from lexiseg.speed import measuring

SIDE, GRID = 288, 18  # pixels, patches
ROWS, COLUMNS = 256, 4096  # of the block of the exact kernel that is held at a time
PHOTOGRAPHS: dict[str, Callable[[], NDArray[np.uint8]]] = {
    "astronaut": data.astronaut,
    "chelsea": data.chelsea,
    "coffee": data.coffee,
    "motorcycle_left": lambda: data.stereo_motorcycle()[0],
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = script.parser(__doc__)
    parser.add_argument("--photos", nargs="+", choices=PHOTOGRAPHS, default=list(PHOTOGRAPHS), help="default: all")
    parser.add_argument("--exact", action="store_true", help="compare with the exact CRF")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of each kind (default 5)")
    options = script.parse(parser, arguments)
    if options.quick:
        options.photos, options.repeats = options.photos[:1], 1
    rows = [row for name in options.photos for row in measure(name, options)]
    for row in rows:
        print(describe(row))
    script.write(options, "refiners at 288 x 288: seconds, and labels shared with the exact CRF", rows)


def measure(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    rgb = photograph(name)
    cases = {"2 labels, a": binary(rgb, 0), "2 labels, b": binary(rgb, 1), "20 labels": many(rgb)}
    truth = exact_labels(rgb, list(cases.values())) if options.exact else [None] * len(cases)
    rows = []
    for (case, soft), exact in zip(cases.items(), truth, strict=True):
        ways = {"crf": lambda soft=soft: crf.dense_crf(soft, rgb), "pamr": lambda soft=soft: pamr.pamr(soft, rgb)}
        times = measuring.race(ways, repeats=options.repeats)
        labels = ways["crf"]().argmax(0)
        row = {"photograph": name, "case": case, "changed": share(labels != soft.argmax(0)), "milliseconds": times}
        rows.append(row if exact is None else {**row, "agreement": share(labels == exact)})
    return rows


def describe(row: dict[str, Any]) -> str:
    times = "  ".join(f"{way} {time['median']:7.1f} ms" for way, time in row["milliseconds"].items())
    agreement = f"  agreement {row['agreement']:8.3%}" if "agreement" in row else ""
    return f"{row['photograph']:16} {row['case']:12} {times}  changed {row['changed']:6.1%}{agreement}"


def share(where: Tensor) -> float:
    return float(where.double().mean())


def photograph(name: str) -> NDArray[np.uint8]:
    return np.array(Image.fromarray(PHOTOGRAPHS[name]()).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def patches(rgb: NDArray[np.uint8]) -> Tensor:
    """Mean and deviation of the colours of each patch [6, GRID, GRID], in 0-1."""
    pixels = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
    mean, square = F.avg_pool2d(pixels, SIDE // GRID)[0], F.avg_pool2d(pixels**2, SIDE // GRID)[0]
    return torch.cat([mean, (square - mean**2).clamp(min=0).sqrt()])


def binary(rgb: NDArray[np.uint8], seed: int) -> Tensor:
    """Background and foreground [2, SIDE, SIDE]."""
    random, seen = torch.Generator().manual_seed(seed), patches(rgb)
    row, column = torch.randint(GRID, (2,), generator=random)
    likeness = -(seen - seen[:, row, column][:, None, None]).norm(dim=0)
    likeness = likeness + 0.1 * likeness.std() * torch.randn(GRID, GRID, generator=random)
    likeness = (likeness - likeness.min()) / (likeness.max() - likeness.min())
    foreground = likeness.repeat_interleave(SIDE // GRID, 0).repeat_interleave(SIDE // GRID, 1)
    return torch.stack([1 - foreground, foreground])


def many(rgb: NDArray[np.uint8], labels: int = 20) -> Tensor:
    """A posterior [labels, SIDE, SIDE]."""
    random, seen = torch.Generator().manual_seed(0), patches(rgb)
    seen = seen - seen.mean(dim=(1, 2), keepdim=True)
    logits = 12 * torch.einsum("cf,fhw->chw", torch.randn(labels, 6, generator=random), seen)
    logits = logits + torch.randn(labels, GRID, GRID, generator=random)
    return F.interpolate(logits[None], (SIDE, SIDE), mode="bilinear")[0].softmax(0)


def exact_labels(rgb: NDArray[np.uint8], problems: list[Tensor]) -> list[Tensor]:
    """The label map of each problem [L, H, W]; all in one, because the appearance kernel is the costly part."""
    config, sizes = crf.SIMSEG, [len(problem) for problem in problems]
    known = (torch.cat(problems).flatten(1) + config.added).log()  # [all labels, N]
    places = torch.from_numpy(np.indices(rgb.shape[:2]).reshape(2, -1)).float() / config.appearance_sigma_space
    colours = torch.from_numpy(rgb.reshape(-1, 3).T.copy()).float() / config.appearance_sigma_colour
    features = torch.cat([places, colours])
    one = torch.ones(1, SIDE * SIDE)
    like, near = exact_sums(features, one).rsqrt(), smooth_sums(one, config.smoothness_sigma).rsqrt()

    def softmax(energies: Tensor) -> Tensor:
        return torch.cat([part.softmax(dim=0) for part in energies.split(sizes)])

    q = softmax(known)
    for _ in range(config.iterations):
        smoothness = near * smooth_sums(near * q, config.smoothness_sigma)
        appearance = like * exact_sums(features, like * q)
        q = softmax(known + config.smoothness_weight * smoothness + config.appearance_weight * appearance)
    return [part.argmax(dim=0).reshape(rgb.shape[:2]) for part in q.split(sizes)]


def smooth_sums(values: Tensor, sigma: float) -> Tensor:
    """The Gaussian sum over positions [M, SIDE * SIDE], in float64; it is exactly one along each axis."""
    distance = torch.arange(SIDE)[:, None] - torch.arange(SIDE)
    along = (-0.5 * (distance.double() / sigma) ** 2).exp()
    return (along @ values.double().reshape(-1, SIDE, SIDE) @ along).reshape(values.shape).float()


def exact_sums(features: Tensor, values: Tensor) -> Tensor:
    """Sum over j of exp(-1/2 |features_i - features_j|^2) values_j [M, N], of features [D, N]."""
    features = (features - features.mean(dim=1, keepdim=True)).T
    half, one = -0.5 * features.square().sum(dim=1, keepdim=True), torch.ones(len(features), 1)
    left, right = torch.cat([features, half, one], dim=1), torch.cat([features, one, half], dim=1).T.contiguous()
    values = values.T.contiguous()
    sums = torch.zeros_like(values)
    for row in range(0, len(features), ROWS):
        for column in range(0, len(features), COLUMNS):
            kernel = (left[row : row + ROWS] @ right[:, column : column + COLUMNS]).clamp_(max=0).exp_()
            sums[row : row + ROWS].addmm_(kernel, values[column : column + COLUMNS])
    return sums.T


if __name__ == "__main__":
    main()
