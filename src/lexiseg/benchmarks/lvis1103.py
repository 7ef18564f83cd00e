"""Scores 1,103 classes of LVIS v1, drawn as label maps.

Instances of one class are merged, smaller ones over larger ones.

S-Seg scores 1,103 classes and does not say which. Here they are those that occur in the split; classes="all" takes the
1,203 of the release. A photograph is labelled with some of the classes only, so a pixel without an instance is not
scored, unless unlabelled="background" makes it so.
"""

from lexiseg.benchmarks._benchmark import Benchmark
from lexiseg.data.labelled import official

BENCHMARK = Benchmark(
    name="lvis1103",
    about="LVIS v1 instances as a label map, the classes that occur",
    release=official.LVIS,
    classes=None,
    wording="first",
    occurring=True,
    options={
        "classes": {"occurring": {}, "all": {"occurring": False}},
        "unlabelled": {"ignore": {}, "background": {"background": True}},
    },
)
