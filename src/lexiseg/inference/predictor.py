"""Does the main job: photograph and words in, `Segmentation` out.

It does so whatever the size, the method and the machine.

    photograph -> resized -> windows -> embed_image -+
                                                     +-> classify -> refine -> decode -> Segmentation
    words ------------------------- embed_text ------+

Memory does not grow with classes times pixels anywhere: embeddings are classified in bands of grid rows, windows that
are blended as logits are averaged at a few of their pixels, in bands, and the decoder never holds C x H x W.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import torch

from lexiseg import catalog, settings
from lexiseg.data.photographs import ImageSource
from lexiseg.encoders.familiar import Familiar, familiar_with
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import TextCache
from lexiseg.errors import SettingError
from lexiseg.inference import devices, saving
from lexiseg.inference.embedding import Embedder, batches
from lexiseg.inference.fingerprint import fingerprint as fingerprint_of
from lexiseg.inference.fingerprint import weights_digest
from lexiseg.inference.given_masks import Masks
from lexiseg.inference.labelling import Embedded
from lexiseg.inference.question import Answering, Question, check_threshold
from lexiseg.inference.reading import Picture, Pictures, Unreadable, pictures, read, read_ahead
from lexiseg.inference.regions import Regions, proposals_of
from lexiseg.segmentation import Segmentation
from lexiseg.segmenter import Inference, Segmenter, Variant
from lexiseg.vocabulary import Vocabulary, Words

__all__ = ["Embedded", "Predictor", "Question", "load"]

KEPT_CLASSIFIERS = 32

Build = Callable[[ModuleType, Variant, str], Segmenter[Any, Any]]


class Predictor:
    """A segmenter with all that surrounds it. It takes the segmenter over: moves it, casts it, sets it to eval.

    name: what results say they were made by.
    device, dtype: see `devices`. With dtype "auto" a precision that overflows on a photograph is given up for a wider
        one, from then on.
    about: further JSON values for `settings`: the preset and the weights, say.
    familiar: which words the model knows, for results to warn of others; None where it is not known.
    text_cache: where the words' vectors are kept between runs.
    fingerprint: of another predictor with the same weights, see `fingerprint`; None takes it of the segmenter.

    >>> import lexiseg
    >>> from skimage import data
    >>> model = lexiseg.load("maskclip/mini")  # a Predictor
    >>> model.segment(data.chelsea(), "cat, blanket, wall").found[0]
    'cat'
    >>> photographs = [data.chelsea(), data.astronaut()]
    >>> [result.found[0] for result in model.segment_many(photographs, "cat, person", batch_size=2)]
    ['cat', 'person']
    >>> seen = model.embed(data.astronaut())  # the slow part, once
    >>> [model.classify(seen, words).found[0] for words in ("person, flag, wall", "woman, sky")]
    ['person', 'woman']
    """

    def __init__(
        self,
        segmenter: Segmenter[Any, Any],
        inference: Inference,
        *,
        name: str,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        about: Mapping[str, Any] | None = None,
        familiar: Familiar | None = None,
        text_cache: TextCache | None = None,
        fingerprint: str | None = None,
    ) -> None:
        self.segmenter, self.inference, self.name = segmenter, inference, name
        self.device = devices.device(device)
        self.prompts = Prompts.open(inference.prompts)
        self.about = dict(about or {})
        self.familiar, self.text_cache = familiar, text_cache
        self.fingerprint = fingerprint_of(segmenter) if fingerprint is None else fingerprint
        self._source: tuple[str, Variant] | None = None  # the method and the variant it was loaded by
        precision = devices.dtype(dtype, self.device)
        self._embedder = Embedder(segmenter, inference, self.device, precision, widen=str(dtype) == "auto")
        self._refine = catalog.get("refine", inference.refine).refine if inference.refine else None
        self._classifiers: dict[str, Any] = {}

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str],
        *,
        weights: str | os.PathLike[str] | None = None,
        preset: str | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        text_cache: bool = True,
        changes: Mapping[str, Any] | None = None,
        digest: bool = False,
        build: Build | None = None,
    ) -> Predictor:
        """A model by name or folder, ready to label photographs. `lexiseg.load` is this, with changes by keyword.

        model, weights, preset, changes: see `catalog.load`.
        device: "auto", "cpu", "cuda", "cuda:1" ... dtype: "auto", "fp32", "bf16" or "fp16"; see `devices`.
        text_cache: keep the words' vectors in the user's cache folder, for the next run.
        digest: put a hash of all weights, as they were before they are cast, into `settings`.
        build: makes the segmenter of the method's module, the variant and the model's name; None loads its weights.

        Raises `UnknownName` for anything that does not exist, `SettingError` for a value that does not fit,
        `WeightsError` for weights that are missing or do not fit.
        """
        on = devices.device(device)
        devices.dtype(dtype, on)  # a wrong name is said before gigabytes are read
        module, variant = catalog.resolve(model, weights=weights, preset=preset, **(changes or {}))
        segmenter = (build or _build)(module, variant, os.fspath(model))
        about = {"preset": preset, "weights": None if weights is None else os.fspath(weights)}
        predictor = cls(
            segmenter,
            variant.inference,
            name=os.fspath(model),
            device=on,
            dtype=dtype,
            about={**about, "weights_digest": weights_digest(segmenter)} if digest else about,
            familiar=familiar_with(variant.weights),
            text_cache=TextCache() if text_cache else None,
        )
        predictor._source = (module.__name__.rpartition(".")[2], variant) if build is None else None
        return predictor

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes a folder that `lexiseg.load` reads: weights, settings, and what its source had beside the weights.

        Weights are written as they were loaded, whatever precision they are used in.
        Raises `OutputError` for a folder that exists and is not empty, or that cannot be written.
        """
        segmenter, source, name = self.segmenter, None, None
        if self._source is not None:
            method, variant = self._source
            segmenter = saving.unrounded(segmenter, method, variant, self._embedder.narrowest)
            source, name = variant.weights, catalog.variant_of(self.name)
        saving.save(segmenter, self.inference, folder, source=source, variant=name)

    @property
    def dtype(self) -> torch.dtype:
        """The precision in use now."""
        return self._embedder.dtype

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides a result beside the photograph and the words, as plain JSON values."""
        config = self.segmenter.config
        return {
            "model": self.name,
            **self.about,
            "config": settings.to_json(config) if dataclasses.is_dataclass(config) else None,
            "inference": settings.to_json(self.inference),
            "prompts": self.prompts.digest[:16],
            "dtype": devices.name(self.dtype),
            "device": self.device.type,
        }

    def segment(
        self,
        image: ImageSource,
        words: Words,
        *,
        background: str | Sequence[str] | None = None,
        threshold: float | None = None,
        scores: bool = True,
        keep_image: bool = True,
        masks: Masks | None = None,
    ) -> Segmentation:
        """Labels every pixel of `image` with one of `words`, at the photograph's own size.

        image: a path, bytes, a binary file, a Pillow image, an array [H, W, 3], or a `Photograph` that was opened with
            another limit on its pixels. Samples wider than 8 bits are brought to 8 by the rule of `Photograph.open`;
            fully transparent pixels stay unlabelled. `warnings` says where either was done.
        background: words for everything else, whose pixels stay unlabelled; None keeps those of the vocabulary, "auto"
            stands for a published list without the words of the classes.
        threshold: posterior, 0-1; pixels whose winner is below it stay unlabelled. None is the model's own rule.
        scores: whether the posterior of each pixel's winner is wanted.
        keep_image: whether the result holds the photograph, so that it can draw itself over it. Without, a JPEG that
            is much larger than what the network sees is decoded at a fraction of its size, which is faster and
            changes pixels by a fraction of a level.
        masks: your own in place of the model's: a label map [H, W] of whole numbers, masks [N, H, W], or `Proposals`;
            see `given_masks.given`. Pixels that are in none stay unlabelled.

        Raises `ImageError` for an image that cannot be read, `VocabularyError` for words that cannot be used,
        `SettingError` for masks that do not fit, or that this model does not take.
        """
        options: dict[str, Any] = {"background": background, "threshold": threshold, "scores": scores}
        own = None if masks is None else lambda _: masks
        (result,) = self.segment_many([image], words, keep_image=keep_image, masks=own, **options)
        return result

    def segment_many(
        self,
        images: Pictures,
        words: Words,
        *,
        batch_size: int = 1,
        background: str | Sequence[str] | None = None,
        threshold: float | None = None,
        scores: bool = True,
        keep_image: bool = True,
        skip: Callable[[ImageSource, Unreadable], None] | None = None,
        masks: Callable[[ImageSource], Masks] | None = None,
    ) -> Iterator[Segmentation]:
        """The same for many images, in order; the next ones are decoded while the network works.

        images: photographs as `segment` takes them; or a folder, for all photographs in it and in folders inside.
        batch_size: images that may pass the network together; among so many, those of one size do.
        skip: called, in turn, with an image that cannot be read and why; it has no result. None raises.
        masks: called with each image, for its masks. It may raise `DataError`, as for an image that cannot be read.
        """
        self._check_takes(masks)
        if not isinstance(batch_size, int) or batch_size < 1:
            raise SettingError(f"batch_size must be a whole number of 1 or more, got {batch_size!r}")
        question = self.ask(words, background=background, threshold=threshold, scores=scores)
        reading = read_ahead(pictures(images), self.inference, ahead=batch_size, keep_image=keep_image, masks=masks)
        return self._segment(question, reading, batch_size, skip)

    def embed(self, image: ImageSource, *, keep_image: bool = True, masks: Masks | None = None) -> Embedded:
        """Looks at `image` once, for any number of `classify` calls; `masks` are your own, as `segment` takes them."""
        picture = self.read(image, keep_image=keep_image, masks=masks)
        (embedded,) = self._embed([picture], keep_pixels=self._refine is not None)
        return embedded

    def read(self, image: ImageSource, *, keep_image: bool = True, masks: Masks | None = None) -> Picture:
        """Decodes and resizes a photograph for `embed_many`; any number of threads may do so at once.

        Raises `ImageError`, and `SettingError` for masks that do not fit it or the model.
        """
        self._check_takes(masks)
        return read(image, self.inference, keep_image=keep_image, masks=masks)

    def embed_many(self, pictures: Sequence[Picture]) -> list[Embedded]:
        """Looks at photographs that `read` has returned; those of one size pass the network together.

        Each keeps what a refiner needs, so that any `ask(refine=...)` can be put to it.
        """
        return self._embed(pictures, keep_pixels=True)

    def regions(self, image: ImageSource, *, keep_image: bool = True) -> Regions:
        """The masks that the model makes of `image`, without words, at the photograph's own size.

        Raises `ImageError` for an image that cannot be read, `SettingError` for a model without masks.
        """
        if not self.segmenter.traits.regions:
            proposers = ", ".join(catalog.names("proposals"))
            raise SettingError(f"{self.name} labels places, not masks; give a model with masks, or one of {proposers}")
        embedded = self.embed(image, keep_image=keep_image)
        return Regions.of(
            proposals_of(embedded, self.name), embedded.size, embedded.resized, model=self.name,
            settings=self.settings, warnings=embedded.notes, image=embedded.image,
        )  # fmt: skip

    def classify(
        self,
        embedded: Embedded,
        words: Words,
        *,
        background: str | Sequence[str] | None = None,
        threshold: float | None = None,
        scores: bool = True,
    ) -> Segmentation:
        """What `segment` returns, of an image that `embed` has returned.

        Raises `SettingError` for what another model has embedded.
        """
        return self.ask(words, background=background, threshold=threshold, scores=scores).answer(embedded)

    def ask(
        self,
        words: Words,
        *,
        background: str | Sequence[str] | None = None,
        threshold: float | None = None,
        scores: bool = True,
        classifier: Any = None,
        prompts: Prompts | None = None,
        refine: str | None = None,
    ) -> Question:
        """Words and options as one question, for any number of pictures that this model has embedded.

        background, threshold, scores: see `segment`. classifier: the words, where they are embedded already.
        prompts: what each word is put into, in place of the model's own.
        refine: a refiner by name, or "none", in place of the model's own. It is for what `embed_many` has returned.
        """
        vocabulary = Vocabulary.of(words)
        if background is not None:
            vocabulary = vocabulary.with_background(background)
        check_threshold(threshold)
        used = {} if prompts is None else {"prompts": prompts.digest[:16]}
        inference, refiner = self.inference, self._refine
        if refine is not None:
            inference = dataclasses.replace(inference, refine=None if refine == "none" else refine)
            refiner = catalog.get("refine", inference.refine).refine if inference.refine else None
        model = Answering(
            self.name,
            self.fingerprint,
            self.segmenter,
            lambda words: self.embed_text(words, prompts=prompts),
            lambda: {**self.settings, "inference": settings.to_json(inference), **used},
            self.inference.background_threshold,
            refiner,
            self.familiar,
        )
        return Question(model, vocabulary, threshold, scores, classifier)

    @torch.inference_mode()
    def embed_text(self, words: Words, *, prompts: Prompts | None = None) -> Any:
        """The words as the segmenter's classifier; the latest are kept. prompts: in place of the model's own."""
        vocabulary, prompts = Vocabulary.of(words), self.prompts if prompts is None else prompts
        seen = vocabulary.seen if self.segmenter.traits.reads_seen else None
        key = f"{vocabulary.digest} {seen} {self.dtype} {prompts.digest}"
        classifier = self._classifiers.get(key)
        if classifier is None:
            classifier = self._classifiers[key] = self.segmenter.embed_text(vocabulary, prompts, cache=self.text_cache)
            for oldest in list(self._classifiers)[:-KEPT_CLASSIFIERS]:
                self._classifiers.pop(oldest, None)
        return classifier

    def _embed(self, pictures: Sequence[Picture], *, keep_pixels: bool) -> list[Embedded]:
        """In the order of the pictures; equal sizes are embedded one after the other, so in one batch."""
        order = sorted(range(len(pictures)), key=lambda place: pictures[place].resized)
        found = self._embedder.embed([pictures[place] for place in order], keep_pixels=keep_pixels)
        seen = {}
        for place, one in zip(order, found, strict=True):
            looks = tuple(look.held() for look in one.looks)
            seen[place] = dataclasses.replace(one, looks=looks, model=self.name, fingerprint=self.fingerprint)
        return [seen[place] for place in range(len(pictures))]

    def _check_takes(self, masks: object) -> None:
        if masks is not None and not self.segmenter.traits.accepts_masks:
            raise SettingError(f"{self.name} does not take masks; give a model that does, or leave them out")

    def _segment(
        self,
        question: Question,
        reading: Iterable[tuple[ImageSource, Picture | Unreadable]],
        batch_size: int,
        skip: Callable[[ImageSource, Unreadable], None] | None,
    ) -> Iterator[Segmentation]:
        for batch in batches(reading, batch_size):
            results = self._segment_batch([found for _, found in batch if isinstance(found, Picture)], question)
            for image, found in batch:
                if isinstance(found, Picture):
                    yield next(results)
                elif skip is None:
                    raise found
                else:
                    skip(image, found)

    def _segment_batch(self, batch: list[Picture], question: Question) -> Iterator[Segmentation]:
        """Results in the order of the pictures; equal sizes are embedded one after the other, so in one batch."""
        order = sorted(range(len(batch)), key=lambda place: batch[place].resized)
        embedded = self._embedder.embed([batch[place] for place in order], keep_pixels=self._refine is not None)
        results = {place: question.answer(next(embedded)) for place in order}
        yield from (results[place] for place in range(len(batch)))


def load(
    model: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    preset: str | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    text_cache: bool = True,
    **changes: Any,
) -> Predictor:
    """A model, ready to label photographs; changes are settings by name. See `Predictor.load`.

    >>> import lexiseg
    >>> model = lexiseg.load("maskclip/mini", device="cpu", long_side=256)
    >>> model.name, model.inference.long_side
    ('maskclip/mini', 256)
    >>> model.save("mine")
    >>> lexiseg.load("mine").inference.long_side
    256
    """
    return Predictor.load(
        model, weights=weights, preset=preset, device=device, dtype=dtype, text_cache=text_cache, changes=changes
    )


def _build(module: ModuleType, variant: Variant, name: str) -> Segmenter[Any, Any]:
    segmenter: Segmenter[Any, Any] = module.load(variant)
    return segmenter
