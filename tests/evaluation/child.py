"""An evaluation in a process of its own, to be killed or to be one of several; prints how many images were counted."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from evaluation.pictures import know_colours
from lexiseg.evaluation.counting import Counting, Keep
from lexiseg.evaluation.evaluate import measure
from lexiseg.evaluation.group import group
from lexiseg.evaluation.setup import Model, Setup
from lexiseg.evaluation.subject import prepare


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--own-words", action="store_true")
    parser.add_argument("--boundary", action="store_true")
    options = parser.parse_args()
    know_colours()
    with group(int(os.environ.get("WORLD_SIZE", "1"))):
        model = Model("colours/plain", device="cpu", dtype="fp32", changes={"delay": options.delay})
        subject = prepare(Setup(model, "folder", options.data))
        counting = Counting(batch_size=options.batch_size, own_words=options.own_words, boundary=options.boundary)
        result = measure(subject, counting, keep=Keep(options.out, save_every=0))
        sys.stdout.write(str(result.profile.images))


if __name__ == "__main__":
    main()
