"""Reads SegCLIP's released checkpoint.

It is a CLIP in OpenAI's layout whose image tower is cut in two by a group module.

The known names are in docs/papers/segclip.md §3.9. Inside the group module only some are; the others are told by their
shapes, of which no two are alike. Letters: G centres, W width.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from lexiseg.encoders.clip_shape import ClipShape
from lexiseg.errors import WeightsError

__all__ = ["Released", "SegClipShape", "is_released", "split"]

GROUPING = "semantic_layer2."
FIRST, THIRD = r"visual\.transformer\.layers0\.", r"visual\.transformer\.layers2\."
TRAINING_ONLY = ("layers_mae2", "reconstruct_layer2", "vis_mae_decoder")  # no one needs them to segment

CLIPS = {
    "visual",
    "transformer",
    "token_embedding",
    "positional_embedding",
    "ln_final",
    "text_projection",
    "logit_scale",
}

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SegClipShape:
    """A CLIP with a group module; the released model is (ViT-B/16, 8, 2, 10).

    cross_layers: blocks of the module. plug_layer: blocks of the image tower before it.
    """

    clip: ClipShape
    centres: int
    cross_layers: int
    plug_layer: int

    def alike(self, other: Any) -> bool:
        same = isinstance(other, SegClipShape) and self.clip.alike(other.clip)
        return same and replace(other, clip=self.clip) == self

    def __str__(self) -> str:
        return (
            f"{self.clip}, and {self.centres} centres of {self.cross_layers} cross-attention layers after layer "
            f"{self.plug_layer}"
        )


class Released(NamedTuple):
    """clip: tensors by OpenAI's names. grouping: by those of `SemanticGrouping`. The rest: as in `SegClipShape`."""

    clip: dict[str, Tensor]
    grouping: dict[str, Tensor]
    centres: int
    cross_layers: int
    plug_layer: int


def is_released(tensors: Mapping[str, Tensor]) -> bool:
    return any(GROUPING in name for name in tensors)


def split(tensors: Mapping[str, Tensor], source: Path) -> Released:
    """The parts that segment; what only training needs is left out.

    Raises `WeightsError` for a group module that is not SegCLIP's, and for blocks that are missing.
    """
    named = {re.sub(r"^(module\.)?(clip\.)?", "", name): tensor for name, tensor in tensors.items()}
    named = {name: tensor for name, tensor in named.items() if not set(TRAINING_ONLY) & set(name.split("."))}
    inside = {name.partition(GROUPING)[2]: named.pop(name) for name in list(named) if GROUPING in name}
    first, third = (_numbers(named, stage) for stage in (FIRST, THIRD))
    clip = {_published(name, first, third): tensor for name, tensor in named.items()}
    if unknown := sorted(name for name in clip if name.split(".")[0] not in CLIPS):
        _logger.warning("%s: %s not known, and left out", source, ", ".join(unknown))
    grouping = _grouping(inside, source)
    layers = len({name.split(".")[1] for name in grouping if name.startswith("layers.")})
    return Released(clip, grouping, len(grouping["centres"]), layers, plug_layer=len(first))


def _published(name: str, first: list[int], third: list[int]) -> str:
    """OpenAI's name: blocks of both stages in one row."""
    for stage, numbers, start in ((FIRST, first, 0), (THIRD, third, len(first))):
        if found := re.match(stage + r"(\d+)\.", name):
            return f"visual.transformer.resblocks.{start + numbers.index(int(found[1]))}.{name[found.end() :]}"
    return name


def _numbers(tensors: Mapping[str, Tensor], stage: str) -> list[int]:
    return sorted({int(found[1]) for name in tensors if (found := re.match(stage + r"(\d+)\.", name))})


def _grouping(tensors: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    """The tensors of the group module by our names."""
    left = dict(tensors)
    made: dict[str, Tensor] = {}
    for name in list(left):
        if found := re.search(r"(?:^|\.)((?:cross_ln|norm|k_ln)\.(?:weight|bias))$", name):
            _put(made, found[1], left.pop(name), source)
        elif found := re.search(r"(?:^|\.)([kv]_conv\.weight)$", name):
            weight = left.pop(name)
            _put(made, found[1], weight.reshape(-1, weight.shape[1], weight.shape[1]), source)
    blocks = sorted({name.removesuffix(".ln_x.weight") for name in left if name.endswith(".ln_x.weight")}, key=_order)
    for number, block in enumerate(blocks):
        own = {name.removeprefix(f"{block}."): left.pop(name) for name in list(left) if name.startswith(f"{block}.")}
        for name, tensor in _block(own, source).items():
            _put(made, f"layers.{number}.{name}", tensor, source)
    for name, tensor in list(left.items()):
        if name.rpartition(".")[2] not in ("weight", "bias") and tensor.ndim in (2, 3):
            _put(made, "centres", left.pop(name).flatten(0, -2), source)
    for name, tensor in _perceptron(left, source, ("output.1", "output.3"), "output.0").items():
        _put(made, name, tensor, source)
    if "centres" not in made:
        raise WeightsError(f"{source} has no centres in {GROUPING}*; give a checkpoint of SegCLIP's")
    return made


def _block(tensors: dict[str, Tensor], source: Path) -> dict[str, Tensor]:
    """One cross-attention block."""
    made = {name: tensors.pop(name) for name in list(tensors) if re.fullmatch(r"ln_[xk2]\.(weight|bias)", name)}
    for name in list(tensors):
        if found := re.search(r"(?:^|\.)((?:in_proj_|out_proj\.)(?:weight|bias))$", name):
            _put(made, f"attention.{found[1]}", tensors.pop(name), source)
    return made | _perceptron(tensors, source, ("mlp.0", "mlp.2"))


def _perceptron(
    tensors: Mapping[str, Tensor], source: Path, linear: tuple[str, str], norm: str | None = None
) -> dict[str, Tensor]:
    """Two linear layers, W to more and back, and a norm: told apart by the shapes of their weights."""
    made: dict[str, Tensor] = {}
    for module in sorted({name.rpartition(".")[0] for name in tensors}):
        weight = tensors.get(f"{module}.weight")
        ours = None
        if weight is not None and weight.ndim == 2 and len(weight) != weight.shape[1]:
            ours = linear[0] if len(weight) > weight.shape[1] else linear[1]
        elif weight is not None and weight.ndim == 1:
            ours = norm
        if ours is None:
            raise WeightsError(f"{source} holds {GROUPING}{module}, which SegCLIP's group module has not; check it")
        for kind in ("weight", "bias"):
            if f"{module}.{kind}" in tensors:
                _put(made, f"{ours}.{kind}", tensors[f"{module}.{kind}"], source)
    return made


def _put(made: dict[str, Tensor], name: str, tensor: Tensor, source: Path) -> None:
    if name in made:
        raise WeightsError(f"{source} holds two tensors that may be {name} of the group module; check the file")
    made[name] = tensor


def _order(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]
