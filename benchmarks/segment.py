"""The main job beside what one would write with transformers alone: time per image and memory, for many classes.

    python benchmarks/segment.py            512² and 1024², 1 to 847 classes (about 15 minutes)
    python benchmarks/segment.py --quick    a tiny tower and few classes: does the script run?

Both get the same uint8 photograph in memory and the same unit text vectors, and both give a label map on the CPU. The
peer runs CLIP's whole image tower in fp32, interpolates the logits to full size and takes the argmax; ours is
`Predictor.segment`: dtype "auto", posteriors included. Random weights of ViT-B/16's shape: nothing is downloaded, and
labels mean nothing. A second peer is the first in the precision that "auto" chose, or bf16. `lexiseg bench` measures
the same of any model.
"""

from __future__ import annotations

from collections.abc import Sequence

import script

from lexiseg.evaluation.setup import Model
from lexiseg.speed import bench


def main(arguments: Sequence[str] | None = None) -> None:
    parser = script.parser(__doc__)
    parser.add_argument("--classes", type=int, nargs="+", default=[1, 21, 171, 847])
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024], help="pixels of a side")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="measure time alone")
    options = script.parse(parser, arguments)
    model = Model("maskclip/vit-b16")
    if options.quick:
        model, options.classes, options.sizes, options.repeats = Model("maskclip/tiny"), [1, 21], [64], 2
        options.memory = False
    rows = []
    script.header("image", "classes", *bench.WAYS, "× fp32", "× half", "memory", "around the encoder", "foreign")
    for size in options.sizes:
        for row in bench.bench(
            model, size=size, classes=options.classes, repeats=options.repeats, network=True, memory=options.memory
        ):
            own, *peers = (row.ms.get(way) for way in bench.WAYS)
            assert own is not None
            script.row(
                f"{size}²", row.classes, script.time(own), *map(script.time, peers),
                *(script.ratio(peer, own) for peer in peers),
                script.memory(row.extra_mb.get(way) for way in bench.WAYS), f"{row.around:.0%}", row.foreign_load_cores,
            )  # fmt: skip
            rows.append(row.to_json())
            script.write(options, "milliseconds per image and memory of the main job", rows)


if __name__ == "__main__":
    main()
