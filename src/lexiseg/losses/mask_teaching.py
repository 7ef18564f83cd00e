"""Teaches MaskFormer masks, and its queries where words are.

ZSSeg's first stage (Xu et al., ECCV 2022, section 3.2; zsseg.md §4.3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lexiseg.errors import DataError, SettingError
from lexiseg.losses.mask_classification import LossWeights, Norms, mask_classification
from lexiseg.losses.matching import Costs, Targets
from lexiseg.losses.pseudo_labels import UNLABELLED
from lexiseg.segmenter import Inference, TextClassifier
from lexiseg.vocabulary import Vocabulary

__all__ = ["MaskTeaching", "Training"]

_COSTS, _WEIGHTS = Costs(), LossWeights()


@dataclass(frozen=True)
class Training:
    """How MaskFormer learns the masks of the seen classes, and their words (§4.3).

    words: the classes that pixels are labelled with, in the order of the labels, as `Vocabulary` reads them.
    unseen: those of them that no pixel is labelled with, which the query branch is not told of.
    prompts: what the words are put into; see `Inference.prompts`.
    unlabelled: what pixels are whose class is not told. "ignored": a mask may cover them, and a query be what it likes
        there. "foreign": a query may too, but UNLABELLED ones, which the data says are of unseen classes, are in no
        mask of a seen one. "negative", as released: in no mask, and nothing is there; so are ignored ones.
    losses_at: masks are compared with labels at the "pixels" of the labels, or on the masks' own "grid", which is
        cheaper and coarser.
    costs: of matching. weights: of the losses.
    """

    words: str | tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    prompts: str = "vild14"
    unlabelled: Literal["ignored", "foreign", "negative"] = "ignored"
    losses_at: Literal["pixels", "grid"] = "pixels"
    costs: Costs = _COSTS
    weights: LossWeights = _WEIGHTS

    def build(self, segmenter: Any, *, teacher: object = None) -> MaskTeaching:
        """segmenter: a `methods.zsseg.ZsSeg`.

        Raises `SettingError` for a teacher, without words, and for a model whose masks are not MaskFormer's.
        """
        if teacher is not None:
            raise SettingError("zsseg learns from labels alone; leave the teacher out")
        if not self.words:
            raise SettingError('there are no words to train on; give for example --set words="cat, grass, sky"')
        if segmenter.network is None:
            raise SettingError(f"proposer={segmenter.config.proposer} does not train; set proposer=maskformer")
        return MaskTeaching(segmenter, self)


class MaskTeaching(nn.Module):
    """Batches of `data.labelled` in; MaskFormer's losses out."""

    unsaved = ("segmenter.clip.*",)

    def __init__(self, segmenter: Any, settings: Training) -> None:
        super().__init__()
        self.segmenter, self.settings = segmenter, settings
        words = Vocabulary(settings.words, shared_words=not isinstance(settings.words, str))
        hidden = {words.index(name) for name in settings.unseen}
        self._names = words.names
        self._seen = [place for place in range(len(words)) if place not in hidden]
        self._asked = words.only(self._seen)
        self._ignore = 255 if len(words) <= 255 else 65_535  # as `data` numbers it
        self._words: tuple[torch.device, TextClassifier] | None = None
        self._whole: tuple[Norms, int] | None = None
        self._overlap = 0.0

    def before_step(self, step: int) -> None:
        self._whole = None
        self._classifier()  # here, since inside of a step weights may be half as precise

    def before_batch(self, batch: Mapping[str, Any], average: Callable[[Tensor], Tensor]) -> None:
        """Counts the masks of the whole batch, whatever pieces it comes in."""
        targets = self._targets(batch["labels"])
        self._whole = self._norms(targets, average), len(batch["labels"])

    def report(self) -> dict[str, float]:
        """The mean dice coefficient of the last layer's masks with those they were matched with."""
        return {"overlap": self._overlap}

    def inference(self, variant: Inference) -> Inference:
        """How the trained model is to be used: with the prompts that its queries were trained with."""
        return replace(variant, prompts=self.settings.prompts)

    def train(self, mode: bool = True) -> MaskTeaching:
        super().train(mode)
        self.segmenter.clip.eval()
        return self

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        model, settings = self.segmenter, self.settings
        found = model.network(model.normalise(batch["images"]), deep=True)
        logits = model.query_logits(model.query_vectors(found.queries), self._classifier())
        targets = self._targets(batch["labels"])
        norms, whole = self._whole or (self._norms(targets), len(batch["labels"]))
        losses, missed = mask_classification(
            found.masks,
            logits,
            targets,
            found.covers,
            norms.piece(len(batch["labels"]) / whole),
            costs=settings.costs,
            weights=settings.weights,
            spare_unlabelled=settings.unlabelled != "negative",
            on_grid=settings.losses_at == "grid",
        )
        self._overlap = 1 - float(missed)
        return losses

    def _targets(self, labels: Tensor) -> Targets:
        """The masks of the classes that are seen, numbered among these."""
        table = torch.full((self._ignore + 2,), UNLABELLED, device=labels.device)
        table[self._seen] = torch.arange(len(self._seen), device=labels.device)
        self._check(labels)
        places = torch.where(labels == UNLABELLED, self._ignore + 1, labels)
        classes = table[places]
        told = {"ignored": classes >= 0, "foreign": labels != self._ignore, "negative": torch.ones_like(labels) > 0}
        most = self.segmenter.network.shape.queries
        return Targets.of_labels(classes, len(self._seen), most=most, valid=told[self.settings.unlabelled])

    def _norms(self, targets: Targets, average: Callable[[Tensor], Tensor] = lambda own: own) -> Norms:
        queries = len(targets.labels) * self.segmenter.network.shape.queries
        return Norms.of(targets.masks, queries, self.settings.weights, average)

    def _classifier(self) -> TextClassifier:
        device = self.segmenter.no_object.device
        if self._words is None or self._words[0] != device:
            self._words = device, self.segmenter.query_words(self._asked, self.settings.prompts)
        return self._words[1]

    def _check(self, labels: Tensor) -> None:
        known = torch.unique(labels[(labels != UNLABELLED) & (labels != self._ignore)]).tolist()
        if known and not 0 <= known[0] <= known[-1] < len(self._names):
            wrong = known[-1] if known[-1] >= len(self._names) else known[0]
            raise DataError(f"a label map holds {wrong} and there are {len(self._names)} classes; check words and data")
        if told := sorted(set(known) - set(self._seen)):
            raise DataError(
                f"pixels are labelled {self._names[told[0]]!r}, which is said to be unseen; let the data suppress or "
                "hide that class"
            )
