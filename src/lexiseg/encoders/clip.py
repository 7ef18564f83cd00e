"""Opens any CLIP: image tower, text tower and tokenizer.

Opens what `transformers` saves (a hub id or a folder), the embedded models ("asset:mini-clip"), OpenAI's own .pt files
with a ViT or a ResNet, and what `Clip.save` wrote. Letters: B images, Q words, N sentences, T tokens, D embedding.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.nn import functional

from lexiseg import files
from lexiseg.encoders import openai
from lexiseg.encoders.clip_shape import ClipShape, ImageTower, build, shape_of
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.sentences import last_states
from lexiseg.encoders.text_cache import TextCache, fold_tensors, sample_tensors
from lexiseg.encoders.tokenizer import MERGES_FILE, Tokenizer
from lexiseg.encoders.weights import Origin, find, fit, portable, read_folder, read_json
from lexiseg.errors import SettingError, WeightsError
from lexiseg.layers.pixels import CLIP_MEAN, CLIP_STD
from lexiseg.weights import AnyWeights, Weights

__all__ = ["Clip"]

OPENAI_TOKENIZER = "openai/clip-vit-base-patch32"  # all of OpenAI's models share its vocabulary
EMBEDDED = "asset:mini-clip"
SENTENCES_AT_ONCE = 16_384  # embedded before they are averaged: 32 MB at D = 512
TOKENS_AT_ONCE = 4_096  # of the sentences in one batch, with padding
LEAST_TOKENS = 3  # start, a piece of a word, end
CACHE_VERSION = 2  # raise it when the same weights and words would give other vectors

Statistics = tuple[float, float, float]


class Clip(nn.Module):
    """The towers of a config.json's contents, with whatever weights torch starts with; `load` and `random` make one.

    vision: a `ClipVit`, a `ClipResNet` or a `ClipLite`. text_model: a `CLIPTextModel`. text_projection: W ->
    D. log_scale: the logarithm of `logit_scale`, as it is trained. mean, std: what images were normalised with, RGB
    in 0-1.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        tokenizer: Tokenizer,
        *,
        mean: Statistics = CLIP_MEAN,
        std: Statistics = CLIP_STD,
    ) -> None:
        super().__init__()
        self.config = copy.deepcopy(dict(config))
        self.vision: ImageTower
        self.vision, self.text_model, self.text_projection = build(self.config)
        self.log_scale = nn.Parameter(torch.tensor(float(self.config.get("logit_scale_init_value", 2.6592))))
        self.tokenizer = tokenizer
        self.mean, self.std = mean, std
        self._digest: tuple[str, str] | None = None  # of the text tower: a sample of the weights, the hash of them all
        self._check_tokenizer()

    @classmethod
    def load(
        cls,
        weights: AnyWeights,
        *,
        tokenizer: str | os.PathLike[str] | None = None,
        dtype: torch.dtype = torch.float32,
        allow_pickle: bool = False,
    ) -> Clip:
        """A CLIP with its weights, in eval mode, on the CPU.

        weights: as `Weights.of` reads it: a hub id, a folder in Hugging Face's layout, or one of OpenAI's .pt files.
        tokenizer: a folder, a hub id or OpenAI's merges file, in place of the tokenizer beside the weights.
        allow_pickle: also read pickled weights, with `weights_only=True`.

        Raises `WeightsError` for weights that are missing, refused or do not fit, each with what to do.
        """
        wanted = Weights.of(weights)
        source = find(wanted, allow_pickle=allow_pickle)
        if source.name == "model.safetensors":  # its config and tokenizer are beside it
            source = source.parent
        load = cls._load_folder if source.is_dir() else cls._load_openai
        clip = load(source, tokenizer, dtype, allow_pickle)
        wanted.check(clip.shape)
        return clip.eval()

    @classmethod
    def random(cls, shape: ClipShape, *, seed: int = 0) -> Clip:
        """Random weights and the embedded model's tokenizer, in eval mode; for `tiny` variants and tests."""
        tokenizer = Tokenizer.from_folder(find(EMBEDDED), shape.context)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(shape.config(), tokenizer).eval()

    def save(self, folder: str | os.PathLike[str], *, beside: Mapping[str, Tensor] | None = None) -> None:
        """Writes what `load` reads back; for a ViT also what transformers' `CLIPModel` and `AutoTokenizer` read.

        beside: a method's own tensors, which go into the same file; `load` leaves them alone.
        Raises `OutputError`.
        """
        folder = Path(folder)
        own = {_published(name): tensor for name, tensor in self.state_dict().items()}
        tensors = portable({**own, **(beside or {})})
        kinds = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
        dtype = kinds.pop() if len(kinds) == 1 else torch.float32
        config = {**self.config, "dtype": str(dtype).removeprefix("torch.")}
        files.write_bytes(folder / "model.safetensors", to_safetensors(tensors, metadata={"format": "pt"}))
        files.write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")
        files.write_text(folder / "preprocessor_config.json", json.dumps(self._preprocessor(), indent=2) + "\n")
        self.tokenizer.save(folder)

    @property
    def shape(self) -> ClipShape:
        """The numbers of both towers."""
        return shape_of(self.vision, self.text_model)

    @property
    def embed_dim(self) -> int:
        """D."""
        return self.vision.embed_dim

    @property
    def patch(self) -> int:
        """Pixels per cell of the dense grid; 32 for ResNets."""
        return self.vision.patch

    @property
    def image_size(self) -> int:
        """The side in pixels of the squares the image tower was trained on."""
        return self.vision.image_size

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied with to be logits; about 100 in OpenAI's weights. `log_scale` has gradients."""
        return float(self.log_scale.detach().exp())

    def image_features(self, images: Tensor) -> Tensor:
        """Normalised images [B, 3, H, W] of any size as one vector each [B, D], not of unit length."""
        features: Tensor = self.vision(images)
        return features

    def text_features(self, input_ids: Tensor) -> Tensor:
        """Rows of token ids [N, T] as one vector each [N, D], not of unit length.

        A row is read at its first end token. Whatever follows is padding, which causal attention never sees; so there
        is no mask. The end token is the tokenizer's: configs of old CLIPs say 2, which no row holds.
        """
        # positions are given, and the pooled output of transformers, which trusts the config, is left alone
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        states = self.text_model(input_ids=input_ids, position_ids=positions).last_hidden_state  # [N, T, W]
        ends = (input_ids == self.tokenizer.end).int().argmax(dim=1)
        last = states[torch.arange(len(states), device=states.device), ends]
        features: Tensor = self.text_projection(last)
        return features

    @torch.no_grad()
    def embed_words(self, words: Sequence[str], prompts: Prompts, *, cache: TextCache | None = None) -> Tensor:
        """Unit vectors [Q, D] in float32, one for each word: its sentences normalised, averaged, normalised.

        cache: where to look first, and to keep what was new.
        Raises `SettingError` for learned prompts that do not fit this text tower.
        """
        key = TextCache.key(self.text_digest(), prompts) if cache else ""
        vectors = cache.read(key, words) if cache else {}
        new = [word for word in dict.fromkeys(words) if word not in vectors]
        if new:
            fresh = dict(zip(new, self.word_vectors(new, prompts).cpu(), strict=True))
            vectors |= fresh
            if cache:
                cache.write(key, fresh)
        return torch.stack([vectors[word] for word in words]).to(self.log_scale.device)

    def text_digest(self) -> str:
        """Hash of all that decides a sentence's vector: the text tower's weights and settings, and the tokenizer."""
        config = self.text_model.config
        settings = [CACHE_VERSION, config.hidden_act, config.layer_norm_eps, config.num_attention_heads]
        tensors = self._text_tensors()
        # reading 63 million weights takes 20 ms, too long for every change of the words on a page
        sample = f"{settings} {self.tokenizer.context} {sample_tensors(tensors)}"
        if self._digest is None or self._digest[0] != sample:
            content = f"{settings} {self.tokenizer.fingerprint} {fold_tensors(tensors)}"
            self._digest = sample, hashlib.sha256(content.encode()).hexdigest()
        return self._digest[1]

    def _text_tensors(self) -> dict[str, Tensor]:
        """All that decides what becomes of tokens."""
        return {**self.text_model.state_dict(), "text_projection": self.text_projection.weight}

    def word_vectors(self, words: Sequence[str], prompts: Prompts) -> Tensor:
        """What `embed_words` gives, computed anew and with gradients, which reach a context that is being learned."""
        # by the block, so that only so many sentences' vectors are held at once
        block = max(1, SENTENCES_AT_ONCE // len(prompts.sentences))
        blocks = []
        for start in range(0, len(words), block):
            sentences = [sentence for word in words[start : start + block] for sentence in prompts(word)]
            vectors = functional.normalize(self._embed_sentences(self.rows(sentences, prompts), prompts), dim=-1)
            vectors = vectors.reshape(-1, len(prompts.sentences), self.embed_dim)  # [Q, T, D]
            blocks.append(vectors.mean(dim=1))
        return functional.normalize(torch.cat(blocks), dim=-1)

    def rows(self, sentences: Sequence[str], prompts: Prompts) -> list[list[int]]:
        """Token ids of sentences that have their word, with ids past the vocabulary for the vectors of a context.

        The sequence is: start token, vectors before the sentence, its tokens, the other vectors, end token (ZSSeg has
        16 vectors and the sentence "{}."). Raises `SettingError` for a context of another width or without room.
        """
        context = prompts.context
        if context is None:
            return self.tokenizer(sentences)
        known = self.text_model.config
        if context.shape[1] != known.hidden_size:
            raise SettingError(
                f"the learned prompts are vectors of {context.shape[1]} numbers and this text tower takes "
                f"{known.hidden_size}; give prompts that were learned with this model"
            )
        if len(context) + LEAST_TOKENS > self.tokenizer.context:
            raise SettingError(
                f"{len(context)} learned vectors leave no room for a word among the {self.tokenizer.context} tokens "
                "of this text tower; give fewer"
            )
        first = known.vocab_size
        before = list(range(first, first + prompts.before))
        after = list(range(first + prompts.before, first + len(context)))
        rows = self.tokenizer(sentences, reserved=len(context))
        return [[row[0], *before, *row[1:-1], *after, row[-1]] for row in rows]

    def sentence_features(self, rows: Sequence[Sequence[int]], learned: Tensor | None = None) -> Tensor:
        """Token ids that end with the end token, as `rows` gives them, as one vector each [N, D].

        Those of `text_features` up to rounding, for sentences that begin alike at a fraction of the work.
        learned: the vectors that ids past the vocabulary stand for.
        """
        features: Tensor = self.text_projection(last_states(self.text_model, rows, learned))
        return features

    def _embed_sentences(self, rows: Sequence[Sequence[int]], prompts: Prompts) -> Tensor:
        """[N, D] in float32. Sentences that begin alike share a batch; those that are equal are embedded once."""
        unique = sorted({tuple(row) for row in rows})
        features = torch.cat([self.sentence_features(batch, prompts.context).float() for batch in _batches(unique)])
        place = {row: index for index, row in enumerate(unique)}
        return features[torch.tensor([place[tuple(row)] for row in rows], device=features.device)]

    @classmethod
    def _load_folder(
        cls, folder: Path, tokenizer: str | os.PathLike[str] | None, dtype: torch.dtype, allow_pickle: bool
    ) -> Clip:
        config = read_json(folder / "config.json")
        context = _context(config)
        words = Tokenizer.from_folder(folder, context) if tokenizer is None else _tokenizer(tokenizer, context)
        mean, std = _statistics(folder)
        with torch.device("meta"):
            clip = cls(config, words, mean=mean, std=std)
        tensors = read_folder(folder, allow_pickle=allow_pickle)
        fit(clip, tensors, source=folder, origin=lambda name: Origin(_published(name)), dtype=dtype)
        return clip._with_positions()

    @classmethod
    def _load_openai(
        cls, file: Path, tokenizer: str | os.PathLike[str] | None, dtype: torch.dtype, allow_pickle: bool
    ) -> Clip:
        return cls.of_openai(openai.read_file(file, allow_pickle=allow_pickle), file, tokenizer=tokenizer, dtype=dtype)

    @classmethod
    def of_openai(
        cls,
        tensors: Mapping[str, Tensor],
        file: Path,
        *,
        tokenizer: str | os.PathLike[str] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Clip:
        """A CLIP of tensors with OpenAI's names, in eval mode; file: where they are from, beside a tokenizer.

        Raises `WeightsError` as `load` does.
        """
        shape = openai.infer_shape(tensors, file)
        words = _openai_tokenizer(file, shape.context) if tokenizer is None else _tokenizer(tokenizer, shape.context)
        with torch.device("meta"):
            clip = cls(shape.config(), words)
        fit(clip, tensors, source=file, origin=openai.origin, dtype=dtype)
        return clip._with_positions().eval()

    def _with_positions(self) -> Clip:
        """Counts the positions again, which are in no file and were left on the meta device."""
        for module in self.modules():
            if isinstance(places := getattr(module, "position_ids", None), Tensor):
                module.position_ids = torch.arange(places.shape[1])[None]
        return self

    def _check_tokenizer(self) -> None:
        rows = self.text_model.config.vocab_size
        if self.tokenizer.end >= rows:
            raise WeightsError(
                f"the tokenizer ends a sentence with token {self.tokenizer.end}, but the weights know only {rows} "
                "tokens; give the tokenizer that they were trained with"
            )

    def _preprocessor(self) -> dict[str, Any]:
        """The image processor of transformers that treats pictures as the tower expects."""
        side = self.image_size
        return {
            "image_processor_type": "CLIPImageProcessor",
            "size": {"shortest_edge": side},
            "crop_size": {"height": side, "width": side},
            "resample": 3,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }


def _batches(rows: Sequence[tuple[int, ...]]) -> Iterator[Sequence[tuple[int, ...]]]:
    """Consecutive rows, so many that all of them, padded to the longest, have at most TOKENS_AT_ONCE tokens."""
    start, longest = 0, 0
    for stop, row in enumerate(rows):
        if stop > start and max(longest, len(row)) * (stop + 1 - start) > TOKENS_AT_ONCE:
            yield rows[start:stop]
            start, longest = stop, 0
        longest = max(longest, len(row))
    yield rows[start:]


def _published(name: str) -> str:
    """The name in transformers' `CLIPModel` of a tensor of ours; a ResNet's tensors stand in the ViT's place."""
    for ours, theirs in (
        ("vision.model.", "vision_model."),
        ("vision.projection.", "visual_projection."),
        ("vision.", "vision_model."),
        ("log_scale", "logit_scale"),
    ):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def _context(config: Mapping[str, Any]) -> int:
    text = config.get("text_config")
    return int(text.get("max_position_embeddings", 77)) if isinstance(text, dict) else 77


def _tokenizer(source: str | os.PathLike[str], context: int) -> Tokenizer:
    """From a folder, a hub id or a merges file."""
    path = find(source, weights_too=False)
    return Tokenizer.from_folder(path, context) if path.is_dir() else Tokenizer.from_merges(path, context)


def _openai_tokenizer(file: Path, context: int) -> Tokenizer:
    """What lies beside one of OpenAI's files, which hold no tokenizer; else the one that all of them share."""
    for name in ("tokenizer.json", "vocab.json"):
        if (file.parent / name).is_file():
            return Tokenizer.from_folder(file.parent, context)
    if (file.parent / MERGES_FILE).is_file():
        return Tokenizer.from_merges(file.parent / MERGES_FILE, context)
    try:
        return _tokenizer(OPENAI_TOKENIZER, context)
    except WeightsError as error:
        raise WeightsError(
            f"{file} holds no tokenizer, and that of {OPENAI_TOKENIZER} is not on this machine; put OpenAI's "
            f"{MERGES_FILE} beside the file, or give a folder with a tokenizer (tokenizer=...)"
        ) from error


def _statistics(folder: Path) -> tuple[Statistics, Statistics]:
    """Mean and deviation of preprocessor_config.json, else CLIP's own."""
    path = folder / "preprocessor_config.json"
    content = read_json(path) if path.is_file() else {}
    found = []
    for key, usual in (("image_mean", CLIP_MEAN), ("image_std", CLIP_STD)):
        values = content.get(key, usual)
        numbers = isinstance(values, (list, tuple)) and all(isinstance(value, (int, float)) for value in values)
        if not numbers or len(values) != 3:
            raise WeightsError(f"{path} has {key} {values!r}, not three numbers; copy it from the model again")
        found.append((float(values[0]), float(values[1]), float(values[2])))
    return found[0], found[1]
