"""The engine on lexiseg's own data: drawn scenes with captions, prepared by workers, resumed in mid-epoch."""

from __future__ import annotations

import dataclasses
import signal

import torch
import toy
from torch import nn
from torch.nn import functional

from lexiseg.data.opening import Workers
from lexiseg.data.scene_data import ScenePairData
from lexiseg.data.scenes import COLOURS, Scenes
from lexiseg.data.transforms import PairAugmentation
from lexiseg.training.building import Built
from lexiseg.training.recipe import Optimiser
from lexiseg.training.train import train

DATA = ScenePairData(scenes=Scenes(count=50, size=32), augmentation=PairAugmentation(size=32))
RECIPE = toy.recipe(data=DATA, model="scenes", steps=20, batch_size=8, cache=4, optimiser=Optimiser(rate=0.003))


class Colours(nn.Module):
    """Which colours a caption names, against the mean colour of coarse cells of the picture."""

    def __init__(self):
        super().__init__()
        self.segmenter = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 16))
        self.words = nn.Linear(len(COLOURS), 16)

    def embed(self, batch):
        named = torch.tensor([[float(colour in text) for colour in COLOURS] for text in batch["texts"]])
        return self.segmenter(batch["images"] / 255), self.words(named)

    def loss(self, images, texts):
        logits = 10 * functional.normalize(images, dim=-1) @ functional.normalize(texts, dim=-1).T
        return {"contrast": functional.cross_entropy(logits, torch.arange(len(logits)))}

    def forward(self, batch):
        return self.loss(*self.embed(batch))


def _build(*, stop_at=None):
    def build(recipe):
        objective = Colours()
        objective.before_step = lambda step: step == stop_at and signal.raise_signal(signal.SIGTERM)

        def save(folder):
            toy.save_file(dict(objective.segmenter.state_dict()), folder / "model.safetensors")

        return Built(objective, save)

    return build


def test_workers_and_interruptions_change_nothing(tmp_path):
    train(RECIPE, tmp_path / "whole", build=_build(), tensorboard=False)
    threads = dataclasses.replace(RECIPE, data=dataclasses.replace(DATA, workers=Workers(2, "threads")))
    stopped = train(threads, tmp_path / "parts", build=_build(stop_at=8), tensorboard=False)  # in the second epoch
    assert (stopped.finished, stopped.step) == (False, 9)
    train(RECIPE, tmp_path / "parts", build=_build(), tensorboard=False, resume=True)
    assert toy.model_bytes(tmp_path / "parts") == toy.model_bytes(tmp_path / "whole")
