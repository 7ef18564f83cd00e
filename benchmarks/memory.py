"""What one image takes over the weights: memory flat in classes, and 4096² with 847 classes within 2 GB.

    python benchmarks/memory.py                                  all cases (about five minutes: 25 tiles of 1024² each)
    python benchmarks/memory.py --sizes 4096 --classes 847       the bar's case alone
    python benchmarks/memory.py --window 512 --stride 384        other tiles
    python benchmarks/memory.py --sizes                          the masks alone

The last rows are masks, made and decoded. A window of a method that groups pixels, as GroupViT and SegCLIP do: 8
regions of pixels, each with scores for all classes; as dense scores at every pixel they would be 681 MB before any
decoding. And ZSSeg's assembly: 100 soft masks at stride 4 of 640 x 853; at the picture's size all masks are 218 MB, and
the sums over 847 classes 1.8 GB.

Each case is a process of its own, whose model is loaded and which has labelled a tiny photograph. Random weights of
ViT-B/16's shape; pictures above 2048² pass the network in tiles, as they do for everybody. Linux only.
"""

from __future__ import annotations

from collections.abc import Sequence

import script
import torch
import torch.nn.functional as F

from lexiseg.evaluation.setup import Model
from lexiseg.inference.labelling import decode
from lexiseg.segmenter import MaskScores
from lexiseg.speed import measuring
from lexiseg.speed.bench import Case, memory_of

BAR = 2000  # MB, for 4096² and 847 classes
MASKS, MASK_SIZE, MASK_CLASSES, MASK_BAR = 8, 448, 847, 100  # regions, pixels of a side, classes, MB
PROPOSALS, PROPOSED = 100, (640, 853)  # ZSSeg's masks, and its pictures of COCO


def main(arguments: Sequence[str] | None = None) -> None:
    parser = script.parser(__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[512, 1024, 4096], help="pixels of a side")
    parser.add_argument("--classes", type=int, nargs="+", default=[21, 847])
    parser.add_argument("--window", type=int, help="pixels of a tile's side (default: the predictor's own rule)")
    parser.add_argument("--stride", type=int, help="pixels between tiles")
    options = script.parse(parser, arguments)
    given = {"window": options.window, "stride": options.stride}
    model = Model("maskclip/vit-b16", changes={name: value for name, value in given.items() if value is not None})
    if options.quick:
        model, options.sizes, options.classes = Model("maskclip/tiny", changes={"window": 64}), [128], [21]
    rows = []
    script.header("image", "classes", "MB over the weights", "bytes per pixel", "bar")
    for size in options.sizes:
        for classes in options.classes:
            case = Case(model, size, classes, options.threads, network=True)
            extra = measuring.in_new_process(memory_of, case)
            per_pixel = "–" if extra is None else f"{1e6 * extra / size**2:.0f}"
            bar = f"≤ {BAR}" if (size, classes) == (4096, 847) else ""
            script.row(f"{size}²", classes, script.memory([extra]), per_pixel, bar)
            rows.append({"size": size, "classes": classes, **given, "extra_mb": extra})
            script.write(options, "megabytes over the weights", rows)
    size, classes = (64, 21) if options.quick else (MASK_SIZE, MASK_CLASSES)
    extra = measuring.in_new_process(memory_of_masks, size, classes, options.threads)
    script.row(f"{MASKS} masks of {size}²", classes, script.memory([extra]), "–", f"≤ {MASK_BAR}")
    rows.append({"masks": MASKS, "size": size, "classes": classes, "extra_mb": extra})
    sides, count = ((64, 64), 5) if options.quick else (PROPOSED, PROPOSALS)
    extra = measuring.in_new_process(memory_of_proposals, count, sides, classes, options.threads)
    script.row(f"{count} proposals of {sides[0]} x {sides[1]}", classes, script.memory([extra]), "–", "")
    rows.append({"proposals": count, "size": sides, "classes": classes, "extra_mb": extra})
    script.write(options, "megabytes over the weights", rows)


def memory_of_masks(size: int, classes: int, threads: int) -> float | None:
    torch.set_num_threads(threads)
    label_regions(32, 5)  # compiles
    return measuring.extra_memory(lambda: label_regions(size, classes))


def memory_of_proposals(count: int, size: tuple[int, int], classes: int, threads: int) -> float | None:
    torch.set_num_threads(threads)
    label_proposals(5, (64, 64), 5)  # compiles
    return measuring.extra_memory(lambda: label_proposals(count, size, classes))


def label_proposals(count: int, size: tuple[int, int], classes: int) -> None:
    """ZSSeg's assembly: soft masks on a grid of stride 4 that is padded to multiples of 32, scores of both branches."""
    random = torch.Generator().manual_seed(0)
    covers = (-(-size[0] // 32) * 32, -(-size[1] // 32) * 32)
    coarse = 5 * torch.randn(1, count, 10, 10, generator=random)
    masks = F.interpolate(coarse, (covers[0] // 4, covers[1] // 4), mode="bicubic")
    scores = torch.randn(1, count, classes, generator=random).softmax(dim=2)
    decode(MaskScores(masks, scores, covers=covers), size)


def label_regions(size: int, classes: int) -> None:
    """A region for every pixel, from soft masks on a grid of 28 x 28, and its scores at the same size."""
    random = torch.Generator().manual_seed(0)
    soft = torch.randn(1, MASKS, 28, 28, generator=random)
    regions = F.interpolate(soft, (size, size), mode="bilinear").argmax(dim=1)
    masks = torch.zeros(1, MASKS, size, size).scatter_(1, regions[:, None], 1.0)
    scores = torch.randn(1, MASKS, classes, generator=random).softmax(dim=2)
    decode(MaskScores(masks, scores, weights="linear"), (size, size))


if __name__ == "__main__":
    main()
