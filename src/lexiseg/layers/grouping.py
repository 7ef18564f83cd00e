"""Groups tokens around learned centres.

There are the hard assignment, and SegCLIP's module of it.

Letters: B images, G centres, L tokens, W width, H heads. Sections (§): docs/papers/segclip.md.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.init import normal_, trunc_normal_, xavier_uniform_, zeros_

from lexiseg.segmenter import at_least_float32

__all__ = [
    "CrossAttentionBlock",
    "Form",
    "Grouped",
    "HeadwiseLinear",
    "QuickGelu",
    "SemanticGrouping",
    "assign",
    "draw_linear",
    "gumbel_like",
    "scramble",
]

Form = Literal["released", "paper"]
SPREAD = 0.02  # standard deviation of fresh weights, as in the released code
HIDDEN = 4  # times the width, in every feed-forward network


def gumbel_like(logits: Tensor) -> Tensor:
    """Standard Gumbel noise of the same shape, in float32 or better, from torch's global generator."""
    return -torch.empty_like(at_least_float32(logits)).exponential_().log()


def assign(logits: Tensor, *, noise: Tensor | None = None, temperature: float = 1.0, dim: int = 1) -> Tensor:
    """One-hot assignment along `dim`, whose gradient is that of the softmax (straight-through).

    noise: added to the logits first, `gumbel_like` in training. The temperature divides their sum, and so changes
    gradients alone. The values are exactly 0 and 1, in float32 or better.
    """
    logits = at_least_float32(logits)
    soft = ((logits if noise is None else logits + noise) / temperature).softmax(dim)
    hard = torch.zeros_like(soft).scatter_(dim, soft.argmax(dim, keepdim=True), 1.0)
    return hard + (soft - soft.detach())


def scramble(memory: Tensor) -> Tensor:
    """The keys that the released training really used [B, L, W]: tokens of the whole batch, misread (§3.3).

    Item l of image b is row l * B + b of all images' tokens laid end to end. With one image nothing changes.
    """
    batch, length, width = memory.shape
    return memory.reshape(length, batch, width).transpose(0, 1)


class Grouped(NamedTuple):
    """regions [B, G, W]; hard: one-hot over the centres, float32 [B, G, L]; soft: the softmax without noise, too."""

    regions: Tensor
    hard: Tensor
    soft: Tensor


class QuickGelu(nn.Module):
    """CLIP's activation, x * sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class HeadwiseLinear(nn.Module):
    """A linear map for each head's channels, without bias: a 1 x 1 convolution of H groups, as weights [H, W/H, W/H].

    A fresh one is as torch draws such a convolution.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        size = width // heads
        self.weight = nn.Parameter(torch.empty(heads, size, size).uniform_(-(size**-0.5), size**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, W] -> [B, L, W]"""
        parts = x.view(*x.shape[:2], self.weight.shape[0], -1)
        mapped: Tensor = torch.einsum("blhc,hdc->blhd", parts, self.weight).flatten(2)
        return mapped


class CrossAttentionBlock(nn.Module):
    """A transformer layer whose queries are the centres; keys and values have a norm of their own."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_x, self.ln_k, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, HIDDEN * width), QuickGelu(), nn.Linear(HIDDEN * width, width))

    def forward(self, centres: Tensor, memory: Tensor, *, scrambled: bool = False) -> Tensor:
        """centres [B, G, W], memory [B, L', W] -> centres; `scrambled` as in `scramble`."""
        memory = self.ln_k(memory)
        memory = scramble(memory) if scrambled else memory
        centres = centres + self.attention(self.ln_x(centres), memory, memory, need_weights=False)[0]
        result: Tensor = centres + self.mlp(self.ln_2(centres))
        return result


class SemanticGrouping(nn.Module):
    """SegCLIP's semantic group module (§3.2; section 2.2 of the paper): any number of patch tokens in, regions out.

    form: "released" or "paper", whose equations 1 to 3 have no norms and no projections, and centres that do not
        attend to each other. Weights of one do not fit the other.
    temperature: of the assignment in training.
    """

    def __init__(
        self, width: int, heads: int, *, centres: int, layers: int, form: Form = "released", temperature: float = 0.9
    ) -> None:
        super().__init__()
        self.form, self.temperature = form, temperature
        self.centres = nn.Parameter(torch.empty(centres, width))
        self.layers = nn.ModuleList(CrossAttentionBlock(width, heads) for _ in range(layers))
        output: list[nn.Module] = [nn.Linear(width, HIDDEN * width), nn.GELU(), nn.Linear(HIDDEN * width, width)]
        if form == "released":
            self.cross_ln, self.norm, self.k_ln = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
            self.k_conv, self.v_conv = HeadwiseLinear(width, heads), HeadwiseLinear(width, heads)
            output = [nn.LayerNorm(width), *output, QuickGelu()]
        self.output = nn.Sequential(*output)
        self._draw()

    def forward(self, tokens: Tensor, *, noise: Tensor | None = None, scrambled: bool = False) -> Grouped:
        """tokens: of patches alone [B, L, W].

        noise: Gumbel noise [B, G, L] in place of what is drawn in training; without training there is none.
        scrambled: train as the released code did, see `scramble`.
        """
        centres = self.contextual_centres(tokens, scrambled=scrambled and self.training)
        keys, values = tokens, tokens
        if self.form == "released":
            normed = self.norm(tokens)
            keys, values = self.k_ln(self.k_conv(normed)), self.v_conv(normed)
        # all in float32, under autocast too: half precision tells like centres apart too coarsely, and counts to 256
        with torch.autocast(tokens.device.type, enabled=False):
            logits = at_least_float32(centres) @ at_least_float32(keys).mT  # [B, G, L], Eq. 2; not scaled
            if self.training:
                noise = gumbel_like(logits) if noise is None else noise
                hard = assign(logits, noise=noise, temperature=self.temperature)
            else:
                hard = assign(logits)
            means = hard @ at_least_float32(values) / hard.sum(dim=2, keepdim=True).clamp(min=1)  # Eq. 3
        return Grouped(self.output(centres + means.to(centres.dtype)), hard, logits.softmax(dim=1))

    def contextual_centres(self, tokens: Tensor, *, scrambled: bool = False) -> Tensor:
        """The centres after they have seen the tokens [B, G, W] (Eq. 1)."""
        centres = self.centres.expand(len(tokens), -1, -1)
        for layer in self.layers:
            memory = tokens if self.form == "paper" else torch.cat([centres, tokens], dim=1)
            centres = layer(centres, memory, scrambled=scrambled)
        return centres if self.form == "paper" else self.cross_ln(centres)

    def _draw(self) -> None:
        """Fresh weights as released: N(0, 0.02) for linear layers, Xavier's for attention's common projection."""
        trunc_normal_(self.centres, std=SPREAD)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                draw_linear(module)
            elif isinstance(module, nn.MultiheadAttention):
                xavier_uniform_(module.in_proj_weight)


def draw_linear(module: nn.Linear) -> None:
    """Weights from N(0, 0.02), no bias."""
    normal_(module.weight, std=SPREAD)
    if module.bias is not None:
        zeros_(module.bias)
