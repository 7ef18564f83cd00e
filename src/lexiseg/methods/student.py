"""Segments with a network that learns from any teacher.

It is an ordinary segmentation network, and keeps the words.

MaskCLIP+ (Zhou, Loy and Dai, "Extract Free Dense Labels from CLIP", ECCV 2022, section 3.4) is a recipe of it, and so
are other systems that train on pseudo-labels.

MaskCLIP is tied to CLIP's image tower. So its labels become the training labels of a network that was made to segment:
the student sees the same augmented picture and learns them wherever no pixel was labelled. Its classifier is the matrix
T of text vectors, never trained, so a class is still a word. Later the student may label those pixels itself.

    annotation-free   every pixel is unlabelled; the teacher answers for all classes
    zero-shot         pixels of unseen classes are unlabelled; the teacher fills the holes, choosing among those classes
    adapted DeepLab   the holes stay holes (`guided` off): what an ordinary network makes of words it was never shown

The teacher is any `Segmenter`, and any data with UNLABELLED pixels will do. What the paper tried first and saw fail
(Sec. 3.2, Eq. 1-2) is here too: CLIP's own tower as the backbone (`student`), and classifier weights M(t) (`mapper`).

Words that a student was not trained on go through the text tower that was saved with it. Their vectors lie where those
of the trained words do, but nothing taught the network to tell them apart: expect labels for synonyms and for words
near a trained one, and little else. A warning says which words these are.

Where the paper and the authors' code disagree, `Config`, `Inference` and `Training` choose (§: maskclip_plus.md):

    setting          paper (its text)             released (the code)                     lexiseg (the default)
    classifier       MaskCLIP's: a scaled cosine  raw features, no temperature  §3.2      as released
    loss_mean        not said                     over all pixels, even ignored  §3.5     over pixels that have a label
    self_training    after a tenth of the steps   a step earlier; a resume restarts it    by step, whatever happens
    the teacher's    not said                     ImageNet's, as the student's  §3.6      its own
      statistics
    confidence_of    none is used                 all pixels, the score's scale  §3.4     unlabelled pixels, posterior
    distillation     said to harm                 has no gradient  §3.7                   has one; off
    annotation-free  no annotation                ignored pixels are the truth's  §3.3    both: the data decides

Letters: B images, C classes, Q words, D embedding, H W pixels, h w grid.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.nn import functional

from lexiseg import files
from lexiseg import settings as settings_of
from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_shape import TINY_VIT
from lexiseg.encoders.clip_text import ClipText
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import TextCache
from lexiseg.encoders.tokenizer import Tokenizer
from lexiseg.encoders.weights import find, fit, portable, read_folder, read_json
from lexiseg.errors import SettingError, WeightsError
from lexiseg.layers import pixels
from lexiseg.layers.pixels import Statistics
from lexiseg.losses.teaching import Training
from lexiseg.networks.student_network import StudentNetwork, StudentShape
from lexiseg.segmenter import (
    DenseEmbedding,
    DenseLogits,
    Inference,
    Segmenter,
    Teacher,
    TextClassifier,
    Traits,
    Variant,
)
from lexiseg.vocabulary import Vocabulary
from lexiseg.weights import Weights
from lexiseg.words.text import looks_like_a_file

__all__ = ["PRESETS", "SYSTEMS", "VARIANTS", "Config", "Seedling", "Student", "Training", "load", "save", "traits"]

_logger = logging.getLogger(__name__)

MOST_NAMED = 8  # words in a warning


_SMALL_STUDENT = StudentShape("mini", "mini")


@dataclass(frozen=True)
class Config:
    """student: the network that is trained.
    start_from: weights of its backbone before training: "usual" are those its name stands for (ImageNet's, or the
        CLIP's or transformers model that it names), else a hub id, folder or file; None is random ones.
    words: the classes it is trained on, as `Vocabulary` reads them: "road, car, person|pedestrian", or a list. Classes
        of a list may share words. The name of a file ("classes.txt") becomes its classes, and its background.
    background: words for everything else, one class more.
    learn_background: everything else is a vector that is trained, in place of words.
    classifier: "raw" features times unit text vectors, or their "cosine" times `logit_scale`.
    mapper: M of Eq. 2, between a text vector and the classifier's weights.
    statistics: what the student's pictures are normalised with, "clip", "imagenet", or mean and standard deviation of
        RGB in 0-1.
    text_tower: the CLIP whose text tower embeds the words (hub id, folder, "asset:NAME"; "random" for tests); None is
        the teacher's.
    """

    student: StudentShape = _SMALL_STUDENT
    start_from: str | None = None
    words: str | tuple[str, ...] = ()
    background: str | tuple[str, ...] = ()
    learn_background: bool = False
    classifier: Literal["raw", "cosine"] = "raw"
    logit_scale: float = 100.0
    mapper: Literal["identity", "linear", "mlp"] = "identity"
    statistics: Statistics = "imagenet"
    text_tower: str | None = None

    def __post_init__(self) -> None:
        pixels.check(self.statistics)
        if isinstance(self.words, str) and looks_like_a_file(self.words):
            found = Vocabulary.from_file(self.words)
            object.__setattr__(self, "words", found.as_texts())
            object.__setattr__(self, "background", self.background or found.background)
        if self.background and self.learn_background:
            raise SettingError(f"background words ({self.background}) and learn_background exclude each other")
        if self.logit_scale <= 0:
            raise SettingError(f"logit_scale is {self.logit_scale}; give a number above 0")

    def vocabulary(self) -> Vocabulary | None:
        """The words it is trained on; None where there are none. Raises `VocabularyError`."""
        if not self.words:
            return None
        return Vocabulary(self.words, background=self.background, shared_words=not isinstance(self.words, str))


def traits(config: Config) -> Traits:
    """A background that was trained is a channel of its own, whatever words are asked for."""
    return Traits(background="own" if config.learn_background else "none")


class Student(nn.Module, Segmenter[DenseEmbedding, TextClassifier]):
    """A network whose classifier is made of words; the network begins with random weights.

    words: unit text vectors [Q, D] of the words in `config`.
    text: the text tower that other words go through. source_config: as in `StudentNetwork`.
    """

    words: Tensor  # T [Q, D]

    def __init__(
        self,
        config: Config,
        words: Tensor,
        text: ClipText | None,
        *,
        source_config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        dimension = words.shape[1]
        self.config, self.text = config, None if text is None else text.requires_grad_(False)
        self.network = StudentNetwork(config.student, dimension, source_config=source_config)
        self.register_buffer("words", words.detach().clone().float())
        self.mapper = _mapper(config.mapper, dimension)
        self.background = nn.Parameter(torch.randn(dimension)) if config.learn_background else None

    def grown(self, teacher: Teacher | None) -> Student:
        """Itself; it has its words already."""
        return self

    @property
    def traits(self) -> Traits:
        return traits(self.config)

    @property
    def patch(self) -> int:
        return self.network.stride

    @torch.no_grad()
    def embed_text(self, vocabulary: Vocabulary, prompts: Prompts, *, cache: TextCache | None = None) -> TextClassifier:
        """Words it was trained on keep the vectors of then, whatever the prompts.

        Raises `WeightsError` for other words where no text tower was saved with it.
        """
        known = self._known()
        new = [word for word in dict.fromkeys(vocabulary.queries) if word.casefold() not in known]
        if new and known:
            few = ", ".join(new[:MOST_NAMED]) + (f" and {len(new) - MOST_NAMED} more" if len(new) > MOST_NAMED else "")
            _logger.warning("not among the words this student was trained on, so expect little: %s", few)
        if new:
            vectors = self._text().embed_words(new, prompts, cache=cache)
            known |= {word.casefold(): row for word, row in zip(new, vectors, strict=True)}
        rows = [known[word.casefold()].float().to(self.words.device) for word in vocabulary.queries]
        return self.classifier(vocabulary, torch.stack(rows))

    def embed_image(self, images: Tensor) -> DenseEmbedding:
        """Raw features; the grid covers the image, rounded up to whole cells."""
        dtype = pixels.dtype_of(self.network)
        return DenseEmbedding(self.network(pixels.normalise(images, self.config.statistics, dtype)))

    def classify(self, embedding: DenseEmbedding, classifier: TextClassifier) -> DenseLogits:
        logits = classifier.logits(embedding.features, cosine=self.config.classifier == "cosine")
        return DenseLogits(logits, classifier.background)

    def classifier(self, vocabulary: Vocabulary, vectors: Tensor) -> TextClassifier:
        """Text vectors [Q, D] as weights (Eq. 2), the trained background after them; gradients flow through both."""
        weight = vectors
        for parameter in itertools.islice(self.mapper.parameters(), 1):
            weight = self.mapper(vectors.to(parameter.dtype)).float()
        if self.config.classifier == "cosine":
            weight = functional.normalize(weight, dim=-1)
        scale = self.config.logit_scale if self.config.classifier == "cosine" else 1.0
        classifier = TextClassifier.of(vocabulary, weight, scale)
        if self.background is None:
            return classifier
        last = functional.normalize(self.background, dim=0)[None].to(weight)
        return replace(
            classifier,
            weight=torch.cat([weight, last]),
            class_of=functional.pad(classifier.class_of, (0, 1), value=len(vocabulary)),
            channels=len(vocabulary) + 1,
            background=True,
        )

    def _text(self) -> ClipText:
        if self.text is None:
            known = self.config.vocabulary()
            raise WeightsError(
                "this student has no text tower, so it knows only the words it was trained on: "
                + ("none" if known is None else ", ".join(known.queries))
            )
        return self.text

    def _known(self) -> dict[str, Tensor]:
        vocabulary = self.config.vocabulary()
        queries = () if vocabulary is None else vocabulary.queries
        return {word.casefold(): row for word, row in zip(queries, self.words, strict=True)}


def _mapper(kind: str, dimension: int) -> nn.Module:
    if kind == "linear":
        return nn.Linear(dimension, dimension)
    if kind == "mlp":
        return nn.Sequential(nn.Linear(dimension, dimension), nn.ReLU(), nn.Linear(dimension, dimension))
    return nn.Identity()


class Seedling(nn.Module, Segmenter[DenseEmbedding, TextClassifier]):
    """What a student without weights is before it meets a teacher: its config. All it can do is grow."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    @torch.no_grad()
    def grown(self, teacher: Teacher | None) -> Student:
        """A student whose classifier has the teacher's text vectors; raises `SettingError` where there are none."""
        vocabulary = self.config.vocabulary()
        assert vocabulary is not None, "training checks it"
        if teacher is None:
            raise SettingError("a student gets its words from a teacher; name one with --set teacher=maskclip/mini")
        found = teacher.embed_text(vocabulary)
        if not isinstance(found, TextClassifier) or len(found.weight) != len(vocabulary.queries):
            raise SettingError(
                f"the words of the teacher ({type(teacher.segmenter).__name__}) are not plain text vectors, which the "
                "student needs; name a CLIP for them with text_tower, for example --set text_tower=asset:mini-clip"
            )
        text = _text_tower(teacher, vocabulary, found.weight)
        return _with_backbone(Student(self.config, found.weight, text))

    @property
    def traits(self) -> Traits:
        return traits(self.config)

    @property
    def patch(self) -> int:
        raise self._cannot_segment()

    def embed_text(self, vocabulary: Vocabulary, prompts: Prompts, *, cache: TextCache | None = None) -> TextClassifier:
        raise self._cannot_segment()

    def embed_image(self, images: Tensor) -> DenseEmbedding:
        raise self._cannot_segment()

    def classify(self, embedding: DenseEmbedding, classifier: TextClassifier) -> DenseLogits:
        raise self._cannot_segment()

    def _cannot_segment(self) -> WeightsError:
        return WeightsError(
            "this student has no weights; name a folder of your own (--model FOLDER), or make one with "
            'lexiseg train maskclip_plus --set words="cat, grass, sky" --data PHOTOS'
        )


def _text_tower(teacher: Teacher, vocabulary: Vocabulary, vectors: Tensor) -> ClipText | None:
    """The teacher's CLIP, without its image tower, if the teacher's text vectors are plainly that CLIP's."""
    for clip in teacher.segmenter.children() if isinstance(teacher.segmenter, nn.Module) else ():
        if isinstance(clip, Clip) and isinstance(clip.text_projection, nn.Linear):  # and not another tower of words
            own = clip.embed_words(vocabulary.queries, teacher.prompts)
            if own.shape == vectors.shape and torch.allclose(own, vectors.float(), atol=1e-4):
                return ClipText.of(clip)
    return None


def _with_backbone(student: Student) -> Student:
    source = student.config.start_from
    if source is not None:
        student.network.load_pretrained(None if source == "usual" else source)
    return student


def load(variant: Variant) -> Student | Seedling:
    """Raises `WeightsError` for weights that are missing or do not fit."""
    config: Config = variant.config
    if variant.weights is not None:
        return _read(variant.weights, config)
    if config.text_tower == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return _with_tower(Clip.random(TINY_VIT), variant)
    if config.text_tower is not None:
        return _with_tower(Clip.load(config.text_tower), variant)
    return Seedling(config)


def save(segmenter: Student, folder: str | os.PathLike[str]) -> None:
    """The network, T, and the text tower with its tokenizer. Raises `OutputError`."""
    network, text = segmenter.network, segmenter.text
    vocabulary = segmenter.config.vocabulary()
    content = {
        "model_type": MODEL_TYPE,
        "dimension": network.dimension,
        "source_config": getattr(network.backbone, "config", None),
        "config": settings_of.to_json(segmenter.config),
        "words": None if vocabulary is None else vocabulary.to_json(),
        "clip": None if text is None else text.config,
    }
    tensors = portable(segmenter.state_dict())
    files.write_bytes(Path(folder) / "model.safetensors", to_safetensors(tensors, metadata={"format": "pt"}))
    files.write_text(Path(folder) / "config.json", json.dumps(content, indent=2) + "\n")
    if text is not None:
        text.tokenizer.save(folder)


def _with_tower(clip: Clip, variant: Variant) -> Student:
    """An untrained student of the words that `clip` embeds."""
    vocabulary = variant.config.vocabulary()
    words = torch.zeros(0, clip.embed_dim)
    if vocabulary is not None:
        words = clip.embed_words(vocabulary.queries, Prompts.open(variant.inference.prompts))
    return _with_backbone(Student(variant.config, words, ClipText.of(clip))).eval()


def _read(weights: Weights, config: Config) -> Student:
    folder = find(weights)
    folder = folder.parent if folder.is_file() else folder
    content, tensors = read_json(folder / "config.json"), read_folder(folder)
    if content.get("model_type") != MODEL_TYPE:
        raise WeightsError(f"{folder} does not hold a student; give a folder that the training of one saved")
    if not config.words:  # a variant or `weights=` names the folder, which knows better
        changes = {each.name: given for each in fields(Config) if (given := getattr(config, each.name)) != each.default}
        config = replace(settings_of.from_json(Config, content["config"]), **changes)
    vocabulary = config.vocabulary()
    if content["words"] != (None if vocabulary is None else vocabulary.to_json()):
        raise SettingError(
            f"the words that {folder} was trained on cannot be changed; ask for others with --words, or train anew"
        )
    text = None
    if content["clip"] is not None:
        context = int(content["clip"]["text_config"]["max_position_embeddings"])
        text = ClipText.empty(content["clip"], Tokenizer.from_folder(folder, context))
    words = torch.zeros(0 if vocabulary is None else len(vocabulary.queries), content["dimension"])
    student = Student(config, words, text, source_config=content["source_config"])
    fit(student, tensors, source=folder)
    return student.eval()


MODEL_TYPE = "lexiseg_student"

_SMALL = Inference(long_side=256, multiple=8, prompts="vild14")  # as maskclip/mini
_LARGE = Inference(short_side=512, long_side=2048, prompts="maskclip85")
_TINY = Inference(short_side=64, prompts="single")


def _paper(network: Literal["deeplabv2", "deeplabv3plus", "pspnet"], backbone: str, about: str) -> Variant:
    weights = Weights("none", about, "the authors' links are dead, so train it (lexiseg list recipes)")
    return Variant(Config(StudentShape(network, backbone)), weights, _LARGE, f"{about}; to be trained")


MAE = "facebook/vit-mae-base"

# systems that are recipes of this method: `maskclip_plus/mini` is `student/mini`
SYSTEMS = ("maskclip_plus", "s_seg_plus")

VARIANTS: Mapping[str, Variant] = {
    "mini": Variant(
        Config(), Weights("asset", "student-mini"), _SMALL, "a small fast student of maskclip/mini for 22 words"
    ),
    "custom": Variant(Config(), None, _SMALL, "a small network for words of your own; to be trained"),
    "deeplabv2-r50": _paper("deeplabv2", "rn50", "DeepLabV2 on ResNet-50"),
    "deeplabv2-r101": _paper("deeplabv2", "rn101", "DeepLabV2 on ResNet-101"),
    "deeplabv3plus-r101": _paper("deeplabv3plus", "rn101", "DeepLabV3+ on ResNet-101"),
    "pspnet-r50": _paper("pspnet", "rn50", "PSPNet on ResNet-50"),
    "upernet-mae-b16": Variant(
        Config(StudentShape("upernet", f"transformers:{MAE}"), start_from="usual"),
        Weights(
            "none", "UperNet on MAE's ViT-B/16", "S-Seg's authors released nothing, so train it (recipes s_seg_plus)"
        ),
        _LARGE,
        "UperNet on MAE's ViT-B/16: S-Seg+'s; to be trained",
    ),
    "tiny": Variant(
        Config(StudentShape("mini", "tiny"), text_tower="random"), None, _TINY, "random weights, for tests"
    ),
}

_LIKE_THE_PAPER = {"short_side": 512, "long_side": 2048, "multiple": 1, "prompts": "maskclip85"}

PRESETS = settings_of.presets(
    Config,
    besides=("student", "start_from", "words", "background", "learn_background", "mapper", "text_tower"),
    shared={"antialias": True},
    paper={**_LIKE_THE_PAPER, "classifier": "cosine"},
    released={**_LIKE_THE_PAPER, "classifier": "raw", "antialias": False},
)
