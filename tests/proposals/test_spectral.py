"""Spectral clustering: its ties one by one, the cut of two parts beside numpy's, and what it does to pictures."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lexiseg.errors import MissingDependency, SettingError
from lexiseg.proposals import spectral
from lexiseg.proposals.spectral import Config, affinity


def squares(batch: int = 2, side: int = 64) -> Tensor:
    """Two halves of colours of their own, with a little noise."""
    random = torch.Generator().manual_seed(0)
    colours = torch.tensor([[[30, 200], [30, 200], [40, 60]]]).float().view(1, 3, 1, 2).repeat(batch, 1, side, 1)
    halves = colours.repeat_interleave(side // 2, 3)
    return (halves + 5 * torch.randn(halves.shape, generator=random)).clamp(0, 255).to(torch.uint8)


def test_ties_are_those_of_shi_and_malik() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (4, 5, 3), np.uint8)
    config = Config(k=2, colour=0.2, place=1.5, radius=2.0)
    found = affinity(rgb, config)
    for one in range(20):
        for other in range(20):
            (y, x), (v, u) = divmod(one, 5), divmod(other, 5)
            apart = (y - v) ** 2 + (x - u) ** 2
            unlike = ((rgb[y, x].astype(float) - rgb[v, u]) ** 2).sum() / 255**2
            wanted = np.exp(-unlike / 0.2**2) * np.exp(-apart / 1.5**2) if apart <= 4 else 0.0
            assert found[one, other] == pytest.approx(wanted, abs=1e-12)


def test_two_parts_are_cut_by_the_sign_of_the_second_eigenvector() -> None:
    """Of the normalised Laplacian, by numpy."""
    config = Config(k=2, side=64, shrink=8, colour=0.5)  # so that the parts are tied, and one vector tells them apart
    picture = squares(1)
    labels = spectral.load(config).labels(picture)[0].numpy()
    small = torch.nn.functional.interpolate(picture, (8, 8), mode="bilinear", antialias=True)[0]
    ties = affinity(small.permute(1, 2, 0).numpy(), config)
    scale = 1 / np.sqrt(ties.sum(1))
    _, vectors = np.linalg.eigh(np.eye(64) - scale[:, None] * ties * scale)
    side = ((vectors[:, 1] * scale) > 0).reshape(8, 8)
    assert (labels.astype(bool) == side).all() or (labels.astype(bool) != side).all()
    assert len(np.unique(labels[:, :4])) == len(np.unique(labels[:, 4:])) == 1


def test_pictures_of_a_batch_do_not_mix_and_the_same_comes_out_twice() -> None:
    proposer = spectral.load(Config(k=4, side=64))
    images = torch.cat([squares(1), squares(1).flip(3), torch.full((1, 3, 64, 64), 9, dtype=torch.uint8)])
    together = proposer.labels(images)
    assert torch.equal(together, proposer.labels(images))
    for place in range(3):
        assert torch.equal(proposer.labels(images[place, None])[0], together[place])
    found = proposer.propose(images)
    assert found.valid.sum(1).tolist()[2] == 1  # a picture of one colour is one part
    assert (found.of_image(0, (64, 64)) > 0.5).sum(0).float().mean() > 0.9


def test_a_mistake_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("k", "side", "shrink", "seed", "colour", "place", "radius"):
        with pytest.raises(SettingError, match=f"{name} must be"):
            Config(**{name: -1})
    with pytest.raises(SettingError, match="raise side"):
        Config(k=8, side=16)
    real = builtins.__import__

    def missing(name: str, *more: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingDependency, match=r"lexiseg\[proposals\]"):
        spectral.load(Config())
