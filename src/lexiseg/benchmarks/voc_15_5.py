"""Scores Pascal VOC 2012 zero-shot: 15 seen and 5 unseen objects.

The background is not scored (maskclip_plus.md §3.3).

All 20 classes compete at every pixel (generalised zero-shot).
"""

from lexiseg.benchmarks._benchmark import Benchmark
from lexiseg.data.labelled import official

BENCHMARK = Benchmark(
    name="voc_15_5",
    about="Pascal VOC 2012, 15 seen and 5 unseen objects",
    release=official.VOC,
    classes="voc",
    wording="voc",
    unseen=("pottedplant", "sheep", "sofa", "train", "tvmonitor"),
    train="trainaug",
)
