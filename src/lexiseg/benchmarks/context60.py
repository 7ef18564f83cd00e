"""Scores 59 classes of Pascal Context and a background.

The other 400 classes together are the background (simseg.md §6.3, §6.4).
"""

from lexiseg.benchmarks._benchmark import Benchmark
from lexiseg.data.labelled import official

BENCHMARK = Benchmark(
    name="context60",
    about="Pascal Context, 59 classes and background",
    release=official.CONTEXT,
    classes="context",
    wording="groupvit",
    background=True,
)
