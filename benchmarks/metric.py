"""How long one 512 x 512 label map takes to enter the confusion matrix, beside torch.bincount and torchmetrics.

    python benchmarks/metric.py                      a table
    python benchmarks/metric.py --out metric.json    the numbers, with machine and commit

All ways must give the same matrix, or the script stops. One thread. "photograph" maps have the long runs of one class
that models and annotators produce; "noise" maps have none, which is the worst case.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import script
import torch
from numpy.typing import NDArray

from lexiseg.metrics.confusion import Confusion, count, unlabelled
from lexiseg.speed import measuring
from lexiseg.speed.measuring import Summary

SIDE = 512  # pixels
TARGET = 0.5  # milliseconds, for 171 classes: the bar
Maps = tuple[NDArray[Any], NDArray[Any]]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = script.parser(__doc__)
    parser.set_defaults(threads=1)
    parser.add_argument("--repeats", type=int, default=200, help="timed calls of each kind (default 200)")
    options = script.parse(parser, arguments)
    options.repeats = 3 if options.quick else options.repeats
    rows = []
    script.header("classes", "maps", "lexiseg", "torch.bincount", "torchmetrics", "bar")
    for classes in (21, 171, 847):
        for name, maps in (("photograph", photograph(classes)), ("noise", noise(classes))):
            ms = measure(maps, classes, options.repeats)
            bar = f"≤ {TARGET}" if classes == 171 else ""
            ways = ("lexiseg", "torch.bincount", "torchmetrics")
            script.row(classes, name, *(script.time(ms.get(way)) for way in ways), bar)
            rows.append({"side": SIDE, "classes": classes, "maps": name, "ms": ms})
    script.write(options, "milliseconds of one label map into the confusion matrix", rows)


def photograph(classes: int) -> Maps:
    """Truth of large patches with an ignored rim; a prediction that is shifted, with one patch wrong in five."""
    random = np.random.default_rng(0)
    dtype = np.min_scalar_type(unlabelled(classes))
    patches = random.integers(0, classes, (8, 8))
    guessed = np.where(random.random((8, 8)) < 0.2, random.integers(0, classes, (8, 8)), patches)
    tile = np.ones((SIDE // 8, SIDE // 8), int)
    truth, labels = np.kron(patches, tile), np.roll(np.kron(guessed, tile), 5, axis=(0, 1))
    truth[::64] = unlabelled(classes)
    return labels.astype(dtype), truth.astype(dtype)


def noise(classes: int) -> Maps:
    random = np.random.default_rng(0)
    dtype = np.min_scalar_type(unlabelled(classes))
    labels, truth = random.integers(0, classes, (2, SIDE, SIDE))
    truth[random.random(truth.shape) < 0.05] = unlabelled(classes)
    return labels.astype(dtype), truth.astype(dtype)


def measure(maps: Maps, classes: int, repeats: int) -> dict[str, Summary]:
    """Milliseconds of each way that is installed."""
    labels, truth = maps
    expected = count(labels, truth, classes)
    tensors = torch.from_numpy(labels.astype(np.int64)), torch.from_numpy(truth.astype(np.int64))
    assert np.array_equal(torch_bincount(*tensors, classes), expected[:, :-1])
    confusion = Confusion.empty(classes)
    names = (f"{index}" for index in range(10**9))
    ways = {
        "lexiseg": lambda: confusion.update(labels, truth, image=next(names)),
        "torch.bincount": lambda: torch_bincount(*tensors, classes),
    }
    if importlib.util.find_spec("torchmetrics") is not None:
        from torchmetrics.classification import MulticlassJaccardIndex

        metric = MulticlassJaccardIndex(num_classes=classes, average="macro", ignore_index=unlabelled(classes))
        metric.update(*tensors)
        assert np.array_equal(metric.confmat.numpy(), expected[:, :-1])
        ways["torchmetrics"] = lambda: metric.update(*tensors)
    return measuring.race(ways, repeats=repeats, warm_up=min(10, repeats))


def torch_bincount(labels: torch.Tensor, truth: torch.Tensor, classes: int) -> NDArray[np.int64]:
    """The usual few lines, for predictions that are all classes: [C, C]."""
    kept = truth != unlabelled(classes)
    cells = torch.bincount(truth[kept] * classes + labels[kept], minlength=classes**2)
    return cells.reshape(classes, classes).numpy()


if __name__ == "__main__":
    main()
