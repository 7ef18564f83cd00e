"""The group module against an independent reading of docs/papers/segclip.md, in float64 numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import erf, softmax
from torch import Tensor
from torch.nn import functional

from lexiseg.layers.grouping import (
    CrossAttentionBlock,
    HeadwiseLinear,
    SemanticGrouping,
    assign,
    gumbel_like,
    scramble,
)

WIDTH, HEADS, CENTRES, LENGTH, BATCH = 16, 4, 3, 10, 5
Array = NDArray[np.float64]


def randn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def module(layers: int = 2, **changes: Any) -> SemanticGrouping:
    """With weights that are large enough to tell all parts apart."""
    made = SemanticGrouping(WIDTH, HEADS, centres=CENTRES, layers=layers, **changes)
    with torch.no_grad():
        for seed, weight in enumerate(made.parameters()):
            weight.copy_(weight + 0.3 * randn(*weight.shape, seed=seed))
    return made.eval()


# --- the formulas


def norm(x: Array, layer: Any) -> Array:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * numbers(layer.weight) + numbers(layer.bias)


def linear(x: Array, layer: Any) -> Array:
    return x @ numbers(layer.weight).T + numbers(layer.bias)


def quick_gelu(x: Array) -> Array:
    return x / (1 + np.exp(-1.702 * x))


def gelu(x: Array) -> Array:
    return x * 0.5 * (1 + erf(x / np.sqrt(2)))


def numbers(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()


def attend(query: Array, memory: Array, layer: Any) -> Array:
    """Of one image, head by head."""
    q, k, v = np.split(numbers(layer.in_proj_weight), 3)
    bias_q, bias_k, bias_v = np.split(numbers(layer.in_proj_bias), 3)
    q, k, v = query @ q.T + bias_q, memory @ k.T + bias_k, memory @ v.T + bias_v
    size = WIDTH // HEADS
    heads = [slice(start, start + size) for start in range(0, WIDTH, size)]
    mixed = [softmax(q[:, at] @ k[:, at].T / np.sqrt(size), axis=1) @ v[:, at] for at in heads]
    return linear(np.concatenate(mixed, axis=1), layer.out_proj)


def by_heads(x: Array, layer: HeadwiseLinear) -> Array:
    """As the 1 x 1 convolution of HEADS groups that it stands for."""
    weight = layer.weight.detach().double().reshape(WIDTH, WIDTH // HEADS, 1)
    return numbers(functional.conv1d(torch.from_numpy(x).T[None], weight, groups=HEADS)[0].T)


def reference(
    made: SemanticGrouping, tokens: Array, noise: Array | None, memories: Any = None
) -> tuple[Array, Array, Array]:
    """§3.2 of one image: regions, hard and soft assignment. memories: what stands in for the keys (§3.3)."""
    centres = numbers(made.centres)
    for number, layer in enumerate(made.layers):
        memory = norm(np.concatenate([centres, tokens]), layer.ln_k) if memories is None else memories[number]
        centres = centres + attend(norm(centres, layer.ln_x), memory, layer.attention)
        hidden = quick_gelu(linear(norm(centres, layer.ln_2), layer.mlp[0]))
        centres = centres + linear(hidden, layer.mlp[2])
    centres, normed = norm(centres, made.cross_ln), norm(tokens, made.norm)
    keys, values = norm(by_heads(normed, made.k_conv), made.k_ln), by_heads(normed, made.v_conv)
    logits = centres @ keys.T
    drawn = logits if noise is None else (logits + noise) / 0.9
    hard = np.eye(CENTRES)[drawn.argmax(0)].T
    means = np.stack([values[row > 0].mean(0) if row.any() else np.zeros(WIDTH) for row in hard])
    hidden = gelu(linear(norm(centres + means, made.output[0]), made.output[1]))
    return quick_gelu(linear(hidden, made.output[3])), hard, softmax(logits, axis=0)


def close(found: Tensor, wanted: Any) -> None:
    np.testing.assert_allclose(numbers(found), np.asarray(wanted), atol=1e-5, rtol=1e-5)


# --- the module


@pytest.mark.parametrize("layers", [0, 1, 2, 4])
@torch.no_grad()
def test_regions_are_those_of_the_formulas(layers: int) -> None:
    made, tokens = module(layers), randn(BATCH, LENGTH, WIDTH, seed=9)
    found = made(tokens)
    for place in range(BATCH):
        for part, wanted in zip(found, reference(made, numbers(tokens[place]), None), strict=True):
            close(part[place], wanted)
    assert len(found.hard.argmax(1).unique()) > 1


@torch.no_grad()
def test_training_adds_the_noise_that_is_given() -> None:
    made, tokens = module().train(), randn(BATCH, LENGTH, WIDTH, seed=9)
    noise = 5 * randn(BATCH, CENTRES, LENGTH, seed=8)
    found = made(tokens, noise=noise)
    for place in range(BATCH):
        for part, wanted in zip(found, reference(made, numbers(tokens[place]), numbers(noise[place])), strict=True):
            close(part[place], wanted)
    assert not torch.equal(found.hard, made.eval()(tokens).hard)


@torch.no_grad()
def test_training_draws_noise_and_inference_draws_none() -> None:
    made, tokens = module().train(), randn(BATCH, LENGTH, WIDTH, seed=9)
    assert not torch.equal(made(tokens).hard, made(tokens).hard)
    made.eval()
    before = torch.get_rng_state()
    assert torch.equal(made(tokens).regions, made(tokens).regions)
    assert torch.equal(torch.get_rng_state(), before)


@torch.no_grad()
def test_an_empty_region_has_the_centre_alone() -> None:
    made, tokens = module(), randn(1, LENGTH, WIDTH, seed=9)
    noise = torch.zeros(1, CENTRES, LENGTH)
    noise[:, 1] = 1e4
    found = made.train()(tokens, noise=noise)
    assert found.hard[0].sum(1).tolist() == [0, LENGTH, 0]
    close(found.regions[0], reference(made, numbers(tokens[0]), numbers(noise[0]))[0])


@torch.no_grad()
def test_the_papers_form_has_its_equations_alone() -> None:
    made, tokens = module(form="paper"), randn(1, LENGTH, WIDTH, seed=9)
    centres, cells = numbers(made.centres), numbers(tokens[0])
    for layer in made.layers:
        centres = centres + attend(norm(centres, layer.ln_x), norm(cells, layer.ln_k), layer.attention)
        centres = centres + linear(quick_gelu(linear(norm(centres, layer.ln_2), layer.mlp[0])), layer.mlp[2])
    hard = np.eye(CENTRES)[(centres @ cells.T).argmax(0)].T
    means = hard @ cells / np.maximum(hard.sum(1, keepdims=True), 1)
    found = made(tokens)
    close(found.hard[0], hard)
    close(found.regions[0], linear(gelu(linear(centres + means, made.output[0])), made.output[2]))


# --- the released training's mistake (§3.3)


def test_scrambled_keys_are_read_with_a_stride_over_the_batch() -> None:
    memory = randn(BATCH, LENGTH, WIDTH)
    found = scramble(memory)
    for image in range(BATCH):
        for item in range(LENGTH):
            row = item * BATCH + image
            assert torch.equal(found[image, item], memory[row // LENGTH, row % LENGTH])
    assert torch.equal(scramble(memory[:1]), memory[:1])


@torch.no_grad()
def test_a_scrambled_block_is_what_attention_without_a_transposition_gives() -> None:
    """The queries are put in the order [G, B, W]; the memory is taken as [L', B, W], though it is [B, L', W]."""
    block = CrossAttentionBlock(WIDTH, HEADS).eval()
    centres, memory = randn(BATCH, CENTRES, WIDTH), randn(BATCH, LENGTH, WIDTH, seed=1)
    swapped = torch.nn.MultiheadAttention(WIDTH, HEADS).eval()
    swapped.load_state_dict(block.attention.state_dict())
    keys = block.ln_k(memory).reshape(LENGTH, BATCH, WIDTH)
    mixed = centres + swapped(block.ln_x(centres).transpose(0, 1), keys, keys)[0].transpose(0, 1)
    torch.testing.assert_close(block(centres, memory, scrambled=True), mixed + block.mlp(block.ln_2(mixed)))


@torch.no_grad()
def test_only_training_on_several_images_is_scrambled() -> None:
    made, tokens = module(), randn(BATCH, LENGTH, WIDTH, seed=9)
    noise = torch.zeros(BATCH, CENTRES, LENGTH)
    assert torch.equal(made(tokens, scrambled=True).soft, made(tokens).soft)
    made.train()
    assert not torch.equal(made(tokens, noise=noise, scrambled=True).soft, made(tokens, noise=noise).soft)
    one = made(tokens[:1], noise=noise[:1], scrambled=True)
    assert torch.equal(one.soft, made(tokens[:1], noise=noise[:1]).soft)


# --- the assignment


def test_an_assignment_is_one_hot_with_the_gradient_of_the_softmax() -> None:
    logits = randn(2, CENTRES, LENGTH).double().requires_grad_()
    noise, weight = randn(2, CENTRES, LENGTH, seed=1).double(), randn(2, CENTRES, LENGTH, seed=2).double()
    hard = assign(logits, noise=noise, temperature=0.7)
    assert set(hard.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(hard.argmax(1), (logits + noise).argmax(1))
    (found,) = torch.autograd.grad((hard * weight).sum(), logits)
    soft = ((logits + noise) / 0.7).softmax(1)
    torch.testing.assert_close(found, torch.autograd.grad((soft * weight).sum(), logits)[0])


def test_half_precise_logits_are_assigned_in_float32() -> None:
    assert assign(randn(2, CENTRES, LENGTH).half()).dtype == torch.float32


def test_noise_is_gumbels() -> None:
    torch.manual_seed(0)
    drawn = gumbel_like(torch.zeros(200_000))
    assert float(drawn.mean()) == pytest.approx(np.euler_gamma, abs=0.01)
    assert float(drawn.var()) == pytest.approx(np.pi**2 / 6, abs=0.03)
    # so that a class is drawn as often as its softmax says
    logits = torch.tensor([0.0, 1.0, 2.0]).expand(100_000, 3)
    share = assign(logits, noise=gumbel_like(logits)).mean(0)
    torch.testing.assert_close(share, logits[0].softmax(0), atol=0.01, rtol=0)


@torch.no_grad()
def test_fresh_weights_are_as_released() -> None:
    torch.manual_seed(0)
    made = SemanticGrouping(64, 4, centres=8, layers=1)
    assert float(made.output[1].weight.std()) == pytest.approx(0.02, rel=0.05)
    assert float(made.layers[0].attention.out_proj.weight.std()) == pytest.approx(0.02, rel=0.05)
    bound = (6 / (64 + 3 * 64)) ** 0.5  # Xavier's, of the common projection
    assert float(made.layers[0].attention.in_proj_weight.abs().max()) == pytest.approx(bound, rel=0.02)
    convolution = torch.nn.Conv1d(64, 64, 1, groups=4, bias=False)
    assert float(made.k_conv.weight.std()) == pytest.approx(float(convolution.weight.std()), rel=0.1)
    assert not made.output[1].bias.any()


@torch.no_grad()
def test_autocast_leaves_the_assignment_in_float32() -> None:
    made, tokens = module(layers=0), 3 * randn(BATCH, LENGTH, WIDTH, seed=9)
    made.k_conv.forward = lambda x: x  # type: ignore[method-assign]  # nothing else is multiplied on the way
    plain = made(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        cast = made(tokens)
    assert torch.equal(cast.soft, plain.soft)
    assert torch.equal(cast.hard, plain.hard)
