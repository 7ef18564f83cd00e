"""Scores Pascal Context zero-shot: 49 seen classes, background, 10 unseen classes.

The background counts as seen (maskclip_plus.md §3.3).
"""

from lexiseg.benchmarks._benchmark import Benchmark
from lexiseg.data.labelled import official

BENCHMARK = Benchmark(
    name="context_50_10",
    about="Pascal Context, 50 seen classes (one the background) and 10 unseen",
    release=official.CONTEXT,
    classes="context",
    wording="mmseg",
    background=True,
    unseen=(
        "cow",
        "motorbike",
        "sofa",
        "cat",
        "boat",
        "fence",
        "bird",
        "tvmonitor",
        "keyboard",
        "aeroplane",
    ),
)
