"""How long one 512 x 512 label map takes to enter the confusion matrix, beside torch.bincount and torchmetrics.

    python benchmarks/metric.py                      a table
    python benchmarks/metric.py --out metric.json    the numbers, with machine and commit

All ways must give the same matrix, or the script stops. One thread. "photograph" maps have the long runs of one class
that models and annotators produce; "noise" maps have none, which is the worst case.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lexiseg import files
from lexiseg.metrics.confusion import Confusion, count, unlabelled

SIDE = 512  # pixels
TARGET = 0.5  # milliseconds, for 171 classes
Maps = tuple[NDArray[Any], NDArray[Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200, help="timed calls of each kind (default 200)")
    parser.add_argument("--out", type=Path, help="write the numbers to this JSON file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        {"classes": classes, "maps": name, "way": way, **timing}
        for classes in (21, 171, 847)
        for name, maps in (("photograph", photograph(classes)), ("noise", noise(classes)))
        for way, timing in measure(maps, classes, options.repeats).items()
    ]
    for row in rows:
        timing = row.get("note") or f"{row['median_ms']:8.3f} ms  (min {row['min_ms']:.3f}, p90 {row['p90_ms']:.3f})"
        print(f"{row['classes']:4d} classes  {row['maps']:10}  {row['way']:14}  {timing}")
    if options.out:
        report = {"what": "confusion matrix of one label map", "side": SIDE, "target_ms": TARGET, **circumstances()}
        files.write_text(options.out, json.dumps({**report, "rows": rows}, indent=2) + "\n")


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


def measure(maps: Maps, classes: int, repeats: int) -> dict[str, dict[str, Any]]:
    labels, truth = maps
    expected = count(labels, truth, classes)
    tensors = torch.from_numpy(labels.astype(np.int64)), torch.from_numpy(truth.astype(np.int64))
    assert np.array_equal(torch_bincount(*tensors, classes), expected[:, :-1])
    confusion = Confusion.empty(classes)
    names = (f"{index}" for index in range(10**9))
    found = {
        "lexiseg": timed(lambda: confusion.update(labels, truth, image=next(names)), repeats),
        "torch.bincount": timed(lambda: torch_bincount(*tensors, classes), repeats),
    }
    if importlib.util.find_spec("torchmetrics") is None:
        return {**found, "torchmetrics": {"note": "not installed"}}
    from torchmetrics.classification import MulticlassJaccardIndex

    metric = MulticlassJaccardIndex(num_classes=classes, average="macro", ignore_index=unlabelled(classes))
    metric.update(*tensors)
    assert np.array_equal(metric.confmat.numpy(), expected[:, :-1])
    return {**found, "torchmetrics": timed(lambda: metric.update(*tensors), repeats)}


def torch_bincount(labels: torch.Tensor, truth: torch.Tensor, classes: int) -> NDArray[np.int64]:
    """The usual few lines, for predictions that are all classes: [C, C]."""
    kept = truth != unlabelled(classes)
    cells = torch.bincount(truth[kept] * classes + labels[kept], minlength=classes**2)
    return cells.reshape(classes, classes).numpy()


def timed(call: Callable[[], object], repeats: int, *, warm_up: int = 10) -> dict[str, float]:
    for _ in range(warm_up):
        call()
    milliseconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        milliseconds.append((time.perf_counter() - start) * 1e3)
    p90 = statistics.quantiles(milliseconds, n=10)[-1]
    return {
        "median_ms": round(statistics.median(milliseconds), 4),
        "min_ms": round(min(milliseconds), 4),
        "p90_ms": round(p90, 4),
    }


def circumstances() -> dict[str, Any]:
    here = Path(__file__).parent
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    return {
        "command": " ".join(["python", "benchmarks/metric.py", *sys.argv[1:]]),
        "commit": commit.stdout.strip() or "unknown",
        "machine": processor(),
        "threads": 1,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.lower().startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
