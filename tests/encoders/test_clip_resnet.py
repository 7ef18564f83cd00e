from __future__ import annotations

import numpy as np
import pytest
import torch
from openai_files import half_precise
from torch import Tensor

from lexiseg.encoders.clip_resnet import ClipResNet, ResNetShape

Weights = dict[str, np.ndarray]
SHAPE = ResNetShape((2, 1, 3, 1), 8, 96, 24)


@pytest.fixture(scope="module")
def network() -> ClipResNet:
    torch.manual_seed(0)
    return half_precise(ClipResNet(SHAPE).eval()).requires_grad_(False)


# -- the same network from the formulas of clip.md §1.3, in float64 ---------------------------------------------------


def convolve(x: np.ndarray, kernel: np.ndarray, *, stride: int = 1) -> np.ndarray:
    """x [B, C, H, W], kernel [O, C, k, k]; zeros around so that stride 1 keeps the size."""
    size = kernel.shape[-1]
    x = np.pad(x, ((0, 0), (0, 0), (size // 2,) * 2, (size // 2,) * 2))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))[:, :, ::stride, ::stride]
    return np.einsum("bchwij,ocij->bohw", windows, kernel, optimize=True)


def normalise(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
    scale, shift = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return ((x.swapaxes(1, 3) - mean) / np.sqrt(variance + 1e-5) * scale + shift).swapaxes(1, 3)


def pool(x: np.ndarray, size: int) -> np.ndarray:
    height, width = x.shape[2] // size * size, x.shape[3] // size * size
    x = x[:, :, :height, :width]
    return x.reshape(*x.shape[:2], height // size, size, width // size, size).mean(axis=(3, 5))


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def bottleneck(x: np.ndarray, weights: Weights, name: str, stride: int) -> np.ndarray:
    y = relu(normalise(convolve(x, weights[f"{name}.conv1.weight"]), weights, f"{name}.bn1"))
    y = relu(normalise(convolve(y, weights[f"{name}.conv2.weight"]), weights, f"{name}.bn2"))
    y = pool(y, stride)
    y = normalise(convolve(y, weights[f"{name}.conv3.weight"]), weights, f"{name}.bn3")
    if f"{name}.downsample.0.weight" in weights:
        x = convolve(pool(x, stride), weights[f"{name}.downsample.0.weight"])
        x = normalise(x, weights, f"{name}.downsample.1")
    return relu(x + y)


def trunk(x: np.ndarray, weights: Weights) -> np.ndarray:
    for place, stride in ((1, 2), (2, 1), (3, 1)):
        x = relu(normalise(convolve(x, weights[f"conv{place}.weight"], stride=stride), weights, f"bn{place}"))
    x = pool(x, 2)
    for stage, blocks in enumerate(SHAPE.layers, start=1):
        for block in range(blocks):
            x = bottleneck(x, weights, f"layer{stage}.{block}", 2 if block == 0 and stage > 1 else 1)
    return x


def attend(features: np.ndarray, weights: Weights, *, positions: bool) -> np.ndarray:
    """Every token as a query: [B, 1 + L, D], the pooled vector first. The grid is the trained one."""
    cells = features.reshape(*features.shape[:2], -1)
    tokens = np.concatenate([cells.mean(-1, keepdims=True), cells], axis=-1).swapaxes(1, 2)
    if positions:
        tokens = tokens + weights["attnpool.positional_embedding"]
    q, k, v = (
        (tokens @ weights[f"attnpool.{name}_proj.weight"].T + weights[f"attnpool.{name}_proj.bias"]).reshape(
            *tokens.shape[:2], -1, 64
        )
        for name in "qkv"
    )
    scores = np.exp(np.einsum("bihd,bjhd->bhij", q, k) / 8)
    mixed = np.einsum("bhij,bjhd->bihd", scores / scores.sum(-1, keepdims=True), v).reshape(tokens.shape)
    return mixed @ weights["attnpool.c_proj.weight"].T + weights["attnpool.c_proj.bias"]


def in_float64(network: ClipResNet) -> Weights:
    return {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}


def picture(*size: int) -> Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(3))


# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(96, 96), (64, 160), (75, 99), (127, 33)])
def test_the_trunk_is_the_formula_s(network: ClipResNet, size: tuple[int, int]) -> None:
    images = picture(*size)
    truth = trunk(images.double().numpy(), in_float64(network))
    assert truth.shape[1] == network.width == 256
    np.testing.assert_allclose(network.trunk(images).numpy(), truth, atol=1e-5 * np.abs(truth).max())


def test_one_vector_per_image_is_the_formula_s(network: ClipResNet) -> None:
    images, weights = picture(96, 96), in_float64(network)
    truth = attend(trunk(images.double().numpy(), weights), weights, positions=True)[:, 0]
    np.testing.assert_allclose(network(images).numpy(), truth, atol=1e-5)


@pytest.mark.parametrize("positions", [False, True])
def test_one_vector_per_cell_is_the_formula_s(network: ClipResNet, positions: bool) -> None:
    images, weights = picture(96, 96), in_float64(network)
    truth = attend(trunk(images.double().numpy(), weights), weights, positions=positions)[:, 1:]
    dense = network.dense(images, positions=positions)
    assert dense.shape == (2, 24, 3, 3)
    np.testing.assert_allclose(dense.flatten(2).mT.numpy(), truth, atol=1e-5)


def test_any_size_has_a_vector(network: ClipResNet) -> None:
    assert network(picture(1, 1)).shape == (2, 24)
    assert network(picture(200, 33)).shape == (2, 24)
    assert network.dense(picture(31, 70), positions=True).shape == (2, 24, 1, 2)


def test_gradients_reach_every_parameter() -> None:
    network = ClipResNet(ResNetShape((1, 1, 1, 1), 8, 64, 16)).train()
    network(picture(96, 64)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("shape", "heads", "millions"),
    [
        # clip.md §1.1; millions of parameters of the image towers as open_clip's model profile lists them
        (ResNetShape((3, 4, 6, 3), 64, 224, 1024), 32, 38.3),
        (ResNetShape((3, 4, 23, 3), 64, 224, 512), 32, 56.3),
        (ResNetShape((4, 6, 10, 6), 80, 288, 640), 40, 87.1),
        (ResNetShape((6, 8, 18, 8), 96, 384, 768), 48, 167.3),
        (ResNetShape((3, 15, 36, 10), 128, 448, 1024), 64, 420.4),
    ],
    ids=["RN50", "RN101", "RN50x4", "RN50x16", "RN50x64"],
)
def test_openai_s_five_have_their_sizes(shape: ResNetShape, heads: int, millions: float) -> None:
    with torch.device("meta"):
        network = ClipResNet(shape)
        grid = shape.image_size // 32
        assert network.trunk(torch.empty(1, 3, 224, 320)).shape == (1, 32 * shape.width, 7, 10)
        assert network(torch.empty(1, 3, shape.image_size, shape.image_size)).shape == (1, shape.embed_dim)
    assert network.attnpool.positional_embedding.shape == (1 + grid**2, 32 * shape.width)
    assert network.attnpool.heads == heads
    parameters = sum(tensor.numel() for tensor in network.parameters())
    assert parameters == counted(shape)
    assert round(parameters / 1e6, 1) == millions


def counted(shape: ResNetShape) -> int:
    """Parameters by arithmetic: convolutions without biases, two numbers a channel for each norm."""
    w, top = shape.width, 32 * shape.width
    total = 9 * (3 * w // 2 + (w // 2) ** 2 + w * w // 2) + 2 * (w // 2 + w // 2 + w)
    inputs = w
    for stage, blocks in enumerate(shape.layers):
        inner = w * 2**stage
        for block in range(blocks):
            total += inputs * inner + 9 * inner**2 + 4 * inner**2 + 2 * (inner + inner + 4 * inner)
            if block == 0:
                total += inputs * 4 * inner + 2 * 4 * inner
            inputs = 4 * inner
    pool = (1 + (shape.image_size // 32) ** 2) * top + 3 * (top**2 + top) + top * shape.embed_dim + shape.embed_dim
    return total + pool
