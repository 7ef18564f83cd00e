"""The fused decoder beside F.interpolate and argmax: time and memory, where classes can be left out and where not.

    python benchmarks/decoder.py                              all cases (about five minutes)
    python benchmarks/decoder.py --sizes 1024 --classes 847   the bar's case alone

Logits on a grid of size / 16, as ViT-B/16's. "smooth": random fields that change slowly, with a little noise. "rough":
every cell on its own, so that hardly a class can be left out: the worst case. "real": the embedded model looking at a
photograph. Masks: 100 soft masks on a grid of size / 4, each with scores for all classes.

lexiseg gives labels alone, or labels with the posterior of each winner and a threshold. Beside them
  whole     F.interpolate of everything, then argmax: what one would write
  classes   a running maximum over 8 classes at a time   (with posterior: and a running sum of exponentials)
  rows      bands of rows, each interpolated, then max    (with posterior: softmax, then max)
"best torch" is the fastest of those that do the same work. Each way first runs on a small case, uncounted. Memory is
that of labels alone, each in a process of its own. "agree" is the share of labels that are those of "whole".
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import script
import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.evaluation.setup import Model
from lexiseg.inference.decoder import Decoded
from lexiseg.inference.labelling import decode
from lexiseg.inference.upsample import axes
from lexiseg.segmenter import DenseLogits, MaskScores
from lexiseg.speed import bench, measuring, stand_in
from lexiseg.speed.measuring import Summary
from lexiseg.speed.peer import argmax

FEATURES = ("smooth", "rough", "real", "masks")
PATCH, MASK_PATCH, MASKS = 16, 4, 100  # pixels, pixels, masks of an image
SPREAD = 3.0  # standard deviation of a cell's logits, about that of CLIP's
CHUNK = 8  # classes
BAND = 1 << 22  # numbers of a band of rows
THRESHOLD = 0.2  # posterior
SECONDS = 5.0  # no further turn after these
Result = DenseLogits | MaskScores


def main(arguments: Sequence[str] | None = None) -> None:
    parser = script.parser(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024], help="pixels of a side")
    parser.add_argument("--classes", type=int, nargs="+", default=[21, 171, 847])
    parser.add_argument("--features", nargs="+", choices=FEATURES, default=list(FEATURES))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="measure time alone")
    options = script.parse(parser, arguments)
    if options.quick:
        options.sizes, options.classes, options.repeats, options.memory = [64], [5], 1, False
    rows = []
    script.header(
        "image", "classes", "features", "labels", "whole", "×", "best torch", "×", "with posterior", "best torch", "×",
        "memory", "agree",
    )  # fmt: skip
    for size in options.sizes:
        for classes in options.classes:
            for features in options.features:
                found = measure(features, classes, size, options)
                print_row(found)
                rows.append(found)
                script.write(options, "the fused decoder beside torch", rows)


def measure(features: str, classes: int, size: int, options: argparse.Namespace) -> dict[str, Any]:
    small, result = make(features, min(classes, 21), 64), make(features, classes, size)
    ways = {name: way for name, way in WAYS.items() if name != "whole" or whole_wanted(features, classes, size)}
    for way in ways.values():
        way(small, (64, 64))
    jobs = {name: partial(way, result, (size, size)) for name, way in ways.items()}
    ms = measuring.race(jobs, repeats=options.repeats, warm_up=0, seconds=SECONDS)
    compared = WAYS["whole" if "whole" in ways else "rows"](result, (size, size))
    ours = torch.from_numpy(decode(result, (size, size), scores=False).labels.astype("int64"))
    agree = float((ours == compared).double().mean())
    wanted = options.memory and features in ("smooth", "masks")
    memory = {
        name: measuring.in_new_process(memory_of, name, features, classes, size, options.threads) if wanted else None
        for name in ("labels", "whole")
        if name in ways
    }
    case = {"size": size, "classes": classes, "features": features}
    return {**case, "ms": ms, "extra_mb": memory, "agree": agree}


def whole_wanted(features: str, classes: int, size: int) -> bool:
    """Its time hardly depends on the features, and the largest case takes ten seconds; and it must fit into memory."""
    numbers = classes * size**2
    return (features in ("smooth", "masks") or numbers < 1 << 28) and 8 * numbers < measuring.available_memory()


def print_row(found: dict[str, Any]) -> None:
    ms, memory = found["ms"], found["extra_mb"]
    plain, shared = ms["labels"], ms["with posterior"]
    torch_plain, torch_shared = (
        fastest(ms, "whole", "classes", "rows"),
        fastest(ms, "classes posterior", "rows posterior"),
    )
    script.row(
        f"{found['size']}²", found["classes"], found["features"], script.time(plain), script.time(ms.get("whole")),
        script.ratio(ms.get("whole"), plain), script.time(torch_plain), script.ratio(torch_plain, plain),
        script.time(shared), script.time(torch_shared), script.ratio(torch_shared, shared),
        script.memory(memory.values()), f"{found['agree']:.6f}",
    )  # fmt: skip


def fastest(ms: dict[str, Summary], *names: str) -> Summary:
    return min((ms[name] for name in names if name in ms), key=lambda taken: taken["median"])


def memory_of(way: str, features: str, classes: int, size: int, threads: int) -> float | None:
    torch.set_num_threads(threads)
    WAYS[way](make(features, min(classes, 21), 64), (64, 64))
    result = make(features, classes, size)
    return measuring.extra_memory(lambda: WAYS[way](result, (size, size)))


def make(features: str, classes: int, size: int) -> Result:
    """What a method hands to the decoder, of one image."""
    random = torch.Generator().manual_seed(0)
    if features == "real":
        return real(classes, size)
    if features == "masks":
        grid = size // MASK_PATCH
        masks = 4 * smooth(torch.randn(MASKS, grid, grid, generator=random), grid // 8) - 2
        scores = (SPREAD * torch.randn(MASKS, classes, generator=random)).softmax(dim=1)
        return MaskScores(masks[None], scores[None])
    grid = size // PATCH
    noise = torch.randn(64, grid, grid, generator=random)
    field = noise if features == "rough" else smooth(noise, max(1, grid // 8)) + 0.1 * noise
    words = F.normalize(torch.randn(classes, 64, generator=random), dim=1)
    return DenseLogits(SPREAD * torch.einsum("cd,dhw->chw", words, field)[None])


def smooth(noise: Tensor, cells: int) -> Tensor:
    """[C, h, w] of unit variance whose values change over about so many cells."""
    coarse = noise[:, ::cells, ::cells]
    return F.interpolate(coarse[None], noise.shape[1:], mode="bicubic", align_corners=False)[0]


@torch.inference_mode()
def real(classes: int, size: int) -> DenseLogits:
    """The embedded model has patches of 8 pixels: at half the size its grid is that of patches of 16."""
    segmenter: Any = stand_in.load(Model("maskclip/mini", dtype="fp32")).segmenter
    images = torch.from_numpy(bench.photograph(size // 2)).permute(2, 0, 1)[None]
    classifier = segmenter.embed_text(bench.words(classes), ["a photo of a {}."])
    logits: DenseLogits = segmenter.classify(segmenter.embed_image(images), classifier)
    return logits


def labels(result: Result, size: tuple[int, int]) -> Decoded:
    return decode(result, size, scores=False)


def with_posterior(result: Result, size: tuple[int, int]) -> Decoded:
    return decode(result, size, threshold=THRESHOLD)


def rows(result: Result, size: tuple[int, int]) -> Tensor:
    return torch.cat([values.max(dim=0).indices for values in band(result, size)])


def rows_posterior(result: Result, size: tuple[int, int]) -> Tensor:
    return torch.cat([unlabel(*shares(values, result).max(dim=0)) for values in band(result, size)])


def shares(values: Tensor, result: Result) -> Tensor:
    """[C, n, W] as posteriors: a softmax, or what each class has of the sum over masks."""
    if isinstance(result, DenseLogits):
        return values.softmax(dim=0)
    return values / values.sum(dim=0)  # a mask's scores add up to one


def band(result: Result, size: tuple[int, int]) -> Iterator[Tensor]:
    """Scores [C, n, W] at full size, as many rows at a time as are quick to hold."""
    values = result.logits[0] if isinstance(result, DenseLogits) else result.masks[0]
    (down, across), step = axes(result.grid, size), max(1, BAND // (result.channels * size[1]))
    for start in range(0, size[0], step):
        part = across.along_rows(down.rows(start, min(start + step, size[0])).upsample(values))
        if isinstance(result, DenseLogits):
            yield part
        else:
            yield torch.einsum("nyx,nc->cyx", part.sigmoid_(), result.scores[0])


def classes(result: Result, size: tuple[int, int]) -> Tensor:
    best, label = torch.full(size, -torch.inf), torch.zeros(size, dtype=torch.long)
    for first, values in chunks(result, size):
        value, index = values.max(dim=0)
        better = value > best
        best, label = torch.where(better, value, best), torch.where(better, index + first, label)
    return label


def classes_posterior(result: Result, size: tuple[int, int]) -> Tensor:
    best, label, total = torch.full(size, -torch.inf), torch.zeros(size, dtype=torch.long), torch.zeros(size)
    dense = isinstance(result, DenseLogits)
    for first, values in chunks(result, size):
        value, index = values.max(dim=0)
        better = value > best
        top = torch.where(better, value, best)
        label = torch.where(better, index + first, label)
        total = total * (best - top).exp() + (values - top).exp().sum(dim=0) if dense else total + values.sum(dim=0)
        best = top
    return unlabel(1 / total if dense else best / total, label)


def chunks(result: Result, size: tuple[int, int]) -> Iterator[tuple[int, Tensor]]:
    """(first class, scores [n, H, W] at full size), CHUNK classes at a time."""
    inside = None
    if isinstance(result, MaskScores):
        inside = F.interpolate(result.masks, size, mode="bilinear", align_corners=False)[0].sigmoid_()
    for first in range(0, result.channels, CHUNK):
        part = slice(first, first + CHUNK)
        if isinstance(result, MaskScores):
            yield first, torch.einsum("nyx,nc->cyx", inside, result.scores[0, :, part])
        else:
            yield first, F.interpolate(result.logits[:, part], size, mode="bilinear", align_corners=False)[0]


def unlabel(posterior: Tensor, label: Tensor) -> Tensor:
    return torch.where(posterior < THRESHOLD, 65_535, label)


WAYS: dict[str, Callable[[Result, tuple[int, int]], Any]] = {
    "labels": labels,
    "with posterior": with_posterior,
    "whole": argmax,
    "classes": classes,
    "rows": rows,
    "classes posterior": classes_posterior,
    "rows posterior": rows_posterior,
}


if __name__ == "__main__":
    main()
