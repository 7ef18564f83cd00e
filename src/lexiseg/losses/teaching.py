"""Teaches a student the labels there are, and pseudo-labels elsewhere.

The pseudo-labels are a teacher's, or the student's own.

Zhou, Loy and Dai, "Extract Free Dense Labels from CLIP", ECCV 2022, section 3.4 (§: maskclip_plus.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.errors import DataError, SettingError
from lexiseg.losses.pseudo_labels import UNLABELLED, cross_entropy, fill, upsample
from lexiseg.segmenter import DenseLogits, Inference, Teacher, TextClassifier

__all__ = ["Teaching", "Training"]


@dataclass(frozen=True)
class Training:
    """unseen: classes that no pixel is labelled with, which are all that unlabelled pixels may be (zero-shot); ()
        stands for all classes (annotation-free).
    guided: let the teacher label the unlabelled pixels. Otherwise they are ignored, up to `self_training`.
    self_training: the step, from 0, from which the student labels them itself; None is never.
    confidence: no pseudo-label below this; None keeps all.
    confidence_of: the "posterior" of unlabelled pixels (0-1), or as "released" the largest score, on its own scale, of
        all pixels: labelled ones lose their label too.
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
            raise SettingError(f"confidence is {self.confidence}, which is not a posterior; give a number from 0 to 1")
        if self.distillation < 0:
            raise SettingError(f"distillation is {self.distillation}; give a weight, or 0 for none")

    def build(self, segmenter: Any, *, teacher: Teacher | None = None) -> Teaching:
        """segmenter: a student, or what grows into one.

        Raises `SettingError` where words or a teacher are missing, or the two do not go together, and for a single
        class, which every pixel would have.
        """
        vocabulary = segmenter.config.vocabulary()
        if vocabulary is None:
            raise SettingError('there are no words to train on; give for example --set words="cat, grass, sky"')
        if len(vocabulary) == 1 and not vocabulary.background and not segmenter.config.learn_background:
            raise SettingError(
                f"{vocabulary.names[0]!r} alone leaves nothing to tell apart; name more classes, or words for the "
                "rest, for example --set background=auto"
            )
        if teacher is None and (self.guided or self.distillation):
            raise SettingError("a student learns from a teacher; name one with --set teacher=maskclip/mini")
        return Teaching(segmenter.grown(teacher), self, teacher)


class Teaching(nn.Module):
    """Batches of `data.labelled` in; the cross-entropy with labels and pseudo-labels out.

    segmenter: a student. teacher: its words' prompts become those of the student.
    """

    unsaved = ("teacher.*", "segmenter.text.*")

    def __init__(self, segmenter: Any, settings: Training, teacher: Teacher | None) -> None:
        super().__init__()
        self.segmenter, self.settings = segmenter, settings
        self.vocabulary = segmenter.config.vocabulary()
        self.teacher: Any = None if teacher is None else teacher.segmenter
        self._teacher = teacher
        self._step, self._filled, self._pixels = 0, torch.zeros(()), 0
        self._asking: tuple[torch.device, Any] | None = None
        self._channels = self._student_classifier().channels
        self._ignore = 255 if self._channels <= 255 else 65_535  # as `data` numbers it
        every = range(self.vocabulary.channels)
        self._places = [self.vocabulary.index(name) for name in settings.unseen] or list(every)

    def before_step(self, step: int) -> None:
        self._step, self._filled, self._pixels = step, torch.zeros(()), 0
        if self.teacher is not None:  # here, since inside of a step weights may be half as precise
            self._teacher_classifier()

    def report(self) -> dict[str, float]:
        """The share of the pixels that got a pseudo-label."""
        return {"pseudo_labelled": float(self._filled) / max(self._pixels, 1)}

    def train(self, mode: bool = True) -> Teaching:
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def inference(self, variant: Inference) -> Inference:
        """How the trained student is to be used: with the prompts that its words were embedded with."""
        return variant if self._teacher is None else replace(variant, prompts=self._teacher.inference.prompts)

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        images, labels = batch["images"], batch["labels"]
        self._check(labels)
        embedding = self.segmenter.embed_image(images)
        logits = self.segmenter.classify(embedding, self._student_classifier()).logits
        asked = self._asked(labels)
        seen = self._teacher_sees(images[asked]) if asked.any() else None
        targets = self._targets(labels, logits.detach(), asked, seen)
        self._count(labels, targets)
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
        return self.teacher.finish(self.teacher.embed_image(images))

    @torch.no_grad()
    def _targets(self, labels: Tensor, logits: Tensor, asked: Tensor, seen: Any) -> Tensor:
        """Labels [B, H, W] whose holes are filled by the teacher or the student, whose turn it is (§3.4)."""
        sure: dict[str, Any] = {"confidence": self.settings.confidence, "everywhere": self._everywhere}
        if self._teaches_itself:
            own = DenseLogits(logits[:, self._places])
            return fill(labels, own, self._places, ignore=self._ignore, **sure)
        targets = labels.masked_fill(labels == UNLABELLED, self._ignore)
        if self.settings.guided and seen is not None:
            result = self.teacher.classify(seen, self._teacher_classifier())
            rest = self._channels - 1 if self._channels > len(self.vocabulary) else self._ignore
            places = [*self._objects, rest] if result.background else self._places
            targets[asked] = fill(labels[asked], result, places, ignore=self._ignore, **sure)
        return targets

    @torch.no_grad()
    def _count(self, labels: Tensor, targets: Tensor) -> None:
        self._filled = self._filled.to(labels.device) + ((labels == UNLABELLED) & (targets != self._ignore)).sum()
        self._pixels += labels.numel()

    @property
    def _objects(self) -> list[int]:
        """The classes to fill without the background."""
        return [place for place in self._places if place < len(self.vocabulary)]

    @property
    def _everywhere(self) -> bool:
        """Whether confidence counts at labelled pixels too."""
        return self.settings.confidence is not None and self.settings.confidence_of == "released"

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
        classifier: TextClassifier = self.segmenter.classifier(self.vocabulary, self.segmenter.words)
        return classifier

    def _teacher_classifier(self) -> Any:
        """Of the classes to fill alone, so that denoising and smoothing know no others."""
        assert self._teacher is not None, "there is a teacher"
        device = self.segmenter.words.device
        if self._asking is None or self._asking[0] != device:
            background = () if self.settings.unseen else self.vocabulary.background
            asked = self.vocabulary.only(self._objects).with_background(background)
            with torch.no_grad():
                self._asking = device, self._teacher.embed_text(asked)
        return self._asking[1]

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
