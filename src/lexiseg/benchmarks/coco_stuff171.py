"""Scores 80 things and 91 stuff classes of COCO-Stuff.

The split has 5,000 photographs; unlabelled pixels are not scored.
"""

from lexiseg.benchmarks._benchmark import Benchmark
from lexiseg.data.labelled import official

BENCHMARK = Benchmark(
    name="coco_stuff171",
    about="COCO-Stuff, 171 classes",
    release=official.COCO_STUFF,
    classes="coco_stuff171",
    wording="coco",
)
