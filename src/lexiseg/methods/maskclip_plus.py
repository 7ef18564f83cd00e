"""MaskCLIP+: an ordinary segmentation network learns from what a frozen teacher sees, and keeps the words.

Zhou, Loy and Dai, "Extract Free Dense Labels from CLIP", ECCV 2022, section 3.4.

MaskCLIP is tied to CLIP's image tower. So its labels become the training labels of a network that was made to segment:
the student sees the same augmented picture and learns them wherever nobody labelled a pixel. Its classifier is the
matrix T of text vectors, never trained, so a class is still a word. Later the student may label those pixels itself.

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
from collections.abc import Mapping, Sequence
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
from lexiseg.encoders.templates import templates as sentences
from lexiseg.encoders.text_cache import TextCache
from lexiseg.encoders.tokenizer import Tokenizer
from lexiseg.encoders.weights import find, fit, read_folder, read_json
from lexiseg.errors import DataError, SettingError, WeightsError
from lexiseg.layers import pixels
from lexiseg.layers.pixels import Statistics
from lexiseg.losses.pseudo_labels import UNLABELLED, cross_entropy, fill, upsample
from lexiseg.networks.student import Student, StudentShape
from lexiseg.segmenter import (
    DenseEmbedding,
    DenseLogits,
    Inference,
    Segmenter,
    TextClassifier,
    Traits,
    Variant,
)
from lexiseg.vocabulary import Vocabulary
from lexiseg.words.text import looks_like_a_file

__all__ = [
    "PRESETS",
    "VARIANTS",
    "Config",
    "MaskClipPlus",
    "Objective",
    "Training",
    "load",
    "save",
    "traits",
]

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


class MaskClipPlus(nn.Module, Segmenter[DenseEmbedding, TextClassifier]):
    """A network whose classifier is made of words; it has neither before `start`."""

    words: Tensor  # T [Q, D], of the words in `config`

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.network: Student | None = None
        self.text: ClipText | None = None
        self.mapper: nn.Module = nn.Identity()
        self.background: nn.Parameter | None = None
        self.register_buffer("words", torch.zeros(0, 0))

    def start(
        self, words: Tensor, text: ClipText | None, *, source_config: Mapping[str, Any] | None = None
    ) -> MaskClipPlus:
        """Makes the network, with random weights, for unit text vectors [Q, D]; returns itself.

        text: the text tower that other words go through. source_config: as in `Student`.
        """
        dimension = words.shape[1]
        self.network = Student(self.config.student, dimension, source_config=source_config)
        self.words, self.text = words.detach().clone().float(), text
        self.mapper = _mapper(self.config.mapper, dimension)
        if self.config.learn_background:
            self.background = nn.Parameter(torch.randn(dimension))
        if text is not None:
            text.requires_grad_(False)
        return self

    @property
    def traits(self) -> Traits:
        return traits(self.config)

    @property
    def patch(self) -> int:
        return self._network().stride

    @torch.no_grad()
    def embed_text(
        self, vocabulary: Vocabulary, templates: Sequence[str], *, cache: TextCache | None = None
    ) -> TextClassifier:
        """Words it was trained on keep the vectors of then, whatever the templates.

        Raises `WeightsError` for other words where no text tower was saved with it.
        """
        known = self._known()
        new = [word for word in dict.fromkeys(vocabulary.queries) if word.casefold() not in known]
        if new and known:
            few = ", ".join(new[:MOST_NAMED]) + (f" and {len(new) - MOST_NAMED} more" if len(new) > MOST_NAMED else "")
            _logger.warning("not among the words this student was trained on, so expect little: %s", few)
        if new:
            vectors = self._text().embed_words(new, templates, cache=cache)
            known |= {word.casefold(): row for word, row in zip(new, vectors, strict=True)}
        rows = [known[word.casefold()].float().to(self.words.device) for word in vocabulary.queries]
        return self.classifier(vocabulary, torch.stack(rows))

    def embed_image(self, images: Tensor) -> DenseEmbedding:
        """Raw features; the grid covers the image, rounded up to whole cells."""
        network = self._network()
        return DenseEmbedding(network(pixels.normalise(images, self.config.statistics, pixels.dtype_of(network))))

    def classify(self, embedding: DenseEmbedding, classifier: TextClassifier) -> DenseLogits:
        features = embedding.features.to(torch.promote_types(embedding.features.dtype, torch.float32))
        if self.config.classifier == "cosine":
            features = functional.normalize(features, dim=1)
        weight = classifier.weight.to(features) * classifier.scale
        return DenseLogits(classifier.pool(torch.einsum("bdhw,qd->bqhw", features, weight)), classifier.background)

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

    def _network(self) -> Student:
        if self.network is None:
            raise WeightsError(
                "this maskclip_plus has no weights; name a folder of your own (--model FOLDER), or make one with "
                'lexiseg train maskclip_plus --set words="cat, grass, sky" --data PHOTOS'
            )
        return self.network

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


@dataclass(frozen=True)
class Training:
    """unseen: classes that no pixel is labelled with, which are all that unlabelled pixels may be (zero-shot); ()
        stands for all classes (annotation-free).
    guided: let the teacher label the unlabelled pixels. Otherwise they are ignored, up to `self_training`.
    self_training: the step, from 0, from which the student labels them itself; None is never.
    confidence: no pseudo-label below this; None keeps all.
    confidence_of: the "posterior" of unlabelled pixels (0-1), or as "released" the teacher's largest score, on its own
        scale, of all pixels: labelled ones lose their label too.
    loss_mean: over the "valid" pixels, which have a label, or over "all".
    distillation: weight of the L1 distance between the student's features and the teacher's unit ones, at the
        student's places; 0 is none.
    """

    unseen: tuple[str, ...] = ()
    guided: bool = True
    self_training: int | None = None
    confidence: float | None = None
    confidence_of: Literal["posterior", "released"] = "posterior"
    loss_mean: Literal["valid", "all"] = "valid"
    distillation: float = 0.0

    def __post_init__(self) -> None:
        if self.confidence_of == "posterior" and not 0 <= (self.confidence or 0) <= 1:
            raise SettingError(f"confidence is {self.confidence}, which is no posterior; give a number from 0 to 1")
        if self.distillation < 0:
            raise SettingError(f"distillation is {self.distillation}; give a weight, or 0 for none")

    def build(self, segmenter: MaskClipPlus, *, teacher: tuple[Segmenter, Inference] | None = None) -> Objective:
        """Raises as `Objective` does."""
        return Objective(segmenter, self, teacher=teacher)


class Objective(nn.Module):
    """Batches of `data.dense` in; the cross-entropy with labels and pseudo-labels out.

    teacher: a frozen segmenter and its `Inference`; its words and templates become those of the student.

    Raises `SettingError` where words or a teacher are missing, or the two do not go together.
    """

    unsaved = ("teacher.*", "segmenter.text.*")

    def __init__(
        self,
        segmenter: MaskClipPlus,
        settings: Training,
        *,
        teacher: tuple[Segmenter[Any, Any], Inference] | None = None,
    ) -> None:
        super().__init__()
        vocabulary = segmenter.config.vocabulary()
        if vocabulary is None:
            raise SettingError('there are no words to train on; give for example --set words="cat, grass, sky"')
        if len(vocabulary) == 1 and not vocabulary.background and not segmenter.config.learn_background:
            raise SettingError(
                f"{vocabulary.names[0]!r} alone leaves nothing to tell apart; name more classes, or words for the "
                "rest, for example --set background=auto"
            )
        if teacher is None and (settings.guided or settings.distillation or segmenter.network is None):
            raise SettingError("maskclip_plus learns from a teacher; name one with --set teacher=maskclip/mini")
        self.segmenter, self.settings, self.vocabulary = segmenter, settings, vocabulary
        self.teacher: Any = None if teacher is None else teacher[0]
        self._inference = None if teacher is None else teacher[1]
        self._templates = sentences(self._inference.templates) if self._inference is not None else ()
        self._step = 0
        self._classifier: tuple[torch.device, Any] | None = None
        if segmenter.network is None:
            assert teacher is not None, "see above"
            _start_from(segmenter, teacher[0], self._templates)
        self._channels = self._student_classifier().channels
        self._ignore = 255 if self._channels <= 255 else 65_535  # as `data` numbers it
        self._places = [vocabulary.index(name) for name in settings.unseen] or list(range(vocabulary.channels))

    def before_step(self, step: int) -> None:
        self._step = step
        if self.teacher is not None:  # here, since inside of a step weights may be half as precise
            self._teacher_classifier()

    def train(self, mode: bool = True) -> Objective:
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def inference(self, variant: Inference) -> Inference:
        """How the trained student is to be used: with the templates that its words were embedded with."""
        return variant if self._inference is None else replace(variant, templates=self._inference.templates)

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        images, labels = batch["images"], batch["labels"]
        self._check(labels)
        embedding = self.segmenter.embed_image(images)
        logits = self.segmenter.classify(embedding, self._student_classifier()).logits
        asked = self._asked(labels)
        seen = self._teacher_sees(images[asked]) if asked.any() else None
        targets = self._targets(labels, logits.detach(), asked, seen)
        scores = upsample(logits, labels.shape[-2:])
        losses = {"labels": cross_entropy(scores, targets, ignore=self._ignore, mean=self.settings.loss_mean)}
        if self.settings.distillation:
            losses["features"] = self.settings.distillation * self._distance(embedding.features, seen)
        return losses

    @property
    def _teaches_itself(self) -> bool:
        return self.settings.self_training is not None and self._step >= self.settings.self_training

    def _asked(self, labels: Tensor) -> Tensor:
        """Which pictures the teacher has to look at [B]."""
        guided = self.settings.guided and not self._teaches_itself
        if self.settings.distillation or (guided and self._everywhere):
            return labels.new_ones(len(labels), dtype=torch.bool)
        return (labels == UNLABELLED).flatten(1).any(dim=1) & guided

    @torch.no_grad()
    def _teacher_sees(self, images: Tensor) -> Any:
        """Its embedding of some pictures of the batch."""
        return self.teacher.embed_image(images)

    @torch.no_grad()
    def _targets(self, labels: Tensor, logits: Tensor, asked: Tensor, seen: Any) -> Tensor:
        """Labels [B, H, W] whose holes are filled by whoever's turn it is (§3.4)."""
        settings = self.settings
        if self._teaches_itself:
            own = DenseLogits(logits[:, self._places])
            return fill(labels, own, self._places, ignore=self._ignore, confidence=self._own_confidence)
        targets = labels.masked_fill(labels == UNLABELLED, self._ignore)
        if settings.guided and seen is not None:
            result = self.teacher.classify(seen, self._teacher_classifier())
            rest = self._channels - 1 if self._channels > len(self.vocabulary) else self._ignore
            places = [*self._objects, rest] if result.background else self._places
            sure: dict[str, Any] = {"confidence": settings.confidence, "everywhere": self._everywhere}
            targets[asked] = fill(labels[asked], result, places, ignore=self._ignore, **sure)
        return targets

    @property
    def _objects(self) -> list[int]:
        """The classes to fill without the background."""
        return [place for place in self._places if place < len(self.vocabulary)]

    @property
    def _everywhere(self) -> bool:
        """Whether confidence counts at labelled pixels too."""
        return self.settings.confidence is not None and self.settings.confidence_of == "released"

    @property
    def _own_confidence(self) -> float | None:
        """Released, confidence is defined while the teacher guides."""
        return self.settings.confidence if self.settings.confidence_of == "posterior" else None

    def _distance(self, features: Tensor, seen: Any) -> Tensor:
        """Mean over channels and places; the authors' has no gradient, and is taken at the labels' resolution."""
        theirs = getattr(seen, "features", None)
        if theirs is None or theirs.shape[1] != features.shape[1]:
            raise SettingError("distillation needs a teacher with one vector of the student's kind at each place")
        if self.segmenter.config.classifier == "cosine":
            features = functional.normalize(features, dim=1)
        unit = functional.normalize(theirs.float(), dim=1)
        return (features.float() - upsample(unit, features.shape[-2:])).abs().mean()

    def _student_classifier(self) -> TextClassifier:
        return self.segmenter.classifier(self.vocabulary, self.segmenter.words)

    def _teacher_classifier(self) -> Any:
        """Of the classes to fill alone, so that denoising and smoothing know no others."""
        device = self.segmenter.words.device
        if self._classifier is None or self._classifier[0] != device:
            background = () if self.settings.unseen else self.vocabulary.background
            asked = self.vocabulary.only(self._objects).with_background(background)
            with torch.no_grad():
                self._classifier = device, self.teacher.embed_text(asked, self._templates)
        return self._classifier[1]

    def _check(self, labels: Tensor) -> None:
        known = torch.unique(labels[(labels != UNLABELLED) & (labels != self._ignore)]).tolist()
        if known and not 0 <= known[0] <= known[-1] < self._channels:
            wrong = known[-1] if known[-1] >= self._channels else known[0]
            raise DataError(f"a label map holds {wrong} and there are {self._channels} classes; check words and data")
        if self.settings.unseen and (told := sorted(set(known) & set(self._places))):
            raise DataError(
                f"pixels are labelled {self.vocabulary.names[told[0]]!r}, which is said to be unseen; "
                "let the data suppress that class"
            )


@torch.no_grad()
def _start_from(segmenter: MaskClipPlus, teacher: Segmenter[Any, Any], templates: Sequence[str]) -> None:
    """Makes the student's network, with the teacher's text vectors as its classifier."""
    vocabulary = segmenter.config.vocabulary()
    assert vocabulary is not None, "Objective checks it"
    found = teacher.embed_text(vocabulary, templates)
    if not isinstance(found, TextClassifier) or len(found.weight) != len(vocabulary.queries):
        raise SettingError(
            f"the words of the teacher ({type(teacher).__name__}) are no plain text vectors, which the student needs; "
            "name a CLIP for them with text_tower, for example --set text_tower=asset:mini-clip"
        )
    segmenter.start(found.weight, _text_tower(teacher, vocabulary, templates, found.weight))
    _fill_backbone(segmenter)


def _text_tower(teacher: Any, vocabulary: Vocabulary, templates: Sequence[str], vectors: Tensor) -> ClipText | None:
    """The teacher's CLIP, without its image tower, if the teacher's text vectors are plainly that CLIP's."""
    for clip in teacher.children() if isinstance(teacher, nn.Module) else ():
        if isinstance(clip, Clip):
            own = clip.embed_words(vocabulary.queries, templates)
            if own.shape == vectors.shape and torch.allclose(own, vectors.float(), atol=1e-4):
                return ClipText.of(clip)
    return None


def _fill_backbone(segmenter: MaskClipPlus) -> None:
    source = segmenter.config.start_from
    if source is not None:
        segmenter._network().load_pretrained(None if source == "usual" else source)


def load(variant: Variant) -> MaskClipPlus:
    """Raises `WeightsError` for weights that are missing or do not fit.

    Without weights, what is returned can be trained, and cannot segment before.
    """
    config: Config = variant.config
    if variant.weights is not None:
        return _read(variant.weights, config)
    if config.text_tower == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return _with_tower(Clip.random(TINY_VIT), variant)
    if config.text_tower is not None:
        return _with_tower(Clip.load(config.text_tower), variant)
    return MaskClipPlus(config).eval()


def save(segmenter: MaskClipPlus, folder: str | os.PathLike[str]) -> None:
    """The network, T, and the text tower with its tokenizer. Raises `OutputError`."""
    network, text = segmenter._network(), segmenter.text
    vocabulary = segmenter.config.vocabulary()
    content = {
        "model_type": MODEL_TYPE,
        "dimension": network.dimension,
        "source_config": getattr(network.backbone, "config", None),
        "config": settings_of.to_json(segmenter.config),
        "words": None if vocabulary is None else vocabulary.to_json(),
        "clip": None if text is None else text.config,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in segmenter.state_dict().items()}
    files.write_bytes(Path(folder) / "model.safetensors", to_safetensors(tensors, metadata={"format": "pt"}))
    files.write_text(Path(folder) / "config.json", json.dumps(content, indent=2) + "\n")
    if text is not None:
        text.tokenizer.save(folder)


def _with_tower(clip: Clip, variant: Variant) -> MaskClipPlus:
    """An untrained student of the words that `clip` embeds."""
    segmenter, vocabulary = MaskClipPlus(variant.config), variant.config.vocabulary()
    words = torch.zeros(0, clip.embed_dim)
    if vocabulary is not None:
        words = clip.embed_words(vocabulary.queries, sentences(variant.inference.templates))
    _fill_backbone(segmenter.start(words, ClipText.of(clip)))
    return segmenter.eval()


def _read(weights: str, config: Config) -> MaskClipPlus:
    if weights.startswith(UNTRAINED):
        raise WeightsError(
            f"nobody has published weights of {weights.removeprefix(UNTRAINED)} (its authors' links are dead); train "
            "them (lexiseg list recipes), or name a folder with weights="
        )
    folder = find(weights)
    folder = folder.parent if folder.is_file() else folder
    content, tensors = read_json(folder / "config.json"), read_folder(folder)
    if content.get("model_type") != MODEL_TYPE:
        raise WeightsError(f"{folder} holds no student of maskclip_plus; give a folder that its training saved")
    if not config.words:  # a variant or `weights=` names the folder, which knows better
        changes = {each.name: given for each in fields(Config) if (given := getattr(config, each.name)) != each.default}
        config = replace(settings_of.from_json(Config, content["config"]), **changes)
    vocabulary = config.vocabulary()
    if content["words"] != (None if vocabulary is None else vocabulary.to_json()):
        raise SettingError(
            f"the words that {folder} was trained on cannot be changed; ask for others with --words, or train anew"
        )
    segmenter = MaskClipPlus(config)
    text = None
    if content["clip"] is not None:
        context = int(content["clip"]["text_config"]["max_position_embeddings"])
        text = ClipText.empty(content["clip"], Tokenizer.from_folder(folder, context))
    rows = 0 if vocabulary is None else len(vocabulary.queries)
    segmenter.start(torch.zeros(rows, content["dimension"]), text, source_config=content["source_config"])
    fit(segmenter, tensors, source=folder)
    return segmenter.eval()


MODEL_TYPE = "lexiseg_maskclip_plus"
UNTRAINED = "untrained:"  # networks of the paper that somebody has to train first

_SMALL = Inference(long_side=256, multiple=8, templates="vild14")  # as maskclip/mini
_LARGE = Inference(short_side=512, long_side=2048, templates="maskclip85")
_TINY = Inference(short_side=64, templates="single")


def _paper(network: Literal["deeplabv2", "deeplabv3plus", "pspnet"], backbone: str, about: str) -> Variant:
    return Variant(Config(StudentShape(network, backbone)), UNTRAINED + about, _LARGE, f"{about}; to be trained")


VARIANTS: Mapping[str, Variant] = {
    "mini": Variant(Config(), "asset:maskclip-plus-mini", _SMALL, "a small fast student of maskclip/mini for 22 words"),
    "custom": Variant(Config(), None, _SMALL, "a small network for words of your own; to be trained"),
    "deeplabv2-r50": _paper("deeplabv2", "rn50", "DeepLabV2 on ResNet-50"),
    "deeplabv2-r101": _paper("deeplabv2", "rn101", "DeepLabV2 on ResNet-101"),
    "deeplabv3plus-r101": _paper("deeplabv3plus", "rn101", "DeepLabV3+ on ResNet-101"),
    "pspnet-r50": _paper("pspnet", "rn50", "PSPNet on ResNet-50"),
    "tiny": Variant(
        Config(StudentShape("mini", "tiny"), text_tower="random"), None, _TINY, "random weights, for tests"
    ),
}

_OF_WEIGHTS = ("student", "start_from", "words", "background", "learn_background", "mapper", "text_tower")
_LEXISEG: dict[str, Any] = {each.name: each.default for each in fields(Config) if each.name not in _OF_WEIGHTS}
_LEXISEG |= {"antialias": True}
_LIKE_THE_PAPER = {"short_side": 512, "long_side": 2048, "multiple": 1, "templates": "maskclip85"}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "lexiseg": _LEXISEG,
    "paper": {**_LEXISEG, **_LIKE_THE_PAPER, "classifier": "cosine"},
    "released": {**_LEXISEG, **_LIKE_THE_PAPER, "classifier": "raw", "antialias": False},
}
