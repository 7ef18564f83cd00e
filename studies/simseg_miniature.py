"""SimSeg's claim in miniature: the same photographs and steps with and without LoDA, and what goes wrong without.

    python studies/simseg_miniature.py --data DATA --out runs/simseg-miniature --minutes 15

Trains a CLIP on the miniature pairs, from scratch or from `--weights`, once per pooling and seed: by class token, by
the mean of all patches and words (both are "vanilla CLIP"), and by the mean of the k largest of each channel. Then it
measures

    mIoU        on held-out photographs with label maps: the paper's rule with and without the CRF, and the plain
                softmax over patch-word cosines with and without the CRF
    outside     problem 1: how much of the similarity between patches and a word lies outside the objects so named,
                and how many pixels are right when only the classes of an image are asked for
    falls       problem 2: what the image-text score loses when words for objects, or as many words of the context,
                are taken out of a caption that a person wrote

With `--weights`, the start is measured too, once for each pooling. The report has means and standard deviations over
seeds, and what each pooling gains on the vanilla ones, seed by seed.

A run that is finished is not done again, and one that was interrupted goes on, so the same command may be repeated.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from lexiseg import catalog, files
from lexiseg.data.mini.masked import IGNORE, MaskedPhotograph, MaskedSet, read_masked
from lexiseg.data.pairs.captions import nouns_and_verbs
from lexiseg.encoders.prompts import Prompts
from lexiseg.inference.predictor import Predictor
from lexiseg.inference.preprocess import prepare
from lexiseg.methods.simseg import Config, similarity
from lexiseg.metrics import bootstrap, scores
from lexiseg.metrics.confusion import Confusion
from lexiseg.recipes.simseg import MINI
from lexiseg.segmenter import Inference
from lexiseg.training.dry_run import dry_run
from lexiseg.training.recipe import Recipe
from lexiseg.training.train import train
from lexiseg.vocabulary import Vocabulary

ALL = None
VANILLA = {
    "class-token": {"pooling": "class_token"},
    "image-all-text-all": {"image_k": ALL, "text_k": ALL},
}
# through the paper's choice, image k = 5 and text k = 1, along both axes
LODA = {
    f"image-{image or 'all'}-text-{text or 'all'}": {"image_k": image, "text_k": text}
    for image, text in ((1, 1), (3, 1), (5, 1), (ALL, 1), (5, 3), (5, 5), (5, ALL))
}
RULES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # changes of the method's config, and of inference
    "rule, CRF": ({"binarise": "crf"}, {}),
    "rule, no CRF": ({"binarise": "half"}, {}),
    "dense": ({"rule": "dense"}, {}),
    "dense, CRF": ({"rule": "dense"}, {"refine": "crf"}),
}
LEVEL = 0.95  # of all intervals


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    steps = decide_steps(options)
    measured = read_measured(options)
    chosen = {name: settings for name, settings in (VANILLA | LODA).items() if name in (options.only or (name,))}
    for seed, (name, settings) in itertools.product(range(options.seeds), chosen.items()):
        out = options.out / f"{name}-seed-{seed}"
        if (out / "result.json").is_file():
            continue
        run = train(recipe_of(options, steps=steps, seed=seed, settings=settings), out, resume=True, tensorboard=False)
        if not run.finished:
            raise SystemExit("stopped; the same command goes on")
        facts = {"pooling": name, "seed": seed, "steps": steps, "losses": run.losses}
        keep(out, facts, {"model": out / "model"}, measured, options)
    if options.weights is not None:
        for name, settings in chosen.items():
            start = {"model": "simseg/custom", "weights": options.weights, **settings}
            keep(options.out / f"{name}-before", {"pooling": name, "seed": None, "steps": 0}, start, measured, options)
    report(options.out)


def keep(
    out: Path, facts: dict[str, Any], start: Mapping[str, Any], measured: Measured, options: argparse.Namespace
) -> None:
    """Writes all numbers of one model as `out`/result.json, unless it is there."""
    if not (out / "result.json").is_file():
        result = facts | measure(start, measured, options=options)
        files.write_text(out / "result.json", json.dumps(result) + "\n")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with photos-train and masks-train")
    parser.add_argument("--out", type=Path, required=True, help="where runs and results go")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="of each run")
    length.add_argument("--minutes", type=float, help="of each run, turned into steps once, at the first start")
    parser.add_argument("--batch-size", type=int, default=MINI.batch_size)
    parser.add_argument("--train-size", type=int, default=MINI.data.pairs.size, help="side of the canvases, pixels")
    parser.add_argument("--precision", choices=("fp32", "bf16", "bf16_weights"), default=MINI.precision)
    parser.add_argument("--weights", help="a CLIP to start from, for example asset:mini-clip; none: from scratch")
    parser.add_argument("--rate", type=float, default=MINI.optimiser.rate, help="learning rate")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(VANILLA | LODA), help="poolings; all where left out")
    parser.add_argument("--cache", type=Path, help="a folder for decoded photographs, 2.3 GB")
    parser.add_argument("--shards", nargs="*", default=[], help="beginnings of the photo shards to train on")
    parser.add_argument("--part", choices=("held_out", "val"), default="held_out", help="masks to measure on")
    parser.add_argument("--limit", type=int, help="photographs of each kind to measure on")
    parser.add_argument("--rules", nargs="*", choices=list(RULES), default=list(RULES), help="ways to segment")
    parser.add_argument("--prompts", default="vild14", help="of the words asked for")
    parser.add_argument("--size", type=int, default=192, help="side of what the network sees when it segments, pixels")
    return parser.parse_args(arguments)


def recipe_of(options: argparse.Namespace, *, steps: int, seed: int, settings: dict[str, Any]) -> Recipe:
    data = dataclasses.replace(
        MINI.data,
        root=str(options.data),
        cache=None if options.cache is None else str(options.cache),
        pairs=dataclasses.replace(MINI.data.pairs, size=options.train_size, shards=tuple(options.shards)),
        augmentation=dataclasses.replace(MINI.data.augmentation, size=options.train_size),
    )
    start: dict[str, Any] = {"config": dataclasses.replace(MINI.config, **settings)}
    if options.weights is not None:
        start = {"model": "simseg/custom", "weights": options.weights, "config": Config(**settings)}
    return dataclasses.replace(
        MINI,
        **start,
        optimiser=dataclasses.replace(MINI.optimiser, rate=options.rate),
        data=data,
        steps=steps,
        batch_size=options.batch_size,
        precision=options.precision,
        seed=seed,
    )


def decide_steps(options: argparse.Namespace) -> int:
    """The same for all runs, also of later starts of this script in the same folder."""
    names = ("batch_size", "train_size", "precision", "weights", "rate", "shards", "part", "limit", "size", "prompts")
    same = {name: getattr(options, name) for name in names}
    path = options.out / "steps.json"
    if path.is_file():
        before = json.loads(path.read_text())
        if other := [name for name in names if before[name] != same[name]]:
            raise SystemExit(f"{options.out} was begun with another {', '.join(other)}; give another --out")
        return int(before["steps"])
    steps = options.steps or MINI.steps
    if options.minutes is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        cost = dry_run(recipe_of(options, steps=1, seed=0, settings=LODA["image-5-text-1"]), options.out)
        steps = max(1, int(options.minutes * 60 / cost.stages[0].seconds_per_step))
    files.write_text(path, json.dumps({"steps": steps, **same}) + "\n")
    return steps


@dataclasses.dataclass(frozen=True)
class Measured:
    """masked: photographs with label maps (MSRC). captioned: those with captions too (COCO)."""

    masked: MaskedSet
    photographs: tuple[MaskedPhotograph, ...]
    captioned: tuple[tuple[MaskedPhotograph, frozenset[str]], ...]  # with the names of all that is on them


def read_measured(options: argparse.Namespace) -> Measured:
    places: dict[str, Any] = {"folder": options.data / "masks-val", "part": "all"}
    if options.part == "held_out":
        places = {"folder": options.data / "masks-train", "part": "held_out", "shards": ("msrc",)}
    masked = read_masked(**places, occurring=True)
    coco = read_masked(options.data / "masks-train", shards=("coco-train2017-things",))
    captioned = [
        (each, frozenset(name.lower() for at in present(each) for name in coco.classes[at].names))
        for each in coco.photographs
        if each.captions
    ]
    return Measured(masked, masked.photographs[: options.limit], tuple(captioned[: options.limit]))


def present(photograph: MaskedPhotograph) -> list[int]:
    return [int(at) for at in np.unique(photograph.truth()) if at != IGNORE]


def measure(start: Mapping[str, Any], measured: Measured, *, options: argparse.Namespace) -> dict[str, Any]:
    """All numbers of one model; start: how `catalog.load` gets it."""
    shared = {**start, "size": (options.size, options.size), "prompts": options.prompts}
    predictors = {rule: predictor(shared, *RULES[rule]) for rule in options.rules}
    # with the colours and the pixels that the CRFs want, so that each photograph is looked at once
    result: dict[str, Any] = segmentation(predictor(shared, {}, {"refine": "crf"}), predictors, measured)
    segmenter, how = catalog.load(**shared, rule="dense")
    result["problem 1"] = outside(segmenter, how, measured)
    result["problem 2"] = falls(segmenter, how, measured)
    return result


def predictor(shared: Mapping[str, Any], config: Mapping[str, Any], inference: Mapping[str, Any]) -> Predictor:
    segmenter, how = catalog.load(**shared, **config, **inference)
    return Predictor(segmenter, how, name=str(shared["model"]))


def segmentation(eye: Predictor, rules: Mapping[str, Predictor], measured: Measured) -> dict[str, dict[str, Any]]:
    """mIoU and pixel accuracy of each rule, in %, and the tallies of each photograph.

    MSRC scores no background, so a pixel that nothing claims is a miss.
    """
    words = Vocabulary([each.names for each in measured.masked.classes], shared_words=True)
    confusions = {rule: Confusion.empty(len(words)) for rule in rules}
    for photograph in measured.photographs:
        embedded = eye.embed(photograph.image(), keep_image=False)
        for rule, confusion in confusions.items():
            found = rules[rule].classify(embedded, words, scores=False)
            confusion.update(found.labels, photograph.truth(), image=photograph.key)
    return {
        rule: {
            "mIoU": 100 * float(scores.mean_iou(confusion.tallies)),
            "accuracy": 100 * float(scores.pixel_accuracy(confusion.tallies)),
            "confusion": confusion.to_json(),
        }
        for rule, confusion in confusions.items()
    }


@torch.inference_mode()
def outside(segmenter: Any, inference: Inference, measured: Measured) -> dict[str, float]:
    """The share of a word's similarity map that lies outside the objects of that name; means over images and words.

    A map is stretched from 0 to 1 over its image, as the paper's rule does it. `flat` is what a map without any
    contrast has outside, `ratio` the one over the other: below 1 the map points at the object, above it elsewhere.
    `own words` is the pixel accuracy, in %, when only the classes in an image are asked for, where there are several:
    it depends on where the similarity lies, and not on which classes the image as a whole is taken to show.
    """
    names = [each.names[0] for each in measured.masked.classes]
    classifier = segmenter.embed_text(Vocabulary(names, shared_words=True), Prompts.open(inference.prompts))
    shares, flat, right, asked = [], [], 0, 0
    for photograph in measured.photographs:
        image = prepare(photograph.image(), inference)
        maps = similarity(segmenter.embed_image(image[None]), classifier)[0].numpy()  # [Q, h, w]
        truth, own = photograph.truth(), np.array(present(photograph))
        known = truth != IGNORE
        for at in own:
            low, high = maps[at].min(), maps[at].max()
            spread = _to_size((maps[at] - low) / max(high - low, 1e-9), truth.shape)
            shares.append(float(spread[known & (truth != at)].sum() / max(spread[known].sum(), 1e-9)))
            flat.append(float((known & (truth != at)).sum() / known.sum()))
        if len(own) > 1:
            best = own[_to_size(maps[own].argmax(axis=0), truth.shape)]
            right, asked = right + int((best == truth)[known].sum()), asked + int(known.sum())
    return {
        "outside": float(np.mean(shares)),
        "flat": float(np.mean(flat)),
        "ratio": float(np.mean(shares) / np.mean(flat)),
        "own words": 100 * right / max(asked, 1),
    }


def _to_size(small: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    """Nearest neighbour."""
    rows, columns = (np.arange(side) * have // side for side, have in zip(size, small.shape, strict=True))
    return small[rows][:, columns]


@torch.inference_mode()
def falls(segmenter: Any, inference: Inference, measured: Measured) -> dict[str, float]:
    """What the cosine of an image and its caption loses without words for objects, and without as many others.

    Means over captions that have words of both kinds; `cosine` is that of the whole caption.
    """
    whole, without_objects, without_context = [], [], []
    for photograph, names in measured.captioned:
        image = segmenter.image_vectors(prepare(photograph.image(), inference)[None])[0]
        sentences = [each for caption in photograph.captions for each in variants(caption, names)]
        if sentences:
            cosines = (segmenter.text_vectors(sentences) @ image).reshape(-1, 3).T.tolist()
            for numbers, fresh in zip((whole, without_objects, without_context), cosines, strict=True):
                numbers += fresh
    cosine = float(np.mean(whole))
    return {
        "captions": len(whole),
        "cosine": cosine,
        "fall without objects": cosine - float(np.mean(without_objects)),
        "fall without context": cosine - float(np.mean(without_context)),
    }


def variants(caption: str, names: frozenset[str]) -> Iterator[str]:
    """The caption, the caption without words for objects, and without as many words of the context.

    Words are nouns and verbs; one is for an object when it names a class in the image, in singular or plural. Nothing
    where there are none of one kind.
    """
    words = nouns_and_verbs(caption)
    singles = {part for name in names for part in name.split()}
    objects = [word for word in words if {word, word.removesuffix("s"), word.removesuffix("es")} & singles]
    context = [word for word in words if word not in objects]
    count = min(len(objects), len(context))
    if count:
        yield caption
        yield without(caption, objects[:count])
        yield without(caption, context[:count])


def without(caption: str, words: Sequence[str]) -> str:
    pattern = r"\b(" + "|".join(map(re.escape, words)) + r")\b"
    return " ".join(re.sub(pattern, " ", caption, flags=re.IGNORECASE).split())


def report(out: Path) -> None:
    """Tables in Markdown: means and standard deviations over seeds, then differences; all results as one JSON file."""
    results = [json.loads(path.read_text()) for path in sorted(out.glob("*/result.json"))]
    runs: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        runs.setdefault(result["pooling"] + ("" if result["steps"] else ", before"), []).append(result)
    rules = [rule for rule in RULES if any(rule in result for result in results)]
    print_scores(runs, rules)
    for baseline in VANILLA:
        if baseline in runs:
            print_gains(runs, baseline, rules)
    files.write_text(out / "results.json", json.dumps(results) + "\n")


def print_scores(runs: Mapping[str, list[dict[str, Any]]], rules: Sequence[str]) -> None:
    print_row(["pooling", "runs", *rules, "own words", "outside / flat", "cosine", "fall objects", "fall context"])
    print_row(["---"] * (len(rules) + 7))
    for name in (name for pooling in VANILLA | LODA for name in (f"{pooling}, before", pooling) if name in runs):
        cells = [spread([each[rule]["mIoU"] for each in runs[name] if rule in each], 1) for rule in rules]
        for number, digits in (("own words", 1), ("ratio", 3)):
            cells.append(spread([each["problem 1"][number] for each in runs[name]], digits))
        for number in ("cosine", "fall without objects", "fall without context"):
            cells.append(spread([each["problem 2"][number] for each in runs[name]], 4))
        print_row([name, str(len(runs[name])), *cells])


def print_gains(runs: Mapping[str, list[dict[str, Any]]], baseline: str, rules: Sequence[str]) -> None:
    """mIoU less the baseline's, of equal seeds: the interval of Student's t, then that of a bootstrap over images."""
    print(f"\nmIoU less that of {baseline}: mean over seeds [t] [photographs], {LEVEL:.0%} intervals\n")
    print_row(["pooling", *rules])
    print_row(["---"] * (len(rules) + 1))
    for name in (name for name in (VANILLA | LODA) if name in runs and name != baseline):
        cells = []
        for rule in rules:
            own, other = ({each["seed"]: each[rule] for each in runs[key] if rule in each} for key in (name, baseline))
            seeds = sorted(own.keys() & other.keys())
            cells.append(gain([own[seed] for seed in seeds], [other[seed] for seed in seeds]))
        print_row([name, *cells])


def gain(own: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> str:
    if len(own) < 2:
        return "-"
    gaps = np.array([one["mIoU"] - two["mIoU"] for one, two in zip(own, other, strict=True)])
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(gaps) - 1) * gaps.std(ddof=1) / math.sqrt(len(gaps)))
    mean = float(gaps.mean())
    first, second = ([Confusion.from_json(each["confusion"]) for each in side] for side in (own, other))
    # tallies of equal images add up, as if all seeds were one model
    how = bootstrap.Bootstrap(first[0].classes, level=LEVEL)
    drawn = bootstrap.differences(summed(first), summed(second), how)["miou"]
    return f"{mean:+.1f} [{mean - reach:+.1f}, {mean + reach:+.1f}] [{100 * drawn.low:+.1f}, {100 * drawn.high:+.1f}]"


def summed(confusions: Sequence[Confusion]) -> dict[str, NDArray[np.int64]]:
    return {name: np.concatenate([each.images[name] for each in confusions]) for name in confusions[0].images}


def spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    deviation = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{deviation}"


def print_row(cells: Sequence[str]) -> None:
    print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
