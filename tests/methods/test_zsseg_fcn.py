"""Both branches, their mean and the training loss against numpy in float64; windows and sizes against loops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lexiseg
from lexiseg import catalog
from lexiseg.data.scenes import class_names
from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_shape import TINY_RESNET, TINY_VIT
from lexiseg.encoders.prompts import Prompts
from lexiseg.errors import DataError, SettingError, UnknownName, WeightsError
from lexiseg.inference import preprocess, windows
from lexiseg.losses.pseudo_labels import UNLABELLED
from lexiseg.methods import zsseg_fcn
from lexiseg.methods.zsseg_fcn import Config, Training, ZsSegFcn
from lexiseg.networks.student_network import StudentShape
from lexiseg.segmenter import Teacher
from lexiseg.vocabulary import Vocabulary
from lexiseg.weights import Weights

TINY = StudentShape("mini", "tiny")
BARE = Prompts(("{}",))
WORDS = Vocabulary([("cat", "kitten"), "sky", "grass"], seen=[True, False, True])
QUERIES = ["cat", "kitten", "sky", "grass"]


def model(shape: Any = TINY_VIT, **config: Any) -> ZsSegFcn:
    torch.manual_seed(0)
    config = {"clip_vectors": "image", **config}
    return ZsSegFcn(Clip.random(shape), Config(TINY, fixed_norms=False, clip="random", **config)).eval()


def pictures(height: int = 40, width: int = 56, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (batch, 3, 5, 7), generator=generator).float()
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").to(torch.uint8)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the classes [B, C, ...]."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def posterior(vectors: np.ndarray, words: np.ndarray, scale: float) -> np.ndarray:
    """[B, D, h, w] and [Q, D] to [B, 3, h, w]."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = np.einsum("bdhw,qd->bqhw", unit, words)
    best = np.stack([cosines[:, :2].max(1), cosines[:, 2], cosines[:, 3]], axis=1)
    return softmax(scale * best)


def parts(segmenter: ZsSegFcn, images: Tensor, vectors: str = "image") -> tuple[np.ndarray, np.ndarray]:
    """p [B, C, h, w] and r on CLIP's grid, from the networks alone."""
    clip = segmenter.clip
    with torch.no_grad():
        words = clip.embed_words(QUERIES, BARE).double().numpy()
        features = segmenter.features(images).double().numpy()
        seen = (images.float() / 255 - torch.tensor(clip.mean).view(3, 1, 1)) / torch.tensor(clip.std).view(3, 1, 1)
        own = clip.image_features(seen)[..., None, None] if vectors == "image" else clip.vision.dense(seen)
    return posterior(features, words, 100.0), posterior(own.double().numpy(), words, clip.logit_scale)


def interpolated(values: np.ndarray, cell: float, grid: tuple[int, int], other: float) -> np.ndarray:
    """numpy.interp, row by row and column by column: level beyond the outermost middles."""
    out = np.zeros((*values.shape[:2], *grid))
    rows, columns = (np.arange(n) * cell + cell / 2 for n in values.shape[2:])
    wanted = [np.arange(n) * other + other / 2 for n in grid]
    for image in range(len(values)):
        for channel in range(values.shape[1]):
            across = np.stack([np.interp(wanted[1], columns, line) for line in values[image, channel]])
            out[image, channel] = np.stack([np.interp(wanted[0], rows, line) for line in across.T], axis=1)
    return out


def classify(segmenter: ZsSegFcn, images: Tensor, words: Vocabulary = WORDS) -> Any:
    with torch.no_grad():
        return segmenter.classify(segmenter.embed_image(images), segmenter.embed_text(words, BARE))


# --- the branches and their mean


@pytest.mark.parametrize("shape", [TINY_VIT, TINY_RESNET], ids=["vit", "resnet"])
@pytest.mark.parametrize("vectors", ["image", "patches"])
def test_the_result_is_the_weighted_geometric_mean(shape: Any, vectors: Any) -> None:
    segmenter, images = model(shape, ensemble_weight=0.8, unseen_weight=0.6, clip_vectors=vectors), pictures(64, 96)
    p, r = parts(segmenter, images, vectors)
    r = interpolated(r, segmenter.clip.patch, p.shape[2:], 8) if vectors == "patches" else np.broadcast_to(r, p.shape)
    wanted = np.stack(
        [p[:, 0] ** 0.8 * r[:, 0] ** 0.2, p[:, 1] ** 0.4 * r[:, 1] ** 0.6, p[:, 2] ** 0.8 * r[:, 2] ** 0.2], 1
    )
    found = classify(segmenter, images)
    np.testing.assert_allclose(found.masks.numpy(), wanted, atol=2e-5)
    assert (found.scores == torch.eye(3)).all()
    assert (found.weights, found.covers) == ("linear", (64, 96))


def test_each_branch_alone_is_a_posterior() -> None:
    images = pictures()
    p, r = parts(model(), images)
    trained, clip = (classify(model(branches=branch), images) for branch in ("trained", "clip"))
    np.testing.assert_allclose(trained.masks.numpy(), p, atol=2e-5)
    np.testing.assert_allclose(clip.masks.numpy(), r, atol=2e-5)
    assert clip.masks.shape == (2, 3, 1, 1)
    assert clip.covers == (56, 56)  # a square cell: what lies beyond the picture is as good


def test_a_vocabulary_without_flags_has_unseen_classes_alone() -> None:
    images = pictures()
    nothing = Vocabulary([("cat", "kitten"), "sky", "grass"])
    unseen = Vocabulary(nothing, seen=[False] * 3)
    first, other = (classify(model(), images, words).masks for words in (nothing, unseen))
    assert torch.equal(first, other)
    assert not torch.equal(first, classify(model(), images).masks)


def test_background_words_are_unseen() -> None:
    segmenter, images = model(ensemble_weight=1.0), pictures()
    words = Vocabulary("cat, sky", background="grass", seen=[True, True])
    found = classify(segmenter, images, words)
    clip = classify(model(branches="clip"), images, words)
    assert found.background
    # with all the weight on the leading branch the background is CLIP's alone
    torch.testing.assert_close(found.masks[:, 2], clip.masks[:, 2].expand_as(found.masks[:, 2]))


def test_features_may_be_brought_to_the_pixels_before_they_are_compared() -> None:
    """As released: the order matters, since unit vectors between two cells are not the mean of the two."""
    segmenter, images = model(upsampled="features", branches="trained"), pictures(40, 56)
    found = classify(segmenter, images)
    assert found.masks.shape == (2, 3, 40, 56)
    with torch.no_grad():
        features = segmenter.features(images).double().numpy()
        words = segmenter.clip.embed_words(QUERIES, BARE).double().numpy()
    wanted = posterior(interpolated(features, 8, (40, 56), 1), words, 100.0)
    np.testing.assert_allclose(found.masks.numpy(), wanted, atol=5e-4)
    later = interpolated(classify(model(branches="trained"), images).masks.double().numpy(), 8, (40, 56), 1)
    assert np.abs(later - wanted).max() > 0.01


def test_a_grid_that_goes_beyond_the_picture_is_not_stretched() -> None:
    found = classify(model(), pictures(37, 50))
    assert (found.masks.shape[2:], found.covers) == ((5, 7), (40, 56))


# --- windows, sizes and mirrors, as probabilities


def test_windows_sizes_and_mirrors_are_averaged_as_probabilities() -> None:
    """zsseg_fcn.md §7.1, by loops over windows."""
    photo = pictures(48, 70, batch=1)[0].permute(1, 2, 0).numpy()
    scales, settings = (0.75, 1.25), {"window": 32, "stride": 11, "short_side": 48, "blend": "logits"}
    predictor = lexiseg.load(
        "zsseg_fcn/tiny",
        scales=scales,
        flip=True,
        prompts="{}",
        device="cpu",
        dtype="fp32",
        text_cache=False,
        **settings,
    )
    found = predictor.segment(photo, WORDS)
    segmenter: Any = predictor.segmenter
    total: Any = 0.0
    for scale in scales:
        size = preprocess.target_size(48, 70, predictor.inference, scale=scale)
        for turned in (False, True):
            seen = preprocess.resize(photo, size, predictor.inference)
            seen = seen.flip(2) if turned else seen
            mean, count = np.zeros((3, *size)), np.zeros(size)
            for box in windows.boxes(size, 32, 11):
                part = classify(segmenter, seen[(..., *box.slices)][None]).masks.double().numpy()
                mean[(..., *box.slices)] += interpolated(part, 8, box.size, 1)[0]
                count[box.slices] += 1
            mean = (mean / count)[:, :, :: -1 if turned else 1]
            total = total + torch.nn.functional.interpolate(
                torch.from_numpy(mean.copy())[None], (48, 70), mode="bilinear"
            )
    total = (total / 4)[0].numpy()
    best = np.sort(total, axis=0)
    sure = best[-1] - best[-2] > 1e-5
    assert sure.mean() > 0.95
    assert (found.labels == total.argmax(0))[sure].all()
    np.testing.assert_allclose(found.scores, total.max(0) / total.sum(0), atol=2e-3)


# --- training


def labels(height: int = 40, width: int = 56) -> Tensor:
    """Of two pictures over four classes, of which class 1 is unseen; some pixels are ignored or UNLABELLED."""
    random = torch.Generator().manual_seed(1)
    found = torch.tensor([0, 2, 3])[torch.randint(3, (2, height, width), generator=random)]
    found[0, :8], found[1, :, :20], found[1, 30:] = 255, UNLABELLED, UNLABELLED
    return found


FOUR = ("cat", "sky", "grass", "road")


def test_the_loss_is_the_mean_cross_entropy_of_labelled_pixels_over_the_seen_classes() -> None:
    segmenter, images, truth = model(), pictures(), labels()
    objective = Training(FOUR, ("sky",), prompts="{}").build(segmenter).eval()
    with torch.no_grad():
        features = segmenter.features(images).double().numpy()
        words = segmenter.clip.embed_words(["cat", "grass", "road"], BARE).double().numpy()
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    logits = interpolated(100 * np.einsum("bdhw,qd->bqhw", unit, words), 8, (40, 56), 1)
    chosen = np.select([truth == 0, truth == 2, truth == 3], [0, 1, 2], -1)
    valid = chosen >= 0
    likely = np.log(softmax(logits))
    wanted = -np.take_along_axis(likely, chosen.clip(0)[:, None], 1)[:, 0][valid].mean()
    batch = {"images": images, "labels": truth}
    assert float(objective(batch)["labels"].detach()) == pytest.approx(wanted, rel=1e-4)
    assert objective.report() == {"labelled": pytest.approx(valid.mean())}
    # the pieces of a batch lose what the whole does, though one has fewer labelled pixels
    objective.before_batch(batch, lambda own: own)
    pieces = [
        float(objective({name: each[at : at + 1] for name, each in batch.items()})["labels"].detach()) for at in (0, 1)
    ]
    assert np.mean(pieces) == pytest.approx(wanted, rel=1e-4)


def test_a_batch_without_a_labelled_pixel_loses_nothing() -> None:
    objective = Training(FOUR).build(model())
    batch = {"images": pictures(), "labels": torch.full((2, 40, 56), UNLABELLED)}
    assert float(objective(batch)["labels"].detach()) == 0
    objective.before_batch(batch, lambda own: own)
    assert float(objective(batch)["labels"].detach()) == 0


def test_norms_that_are_fixed_stay_as_they_came() -> None:
    torch.manual_seed(0)
    segmenter = ZsSegFcn(Clip.random(TINY_VIT), Config(TINY, clip="random"))
    objective = Training(FOUR).build(segmenter).train()
    before = {name: each.clone() for name, each in segmenter.network.backbone.state_dict().items()}
    objective({"images": pictures(64, 64), "labels": torch.zeros(2, 64, 64, dtype=torch.long)})["labels"].backward()
    norms = [each for each in segmenter.network.backbone.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    assert norms
    assert not any(each.training or each.weight.requires_grad for each in norms)
    assert segmenter.network.head.training
    assert all(torch.equal(each, before[name]) for name, each in segmenter.network.backbone.state_dict().items())


def test_clip_is_not_trained_and_not_saved_with_checkpoints() -> None:
    objective = Training(FOUR).build(model())
    objective({"images": pictures(), "labels": torch.zeros(2, 40, 56, dtype=torch.long)})["labels"].backward()
    trained = {name for name, each in objective.named_parameters() if each.grad is not None}
    assert trained
    assert all(name.startswith("segmenter.network.") for name in trained)
    assert objective.unsaved == ("segmenter.clip.*",)


# --- models


def test_the_variants_build_as_they_say(tmp_path: Path) -> None:
    small, inference = catalog.load(
        "zsseg_fcn/custom",
        network={"network": "transformers", "backbone": "clip:asset:mini-clip", "output_stride": 8},
        start_from="usual",
        clip="asset:mini-clip",
    )
    assert small.network.backbone.channels == (256,)  # type: ignore[attr-defined]
    catalog.save(small, tmp_path / "a", method="zsseg_fcn", inference=inference)
    again: Any = catalog.load(tmp_path / "a")[0]
    states: Any = small.state_dict()  # type: ignore[attr-defined]
    assert again.config.start_from is None
    assert all(torch.equal(each, again.state_dict()[name]) for name, each in states.items())


def test_a_feature_pyramid_trains_too() -> None:
    torch.manual_seed(0)
    shape = StudentShape("fpn", "tiny", output_stride=32)
    segmenter = ZsSegFcn(Clip.random(TINY_VIT), Config(shape, clip="random"))
    assert segmenter.patch == 4
    objective = Training(class_names()).build(segmenter).train()
    loss = objective({"images": pictures(33, 65), "labels": torch.zeros(2, 33, 65, dtype=torch.long)})["labels"]
    loss.backward()
    assert loss.isfinite()


def test_presets_are_the_papers_and_the_released_codes() -> None:
    released = catalog.resolve("zsseg_fcn/rn101", weights="x", preset="released")[1]
    assert (released.inference.scales[0], released.inference.scales[-1], released.inference.flip) == (0.5, 1.75, True)
    assert [round(640 * each) for each in released.inference.scales] == [320, 480, 640, 800, 960, 1120]
    assert (released.inference.window, released.inference.stride) == (224, 75)
    assert released.config.clip_vectors == "image"
    assert (released.config.upsampled, released.config.clip_scale, released.config.ensemble_weight) == (
        "features",
        100,
        0.7,
    )
    paper = catalog.resolve("zsseg_fcn/rn101", weights="x", preset="paper")[1]
    assert (paper.config.clip_vectors, paper.inference.scales, paper.inference.flip) == ("patches", (1.0,), False)


# --- bad input


@pytest.mark.parametrize(
    ("settings", "config", "error", "says"),
    [
        ({}, {}, SettingError, r"no words to train on; give for example --set words="),
        ({"words": ("cat",)}, {}, SettingError, "1 seen classes leave nothing to tell apart"),
        ({"words": FOUR, "unseen": ("dog",)}, {}, UnknownName, "dog"),
        ({"words": FOUR}, {"branches": "clip"}, SettingError, "branches=clip leaves nothing to train"),
    ],
)
def test_what_cannot_be_trained_is_said_before(settings: Any, config: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        Training(**settings).build(model(**config))


def test_labels_that_do_not_fit_are_told() -> None:
    images = pictures()
    with pytest.raises(DataError, match="labelled 'sky', which is said to be unseen"):
        Training(FOUR, ("sky",)).build(model())({"images": images, "labels": torch.ones(2, 40, 56, dtype=torch.long)})
    with pytest.raises(DataError, match="a label map holds 4 and there are 4 classes"):
        Training(FOUR).build(model())({"images": images, "labels": torch.full((2, 40, 56), 4)})
    teacher = Teacher(model(), catalog.resolve("maskclip/tiny")[1].inference, BARE)
    with pytest.raises(SettingError, match="leave the teacher out"):
        Training(FOUR).build(model(), teacher=teacher)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"ensemble_weight": 1.5}, "ensemble_weight must be a weight, 0 to 1"),
        ({"unseen_weight": -0.1}, "unseen_weight must be a weight, 0 to 1"),
        ({"clip_scale": 0.0}, "clip_scale must be a number above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingError, match=says):
        Config(**setting)


def test_folders_of_other_things_are_refused(tmp_path: Path) -> None:
    variant = zsseg_fcn.VARIANTS["tiny"]
    Clip.random(TINY_VIT).save(tmp_path / "clip")
    with pytest.raises(WeightsError, match="does not hold a zsseg_fcn"):
        zsseg_fcn.load(replace(variant, weights=Weights.of(tmp_path / "clip")))
    zsseg_fcn.save(zsseg_fcn.load(variant), tmp_path / "fcn")
    other = replace(
        variant, config=replace(variant.config, clip="asset:mini-clip"), weights=Weights.of(tmp_path / "fcn")
    )
    with pytest.raises(SettingError, match="lies beside the words of random, not of asset:mini-clip"):
        zsseg_fcn.load(other)
