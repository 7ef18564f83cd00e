"""S-Seg's cost beside its network: clusters of a batch, matching, and a training step.

    python benchmarks/pseudo_masks.py                    128 pictures of 224 pixels, 64 queries, 8 parts, 6 layers
    python benchmarks/pseudo_masks.py --batch 16         an eighth of it

Clusters: K-means of a batch beside the features that it clusters (bar: 0.1 of their time), and beside scikit-learn, one
picture after the other, from the same start. Features of DINO ViT-S/8's shape with random weights, and of the embedded
CLIP. Matching: costs and assignment of all images and layers, beside transformers' matcher of MaskFormer, one layer and
one image at a time; and the assignment alone (bar: 1 ms an image). Step: S-Seg's losses and their gradients beside
the naive loop, scikit-learn's clusters, transformers' matcher and losses, on masks that are there already, with
features of the embedded CLIP (bar: 1.5); "on the grid" compares masks at their own size (`losses_at="grid"`).
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from typing import Any

import script
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans as SklearnKMeans
from torch import Tensor
from torch.nn import functional as F
from transformers import ViTConfig, ViTModel
from transformers.models.maskformer.modeling_maskformer import (
    MaskFormerHungarianMatcher,
    dice_loss,
    sigmoid_focal_loss,
)

from lexiseg.losses.matching import Costs, Targets
from lexiseg.losses.pseudo_masks import match_parts, part_losses
from lexiseg.proposals import kmeans
from lexiseg.proposals._features import TransformersFeatures
from lexiseg.speed import measuring

COSTS = Costs(0.0, 20.0, 1.0)
SHARE, MATCHING, STEP = 0.1, 1.0, 1.5  # the bars
DINO = ViTConfig(hidden_size=384, num_attention_heads=6, intermediate_size=1536, patch_size=8)
TINY = ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, patch_size=8)
WHAT = "pseudo-masks: clusters, matching, a step"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = script.parser(__doc__)
    parser.add_argument("--batch", type=int, default=128, help="pictures")
    parser.add_argument("--side", type=int, default=224, help="pixels")
    parser.add_argument("--queries", type=int, default=64)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    options = script.parse(parser, arguments)
    if options.quick:
        options.batch, options.side, options.queries, options.layers, options.repeats = 2, 32, 9, 2, 1
    rows: list[dict[str, Any]] = []
    script.header("features", "features, ms", "clusters, ms", "share", "bar", "scikit-learn, ms")
    for name, network in networks(options).items():
        ways = clusters(network, options)
        share = ways["clusters"]["median"] / ways["features"]["median"]
        times = [script.time(ways[each]) for each in ("features", "clusters")]
        script.row(name, *times, f"{share:.3f}", f"≤ {SHARE}", script.time(ways["scikit-learn"]))
        rows.append({"what": "clusters", "features": name, "batch": options.batch, "ms": ways})
        script.write(options, WHAT, rows)
    print()
    masks, parts = drawn(options)
    ways = matching(masks, parts, options)
    script.header("an image", "matching, ms", "transformers, ms", "assignment alone, ms", "bar")
    each = [ways[name]["median"] / options.batch for name in ("lexiseg", "transformers", "assignment")]
    script.row(f"{options.queries} x 8, {options.layers} layers", *(f"{one:.3f}" for one in each), f"≤ {MATCHING:g}")
    rows.append({"what": "matching", "batch": options.batch, "ms": ways})
    print()
    ways = steps(masks, parts, options)
    script.header("a step", "ms", "naive, ms", "times", "bar")
    for name in ("lexiseg", "on the grid"):
        taken = (ways[name], ways["naive"])
        script.row(name, *map(script.time, taken), script.ratio(taken[1], taken[0]), f"≥ {STEP}")
    rows.append({"what": "step", "batch": options.batch, "ms": ways})
    script.write(options, WHAT, rows)


def networks(options: argparse.Namespace) -> dict[str, kmeans.KMeans]:
    config = kmeans.Config(side=options.side)
    torch.manual_seed(0)
    vit = TransformersFeatures(ViTModel(TINY if options.quick else DINO, add_pooling_layer=False), "tokens")
    made = {"ViT-S/8, random": kmeans.KMeans(vit, config).eval().requires_grad_(False)}
    return {**made, "the embedded CLIP": kmeans.load(config)}


def pictures(options: argparse.Namespace) -> Tensor:
    coarse = torch.rand(options.batch, 3, 7, 7, generator=torch.Generator().manual_seed(1)) * 255
    return F.interpolate(coarse, size=(options.side, options.side), mode="bicubic").clamp(0, 255).to(torch.uint8)


def clusters(network: kmeans.KMeans, options: argparse.Namespace) -> dict[str, measuring.Summary]:
    given = pictures(options)
    cells = network.maps(given).flatten(2).mT
    return measuring.race(
        {
            "features": lambda: network.maps(given),
            "clusters": lambda: network.cluster(cells),
            "scikit-learn": lambda: one_by_one(cells),
        },
        repeats=options.repeats,
    )


def one_by_one(cells: Tensor) -> Tensor:
    """Scikit-learn's K-means, ten iterations from the start that lexiseg draws."""
    cells, found = F.normalize(cells, dim=2), []
    begin = kmeans.start(cells, 8, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ten iterations need not settle
        for one, start in zip(cells.numpy(), begin.numpy(), strict=True):
            found.append(torch.from_numpy(SklearnKMeans(8, init=start, n_init=1, max_iter=10).fit(one).labels_).long())
    return torch.stack(found)


def drawn(options: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Smooth masks [S, B, N, h, w] at a quarter of the picture, and parts [B, H, W]."""
    random, side = torch.Generator().manual_seed(2), options.side // 4
    coarse = 4 * torch.randn(options.layers * options.batch, options.queries, 4, 4, generator=random)
    masks = F.interpolate(coarse, size=(side, side), mode="bilinear")
    cells = torch.rand(options.batch, 8, 4, 4, generator=random)
    parts = F.interpolate(cells, size=(options.side, options.side), mode="bilinear").argmax(1)
    return masks.view(options.layers, options.batch, options.queries, side, side), parts


def matching(masks: Tensor, parts: Tensor, options: argparse.Namespace) -> dict[str, measuring.Summary]:
    covers = parts.shape[-2:]
    small = Targets.of_labels(parts, 8).at(masks.shape[-2:], covers)
    costs = torch.rand(options.layers * options.batch, options.queries, 8).numpy()
    return measuring.race(
        {
            "lexiseg": lambda: match_parts(masks, small, count=8, costs=COSTS),
            "transformers": lambda: [matched(layer, parts) for layer in masks],
            "assignment": lambda: [linear_sum_assignment(each) for each in costs],
        },
        repeats=options.repeats,
    )


def matched(masks: Tensor, parts: Tensor) -> list[tuple[Tensor, Tensor]]:
    """By the matcher of MaskFormer in transformers, which wants classes: one for all."""
    matcher: Any = MaskFormerHungarianMatcher(cost_class=1e-9, cost_mask=20.0, cost_dice=1.0)
    there = [each.unique() for each in parts]
    truth = [(each == numbers[:, None, None]).float() for each, numbers in zip(parts, there, strict=True)]
    found: list[tuple[Tensor, Tensor]] = matcher(
        masks, torch.zeros(*masks.shape[:2], 1), truth, [torch.zeros_like(each) for each in there]
    )
    return found


def steps(masks: Tensor, parts: Tensor, options: argparse.Namespace) -> dict[str, measuring.Summary]:
    """Clusters, matching, losses and gradients of the masks."""
    network = list(networks(options).values())[1]
    given = pictures(options)
    size = (options.side, options.side)

    def ours(*, on_grid: bool = False) -> None:
        labels = F.interpolate(network.labels(given)[:, None].float(), size, mode="nearest-exact")[:, 0].long()
        leaf = masks.clone().requires_grad_()
        found = part_losses(leaf, labels, size, count=8, costs=COSTS, on_grid=on_grid)
        (20 * found.focal.sum() + found.dice.sum()).div(found.parts.sum()).backward()

    def naive() -> None:
        cells = network.maps(given)
        side = cells.shape[-1]
        labels = one_by_one(cells.flatten(2).mT).view(len(given), 1, side, side)
        labels = F.interpolate(labels.float(), size, mode="nearest-exact")[:, 0].long()
        leaf, total = masks.clone().requires_grad_(), torch.zeros(())
        count = sum(len(each.unique()) for each in labels)
        for layer in leaf:
            for image, (queries, numbers) in enumerate(matched(layer.detach(), labels)):
                full = F.interpolate(layer[image, queries][None], size, mode="bilinear")[0].flatten(1)
                named = labels[image].unique()[numbers]
                truth = (labels[image] == named[:, None, None]).float().flatten(1)
                total = total + 20 * sigmoid_focal_loss(full, truth, count) + dice_loss(full, truth, count)
        total.backward()

    ways = {"lexiseg": ours, "on the grid": lambda: ours(on_grid=True), "naive": naive}
    return measuring.race(ways, repeats=options.repeats)


if __name__ == "__main__":
    main()
