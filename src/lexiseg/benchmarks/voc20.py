"""Scores 20 objects of Pascal VOC 2012 without a background.

The split has 1,449 photographs.

The background and the void borders are not scored, so a model never has to say "none of them". MaskCLIP and ZSSeg
(maskclip.md §2.9) report this set.
"""

from lexiseg.benchmarks._benchmark import Benchmark
from lexiseg.data.labelled import official

BENCHMARK = Benchmark(
    name="voc20",
    about="Pascal VOC 2012, 20 objects, background not scored",
    release=official.VOC,
    classes="voc",
    wording="voc",
    train="trainaug",
)
