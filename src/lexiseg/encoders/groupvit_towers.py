"""Opens GroupViT's image and text towers.

GroupViT's two towers: an image tower that groups its tokens in stages, and a text tower as CLIP has (§5.1-5.3).

The modules are those of transformers' `GroupViTModel`, at any size of picture. Opens what transformers saves (a hub id
or a folder), what `GroupVit.save` wrote, and the checkpoints that GroupViT's authors released (§5.6). Sections (§):
docs/papers/groupvit.md. Letters: B images, N sentences, L patch tokens, G groups, W width of a tower, D embedding,
h w grid.
"""

from __future__ import annotations

import copy
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.init import normal_
from transformers import GroupViTConfig, GroupViTModel

from lexiseg import files
from lexiseg.encoders.checkpoints import read_file
from lexiseg.encoders.clip import EMBEDDED, OPENAI_TOKENIZER
from lexiseg.encoders.clip_text import ClipText
from lexiseg.encoders.tokenizer import MERGES_FILE, Tokenizer
from lexiseg.encoders.weights import Origin, find, fit, portable, read_folder, read_json
from lexiseg.errors import WeightsError
from lexiseg.layers.pixels import IMAGENET_MEAN, IMAGENET_STD
from lexiseg.segmenter import at_least_float32
from lexiseg.weights import AnyWeights, Weights

__all__ = ["GroupVit", "GroupVitShape", "Groups"]

MODEL_TYPE = "groupvit"  # in config.json
HEAD = 64  # channels of an attention head, in both towers
SPREAD = 0.02  # standard deviation of fresh positions and first group tokens, which transformers leaves at zero
UNUSED = ("multi_label_logit_scale",)  # in released checkpoints: the temperature of a loss


@dataclass(frozen=True)
class GroupVitShape:
    """The released models are the defaults: two grouping blocks, after the sixth and the ninth of twelve layers.

    depths: layers in front of each grouping block, and after the last one.
    group_tokens, groups: of each grouping block, how many group tokens join its layers, and how many groups it makes.
    image_size, patch: pixels. hidden: channels inside the projectors. context: tokens in a row of text.
    """

    depths: tuple[int, ...] = (6, 3, 3)
    group_tokens: tuple[int, ...] = (64, 8)
    groups: tuple[int, ...] = (64, 8)
    image_size: int = 224
    patch: int = 16
    width: int = 384
    text_width: int = 256
    text_layers: int = 12
    embed_dim: int = 256
    hidden: int = 4096
    context: int = 77
    vocabulary: int = 49_408

    def alike(self, other: object) -> bool:
        return self == other

    def __str__(self) -> str:
        stages = " and ".join(map(str, self.groups))
        return (
            f"a GroupViT of {'-'.join(map(str, self.depths))} layers of {self.width} with {stages} groups and patches "
            f"of {self.patch} pixels for {self.image_size} pixels, a text tower of {self.text_layers} layers of "
            f"{self.text_width} and vectors of {self.embed_dim}"
        )

    def config(self) -> dict[str, Any]:
        """What config.json holds: transformers' `GroupViTConfig`."""
        vision = {
            **_tower(self.width),
            "num_hidden_layers": sum(self.depths),
            "depths": list(self.depths),
            "num_group_tokens": [*self.group_tokens, 0],
            "num_output_groups": [*self.groups, self.groups[-1]],
            "image_size": self.image_size,
            "patch_size": self.patch,
        }
        text = {
            **_tower(self.text_width),
            "num_hidden_layers": self.text_layers,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.context,
            "bos_token_id": self.vocabulary - 2,
            "eos_token_id": self.vocabulary - 1,
            "pad_token_id": 0,
        }
        content: dict[str, Any] = GroupViTConfig(
            text_config=text,
            vision_config=vision,
            projection_dim=self.embed_dim,
            projection_intermediate_dim=self.hidden,
            architectures=["GroupViTModel"],
        ).to_dict()
        return content


class Groups(NamedTuple):
    """tokens: after the last LayerNorm [B, G, W].

    assignments: of each grouping block the softmax over its groups, [B, groups, what it groups], without noise.
    grid: of the patches (h, w).
    """

    tokens: Tensor
    assignments: tuple[Tensor, ...]
    grid: tuple[int, int]

    def shares(self, *, hard: bool = False) -> Tensor:
        """How much each patch belongs to each group, in float32 or better [B, G, h, w] (§5.5, 1).

        The product over the blocks; hard: of their one-hot forms.
        """
        each = [at_least_float32(one) for one in self.assignments]
        if hard:
            each = [torch.zeros_like(one).scatter_(1, one.argmax(dim=1, keepdim=True), 1) for one in each]
        together = reduce(lambda below, above: above @ below, each)  # [B, G, L]
        return together.reshape(*together.shape[:2], *self.grid)


class GroupVitVision(nn.Module):
    """model: a `GroupViTVisionTransformer`. projection: W -> D, with batch normalisation inside."""

    def __init__(self, model: Any, projection: nn.Sequential) -> None:
        super().__init__()
        self.model, self.projection = model, projection

    @property
    def patch(self) -> int:
        return int(self.model.config.patch_size)

    @property
    def layers(self) -> list[Any]:
        """All `GroupViTEncoderLayer`s in order."""
        return [layer for stage in self.model.encoder.stages for layer in stage.layers]

    def forward(self, images: Tensor) -> Groups:
        """Normalised images [B, 3, H, W] of any size.

        Sides that are not a multiple of the patch are padded with zeros (the mean colour) at the right and bottom.
        """
        height, width = images.shape[-2:]
        images = functional.pad(images, (0, -width % self.patch, 0, -height % self.patch))
        grid = images.shape[-2] // self.patch, images.shape[-1] // self.patch
        # transformers' attention writes all its weights, 17 MB for a window: of several they leave a core's caches
        alone = images.device.type == "cpu" and not torch.is_grad_enabled()
        parts = [self._groups(part) for part in torch.split(images, 1 if alone else len(images))]
        tokens, *assignments = parts[0] if len(parts) == 1 else [torch.cat(each) for each in zip(*parts, strict=True)]
        return Groups(tokens, tuple(assignments), grid)

    def _groups(self, images: Tensor) -> tuple[Tensor, ...]:
        """The tokens and assignments of `Groups`, of pictures of whole patches."""
        # transformers' own forward refuses other sizes than the tower's, and guesses the grid from the token count
        tokens = self.model.embeddings(images, interpolate_pos_encoding=True)
        encoded = self.model.encoder(tokens, output_attentions=True, return_dict=True)
        return self.model.layernorm(encoded.last_hidden_state), *encoded.attentions

    def project(self, tokens: Tensor) -> Tensor:
        """[..., W] -> [..., D], not of unit length."""
        projected: Tensor = self.projection(tokens.flatten(0, -2))
        return projected.view(*tokens.shape[:-1], -1)


class GroupVitText(ClipText):
    """The text side, with all that a `Clip` does with words: a projector stands in the projection's place."""

    def __init__(self, text_model: Any, projection: Any, tokenizer: Tokenizer, log_scale: float) -> None:
        nn.Module.__init__(self)
        self.text_model, self.text_projection = text_model, projection
        self.log_scale = nn.Parameter(torch.tensor(log_scale))
        self.tokenizer = tokenizer
        self._digest = None
        self._check_tokenizer()

    @property
    def embed_dim(self) -> int:
        projection: Any = self.text_projection
        return int(projection[-1].out_features)

    def _text_tensors(self) -> dict[str, Tensor]:
        projector = {f"text_projection.{name}": tensor for name, tensor in self.text_projection.state_dict().items()}
        return {**self.text_model.state_dict(), **projector}


class GroupVit(nn.Module):
    """The towers of a config.json's contents, with fresh weights; `load` and `random` make one.

    vision: a `GroupVitVision`. text: a `GroupVitText`, which has the logit scale too.
    """

    def __init__(self, config: Mapping[str, Any], tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config = copy.deepcopy(dict(config))
        model = _build(self.config)
        self.vision = GroupVitVision(model.vision_model, model.visual_projection)
        log_scale = float(model.config.logit_scale_init_value)
        self.text = GroupVitText(model.text_model, model.text_projection, tokenizer, log_scale)

    @classmethod
    def load(
        cls, weights: AnyWeights, *, tokenizer: str | os.PathLike[str] | None = None, allow_pickle: bool = False
    ) -> GroupVit:
        """A GroupViT with its weights, in eval mode, on the CPU, in fp32.

        weights: as `Weights.of` reads it: a hub id or folder in transformers' layout, or a checkpoint in the authors'.
        tokenizer: a folder, a hub id or OpenAI's merges file, in place of the one beside the weights.
        allow_pickle: also read pickled weights, with `weights_only=True`.

        Raises `WeightsError` for weights that are missing, refused or do not fit, each with what to do.
        """
        wanted = Weights.of(weights)
        source = find(wanted, allow_pickle=allow_pickle)
        if source.name == "model.safetensors":  # its config and tokenizer are beside it
            source = source.parent
        if source.is_dir():
            tensors = read_folder(source, allow_pickle=allow_pickle)
            tensors.pop("text_model.embeddings.position_ids", None)  # a counter that older versions stored
            config, origin = read_json(source / "config.json"), published
        else:
            tensors = _released(source, allow_pickle)
            config, origin = infer_shape(tensors, source).config(), released
        with torch.device("meta"):
            towers = cls(config, _tokenizer(source, config, tokenizer))
        _check_names(towers, tensors, source, origin)
        fit(towers, tensors, source=source, origin=origin)
        towers.text._with_positions()
        wanted.check(towers.shape)
        return towers.eval()

    @classmethod
    def random(cls, shape: GroupVitShape, tokenizer: Tokenizer | None = None) -> GroupVit:
        """Weights drawn by torch's global generator, in eval mode; the embedded model's tokenizer if none is given."""
        words = tokenizer or Tokenizer.from_folder(find(EMBEDDED), shape.context)
        towers = cls(shape.config(), words)
        for table in (
            towers.vision.model.embeddings.position_embeddings,
            towers.vision.model.encoder.stages[0].group_token,
        ):
            normal_(table, std=SPREAD)
        return towers.eval()

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes what `load`, transformers' `GroupViTModel` and `AutoTokenizer` read. Raises `OutputError`."""
        folder = Path(folder)
        tensors = portable({published(name).name: tensor for name, tensor in self.state_dict().items()})
        files.write_bytes(folder / "model.safetensors", to_safetensors(tensors, metadata={"format": "pt"}))
        files.write_text(folder / "config.json", json.dumps(self.config, indent=2) + "\n")
        files.write_text(folder / "preprocessor_config.json", json.dumps(self._preprocessor(), indent=2) + "\n")
        self.text.tokenizer.save(folder)

    @property
    def shape(self) -> GroupVitShape:
        """The numbers of both towers."""
        vision, text = self.vision.model.config, self.text.text_model.config
        grouping = len([count for count in vision.num_group_tokens if count])
        projection: Any = self.vision.projection
        return GroupVitShape(
            depths=tuple(vision.depths),
            group_tokens=tuple(vision.num_group_tokens[:grouping]),
            groups=tuple(vision.num_output_groups[:grouping]),
            image_size=int(vision.image_size),
            patch=int(vision.patch_size),
            width=int(vision.hidden_size),
            text_width=int(text.hidden_size),
            text_layers=int(text.num_hidden_layers),
            embed_dim=int(projection[-1].out_features),
            hidden=int(projection[0].out_features),
            context=int(text.max_position_embeddings),
            vocabulary=int(text.vocab_size),
        )

    def image_features(self, images: Tensor) -> tuple[Tensor, Groups]:
        """Normalised images as one vector each [B, D], not of unit length, and their groups: the mean, projected."""
        groups: Groups = self.vision(images)
        return self.vision.project(groups.tokens.mean(dim=1)), groups

    def _preprocessor(self) -> dict[str, Any]:
        """The image processor of transformers that treats pictures as the tower expects."""
        side = self.shape.image_size
        return {
            "image_processor_type": "CLIPImageProcessor",
            "size": {"height": side, "width": side},
            "crop_size": {"height": side, "width": side},
            "do_center_crop": False,
            "resample": 2,
            "image_mean": list(IMAGENET_MEAN),
            "image_std": list(IMAGENET_STD),
        }


def published(name: str) -> Origin:
    """Where a tensor of `GroupVit.state_dict()` lies in transformers' layout."""
    for ours, theirs in (
        ("vision.model.", "vision_model."),
        ("vision.projection.", "visual_projection."),
        ("text.log_scale", "logit_scale"),
        ("text.", ""),
    ):
        if name.startswith(ours):
            return Origin(theirs + name.removeprefix(ours))
    raise AssertionError(name)


def released(name: str) -> Origin:
    """Where a tensor of `GroupVit.state_dict()` lies in the authors' layout (§5.6)."""
    name = published(name).name
    if found := re.fullmatch(r"(vision|text)_model\.(.+)\.self_attn\.([qkv])_proj\.(weight|bias)", name):
        tower, block, part, kind = found.groups()
        whole = f"qkv.{kind}" if tower == "vision" else f"in_proj_{kind}"
        return Origin(_renamed(f"{tower}_model.{block}.self_attn.{whole}"), third="qkv".index(part))
    return Origin(_renamed(name))


def _renamed(name: str) -> str:
    for start, pairs in _NAMES:
        if name.startswith(start):
            for ours, theirs in pairs:
                name = name.replace(ours, theirs)
    return name


# by how transformers' names begin: (transformers', the authors'), in the order in which they are replaced
_NAMES: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "vision_model.",
        (
            ("vision_model.embeddings.position_embeddings", "img_encoder.pos_embed"),
            ("vision_model.embeddings.patch_embeddings.projection.", "img_encoder.patch_embed.proj."),
            ("vision_model.embeddings.layernorm.", "img_encoder.patch_embed.norm."),
            ("vision_model.layernorm.", "img_encoder.norm."),
            (".layers.", ".blocks."),
            ("vision_model.encoder.stages.", "img_encoder.layers."),
            (".self_attn.out_proj.", ".attn.proj."),
            (".pre_assign_attn.attn.out_proj.", ".pre_assign_attn.attn.proj."),
            (".self_attn.", ".attn."),
            (".layer_norm1.", ".norm1."),
            (".layer_norm2.", ".norm2."),
        ),
    ),
    (
        "text_model.",
        (
            ("text_model.embeddings.token_embedding.", "text_encoder.token_embedding."),
            ("text_model.embeddings.position_embedding.weight", "text_encoder.positional_embedding"),
            ("text_model.final_layer_norm.", "text_encoder.ln_final."),
            ("text_model.encoder.layers.", "text_encoder.transformer.resblocks."),
            (".self_attn.", ".attn."),
            (".layer_norm1.", ".ln_1."),
            (".layer_norm2.", ".ln_2."),
            (".mlp.fc1.", ".mlp.c_fc."),
            (".mlp.fc2.", ".mlp.c_proj."),
        ),
    ),
    (
        "visual_projection.",
        (("visual_projection.3.", "img_projector.linear_out."), ("visual_projection.", "img_projector.linear_hidden.")),
    ),
    (
        "text_projection.",
        (("text_projection.3.", "text_projector.linear_out."), ("text_projection.", "text_projector.linear_hidden.")),
    ),
)


def infer_shape(tensors: Mapping[str, Tensor], source: Path) -> GroupVitShape:
    """The shape of tensors with the authors' names; raises `WeightsError` where telling ones are missing."""
    stages = range(_count(tensors, r"img_encoder\.layers\.(\d+)\."))
    blocks = re.compile(r"img_encoder\.layers\.(\d+)\.(?:downsample\.|group_token)")
    grouping = sorted({int(found[1]) for name in tensors if (found := blocks.match(name))})
    telling = {
        "img_encoder.patch_embed.proj.weight": 4,
        "img_encoder.pos_embed": 3,
        "img_projector.linear_hidden.0.weight": 2,
        "img_projector.linear_out.weight": 2,
        "text_encoder.token_embedding.weight": 2,
        "text_encoder.positional_embedding": 2,
        **{f"img_encoder.layers.{each}.group_token": 3 for each in grouping},
        **{f"img_encoder.layers.{each}.downsample.mlp_inter.fc2.weight": 2 for each in grouping},
    }
    lacking = [name for name, axes in telling.items() if name not in tensors or tensors[name].ndim != axes]
    if lacking:
        raise WeightsError(f"{source} does not hold GroupViT's towers: {', '.join(lacking)} missing or misshapen")
    if not grouping or grouping != list(range(len(stages) - 1)):
        raise WeightsError(
            f"{source} has {len(stages)} stages, and grouping blocks in {grouping or 'none'} of them; give a "
            "checkpoint of GroupViT's, whose every stage but the last has one"
        )
    width, _, _, patch = tensors["img_encoder.patch_embed.proj.weight"].shape
    vocabulary, text_width = tensors["text_encoder.token_embedding.weight"].shape
    inner = (f"img_encoder.layers.{each}.downsample.mlp_inter.fc2.weight" for each in grouping)
    return GroupVitShape(
        depths=tuple(_count(tensors, rf"img_encoder\.layers\.{each}\.blocks\.(\d+)\.") for each in stages),
        group_tokens=tuple(tensors[f"img_encoder.layers.{each}.group_token"].shape[1] for each in grouping),
        groups=tuple(len(tensors[name]) for name in inner),
        image_size=patch * math.isqrt(tensors["img_encoder.pos_embed"].shape[1]),
        patch=patch,
        width=width,
        text_width=text_width,
        text_layers=_count(tensors, r"text_encoder\.transformer\.resblocks\.(\d+)\."),
        embed_dim=len(tensors["img_projector.linear_out.weight"]),
        hidden=len(tensors["img_projector.linear_hidden.0.weight"]),
        context=len(tensors["text_encoder.positional_embedding"]),
        vocabulary=vocabulary,
    )


def _released(file: Path, allow_pickle: bool) -> dict[str, Tensor]:
    """The tensors of a checkpoint, its projectors' convolutions over one place as matrices."""
    tensors = read_file(file, allow_pickle=allow_pickle)
    for name in UNUSED:
        tensors.pop(name, None)
    return {
        name: tensor.squeeze(-1) if "_projector.linear_" in name and tensor.ndim == 3 else tensor
        for name, tensor in tensors.items()
    }


def _check_names(towers: GroupVit, tensors: Mapping[str, Tensor], source: Path, origin: Any) -> None:
    """Missing names are `fit`'s business."""
    known = {origin(name).name for name in towers.state_dict()}
    if extra := sorted(tensors.keys() - known):
        raise WeightsError(
            f"{source} holds tensors that a GroupViT does not have: {', '.join(extra)}; give the weights of a GroupViT"
        )


def _build(config: Mapping[str, Any]) -> Any:
    """Raises `WeightsError` for a config that is not a GroupViT's."""
    kind = config.get("model_type")
    if kind != MODEL_TYPE:
        raise WeightsError(f"config.json says model_type {kind!r}, which is not a GroupViT; give the weights of one")
    try:
        return GroupViTModel(GroupViTConfig.from_dict(dict(config)))
    except (KeyError, IndexError, TypeError, ValueError, StrictDataclassError) as error:
        raise WeightsError(
            f"config.json does not describe a GroupViT ({error}); copy it from the model again"
        ) from error


def _tokenizer(source: Path, config: Mapping[str, Any], given: str | os.PathLike[str] | None) -> Tokenizer:
    """What is given, what is beside the weights, or the tokenizer that GroupViT shares with OpenAI's CLIP."""
    text = config.get("text_config")
    context = int(text.get("max_position_embeddings", 77)) if isinstance(text, dict) else 77
    place = source if source.is_dir() else source.parent
    if given is not None:
        place = find(given, weights_too=False)
    elif source.is_file() and not any((place / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        place = place / MERGES_FILE if (place / MERGES_FILE).is_file() else find(OPENAI_TOKENIZER, weights_too=False)
    return Tokenizer.from_folder(place, context) if place.is_dir() else Tokenizer.from_merges(place, context)


def _tower(width: int) -> dict[str, Any]:
    return {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": max(1, width // HEAD)}


def _count(names: Sequence[str] | Mapping[str, Tensor], pattern: str) -> int:
    """Layers up to the highest number that occurs, so that a layer missing in the middle is noticed as missing."""
    return max((int(found[1]) + 1 for name in names if (found := re.match(pattern, name))), default=0)
