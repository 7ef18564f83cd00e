"""Describes CLIP's sizes, and builds towers without weights from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel

from lexiseg.encoders.clip_lite import ClipLite, ClipLiteShape
from lexiseg.encoders.clip_resnet import HEAD_DIM, ClipResNet, ResNetShape
from lexiseg.encoders.clip_vit import ClipVit
from lexiseg.errors import WeightsError

__all__ = ["TINY_LITE", "TINY_RESNET", "TINY_VIT", "ClipShape", "ImageTower", "build", "shape_of"]

ImageTower = ClipVit | ClipResNet | ClipLite
# `model_type` of a saved CLIP whose image tower transformers does not know
RESNET, LITE = "lexiseg_clip_resnet", "lexiseg_clip_lite"


@dataclass(frozen=True)
class ClipShape:
    """A CLIP of OpenAI's kind (docs/papers/clip.md §1.1).

    image_size: pixels. vision_layers: blocks of a ViT, bottlenecks in the four stages of a ResNet, or the name of an
    EfficientNet-Lite. vision_width: of the latter what the pool reads; `direct` channels of them come past stage 5, and
    `inner` are those of its queries and keys. patch: pixels, None for all but a ViT.
    context: tokens in a row. vocabulary: tokens there are; the last one ends a sentence.
    """

    embed_dim: int
    image_size: int
    vision_width: int
    vision_layers: int | tuple[int, int, int, int] | str
    patch: int | None
    text_width: int
    text_layers: int
    context: int = 77
    vocabulary: int = 49_408
    activation: str = "quick_gelu"
    norm_eps: float = 1e-5
    direct: int = 0
    inner: int = 0

    def alike(self, other: Any) -> bool:
        """Whether the towers are of the same size; they may have been trained with another activation."""
        same = {"activation": self.activation, "norm_eps": self.norm_eps}
        return isinstance(other, ClipShape) and replace(other, **same) == self  # type: ignore[arg-type]

    def __str__(self) -> str:
        if isinstance(self.vision_layers, int):
            tower = f"ViT of {self.vision_layers} layers of {self.vision_width} and patches of {self.patch} pixels"
        elif isinstance(self.vision_layers, str):
            tower = f"EfficientNet-{self.vision_layers}, a stage of {self.vision_width - self.direct} channels"
        else:
            tower = f"ResNet of {'-'.join(map(str, self.vision_layers))} blocks, {self.vision_width} wide"
        text = f"a text tower of {self.text_layers} layers of {self.text_width}"
        return f"a CLIP with a {tower} for {self.image_size} pixels, {text} and vectors of {self.embed_dim}"

    def config(self) -> dict[str, Any]:
        """What config.json holds: transformers' `CLIPConfig`, or ours where the image tower is a ResNet."""
        text = {
            **_tower(self.text_width, self.text_layers, self.embed_dim, self.activation, self.norm_eps),
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.context,
            "bos_token_id": self.vocabulary - 2,
            "eos_token_id": self.vocabulary - 1,
            "pad_token_id": 0,
        }
        if isinstance(self.vision_layers, str):
            width = self.vision_width - self.direct
            lite = ClipLiteShape(self.vision_layers, width, self.direct, self.inner, self.embed_dim, self.image_size)
            return {"model_type": LITE, "lite": asdict(lite), "text_config": text}
        if not isinstance(self.vision_layers, int):
            resnet = ResNetShape(self.vision_layers, self.vision_width, self.image_size, self.embed_dim)
            return {"model_type": RESNET, "resnet": asdict(resnet), "text_config": text}
        assert self.patch is not None, "a ViT has patches"
        vision = {
            **_tower(self.vision_width, self.vision_layers, self.embed_dim, self.activation, self.norm_eps),
            "image_size": self.image_size,
            "patch_size": self.patch,
        }
        config: dict[str, Any] = CLIPConfig(
            text_config=text, vision_config=vision, projection_dim=self.embed_dim, architectures=["CLIPModel"]
        ).to_dict()
        return config


# for tests: the vocabulary and context are those of the embedded model's tokenizer, which they borrow
TINY_VIT = ClipShape(32, 32, 64, 2, 8, 64, 2, context=32, vocabulary=4093)
TINY_RESNET = ClipShape(32, 64, 8, (1, 1, 1, 1), None, 64, 2, context=32, vocabulary=4093)
TINY_LITE = ClipShape(32, 64, 32, "tiny", None, 64, 2, context=32, vocabulary=4093, direct=16, inner=16)


def build(config: Mapping[str, Any]) -> tuple[ImageTower, Any, nn.Linear]:
    """The image tower, the text tower (a `CLIPTextModel`) and its projection, W -> D without bias.

    Raises `WeightsError` for a config that is not a CLIP's.
    """
    kind = config.get("model_type")
    try:
        if kind in (RESNET, LITE):
            return _build_ours(config)
        if kind == "clip":
            model = CLIPModel(CLIPConfig.from_dict(dict(config)))
            return ClipVit(model.vision_model, model.visual_projection), model.text_model, model.text_projection
    except (KeyError, TypeError, ValueError, StrictDataclassError) as error:
        raise WeightsError(f"config.json does not describe a CLIP ({error}); copy it from the model again") from error
    raise WeightsError(f"config.json says model_type {kind!r}, which is no CLIP; give the weights of a CLIP model")


def shape_of(vision: ImageTower, text_model: Any) -> ClipShape:
    """The numbers that `build` would make these towers of."""
    text = text_model.config
    width: int
    layers: int | tuple[int, int, int, int] | str
    patch: int | None
    direct = inner = 0
    if isinstance(vision, ClipResNet):
        width, layers, patch = vision.shape.width, vision.shape.layers, None
    elif isinstance(vision, ClipLite):
        width, layers, patch = vision.width, vision.shape.trunk, None
        direct, inner = vision.shape.direct, vision.shape.inner
    else:
        width, layers, patch = vision.width, int(vision.model.config.num_hidden_layers), vision.patch
    return ClipShape(
        embed_dim=vision.embed_dim,
        image_size=vision.image_size,
        vision_width=width,
        vision_layers=layers,
        patch=patch,
        text_width=text.hidden_size,
        text_layers=text.num_hidden_layers,
        context=text.max_position_embeddings,
        vocabulary=text.vocab_size,
        activation=text.hidden_act,
        norm_eps=text.layer_norm_eps,
        direct=direct,
        inner=inner,
    )


def _build_ours(config: Mapping[str, Any]) -> tuple[ClipResNet | ClipLite, Any, nn.Linear]:
    """The towers that transformers does not know."""
    text_config = CLIPTextConfig.from_dict(dict(config["text_config"]))
    dimension = config["lite" if config["model_type"] == LITE else "resnet"]["embed_dim"]
    projection = nn.Linear(text_config.hidden_size, dimension, bias=False)
    vision: ClipResNet | ClipLite
    if config["model_type"] == LITE:
        vision = ClipLite(ClipLiteShape(**config["lite"]))
    else:
        numbers = config["resnet"]
        layers = tuple(numbers["layers"])
        vision = ClipResNet(ResNetShape(layers, numbers["width"], numbers["image_size"], numbers["embed_dim"]))
    return vision, CLIPTextModel(text_config), projection


def _tower(width: int, layers: int, embed_dim: int, activation: str, norm_eps: float) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // HEAD_DIM),
        "projection_dim": embed_dim,
        "hidden_act": activation,
        "layer_norm_eps": norm_eps,
    }
