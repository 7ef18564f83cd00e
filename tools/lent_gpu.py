"""Goes on with the embedded CLIP on a machine that is lent for some minutes: restores, trains, keeps, measures.

    python tools/lent_gpu.py --data DATA --out OUT --minutes 8 --set batch_size=256 --set data.workers.number=14
    python tools/lent_gpu.py --data DATA --out OUT --minutes 8 --start model.safetensors --stage 2

DATA holds photos-train and masks-train, to learn from, and photos-val, to be measured with; their shards, of 24 MB at
most, may have been carried there one by one. OUT receives three files, all that must be carried away:

    model.safetensors   the weights in halves (14 MB), with which --start goes on on the next machine
    card.md, card.json  what tools/model_card.py --quick says of them: held-out photographs and tiny-imagenet

--stage counts MINI's, from 1. Moments of the optimiser are not kept: each machine warms up anew. Everything else of
the run lies in --work, and is lost with the machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import model_card

from lexiseg import files, settings
from lexiseg.encoders.clip import EMBEDDED, Clip
from lexiseg.encoders.weights import find
from lexiseg.errors import SettingError
from lexiseg.recipes.mini_clip_vit import MINI
from lexiseg.training import checkpoint, recipe
from lexiseg.training.building import build
from lexiseg.training.recipe import Recipe
from lexiseg.training.train import train

WEIGHTS = "model.safetensors"
MEASURED = ("held-out", "photographs")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    start = unpack(options.start, options.work / "start")
    stage = replace(MINI[options.stage - 1], weights=str(start))
    stage = recipe.change(stage, {"data.root": str(options.data), **settings.parse(options.set)})
    model = train_for(60 * options.minutes, stage, options.work / "run")
    shutil.copytree(start, options.work / "model", dirs_exist_ok=True)  # the words' files, which are not trained
    Clip.load(str(model)).half().save(options.work / "model")
    files.write_bytes(options.out / WEIGHTS, (options.work / "model" / WEIGHTS).read_bytes())
    card = options.work / "card"
    where = ["--data", str(options.data), "--out", str(card), "--weights", str(options.work / "model")]
    model_card.main([*where, "--quick", "--parts", *MEASURED])
    for name in ("card.md", "card.json"):
        files.write_bytes(options.out / name, (card / name).read_bytes())


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="a folder for what is carried away")
    parser.add_argument("--work", type=Path, default=Path("runs/lent-gpu"), help="a folder for everything else")
    parser.add_argument("--start", type=Path, help=f"the {WEIGHTS} to go on from; none: the embedded model's")
    parser.add_argument("--stage", type=int, default=1, choices=range(1, len(MINI) + 1))
    parser.add_argument("--minutes", type=float, required=True, help="of training; the rest takes one more")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="changes to the stage")
    return parser.parse_args(arguments)


def unpack(weights: Path | None, folder: Path) -> Path:
    """The embedded model's folder, or a copy of it with other weights."""
    embedded = find(EMBEDDED)
    if weights is None:
        return embedded
    if not weights.is_file():
        raise SettingError(f"--start {weights} is no file; give the {WEIGHTS} that the machine before gave")
    shutil.copytree(embedded, folder, dirs_exist_ok=True)
    shutil.copyfile(weights, folder / WEIGHTS)
    return folder


def train_for(seconds: float, stage: Recipe, out: Path) -> Path:
    """Trains until the steps or the seconds are over; the folder of the model as it is then."""
    stop = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
    stop.daemon = True
    stop.start()
    try:
        run = train(stage, out, resume=True, tensorboard=False)
    finally:
        stop.cancel()
    if run.model is not None:
        return run.model
    saved = checkpoint.newest(out / "checkpoints")
    assert saved is not None, "train saves when it is stopped"
    built = build(stage)
    built.objective.load_state_dict({**saved.tensors["weights"], **saved.tensors.get("average", {})}, strict=False)
    built.save(out / "stopped")
    return out / "stopped"


if __name__ == "__main__":
    main()
