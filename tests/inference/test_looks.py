"""Several looks at one photograph, against averaging by hand in float64: every look at full size, then the mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import lexiseg
from inference.fakes import PATCH, WORDS, Colours, Masks, Uncut, flag, predictor
from inference.plain import check_labels, stretch
from lexiseg import settings
from lexiseg.cli.main import app
from lexiseg.errors import SettingError
from lexiseg.inference import labelling, preprocess, windows
from lexiseg.inference.labelling import Labeller
from lexiseg.segmenter import DenseLogits, Inference, MaskScores
from lexiseg.vocabulary import Vocabulary

SCALES = (0.5, 1.0, 1.75)


class Linear(Colours):
    """Two soft masks of weights for each class."""

    def classify(self, embedding: Any, classifier: Any) -> MaskScores:
        logits = super().classify(embedding, classifier).logits
        weights = torch.cat([logits.softmax(1), 0.3 * logits.sigmoid()], dim=1)
        return MaskScores(weights, torch.eye(logits.shape[1]).repeat(2, 1)[None] * 0.9, weights="linear")


class Padded(Colours):
    """Says that its grid goes beyond the picture."""

    def embed_image(self, images: Any) -> Any:
        self.input = images.shape[-2:]
        return super().embed_image(images)

    def classify(self, embedding: Any, classifier: Any) -> DenseLogits:
        logits = super().classify(embedding, classifier).logits
        return DenseLogits(logits, covers=tuple(PATCH * side for side in logits.shape[-2:]))


def photograph(height: int = 37, width: int = 54) -> np.ndarray:
    """Coloured stripes with a gradient, so that no two pixels are alike and left is not right."""
    rgb = flag(height, width).astype(np.float32)
    shade = np.linspace(0.4, 1.0, height)[:, None, None] * np.linspace(1.0, 0.6, width)[None, :, None]
    return (rgb * shade).astype(np.uint8)


def by_hand(model: Any, photo: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """What classes compete with and their posteriors, both [C, H, W]."""
    inference, segmenter = model.inference, model.segmenter
    classifier = segmenter.embed_text(Vocabulary.of(WORDS), None)
    total: Any = 0
    for scale in inference.scales:
        size = preprocess.target_size(*photo.shape[:2], inference, scale=scale)
        for turned in (False, True)[: 1 + inference.flip]:
            pixels = preprocess.resize(photo, size, inference)
            pixels = pixels.flip(2) if turned else pixels
            at_photo = look_by_hand(segmenter, classifier, pixels, inference, photo.shape[:2])
            total = total + (at_photo.flip(2) if turned else at_photo)
    mean = total / (len(inference.scales) * (1 + inference.flip))
    if isinstance(segmenter, (Masks, Linear)):
        return mean[:-1], mean[:-1] / mean[-1:]
    return mean, mean.softmax(0)


def look_by_hand(segmenter: Any, classifier: Any, pixels: torch.Tensor, inference: Inference, size: Any) -> Any:
    """[K, H, W] of one look at the photograph's size: whole, or the mean of its windows at the resized pixels."""
    resized = tuple(pixels.shape[1:])
    if inference.window is None:
        return values(segmenter, classifier, pixels, size)
    total, count = 0.0, torch.zeros(resized)
    for box in windows.boxes(resized, inference.window, inference.stride):
        part = values(segmenter, classifier, pixels[(..., *box.slices)], box.size)
        whole = torch.zeros(len(part), *resized, dtype=torch.float64)
        whole[(..., *box.slices)] = part
        total = total + whole
        count[box.slices] += 1
    return stretch(total / count, size)


def values(segmenter: Any, classifier: Any, pixels: torch.Tensor, size: Any) -> torch.Tensor:
    """Logits, or the sums of masks and of their weights last, at `size`."""
    with torch.inference_mode():
        result = segmenter.classify(segmenter.embed_image(pixels[None]), classifier)
    covers = result.covers and tuple(c * s / p for c, s, p in zip(result.covers, size, pixels.shape[1:], strict=True))
    if isinstance(result, DenseLogits):
        return stretch(result.logits[0], size, covers)
    weights = result.weigh(stretch(result.masks[0], size, covers))
    scores = torch.cat([result.scores[0], torch.ones(len(weights), 1)], dim=1).double()
    return torch.einsum("nk,nyx->kyx", scores, weights)


@pytest.mark.parametrize(
    ("segmenter", "band"),
    [(Colours, 300), (Uncut, labelling.BAND), (Masks, labelling.BAND), (Masks, 300), (Linear, 300), (Padded, 300)],
    ids=["places", "in one piece", "masks", "masks in bands", "weights", "padded"],
)
@pytest.mark.parametrize(
    "changes",
    [
        {"scales": SCALES},
        {"flip": True},
        {"scales": SCALES, "flip": True, "multiple": 1},
        {"scales": (1.5,), "flip": True, "window": 16, "stride": 8, "blend": "logits"},
        {"scales": SCALES, "flip": True, "window": 20, "stride": 7, "blend": "logits", "short_side": 30},
    ],
    ids=["scales", "flip", "both", "windows", "windows at all scales"],
)
def test_the_result_is_the_mean_of_all_looks_at_the_photograph(
    segmenter: Any, changes: dict[str, Any], band: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelling, "BAND", band)
    model, photo = predictor(segmenter(), **changes), photograph()
    found = model.segment(photo, WORDS)
    wanted, posterior = by_hand(model, photo)
    check_labels(found.labels, found.scores, wanted, posterior)
    again = model.classify(model.embed(photo), WORDS)  # looks that are held
    assert (again.labels == found.labels).all()
    question = Labeller(model.segmenter, model.embed_text(WORDS), Vocabulary.of(WORDS))
    np.testing.assert_allclose(question.posterior(model.embed(photo), "green"), posterior[1].numpy(), atol=2e-3)


def test_looks_differ_and_the_mean_is_none_of_them() -> None:
    photo = photograph()
    plain, small, both = (
        predictor(scales=scales).segment(photo, WORDS).scores for scales in ((1.0,), (0.5,), (0.5, 1.0))
    )
    assert (plain != small).any()
    assert ((both != plain) & (both != small)).any()


def test_a_mirrored_look_changes_nothing_for_a_network_that_sees_left_and_right_alike() -> None:
    photo = photograph(40, 56)  # whole patches, so that nothing is padded on one side
    plain, flipped = (predictor(flip=flip).segment(photo, WORDS) for flip in (False, True))
    assert (plain.labels == flipped.labels).all()
    np.testing.assert_allclose(plain.scores, flipped.scores, atol=1e-3)


def test_one_look_is_the_usual_one() -> None:
    model, photo = predictor(), photograph()
    (look,) = model.embed(photo).looks
    assert (look.resized, look.joined, look.mirrored) == ((36, 56), True, False)
    assert [each.resized for each in predictor(scales=SCALES).embed(photo).looks] == [(20, 28), (36, 56), (64, 96)]


def test_pictures_of_a_batch_are_looked_at_alike() -> None:
    photos = [photograph(), photograph(30, 41), photograph()]
    model = predictor(scales=(0.5, 1.0), flip=True)
    together = [found.labels for found in model.segment_many(photos, WORDS, batch_size=3)]
    for photo, labels in zip(photos, together, strict=True):
        assert (model.segment(photo, WORDS).labels == labels).all()


def test_a_refiner_sees_the_mean_at_the_first_scale() -> None:
    seen: list[Any] = []

    def refine(logits: torch.Tensor, rgb: np.ndarray) -> torch.Tensor:
        seen.append((tuple(logits.shape), rgb.shape))
        return logits

    photo = photograph()
    for segmenter in (Colours(), Masks()):
        model = predictor(segmenter, scales=(1.0, 2.0), flip=True)
        model._refine = refine
        refined = model.segment(photo, WORDS)
        assert seen[-1] == ((4, 36, 56), (36, 56, 3))
        model._refine = None
        assert (refined.labels == model.segment(photo, WORDS).labels).mean() > 0.95


def test_words_are_asked_of_all_looks_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look's grid is classified in bands of rows where it is large."""
    segmenter, photo = Colours(), photograph(80, 60)
    wanted = predictor(segmenter, scales=(1.0, 1.5)).segment(photo, WORDS)
    segmenter.bands.clear()
    monkeypatch.setattr(labelling, "BAND", 100)
    found = predictor(segmenter, scales=(1.0, 1.5)).segment(photo, WORDS)
    assert max(segmenter.bands) <= 5
    assert (found.labels == wanted.labels).all()


def test_pixels_that_are_not_there_stay_unlabelled() -> None:
    rgba = np.dstack([photograph(), np.full((37, 54), 255, np.uint8)])
    rgba[:10, :10, 3] = 0
    found = predictor(flip=True).segment(Image.fromarray(rgba), WORDS)
    assert (found.labels[:10, :10] == 255).all()
    assert (found.labels[10:] != 255).all()


# --- as settings


@pytest.mark.parametrize("scales", [(), (0.0,), (-1.0, 1.0), (9.0,), (float("nan"),)])
def test_scales_that_make_no_sense_are_refused(scales: tuple[float, ...]) -> None:
    with pytest.raises(SettingError, match=r"scales must be one or more numbers above 0, at most 8, got"):
        Inference(scales=scales)


def test_they_are_settings_like_others() -> None:
    changed = settings.change(Inference(), {"scales": "0.5, 1, 1.75", "flip": "true"})
    assert (changed.scales, changed.flip) == (SCALES, True)
    assert settings.change(Inference(), {"scales": "2"}).scales == (2.0,)
    assert settings.from_json(Inference, {"prompts": "single"}) == replace(Inference(), prompts="single")


def test_a_fixed_size_has_scales_too() -> None:
    inference = Inference(size=(64, 48), multiple=16, scales=(0.5, 1.0))
    assert [preprocess.target_size(9, 9, inference, scale=each) for each in inference.scales] == [(32, 32), (64, 48)]


def test_the_command_line_takes_them(tmp_path: Path) -> None:
    path, out = tmp_path / "a.jpg", tmp_path / "out"
    Image.fromarray(photograph()).save(path)
    asked = ["segment", str(path), "--words", "red, sky", "--model", "maskclip/tiny", "--out", str(out)]
    result = CliRunner().invoke(app, [*asked, "--set", "scales=0.5,1", "--set", "flip=true"])
    assert result.exit_code == 0, result.output
    wanted = lexiseg.load("maskclip/tiny", scales=(0.5, 1.0), flip=True).segment(path, "red, sky").labels
    assert (np.asarray(Image.open(out / "a.png")) == wanted).all()
