"""Scores 19 classes of Cityscapes, on 500 photographs of streets.

The classes are those of the official evaluation; the label maps are the labelIds files.
"""

from lexiseg.benchmarks._benchmark import Benchmark
from lexiseg.data.labelled import official

BENCHMARK = Benchmark(
    name="cityscapes19",
    about="Cityscapes, 19 classes",
    release=official.CITYSCAPES,
    classes="cityscapes19",
    wording="cityscapes",
)
