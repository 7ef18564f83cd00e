"""Methods that label windows by regions (GroupViT, SegCLIP): windows together against one by one, and their memory.

    python benchmarks/windows.py                             GroupViT, 21 and 847 classes, 1 and 4 photographs
    python benchmarks/windows.py --model segclip/vit-b16     another method of regions
    python benchmarks/windows.py --quick                     a tiny model: does the script run?

Time, per photograph of 375 x 500 pixels, which GroupViT sees at 448 x 597 in two windows. Three ways:

    together     `Predictor.segment_many`: windows of all photographs of a batch pass the network together, in the
                 precision that "auto" chooses; 8 linear masks per window go to the decoder; posteriors included
    together 32  the same in fp32
    one by one   what the authors' protocol says, in fp32: each window passes the network alone and becomes scores of
                 every class at every pixel; they are added, brought to full size, and the maximum is taken, without
                 posteriors

All have the same weights and unit text vectors, and give label maps on the CPU. The weights are random, in the real
shape, unless the model's own are here. The last columns are the share of "together 32" that the network takes, and the
pixels that it and "one by one" label alike: the first resizes with antialiasing, as the second does here, but torch and
Pillow do not round alike.

Memory, of one window of the network's size, in a process of its own, over the loaded weights and what a tiny window
has taken: its answer and decoding alone, as masks and as scores of every class at every pixel (what issue 16 bounds at
100 MB); and with the network in front. Linux only.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import script
import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.evaluation.setup import Model
from lexiseg.inference import preprocess, windows
from lexiseg.inference.labelling import decode
from lexiseg.inference.predictor import Predictor
from lexiseg.segmenter import MaskScores
from lexiseg.speed import bench, measuring, stand_in

Pixels = npt.NDArray[np.uint8]
HEIGHT, WIDTH = 375, 500  # pixels, as most photographs of Pascal VOC
BAR = 100  # MB, of 847 classes
WAYS = ("masks, decoded", "dense scores, argmax", "whole job as masks", "whole job, dense")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = script.parser(__doc__)
    parser.add_argument("--model", default="groupvit/cc-yfcc")
    parser.add_argument("--classes", type=int, nargs="+", default=[21, 847])
    parser.add_argument("--photographs", type=int, nargs="+", default=[1, 4], help="that are segmented together")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="measure time alone")
    options = script.parse(parser, arguments)
    if options.quick:
        options.model, options.classes, options.photographs, options.repeats = "groupvit/tiny", [5], [2], 1
    rows = []
    script.header("photographs", "classes", "together", "together 32", "one by one", "×", "network", "alike", "foreign")
    for count in options.photographs:
        for classes in options.classes:
            row = times(options.model, count, classes, options.repeats)
            rows.append(row)
            one, own, plain = (row["ms"][way] for way in ("together", "together 32", "one by one"))
            script.row(
                count, classes, script.time(one), script.time(own), script.time(plain), script.ratio(plain, own),
                f"{row['network']:.0%}", f"{row['alike']:.2%}", row["foreign_load_cores"],
            )  # fmt: skip
            script.write(options, "milliseconds per photograph, megabytes per window", rows)
    print()
    script.header("memory of a window", "classes", "MB", "bar")
    for classes in options.classes if options.memory else ():
        for way in WAYS:
            extra = measuring.in_new_process(memory_of, options.model, way, classes, options.threads)
            bar = f"≤ {BAR}" if classes == 847 and way == WAYS[0] else ""
            script.row(way, classes, script.memory([extra]), bar)
            rows.append({"model": options.model, "way": way, "classes": classes, "extra_mb": extra})
            script.write(options, "milliseconds per photograph, megabytes per window", rows)


def times(model: str, count: int, classes: int, repeats: int) -> dict[str, Any]:
    """One row: `count` photographs of `classes` classes, milliseconds per photograph."""
    words = bench.words(classes)
    photos = [photograph(shift) for shift in range(count)]
    fast, single = stand_in.load(Model(model)), stand_in.load(Model(model, dtype="fp32"))
    for predictor in (fast, single):
        predictor.embed_text(words)  # kept, so that it is not a part of the job
    ways: dict[str, Callable[[], Any]] = {
        "together": lambda: list(fast.segment_many(photos, words, batch_size=count, keep_image=False)),
        "together 32": lambda: list(single.segment_many(photos, words, batch_size=count, keep_image=False)),
        "one by one": lambda: [plainly(single, photo, single.embed_text(words)) for photo in photos],
    }
    load = measuring.foreign_load()
    taken = measuring.race(ways, repeats=repeats)
    each = {
        name: {key: value if key == "runs" else value / count for key, value in found.items()}
        for name, found in taken.items()
    }
    alike = np.mean(
        [(one.labels == other).mean() for one, other in zip(ways["together 32"](), ways["one by one"](), strict=True)]
    )
    return {
        "model": model,
        "photographs": count,
        "classes": classes,
        "ms": each,
        "network": network_share(single, ways["together 32"]),
        "alike": float(alike),
        "foreign_load_cores": load,
    }


def network_share(predictor: Predictor, job: Callable[[], Any]) -> float:
    """Of the time of a job, what `embed_image` takes."""
    segmenter: Any = predictor.segmenter
    own, spent = segmenter.embed_image, [0.0]

    def timed(images: Tensor) -> Any:
        start = measuring.clock()
        result = own(images)
        spent[0] += measuring.clock() - start
        return result

    segmenter.embed_image = timed
    start = measuring.clock()
    job()
    whole = measuring.clock() - start
    del segmenter.embed_image
    return spent[0] / whole


@torch.inference_mode()
def plainly(predictor: Predictor, photo: Pixels, classifier: Any) -> npt.NDArray[np.int64]:
    """Labels [H, W] of RGB uint8 [H, W, 3], window by window, with scores of every class at every pixel."""
    inference, size = predictor.inference, photo.shape[:2]
    seen = preprocess.target_size(*size, inference)
    pixels = torch.from_numpy(photo).permute(2, 0, 1)[None]
    pixels = F.interpolate(pixels, seen, mode="bilinear", antialias=inference.antialias, align_corners=False)
    total, cover = torch.zeros(1), torch.zeros(seen)
    for box in windows.boxes(seen, inference.window, inference.stride):
        scores = dense(predictor, pixels[(..., *box.slices)], classifier)  # [C + 1, h, w]
        total = scores.new_zeros(len(scores), *seen) if total.ndim == 1 else total
        total[(slice(None), *box.slices)] += scores
        cover[box.slices] += 1
    full = F.interpolate((total / cover)[None], size, mode="bilinear", align_corners=False)[0]
    labels = full.argmax(dim=0)
    return torch.where(labels == len(full) - 1, 255 if len(full) <= 256 else 65_535, labels).numpy()


def dense(predictor: Predictor, window: Tensor, classifier: Any) -> Tensor:
    """A window [1, 3, h, w] as scores of every class at every pixel."""
    return spread(answer(predictor, window, classifier))[:, : window.shape[2], : window.shape[3]]


def answer(predictor: Predictor, window: Tensor, classifier: Any) -> MaskScores:
    return as_masks(predictor.segmenter.classify(predictor.segmenter.embed_image(window), classifier))


def as_masks(result: object) -> MaskScores:
    assert isinstance(result, MaskScores), "a method of regions returns masks"
    return result.float()


def spread(result: MaskScores) -> Tensor:
    """Masks and their scores as scores of every class at every pixel [C + 1, h, w]."""
    return torch.einsum("nhw,nc->chw", result.masks[0], result.scores[0])


def memory_of(model: str, way: str, classes: int, threads: int) -> float | None:
    """MB of one of WAYS, for `measuring.in_new_process`."""
    torch.set_num_threads(threads)
    words = bench.words(classes)
    predictor = stand_in.load(Model(model, dtype="fp32"))
    side = predictor.inference.window or 448
    classifier = predictor.embed_text(words)
    window = torch.from_numpy(bench.photograph(side)).permute(2, 0, 1)[None]
    few, small = predictor.embed_text(bench.words(3)), window[:, :, :32, :32]
    with torch.inference_mode():
        decode(answer(predictor, small, few), (32, 32))  # compiles
        dense(predictor, small, few).argmax(0)
        # not what the network makes of the window, whose memory would be there to be used again
        cells = -(-side // predictor.segmenter.patch)
        embedded: Any = predictor.segmenter.embed_image(small)
        soft = torch.rand(1, embedded.soft.shape[1], cells, cells, generator=torch.Generator().manual_seed(0))
        embedded = dataclasses.replace(embedded, soft=soft)
        head = functools.partial(predictor.segmenter.classify, embedded, classifier)
        jobs: dict[str, Callable[[], Any]] = {
            "masks, decoded": lambda: decode(head(), (side, side)),
            "dense scores, argmax": lambda: spread(as_masks(head())).argmax(0),
            "whole job as masks": lambda: decode(answer(predictor, window, classifier), (side, side)),
            "whole job, dense": lambda: dense(predictor, window, classifier).argmax(0),
        }
        return measuring.extra_memory(jobs[way])


def photograph(shift: int) -> Pixels:
    """A real one, of the usual size; others show it elsewhere."""
    whole = bench.photograph(WIDTH + 16 * shift)
    return np.ascontiguousarray(whole[shift : shift + HEIGHT, :WIDTH])


if __name__ == "__main__":
    main()
