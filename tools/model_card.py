"""Every number and picture of an embedded CLIP's model card, in one go.

    python tools/model_card.py --data DATA --out cards/new --weights runs/joined
    python tools/model_card.py --data DATA --out cards/new --weights runs/joined --quick

Writes card.json with all numbers, card.md with the tables and the commands, and two JPEGs. What is finished is not done
again, so the same command goes on where it was interrupted. Parts:

    masks-val       22 words at once, and each photograph's own words, through `lexiseg evaluate`
    held-out        the photographs of masks-train that `data.mini.concept_crops.kept_aside` keeps from training, alike
    unseen-words    the 22 classes called by words that the model was not trained with
    photographs     tiny-imagenet val, top-1 by the class token and by the mean of the patches
    words           where words without photographs land, see card_words.py
    speed           a 256-pixel photograph and 22 words on one thread
    twelve, demos   sheets of photographs, see card_pictures.py

--quick chooses between candidates: it looks at every 20th photograph of tiny-imagenet, and at held-out photographs in
place of masks-val, which is for those that could ship.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import shlex
import statistics
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import card_pictures
import card_text
import card_words
import numpy as np
import torch
from scipy.stats import binomtest
from torch import Tensor
from torch.nn import functional

from lexiseg import files, settings
from lexiseg.benchmarks import _benchmark
from lexiseg.benchmarks._benchmark import Opened
from lexiseg.data.mini.concept_crops import kept_aside
from lexiseg.data.mini.sheets import read_sheets
from lexiseg.encoders.weights import find
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.inference.fingerprint import weights_digest
from lexiseg.inference.predictor import Predictor, load
from lexiseg.layers import pixels
from lexiseg.methods.maskclip import VARIANTS
from lexiseg.metrics.bootstrap import Interval
from lexiseg.provenance import environment

HELD_OUT = {"MSRC": ("msrc-even",), "COCO": ("coco-train2017-panoptic", "coco-train2017-things")}
QUICK = 20  # every so manyth photograph of tiny-imagenet
SIZES = {64: 1, 128: 10, 192: 10}  # sides they are shown at, pixels, and every so manyth without --quick
AT_ONCE = 50  # photographs in one forward
TIMED = 20


@dataclasses.dataclass(frozen=True)
class Card:
    """What the card is about. model: reads a CLIP's weights; changes: settings of it, by name."""

    data: Path
    out: Path
    model: str = "maskclip/mini"
    weights: str | None = None
    quick: bool = False
    changes: dict[str, str] = dataclasses.field(default_factory=dict)

    @cached_property
    def predictor(self) -> Predictor:
        return load(self.model, weights=self.weights, dtype="fp32", text_cache=False, **self.changes)

    @cached_property
    def known(self) -> card_words.Known:
        return card_words.read_known(self.weights or str(VARIANTS["mini"].weights))

    @cached_property
    def scenes(self) -> Path:
        """The photographs of MSRC to look at: masks-val, or held-out ones where that is not to be looked at."""
        return self.held_out("MSRC") if self.quick else self.data / "masks-val"

    def held_out(self, name: str) -> Path:
        """The kept part of shards of masks-train as a folder of its own, so that `lexiseg evaluate` reads it."""
        folder = self.out / f"held-out-{name}"
        if not (folder / "classes.json").is_file():
            shards = [each for each in HELD_OUT[name] if (self.data / "masks-train" / f"{each}.tar").is_file()]
            for shard in shards:
                content = _part_of(self.data / "masks-train" / f"{shard}.tar", shard)
                files.write_bytes(folder / f"{shard}.tar", content)
            files.write_bytes(folder / "classes.json", (self.data / "masks-train" / "classes.json").read_bytes())
        return folder

    def scored(self, name: str, data: Path) -> dict[str, Any]:
        """Scores and baselines in %, with the command that gives them."""
        command = ["lexiseg", "evaluate", self.model, "--on", "folder", "--data", str(data), "--own-words"]
        command += [] if self.weights is None else ["--weights", self.weights]
        command += [part for key, value in self.changes.items() for part in ("--set", f"{key}={value}")]
        result = evaluate(
            self.model, "folder", data=data, weights=self.weights, own_words=True,
            out=self.out / f"{name}.json", resume=True, **self.changes,
        )  # fmt: skip
        content = {
            "command": shlex.join(command),
            "photographs": result.images,
            "words": len(result.classes),
            "all words": _percent(result.scores, result.baselines),
            "by class": {word: round(100 * score.iou, 1) for word, score in result.classes.items()},
        }
        if (own := result.own_words) is not None:
            content["own words"] = {"photographs": own.images, **_percent(own.scores, own.baselines)}
        return content


def main(arguments: Sequence[str] | None = None) -> None:
    card, wanted = parse(arguments)
    facts = {"weights": weights_digest(card.predictor.segmenter), "quick": card.quick, **card.predictor.settings}
    parts = {name: finish(card, name, facts) for name in wanted}
    content = {"facts": facts, "size_bytes": _size(card), "environment": environment(), "parts": parts}
    files.write_text(card.out / "card.json", json.dumps(content, indent=1) + "\n")
    text = card_text.markdown(content)
    files.write_text(card.out / "card.md", text)
    print(text)


def finish(card: Card, name: str, facts: dict[str, Any]) -> dict[str, Any]:
    """What the part `name` found, now or before."""
    path = card.out / "parts" / f"{name}.json"
    if path.is_file():
        before: dict[str, Any] = json.loads(path.read_text())
        if before["facts"] != facts:
            raise SystemExit(f"{path} is of other weights or settings; name another --out")
        return before
    start = time.perf_counter()
    found = PARTS[name](card)
    content = {"facts": facts, "seconds": round(time.perf_counter() - start, 1), **found}
    files.write_text(path, json.dumps(content, indent=1) + "\n")
    return content


def parse(arguments: Sequence[str] | None) -> tuple[Card, tuple[str, ...]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with masks-val, masks-train, photos-val")
    parser.add_argument("--out", type=Path, required=True, help="a folder for the card")
    parser.add_argument("--model", default="maskclip/mini")
    parser.add_argument("--weights", help="the folder of an embedded CLIP; none: the one that ships")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="settings, prompts=single ...")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--parts", nargs="*", choices=PARTS, help="[default: all, without masks-val if --quick]")
    options = parser.parse_args(arguments)
    default = [name for name in PARTS if not (options.quick and name == "masks-val")]
    card = Card(options.data, options.out, options.model, options.weights, options.quick, settings.parse(options.set))
    return card, tuple(options.parts or default)


def masks_val(card: Card) -> dict[str, Any]:
    return card.scored("masks-val", card.data / "masks-val")


def of_held_out(card: Card) -> dict[str, Any]:
    return {name: card.scored(f"held-out-{name}", card.held_out(name)) for name in HELD_OUT}


def unseen_words(card: Card) -> dict[str, Any]:
    """The photographs of `Card.scenes` twice: classes by their first names, and by words that are nobody's name."""
    opened = _benchmark.open("folder", card.scenes, wording="first")
    words = card_words.renamed(card.known, list(opened.names))
    listed = json.loads((card.scenes / "classes.json").read_text())
    found: dict[str, Any] = {"words": words}
    for title, chosen in (("seen", {}), ("unseen", words)):
        folder = card.out / f"{title}-words"
        classes = [
            {**one, "name": chosen.get(one["name"], one["name"]), "synonyms": []}
            for one in listed["classes"]
            if one["name"] in opened.names
        ]
        for shard in card.scenes.glob("*.tar"):
            files.write_bytes(folder / shard.name, shard.read_bytes())
        files.write_text(folder / "classes.json", json.dumps({**listed, "classes": classes}))
        found[title] = card.scored(f"{title}-words", folder)
    return found


@torch.inference_mode()
def photographs(card: Card) -> dict[str, Any]:
    """Top-1 in %, the class called by its first name or by the nearest of all its names, at several sizes."""
    tiles = read_sheets(card.data / "photos-val")
    clip = card.predictor.segmenter.clip
    names = [(name, at) for at, sheet in enumerate(tiles.sheets) for name in dict.fromkeys(sheet.names)]
    vectors = clip.embed_words([name for name, _ in names], card.predictor.prompts)
    of_name = torch.tensor([at for _, at in names])
    _, first = np.unique(of_name, return_index=True)
    hits: dict[str, list[bool]] = {}
    for size, step in SIZES.items():
        chosen = np.arange(0, len(tiles), QUICK if card.quick else step)
        for places in np.array_split(chosen, -(-len(chosen) // AT_ONCE)):
            images = _images(np.stack([tiles.photograph(int(at)) for at in places]), size)
            truth = torch.from_numpy(tiles.sheet[places])
            for title, features in _features(card.predictor.segmenter, images).items():
                by_first = (features @ vectors[first].T).argmax(dim=1) == truth
                by_any = of_name[(features @ vectors.T).argmax(dim=1)] == truth
                for wording, right in (("first name", by_first), ("all names", by_any)):
                    hits.setdefault(f"{title}, {size} pixels, {wording}", []).extend(right.tolist())
    top = {title: {"photographs": len(right), "score": _share(sum(right), len(right))} for title, right in hits.items()}
    return {"classes": len(tiles.sheets), "top-1": top}


def _images(photographs: Any, size: int) -> Tensor:
    """uint8 [B, H, W, 3] to uint8 [B, 3, size, size]."""
    images = torch.from_numpy(photographs).permute(0, 3, 1, 2)
    if images.shape[-1] == size:
        return images
    return functional.interpolate(images, (size, size), mode="bilinear", antialias=True)


def _features(segmenter: Any, images: Tensor) -> dict[str, Tensor]:
    """Unit vectors of the class token, and the mean of the patches' unit vectors [B, D]."""
    clip = segmenter.clip
    patches = functional.normalize(segmenter.embed_image(images).features, dim=1)
    normalised = pixels.normalise(images, (clip.mean, clip.std), pixels.dtype_of(clip.vision))
    return {
        "class token": functional.normalize(clip.image_features(normalised), dim=-1),
        "patches": patches.mean(dim=(2, 3)),
    }


def words(card: Card) -> dict[str, Any]:
    nouns = card.data / "words" / "wordnet-noun-synsets.txt"
    return card_words.measure(card.predictor.segmenter.clip, card.known, nouns, prompts=card.predictor.prompts)


def speed(card: Card) -> dict[str, Any]:
    """Milliseconds of `segment` as it is by default, words known, one thread: the clock's and the processor's."""
    opened = _open(card)
    predictor = load(card.model, weights=card.weights, text_cache=False, **card.changes)
    image, threads = opened.samples[0].image(), torch.get_num_threads()
    torch.set_num_threads(1)
    clock, processor = [], []
    try:
        for turn in range(-3, TIMED):
            start, begun = time.perf_counter(), time.process_time()
            predictor.segment(image, opened.vocabulary)
            if turn >= 0:
                clock.append(1e3 * (time.perf_counter() - start))
                processor.append(1e3 * (time.process_time() - begun))
    finally:
        torch.set_num_threads(threads)
    return {
        "photograph": f"{image.shape[1]}x{image.shape[0]}",
        "words": len(opened.vocabulary),
        "precision": predictor.settings["dtype"],
        "median ms": round(statistics.median(clock), 1),
        "least ms": round(min(clock), 1),
        "median processor ms": round(statistics.median(processor), 1),
    }


def twelve(card: Card) -> dict[str, Any]:
    return card_pictures.twelve(card.predictor, _open(card), card.out / "twelve.jpg")


def demos(card: Card) -> dict[str, Any]:
    return card_pictures.demos(card.predictor, card.out / "demos.jpg")


PARTS: dict[str, Callable[[Card], dict[str, Any]]] = {
    "masks-val": masks_val,
    "held-out": of_held_out,
    "unseen-words": unseen_words,
    "photographs": photographs,
    "words": words,
    "speed": speed,
    "twelve": twelve,
    "demos": demos,
}


def _open(card: Card) -> Opened:
    return _benchmark.open("folder", card.scenes)


def _part_of(path: Path, shard: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(path, "r:") as source, tarfile.open(fileobj=content, mode="w") as target:
        for member in source:
            if kept_aside(f"{shard}/{member.name.partition('.')[0]}"):
                target.addfile(member, source.extractfile(member))
    return content.getvalue()


def _size(card: Card) -> int:
    return (find(card.weights or str(VARIANTS["mini"].weights)) / "model.safetensors").stat().st_size


def _percent(scores: Mapping[str, Interval], guesses: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Scores with their intervals and those of labels that know nothing, in %."""
    wanted = ("miou", "pixel_accuracy")
    found: dict[str, Any] = {
        name: [round(100 * value, 2) for value in (scores[name].value, scores[name].low, scores[name].high)]
        for name in wanted
    }
    rows = {title: {name: round(100 * row[name], 2) for name in wanted} for title, row in guesses.items()}
    return {**found, "guesses": rows}


def _share(hits: int, of: int) -> list[float]:
    """In %, with the 95 % interval of Wilson (1927)."""
    bounds = binomtest(hits, of).proportion_ci(method="wilson")
    return [round(100 * value, 2) for value in (hits / of, bounds.low, bounds.high)]


if __name__ == "__main__":
    main()
