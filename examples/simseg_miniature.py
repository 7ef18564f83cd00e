"""SimSeg's claim in miniature: the same photographs and steps with and without LoDA, and what goes wrong without.

    python examples/simseg_miniature.py --data DATA --out runs/simseg-miniature --minutes 15

Trains a CLIP on the miniature pairs, from scratch or from `--weights`, once per pooling and seed: by class token, by
the mean of all patches and words (both are "vanilla CLIP"), and by the mean of the k largest of each channel. Then it
measures

    mIoU        on held-out photographs with label maps: the paper's rule with and without the CRF, and the plain
                softmax over patch-word cosines with and without the CRF
    outside     problem 1: how much of the similarity between patches and a word lies outside the objects so named
    falls       problem 2: what the image-text score loses when words for objects, or as many words of the context,
                are taken out of a caption that a person wrote

A run that is finished is not done again, and one that was interrupted goes on, so the same command may be repeated.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lexiseg import catalog, files
from lexiseg.data.captions import nouns_and_verbs
from lexiseg.data.masked import IGNORE, MaskedPhotograph, MaskedSet, read_masked
from lexiseg.encoders.templates import templates
from lexiseg.inference.predictor import Predictor
from lexiseg.inference.preprocess import prepare
from lexiseg.methods.simseg import Config, similarity
from lexiseg.metrics import scores
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


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    steps = decide_steps(options)
    measured = read_measured(options)
    for seed in range(options.seeds):
        for name, settings in (VANILLA | LODA).items():
            if options.only and name not in options.only:
                continue
            out = options.out / f"{name}-seed-{seed}"
            if (out / "result.json").is_file():
                continue
            recipe = recipe_of(options, steps=steps, seed=seed, settings=settings)
            run = train(recipe, out, resume=True, tensorboard=False)
            if not run.finished:
                raise SystemExit("stopped; the same command goes on")
            result = {"pooling": name, "seed": seed, "steps": steps, "weights": options.weights, "losses": run.losses}
            result |= measure(out / "model", measured, size=options.size)
            files.write_text(out / "result.json", json.dumps(result, indent=2) + "\n")
    report(options.out)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with photos-train and masks-train")
    parser.add_argument("--out", type=Path, required=True, help="where runs and results go")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="of each run")
    length.add_argument("--minutes", type=float, help="of each run, turned into steps once, at the first start")
    parser.add_argument("--batch-size", type=int, default=MINI.batch_size)
    parser.add_argument("--weights", help="a CLIP to start from, for example asset:mini-clip; none: from scratch")
    parser.add_argument("--rate", type=float, default=MINI.optimiser.rate, help="learning rate")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help=f"of {', '.join(VANILLA | LODA)}")
    parser.add_argument("--cache", type=Path, help="a folder for decoded photographs, 2.3 GB")
    parser.add_argument("--shards", nargs="*", default=[], help="beginnings of the photo shards to train on")
    parser.add_argument("--part", choices=("held_out", "val"), default="held_out", help="masks to measure on")
    parser.add_argument("--limit", type=int, help="photographs of each kind to measure on")
    parser.add_argument("--size", type=int, default=192, help="side of what the network sees when it segments, pixels")
    return parser.parse_args(arguments)


def recipe_of(options: argparse.Namespace, *, steps: int, seed: int, settings: dict[str, Any]) -> Recipe:
    pairs = dataclasses.replace(MINI.data.pairs, shards=tuple(options.shards))
    cache = None if options.cache is None else str(options.cache)
    start: dict[str, Any] = {"config": dataclasses.replace(MINI.config, **settings)}
    if options.weights is not None:
        start = {"model": "simseg/custom", "weights": options.weights, "config": Config(**settings)}
    return dataclasses.replace(
        MINI,
        **start,
        optimiser=dataclasses.replace(MINI.optimiser, rate=options.rate),
        data=dataclasses.replace(MINI.data, root=str(options.data), cache=cache, pairs=pairs),
        steps=steps,
        batch_size=options.batch_size,
        seed=seed,
    )


def decide_steps(options: argparse.Namespace) -> int:
    """The same for all runs, also of later starts of this script in the same folder."""
    path = options.out / "steps.json"
    if path.is_file():
        return int(json.loads(path.read_text())["steps"])
    steps = options.steps or MINI.steps
    if options.minutes is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        cost = dry_run(recipe_of(options, steps=1, seed=0, settings=LODA["image-5-text-1"]), options.out)
        steps = max(1, int(options.minutes * 60 / cost.stages[0].seconds_per_step))
    files.write_text(path, json.dumps({"steps": steps}) + "\n")
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


def measure(model: Path, measured: Measured, *, size: int) -> dict[str, Any]:
    """All numbers of one trained model."""
    shared = {"size": (size, size), "templates": "vild14"}
    result: dict[str, Any] = {}
    for rule, (config, inference) in RULES.items():
        segmenter, how = catalog.load(model, **shared, **config, **inference)
        result[rule] = segmentation(Predictor(segmenter, how, name=str(model)), measured)
    segmenter, how = catalog.load(model, **shared, rule="dense")
    result["problem 1"] = outside(segmenter, how, measured)
    result["problem 2"] = falls(segmenter, how, measured)
    return result


def segmentation(predictor: Predictor, measured: Measured) -> dict[str, float]:
    """mIoU and pixel accuracy, in %. MSRC scores no background, so a pixel that nothing claims is a miss."""
    words = Vocabulary([each.names for each in measured.masked.classes], shared_words=True)
    confusion = Confusion.empty(len(words))
    for photograph in measured.photographs:
        found = predictor.segment(photograph.image(), words, scores=False, keep_image=False)
        confusion.update(found.labels, photograph.truth(), image=photograph.key)
    tallies = confusion.tallies
    return {"mIoU": 100 * float(scores.mean_iou(tallies)), "accuracy": 100 * float(scores.pixel_accuracy(tallies))}


@torch.inference_mode()
def outside(segmenter: Any, inference: Inference, measured: Measured) -> dict[str, float]:
    """The share of a word's similarity map that lies outside the objects of that name; means over images and words.

    A map is stretched from 0 to 1 over its image, as the paper's rule does it. `flat` is what a map without any
    contrast has outside, `ratio` the one over the other: below 1 the map points at the object, above it elsewhere.
    """
    names = [each.names[0] for each in measured.masked.classes]
    classifier = segmenter.embed_text(Vocabulary(names, shared_words=True), templates(inference.templates))
    shares, flat = [], []
    for photograph in measured.photographs:
        image = prepare(photograph.image(), inference)
        maps = similarity(segmenter.embed_image(image[None]), classifier)[0].numpy()  # [Q, h, w]
        truth = photograph.truth()
        for at in present(photograph):
            low, high = maps[at].min(), maps[at].max()
            spread = _to_size((maps[at] - low) / max(high - low, 1e-9), truth.shape)
            known, object_ = truth != IGNORE, truth == at
            shares.append(float(spread[known & ~object_].sum() / max(spread[known].sum(), 1e-9)))
            flat.append(float((known & ~object_).sum() / known.sum()))
    return {
        "outside": float(np.mean(shares)),
        "flat": float(np.mean(flat)),
        "ratio": float(np.mean(shares) / np.mean(flat)),
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
    """A table of means over seeds, with the standard deviation of the mIoU."""
    results = [json.loads(path.read_text()) for path in sorted(out.glob("*/result.json"))]
    header = [*RULES, "outside / flat", "fall objects", "fall context"]
    print(f"{'pooling':24}" + "".join(f"{title:>16}" for title in header))
    for name in VANILLA | LODA:
        own = [each for each in results if each["pooling"] == name]
        if not own:
            continue
        cells = []
        for rule in RULES:
            values = [each[rule]["mIoU"] for each in own]
            cells.append(f"{np.mean(values):.1f} ± {np.std(values):.1f}")
        cells.append(f"{np.mean([each['problem 1']['ratio'] for each in own]):.3f}")
        for kind in ("objects", "context"):
            cells.append(f"{np.mean([each['problem 2'][f'fall without {kind}'] for each in own]):.4f}")
        print(f"{name:24}" + "".join(f"{cell:>16}" for cell in cells))
    files.write_text(out / "results.json", json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
