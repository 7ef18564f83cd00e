"""Scores 150 classes of ADE20K's scene parsing challenge, on 2,000 photographs.

Id 0, everything else, is not scored.
"""

from lexiseg.benchmarks._benchmark import Benchmark
from lexiseg.data.labelled import official

BENCHMARK = Benchmark(
    name="ade150",
    about="ADE20K, 150 classes",
    release=official.ADE150,
    classes="ade150",
    wording="mmseg",
)
