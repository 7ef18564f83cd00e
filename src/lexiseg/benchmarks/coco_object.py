"""Scores 80 objects of COCO and a background, on 5,000 photographs.

This is COCO-Object; everything that is not one of the objects is the background.

The conversion that GroupViT released, and everyone uses, takes stuff and also unlabelled pixels as background, so that
no pixel goes unscored (simseg.md §6.4). conversion="strict" leaves unlabelled pixels out. The panoptic release, where
the pixel maps are not there, draws a few objects differently.
"""

from lexiseg.benchmarks._benchmark import Benchmark
from lexiseg.data.labelled import official

BENCHMARK = Benchmark(
    name="coco_object",
    about="COCO, 80 objects and background",
    release=official.COCO,
    classes="coco80",
    wording="coco",
    background=True,
    void_is_background=True,
    options={"conversion": {"released": {}, "strict": {"void_is_background": False}}},
)
