"""Says where a model's weights come from.

It also says which architecture they must be of.

Whatever names weights takes one text, which `Weights.of` reads: `--weights` and `weights=`, a recipe's `weights`, a
student's `backbone` and `text_tower`, shared.json of an embedded model.

    asset:NAME             a model inside the package: asset:mini-clip
    PATH                   a folder or file on this machine: runs/a/model, RN50.pt; where it exists, before the hub
    OWNER/NAME             a repository on the Hugging Face hub: openai/clip-vit-base-patch16
    clip:SOURCE            one of these, read as a CLIP, where a network takes backbones of several kinds
    transformers:SOURCE    the same, read by transformers

Variants name two more kinds, which have no text: weights that a person must fetch by hand, and weights that were never
published.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from lexiseg.errors import SettingError, WeightsError

__all__ = ["AnyWeights", "Architecture", "Weights"]

Kind = Literal["asset", "file", "hub", "by_hand", "none"]
Layout = Literal["clip", "transformers"]
ASSET = "asset:"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
FILE_ENDINGS = (".pt", ".pth", ".bin", ".safetensors", ".gz", ".txt", ".json")


class Architecture(Protocol):
    """The numbers of an architecture; `str` of them names it."""

    def alike(self, other: Any) -> bool:
        """Whether weights of the other architecture fit this one."""
        ...


@dataclass(frozen=True)
class Weights:
    """kind: an asset of the package, a file or folder of this machine, a hub id, fetched by hand, or none at all.
    name: of the asset, the path, the hub id; for the last two kinds what a person would call them.
    how_to_get: of the last two kinds, for the error.
    sha256: of the file, where its authors published it.
    pickled: whether they come as a pickle, which is read only where the user allows it.
    shape: the architecture that they must be of; None where any will do.
    layout: how a network that takes several kinds of backbones is to read them.
    """

    kind: Kind
    name: str
    how_to_get: str = ""
    sha256: str = ""
    pickled: bool = False
    shape: Architecture | None = None
    layout: Layout | None = None

    @classmethod
    def of(cls, given: AnyWeights) -> Weights:
        """Reads the text that the head of this file describes; `Weights` are returned as they are."""
        if isinstance(given, Weights):
            return given
        if not isinstance(given, (str, os.PathLike)):
            raise SettingError(f"weights are a hub id, a folder or a file; got {given!r}")
        text, layout = os.fspath(given), None
        for known in get_args(Layout):
            if text.startswith(f"{known}:"):
                text, layout = text.removeprefix(f"{known}:"), known
        if text.startswith(ASSET):
            return cls("asset", text.removeprefix(ASSET), layout=layout)
        hub = HUB_ID.fullmatch(text) and not text.startswith((".", "~")) and not text.endswith(FILE_ENDINGS)
        return cls("hub" if hub and not Path(text).exists() else "file", text, layout=layout)

    @property
    def is_here(self) -> bool:
        """Whether they are inside the package or at a path that exists; the hub's cache is not looked into."""
        return self.kind == "asset" or bool(self.kind in ("file", "hub") and Path(self.name).expanduser().exists())

    def missing(self) -> str:
        """Why weights that lexiseg cannot fetch are not loaded, and what to do about it."""
        known = f" (SHA-256 {self.sha256})" if self.sha256 else ""
        if self.kind == "none":
            return f"nothing of {self.name} has been published: {self.how_to_get}; then name the folder, weights=FOLDER"
        pickle = " and allow_pickle=True" if self.pickled else ""
        return (
            f"lexiseg cannot download {self.name}: {self.how_to_get}{known}; then name the file, weights=FILE{pickle}"
        )

    def check(self, found: Architecture) -> None:
        """Raises `WeightsError` where what was loaded is of another architecture than these weights must be."""
        if self.shape is not None and not self.shape.alike(found):
            raise WeightsError(
                f"{self} holds {found}, but this model is {self.shape}; name the variant that they belong to, or the "
                "method alone, which takes any weights of its kind (maskclip, weights=FILE)"
            )

    def __str__(self) -> str:
        text = f"{ASSET}{self.name}" if self.kind == "asset" else self.name
        return f"{self.layout}:{text}" if self.layout else text


AnyWeights = str | os.PathLike[str] | Weights
