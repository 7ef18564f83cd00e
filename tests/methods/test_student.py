"""A student fills, loses and learns as its description says, whatever teaches it; what it saves needs nothing else."""

from __future__ import annotations

import dataclasses
import json
import logging
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from torch import Tensor, nn
from torch.nn import functional

import lexiseg
from lexiseg import catalog
from lexiseg import segmenter as segmenter_module
from lexiseg import settings as settings_of
from lexiseg.encoders.prompts import Prompts
from lexiseg.errors import DataError, SettingError, UnknownName, VocabularyError, WeightsError
from lexiseg.layers.pixels import normalise
from lexiseg.losses.pseudo_labels import UNLABELLED
from lexiseg.losses.teaching import Teaching
from lexiseg.methods import maskclip, student
from lexiseg.methods.student import Config, Seedling, Student, Training
from lexiseg.networks.student_network import StudentShape
from lexiseg.segmenter import (
    DenseEmbedding,
    DenseLogits,
    Inference,
    MaskScores,
    Segmenter,
    TextClassifier,
    Traits,
)
from lexiseg.vocabulary import Vocabulary

WORDS = "cat, grass|lawn, sky, road, dog"
SMALL = StudentShape("mini", "tiny")
SINGLE = Inference(prompts="single")
BARE = Prompts(("{}",))
GUIDED = Training()
DIMENSION = 16


def seen(images: Tensor) -> Tensor:
    """What the student's network sees, and this file's teachers."""
    return normalise(images, "imagenet")


class Teacher(nn.Module, Segmenter[Any, Any]):
    """A word is a random unit vector, a place the mean colour of 8 by 8 pixels, spread over D channels."""

    config, traits, patch = None, Traits(), 8

    def __init__(self) -> None:
        super().__init__()
        self.spread = nn.Parameter(torch.randn(DIMENSION, 3, generator=torch.Generator().manual_seed(0)))
        self.asked: list[Vocabulary] = []
        self.saw: list[Tensor] = []

    def embed_text(self, vocabulary: Vocabulary, prompts: Any, *, cache: Any = None) -> TextClassifier:
        self.asked.append(vocabulary)
        return TextClassifier.of(vocabulary, torch.stack([vector(word) for word in vocabulary.queries]), 1.0)

    def embed_image(self, images: Tensor) -> DenseEmbedding:
        self.saw.append(images)
        return DenseEmbedding(torch.einsum("dc,bchw->bdhw", self.spread, functional.avg_pool2d(seen(images), 8)))

    def classify(self, embedding: DenseEmbedding, classifier: TextClassifier) -> DenseLogits:
        unit = functional.normalize(embedding.features, dim=1)
        logits = torch.einsum("bdhw,qd->bqhw", unit, classifier.weight)
        return DenseLogits(classifier.pool(logits), classifier.background)


class Maskist(Teacher):
    """The same words, in masks: left, right, and everything."""

    def classify(self, embedding: DenseEmbedding, classifier: TextClassifier) -> MaskScores:  # type: ignore[override]
        features = embedding.features
        masks = torch.full((len(features), 3, 2, 2), -3.0)
        masks[:, 0, :, 0] = masks[:, 1, :, 1] = masks[:, 2] = 3.0
        pooled = functional.normalize(functional.adaptive_avg_pool2d(features, (1, 3)), dim=1)[:, :, 0]  # [B, D, N]
        scores = classifier.pool(torch.einsum("bdn,qd->bnq", pooled, classifier.weight), dim=2)
        return MaskScores(masks, (5 * scores).softmax(dim=2))


class Doubtful(Teacher):
    """Has a background of its own, at the left half."""

    def classify(self, embedding: DenseEmbedding, classifier: TextClassifier) -> DenseLogits:
        logits = super().classify(embedding, classifier).logits
        none = torch.full_like(logits[:, :1], -9.0)
        none[..., : none.shape[-1] // 2] = 9.0
        return DenseLogits(torch.cat([logits, none], dim=1), background=True)


def vector(word: str) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(word.encode()))
    return functional.normalize(torch.randn(DIMENSION, generator=generator), dim=0)


def objective(
    settings: Training = GUIDED, *, teacher: nn.Module | None = None, inference: Inference = SINGLE, **config: Any
) -> Teaching:
    torch.manual_seed(0)
    seedling = Seedling(Config(**{"student": SMALL, "words": WORDS, **config}))
    return settings.build(seedling, teacher=taught_by(teacher or Teacher(), inference)).train()


def taught_by(teacher: nn.Module, inference: Inference) -> segmenter_module.Teacher:
    return segmenter_module.Teacher(teacher, inference, Prompts.open(inference.prompts))  # type: ignore[arg-type]


def batch(*, seed: int = 0, holes: float = 0.5, classes: tuple[int, ...] = (0, 2, 3), size: int = 32) -> dict[str, Any]:
    """Two pictures whose labels are some classes, unlabelled and ignored."""
    random = np.random.default_rng(seed)
    coarse = torch.tensor(random.integers(0, 256, (2, 3, 6, 6)), dtype=torch.float32)
    labels = random.choice(classes, (2, size, size))
    labels = np.where(random.random(labels.shape) < holes, UNLABELLED, labels)
    labels = np.where(random.random(labels.shape) < 0.1, 255, labels)
    images = functional.interpolate(coarse, size=(size, size), mode="bilinear").to(torch.uint8)
    return {"images": images, "labels": torch.tensor(labels), "keys": ["a", "b"]}


def targets(lesson: Teaching, given: dict[str, Any]) -> Tensor:
    """What the loss compares with."""
    found: list[Tensor] = []
    real = functional.cross_entropy

    def spy(scores: Tensor, wanted: Tensor, **more: Any) -> Tensor:
        found.append(wanted)
        return real(scores, wanted, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functional, "cross_entropy", spy)
        lesson(given)
    return found[0]


# --- the description in plain numpy, float64


def resize(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear with pixel centres aligned: [B, C, h, w] -> [B, C, height, width]."""

    def taps(old: int, new: int) -> np.ndarray:
        matrix = np.zeros((new, old))
        for place in range(new):
            source = max((place + 0.5) * old / new - 0.5, 0.0)
            low = min(int(source), old - 1)
            high = min(low + 1, old - 1)
            matrix[place, low] += 1 - (source - low)
            matrix[place, high] += source - low
        return matrix

    return np.einsum("yh,xw,bchw->bcyx", taps(maps.shape[2], height), taps(maps.shape[3], width), maps)


def class_scores(features: np.ndarray, rows: list[np.ndarray], *, unit: bool) -> np.ndarray:
    """Inner products with the text rows of some classes; the best of a class that has several."""
    if unit:
        features = features / np.linalg.norm(features, axis=1, keepdims=True)
    return np.stack([np.einsum("bdhw,qd->bqhw", features, of_class).max(1) for of_class in rows], axis=1)


def filled(labels: np.ndarray, scores: np.ndarray, classes: list[int]) -> np.ndarray:
    """maskclip_plus.md §3.4: an unlabelled pixel gets the best class that may be there, others keep theirs."""
    upsampled = resize(scores, *labels.shape[1:])
    result = labels.copy()
    for place in zip(*np.nonzero(labels == UNLABELLED), strict=True):
        image, row, column = place
        result[place] = classes[int(upsampled[image, :, row, column].argmax())]
    return result


def rows_of(classes: list[int]) -> list[np.ndarray]:
    vocabulary = Vocabulary(WORDS)
    return [np.stack([vector(word).double().numpy() for word in vocabulary.words[at]]) for at in classes]


UNSEEN, PLACES = ("lawn", "dog"), [1, 4]


@pytest.mark.parametrize(("unseen", "places"), [((), [0, 1, 2, 3, 4]), (UNSEEN, PLACES)])
def test_the_teacher_fills_the_holes_as_described(unseen: tuple[str, ...], places: list[int]) -> None:
    lesson, given = objective(Training(unseen=unseen)), batch()
    pooled = seen(given["images"]).double().reshape(2, 3, 4, 8, 4, 8).mean((3, 5)).numpy()
    features = np.einsum("dc,bchw->bdhw", lesson.teacher.spread.detach().double().numpy(), pooled)
    expected = filled(given["labels"].numpy(), class_scores(features, rows_of(places), unit=True), places)
    assert (targets(lesson, given).numpy() == expected).all()


@pytest.mark.parametrize(("unseen", "places"), [((), [0, 1, 2, 3, 4]), (UNSEEN, PLACES)])
def test_the_student_fills_the_holes_as_described(unseen: tuple[str, ...], places: list[int]) -> None:
    """Raw features of this very forward, batch statistics and all."""
    lesson, given = objective(Training(unseen=unseen, self_training=3)), batch()
    features = lesson.segmenter.network(seen(given["images"])).detach().double().numpy()
    expected = filled(given["labels"].numpy(), class_scores(features, rows_of(places), unit=False), places)
    lesson.before_step(2)
    guided = targets(lesson, given).numpy()
    lesson.before_step(3)
    assert (targets(lesson, given).numpy() == expected).all()
    assert (guided != expected).any()


def test_labels_stay_and_only_holes_are_filled() -> None:
    given = batch()
    result = targets(objective(), given)
    hole = given["labels"] == UNLABELLED
    assert torch.equal(result[~hole], given["labels"][~hole])
    assert ((result[hole] >= 0) & (result[hole] < 5)).all()


def test_the_loss_is_the_mean_over_labelled_pixels_or_over_all() -> None:
    given = batch(holes=0.0)
    given["labels"][:] = 255
    given["labels"][:, ::4, ::4] = 2  # one pixel of sixteen
    valid = objective(Training(guided=False))(given)["labels"]
    over_all = objective(Training(guided=False, loss_mean="all"))(given)["labels"]
    assert torch.allclose(valid, 16 * over_all)


def test_the_loss_is_the_cross_entropy_of_upsampled_logits() -> None:
    lesson, given = objective(Training(guided=False)), batch(holes=0.0)
    features = lesson.segmenter.network(seen(given["images"])).detach().double().numpy()
    logits = resize(class_scores(features, rows_of([0, 1, 2, 3, 4]), unit=False), 32, 32)
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    labels = given["labels"].numpy()
    wanted = [-logs[image, labels[image, y, x], y, x] for image, y, x in zip(*np.nonzero(labels != 255), strict=True)]
    assert float(lesson(given)["labels"].detach()) == pytest.approx(np.mean(wanted), rel=1e-4)


def test_nothing_to_learn_is_a_loss_of_zero() -> None:
    given = batch()
    given["labels"][:] = 255
    loss = objective()(given)["labels"]
    assert loss == 0
    loss.backward()


# --- confidence


def test_released_confidence_takes_labels_away_on_the_scores_own_scale() -> None:
    lesson = objective(Training(confidence=2.0, confidence_of="released"))  # no cosine is as large
    assert (targets(lesson, batch(holes=0.0)) == 255).all()


@pytest.mark.parametrize("unseen", [(), UNSEEN])
def test_released_confidence_goes_on_when_the_student_teaches_itself(unseen: tuple[str, ...]) -> None:
    """On the scale of the student's own scores, of the classes that may be there, at labelled pixels too."""
    places = PLACES if unseen else [0, 1, 2, 3, 4]
    given = batch()
    plain = objective(Training(unseen=unseen, self_training=0))
    features = plain.segmenter.network(seen(given["images"])).detach().double().numpy()
    scores = class_scores(features, rows_of(places), unit=False)
    best = resize(scores, 32, 32).max(1)
    threshold = float(np.median(best))
    lesson = objective(Training(unseen=unseen, self_training=0, confidence=threshold, confidence_of="released"))
    expected = np.where(best < threshold, 255, filled(given["labels"].numpy(), scores, places))
    found = targets(lesson, given).numpy()
    near = np.abs(best - threshold) < 1e-4  # float32 may decide otherwise there
    assert (found == expected)[~near].all()
    assert near.mean() < 0.01
    assert (found == 255)[(given["labels"] >= 0).numpy()].any()


def test_the_share_of_pseudo_labelled_pixels_is_reported_step_by_step() -> None:
    lesson, given = objective(Training(self_training=1)), batch()
    share = float((given["labels"] == UNLABELLED).float().mean())
    for step in (0, 1):
        lesson.before_step(step)
        lesson(given)
        lesson(given)  # pieces of one step
        assert lesson.report() == {"pseudo_labelled": pytest.approx(share)}
    ignoring = objective(Training(guided=False))
    ignoring.before_step(0)
    ignoring(given)
    assert ignoring.report() == {"pseudo_labelled": 0.0}


# --- who teaches


def test_the_teacher_is_asked_for_the_unseen_classes_alone() -> None:
    lesson = objective(Training(unseen=UNSEEN))
    lesson(batch())
    assert lesson.teacher.asked[-1].words == (("grass", "lawn"), ("dog",))
    assert lesson.segmenter.words.shape == (6, DIMENSION)


def test_the_teacher_looks_at_nothing_where_there_are_no_holes_or_it_does_not_guide() -> None:
    for settings, given in ((Training(), batch(holes=0.0)), (Training(guided=False), batch())):
        lesson = objective(settings)
        lesson(given)
        assert not lesson.teacher.saw
    with_holes = batch()
    ignored = targets(objective(Training(guided=False)), with_holes)
    assert torch.equal(ignored == 255, (with_holes["labels"] == 255) | (with_holes["labels"] == UNLABELLED))


def test_the_teacher_looks_at_the_pictures_with_holes_alone() -> None:
    lesson, given = objective(), batch()
    expected = targets(lesson, given)
    given["labels"][0] = 2
    found = targets(lesson, given)
    assert len(lesson.teacher.saw[-1]) == 1
    assert (found[0] == 2).all()
    assert torch.equal(found[1], expected[1])


def test_the_teacher_gets_the_bytes_and_normalises_them_itself() -> None:
    given = batch()
    lesson = objective()
    lesson(given)
    assert torch.equal(lesson.teacher.saw[0], given["images"])


def test_the_teacher_is_told_which_classes_were_seen() -> None:
    lesson = objective(Training(unseen=UNSEEN))
    lesson.vocabulary = Vocabulary(WORDS, seen=[True, False, True, True, False])
    lesson._teacher_classifier()
    assert lesson.teacher.asked[-1].seen == (False, False)


def test_masks_teach_as_well_as_dense_scores() -> None:
    lesson, given = objective(teacher=Maskist()), batch()
    result = lesson.teacher.classify(lesson.teacher.embed_image(given["images"]), lesson._teacher_classifier())
    masks = 1 / (1 + np.exp(-resize(result.masks.double().numpy(), 32, 32)))
    scores = np.einsum("bnhw,bnc->bchw", masks, result.scores.detach().double().numpy())
    labels = given["labels"].numpy()
    expected = np.where(labels == UNLABELLED, scores.argmax(1), labels)
    assert (targets(lesson, given).numpy() == expected).all()
    share = scores.max(1) / scores.sum(1)
    middle = np.sort(share, axis=None)[share.size // 4 : -share.size // 4]
    gap = np.diff(middle).argmax()
    bound = float(middle[gap : gap + 2].mean())  # no pixel is so near that rounding decides
    sure = objective(Training(confidence=bound), teacher=Maskist())
    unsure = (share < bound) & (labels == UNLABELLED)
    assert (targets(sure, given).numpy() == np.where(unsure, 255, expected)).all()


@pytest.mark.parametrize("refinement", ["key_smoothing", "prompt_denoising"])
@pytest.mark.parametrize("tower", ["tiny", "tiny-rn"])
def test_maskclip_refines_its_labels_among_the_unseen_classes(refinement: str, tower: str) -> None:
    settings = {refinement: True, "logit_scale": 3.0}
    found, _ = catalog.load(f"maskclip/{tower}", **settings)
    lesson, given = objective(Training(unseen=UNSEEN), teacher=found), batch(size=64)  # type: ignore[arg-type]
    assert isinstance(found, maskclip.MaskClip)
    embedding = found.embed_image(given["images"])
    asked = found.embed_text(Vocabulary(["grass|lawn", "dog"]), Prompts(("a photo of a {}.",)))
    logits = asked.logits(embedding.features)
    refined = {"key_smoothing": maskclip.smooth, "prompt_denoising": maskclip.denoise}[refinement]
    with_what = embedding.keys if refinement == "key_smoothing" else asked
    scores = refined(logits, with_what, found.config).detach().double().numpy()  # type: ignore[operator]
    assert (targets(lesson, given).numpy() == filled(given["labels"].numpy(), scores, PLACES)).all()


def test_what_the_teacher_takes_for_background_is_ignored_or_is_the_students_background() -> None:
    given = batch(holes=1.0)
    hole = given["labels"] == UNLABELLED
    left = torch.zeros_like(hole)
    left[..., :14] = True  # what is next to the middle depends on the interpolation
    plain = targets(objective(teacher=Doubtful()), given)
    assert (plain[hole & left] == 255).all()
    own = targets(objective(teacher=Doubtful(), learn_background=True), given)
    assert (own[hole & left] == 5).all()
    assert torch.equal(own[~hole], given["labels"][~hole])


def test_background_words_are_one_more_class_that_may_be_filled_in() -> None:
    lesson = objective(background="wall, tree")
    assert lesson.segmenter.words.shape == (8, DIMENSION)
    assert set(targets(lesson, batch(holes=1.0, seed=3)).unique().tolist()) & {5}
    assert lesson._channels == 6


# --- what is trained


@pytest.mark.parametrize("config", [{}, {"learn_background": True}, {"mapper": "linear"}, {"mapper": "mlp"}])
def test_gradients_reach_the_network_and_never_words_or_teacher(config: dict[str, Any]) -> None:
    lesson = objective(**config)
    lesson.teacher.requires_grad_(False)
    sum(lesson(batch()).values()).backward()  # type: ignore[union-attr]
    for name, parameter in lesson.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert reached == (not name.startswith("teacher.")), name
    assert "segmenter.words" in dict(lesson.named_buffers())


def test_the_teacher_stays_in_eval_mode() -> None:
    lesson = objective()
    assert lesson.segmenter.network.training
    assert not lesson.teacher.training


def test_distillation_pulls_features_towards_the_teachers() -> None:
    lesson, given = objective(Training(guided=False, distillation=2.0)), batch()
    losses = lesson(given)
    ours = lesson.segmenter.network(seen(given["images"])).detach()
    theirs = functional.normalize(lesson.teacher.embed_image(given["images"]).features, dim=1)
    theirs = functional.interpolate(theirs, size=ours.shape[-2:], mode="bilinear", align_corners=False)
    assert float(losses["features"].detach()) == pytest.approx(
        2 * float((ours - theirs).abs().mean().detach()), rel=1e-4
    )
    losses["features"].backward()
    assert all(parameter.grad is not None for parameter in lesson.segmenter.network.parameters())


def test_cosines_are_an_option() -> None:
    lesson, given = objective(classifier="cosine", logit_scale=7.0), batch()
    segmenter = lesson.segmenter.eval()
    embedding = segmenter.embed_image(given["images"])
    rows = rows_of([0, 1, 2, 3, 4])
    expected = 7 * class_scores(embedding.features.detach().double().numpy(), rows, unit=True)
    found = segmenter.classify(embedding, segmenter.embed_text(Vocabulary(WORDS), BARE)).logits
    assert np.abs(found.detach().numpy() - expected).max() < 1e-5


def test_the_trained_background_is_one_unit_vector_after_the_words() -> None:
    segmenter = objective(learn_background=True).segmenter
    classifier = segmenter.embed_text(Vocabulary("sky, cat"), BARE)
    assert (classifier.channels, classifier.background) == (3, True)
    assert classifier.weight.shape == (3, DIMENSION)
    assert torch.allclose(classifier.weight[:2], torch.stack([vector("sky"), vector("cat")]))
    assert float(classifier.weight[2].norm().detach()) == pytest.approx(1)
    assert segmenter.background is not None
    assert float(segmenter.background.norm().detach()) > 1.5  # drawn from N(0, 1), normalised at use


def test_a_clip_resnet_under_deeplab_with_mapped_words_is_what_the_paper_tried_first(tmp_path: Path) -> None:
    """Eq. 1-2. The tower's own weights are where it starts."""
    teacher, _ = catalog.load("maskclip/tiny-rn")
    catalog.get("methods", "maskclip").save(teacher, tmp_path)
    shape = StudentShape("deeplabv2", f"clip:{tmp_path}")
    lesson = objective(
        Training(unseen=UNSEEN, guided=False),
        teacher=teacher,  # type: ignore[arg-type]
        student=shape,
        mapper="linear",
        start_from="usual",
    )
    network: Any = lesson.segmenter.network
    tower = teacher.clip.vision  # type: ignore[attr-defined]
    assert torch.equal(network.backbone.tower.conv1.weight, tower.conv1.weight)
    assert set(lesson(batch(size=64))) == {"labels"}


# --- words


def test_trained_words_keep_their_vectors_and_others_go_through_the_teachers_text_tower(
    caplog: pytest.LogCaptureFixture,
) -> None:
    teacher, _ = catalog.load("maskclip/tiny")
    segmenter = objective(teacher=teacher).segmenter  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        known = segmenter.embed_text(Vocabulary("dog, LAWN"), Prompts(("unlike any {}",))).weight
    assert not caplog.records
    assert torch.equal(known, segmenter.words[[5, 2]])
    other = segmenter.embed_text(Vocabulary("dog, horse"), Prompts(("a {}",))).weight
    assert torch.equal(other[1:], teacher.embed_text(Vocabulary("horse"), Prompts(("a {}",))).weight)
    assert "horse" in caplog.text
    assert "dog" not in caplog.text


def test_without_a_text_tower_only_the_trained_words_are_known() -> None:
    segmenter = objective().segmenter
    assert len(segmenter.embed_text(Vocabulary("sky"), BARE).weight) == 1
    with pytest.raises(WeightsError, match=r"cat, grass, lawn, sky, road, dog"):
        segmenter.embed_text(Vocabulary("horse"), BARE)


def test_a_saved_student_needs_no_teacher(tmp_path: Path) -> None:
    teacher, _ = catalog.load("maskclip/tiny")
    segmenter = objective(teacher=teacher, learn_background=True, mapper="mlp").segmenter.eval()  # type: ignore[arg-type]
    catalog.save(segmenter, tmp_path, method="student", inference=SINGLE)
    again, inference = catalog.load(tmp_path)
    assert inference == SINGLE
    asked = Vocabulary("cat, horse, sky")
    images = batch()["images"]
    for one, other in ((segmenter, again),):
        ours = one.classify(one.embed_image(images), one.embed_text(asked, Prompts(("{}",)))).logits
        theirs = other.classify(other.embed_image(images), other.embed_text(asked, Prompts(("{}",))))
        assert isinstance(theirs, DenseLogits)
        assert torch.equal(ours, theirs.logits)
    assert json.loads((tmp_path / "config.json").read_text())["words"]["classes"]["grass"] == ["grass", "lawn"]


def test_a_student_can_teach(tmp_path: Path) -> None:
    first = objective(teacher=catalog.load("maskclip/tiny")[0]).segmenter.eval()  # type: ignore[arg-type]
    second = objective(teacher=first)
    assert torch.equal(second.segmenter.words, first.words)
    assert second.segmenter.text is not None
    assert second(batch())["labels"].isfinite()


def test_the_words_of_a_saved_student_cannot_be_changed(tmp_path: Path) -> None:
    catalog.save(objective().segmenter, tmp_path, method="student", inference=SINGLE)
    with pytest.raises(SettingError, match="--words"):
        catalog.load(tmp_path, words="cat, dog")


def test_a_folder_can_be_named_as_weights_and_brings_its_own_settings(tmp_path: Path) -> None:
    first = objective(classifier="cosine", logit_scale=7.0).segmenter
    catalog.save(first, tmp_path, method="student", inference=SINGLE)
    again, _ = catalog.load("student", weights=tmp_path)
    assert again.config == first.config  # type: ignore[attr-defined]
    changed, _ = catalog.load("student/custom", weights=tmp_path, logit_scale=9.0)
    assert changed.config == dataclasses.replace(first.config, logit_scale=9.0)  # type: ignore[attr-defined]


def test_training_goes_on_from_a_saved_student(tmp_path: Path) -> None:
    first = objective().segmenter
    catalog.save(first, tmp_path, method="student", inference=SINGLE)
    loaded, _ = catalog.load(tmp_path)
    assert isinstance(loaded, Student)
    lesson = GUIDED.build(loaded, teacher=taught_by(Teacher(), SINGLE))
    assert lesson(batch())["labels"].isfinite()
    assert torch.equal(lesson.segmenter.words, first.words)


def test_the_student_is_used_with_its_teachers_prompts() -> None:
    lesson = objective(inference=dataclasses.replace(SINGLE, prompts="vild14"))
    variant = student.VARIANTS["deeplabv2-r101"].inference
    assert lesson.inference(variant) == dataclasses.replace(variant, prompts="vild14")


def test_a_list_of_words_may_share_them_between_classes() -> None:
    listed = Config(words=("wall|brick", "house|brick")).vocabulary()
    assert listed is not None
    assert listed.words == (("wall", "brick"), ("house", "brick"))
    with pytest.raises(VocabularyError, match="brick"):
        Config(words="wall|brick, house|brick").vocabulary()


# --- mistakes


def test_a_file_of_words_becomes_its_classes_and_its_background(tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    path.write_text(json.dumps({"classes": {"vehicle": ["car", "bus"], "road": ["road"]}, "background": ["sky"]}))
    config = settings_of.change(Config(), {"words": str(path)})
    assert (config.words, config.background) == (("vehicle: car|bus", "road"), ("sky",))
    assert config.vocabulary() == Vocabulary(
        {"vehicle": ("car", "bus"), "road": "road"}, background="sky", shared_words=True
    )
    path.unlink()
    assert settings_of.from_json(Config, settings_of.to_json(config)) == config
    assert Config(words=config.words, background="wall").background == "wall"
    with pytest.raises(VocabularyError, match=r"classes\.json"):
        Config(words=str(path))


def test_one_class_alone_is_refused_before_training() -> None:
    with pytest.raises(SettingError, match=r"'cat' alone leaves nothing to tell apart.*background=auto"):
        objective(words="cat")
    assert objective(words="cat", background="auto").vocabulary.channels == 2
    assert objective(words="cat", learn_background=True).vocabulary.channels == 1


def test_missing_words_teacher_and_weights_are_told() -> None:
    with pytest.raises(SettingError, match="--set words="):
        objective(words=())
    seedling = Seedling(Config(student=SMALL, words=WORDS))
    for settings in (GUIDED, Training(guided=False)):
        with pytest.raises(SettingError, match="--set teacher=maskclip/mini"):
            settings.build(seedling)
    with pytest.raises(WeightsError, match="train"):
        catalog.load("student/deeplabv2-r101")
    with pytest.raises(UnknownName, match="horse"):
        objective(Training(unseen=("horse",)))
    with pytest.raises(SettingError, match="background"):
        Config(background="wall", learn_background=True)


def test_a_seedling_cannot_segment_and_says_how_it_could() -> None:
    seedling = Seedling(Config(student=SMALL, words=WORDS))
    for ask in (
        lambda: seedling.patch,
        lambda: seedling.embed_text(Vocabulary("sky"), ("{}",)),
        lambda: seedling.embed_image(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)),
        lambda: lexiseg.load("student/custom").segment(np.zeros((8, 8, 3), np.uint8), "sky, cat"),
    ):
        with pytest.raises(WeightsError, match="lexiseg train maskclip_plus"):
            ask()


def test_labels_that_contradict_the_words_are_told() -> None:
    with pytest.raises(DataError, match="holds 9 and there are 5 classes"):
        objective()(batch(classes=(0, 9)))
    with pytest.raises(DataError, match=r"'dog'.*unseen"):
        objective(Training(unseen=UNSEEN))(batch(classes=(0, 4)))


def test_a_teacher_without_plain_text_vectors_needs_a_text_tower() -> None:
    class TwoHeaded(Maskist):
        def embed_text(self, vocabulary: Vocabulary, prompts: Any, *, cache: Any = None) -> Any:
            return super().embed_text(vocabulary, prompts), 2

        def classify(self, embedding: DenseEmbedding, classifier: Any) -> MaskScores:
            return super().classify(embedding, classifier[0])

    with pytest.raises(SettingError, match="text_tower"):
        objective(teacher=TwoHeaded())
    variant = dataclasses.replace(
        student.VARIANTS["tiny"], config=Config(SMALL, words=WORDS, text_tower="asset:mini-clip")
    )
    lesson = GUIDED.build(student.load(variant), teacher=taught_by(TwoHeaded(), SINGLE))
    assert lesson.segmenter.words.shape == (6, 256)
    assert lesson(batch())["labels"].isfinite()


def test_distillation_from_masks_is_refused() -> None:
    class Blind(Maskist):
        def embed_image(self, images: Tensor) -> Any:
            return super().embed_image(images).features

        def classify(self, embedding: Any, classifier: TextClassifier) -> MaskScores:
            return super().classify(DenseEmbedding(embedding), classifier)

    with pytest.raises(SettingError, match="distillation"):
        objective(Training(distillation=1.0), teacher=Blind())(batch())


def test_the_embedded_student_knows_its_words_from_others(caplog: pytest.LogCaptureFixture) -> None:
    model = lexiseg.load("student/mini", dtype="fp32")
    cameraman = np.stack([skimage.data.camera()] * 3, axis=-1)  # under much sky
    found = model.segment(cameraman, "sky, grass, book, cat, car, body|person")
    assert not caplog.records
    assert found.mask("sky")[:150].mean() > 0.8
    model.segment(cameraman, "zebra, sky")
    assert "expect little: zebra" in caplog.text
