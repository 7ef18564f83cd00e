"""SegCLIP read from docs/papers/segclip.md once more: float64 numpy, one image at a time, weights as released.

`weights` are tensors by the names of §3.9; the names inside the group module are this file's own choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import erf, softmax
from torch import Tensor
from torch.nn import functional

Array = NDArray[np.float64]
TOWER = "clip.visual.transformer"
GROUP = f"{TOWER}.semantic_layer2"


@dataclass(frozen=True)
class Shape:
    """The released model is (768, 64, 16, 14, (10, 2), 8, 2, 512)."""

    width: int = 32
    head: int = 16
    patch: int = 4
    side: int = 4  # cells of the position table
    layers: tuple[int, int] = (2, 1)
    centres: int = 3
    cross_layers: int = 2
    embed_dim: int = 24
    text_width: int = 64
    context: int = 32
    vocabulary: int = 4093


def random_weights(shape: Shape, *, naming: int = 0) -> dict[str, Tensor]:
    """A checkpoint of the released layout, with what only training needs; two ways to name what is not known."""
    random = torch.Generator().manual_seed(0)
    made: dict[str, Tensor] = {}

    def draw(name: str, *size: int, mean: float = 0.0, spread: float = 0.0) -> None:
        spread = spread or (0.3 if len(size) < 2 else 1.2 * size[-1] ** -0.5)
        made[name] = mean + spread * torch.randn(*size, generator=random)

    def norm(name: str, width: int) -> None:
        draw(f"{name}.weight", width, mean=1.0)
        draw(f"{name}.bias", width)

    def linear(name: str, rows: int, columns: int) -> None:
        draw(f"{name}.weight", rows, columns)
        draw(f"{name}.bias", rows)

    def attention(name: str, width: int) -> None:
        draw(f"{name}.in_proj_weight", 3 * width, width)
        draw(f"{name}.in_proj_bias", 3 * width)
        linear(f"{name}.out_proj", width, width)

    def block(name: str, width: int) -> None:
        norm(f"{name}.ln_1", width)
        norm(f"{name}.ln_2", width)
        attention(f"{name}.attn", width)
        linear(f"{name}.mlp.c_fc", 4 * width, width)
        linear(f"{name}.mlp.c_proj", width, 4 * width)

    width, text = shape.width, shape.text_width
    draw("clip.visual.conv1.weight", width, 3, shape.patch, shape.patch, spread=0.2)
    draw("clip.visual.class_embedding", width)
    draw("clip.visual.positional_embedding", 1 + shape.side**2, width, spread=0.5)
    draw("clip.visual.proj", width, shape.embed_dim)
    for name in ("ln_pre", "ln_post"):
        norm(f"clip.visual.{name}", width)
    for stage, count in zip(("layers0", "layers2"), shape.layers, strict=True):
        for number in range(count):
            block(f"{TOWER}.{stage}.{number}", width)
    block(f"{TOWER}.layers_mae2.0", width)
    linear(f"{TOWER}.reconstruct_layer2.rec_proj_a.a_fc", shape.centres, shape.centres)
    linear("vis_mae_decoder.decoder_embed", 16, width)

    draw(f"{GROUP}.{_CENTRES[naming]}", *([1] * naming), shape.centres, width, spread=1.0)
    for number in range(shape.cross_layers):
        name = f"{GROUP}.{_BLOCKS[naming]}.{number}"
        for each in ("ln_x", "ln_k", "ln_2"):
            norm(f"{name}.{each}", width)
        attention(f"{name}.attn", width)
        linear(f"{name}.mlp.c_fc", 4 * width, width)
        linear(f"{name}.mlp.c_proj", width, 4 * width)
    for each in ("cross_ln", "norm", "k_ln"):
        norm(f"{GROUP}.{each}", width)
    for each in ("k_conv", "v_conv"):
        draw(f"{GROUP}.{each}.weight", width, shape.head, *([1] * (1 + naming)), spread=shape.head**-0.5)
    last = _OUTPUT[naming]
    norm(f"{GROUP}.{last[0]}", width)
    linear(f"{GROUP}.{last[1]}", 4 * width, width)
    linear(f"{GROUP}.{last[2]}", width, 4 * width)

    draw("clip.token_embedding.weight", shape.vocabulary, text)
    draw("clip.positional_embedding", shape.context, text)
    draw("clip.text_projection", text, shape.embed_dim)
    norm("clip.ln_final", text)
    block("clip.transformer.resblocks.0", text)
    made["clip.logit_scale"] = torch.tensor(4.0)
    return made


_CENTRES = ("centres", "group_tokens")
_BLOCKS = ("cross", "stack.layers")
_OUTPUT = (("last.0", "last.1", "last.3"), ("after.ln", "after.up", "after.down"))


def embed(weights: Mapping[str, Tensor], shape: Shape, image: Tensor) -> dict[str, Array]:
    """One normalised picture [3, H, W]: soft [G, L], hard [G, L], features [G, D] and image [D]."""
    cells = patches(weights, shape, image)
    soft, hard, regions = group(weights, shape, cells)
    for number in range(shape.layers[1]):
        regions = clip_block(regions, weights, f"{TOWER}.layers2.{number}", shape.head)
    return {"soft": soft, "hard": hard, "features": project(weights, regions), "image": _pooled(weights, regions)}


def _pooled(weights: Mapping[str, Tensor], regions: Array) -> Array:
    return project(weights, regions.max(0)[None])[0]


def patches(weights: Mapping[str, Tensor], shape: Shape, image: Tensor) -> Array:
    """What enters the first layer [L, W], without the class token."""
    kernel = weights["clip.visual.conv1.weight"].double()
    cells = functional.conv2d(image.double()[None], kernel, stride=shape.patch)[0]  # [W, h, w]
    table = weights["clip.visual.positional_embedding"].double()[1:].T.reshape(1, -1, shape.side, shape.side)
    table = functional.interpolate(table, cells.shape[1:], mode="bicubic", align_corners=False)[0]
    tokens: Array = (cells + table).flatten(1).T.numpy()
    return norm(tokens, weights, "clip.visual.ln_pre")


def group(
    weights: Mapping[str, Tensor], shape: Shape, cells: Array, noise: Array | None = None
) -> tuple[Array, Array, Array]:
    """First stage and group module: soft [G, L], hard [G, L], regions [G, W]."""
    for number in range(shape.layers[0]):
        cells = clip_block(cells, weights, f"{TOWER}.layers0.{number}", shape.head)
    centres = number_of(weights, f"{GROUP}.centres")
    for number in range(shape.cross_layers):
        name = f"{GROUP}.cross.{number}"
        memory = norm(np.concatenate([centres, cells]), weights, f"{name}.ln_k")
        centres = centres + attend(norm(centres, weights, f"{name}.ln_x"), memory, weights, f"{name}.attn", shape.head)
        centres = centres + feed_forward(norm(centres, weights, f"{name}.ln_2"), weights, f"{name}.mlp", quick_gelu)
    centres, normed = norm(centres, weights, f"{GROUP}.cross_ln"), norm(cells, weights, f"{GROUP}.norm")
    keys, values = (by_heads(normed, weights, f"{GROUP}.{name}", shape.head) for name in ("k_conv", "v_conv"))
    logits = centres @ norm(keys, weights, f"{GROUP}.k_ln").T
    drawn = logits if noise is None else (logits + noise) / 0.9
    hard = np.eye(len(centres))[drawn.argmax(0)].T
    members = hard @ values / np.maximum(hard.sum(1, keepdims=True), 1)
    hidden = gelu(linear(norm(centres + members, weights, f"{GROUP}.last.0"), weights, f"{GROUP}.last.1"))
    return softmax(logits, axis=0), hard, quick_gelu(linear(hidden, weights, f"{GROUP}.last.3"))


def paint(objective: Any, shape: Shape, regions: Array, hard: Array, order: list[int], grid: tuple[int, int]) -> Array:
    """§3.5, 3-6: regions of the kept patches, which come first in `order`, as pixels of every patch [L, 3 P P].

    objective: whose reconstruction has these weights, by this project's names.
    """
    weights = {f"r.{name}": each for name, each in objective.reconstruction.state_dict().items()}
    x = quick_gelu(linear(hard.T, weights, "r.spread") @ regions)  # [K, W]
    for number in range(shape.layers[1]):
        x = clip_block(x, _openai(weights, f"r.blocks.{number}"), "block", shape.head)
    seen = linear(np.concatenate([x.mean(0, keepdims=True), x]), weights, "r.decoder.enter")
    width = seen.shape[1]
    tokens = np.tile(number_of(weights, "r.decoder.hidden"), (grid[0] * grid[1], 1))
    tokens[order[: len(x)]] = seen[1:]
    for place in range(len(tokens)):
        row, column = divmod(place, grid[1])
        rates = [10_000 ** (-k / (width / 4)) for k in range(width // 4)]
        waves = [[np.sin(at * each) for each in rates] + [np.cos(at * each) for each in rates] for at in (column, row)]
        tokens[place] += waves[0] + waves[1]
    x = np.concatenate([seen[:1], tokens])
    for number in range(3):
        name = f"r.decoder.blocks.{number}"
        inner = norm(x, weights, f"{name}.norm1", 1e-6)
        own = {"a.in_proj_weight": weights[f"{name}.qkv.weight"], "a.in_proj_bias": weights[f"{name}.qkv.bias"]}
        own |= {f"a.out_proj.{kind}": weights[f"{name}.proj.{kind}"] for kind in ("weight", "bias")}
        x = x + attend(inner, inner, own, "a", width // 8)
        hidden = gelu(linear(norm(x, weights, f"{name}.norm2", 1e-6), weights, f"{name}.mlp.0"))
        x = x + linear(hidden, weights, f"{name}.mlp.2")
    return linear(norm(x, weights, "r.decoder.norm", 1e-6), weights, "r.decoder.leave")[1:]


def _openai(weights: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """One of transformers' CLIP blocks by OpenAI's names."""
    made = {}
    for kind in ("weight", "bias"):
        parts = [weights[f"{name}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
        made[f"block.attn.in_proj_{kind}"] = torch.cat(parts)
        for ours, theirs in (
            ("self_attn.out_proj", "attn.out_proj"),
            ("layer_norm1", "ln_1"),
            ("layer_norm2", "ln_2"),
            ("mlp.fc1", "mlp.c_fc"),
            ("mlp.fc2", "mlp.c_proj"),
        ):
            made[f"block.{theirs}.{kind}"] = weights[f"{name}.{ours}.{kind}"]
    return made


def clip_block(x: Array, weights: Mapping[str, Tensor], name: str, head: int) -> Array:
    inner = norm(x, weights, f"{name}.ln_1")
    x = x + attend(inner, inner, weights, f"{name}.attn", head)
    return x + feed_forward(norm(x, weights, f"{name}.ln_2"), weights, f"{name}.mlp", quick_gelu)


def feed_forward(x: Array, weights: Mapping[str, Tensor], name: str, activation: Any) -> Array:
    return linear(activation(linear(x, weights, f"{name}.c_fc")), weights, f"{name}.c_proj")


def attend(queries: Array, memory: Array, weights: Mapping[str, Tensor], name: str, head: int) -> Array:
    parts = np.split(number_of(weights, f"{name}.in_proj_weight"), 3)
    biases = np.split(number_of(weights, f"{name}.in_proj_bias"), 3)
    q, k, v = (x @ part.T + bias for x, part, bias in zip((queries, memory, memory), parts, biases, strict=True))
    mixed = [
        softmax(q[:, at : at + head] @ k[:, at : at + head].T / np.sqrt(head), axis=1) @ v[:, at : at + head]
        for at in range(0, q.shape[1], head)
    ]
    return linear(np.concatenate(mixed, axis=1), weights, f"{name}.out_proj")


def by_heads(x: Array, weights: Mapping[str, Tensor], name: str, head: int) -> Array:
    """A 1 x 1 convolution in groups of `head` channels."""
    kernel = number_of(weights, f"{name}.weight").reshape(-1, head)
    parts = [x[:, at : at + head] @ kernel[at : at + head].T for at in range(0, x.shape[1], head)]
    return np.concatenate(parts, axis=1)


def project(weights: Mapping[str, Tensor], regions: Array) -> Array:
    projected: Array = norm(regions, weights, "clip.visual.ln_post") @ number_of(weights, "clip.visual.proj")
    return projected


def norm(x: Array, weights: Mapping[str, Tensor], name: str, epsilon: float = 1e-5) -> Array:
    scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)
    return np.asarray(scaled * number_of(weights, f"{name}.weight") + number_of(weights, f"{name}.bias"))


def linear(x: Array, weights: Mapping[str, Tensor], name: str) -> Array:
    return np.asarray(x @ number_of(weights, f"{name}.weight").T + number_of(weights, f"{name}.bias"))


def quick_gelu(x: Array) -> Array:
    return x / (1 + np.exp(-1.702 * x))


def gelu(x: Array) -> Array:
    return np.asarray(x * 0.5 * (1 + erf(x / np.sqrt(2))))


def number_of(weights: Mapping[str, Tensor], name: str) -> Array:
    return np.asarray(weights[name].detach().double().numpy())
