"""Scores photographs and label maps of your own.

They are in a folder or in tar shards; `lexiseg.data.labelled.folder` has the form.

The classes that occur in the label maps are asked for and scored; classes="all" takes the whole class list. To tell
which occur, each label map is read once when the benchmark is opened.
"""

from lexiseg.benchmarks._benchmark import Benchmark
from lexiseg.data.labelled.folder import FOLDER

BENCHMARK = Benchmark(
    name="folder",
    about="your own images/, masks/ and classes.json",
    release=FOLDER,
    classes=None,
    wording="synonyms",
    background_words="auto",
    occurring=True,
    test="all",
    train="all",
    options={"classes": {"occurring": {}, "all": {"occurring": False}}},
)
