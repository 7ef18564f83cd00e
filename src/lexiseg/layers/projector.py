"""Projects features into a common space with a two-layer MLP."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from lexiseg.errors import SettingError

__all__ = ["Norm", "Projector"]

Norm = Literal["batch", "layer", "none"]


class Projector(nn.Sequential):
    """[..., W] -> [..., D]: linear, norm, ReLU, linear.

    norm: over the "batch" as GroupViT has it, over the channels of each row ("layer"), or "none". Running statistics
        take the place of a batch's in eval mode, so that rows do not mix then.
    """

    def __init__(self, width: int, hidden: int, dimension: int, norm: Norm = "batch") -> None:
        between = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}.get(norm)
        super().__init__(
            nn.Linear(width, hidden),
            nn.Identity() if between is None else between(hidden),
            nn.ReLU(),
            nn.Linear(hidden, dimension),
        )

    @property
    def dimension(self) -> int:
        """D."""
        last = self[-1]
        assert isinstance(last, nn.Linear), "it ends with one"
        return last.out_features

    def forward(self, rows: Tensor) -> Tensor:
        """Raises `SettingError` for a single row in training, which a batch norm would make zero."""
        flat = rows.flatten(0, -2)
        if self.training and len(flat) == 1 and isinstance(self[1], nn.BatchNorm1d):
            raise SettingError(
                "this projection normalises over the batch, so one sample at a time cannot train it; give batches and "
                "pieces of two or more, or set projection_norm=layer"
            )
        projected = flat
        for layer in self:
            projected = layer(projected)
        return projected.view(*rows.shape[:-1], -1)
