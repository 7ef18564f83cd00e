"""Attention head by head against torch's, and where each of them is taken."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from lexiseg.encoders import attention


@pytest.fixture
def heads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """As on a processor where it pays; what was attended by heads is noted."""
    seen: list[str] = []
    original = attention._by_heads
    monkeypatch.setattr(attention, "_pays", lambda: True)
    monkeypatch.setattr(attention, "_by_heads", lambda *given: (seen.append("heads"), original(*given))[1])
    return seen


class Module(nn.Module):
    is_causal = False


def random(dtype: torch.dtype, *shape: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(*shape, generator=generator).to(dtype) for _ in range(3))


@pytest.mark.parametrize("shape", [(1, 2, 7, 16), (2, 3, 65, 8), (1, 1, 1, 4)])
@pytest.mark.parametrize("scaling", [None, 0.3])
@pytest.mark.parametrize("numbers", [1, 200, 1 << 20])
def test_head_by_head_is_attention(shape, scaling, numbers, monkeypatch):
    monkeypatch.setattr(attention, "SCORES", numbers)
    query, key, value = random(torch.float32, *shape)
    found = attention._by_heads(query, key, value, scaling)
    expected = F.scaled_dot_product_attention(query, key, value, scale=scaling).transpose(1, 2)
    torch.testing.assert_close(found, expected)


def test_bf16_is_as_near_to_fp32_as_torchs(heads):
    query, key, value = random(torch.float32, 1, 4, 200, 64)
    exact = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
    half = tuple(each.to(torch.bfloat16) for each in (query, key, value))
    torchs = F.scaled_dot_product_attention(*half).transpose(1, 2).float()
    found, _ = attention.attend(Module(), *half, scaling=64**-0.5)
    assert heads == ["heads"]
    assert (found.float() - exact).norm() < 1.5 * (torchs - exact).norm()


@pytest.mark.parametrize("case", ["fp32", "mask", "causal", "dropout", "no such processor"])
def test_everything_else_is_torchs(case, heads, monkeypatch):
    query, key, value = random(torch.float32 if case == "fp32" else torch.bfloat16, 1, 2, 9, 16)
    mask = torch.zeros(1, 1, 9, 9, dtype=query.dtype) if case == "mask" else None
    monkeypatch.setattr(attention, "_pays", lambda: case != "no such processor")
    options = {"is_causal": True} if case == "causal" else {"dropout": 0.1} if case == "dropout" else {}
    found, _ = attention.attend(Module(), query, key, value, mask, scaling=0.25, **options)
    assert heads == []
    if case != "dropout":
        expected = F.scaled_dot_product_attention(query, key, value, mask, is_causal=case == "causal", scale=0.25)
        torch.testing.assert_close(found, expected.transpose(1, 2))


@pytest.mark.parametrize("causal", [False, True])
def test_gradients_are_those_of_torchs_attention(causal, heads):
    exact = [each.requires_grad_() for each in random(torch.float32, 2, 3, 20, 16)]
    half = [each.detach().to(torch.bfloat16).requires_grad_() for each in exact]
    expected = F.scaled_dot_product_attention(*exact, is_causal=causal).transpose(1, 2)
    found, _ = attention.attend(Module(), *half, is_causal=causal)
    assert heads == []
    torch.testing.assert_close(found.float(), expected, atol=0.02, rtol=0.02)
    expected.square().sum().backward()
    found.float().square().sum().backward()
    for one, other in zip(exact, half, strict=True):
        assert F.cosine_similarity(one.grad.flatten(), other.grad.float().flatten(), dim=0) > 0.999


@torch.no_grad()
def test_a_tower_gives_what_it_gave(heads):
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4, image_size=32, patch_size=8
    )
    tower = CLIPVisionModel(config).eval()
    images = torch.randn(2, 3, 32, 32)
    expected = tower(images).last_hidden_state
    attention.use(tower)
    assert torch.equal(tower(images).last_hidden_state, expected)
    found = tower.to(torch.bfloat16)(images.bfloat16()).last_hidden_state.float()
    assert heads == ["heads"] * 3
    assert F.cosine_similarity(found, expected, dim=-1).min() > 0.999


def test_a_choice_of_the_users_stays():
    config = CLIPVisionConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1)
    tower = CLIPVisionModel._from_config(config, attn_implementation="eager")
    attention.use(tower)
    assert tower.config._attn_implementation == "eager"
