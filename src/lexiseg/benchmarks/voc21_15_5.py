"""Scores Pascal VOC 2012 zero-shot, with a background that is seen.

The split of classes is that of `voc_15_5` (maskclip_plus.md §3.3).
"""

from lexiseg.benchmarks._benchmark import Benchmark
from lexiseg.data.labelled import official

BENCHMARK = Benchmark(
    name="voc21_15_5",
    about="Pascal VOC 2012, 15 seen and 5 unseen objects, background a seen class",
    release=official.VOC,
    classes="voc",
    wording="voc",
    background=True,
    unseen=("pottedplant", "sheep", "sofa", "train", "tvmonitor"),
    train="trainaug",
)
