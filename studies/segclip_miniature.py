"""SegCLIP's claims in miniature: Tables 1 to 4 of the paper, on photographs of MSRC v2, and how centres are used.

    python studies/segclip_miniature.py --data DATA --out runs/segclip-miniature --steps 600
    python studies/segclip_miniature.py --toy --out runs/segclip-toy              seconds, on drawn scenes; no result

    table 1   contrastive < + reconstruction, + superpixels < both
    table 2   the layer that the group module comes after, and the number of centres; contrastive alone, as in the paper
    table 3   cross-attention layers, 0 to 4; contrastive alone
    table 4   from a CLIP (`--weights`) > from scratch, all else equal; from scratch also with patches of 16 and 32
              pixels. `--rival RECIPE` trains another recipe for as many steps (GroupViT's, say)

A start that saw label maps makes no claim about learning without annotations: `--weights` should name one that saw
none wherever the claim is annotation-free. The report says what each table found, whatever it is.

Each model is read in three ways, none of which leaves pixels out, since MSRC scores no background:

    rule        the product of two softmaxes, with threshold 0
    S = M S     the paper's text
    oracle      each region gets the class that most of its pixels have, so that only the grouping is to blame

A cell is the mean over seeds ± their standard deviation, and the 95 % interval of a bootstrap over photographs; gains
are paired. How the centres are used (entropy over its largest value; collapse is near 0) is drawn over the steps in
usage.svg. `--benchmark NAME --benchmark-data ROOT` measures each model by that benchmark's protocol too (ade150,
cityscapes19). A run that is finished is not done again, and one that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import lexiseg
from lexiseg import catalog, files
from lexiseg.cli.train import find
from lexiseg.data.mini.masked import read_masked
from lexiseg.data.scenes import Scenes, class_names
from lexiseg.inference.predictor import Predictor
from lexiseg.metrics import bootstrap, scores
from lexiseg.metrics.confusion import Confusion
from lexiseg.metrics.oracle import label_segments
from lexiseg.recipes.segclip import MINI, MINI_FROM_SCRATCH, TOY, groups
from lexiseg.training.recipe import Recipe, change
from lexiseg.training.train import train
from lexiseg.vocabulary import Vocabulary

CONTRASTIVE = {"objective.reconstruction": 0.0, "objective.superpixels": 0.0}
# what each row changes of the recipe that starts from a CLIP; plug layers are those of a tower of 6
TABLES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "table 1": {
        "contrastive": CONTRASTIVE,
        "+ reconstruction": {"objective.superpixels": 0.0},
        "+ superpixels": {"objective.reconstruction": 0.0},
        "both": {},
    },
    "table 2": {
        "after layer 3": {**CONTRASTIVE, "config.plug_layer": 3},
        "after layer 4": {**CONTRASTIVE, "config.plug_layer": 4},
        "after layer 6": {**CONTRASTIVE, "config.plug_layer": 6},
        "4 centres": {**CONTRASTIVE, "config.centres": 4},
        "12 centres": {**CONTRASTIVE, "config.centres": 12},
    },
    "table 3": {f"{count} cross": {**CONTRASTIVE, "config.cross_layers": count} for count in (0, 1, 3, 4)},
    "table 4": {
        "from scratch": {},
        "from scratch, patch 16": {"config.architecture": "small-16"},
        "from scratch, patch 32": {"config.architecture": "small-32"},
    },
}
BASELINES = {"table 1": "contrastive", "table 2": "contrastive", "table 3": "contrastive", "table 4": "both"}
ROWS = {name: changes for table in TABLES.values() for name, changes in table.items()}
RIVAL = "rival"
READINGS: Mapping[str, Mapping[str, Any]] = {
    "rule": {"rule": "product", "product_threshold": 0.0},
    "S = M S": {"rule": "assignment"},
}
ORACLE = "oracle"
LOW_SHARE = 0.01  # of the rate, for what comes before the group module, as in MINI
LEVEL = 0.95  # of all intervals
Report = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Measured:
    """words: what is asked for. photographs: of each its name, RGB [H, W, 3] and label map [H, W]."""

    words: Vocabulary
    photographs: Sequence[tuple[str, NDArray[np.uint8], NDArray[Any]]]


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    measured = drawn(options) if options.toy else photographs(options)
    chosen = [row for row in ROWS if row in (options.only or ROWS)] + [RIVAL] * (options.rival is not None)
    for seed, row in itertools.product(range(options.seeds), chosen):
        out = options.out / f"{slug(row)}-seed-{seed}"
        if (out / "result.json").is_file():
            continue
        run = train(recipe_of(row, options, seed=seed), out, resume=True, tensorboard=False)
        if not run.finished:
            raise SystemExit("stopped; the same command goes on")
        result = {"row": row, "seed": seed, "steps": options.steps, "losses": run.losses, "usage": usage(out)}
        result |= {"scores": measure(out / "model", measured, options), "benchmark": protocol(out / "model", options)}
        files.write_text(out / "result.json", json.dumps(result) + "\n")
    report(options.out)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder with photos-train, masks-train and masks-val")
    parser.add_argument("--out", type=Path, required=True, help="where runs and results go")
    parser.add_argument("--toy", action="store_true", help="drawn scenes, tiny models, a few steps: whether it runs")
    parser.add_argument("--steps", type=int, help="of each run")
    parser.add_argument("--batch-size", type=int, help="of each run")
    parser.add_argument("--train-size", type=int, default=64, help="side of the pictures in training, pixels")
    parser.add_argument("--size", type=int, default=128, help="short side and windows of what is read, pixels")
    parser.add_argument("--weights", default=MINI.weights, help="the CLIP to start from")
    parser.add_argument("--seeds", type=int, help="how many runs of each row")
    parser.add_argument("--only", nargs="*", choices=list(ROWS), help="rows; all where left out")
    parser.add_argument("--rival", help="another recipe, trained for as many steps on batches as large")
    parser.add_argument("--cache", help="a folder for decoded photographs, 2.3 GB")
    parser.add_argument("--part", choices=("held_out", "val"), default="held_out", help="photographs to measure on")
    parser.add_argument("--limit", type=int, help="photographs to measure on")
    parser.add_argument("--benchmark", help="measure by its protocol too, for example ade150")
    parser.add_argument("--benchmark-data", type=Path, help="the folder with the benchmark's data")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    if options.data is None and not options.toy:
        parser.error("--data is needed, but for --toy")
    if (options.benchmark is None) != (options.benchmark_data is None):
        parser.error("--benchmark and --benchmark-data go together")
    usual = TOY if options.toy else MINI
    options.steps = options.steps or (2 if options.toy else usual.steps)
    options.batch_size = options.batch_size or (4 if options.toy else usual.batch_size)
    options.seeds = options.seeds or (1 if options.toy else 3)
    return options


def recipe_of(row: str, options: argparse.Namespace, *, seed: int) -> Recipe:
    shared: dict[str, Any] = {"steps": options.steps, "batch_size": options.batch_size, "seed": seed}
    place = {} if options.toy else data_changes(options)
    if row == RIVAL:
        (stage,) = find(options.rival, mini=False, toy=False)
        assert isinstance(stage, Recipe)
        return change(stage, {**shared, **{name: value for name, value in place.items() if "superpixels" not in name}})
    if options.toy:
        return change(TOY, {**shared, "log_every": 1, **toy_changes(ROWS[row])})
    start: Mapping[str, Any] = {} if row in TABLES["table 4"] else {"weights": options.weights}
    recipe = MINI_FROM_SCRATCH if row in TABLES["table 4"] else MINI
    changed = change(recipe, {**shared, **place, **start, **ROWS[row]})
    first = ROWS[row].get("config.plug_layer")
    return changed if first is None else dataclasses.replace(changed, groups=groups(first, LOW_SHARE))


def data_changes(options: argparse.Namespace) -> dict[str, Any]:
    """Superpixels stay as large in proportion to the picture."""
    side = options.train_size
    part = (side / MINI.data.pairs.size) ** 2
    made = MINI.data.superpixels
    assert made is not None
    return {
        "data.root": str(options.data),
        "data.cache": options.cache,
        "data.pairs.size": side,
        "data.augmentation.size": side,
        "data.superpixels.scale": made.scale * part,
        "data.superpixels.min_size": max(1, round(made.min_size * part)),
        "data.superpixels.short_side": side,
    }


def toy_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """A tiny tower has two layers and one size of patch."""
    kept = {name: value for name, value in changes.items() if name != "config.architecture"}
    return {name: min(value, 2) if name == "config.plug_layer" else value for name, value in kept.items()}


def photographs(options: argparse.Namespace) -> Measured:
    """Of MSRC: those held out of training to develop with, or those that results are reported of."""
    places: dict[str, Any] = {"folder": options.data / "masks-val", "part": "all"}
    if options.part == "held_out":
        places = {"folder": options.data / "masks-train", "part": "held_out", "shards": ("msrc",)}
    found = read_masked(**places, occurring=True)
    words = Vocabulary([kind.names for kind in found.classes], shared_words=True)
    chosen = found.photographs[: options.limit]
    return Measured(words, [(each.key, each.image(), each.truth()) for each in chosen])


def drawn(options: argparse.Namespace) -> Measured:
    scenes = Scenes(count=options.limit or 3, size=32, seed=1)
    made = [(scenes.key(at), scenes.draw(at)) for at in range(scenes.count)]
    return Measured(Vocabulary(class_names()), [(key, scene.image, scene.labels) for key, scene in made])


def measure(model: Path, measured: Measured, options: argparse.Namespace) -> dict[str, Report]:
    """mIoU and pixel accuracy in %, and the tallies of each photograph, by reading."""
    side = None if options.toy else options.size
    answers = dict(readers(model, measured.words, side))
    confusions = {name: Confusion.empty(len(measured.words)) for name in answers}
    for key, image, truth in measured.photographs:
        for name, answer in answers.items():
            confusions[name].update(answer(image, truth), truth, image=key)
    return {
        name: {
            "mIoU": 100 * float(scores.mean_iou(confusion.tallies)),
            "accuracy": 100 * float(scores.pixel_accuracy(confusion.tallies)),
            "confusion": confusion.to_json(),
        }
        for name, confusion in confusions.items()
    }


def readers(
    model: Path, words: Vocabulary, side: int | None
) -> Iterator[tuple[str, Callable[[NDArray[Any], NDArray[Any]], Any]]]:
    """Each reading as a function of a photograph and its truth, which only the oracle looks at.

    side: of what SegCLIP looks at; a rival, and None, have what was saved.
    """
    module, variant = catalog.resolve(model)
    ours = module.__name__.endswith(".segclip")
    readings = READINGS if ours else {"rule": {}}
    sides = dict.fromkeys(("short_side", "window", "stride"), side) if ours and side else {}
    for name, settings in readings.items():
        predictor = Predictor.load(model, changes={**settings, **sides}, text_cache=False)
        yield name, lambda image, _, each=predictor: each.segment(image, words, scores=False, keep_image=False).labels
    if module.traits(variant.config).regions:
        eye = Predictor.load(model, changes=sides, text_cache=False)
        yield ORACLE, lambda image, truth: label_segments(regions(eye, image), truth, len(words))


@torch.inference_mode()
def regions(predictor: Predictor, image: NDArray[Any]) -> NDArray[np.int64]:
    """Which region of which window each pixel of a photograph is in; where windows overlap, the later one's."""
    embedded = predictor.embed(image, keep_image=False)
    whole = np.zeros(embedded.resized, np.int64)
    for number, (box, view) in enumerate(embedded.views):
        labels = view.labels()[0, : box.size[0], : box.size[1]].cpu().numpy()  # type: ignore[attr-defined]
        whole[box.slices] = labels + 1000 * number
    resized = Image.fromarray(whole.astype(np.int32)).resize(image.shape[1::-1], Image.Resampling.NEAREST)
    return np.asarray(resized)


def protocol(model: Path, options: argparse.Namespace) -> Report | None:
    """mIoU in % by the method's protocol for a benchmark, where one was asked for."""
    if options.benchmark is None:
        return None
    result = lexiseg.evaluate(model, options.benchmark, data=options.benchmark_data, limit=options.limit)
    return {"name": options.benchmark, "mIoU": 100 * float(result.scores["miou"])}


def usage(run: Path) -> list[list[float]]:
    """[step, usage entropy, entropy within an image] at every log line; nothing of a rival that reports none."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    names = ("step", "report/usage_entropy", "report/image_entropy")
    return [[line[name] for name in names] for line in lines if names[1] in line]


def report(out: Path) -> None:
    """The tables in Markdown, usage.svg, and all results as one JSON file."""
    results = [json.loads(path.read_text()) for path in sorted(out.glob("*/result.json"))]
    rows: dict[str, list[Report]] = {}
    for result in results:
        rows.setdefault(result["row"], []).append(result)
    for table, own in TABLES.items():
        baseline = BASELINES[table]
        names = list(dict.fromkeys([baseline, *own, *([RIVAL] if table == "table 4" else [])]))
        if len(shown := [name for name in names if name in rows]) > 1 or table == "table 1":
            print(f"\n{table}: mIoU; then less that of '{baseline}', seed by seed, and photograph by photograph\n")
            print_table({name: rows[name] for name in shown}, baseline)
    files.write_text(out / "usage.svg", plot({name: [each["usage"] for each in runs] for name, runs in rows.items()}))
    files.write_text(out / "results.json", json.dumps(results) + "\n")


def print_table(rows: Mapping[str, Sequence[Report]], baseline: str) -> None:
    readings = [*READINGS, ORACLE]
    benchmark = next((run["benchmark"]["name"] for runs in rows.values() for run in runs if run["benchmark"]), None)
    named = [benchmark] if benchmark else []
    print_row(["", "seeds", *readings, f"gain ({readings[0]})", "usage entropy", *named])
    print_row(["---"] * (5 + len(readings) - 1 + len(named)))
    for name, runs in rows.items():
        cells = [cell([run["scores"][reading] for run in runs if reading in run["scores"]]) for reading in readings]
        cells += [gain(runs, rows.get(baseline, [])) if name != baseline else "-"]
        cells += [spread([run["usage"][-1][1] for run in runs if run["usage"]], 2)]
        cells += [spread([run["benchmark"]["mIoU"] for run in runs if run["benchmark"]], 1) for _ in named]
        print_row([name, str(len(runs)), *cells])


def cell(found: Sequence[Report]) -> str:
    """Mean over seeds ± deviation [interval over photographs]; tallies of seeds add up, as if they were one model."""
    if not found:
        return "-"
    confusions = [Confusion.from_json(each["confusion"]) for each in found]
    bounds = bootstrap.intervals(together(confusions), bootstrap.Bootstrap(confusions[0].classes, level=LEVEL))["miou"]
    return f"{spread([each['mIoU'] for each in found], 1)} [{100 * bounds.low:.1f}, {100 * bounds.high:.1f}]"


def gain(runs: Sequence[Report], baseline: Sequence[Report]) -> str:
    """By the rule, of equal seeds: the mean gap, its deviation over seeds and its interval over photographs."""
    own, other = ({run["seed"]: run["scores"]["rule"] for run in each} for each in (runs, baseline))
    seeds = sorted(own.keys() & other.keys())
    if not seeds:
        return "-"
    sides = [[Confusion.from_json(side[seed]["confusion"]) for seed in seeds] for side in (own, other)]
    how = bootstrap.Bootstrap(sides[0][0].classes, level=LEVEL)
    found = bootstrap.differences(together(sides[0]), together(sides[1]), how)["miou"]
    gaps = [own[seed]["mIoU"] - other[seed]["mIoU"] for seed in seeds]
    return f"{spread(gaps, 1)} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def together(confusions: Sequence[Confusion]) -> dict[str, NDArray[np.int64]]:
    return {name: np.concatenate([each.images[name] for each in confusions]) for name in confusions[0].images}


def spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    deviation = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{deviation}"


def plot(curves: Mapping[str, Sequence[Sequence[Sequence[float]]]]) -> str:
    """An SVG: for each row a small panel with the usage entropy of its seeds over the steps, 0 to 1."""
    width, height, across = 200, 110, 4
    panels = []
    for number, (name, runs) in enumerate(sorted(curves.items())):
        x, y = (number % across) * width + 30, (number // across) * height + 20
        inner = width - 45, height - 40
        last = max((run[-1][0] for run in runs if run), default=1)
        lines = [
            " ".join(f"{x + step / last * inner[0]:.1f},{y + (1 - used) * inner[1]:.1f}" for step, used, _ in run)
            for run in runs
        ]
        frame = f'<rect x="{x}" y="{y}" width="{inner[0]}" height="{inner[1]}" fill="none" stroke="#999"/>'
        title = f'<text x="{x}" y="{y - 5}">{name}</text><text x="{x}" y="{y + inner[1] + 11}">{last} steps</text>'
        marks = f'<text x="{x - 12}" y="{y + 8}">1</text><text x="{x - 12}" y="{y + inner[1]}">0</text>'
        panels += [frame, title, marks]
        panels += [f'<polyline points="{line}" fill="none" stroke="#06c"/>' for line in lines]
    size = f'width="{across * width}" height="{-(-len(curves) // across) * height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="10">'
    return "\n".join([head, "<title>usage entropy of the centres over the steps</title>", *panels, "</svg>"]) + "\n"


def slug(row: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in row.replace("+", " and ")).split())


def print_row(cells: Sequence[str]) -> None:
    print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
