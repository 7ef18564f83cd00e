"""ZSSeg's rules for parameters reach what they name, and nothing that is alike by name."""

from __future__ import annotations

from fnmatch import fnmatchcase

from torch import nn

from lexiseg.methods import zsseg
from lexiseg.recipes.zsseg import RECIPE


def test_the_pixel_decoders_norms_have_no_decay_and_its_convolutions_do() -> None:
    network = zsseg.load(zsseg.VARIANTS["tiny"])
    rule = next(group for group in RECIPE.groups if group.weight_decay == 0.0)
    norms, convolutions = (
        {
            f"segmenter.{name}.{kind}"
            for name, module in network.named_modules()
            if isinstance(module, of) and ".fpn." in name
            for kind, _ in module.named_parameters()
        }
        for of in (nn.GroupNorm, nn.Conv2d)
    )
    decayed = {name for name in norms | convolutions if not any(fnmatchcase(name, glob) for glob in rule.names)}
    assert norms
    assert decayed == convolutions
