"""The text side: 847 classes in 80 sentences each through ViT-B/16's text tower, then found again on disk.

    python benchmarks/text.py                 everything (minutes: 67,760 sentences)
    python benchmarks/text.py --words 100     a part, whose time for 847 is not a measurement

Cold: nothing is known; tokenised, embedded in the precision that "auto" chooses, averaged, written; bar: five minutes
on two cores. Warm: the same words with the tower newly loaded, found by the hash of its weights; bar: 50 ms, the start
of the lookup included. Again: new words of known ones, as a page asks for them, in a process that has the hash.
"Naive" is what transformers does with a list of sentences: fp32, every sentence padded to 77 tokens; only some of
them are run, and its row says how many.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import script
import torch

from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_shape import TINY_VIT, ClipShape
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import TextCache
from lexiseg.encoders.tokenizer import pad
from lexiseg.inference import devices
from lexiseg.speed import bench, measuring

# ViT-B/16's text tower; the image tower is not run, so it is small
VIT_B16 = ClipShape(512, 224, 64, 1, 16, 512, 12)
COLD, WARM = 300.0, 0.05  # seconds: the bars
NAIVE_BATCH = 80  # sentences: one word's


def main(arguments: Sequence[str] | None = None) -> None:
    parser = script.parser(__doc__)
    parser.add_argument("--words", type=int, default=847)
    parser.add_argument("--prompts", default="imagenet80")
    parser.add_argument("--dtype", default="auto")
    options = script.parse(parser, arguments)
    shape = VIT_B16
    if options.quick:
        shape, options.words, options.prompts = TINY_VIT, 5, "vild14"
    words, prompts = bench.words(options.words).queries, Prompts.open(options.prompts)
    dtype = devices.dtype(options.dtype, torch.device("cpu"))
    found = measure(shape, words, prompts, dtype)
    found["naive"] = naive(shape, words, prompts)
    count = len(words) * len(prompts.sentences)
    script.header(
        "words × sentences", "precision", "cold, s", "sentences/s", "warm, ms", "again, ms", "naive sentences/s"
    )
    script.row(
        f"{len(words)} × {len(prompts.sentences)}", devices.name(dtype), f"{found['cold']:.1f}",
        f"{count / found['cold']:.0f}",
        f"{1e3 * found['warm']:.1f}", f"{1e3 * found['again']:.1f}",
        f"{found['naive']:.1f} (of {NAIVE_BATCH} sentences)",
    )  # fmt: skip
    print(f"\nbars: cold {COLD:.0f} s for 847 × 80 on two cores, warm {1e3 * WARM:.0f} ms")
    facts = {"words": len(words), "templates": len(prompts.sentences), "dtype": devices.name(dtype)}
    script.write(options, "seconds of embedding words, cold and warm", [{**facts, **found}])


def measure(shape: ClipShape, words: Sequence[str], prompts: Prompts, dtype: torch.dtype) -> dict[str, Any]:
    """Seconds of each kind."""
    with tempfile.TemporaryDirectory() as folder:
        cache = TextCache(Path(folder))
        first, second = (Clip.random(shape).to(dtype) for _ in range(2))
        first.embed_words(words[:1], prompts)  # touches the weights
        start = measuring.clock()
        cold = first.embed_words(words, prompts, cache=cache)
        times = {"cold": measuring.clock() - start}
        for name in ("warm", "again"):  # the second tower is as one that has just been loaded
            start = measuring.clock()
            found = second.embed_words(words, prompts, cache=cache)
            times[name] = measuring.clock() - start
            assert torch.equal(found, cold), "the cache gives other vectors"
    return times


@torch.inference_mode()
def naive(shape: ClipShape, words: Sequence[str], prompts: Prompts) -> float:
    """Sentences a second of one batch, in fp32 and padded to the whole context."""
    clip = Clip.random(shape)
    texts = [sentence for word in words for sentence in prompts(word)][:NAIVE_BATCH]
    rows = pad(clip.tokenizer(texts))
    ids = torch.nn.functional.pad(rows, (0, shape.context - rows.shape[1]))
    times = measuring.race({"naive": lambda: clip.text_model(input_ids=ids).last_hidden_state}, repeats=1)
    return 1e3 * len(texts) / times["naive"]["median"]


if __name__ == "__main__":
    main()
