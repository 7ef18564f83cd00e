"""Computes attention in bf16, in the fastest way for the processor.

It serves processors whose bf16 multiplies are fast, but not those in torch's own fused attention.

torch's fused attention for the CPU needs AMX to be fast in bf16. With AVX512-BF16 alone two plain products per head
take much less (docs/log.md, 2026-11-21). They round the cosines of queries and keys to bf16 before the softmax, as
transformers' "eager" attention does. Training in bf16 takes all heads at once, since the fused kernel's way back is
slower still. Everywhere else this is torch's fused attention.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

__all__ = ["attend", "use"]

NAME = "lexiseg"
SCORES = 1 << 20  # numbers of one product that stay in a core's cache: 2 MB


def use(model: Any) -> None:
    """Lets a model of transformers attend this way, where it was to use torch's fused attention."""
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, attend)
        model.config._attn_implementation = NAME


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None, **options: Any
) -> tuple[Tensor, None]:
    """[B, heads, L, D] each to [B, L, heads, D]; the interface is transformers'."""
    plain = attention_mask is None and not options.get("dropout")
    causal, scale = bool(options.get("is_causal")), options.get("scaling")
    needs_gradient = torch.is_grad_enabled() and query.requires_grad
    if plain and query.dtype == torch.bfloat16 and query.device.type == "cpu" and _pays():
        if needs_gradient:
            return _at_once(query, key, value, scale, causal), None
        if not causal:
            return _by_heads(query, key, value, scale), None
    fused: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    return fused


def _at_once(query: Tensor, key: Tensor, value: Tensor, scale: float | None, causal: bool) -> Tensor:
    scores = query * (query.shape[-1] ** -0.5 if scale is None else scale) @ key.mT  # [B, heads, L, L]
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, float("-inf"))
    return (scores.softmax(dim=-1) @ value).transpose(1, 2).contiguous()


def _by_heads(query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
    batch, heads, length, size = query.shape
    query = query * (size**-0.5 if scale is None else scale)
    mixed = query.new_empty(batch, length, heads, value.shape[-1])
    step = max(1, SCORES // key.shape[2])
    for image in range(batch):
        for head in range(heads):
            keys, values = key[image, head].mT, value[image, head]
            for start in range(0, length, step):
                rows = slice(start, start + step)
                mixed[image, rows, head] = (query[image, head, rows] @ keys).softmax(dim=-1) @ values
    return mixed


@functools.cache
def _pays() -> bool:
    """Whether the processor multiplies bf16, but not in tiles; torch's questions are private, and may be gone."""
    try:
        return bool(torch.cpu._is_avx512_bf16_supported()) and not torch.cpu._is_amx_tile_supported()
    except (AttributeError, RuntimeError):
        return False
