"""Pascal Context with a background: 59 classes, and the other 400 together (simseg.md §6.3, §6.4)."""

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
