"""Everything around the encoder beside the encoder, and the dense forward beside the tower's own.

    python benchmarks/around.py     512², 171 classes, random ViT-B/16 weights (under a minute)

Around: decoding a JPEG, resizing, comparing with the words, decoder, writing a PNG; bar: 15 % of its time.
Random features are the worst case for the decoder, since hardly a class can be left out. Dense forward: MaskCLIP's
`embed_image`, projection included, beside transformers' forward of the same tower to its last hidden state, which is
what everybody pays; bar: 1.05 times its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import script
import torch

from lexiseg.evaluation.setup import Model
from lexiseg.inference import devices
from lexiseg.layers import pixels
from lexiseg.speed import bench, measuring, stand_in
from lexiseg.speed.measuring import Summary

AROUND, DENSE = 0.15, 1.05  # the bars


def main(arguments: Sequence[str] | None = None) -> None:
    parser = script.parser(__doc__)
    parser.add_argument("--size", type=int, default=512, help="pixels of a side")
    parser.add_argument("--classes", type=int, default=171)
    parser.add_argument("--repeats", type=int, default=9)
    options = script.parse(parser, arguments)
    model = Model("maskclip/vit-b16")
    if options.quick:
        model, options.size, options.classes, options.repeats = Model("maskclip/tiny"), 64, 5, 2
    (found,) = bench.bench(
        model, size=options.size, classes=[options.classes], repeats=options.repeats, peers=False, memory=False,
        network=True,
    )  # fmt: skip
    script.header(*bench.STAGES, "around the encoder", "bar")
    times = (script.time(found.stages[name]) for name in bench.STAGES)
    script.row(*times, f"{found.around:.1%}", f"≤ {AROUND:.0%}")
    print()
    rows = [{"what": "stages", **found.to_json()}]
    script.header("precision", "dense forward", "tower's own forward", "ratio", "bar")
    for dtype in dict.fromkeys((torch.float32, devices.dtype("auto", torch.device("cpu")))):
        ways = forwards(model, options.size, dtype, options.repeats)
        share = ways["dense"]["median"] / ways["plain"]["median"]
        script.row(devices.name(dtype), *map(script.time, ways.values()), f"{share:.3f}", f"≤ {DENSE}")
        rows.append({"what": "forward", "dtype": devices.name(dtype), "ms": ways, "ratio": share})
    script.write(options, "around the encoder, and the dense forward beside the plain one", rows)


def forwards(model: Model, size: int, dtype: torch.dtype, repeats: int) -> dict[str, Summary]:
    segmenter: Any = stand_in.load(model).segmenter
    segmenter.eval().to(dtype)
    images = torch.from_numpy(bench.photograph(size)).permute(2, 0, 1)[None]
    normalised = pixels.normalise(images, segmenter.config.statistics, dtype)
    tower = segmenter.clip.vision.model
    with torch.inference_mode():
        ways = {
            "dense": lambda: segmenter.embed_image(images),
            "plain": lambda: tower(normalised, interpolate_pos_encoding=True).last_hidden_state,
        }
        return measuring.race(ways, repeats=repeats)


if __name__ == "__main__":
    main()
