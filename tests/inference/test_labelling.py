"""From embeddings to labels: bands, backgrounds and refiners."""

from __future__ import annotations

import math
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lexiseg import catalog
from lexiseg.errors import LexisegError, MethodError, SettingError, UnknownName
from lexiseg.inference import canvas, labelling
from lexiseg.inference import decoder as decoding
from lexiseg.inference.canvas import CHUNK, Canvas
from lexiseg.inference.labelling import Labeller, decode
from lexiseg.inference.posterior import Posterior
from lexiseg.inference.upsample import axes
from lexiseg.segmenter import DenseLogits, MaskScores, Traits
from lexiseg.vocabulary import Vocabulary

from . import plain
from .fakes import COLOURS, PATCH, WORDS, Colours, Masks, OwnBackground, flag, predictor


def test_classifying_in_bands_changes_nothing(monkeypatch):
    whole = predictor().segment(flag(), WORDS)
    monkeypatch.setattr(labelling, "BAND", 3 * 16 * len(WORDS))
    segmenter = Colours()
    banded = predictor(segmenter).segment(flag(), WORDS)
    assert max(segmenter.bands) == 4 < 12
    assert np.array_equal(whole.labels, banded.labels)
    segmenter.traits, segmenter.bands = Traits(whole_image=True), []
    predictor(segmenter).segment(flag(), WORDS)
    assert segmenter.bands == [12]


def test_masks_are_never_cut_into_bands(monkeypatch):
    whole = predictor(Masks()).segment(flag(), WORDS)
    monkeypatch.setattr(labelling, "BAND", 3 * 16 * len(WORDS))
    assert np.array_equal(predictor(Masks()).segment(flag(), WORDS).labels, whole.labels)


def test_a_method_with_a_rule_of_its_own_has_no_other():
    image = flag()
    image[:8] = 0
    model = predictor(OwnBackground(), background_threshold=0.999)
    result = model.segment(image, WORDS)
    assert (result.labels[:7] == 255).all()
    assert (result.labels[10:] != 255).all()
    with pytest.raises(SettingError, match="rule of its own"):
        model.segment(image, WORDS, threshold=0.5)


@pytest.fixture
def shout(monkeypatch):
    """A refiner called "shout", which turns every pixel to the class of the picture's first pixel's colour."""
    module = types.ModuleType("shout")
    seen = []

    def refine(logits, rgb):
        seen.append((tuple(logits.shape), rgb.shape, rgb.dtype))
        everywhere = torch.full_like(logits, -5.0)
        everywhere[int(rgb[0, 0].argmax())] = 5.0
        return everywhere

    module.refine = refine
    monkeypatch.setattr(catalog, "get", lambda shelf, name: {("refine", "shout"): module}[shelf, name])
    return seen


@pytest.mark.parametrize("segmenter", [Colours, Masks])
@pytest.mark.parametrize("changes", [{}, {"window": 16}, {"window": 16, "blend": "logits"}])
def test_a_refiner_sees_all_logits_and_the_pixels_behind_them(shout, segmenter, changes):
    model = predictor(segmenter(), refine="shout", short_side=24, **changes)
    for result in (model.segment(flag(), WORDS), model.classify(model.embed(flag()), WORDS)):
        assert (result.labels == 0).all()
    pixels = (len(WORDS), 24, 32)
    grid = (len(WORDS), 6, 8)
    expected = pixels if segmenter is Masks or changes.get("blend") == "logits" else grid
    assert set(shout) == {(expected, (24, 32, 3), np.dtype(np.uint8))}


def test_logits_too_large_to_refine_are_an_error(shout, monkeypatch):
    monkeypatch.setattr(labelling, "MAX_REFINED", 10)
    with pytest.raises(SettingError, match="refiner would need"):
        predictor(refine="shout").segment(flag(), WORDS)


# --- results of every kind, by every way, against their definition


KINDS = ["logits", "sigmoid", "linear"]
PATHS = ["numba", "torch"]


def choose(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if path == "torch":
        monkeypatch.setattr(decoding, "_kernels", lambda: None)
    else:
        pytest.importorskip("numba")


def some_result(kind, seed, channels, count, grid, covers=None, background=False) -> plain.Result:
    generator = torch.Generator().manual_seed(seed)
    if kind == "logits":
        return DenseLogits(5 * torch.randn(1, channels, *grid, generator=generator), background, covers)
    masks, scores = torch.randn(1, count, *grid, generator=generator), torch.rand(1, count, channels)
    masks = 5 * masks if kind == "sigmoid" else masks.clamp(min=0)
    return MaskScores(masks, scores, background, kind, covers)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    channels=st.integers(1, 7),
    count=st.integers(0, 5),
    grid=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    seen=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.one_of(st.none(), st.tuples(st.integers(1, 60), st.integers(1, 60))),
    extra=st.one_of(st.none(), st.tuples(st.integers(-3, 40), st.integers(-3, 40))),
    chunk=st.sampled_from([1, 300, CHUNK]),
)
def test_labels_and_posteriors_are_those_of_the_definition(
    path, kind, seed, channels, count, grid, seen, size, extra, chunk
):
    covers = extra and tuple(max(1, side + more) for side, more in zip(seen, extra, strict=True))
    result = some_result(kind, seed, channels, count, grid, covers)
    with pytest.MonkeyPatch.context() as monkeypatch:
        choose(path, monkeypatch)
        monkeypatch.setattr(canvas, "CHUNK", chunk)
        labels, scores = decode(result, size or seen, seen=seen)
    plain.check_labels(labels, scores, *plain.values_of(result, size or seen, seen))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 5])
def test_many_classes_and_a_background_leave_pixels_unlabelled(path, kind, count, monkeypatch):
    choose(path, monkeypatch)
    result = some_result(kind, 0, 848, count, (6, 7), (48, 64), background=True)
    labels = decode(result, (45, 61), threshold=0.3).labels
    values, posterior = plain.values_of(result, (45, 61))
    best, winner = posterior.gather(0, values.argmax(0, keepdim=True))[0], values.argmax(0)
    clear = ((best - 0.3).abs() > 1e-3) & (values.topk(2, dim=0).values.diff(dim=0)[0].abs() > 1e-4)
    expected = torch.where((winner == 847) | (best < 0.3), 65_535, winner)
    assert labels.dtype == np.uint16
    assert np.array_equal(labels[clear], expected[clear])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["sigmoid", "linear"])
def test_without_masks_the_first_class_wins_with_no_posterior(path, kind, monkeypatch):
    choose(path, monkeypatch)
    labels, scores = decode(some_result(kind, 0, 3, 0, (4, 4)), (20, 20))
    assert (labels == 0).all()
    assert (scores == 0).all()
    assert (decode(some_result(kind, 0, 3, 0, (4, 4)), (20, 20), threshold=0.1).labels == 255).all()


@pytest.mark.parametrize("path", PATHS)
def test_regions_of_pixels_are_labelled_as_their_dense_scores_are(path, monkeypatch):
    """GroupViT's rule: a region for every pixel of the window, its scores brought to full size bilinearly."""
    choose(path, monkeypatch)
    generator = torch.Generator().manual_seed(0)
    soft = torch.randn(1, 8, 7, 7, generator=generator)
    regions = F.interpolate(soft, (56, 56), mode="bilinear").argmax(1)  # [1, 56, 56]
    scores = torch.randn(1, 8, 847, generator=generator).softmax(-1)
    masks = F.one_hot(regions, 8).permute(0, 3, 1, 2).float()
    dense = scores[0].mT[:, regions[0]]  # [847, 56, 56]
    for size in ((56, 56), (75, 101)):
        values = plain.stretch(dense, size)
        labels, posterior = decode(MaskScores(masks, scores, weights="linear"), size)
        assert np.array_equal(labels, values.argmax(0))
        assert np.allclose(posterior, values.amax(0), rtol=1e-3)


def test_regions_of_pixels_never_stand_as_classes_times_pixels(monkeypatch):
    """8 masks of 448 x 448 and their scores for 847 classes are 6.5 MB; dense scores there would be 680."""
    held, fill = [], Canvas.fill
    monkeypatch.setattr(Canvas, "fill", lambda self, values, *axes: (held.append(values), fill(self, values, *axes)))
    masks = F.one_hot(torch.arange(150 * 150).view(1, 150, 150) // 3_000, 8).permute(0, 3, 1, 2).float()
    decode(MaskScores(masks, torch.rand(1, 8, 847), weights="linear"), (150, 150), scores=False)
    assert len(held) > 1
    assert max(values.nbytes for values in held) < 4.1 * CHUNK < 847 * masks[:, 0].nbytes / 4
    assert 4 * 8 * (448 * 448 + 847) < 6.5e6


class Padded(Colours):
    """Pads to multiples of 32 and answers on a grid of a cell for 4 pixels, which covers the padding too."""

    kind = "logits"

    def embed_image(self, images):
        rows, columns = (torch.arange(32 * math.ceil(side / 32)).clamp(max=side - 1) for side in images.shape[-2:])
        return super().embed_image(images[:, :, rows][:, :, :, columns])

    def classify(self, embedding, classifier):
        logits, (height, width) = super().classify(embedding, classifier).logits, embedding.grid
        covers = (PATCH * height, PATCH * width)
        if self.kind == "logits":
            return DenseLogits(logits, classifier.background, covers)
        weights = logits.softmax(1) if self.kind == "linear" else logits - logits.logsumexp(1, keepdim=True) + 2
        return MaskScores(weights, torch.eye(logits.shape[1])[None], classifier.background, self.kind, covers)


def stripes(height: int, width: int, *, across: bool) -> tuple[np.ndarray, np.ndarray]:
    """Bars of colours that change at multiples of 8 pixels, and the places of their colours in WORDS."""
    length = width if across else height
    order = np.array([0, 1, 2, 1, 3, 0])[(np.arange(length) // 8 * 3) // 5 % 6]
    labels = np.broadcast_to(order if across else order[:, None], (height, width))
    return np.array([COLOURS[word] for word in WORDS], np.uint8)[labels] * 255, labels


WAYS = {
    "whole": {},
    "at half size": {"short_side": 40},
    "features": {"window": 64, "stride": 32},
    "logits": {"window": 64, "stride": 40, "blend": "logits"},
    "refined": {"refine": "same"},
    "refined windows": {"refine": "same", "window": 64, "stride": 40, "blend": "logits"},
    "refined at half size": {"refine": "same", "short_side": 40},
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("across", [False, True])
def test_what_a_padding_network_draws_stays_where_it_was_drawn(path, kind, way, across, monkeypatch):
    """80 x 104 pixels on a grid that covers 96 x 128: taken for all of the picture, bars would be 20 pixels off."""
    choose(path, monkeypatch)
    same = types.SimpleNamespace(refine=lambda logits, rgb: logits)
    monkeypatch.setattr(catalog, "get", lambda shelf, name: {("refine", "same"): same}[shelf, name])
    segmenter = Padded()
    segmenter.kind = kind
    picture, labels = stripes(80, 104, across=across)
    found = predictor(segmenter, **WAYS[way]).segment(picture, WORDS)
    assert np.array_equal(found.labels, labels)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("rows", [1, 2, 5, 13])
def test_bands_of_a_padded_grid_stay_where_they_are(path, rows, monkeypatch):
    choose(path, monkeypatch)
    monkeypatch.setattr(labelling, "BAND", rows * 32 * len(WORDS))
    picture, labels = stripes(80, 104, across=False)
    segmenter = Padded()
    assert np.array_equal(predictor(segmenter).segment(picture, WORDS).labels, labels)
    assert 1 < max(segmenter.bands) <= rows + 1
    assert np.array_equal(predictor(segmenter, short_side=40).segment(picture, WORDS).labels, labels)


def test_bands_that_all_say_what_the_whole_grid_covers_are_not_put_together(monkeypatch):
    class Stubborn(Padded):
        def classify(self, embedding, classifier):
            return replace(super().classify(embedding, classifier), covers=(96, 128))

    picture, labels = stripes(80, 104, across=False)
    monkeypatch.setattr(labelling, "BAND", 5 * 32 * len(WORDS))
    assert np.array_equal(predictor(Stubborn()).segment(picture, WORDS).labels, labels)


# --- what a method's author is told


class Wrong(Colours):
    change = staticmethod(lambda result: result)

    def classify(self, embedding, classifier):
        return self.change(super().classify(embedding, classifier))


MISTAKES = {
    "a Tensor": lambda result: result.logits,
    "3 channels for a vocabulary of 4": lambda result: DenseLogits(result.logits[:, :3]),
    r"covers that make the grid \d+ x 16 pixels": lambda result: replace(result, covers=result.grid),
}


@pytest.mark.parametrize("message", MISTAKES)
@pytest.mark.parametrize("changes", [{}, {"window": 16}, {"window": 16, "blend": "logits"}, {"refine": "pamr"}])
def test_a_mistake_of_a_method_is_a_sentence_whatever_the_way(message, changes):
    segmenter = Wrong()
    segmenter.change = MISTAKES[message]
    if "blend" in changes:
        message = message.replace("16", "4")
    with pytest.raises(MethodError, match=f"Wrong.classify returned .*{message}"):
        predictor(segmenter, **changes).segment(flag(), WORDS)


def test_bands_are_checked_too(monkeypatch):
    monkeypatch.setattr(labelling, "BAND", 3 * 16 * len(WORDS))
    segmenter = Wrong()
    segmenter.change = MISTAKES["3 channels for a vocabulary of 4"]
    with pytest.raises(MethodError, match="3 channels for a vocabulary of 4"):
        predictor(segmenter).segment(flag(), WORDS)


@pytest.mark.parametrize("kind", ["logits", "linear"])
@pytest.mark.parametrize("changes", [{}, {"window": 16, "blend": "logits"}, {"refine": "pamr"}])
def test_numbers_that_are_nan_are_refused_whatever_the_way(kind, changes):
    segmenter = Wrong()
    nan = torch.full((1, 4, 3, 3), torch.nan)
    result = DenseLogits(nan) if kind == "logits" else MaskScores(nan, torch.ones(1, 4, 4), weights="linear")
    segmenter.change = lambda _: result
    with pytest.raises(LexisegError, match="NaN or infinite"):
        predictor(segmenter, **changes).segment(flag(), WORDS)


@pytest.mark.parametrize("changes", [{}, {"blend": "logits"}, {"refine": "same"}])
@pytest.mark.parametrize("count", [0, 1])
def test_where_no_mask_is_the_first_class_wins_whatever_the_way(count, changes, monkeypatch):
    same = types.SimpleNamespace(refine=lambda logits, rgb: logits)
    monkeypatch.setattr(catalog, "get", lambda shelf, name: {("refine", "same"): same}[shelf, name])
    segmenter = Wrong()
    masks = torch.zeros(1, count, 3, 4)
    masks[..., 3] = 1  # nothing is on the left
    scores = torch.tensor([0.0, 0, 1, 0]).expand(1, count, 4)
    segmenter.change = lambda _: MaskScores(masks, scores, weights="linear")
    result = predictor(segmenter, **changes).segment(flag(), WORDS)
    assert (result.labels[:, :40] == 0).all()
    assert (result.labels[:, -7:] == (2 if count else 0)).all()


@pytest.mark.parametrize("changes", [{}, {"window": 16, "blend": "logits"}, {"refine": "pamr"}])
def test_minus_infinity_never_wins_whatever_the_way(changes):
    """A class that a method has removed in one place is interpolated with places where it was not."""
    segmenter = Wrong()
    lost = torch.zeros(1, 4, 1, 1)
    lost[:, 1] = -torch.inf
    segmenter.change = lambda result: DenseLogits(result.logits + lost)
    result = predictor(segmenter, **changes).segment(flag(), WORDS)
    assert not (result.labels == 1).any()
    assert np.isfinite(result.scores).all()


# --- one class alone


def ask(segmenter, image, words, **changes):
    model = predictor(segmenter, **changes)
    vocabulary = Vocabulary.of(words)
    labeller = Labeller(model.segmenter, model.embed_text(vocabulary), vocabulary, refine=model._refine)
    return labeller, model.embed(image)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", [way for way in WAYS if "refined" not in way])
@torch.inference_mode()
def test_the_posteriors_of_all_classes_are_those_of_the_label_map_and_add_up_to_one(kind, way):
    segmenter = Padded()
    segmenter.kind = kind
    picture, _ = stripes(80, 104, across=True)
    labeller, embedded = ask(segmenter, picture, WORDS, **WAYS[way])
    labels, scores = labeller.label(embedded)
    each = np.stack([labeller.posterior(embedded, word) for word in WORDS])
    assert each.dtype == np.float16
    assert np.allclose(np.take_along_axis(each, labels[None].astype(int), 0)[0], scores, rtol=3e-3, atol=1e-4)
    assert np.allclose(each.astype(np.float32).sum(0), 1, atol=3e-3)


@torch.inference_mode()
def test_the_posterior_of_a_class_is_the_softmax_at_full_size():
    labeller, embedded = ask(Colours(), flag(), ["red", "green|yellow", "blue"])
    result = Colours().classify(embedded.views[0][1], labeller.classifier)
    expected = F.interpolate(result.logits, embedded.size, mode="bilinear").softmax(1)[0, 1]
    for name in ("green|yellow", "yellow"):
        found = labeller.posterior(embedded, labeller.vocabulary.names[1] if "|" in name else name)
        assert np.allclose(found, expected, atol=1e-3)
    with pytest.raises(UnknownName):
        labeller.posterior(embedded, "purple")


@torch.inference_mode()
def test_pixels_that_are_not_there_have_no_posterior():
    labeller, embedded = ask(Colours(), flag(), WORDS)
    valid = np.ones(embedded.size, bool)
    valid[:5] = False
    found = labeller.posterior(replace(embedded, valid=valid), "red")
    assert (found[:5] == 0).all()
    assert np.array_equal(found[5:], labeller.posterior(embedded, "red")[5:])


def test_the_posterior_holds_a_few_rows_at_a_time(monkeypatch):
    result = some_result("logits", 0, 60, 0, (5, 6))
    rows, columns = axes((5, 6), (90, 70))
    whole = Posterior(rows, columns, 60, 7)
    whole.add(result.logits[0])
    monkeypatch.setattr(canvas, "CHUNK", 2 * 60 * 70 * 3)
    banded = Posterior(rows, columns, 60, 7)
    banded.add(result.logits[0])
    expected = plain.values_of(result, (90, 70))[1][7]
    assert np.allclose(whole.scores, expected, rtol=2e-3, atol=1e-6)
    assert np.array_equal(whole.scores, banded.scores)
