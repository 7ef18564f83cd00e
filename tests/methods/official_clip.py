"""Random CLIPs in the layout of OpenAI's files: parameter names, half precision, and TorchScript around them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from maskclip_reference import Weights
from torch import Tensor, nn

EMBED, TEXT_WIDTH, CONTEXT, VOCABULARY = 48, 64, 77, 4093


def half(*shape: int, seed: np.random.Generator, scale: float, shift: float = 0.0) -> np.ndarray:
    """Random numbers that half precision holds exactly, so that the file loses nothing."""
    return (shift + scale * seed.standard_normal(shape)).astype(np.float16).astype(np.float64)


def blocks(prefix: str, width: int, layers: int, seed: np.random.Generator) -> dict[str, np.ndarray]:
    tensors = {}
    for layer in range(layers):
        name = f"{prefix}transformer.resblocks.{layer}"
        for norm in ("ln_1", "ln_2"):
            tensors |= layer_norm(f"{name}.{norm}", width, seed)
        tensors[f"{name}.attn.in_proj_weight"] = half(3 * width, width, seed=seed, scale=1.5 / width**0.5)
        tensors[f"{name}.attn.in_proj_bias"] = half(3 * width, seed=seed, scale=0.3)
        tensors |= linear(f"{name}.attn.out_proj", width, width, seed)
        tensors |= linear(f"{name}.mlp.c_fc", width, 4 * width, seed)
        tensors |= linear(f"{name}.mlp.c_proj", 4 * width, width, seed)
    return tensors


def linear(name: str, inputs: int, outputs: int, seed: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        f"{name}.weight": half(outputs, inputs, seed=seed, scale=1.2 / inputs**0.5),
        f"{name}.bias": half(outputs, seed=seed, scale=0.3),
    }


def layer_norm(name: str, width: int, seed: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        f"{name}.weight": half(width, seed=seed, scale=0.2, shift=1),
        f"{name}.bias": half(width, seed=seed, scale=0.2),
    }


def text_tower(seed: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "token_embedding.weight": half(VOCABULARY, TEXT_WIDTH, seed=seed, scale=0.5),
        "positional_embedding": half(CONTEXT, TEXT_WIDTH, seed=seed, scale=0.1),
        **blocks("", TEXT_WIDTH, 1, seed),
        **layer_norm("ln_final", TEXT_WIDTH, seed),
        "text_projection": half(TEXT_WIDTH, EMBED, seed=seed, scale=0.2),
        "logit_scale": np.log(np.array(100.0)),
    }


def vit_weights(*, width: int = 128, layers: int = 3, patch: int = 8, grid: int = 4) -> dict[str, np.ndarray]:
    seed = np.random.default_rng(0)
    return {
        "visual.class_embedding": half(width, seed=seed, scale=0.5),
        "visual.positional_embedding": half(1 + grid**2, width, seed=seed, scale=0.5),
        "visual.conv1.weight": half(width, 3, patch, patch, seed=seed, scale=0.1),
        **layer_norm("visual.ln_pre", width, seed),
        **blocks("visual.", width, layers, seed),
        **layer_norm("visual.ln_post", width, seed),
        "visual.proj": half(width, EMBED, seed=seed, scale=0.1),
        **text_tower(seed),
    }


def resnet_weights(
    *, width: int = 8, layers: tuple[int, int, int, int] = (2, 1, 2, 1), grid: int = 3
) -> dict[str, np.ndarray]:
    seed = np.random.default_rng(1)
    tensors: dict[str, np.ndarray] = {}

    def convolution(name: str, norm: str, inputs: int, outputs: int, size: int) -> None:
        scale = (2 / (inputs * size**2)) ** 0.5
        tensors[f"visual.{name}.weight"] = half(outputs, inputs, size, size, seed=seed, scale=scale)
        tensors.update(layer_norm(f"visual.{norm}", outputs, seed))
        tensors[f"visual.{norm}.running_mean"] = half(outputs, seed=seed, scale=0.2)
        tensors[f"visual.{norm}.running_var"] = np.maximum(half(outputs, seed=seed, scale=0.2, shift=1), 0.25)

    convolution("conv1", "bn1", 3, width // 2, 3)
    convolution("conv2", "bn2", width // 2, width // 2, 3)
    convolution("conv3", "bn3", width // 2, width, 3)
    channels = width
    for stage, count in enumerate(layers):
        inner = width * 2**stage
        for block in range(count):
            name = f"layer{stage + 1}.{block}"
            convolution(f"{name}.conv1", f"{name}.bn1", channels, inner, 1)
            convolution(f"{name}.conv2", f"{name}.bn2", inner, inner, 3)
            convolution(f"{name}.conv3", f"{name}.bn3", inner, 4 * inner, 1)
            if block == 0:
                convolution(f"{name}.downsample.0", f"{name}.downsample.1", channels, 4 * inner, 1)
            channels = 4 * inner
    for name in ("q_proj", "k_proj", "v_proj"):
        tensors |= linear(f"visual.attnpool.{name}", channels, channels, seed)
    tensors |= linear("visual.attnpool.c_proj", channels, EMBED, seed)
    tensors["visual.attnpool.positional_embedding"] = half(1 + grid**2, channels, seed=seed, scale=0.5)
    return tensors | text_tower(seed)


class _Part(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


def write_archive(path: Path, weights: Weights, *, image_size: int) -> None:
    """What `torch.jit.save` made of OpenAI's models: fp16 matrices, fp32 norms, and three integers beside them."""
    root = _Part()
    for name, array in weights.items():
        *parents, last = name.split(".")
        part: nn.Module = root
        for parent in parents:
            if parent not in part._modules:
                part.add_module(parent, _Part())
            part = part._modules[parent]  # type: ignore[assignment]
        single = parents and parents[-1].startswith(("ln_", "bn"))
        tensor = torch.tensor(array, dtype=torch.float32 if single else torch.float16)
        if last.startswith("running"):
            part.register_buffer(last, tensor)
        else:
            part.register_parameter(last, nn.Parameter(tensor, requires_grad=False))
        if last == "running_var":
            part.register_buffer("num_batches_tracked", torch.tensor(7))
    for name, number in (("input_resolution", image_size), ("context_length", CONTEXT), ("vocab_size", VOCABULARY)):
        root.register_buffer(name, torch.tensor(number))
    torch.jit.script(root).save(str(path))
