"""Reads OpenAI's own CLIP files.

Their tensors' shapes tell which model a .pt file holds; the tensors are given our names.

The files are TorchScript archives, read without running their code; plain state dicts are pickles and need a flag.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from lexiseg.encoders import checkpoints
from lexiseg.encoders.clip_shape import ClipShape
from lexiseg.encoders.weights import Origin
from lexiseg.errors import WeightsError

__all__ = ["infer_shape", "origin", "read_file"]

SCALARS = ("input_resolution", "context_length", "vocab_size")  # stored beside the weights; the shapes say it too


def read_file(path: Path, *, allow_pickle: bool = False) -> dict[str, Tensor]:
    """The tensors of one of OpenAI's files by OpenAI's names. Raises what `checkpoints.read_file` raises."""
    tensors = checkpoints.read_file(path, allow_pickle=allow_pickle)
    return {name: tensor for name, tensor in tensors.items() if name not in SCALARS}


def infer_shape(tensors: Mapping[str, Tensor], source: Path) -> ClipShape:
    """The model that tensors with OpenAI's names belong to (docs/papers/clip.md §1.1).

    Raises `WeightsError` that names the tensors that would tell and are missing.
    """
    vit = any(name.startswith("visual.transformer.") for name in tensors)
    telling = {"token_embedding.weight": 2, "positional_embedding": 2, "text_projection": 2}
    telling |= (
        {"visual.conv1.weight": 4, "visual.positional_embedding": 2}
        if vit
        else {"visual.layer1.0.conv1.weight": 4, "visual.attnpool.positional_embedding": 2}
    )
    lacking = [name for name, axes in telling.items() if name not in tensors or tensors[name].ndim != axes]
    if lacking:
        raise WeightsError(
            f"{source} does not hold a CLIP of OpenAI's: {', '.join(lacking)} missing; give one of their .pt files"
        )
    vocabulary, text_width = tensors["token_embedding.weight"].shape
    vision_width, vision_layers, patch, image_size = _vit(tensors) if vit else _resnet(tensors)
    return ClipShape(
        embed_dim=tensors["text_projection"].shape[1],
        image_size=image_size,
        vision_width=vision_width,
        vision_layers=vision_layers,
        patch=patch,
        text_width=text_width,
        text_layers=_count(tensors, r"transformer\.resblocks\.(\d+)\."),
        context=tensors["positional_embedding"].shape[0],
        vocabulary=vocabulary,
    )


def origin(name: str) -> Origin:
    """Where a tensor of `Clip.state_dict()` lies in OpenAI's files."""
    if name in _TRANSPOSED:
        return Origin(_TRANSPOSED[name], transposed=True)
    if third := re.fullmatch(r"(.*)\.self_attn\.([qkv])_proj\.(weight|bias)", name):
        block, part, kind = third.groups()
        return Origin(_renamed(f"{block}.attn.in_proj_{kind}"), third="qkv".index(part))
    return Origin(_renamed(name))


_TRANSPOSED = {"vision.projection.weight": "visual.proj", "text_projection.weight": "text_projection"}

# (ours, OpenAI's), tried from the top on every name
_NAMES = (
    ("vision.model.embeddings.class_embedding", "visual.class_embedding"),
    ("vision.model.embeddings.patch_embedding.", "visual.conv1."),
    ("vision.model.embeddings.position_embedding.weight", "visual.positional_embedding"),
    ("vision.model.pre_layrnorm.", "visual.ln_pre."),
    ("vision.model.post_layernorm.", "visual.ln_post."),
    ("vision.model.encoder.layers.", "visual.transformer.resblocks."),
    ("vision.", "visual."),  # the ResNet has OpenAI's names already
    ("text_model.embeddings.token_embedding.", "token_embedding."),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.encoder.layers.", "transformer.resblocks."),
    ("text_model.final_layer_norm.", "ln_final."),
    ("log_scale", "logit_scale"),
    (".layer_norm1.", ".ln_1."),
    (".layer_norm2.", ".ln_2."),
    (".self_attn.out_proj.", ".attn.out_proj."),
    (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."),
)


def _renamed(name: str) -> str:
    for ours, theirs in _NAMES:
        name = name.replace(ours, theirs)
    return name


def _vit(tensors: Mapping[str, Tensor]) -> tuple[int, int, int, int]:
    """Width, layers, patch, image size."""
    width, _, _, patch = tensors["visual.conv1.weight"].shape
    layers = _count(tensors, r"visual\.transformer\.resblocks\.(\d+)\.")
    return width, layers, patch, patch * _grid(tensors["visual.positional_embedding"])


def _resnet(tensors: Mapping[str, Tensor]) -> tuple[int, tuple[int, int, int, int], None, int]:
    """Width, bottlenecks of each stage, no patch, image size."""
    first, second, third, fourth = (_count(tensors, rf"visual\.layer{stage}\.(\d+)\.") for stage in range(1, 5))
    width = tensors["visual.layer1.0.conv1.weight"].shape[0]
    return width, (first, second, third, fourth), None, 32 * _grid(tensors["visual.attnpool.positional_embedding"])


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """Layers up to the highest number that occurs, so that a layer missing in the middle is noticed as missing."""
    return max((int(found[1]) + 1 for name in tensors if (found := re.match(pattern, name))), default=0)


def _grid(positions: Tensor) -> int:
    return round(math.sqrt(max(0, len(positions) - 1)))
