"""The main job beside what one would write with transformers alone: time per image and memory, for many classes.

    python benchmarks/segment.py            the whole table, to benchmarks/results/segment.json (about 15 minutes)
    python benchmarks/segment.py --quick    a tiny tower and few classes: does the script run?

Both get the same uint8 image in memory and the same unit text vectors, and both give a label map on the CPU. The peer
runs CLIP's whole image tower in fp32, interpolates the logits to full size and takes the argmax; ours is
`Predictor.segment`: dtype "auto", posteriors included. Random weights of ViT-B/16's shape: nothing is downloaded, and
labels mean nothing. A second peer is the first in the precision that "auto" chose.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import psutil
import torch
import torch.nn.functional as F
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_shape import TINY_VIT, ClipShape
from lexiseg.inference import devices
from lexiseg.inference.predictor import Predictor
from lexiseg.methods.maskclip import Config, MaskClip
from lexiseg.segmenter import CLIP_MEAN, CLIP_STD, Inference, TextClassifier
from lexiseg.vocabulary import Vocabulary

# ViT-B/16's image tower; the text tower is not run, so it is small
VIT_B16 = ClipShape(512, 224, 768, 12, 16, 64, 1, context=32, vocabulary=4093)
WAYS = ("lexiseg", "peer fp32", "peer half")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[1, 21, 171, 847])
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024], help="pixels of a side")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=measuring.RESULTS / "segment.json")
    parser.add_argument("--quick", action="store_true", help="tiny tower, two small cases, nothing written")
    options = parser.parse_args()
    shape = VIT_B16
    if options.quick:
        shape, options.classes, options.sizes, options.repeats = TINY_VIT, [1, 21], [64], 2
    torch.set_num_threads(options.threads)
    rows = []
    for size in options.sizes:
        for classes in options.classes:
            row = {"size": size, "classes": classes, **measure(shape, size, classes, options.repeats, options.threads)}
            rows.append(row)
            print(line(row), flush=True)
            if not options.quick:  # after each case: the last ones take minutes
                measuring.write(options.out, "seconds per image and memory of the main job", rows)
    if not options.quick:
        print(f"written to {options.out}")


def measure(shape: ClipShape, size: int, classes: int, repeats: int, threads: int) -> dict[str, Any]:
    ways = {name: job for name in WAYS if fits(name, size, classes) for job in [build(name, shape, size, classes)]}
    load = measuring.foreign_load()
    with torch.inference_mode():
        times = measuring.race(ways, repeats=repeats)
    memory = {name: in_new_process(name, shape, size, classes, threads) for name in ways}
    return {
        "foreign_load_cores": load,
        "ms": times,
        "extra_mb": memory,
        "faster_than": {name: times[name]["median"] / times["lexiseg"]["median"] for name in ways if name != "lexiseg"},
    }


def build(way: str, shape: ClipShape, size: int, classes: int) -> Callable[[], Any]:
    """A way to do the job, ready to be called."""
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    words = Vocabulary([f"word {place}" for place in range(classes)])
    generator = torch.Generator().manual_seed(0)
    text = F.normalize(torch.randn(classes, shape.embed_dim, generator=generator), dim=1)
    if way == "lexiseg":
        predictor = Predictor(RandomWords(shape, text), inference(shape), name="random")
        return lambda: predictor.segment(image, words)
    return Peer(shape, text, torch.float32 if way == "peer fp32" else devices.dtype("auto", torch.device("cpu")), image)


def inference(shape: ClipShape) -> Inference:
    return Inference(multiple=shape.patch or 1, templates="single")


class RandomWords(MaskClip):
    """MaskCLIP of random weights whose words are given vectors."""

    def __init__(self, shape: ClipShape, text: torch.Tensor) -> None:
        super().__init__(Clip.random(shape), Config(logit_scale=100.0))
        self.text = text

    def embed_text(self, vocabulary: Vocabulary, templates: Any) -> TextClassifier:
        return TextClassifier.of(vocabulary, self.text, 100.0)


class Peer:
    """What one would write: CLIP's image tower, every patch compared with the words, upsampled, argmax."""

    def __init__(self, shape: ClipShape, text: torch.Tensor, dtype: torch.dtype, image: Any) -> None:
        config = CLIPVisionConfig.from_dict({**shape.config()["vision_config"], "projection_dim": shape.embed_dim})
        self.model = CLIPVisionModelWithProjection(config).eval().to(dtype)
        self.patch, self.text, self.dtype, self.image = shape.patch, text.to(dtype), dtype, image
        self.mean, self.std = (torch.tensor(values).view(1, 3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))

    @torch.inference_mode()
    def __call__(self) -> Any:
        pixels = torch.from_numpy(self.image).permute(2, 0, 1)[None].float() / 255
        pixels = ((pixels - self.mean) / self.std).to(self.dtype)
        height, width = pixels.shape[-2:]
        tower = self.model.vision_model
        tokens = tower(pixels, interpolate_pos_encoding=True).last_hidden_state[:, 1:]
        features = F.normalize(self.model.visual_projection(tower.post_layernorm(tokens)), dim=-1)
        logits = 100 * features @ self.text.T  # [1, L, C]
        logits = logits.mT.reshape(1, -1, height // self.patch, width // self.patch)
        logits = F.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)
        return logits.argmax(dim=1)[0].numpy()


def fits(way: str, size: int, classes: int) -> bool:
    """Whether the peer's logits at full size, and as much again, fit into memory."""
    return way == "lexiseg" or 2 * 4 * classes * size * size < psutil.virtual_memory().available


def in_new_process(*case: Any) -> float:
    """MB over what the loaded model takes, which only a process that has done nothing else can tell."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return round(pool.apply(_extra_memory, case), 1)


def _extra_memory(way: str, shape: ClipShape, size: int, classes: int, threads: int) -> float:
    torch.set_num_threads(threads)
    job = build(way, shape, size, classes)
    build(way, TINY_VIT, 64, classes)()  # compiles and allocates what is no cost of an image
    return measuring.extra_memory(job)


def line(row: dict[str, Any]) -> str:
    def cells() -> Iterator[str]:
        yield f"{row['size']:5d} px {row['classes']:4d} classes"
        for way, time in row["ms"].items():
            yield f"{way} {time['median']:8.1f} ms ({time['min']:.1f}-{time['p90']:.1f}) {row['extra_mb'][way]:7.1f} MB"
        yield "  ".join(f"{ratio:.1f}x {way}" for way, ratio in row["faster_than"].items())

    return "   ".join(cells())


if __name__ == "__main__":
    main()
