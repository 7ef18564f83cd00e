"""S-Seg's claims in miniature: Tables 1 and 2 of the paper, its Figures 10 and 12, and what each loss is for.

    python studies/s_seg_miniature.py --data DATA --out runs/s-seg-miniature --steps 2000
    python studies/s_seg_miniature.py --toy --out runs/s-seg-toy                            drawn scenes, in seconds

    table 1   pseudo-masks named by the truth (oracle mIoU), and the time a photograph takes in a batch
    table 2   B1 and B2 < S-Seg < S-Seg+; the contrastive loss alone, the masks alone, both; a third, two thirds and all
              of the pairs

Learned runs see the miniature pairs and measure on MSRC's photographs with its 22 classes; nothing is said about a
background there, and no threshold is chosen. `--part held_out` (default) measures on photographs to develop with,
`--part val` on those that results are reported of. A cell is the mean over seeds ± their standard deviation, and the
95 % interval of a bootstrap over photographs; a difference is of equal seeds and photographs.

S-Seg here begins with what ImageNet's labels have taught a small trunk (MINI of recipes/s_seg.py), and so do its
pseudo-masks; `--scratch` begins with random weights and clusters colours. The embedded CLIP has learned from masks of
these data sets, so its row of Table 1 is no sign of what can be had without them.

A run that is finished is not done again, and one that was interrupted goes on, so the same command may be repeated.
The scenes of `--toy` show that the script works; no score on them counts.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lexiseg import catalog, files
from lexiseg.data.labelled.dense import Relabelling
from lexiseg.data.mini.masked import read_masked
from lexiseg.data.scene_data import SceneLabelData
from lexiseg.data.scenes import Scenes, class_names
from lexiseg.evaluation import pseudo_labels
from lexiseg.inference.predictor import Predictor
from lexiseg.methods import s_seg as method
from lexiseg.methods import student
from lexiseg.metrics import bootstrap, scores
from lexiseg.metrics.confusion import Confusion
from lexiseg.metrics.oracle import label_segments
from lexiseg.proposals import kmeans, spectral
from lexiseg.recipes import maskclip_plus, pseudo_mask_vit, s_seg, s_seg_plus
from lexiseg.training.recipe import Labelling, Recipe, Stage
from lexiseg.training.train import train
from lexiseg.vocabulary import Vocabulary

GENERATORS: Mapping[str, Any] = {
    "spectral clustering of colours": spectral.Config(),
    "K-means of colours": kmeans.Config("colours", side=28),
    "K-means of EfficientNet-Lite2 (ImageNet's labels)": kmeans.Config("lite2", side=224),
    "K-means of the embedded CLIP (which has seen masks)": kmeans.Config("asset:mini-clip", side=224),
}
# changes of S-Seg's objective, and how much of the pairs is seen
LOSSES: Mapping[str, Mapping[str, Any]] = {
    "S-Seg": {},
    "S-Seg, captions alone": {"mask_weight": 0.0},
    "S-Seg, masks alone": {"contrast_weight": 0.0},
}
SIZES: Mapping[str, float] = {"S-Seg, a third of the pairs": 1 / 3, "S-Seg, two thirds of the pairs": 2 / 3}
B1, B2, PLUS = "B1: pseudo-mask + CLIP", "B2: pseudo-mask ViT", "S-Seg+"
ROWS = (B1, B2, *LOSSES, *SIZES, PLUS)
COMPARED = (
    (B1, "S-Seg"),
    (B2, "S-Seg"),
    ("S-Seg", PLUS),
    ("S-Seg, captions alone", "S-Seg"),
    (next(iter(SIZES)), "S-Seg"),
)
BATCH = 16  # photographs that the generators are timed on together


@dataclass(frozen=True, eq=False)
class World:
    """What is trained on and measured on.

    measured: photographs and their truth, by key. pairs: S-Seg's recipe, with its data. vit: that of B2.
    clip: how `catalog.load` gets B1. student, unlabelled: of S-Seg+, and its photographs.
    """

    words: Vocabulary
    measured: Mapping[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]
    pairs: Recipe
    vit: Recipe
    clip: Mapping[str, Any]
    student: Recipe
    unlabelled: Any

    def share(self, part: float) -> Any:
        """The data of S-Seg with this share of its pairs."""
        data: Any = self.pairs.data
        if hasattr(data, "scenes"):
            return replace(data, scenes=replace(data.scenes, count=max(1, round(data.scenes.count * part))))
        return replace(data, pairs=replace(data.pairs, canvases=round(data.pairs.canvases * part)))


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    world = toy_world(options) if options.toy else world_of(options)
    for name, config in generators(options).items():
        if name in (options.generators or (name,)):
            keep(options.out / slug(name), lambda config=config, name=name: oracle(name, config, world))
    for seed, row in itertools.product(range(options.seeds), (row for row in ROWS if row in (options.only or ROWS))):
        if row == B1 and seed:  # nothing of it is drawn
            continue
        keep(options.out / f"{slug(row)}-seed-{seed}", lambda row=row, seed=seed: learned(row, seed, world, options))
    report(options.out)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder with photos-train, masks-train and masks-val")
    parser.add_argument("--out", type=Path, required=True, help="where runs and results go")
    parser.add_argument("--toy", action="store_true", help="drawn scenes and tiny models, in seconds")
    parser.add_argument("--steps", type=int, default=s_seg.MINI.steps, help="of each run")
    parser.add_argument("--student-steps", type=int, default=maskclip_plus.MINI.steps, help="of S-Seg+")
    parser.add_argument("--batch-size", type=int, default=s_seg.MINI.batch_size)
    parser.add_argument("--scratch", action="store_true", help="random weights and clusters of colours for S-Seg")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=ROWS, help="rows of table 2; all where left out")
    parser.add_argument("--generators", nargs="*", choices=list(GENERATORS), help="rows of table 1; all where left out")
    parser.add_argument("--cache", type=Path, help="a folder for decoded photographs")
    parser.add_argument("--part", choices=("held_out", "val"), default="held_out", help="photographs to measure on")
    parser.add_argument("--limit", type=int, help="photographs to measure on")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    if options.data is None and not options.toy:
        parser.error("give --data, or --toy")
    return options


def world_of(options: argparse.Namespace) -> World:
    """The miniature pairs, and MSRC's photographs."""
    places: dict[str, Any] = {"folder": options.data / "masks-val", "part": "all"}
    if options.part == "held_out":
        places = {"folder": options.data / "masks-train", "part": "held_out", "shards": ("msrc",)}
    found = read_masked(**places, occurring=True)
    assert tuple("|".join(kind.names) for kind in found.classes) == maskclip_plus.MSRC, "the recipe lists the classes"
    root, cache = str(options.data), None if options.cache is None else str(options.cache)
    recipe: Any = s_seg.MINI_FROM_SCRATCH if options.scratch else s_seg.MINI
    shared: dict[str, Any] = {"steps": options.steps, "batch_size": options.batch_size}
    _, taught = s_seg_plus.MINI
    assert isinstance(taught, Recipe), "the last stage trains"
    unlabelled = replace(s_seg_plus.MINI[0].data, root=root, cache=cache)  # type: ignore[type-var]
    data = replace(recipe.data, root=root, cache=cache)
    features = {"weights": "asset:mini-clip", "prompts": "vild14", "short_side": None, "long_side": 256}
    made = recipe.objective.pseudo_masks
    vit: Any = catalog.get("methods", "pseudo_mask_vit").VARIANTS["small"].config
    return World(
        Vocabulary(maskclip_plus.MSRC, shared_words=True),
        {each.key: (each.image(), each.truth()) for each in found.photographs[: options.limit]},
        replace(recipe, data=data, **shared),
        replace(pseudo_mask_vit.MINI, data=data, config=replace(vit, pseudo_masks=made), **shared),
        {"model": "pseudo_mask_clip/custom", **features, "pseudo_masks": made},
        replace(taught, steps=options.student_steps),
        unlabelled,
    )


def toy_world(options: argparse.Namespace) -> World:
    """Drawn scenes; each run takes a few steps."""
    scenes = Scenes(count=6, size=32, seed=1)
    drawn = [(scenes.key(at), scenes.draw(at)) for at in range(scenes.count)]
    every = Relabelling(suppressed=tuple(range(len(class_names()))))
    learned: Any = s_seg_plus.TOY
    few: dict[str, Any] = {"steps": 2, "batch_size": 4}
    return World(
        Vocabulary(class_names()),
        {key: (scene.image, scene.labels) for key, scene in drawn[: options.limit]},
        replace(s_seg.TOY, **few),
        replace(pseudo_mask_vit.TOY, **few),
        {"model": "pseudo_mask_clip/tiny"},
        replace(learned, config=maskclip_plus.TOY.config, objective=student.Training(guided=False), **few),
        SceneLabelData(Scenes(count=4, size=32), learned.data.augmentation, every),
    )


def generators(options: argparse.Namespace) -> Mapping[str, Any]:
    if not options.toy:
        return GENERATORS
    small = {"spectral clustering of colours": spectral.Config(k=4, side=64)}
    return {**small, "K-means of colours": kmeans.Config("colours", k=4, side=16)}


def keep(out: Path, make: Any) -> None:
    """Writes what `make` gives as `out`/result.json, unless it is there."""
    if not (out / "result.json").is_file():
        files.write_text(out / "result.json", json.dumps(make()) + "\n")


# --- table 1


def oracle(name: str, config: Any, world: World) -> dict[str, Any]:
    """Each part of a pseudo-mask has the class of most of its pixels, as in the paper's Table 1."""
    module = spectral if isinstance(config, spectral.Config) else kmeans
    proposer, confusion = module.load(config), Confusion.empty(len(world.words))
    items = list(world.measured.items())
    seconds = []
    for start in range(0, len(items), BATCH):
        some = items[start : start + BATCH]
        squares = torch.cat([square(image, config.side) for _, (image, _) in some])
        begun = time.perf_counter()
        labels = proposer.labels(squares)
        seconds.append((time.perf_counter() - begun) / len(some))
        for (key, (_, truth)), each in zip(some, labels, strict=True):
            parts = torch.nn.functional.interpolate(each[None, None].float(), truth.shape, mode="nearest-exact")
            confusion.update(label_segments(parts[0, 0].long().numpy(), truth, len(world.words)), truth, image=key)
    return {"table": 1, "row": name, "seconds": float(np.median(seconds)), **numbers(confusion)}


def square(image: NDArray[np.uint8], side: int) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    return torch.nn.functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)


# --- table 2


def learned(row: str, seed: int, world: World, options: argparse.Namespace) -> dict[str, Any]:
    """Trains what a row says, and measures it."""
    facts: dict[str, Any] = {"table": 2, "row": row, "seed": seed}
    if row == B1:
        return {**facts, **numbers(measure(world.clip, world))}
    out = options.out / f"{slug(row)}-seed-{seed}"
    run = train(stages_of(row, seed, world, options), out, resume=True, tensorboard=False, label=pseudo_labels.label)
    if not run.finished:
        raise SystemExit("stopped; the same command goes on")
    return {**facts, "losses": run.losses, **numbers(measure({"model": out / "model"}, world))}


def stages_of(row: str, seed: int, world: World, options: argparse.Namespace) -> tuple[Stage, ...]:
    if row == B2:
        return (replace(world.vit, seed=seed),)
    if row == PLUS:  # taught by the S-Seg of the same seed
        teacher = str(options.out / f"{slug('S-Seg')}-seed-{seed}" / "model")
        if not Path(teacher).is_dir():
            raise SystemExit(f"{PLUS} learns from S-Seg, which has not been run for seed {seed}; leave --only out")
        labelling = Labelling(name="labels", teacher=teacher, data=world.unlabelled)
        told = replace(world.unlabelled, pseudo_labels="@labels")
        return labelling, replace(world.student, teacher=teacher, data=told, seed=seed)
    objective: Any = world.pairs.objective
    assert isinstance(objective, method.Training), "it is S-Seg's"
    changed = replace(objective, **LOSSES.get(row, {}))
    return (replace(world.pairs, objective=changed, data=world.share(SIZES.get(row, 1.0)), seed=seed),)


def measure(start: Mapping[str, Any], world: World) -> Confusion:
    """start: how `catalog.load` gets the model."""
    segmenter, inference = catalog.load(**start)
    predictor = Predictor(segmenter, inference, name=str(start["model"]))
    confusion = Confusion.empty(len(world.words))
    for key, (image, truth) in world.measured.items():
        found = predictor.segment(np.array(image), world.words, scores=False, keep_image=False)
        confusion.update(found.labels, truth, image=key)
    return confusion


def numbers(confusion: Confusion) -> dict[str, Any]:
    return {"scores": scores.score(confusion.tallies), "confusion": confusion.to_json()}


# --- what is printed


def report(out: Path) -> None:
    """Both tables in Markdown, and all results as one JSON file."""
    results = [json.loads(path.read_text()) for path in sorted(out.glob("*/result.json"))]
    rows: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        rows.setdefault(result["row"], []).append(result)
    print_row(["pseudo-masks", "oracle mIoU", "seconds"])
    print_row(["---"] * 3)
    for name in (name for name in rows if rows[name][0]["table"] == 1):
        print_row([name, cell(rows[name], "miou"), f"{rows[name][0]['seconds']:.4f}"])
    print()
    print_row(["", "seeds", "mIoU", "pixel accuracy"])
    print_row(["---"] * 4)
    for name in (name for name in ROWS if name in rows):
        print_row([name, str(len(rows[name])), cell(rows[name], "miou"), cell(rows[name], "pixel_accuracy")])
    print()
    print_row(["less", "more", "mIoU gained"])
    print_row(["---"] * 3)
    for less, more in COMPARED:
        if less in rows and more in rows:
            print_row([less, more, gain(rows[less], rows[more])])
    files.write_text(out / "results.json", json.dumps(results) + "\n")


def cell(results: Sequence[Mapping[str, Any]], score: str) -> str:
    values = [100 * result["scores"][score] for result in results]
    deviation = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    confusions = [Confusion.from_json(result["confusion"]) for result in results]
    bounds = bootstrap.intervals(summed(confusions), bootstrap.Bootstrap(confusions[0].classes))[score]
    return f"{np.mean(values):.1f}{deviation} [{100 * bounds.low:.1f}, {100 * bounds.high:.1f}]"


def gain(less: Sequence[Mapping[str, Any]], more: Sequence[Mapping[str, Any]]) -> str:
    """Of equal seeds, or of the only run of one against each of the other; with a bootstrap over photographs."""
    if len(less) == 1:
        less = [less[0]] * len(more)
    pairs = list(zip(less, more, strict=False))
    gaps = [100 * (two["scores"]["miou"] - one["scores"]["miou"]) for one, two in pairs]
    first, second = ([Confusion.from_json(pair[side]["confusion"]) for pair in pairs] for side in (0, 1))
    drawn = bootstrap.differences(summed(second), summed(first), bootstrap.Bootstrap(first[0].classes))["miou"]
    won = sum(gap > 0 for gap in gaps)
    return f"{np.mean(gaps):+.1f} [{100 * drawn.low:+.1f}, {100 * drawn.high:+.1f}], {won} of {len(gaps)} seeds"


def summed(confusions: Sequence[Confusion]) -> dict[str, NDArray[np.int64]]:
    """Tallies of equal photographs add up, as if all seeds were one model."""
    return {name: np.concatenate([each.images[name] for each in confusions]) for name in confusions[0].images}


def slug(row: str) -> str:
    return "-".join(
        "".join(letter if letter.isalnum() else " " for letter in row.lower().replace("+", " plus ")).split()
    )


def print_row(cells: Sequence[str]) -> None:
    print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
