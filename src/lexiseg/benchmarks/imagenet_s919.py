"""Scores 919 classes of ImageNet-S, on 12,419 photographs.

The release's own evaluation scores "other" (id 0) as a class; S-Seg speaks of 919 classes, so here it is not scored,
unless other="background" makes it the background.
"""

from lexiseg.benchmarks._benchmark import Benchmark
from lexiseg.data.labelled import official

BENCHMARK = Benchmark(
    name="imagenet_s919",
    about="ImageNet-S, 919 classes",
    release=official.IMAGENET_S919,
    classes="imagenet_s919",
    wording="first",
    options={"other": {"ignore": {}, "background": {"background": True}}},
)
