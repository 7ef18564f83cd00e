"""Scores regions by a product of two softmaxes.

It is GroupViT's rule, which SegCLIP shares.

GroupViT and SegCLIP label pixels by regions, and call background what no class claims (docs/papers/segclip.md §3.8):

    pre   = softmax over all classes of a region's logits
    post  = the same over the few classes that the image as a whole shows most
    score = pre * post; the region is background where its best score is below the threshold

Everything is per picture, or per window where a picture is looked at in windows. Letters: B images, N regions,
C classes, Q words, D embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lexiseg.segmenter import TextClassifier, at_least_float32
from lexiseg.settings import require

__all__ = ["CERTAIN", "ProductRule", "region_logits"]

ALWAYS = float("inf")
# 1, and the least bit more: where one window is sure of a class and another of the background, the released code, whose
# background comes first, takes the background
CERTAIN = 1 + 1e-6


@dataclass(frozen=True)
class ProductRule:
    """threshold: regions whose best score is below it are background, 0-1.
    top_classes: how many classes an image may show; None for all.
    adaptive: the best region of an image is never background: the threshold is at most its score. As released.
    """

    threshold: float
    top_classes: int | None = 5
    adaptive: bool = True

    def __post_init__(self) -> None:
        require(0 <= self.threshold <= 1, "product_threshold", "a score, 0 to 1", self.threshold)
        require(self.top_classes is None or self.top_classes >= 1, "top_classes", "1 or more", self.top_classes)

    def scores(self, features: Tensor, image: Tensor, classifier: TextClassifier) -> Tensor:
        """Regions [B, N, D] and whole images [B, D] as scores of each class, then of the background [B, N, C + 1].

        The background is `CERTAIN` or 0. Where the vocabulary has words for it they are a class like any other, which
        an image may always show, and the larger of the two counts.
        """
        logits = region_logits(features, classifier)  # [B, N, C]
        shown = self._shown(region_logits(image[:, None], classifier)[:, 0], classifier.background)  # [B, C]
        post = logits.masked_fill(~shown[:, None], float("-inf")).softmax(dim=2)
        return self._with_background(logits.softmax(dim=2) * post, classifier.background)

    def _shown(self, logits: Tensor, background: bool) -> Tensor:
        """The classes that an image shows, of its own logits [B, C]; background words take nothing's place."""
        count = logits.shape[1] - background
        most = count if self.top_classes is None else min(self.top_classes, count)
        if background:
            logits = logits.clone()
            logits[:, -1] = ALWAYS
        places = logits.topk(most + background, dim=1).indices
        return torch.zeros_like(logits, dtype=torch.bool).scatter_(1, places, True)

    def _with_background(self, scores: Tensor, background: bool) -> Tensor:
        best = scores[..., : scores.shape[2] - background].amax(dim=2, keepdim=True)  # [B, N, 1]
        least = best.amax(dim=1, keepdim=True).clamp(max=self.threshold) if self.adaptive else self.threshold
        nothing = (best < least).to(scores) * CERTAIN
        if not background:
            return torch.cat([scores, nothing], dim=2)
        return torch.cat([scores[..., :-1], scores[..., -1:].maximum(nothing)], dim=2)


def region_logits(features: Tensor, classifier: TextClassifier) -> Tensor:
    """Scaled cosines of regions with the best word of each class: [B, N, D] -> [B, N, C], in float32 or better."""
    features = functional.normalize(at_least_float32(features), dim=2)
    return classifier.pool(features @ classifier.weight.to(features).mT * classifier.scale, dim=2)
