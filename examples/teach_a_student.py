"""Trains a small fast network for your own words: a model that knows words labels your photographs for it.

    python examples/teach_a_student.py photos/ "cat, grass, sky" runs/mine

The same from the command line: lexiseg train maskclip_plus --set words="cat, grass, sky" --data photos/ --out runs/mine
"""

from __future__ import annotations

import sys

import lexiseg
from lexiseg.recipes.maskclip_plus import RECIPE
from lexiseg.training.recipe import change


def main(photographs: str, words: str, out: str, steps: str = "2000") -> None:
    recipe = change(RECIPE, {"words": words, "data.places": [photographs], "steps": steps})
    run = lexiseg.train(recipe, out, resume=True)  # go on where a stopped run left off
    print(f"trained {run.step} steps; lexiseg.load({str(run.model)!r}) loads the network")


if __name__ == "__main__":
    main(*sys.argv[1:])
