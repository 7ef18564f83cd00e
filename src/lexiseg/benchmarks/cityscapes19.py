"""Cityscapes: the 19 classes of the official evaluation, 500 photographs of streets, read from labelIds."""

from lexiseg.benchmarks._benchmark import Benchmark
from lexiseg.data.labelled import official

BENCHMARK = Benchmark(
    name="cityscapes19",
    about="Cityscapes, 19 classes",
    release=official.CITYSCAPES,
    classes="cityscapes19",
    wording="cityscapes",
)
