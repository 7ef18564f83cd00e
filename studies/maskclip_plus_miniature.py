"""MaskCLIP's and MaskCLIP+'s claims in miniature: Table 1a and Table 3 of the paper, on photographs of MSRC v2.

    python studies/maskclip_plus_miniature.py --data DATA --out runs/maskclip-plus-miniature --steps 2000

    table 1   CLIP's own dense output < MaskCLIP < with prompt denoising, key smoothing, both < MaskCLIP+, which saw no
              label; and the same student with all labels. Two more rows: the authors' kind of annotation-free, which
              reads from the truth where nobody knows, and a student that also sees COCO's photographs
    table 2   zero-shot: 18 classes are labelled and 4 are not (every fifth by name). The adapted network, which ignores
              their pixels, then guided by MaskCLIP, then labelling them itself after a share of the steps

Table 1 is about all classes, table 2 about unseen and seen ones, all competing everywhere. A cell is the mean over
seeds ± their standard deviation, and the 95 % interval of a bootstrap over photographs. `--part held_out` (default)
measures on photographs to develop with, `--part val` on those that results are reported of.

A run that is finished is not done again, and one that was interrupted goes on, so the same command may be repeated.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lexiseg import catalog, files
from lexiseg.data.mini.masked import MaskedPhotograph, read_masked
from lexiseg.inference.predictor import Predictor
from lexiseg.methods.student import Training
from lexiseg.metrics import bootstrap, scores
from lexiseg.metrics.confusion import Confusion
from lexiseg.networks.student_network import StudentShape
from lexiseg.recipes.maskclip_plus import MINI, MSRC
from lexiseg.training.recipe import Recipe
from lexiseg.training.train import train
from lexiseg.vocabulary import Vocabulary

WORDS = Vocabulary(MSRC, shared_words=True)
UNSEEN = tuple(sorted(WORDS.names)[4::5])  # every fifth by name
SUBSETS = {
    "unseen": np.array([name in UNSEEN for name in WORDS.names]),
    "seen": np.array([name not in UNSEEN for name in WORDS.names]),
}
STUDENTS: Mapping[str, Mapping[str, Any]] = {
    "mini": {},
    # the teacher's own tower, which starts where the teacher stands; it costs more than twice as much
    "clip": {"student": StudentShape("clip", "asset:mini-clip"), "start_from": "usual"},
}

# changes of the teacher's settings
TEACHER: Mapping[str, Mapping[str, Any]] = {
    "CLIP's dense output": {"last_block": "attention"},
    "MaskCLIP": {},
    "+ PD": {"prompt_denoising": True},
    "+ KS": {"key_smoothing": True},
    "+ KS + PD": {"key_smoothing": True, "prompt_denoising": True},
}
# changes of the data, and of the objective
TRAINED: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "MaskCLIP+": ({}, {}),
    "MaskCLIP+, released masks": ({"label_free": False, "suppressed": ("*",)}, {}),
    "MaskCLIP+, more photographs": ({"shards": ()}, {}),
    "labels=all": ({"label_free": False}, {"guided": False}),
}
ZERO_SHOT: Mapping[str, Mapping[str, Any]] = {
    "adapted": {"guided": False},
    "guided": {},
    "guided, itself from 10 %": {"self_training": 0.1},
    "guided, itself from 50 %": {"self_training": 0.5},
}
ROWS = (*TEACHER, *TRAINED, *ZERO_SHOT)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    photographs = read_photographs(options)
    chosen = [row for row in ROWS if row in (options.only or ROWS)]
    for row in chosen:
        if row in TEACHER:
            keep(options.out / slug(row), {"row": row}, (options.teacher, TEACHER[row]), photographs, options)
    for seed, row in itertools.product(range(options.seeds), chosen):
        out = options.out / f"{slug(row)}-seed-{seed}"
        if row in TEACHER or (out / "result.json").is_file():
            continue
        run = train(recipe_of(row, options, seed=seed), out, resume=True, tensorboard=False)
        if not run.finished:
            raise SystemExit("stopped; the same command goes on")
        facts = {"row": row, "seed": seed, "steps": options.steps, "student": options.student, "losses": run.losses}
        keep(out, facts, (str(out / "model"), {}), photographs, options)
    report(options.out)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with masks-train and masks-val")
    parser.add_argument("--out", type=Path, required=True, help="where runs and results go")
    parser.add_argument("--steps", type=int, default=MINI.steps, help="of each run")
    parser.add_argument("--batch-size", type=int, default=MINI.batch_size)
    parser.add_argument("--rate", type=float, default=MINI.optimiser.rate, help="learning rate")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--student", choices=list(STUDENTS), default="mini")
    parser.add_argument("--teacher", default=MINI.teacher, help="a model or folder of maskclip")
    parser.add_argument("--only", nargs="*", choices=ROWS, help="rows; all where left out")
    parser.add_argument("--part", choices=("held_out", "val"), default="held_out", help="photographs to measure on")
    parser.add_argument("--limit", type=int, help="photographs to measure on")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(arguments)


def read_photographs(options: argparse.Namespace) -> tuple[MaskedPhotograph, ...]:
    """Of MSRC, whose classes are the same in both folders."""
    places: dict[str, Any] = {"folder": options.data / "masks-val", "part": "all"}
    if options.part == "held_out":
        places = {"folder": options.data / "masks-train", "part": "held_out", "shards": ("msrc",)}
    found = read_masked(**places, occurring=True)
    assert tuple("|".join(kind.names) for kind in found.classes) == MSRC, "the recipe lists the classes"
    return found.photographs[: options.limit]


def recipe_of(row: str, options: argparse.Namespace, *, seed: int) -> Recipe:
    data, objective = TRAINED.get(row, ({"label_free": False, "suppressed": UNSEEN}, {}))
    objective = dict(objective)
    if row in ZERO_SHOT:
        objective = {"unseen": UNSEEN, **ZERO_SHOT[row]}
    if "self_training" in objective:
        objective["self_training"] = round(objective["self_training"] * options.steps)
    return dataclasses.replace(
        MINI,
        config=dataclasses.replace(MINI.config, **STUDENTS[options.student]),
        objective=Training(**objective),
        teacher=options.teacher,
        data=dataclasses.replace(MINI.data, root=str(options.data), **data),
        optimiser=dataclasses.replace(MINI.optimiser, rate=options.rate),
        steps=options.steps,
        batch_size=options.batch_size,
        seed=seed,
    )


def keep(
    out: Path,
    facts: Mapping[str, Any],
    model: tuple[str, Mapping[str, Any]],
    photographs: Sequence[MaskedPhotograph],
    options: argparse.Namespace,
) -> None:
    """Writes all numbers of one model as `out`/result.json, unless it is there."""
    if not (out / "result.json").is_file():
        confusion = measure(model[0], model[1], photographs)
        numbers = scores.score(confusion.tallies, subsets=SUBSETS)
        result = {**facts, "part": options.part, "scores": numbers, "confusion": confusion.to_json()}
        files.write_text(out / "result.json", json.dumps(result) + "\n")


def measure(model: str, settings: Mapping[str, Any], photographs: Sequence[MaskedPhotograph]) -> Confusion:
    segmenter, inference = catalog.load(model, **settings)
    predictor = Predictor(segmenter, inference, name=model)
    confusion = Confusion.empty(len(WORDS))
    for photograph in photographs:
        found = predictor.segment(photograph.image(), WORDS, scores=False, keep_image=False)
        confusion.update(found.labels, photograph.truth(), image=photograph.key)
    return confusion


def report(out: Path) -> None:
    """Both tables in Markdown, and all results as one JSON file."""
    results = [json.loads(path.read_text()) for path in sorted(out.glob("*/result.json"))]
    rows: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        rows.setdefault(result["row"], []).append(result)
    print_table(rows, (*TEACHER, *TRAINED), {"mIoU": "miou", "pixel accuracy": "pixel_accuracy"})
    print()
    unseen, seen = {"unseen mIoU": "miou_unseen"}, {"seen mIoU": "miou_seen", "hIoU": "hiou"}
    print_table(rows, ("MaskCLIP", *ZERO_SHOT, "labels=all"), unseen | seen)
    files.write_text(out / "results.json", json.dumps(results) + "\n")


def print_table(
    rows: Mapping[str, Sequence[Mapping[str, Any]]], names: Sequence[str], columns: Mapping[str, str]
) -> None:
    print_row(["", "seeds", *columns])
    print_row(["---"] * (len(columns) + 2))
    for name in (name for name in names if name in rows):
        bounds = interval(rows[name])
        cells = []
        for score in columns.values():
            values = [100 * result["scores"][score] for result in rows[name]]
            deviation = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
            low, high = 100 * bounds[score].low, 100 * bounds[score].high
            cells.append(f"{np.mean(values):.1f}{deviation} [{low:.1f}, {high:.1f}]")
        print_row([name, str(len(rows[name])) if name not in TEACHER else "-", *cells])


def interval(results: Sequence[Mapping[str, Any]]) -> dict[str, bootstrap.Interval]:
    """Tallies of equal photographs add up, as if all seeds were one model."""
    confusions = [Confusion.from_json(result["confusion"]) for result in results]
    together = {name: np.concatenate([each.images[name] for each in confusions]) for name in confusions[0].images}
    return bootstrap.intervals(together, bootstrap.Bootstrap(len(WORDS), subsets=SUBSETS))


def slug(row: str) -> str:
    return "-".join(
        "".join(letter if letter.isalnum() else " " for letter in row.lower().replace("+", " plus ")).split()
    )


def print_row(cells: Sequence[str]) -> None:
    print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
