"""Scores 59 classes of Pascal Context without a background.

They are the most frequent classes.

Pixels of the other 400 classes are not scored. The .mat files have 5,105 validation images; trainval_merged.json, and
what is converted from it, has 5,104 (maskclip.md §2.10).
"""

from lexiseg.benchmarks._benchmark import Benchmark
from lexiseg.data.labelled import official

BENCHMARK = Benchmark(
    name="context59",
    about="Pascal Context, 59 classes, background not scored",
    release=official.CONTEXT,
    classes="context",
    wording="mmseg",
)
