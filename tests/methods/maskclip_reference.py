"""MaskCLIP read from its description in float64 numpy: what the product code is measured against.

Nothing here imports lexiseg or torch. Weights are a mapping of OpenAI's parameter names to arrays; images are
[B, 3, H, W]; results are [B, channels, h, w].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.special import erf

Array = NDArray[np.float64]
Weights = Mapping[str, Array]
HEAD = 64  # channels of a head in every CLIP of OpenAI's


# --- parts that both towers use


def softmax(x: Array, axis: int) -> Array:
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def attention(q: Array, k: Array, v: Array) -> Array:
    """Tokens [B, Lq, W], [B, Lk, W], [B, Lk, W] -> [B, Lq, W], the heads side by side."""
    batch, _, width = q.shape
    q, k, v = (x.reshape(batch, x.shape[1], width // HEAD, HEAD) for x in (q, k, v))
    weights = softmax(np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(HEAD), axis=-1)
    return np.einsum("bhqk,bkhd->bqhd", weights, v).reshape(batch, -1, width)


def linear(x: Array, w: Weights, name: str) -> Array:
    return np.einsum("...i,oi->...o", x, w[f"{name}.weight"]) + w[f"{name}.bias"]


def resize_table(table: Array, height: int, width: int) -> Array:
    """Cubic convolution with a = -0.75 of [G, G, W] to [height, width, W], pixel centres aligned, borders repeated."""

    def taps(size_in: int, size_out: int) -> Array:
        matrix = np.zeros((size_out, size_in))
        for place in range(size_out):
            source = (place + 0.5) * size_in / size_out - 0.5
            first = int(np.floor(source))
            for tap in range(first - 1, first + 3):
                matrix[place, min(max(tap, 0), size_in - 1)] += cubic(abs(source - tap))
        return matrix

    def cubic(x: float, a: float = -0.75) -> float:
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0

    return np.einsum("hy,wx,yxc->hwc", taps(table.shape[0], height), taps(table.shape[1], width), table)


def positions(table: Array, height: int, width: int) -> Array:
    """The rows of a table [1 + G*G, W] for a grid, its first row kept."""
    side = round((len(table) - 1) ** 0.5)
    grid = table[1:].reshape(side, side, -1)
    if (height, width) != (side, side):
        grid = resize_table(grid, height, width)
    return np.concatenate([table[:1], grid.reshape(height * width, -1)])


def to_map(tokens: Array, height: int, width: int) -> Array:
    return tokens.transpose(0, 2, 1).reshape(len(tokens), -1, height, width)


# --- the ViT


def quick_gelu(x: Array) -> Array:
    return x / (1 + np.exp(-1.702 * x))


def gelu(x: Array) -> Array:
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def vit(
    images: Array,
    w: Weights,
    *,
    last_block: str = "value+residual+ffn",
    activation: Callable[[Array], Array] = quick_gelu,
    eps: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """(features, keys, keys after the output projection) of the last block on the padded grid."""

    def norm(x: Array, name: str) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
        return scaled * w[f"visual.{name}.weight"] + w[f"visual.{name}.bias"]

    def qkv(x: Array, block: str) -> list[Array]:
        together = x @ w[f"visual.{block}.attn.in_proj_weight"].T + w[f"visual.{block}.attn.in_proj_bias"]
        return np.split(together, 3, axis=-1)

    def out(x: Array, block: str) -> Array:
        return linear(x, w, f"visual.{block}.attn.out_proj")

    def ffn(x: Array, block: str) -> Array:
        hidden = activation(linear(norm(x, f"{block}.ln_2"), w, f"visual.{block}.mlp.c_fc"))
        return linear(hidden, w, f"visual.{block}.mlp.c_proj")

    kernel = w["visual.conv1.weight"]
    patch = kernel.shape[-1]
    height, width = (-(-side // patch) for side in images.shape[-2:])
    padded = np.zeros((len(images), 3, height * patch, width * patch))
    padded[:, :, : images.shape[2], : images.shape[3]] = images
    cells = padded.reshape(len(images), 3, height, patch, width, patch)
    tokens = np.einsum("bchywx,ocyx->bhwo", cells, kernel).reshape(len(images), height * width, -1)
    first = np.broadcast_to(w["visual.class_embedding"], (len(images), 1, tokens.shape[-1]))
    x = np.concatenate([first, tokens], axis=1) + positions(w["visual.positional_embedding"], height, width)
    x = norm(x, "ln_pre")

    blocks = sorted({int(name.split(".")[3]) for name in w if name.startswith("visual.transformer.resblocks.")})
    *names, last = (f"transformer.resblocks.{block}" for block in blocks)
    for block in names:
        x = x + out(attention(*qkv(norm(x, f"{block}.ln_1"), block)), block)
        x = x + ffn(x, block)
    q, k, v = qkv(norm(x, f"{last}.ln_1"), last)
    if last_block == "attention":
        y = x + out(attention(q, k, v), last)
        y = y + ffn(y, last)
    else:
        y = out(v, last)
        if "residual" in last_block:
            y = x + y
        if "ffn" in last_block:
            y = y + ffn(y, last)
    features = norm(y, "ln_post") @ w["visual.proj"]
    return tuple(to_map(each[:, 1:], height, width) for each in (features, k, out(k, last)))  # type: ignore[return-value]


# --- the ResNet


def convolve(x: Array, kernel: Array, stride: int = 1) -> Array:
    edge = kernel.shape[-1] // 2
    x = np.pad(x, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
    windows = sliding_window_view(x, kernel.shape[-2:], axis=(2, 3))[:, :, ::stride, ::stride]
    return np.einsum("bchwyx,ocyx->bohw", windows, kernel, optimize=True)


def average_pool(x: Array, size: int) -> Array:
    if size == 1:
        return x
    height, width = x.shape[2] // size, x.shape[3] // size
    x = x[:, :, : height * size, : width * size]
    return x.reshape(*x.shape[:2], height, size, width, size).mean((3, 5))


def resnet_trunk(images: Array, w: Weights) -> Array:
    """Images -> [B, 32 w, h, w]."""

    def batch_norm(x: Array, name: str) -> Array:
        mean, var, gain, bias = (
            w[f"visual.{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / np.sqrt(var + 1e-5) * gain + bias

    def relu(x: Array) -> Array:
        return np.maximum(x, 0)

    def conv(x: Array, name: str, stride: int = 1) -> Array:
        return convolve(x, w[f"visual.{name}.weight"], stride)

    x = relu(batch_norm(conv(images, "conv1", 2), "bn1"))
    x = relu(batch_norm(conv(x, "conv2"), "bn2"))
    x = relu(batch_norm(conv(x, "conv3"), "bn3"))
    x = average_pool(x, 2)
    for stage, first_stride in ((1, 1), (2, 2), (3, 2), (4, 2)):
        blocks = sorted({int(n.split(".")[2]) for n in w if n.startswith(f"visual.layer{stage}.")})
        for block in blocks:
            name, stride = f"layer{stage}.{block}", first_stride if block == 0 else 1
            y = relu(batch_norm(conv(x, f"{name}.conv1"), f"{name}.bn1"))
            y = relu(batch_norm(conv(y, f"{name}.conv2"), f"{name}.bn2"))
            y = batch_norm(conv(average_pool(y, stride), f"{name}.conv3"), f"{name}.bn3")
            if f"visual.{name}.downsample.0.weight" in w:
                x = batch_norm(conv(average_pool(x, stride), f"{name}.downsample.0"), f"{name}.downsample.1")
            x = relu(x + y)
    return x


def resnet(
    images: Array, w: Weights, *, last_block: str = "value", position_embedding: str = "none"
) -> tuple[Array, Array]:
    """(features, keys) of the attention pool at every place of the trunk's map."""
    pool = "visual.attnpool"
    x = resnet_trunk(images, w)
    height, width = x.shape[-2:]
    tokens = x.reshape(*x.shape[:2], -1).transpose(0, 2, 1)
    tokens = np.concatenate([tokens.mean(1, keepdims=True), tokens], axis=1)
    if position_embedding == "interpolate":
        tokens = tokens + positions(w[f"{pool}.positional_embedding"], height, width)
    k, v = linear(tokens, w, f"{pool}.k_proj"), linear(tokens, w, f"{pool}.v_proj")
    if last_block == "attention":
        v = attention(linear(tokens, w, f"{pool}.q_proj"), k, v)
    features = linear(v, w, f"{pool}.c_proj")
    return to_map(features[:, 1:], height, width), to_map(k[:, 1:], height, width)


# --- scores


def cosines(features: Array, text: Array) -> Array:
    """[B, D, h, w] and unit rows [C, D] -> [B, C, h, w]."""
    unit = features / np.sqrt((features**2).sum(1, keepdims=True))
    return np.einsum("bdhw,cd->bchw", unit, text)


def denoise(scores: Array, *, threshold: float, scale: float) -> Array:
    """Cosines in which a class that reaches the posterior `threshold` nowhere in its image is at -100.

    An image where every class fails is left alone. The released code has no such guard: there all classes are at -100
    and the first one takes the image, which is an accident of argmax and no result that anybody could want.
    """
    edited = scores.copy()
    for image, posterior in zip(edited, softmax(scale * scores, axis=1), strict=True):
        fails = [channel.max() < threshold for channel in posterior]
        if all(fails):
            continue
        image[fails] = -100.0
    return edited


def smooth(scores: Array, keys: Array, *, scale: float, form: str, threshold: float | None) -> Array:
    """What is left of softmax(scale * cosines) after every cell's has been summed over the cells with like keys."""
    batch, classes, height, width = scores.shape
    posterior = softmax(scale * scores, axis=1).reshape(batch, classes, -1).transpose(0, 2, 1)  # [B, L, C]
    keys = keys.reshape(batch, keys.shape[1], -1).transpose(0, 2, 1)  # [B, L, W]
    result = np.empty_like(posterior)
    for image in range(batch):
        axis = {"paper": 1, "released": 0}[form]  # over channels, or over tokens
        unit = keys[image] / np.maximum(np.sqrt((keys[image] ** 2).sum(axis, keepdims=True)), 1e-12)
        affinity = np.array([[np.dot(one, other) for other in unit] for one in unit])  # [L, L]
        smoothed = affinity @ posterior[image]
        if form == "paper":  # as a posterior again; a cell that nothing supports keeps its own
            smoothed = np.maximum(smoothed, 0)
            alone = smoothed.sum(1) == 0
            smoothed[alone] = posterior[image][alone]
            smoothed /= smoothed.sum(1, keepdims=True)
        for cell in range(len(smoothed)):
            kept = threshold is not None and posterior[image, cell].max() >= threshold
            result[image, cell] = posterior[image, cell] if kept else smoothed[cell]
    return result.transpose(0, 2, 1).reshape(batch, classes, height, width)
