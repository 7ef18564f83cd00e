"""What the results of `classify` mean, by the definition, in float64: no bands, no cells, no shortcuts."""

from __future__ import annotations

import numpy as np
import torch

from lexiseg.segmenter import DenseLogits, MaskScores

Size = tuple[int, int]
Result = DenseLogits | MaskScores


def stretch(values: torch.Tensor, size: Size, covers: tuple[float, float] | None = None) -> torch.Tensor:
    """[C, h, w] to float64 [C, *size], where the grid spans `covers` pixels of `size` from the top left corner."""
    down, across = (
        matrix(cells, pixels, covered)
        for cells, pixels, covered in zip(values.shape[-2:], size, covers or size, strict=True)
    )
    return down @ values.double() @ across.T


def matrix(cells: int, pixels: int, covered: float) -> torch.Tensor:
    """[pixels, cells]: how much each cell counts at each pixel. numpy.interp is level beyond the outermost middles."""
    place = (np.arange(pixels) + 0.5) * cells / covered - 0.5
    return torch.from_numpy(np.stack([np.interp(place, np.arange(cells), one) for one in np.eye(cells)], axis=1))


def values_of(result: Result, size: Size, seen: Size | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """What classes compete with and their posteriors, NaN where there are none, both [C, *size].

    seen: the size of the input, where it is not `size`.
    """
    seen = seen or size
    covers = result.covers and tuple(c * side / whole for c, side, whole in zip(result.covers, size, seen, strict=True))
    if isinstance(result, DenseLogits):
        logits = stretch(result.logits[0], size, covers)
        return logits, logits.softmax(0)
    masks = stretch(result.masks[0], size, covers)
    weights = masks.sigmoid() if result.weights == "sigmoid" else masks
    summed, total = torch.einsum("nc,nyx->cyx", result.scores[0].double(), weights), weights.sum(0)
    # where hardly any mask is, rounding decides
    return summed, (summed / total).clamp(0, 1).masked_fill(total < 1e-5, torch.nan)


def check_labels(labels: np.ndarray, scores: np.ndarray | None, values: torch.Tensor, posterior: torch.Tensor) -> None:
    """Each label's value is the largest, but for rounding; each score is its posterior."""
    chosen = torch.from_numpy(labels.astype(np.int64))[None]
    won, best = values.gather(0, chosen)[0], values.amax(0)
    assert (best - won <= 2e-5 * values.abs().max().clamp(min=0.1)).all()
    if scores is not None:
        expected = posterior.gather(0, chosen)[0].numpy()
        known = ~np.isnan(expected)
        assert np.allclose(scores[known], expected[known], rtol=3e-3, atol=1e-5)
        assert ((scores >= 0) & (scores <= 1)).all()
