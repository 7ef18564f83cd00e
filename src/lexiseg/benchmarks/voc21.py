"""Scores 20 objects of Pascal VOC 2012 and a background.

The split has 1,449 photographs; everything else is the background.

Background is a scored class; void borders are not scored. GroupViT, SegCLIP, SimSeg and S-Seg report this set, in
GroupViT's wording (simseg.md §6.2, §6.3).
"""

from lexiseg.benchmarks._benchmark import Benchmark
from lexiseg.data.labelled import official

BENCHMARK = Benchmark(
    name="voc21",
    about="Pascal VOC 2012, 20 objects and background",
    release=official.VOC,
    classes="voc",
    wording="groupvit",
    background=True,
    train="trainaug",
)
