"""Runs a plain transformers script, the yardstick of speed.

It is what one would write without lexiseg, with a few lines of torch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.encoders.clip_vit import ClipVit
from lexiseg.inference import preprocess
from lexiseg.layers import pixels
from lexiseg.layers.pixels import Statistics
from lexiseg.methods.maskclip import MaskClip
from lexiseg.segmenter import DenseLogits, Inference, MaskScores, Segmenter, TextClassifier

__all__ = ["Peer", "argmax"]


class Peer:
    """A photograph in memory to a label map in memory: resized, embedded, compared with the words, upsampled, argmax.

    The network runs eagerly in `dtype`, scores of all classes stand at full size before the maximum is taken, and no
    posterior is computed. For a CLIP with a ViT the network is transformers' own, all of it; any other method's is the
    segmenter's, whose speed is then no part of the comparison.

    segmenter: is copied. classifier: of its `embed_text`, on `device`.
    """

    def __init__(
        self,
        segmenter: Segmenter[Any, Any],
        classifier: Any,
        inference: Inference,
        *,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:
        self.inference, self.dtype, self.device = inference, dtype, torch.device(device)
        segmenter = copy.deepcopy(segmenter)
        if isinstance(segmenter, torch.nn.Module):
            segmenter.eval().to(self.device, dtype)
        self._network: Callable[[Tensor], DenseLogits | MaskScores]
        if isinstance(segmenter, MaskClip) and isinstance(segmenter.clip.vision, ClipVit):
            self._network = _Tower(segmenter.clip.vision, segmenter.config.statistics, classifier.to(dtype=dtype))
        else:
            self._network = lambda images: segmenter.classify(segmenter.embed_image(images), classifier)

    @torch.inference_mode()
    def label(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        """RGB uint8 [H, W, 3] to labels [H, W]."""
        height, width = image.shape[:2]
        images = torch.from_numpy(image).permute(2, 0, 1)[None].to(self.device)
        seen = preprocess.target_size(height, width, self.inference)
        if seen != (height, width):
            images = F.interpolate(images, seen, mode="bilinear", antialias=True, align_corners=False)
        return argmax(self._network(images), (height, width)).cpu().numpy()


class _Tower:
    """CLIP's whole image tower as transformers runs it, every patch compared with the words."""

    def __init__(self, vision: ClipVit, statistics: Statistics, classifier: TextClassifier) -> None:
        self.vision, self.statistics, self.classifier = vision, statistics, classifier

    def __call__(self, images: Tensor) -> DenseLogits:
        tower, patch = self.vision.model, self.vision.patch
        images = pixels.normalise(images, self.statistics, pixels.dtype_of(tower))
        tokens = tower(images, interpolate_pos_encoding=True).last_hidden_state[:, 1:]
        features = F.normalize(self.vision.projection(tower.post_layernorm(tokens)), dim=-1)  # [B, L, D]
        logits = (self.classifier.scale * features @ self.classifier.weight.T).mT  # [B, Q, L]
        logits = self.classifier.pool(logits.reshape(*logits.shape[:2], *(side // patch for side in images.shape[-2:])))
        return DenseLogits(logits, self.classifier.background)


def argmax(result: DenseLogits | MaskScores, size: tuple[int, int]) -> Tensor:
    """Labels [H, W] of a result of one image, by way of the scores of all classes at `size` (height, width).

    Takes the grid for the whole picture, whatever it `covers`: the time is the same.
    """
    if isinstance(result, DenseLogits):
        return F.interpolate(result.logits, size, mode="bilinear", align_corners=False).argmax(dim=1)[0]
    masks = result.weigh(F.interpolate(result.masks, size, mode="bilinear", align_corners=False))
    return torch.einsum("bnhw,bnc->bchw", masks, result.scores.to(masks)).argmax(dim=1)[0]
