"""Scores COCO-Stuff zero-shot: 156 seen and 15 unseen classes.

Of the unseen classes 7 are things and 8 are stuff (maskclip_plus.md §3.3).
"""

from lexiseg.benchmarks._benchmark import Benchmark
from lexiseg.data.labelled import official

BENCHMARK = Benchmark(
    name="coco_stuff_156_15",
    about="COCO-Stuff, 156 seen and 15 unseen classes",
    release=official.COCO_STUFF,
    classes="coco_stuff171",
    wording="coco",
    unseen=(
        "cow",
        "giraffe",
        "suitcase",
        "frisbee",
        "skateboard",
        "carrot",
        "scissors",
        "cardboard",
        "clouds",
        "grass",
        "playingfield",
        "river",
        "road",
        "tree",
        "wall-concrete",
    ),
)
