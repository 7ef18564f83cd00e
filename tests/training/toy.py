"""Objectives and data small enough to train in milliseconds, and recipes for them."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from lexiseg.training.building import Built
from lexiseg.training.recipe import Optimiser, Recipe

torch.set_num_threads(1)  # for tensors this small, threads only wait for each other


@dataclass(frozen=True)
class ToyData:
    """Points [4] and their classes, in an order of (seed, epoch); batch number `nan_at` holds a NaN."""

    samples: int = 37
    nan_at: tuple[int, ...] = ()
    delay: float = 0.0  # seconds a batch
    last: int | None = None  # batches before the stream ends

    def open(self, *, batch_size: int, seed: int, max_bad_fraction: float) -> ToySource:
        return ToySource(self, batch_size, seed)


class ToySource:
    def __init__(self, data: ToyData, batch_size: int, seed: int) -> None:
        self.data, self.batch_size, self.seed = data, batch_size, seed
        self.skipped: Counter[str] = Counter()
        generator = torch.Generator().manual_seed(5)
        self.points = torch.randn(data.samples, 4, generator=generator)
        self.labels = (self.points @ torch.randn(4, 3, generator=generator)).argmax(1)

    @property
    def samples_per_epoch(self) -> int:
        return self.data.samples

    def manifest(self) -> dict[str, Any]:
        return {"samples": self.data.samples, "hash": hashlib.sha256(self.points.numpy().tobytes()).hexdigest()}

    def stream(self, position, *, rank: int, world: int):
        number = 0 if position is None else position["batch"]
        while self.data.last is None or number < self.data.last:
            time.sleep(self.data.delay)
            first = (number * world + rank) * self.batch_size
            index = [self._sample(place) for place in range(first, first + self.batch_size)]
            points = self.points[index].clone()
            if number in self.data.nan_at:
                points[0, 0] = float("nan")
            number += 1
            batch = {"points": points, "labels": self.labels[index], "keys": [f"sample {i}" for i in index]}
            yield batch, {"batch": number}

    def _sample(self, place: int) -> int:
        epoch, place = divmod(place, self.data.samples)
        return int(np.random.default_rng([self.seed, epoch]).permutation(self.data.samples)[place])


class Classifier(nn.Module):
    """The toy's segmenter."""

    def __init__(self, *, dropout: float = 0.0, norm: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(4, 16)
        self.norm = nn.BatchNorm1d(16) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Linear(16, 3)

    def forward(self, points):
        return self.second(self.dropout(functional.gelu(self.norm(self.first(points)))))


class Plain(nn.Module):
    """Cross-entropy, and a small pull on the logits as a second named loss."""

    def __init__(self, *, dropout: float = 0.1, norm: bool = True) -> None:
        super().__init__()
        self.segmenter = Classifier(dropout=dropout, norm=norm)
        self.steps_seen: list[int] = []

    def before_step(self, step: int) -> None:
        self.steps_seen.append(step)

    def forward(self, batch):
        logits = self.segmenter(batch["points"]).float()
        return {"classes": functional.cross_entropy(logits, batch["labels"]), "size": 1e-3 * logits.square().mean()}


class Unused(Plain):
    """One of its layers has no part in the loss of every other step."""

    def __init__(self) -> None:
        super().__init__(dropout=0.0, norm=False)
        self.extra = nn.Linear(3, 1)

    def forward(self, batch):
        losses = super().forward(batch)
        if self.steps_seen[-1] % 2:
            losses["size"] = losses["size"] + self.extra(self.segmenter(batch["points"])).square().mean()
        return losses


class Counted(Plain):
    """A sum over the samples of one class, divided by how many the whole step has: no mean over the batch."""

    def __init__(self) -> None:
        super().__init__(dropout=0.0, norm=False)

    def before_batch(self, batch, average) -> None:
        self.count = average((batch["labels"] == 0).sum().float()).clamp(min=1)
        self.samples = len(batch["labels"])

    def forward(self, batch):
        labels, share = batch["labels"], len(batch["labels"]) / self.samples
        each = functional.cross_entropy(self.segmenter(batch["points"]).float(), labels, reduction="none")
        return {"counted": each[labels == 0].sum() / (self.count * share)}


class Contrastive(nn.Module):
    """Points against linear views of themselves, with a learned scale."""

    def __init__(self, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.segmenter = Classifier(dropout=dropout)
        self.other = nn.Linear(4, 3)
        self.scale = nn.Parameter(torch.tensor(1.0))

    def embed(self, batch):
        points = batch["points"]
        return self.segmenter(points), self.other(points), batch["labels"]

    def loss(self, left, right, labels):
        left, right = functional.normalize(left, dim=-1), functional.normalize(right, dim=-1)
        logits = self.scale.exp() * left @ right.T
        same = (labels[:, None] == labels).float()
        target = same / same.sum(1, keepdim=True)
        both = functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
        return {"contrast": both / 2}

    def forward(self, batch):
        return self.loss(*self.embed(batch))

    def after_step(self, step: int) -> None:
        with torch.no_grad():
            self.scale.clamp_(max=4.6)


MAKERS = {
    "plain": Plain,
    "still": lambda: Plain(dropout=0.0, norm=False),
    "unused": Unused,
    "counted": Counted,
    "contrast": Contrastive,
    "contrast-dropout": lambda: Contrastive(dropout=0.3),
}


@dataclass(frozen=True)
class Training:
    """kind: "plain", "still" (no dropout, no normalisation), "contrast" ..."""

    kind: str = "plain"

    def build(self, segmenter: Any, *, teacher: Any = None) -> nn.Module:
        return MAKERS[self.kind]()


def build(recipe: Recipe) -> Built:
    """What the recipe's objective makes, which needs no segmenter."""
    objective = recipe.objective.build(None)

    def save(folder: Path) -> None:
        save_file(dict(objective.segmenter.state_dict()), folder / "model.safetensors")

    return Built(objective, save)


def recipe(**changes: Any) -> Recipe:
    """model: "toy/KIND" says which objective it is."""
    settings = {
        "model": "toy/plain",
        "objective": Training(changes.get("model", "toy/plain").partition("/")[2]),
        "data": ToyData(),
        "steps": 12,
        "batch_size": 8,
        "optimiser": Optimiser(rate=0.01),
        "checkpoint_every": 4,
        "log_every": 3,
    }
    return Recipe(**{**settings, **changes})


def model_bytes(out: Path) -> bytes:
    return (out / "model" / "model.safetensors").read_bytes()


def model_weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model" / "model.safetensors")
