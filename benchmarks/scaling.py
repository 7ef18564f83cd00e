"""How cost grows with pixels, classes, words, images and processes: points, and the exponent of the curve through them.

    python benchmarks/scaling.py                              all curves (about four minutes)
    python benchmarks/scaling.py --curves classes words       some

Exponents are slopes of the logarithms by least squares: 1 is proportional, 0 is no growth. Random ViT-B/16 weights for
pixels, tiles and classes, its text tower for words, the embedded model for images and processes. Seconds are medians;
memory is what a process of its own grows by over the weights. Images a second of several processes, one thread each,
grow like the processes where nothing is shared: exponent 1 at best, and not beyond the number of cores.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass

import script
import torch

import lexiseg
from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_shape import TINY_VIT, ClipShape
from lexiseg.evaluation.setup import Model
from lexiseg.speed import bench, measuring
from lexiseg.speed.bench import Row

TEXT = ClipShape(512, 224, 64, 1, 16, 512, 12)  # ViT-B/16's text tower
NAMES = "cat, dog, grass, sky, person, wall"


@dataclass(frozen=True)
class Scale:
    """Where the points lie."""

    model: str
    sizes: tuple[int, ...]  # pixels of a side
    tiled: tuple[int, ...]
    window: int  # pixels of a tile's side
    size: int  # pixels of a side, where classes grow
    classes: tuple[int, ...]
    words: tuple[int, ...]
    text: ClipShape
    images: tuple[int, ...]
    processes: tuple[int, ...]
    repeats: int
    memory: bool


FULL = Scale(
    "maskclip/vit-b16", (256, 384, 512, 768), (512, 1024, 1536), 512, 512, (21, 85, 171, 424, 847),
    (32, 128, 512), TEXT, (2, 4, 8, 16), tuple(sorted({1, 2, os.cpu_count() or 1})), 2, True,
)  # fmt: skip
QUICK = Scale("maskclip/tiny", (32, 64), (64, 128), 32, 32, (5, 10), (2, 4), TINY_VIT, (1, 2), (1,), 1, False)


@dataclass(frozen=True)
class Curve:
    """cost: of what, in which unit; against: what grows; points: (amount, cost)."""

    cost: str
    against: str
    points: tuple[tuple[float, float], ...]

    @property
    def exponent(self) -> float | None:
        """None of a single point."""
        return measuring.exponent(*zip(*self.points, strict=True)) if len(self.points) > 1 else None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = script.parser(__doc__)
    parser.add_argument("--curves", nargs="+", choices=CURVES, default=list(CURVES))
    options = script.parse(parser, arguments)
    scale = QUICK if options.quick else FULL
    rows = []
    script.header("cost", "against", "points", "exponent")
    for name in options.curves:
        for curve in CURVES[name](scale):
            points = ", ".join(f"{amount:.4g}: {cost:.3g}" for amount, cost in curve.points)
            exponent = curve.exponent
            script.row(curve.cost, curve.against, points, "–" if exponent is None else f"{exponent:.2f}")
            rows.append({**asdict(curve), "exponent": exponent})
            script.write(options, "how cost grows", rows)


def pixels(scale: Scale) -> Iterator[Curve]:
    found = [one(scale, Model(scale.model), size) for size in scale.sizes]
    yield from of_pixels(found, "pixels, at once")


def tiles(scale: Scale) -> Iterator[Curve]:
    model = Model(scale.model, changes={"window": scale.window, "stride": scale.window})
    found = [one(scale, model, size) for size in scale.tiled]
    yield from of_pixels(found, f"pixels, in tiles of {scale.window}²")


def of_pixels(found: Sequence[Row], against: str) -> Iterator[Curve]:
    areas = [row.size**2 for row in found]
    yield Curve("whole job, ms", against, pair(areas, [row.ms["lexiseg"]["median"] for row in found]))
    yield Curve("encoder, ms", against, pair(areas, [row.stages["encoder"]["median"] for row in found]))
    yield Curve("all but the encoder, ms", against, pair(areas, [rest(row) for row in found]))
    yield from of_memory(found, against, areas)


def classes(scale: Scale) -> Iterator[Curve]:
    model, counts = Model(scale.model), list(scale.classes)
    found = list(
        bench.bench(
            model,
            size=scale.size,
            classes=counts,
            repeats=scale.repeats,
            peers=False,
            network=True,
            memory=scale.memory,
        )
    )
    against = f"classes, at {scale.size}²"
    yield Curve("whole job, ms", against, pair(counts, [row.ms["lexiseg"]["median"] for row in found]))
    for stage in ("head", "decoder"):
        yield Curve(f"{stage}, ms", against, pair(counts, [row.stages[stage]["median"] for row in found]))
    yield from of_memory(found, against, counts)


def of_memory(found: Sequence[Row], against: str, amounts: Sequence[float]) -> Iterator[Curve]:
    """Nothing where the system does not say, or a process did not grow at all."""
    extra = [row.extra_mb["lexiseg"] for row in found]
    if all(each for each in extra):
        yield Curve("memory over the weights, MB", against, pair(amounts, [each or 0.0 for each in extra]))


def words(scale: Scale) -> Iterator[Curve]:
    clip, counts = Clip.random(scale.text), scale.words
    chosen = {count: bench.words(count).queries for count in counts}
    ways = {str(count): lambda count=count: clip.embed_words(chosen[count], ["a photo of a {}."]) for count in counts}
    times = measuring.race(ways, repeats=scale.repeats)
    yield Curve("embedding words, ms", "words", pair(counts, [times[str(count)]["median"] for count in counts]))


def images(scale: Scale) -> Iterator[Curve]:
    predictor = lexiseg.load("maskclip/mini", text_cache=False)
    photo = bench.jpeg(bench.photograph(256))
    ways = {
        str(count): lambda count=count: list(predictor.segment_many([photo] * count, NAMES)) for count in scale.images
    }
    times = measuring.race(ways, repeats=scale.repeats)
    costs = [times[str(count)]["median"] for count in scale.images]
    yield Curve("segment_many, ms", "images", pair(scale.images, costs))


def processes(scale: Scale) -> Iterator[Curve]:
    speeds = [images_per_second(count, max(scale.images)) for count in scale.processes]
    yield Curve("images/s, one thread each", "processes", pair(scale.processes, speeds))


def images_per_second(count: int, images: int) -> float:
    """Of `count` processes that label `images` photographs each, once all have loaded their model."""
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
        begin = time.time() + 0.5
        spans = list(pool.map(label_many, [images] * count, [begin] * count))
    return count * images / (max(end for _, end in spans) - min(start for start, _ in spans))


def label_many(images: int, begin: float) -> tuple[float, float]:
    """When the work of one process began and ended, in seconds of the clock that all share."""
    torch.set_num_threads(1)
    predictor = lexiseg.load("maskclip/mini", text_cache=False)
    photo = bench.jpeg(bench.photograph(256))
    predictor.segment(photo, NAMES)
    time.sleep(max(0.0, begin - time.time()))
    start = time.time()
    for _ in predictor.segment_many([photo] * images, NAMES):
        pass
    return start, time.time()


def one(scale: Scale, model: Model, size: int) -> Row:
    (row,) = bench.bench(
        model, size=size, classes=[21], repeats=scale.repeats, peers=False, network=True, memory=scale.memory
    )
    return row


def rest(row: Row) -> float:
    return sum(taken["median"] for name, taken in row.stages.items() if name != "encoder")


def pair(amounts: Sequence[float], costs: Sequence[float]) -> tuple[tuple[float, float], ...]:
    return tuple(zip(amounts, costs, strict=True))


CURVES = {
    "pixels": pixels,
    "tiles": tiles,
    "classes": classes,
    "words": words,
    "images": images,
    "processes": processes,
}


if __name__ == "__main__":
    main()
