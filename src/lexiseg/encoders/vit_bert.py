"""Builds SimSeg's towers, an AugReg ViT and BERT.

Each is followed by one linear map into the common space (§2.1).

They start from the two pretrained towers, or from one file in the layout that SimSeg's authors released, which is also
the layout they are saved in. Sections (§): docs/papers/simseg.md. Letters as in `token_towers`, W width of a tower.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel, ViTConfig, ViTModel

from lexiseg import files
from lexiseg.encoders.checkpoints import read_file
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import hash_tensors, sample_tensors
from lexiseg.encoders.token_towers import TextTokens
from lexiseg.encoders.weights import Origin, find, fit, portable, read_folder
from lexiseg.encoders.wordpiece import LETTERS, WordPieces
from lexiseg.errors import SettingError, WeightsError, first_line

__all__ = ["MODEL_TYPE", "TINY", "VitBert", "VitBertShape"]

MODEL_TYPE = "lexiseg_vit_bert"  # in config.json of a folder that `VitBert.save` wrote
BERT = "google-bert/bert-base-uncased"  # whose vocabulary the released files were trained with
HEAD = 64  # channels of an attention head, in every ViT and BERT of the kind
IMAGE, TEXT = "image_encoder.model.model.", "text_encoder.model.model."  # in front of timm's and of BERT's names
TEMPERATURE = 0.02  # at the start of a training


@dataclass(frozen=True)
class VitBertShape:
    """The released models are (224, 16, 384 or 768, 12, 768, 12), with BERT's vocabulary.

    image_size, patch: pixels. vocabulary, positions: rows of BERT's tables.
    """

    image_size: int
    patch: int
    vision_width: int
    vision_layers: int
    text_width: int
    text_layers: int
    vocabulary: int = 30_522
    positions: int = 512
    embed_dim: int = 512

    def alike(self, other: object) -> bool:
        return self == other

    def __str__(self) -> str:
        return (
            f"a ViT of {self.vision_layers} layers of {self.vision_width} and patches of {self.patch} pixels for "
            f"{self.image_size} pixels, with a BERT of {self.text_layers} layers of {self.text_width} and vectors of "
            f"{self.embed_dim}"
        )


TINY = VitBertShape(32, 8, 64, 2, 64, 2, vocabulary=len(LETTERS), positions=40, embed_dim=32)


class VitBert(nn.Module):
    """The towers of a shape, with whatever weights torch starts with; the class methods give them better ones."""

    def __init__(self, shape: VitBertShape, tokenizer: WordPieces) -> None:
        super().__init__()
        self.shape = shape
        self.tokenizer = tokenizer
        self.vision = ViTModel(_vit_config(shape), add_pooling_layer=False)
        self.text = BertModel(_bert_config(shape), add_pooling_layer=False)
        self.image_projection = nn.Linear(shape.vision_width, shape.embed_dim, bias=False)
        self.text_projection = nn.Linear(shape.text_width, shape.embed_dim, bias=False)
        self.temperature = nn.Parameter(torch.tensor(TEMPERATURE))
        self._digest: tuple[str, str] | None = None  # of the text tower: a sample of the weights, the hash of them all

    @classmethod
    def random(cls, shape: VitBertShape, *, seed: int = 0) -> VitBert:
        """Random weights and a tokenizer of letters, for tests."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(shape, WordPieces.of_letters()).eval()

    @classmethod
    def start(cls, image_tower: str, text_tower: str, *, embed_dim: int = 512, allow_pickle: bool = False) -> VitBert:
        """Pretrained towers and random projections: what a training starts from.

        image_tower: a hub id or folder with a ViT of timm's or transformers' layout. text_tower: the same with a BERT.
        Raises `WeightsError`.
        """
        folder = find(text_tower, allow_pickle=allow_pickle)
        tensors = _vision_tensors(find(image_tower, allow_pickle=allow_pickle), allow_pickle)
        bert = _pretrained(BertModel, folder)
        tensors |= {TEXT + name: tensor for name, tensor in bert.state_dict().items()}
        shape = infer_shape(tensors, folder, embed_dim=embed_dim)
        towers = cls(shape, WordPieces.from_folder(folder))
        own = {name: tensor for name, tensor in towers._released().items() if name not in tensors}
        towers._fit(own | tensors, folder)
        return towers.eval()

    @classmethod
    def load(
        cls, source: Path, *, tokenizer: str | os.PathLike[str] | None = None, allow_pickle: bool = False
    ) -> VitBert:
        """What `save` wrote, or a file in the authors' layout (§2.1), every name of which is checked.

        tokenizer: a folder or hub id; else what lies beside the weights, else `BERT`.
        Raises `WeightsError` that names every tensor that is missing, unexpected or has another shape.
        """
        tensors = _read(source, allow_pickle)
        place = source if source.is_dir() else source.parent
        if tokenizer is not None:
            place = find(tokenizer, weights_too=False)
        elif not (place / "tokenizer.json").is_file() and not (place / "vocab.txt").is_file():
            place = find(BERT, weights_too=False)
        with torch.device("meta"):
            towers = cls(infer_shape(tensors, source), WordPieces.from_folder(place))
        towers._fit(tensors, source)
        return towers._with_places().eval()

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Raises `OutputError`."""
        folder = Path(folder)
        tensors = portable(self._released())
        files.write_bytes(folder / "model.safetensors", to_safetensors(tensors, metadata={"format": "pt"}))
        files.write_text(folder / "config.json", json.dumps({"model_type": MODEL_TYPE}) + "\n")
        self.tokenizer.save(folder)

    @property
    def patch(self) -> int:
        return int(self.vision.config.patch_size)

    def image_tokens(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        height, width = images.shape[-2:]
        images = functional.pad(images, (0, -width % self.patch, 0, -height % self.patch))
        grid = images.shape[-2] // self.patch, images.shape[-1] // self.patch
        # the position table is stretched as in §2.5: bicubic, no antialiasing, the class token's row as it is
        states = self.vision(images, interpolate_pos_encoding=True).last_hidden_state  # [B, 1 + L, W], after the LN
        return self.image_projection(states), grid

    def text_tokens(
        self, sentences: Sequence[str], *, length: int, padded: bool = False, prompts: Prompts | None = None
    ) -> TextTokens:
        if prompts is not None and prompts.context is not None:
            raise SettingError(
                "learned prompts are vectors for a CLIP's text tower and this model reads words with BERT; give "
                "sentences, for example --set prompts=imagenet80"
            )
        device = self.text_projection.weight.device
        ids, mask = (rows.to(device) for rows in self.tokenizer(sentences, length=length, padded=padded))
        states = self.text(input_ids=ids, attention_mask=mask).last_hidden_state  # [N, T, W]
        return TextTokens(self.text_projection(states), mask, torch.zeros(len(ids), dtype=torch.long, device=device))

    def text_digest(self) -> str:
        tensors = {**self.text.state_dict(), "text_projection": self.text_projection.weight}
        sample = sample_tensors(tensors)  # hashing BERT's weights takes longer than a new word may
        if self._digest is None or self._digest[0] != sample:
            settings = f"{self.text.config.layer_norm_eps} {self.text.config.num_attention_heads}"
            content = f"{settings} {self.tokenizer.fingerprint} {hash_tensors(tensors)}"
            self._digest = sample, hashlib.sha256(content.encode()).hexdigest()
        return self._digest[1]

    def _released(self) -> dict[str, Tensor]:
        """The tensors by the authors' names, where query, key and value are one."""
        parts: dict[str, list[Tensor]] = {}
        for name, tensor in self.state_dict().items():
            parts.setdefault(origin(name).name, []).append(tensor)
        return {name: torch.cat(tensors) if len(tensors) > 1 else tensors[0] for name, tensors in parts.items()}

    def _fit(self, tensors: Mapping[str, Tensor], source: Path) -> None:
        known = {origin(name).name for name in self.state_dict()}
        if extra := sorted(tensors.keys() - known):
            raise WeightsError(
                f"{source} holds tensors that a ViT with BERT does not have: {', '.join(extra)}; "
                "give a checkpoint of SimSeg's"
            )
        fit(self, tensors, source=source, origin=origin)

    def _with_places(self) -> VitBert:
        """Counts BERT's positions again, which are in no file and were left on the meta device."""
        embeddings = self.text.embeddings
        embeddings.position_ids = torch.arange(embeddings.position_ids.shape[1])[None]
        embeddings.token_type_ids = torch.zeros_like(embeddings.position_ids)
        return self


def infer_shape(tensors: Mapping[str, Tensor], source: Path, *, embed_dim: int | None = None) -> VitBertShape:
    """The shape that tensors with the authors' names belong to; raises `WeightsError` where telling ones are missing.

    embed_dim: where there are no projections yet.
    """
    telling = {
        IMAGE + "patch_embed.proj.weight": 4,
        IMAGE + "pos_embed": 3,
        TEXT + "embeddings.word_embeddings.weight": 2,
        TEXT + "embeddings.position_embeddings.weight": 2,
    }
    telling |= {"image_projection.linear.weight": 2} if embed_dim is None else {}
    lacking = [name for name, axes in telling.items() if name not in tensors or tensors[name].ndim != axes]
    if lacking:
        raise WeightsError(f"{source} does not hold SimSeg's towers: {', '.join(lacking)} missing or misshapen")
    width, _, _, patch = tensors[IMAGE + "patch_embed.proj.weight"].shape
    vocabulary, text_width = tensors[TEXT + "embeddings.word_embeddings.weight"].shape
    return VitBertShape(
        image_size=patch * math.isqrt(tensors[IMAGE + "pos_embed"].shape[1] - 1),
        patch=patch,
        vision_width=width,
        vision_layers=_count(tensors, IMAGE + r"blocks\.(\d+)\."),
        text_width=text_width,
        text_layers=_count(tensors, TEXT + r"encoder\.layer\.(\d+)\."),
        vocabulary=vocabulary,
        positions=len(tensors[TEXT + "embeddings.position_embeddings.weight"]),
        embed_dim=len(tensors["image_projection.linear.weight"]) if embed_dim is None else embed_dim,
    )


def origin(name: str) -> Origin:
    """Where a tensor of `VitBert.state_dict()` lies in the authors' layout."""
    if name.startswith("text."):
        return Origin(TEXT + name.removeprefix("text."))
    if not name.startswith("vision."):
        return Origin(
            {"temperature": "loss.temperature"}.get(name, name.replace("_projection.", "_projection.linear."))
        )
    name = name.removeprefix("vision.")
    if third := re.fullmatch(r"layers\.(\d+)\.attention\.([qkv])_proj\.(weight|bias)", name):
        block, part, kind = third.groups()
        return Origin(f"{IMAGE}blocks.{block}.attn.qkv.{kind}", third="qkv".index(part))
    for ours, theirs in _NAMES:
        name = name.replace(ours, theirs)
    return Origin(IMAGE + name)


# (transformers', timm's), tried from the top on every name of the ViT
_NAMES = (
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    ("attention.o_proj.", "attn.proj."),
    ("layernorm_before.", "norm1."),
    ("layernorm_after.", "norm2."),
    ("layernorm.", "norm."),
    ("layers.", "blocks."),
)


def _vit_config(shape: VitBertShape) -> ViTConfig:
    return ViTConfig(
        hidden_size=shape.vision_width,
        num_hidden_layers=shape.vision_layers,
        num_attention_heads=shape.vision_width // HEAD,
        intermediate_size=4 * shape.vision_width,
        image_size=shape.image_size,
        patch_size=shape.patch,
        hidden_act="gelu",
        layer_norm_eps=1e-6,
    )


def _bert_config(shape: VitBertShape) -> BertConfig:
    return BertConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.text_width,
        num_hidden_layers=shape.text_layers,
        num_attention_heads=shape.text_width // HEAD,
        intermediate_size=4 * shape.text_width,
        max_position_embeddings=shape.positions,
    )


def _read(source: Path, allow_pickle: bool) -> dict[str, Tensor]:
    read = read_folder if source.is_dir() else read_file
    tensors = read(source, allow_pickle=allow_pickle)
    tensors.pop(TEXT + "embeddings.position_ids", None)  # a counter that older versions of transformers stored
    if (temperature := tensors.get("loss.temperature")) is not None and temperature.numel() == 1:
        tensors["loss.temperature"] = temperature.reshape(())
    return tensors


def _vision_tensors(folder: Path, allow_pickle: bool) -> dict[str, Tensor]:
    """A ViT's tensors by the authors' names, without a classifier."""
    tensors = read_folder(folder, allow_pickle=allow_pickle)
    if "cls_token" in tensors:  # timm's own layout
        return {IMAGE + name: tensor for name, tensor in tensors.items() if not name.startswith("head.")}
    parts: dict[str, list[Tensor]] = {}
    for name, tensor in _pretrained(ViTModel, folder).state_dict().items():
        parts.setdefault(origin(f"vision.{name}").name, []).append(tensor)
    return {name: torch.cat(tensors) if len(tensors) > 1 else tensors[0] for name, tensors in parts.items()}


def _pretrained(kind: type[ViTModel] | type[BertModel], folder: Path) -> nn.Module:
    """A tower in transformers' layout; that library knows the names of all its versions. Raises `WeightsError`."""
    try:
        model, report = kind.from_pretrained(
            folder, add_pooling_layer=False, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # of many kinds
        raise WeightsError(f"{folder} holds no {kind.__name__} ({first_line(error)}); copy it again") from error
    wrong = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if wrong:
        raise WeightsError(f"{folder} does not fit a {kind.__name__}: {', '.join(wrong)}; give the weights of one")
    tower: nn.Module = model
    return tower


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """Layers up to the highest number that occurs, so that a layer missing in the middle is noticed as missing."""
    return max((int(found[1]) + 1 for name in tensors if (found := re.match(pattern, name))), default=0)
