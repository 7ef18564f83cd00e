"""Scores 80 objects of COCO without a background.

Stuff and unlabelled pixels are not scored.
"""

from lexiseg.benchmarks._benchmark import Benchmark
from lexiseg.data.labelled import official

BENCHMARK = Benchmark(
    name="coco80",
    about="COCO, 80 objects, background not scored",
    release=official.COCO,
    classes="coco80",
    wording="coco",
)
