"""Scores 847 classes of the full ADE20K, on 2,000 photographs.

MaskFormer chose the classes.

Label maps are scored at their own size. MaskFormer's converted copy, and the papers that use it, shrinks photographs
and label maps to a short side of at most 512 pixels.
"""

from lexiseg.benchmarks._benchmark import Benchmark
from lexiseg.data.labelled import official

BENCHMARK = Benchmark(
    name="ade847",
    about="ADE20K full release, 847 classes",
    release=official.ADE847,
    classes="ade847",
    wording="first",
)
