"""GroupViT against transformers' model and an independent reading of docs/papers/groupvit.md §5.4-5.5."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import entropy
from torch import Tensor
from torch.nn import functional
from transformers import GroupViTModel

import lexiseg
from lexiseg import catalog
from lexiseg.encoders.prompts import Prompts
from lexiseg.errors import DataError, SettingError, WeightsError
from lexiseg.inference.predictor import Predictor
from lexiseg.layers.pixels import normalise
from lexiseg.methods import groupvit
from lexiseg.methods.groupvit import Config, GroupViT, Objective, Training
from lexiseg.segmenter import Inference, TextClassifier
from lexiseg.vocabulary import Vocabulary

WORDS = Vocabulary("cat, dog, sky, road, tree, car, sea")
WINDOW, STRIDE, PATCH = 64, 32, 8  # of the tiny variants
SCALE = 16.0  # so that scores are neither all alike nor, in float32, 1
BOTH = pytest.mark.parametrize("variant", ["tiny", "tiny-one-stage"])


def tiny(variant: str = "tiny", **changes: Any) -> GroupViT:
    segmenter, _ = catalog.load(f"groupvit/{variant}", **changes)
    assert isinstance(segmenter, GroupViT)
    return segmenter


def pictures(*size: int, seed: int = 0) -> Tensor:
    """Smooth random RGB bytes of (count, height, width)."""
    count, *sides = size
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed)) * 255
    return functional.interpolate(coarse, sides, mode="bilinear").to(torch.uint8)


# --- the rule, by hand


def plain_window(model: Any, window: Tensor, words: Tensor, scale: float, threshold: float, *, hard: bool) -> Tensor:
    """§5.5, 1-4, of one window of RGB bytes [3, h, w]: [1 + classes, h, w], the background first.

    model: transformers' own. words: unit vectors of the classes.
    """
    seen = normalise(window[None], "imagenet").double()
    states = model.vision_model.embeddings(seen, interpolate_pos_encoding=True)
    encoded = model.vision_model.encoder(states, output_attentions=True, return_dict=True)
    groups = model.vision_model.layernorm(encoded.last_hidden_state)
    unit = [functional.normalize(model.visual_projection(each), dim=1) for each in (groups[0], groups.mean(1))]
    attentions = [each[0] for each in encoded.attentions]
    if hard:
        attentions = [functional.one_hot(each.argmax(0), len(each)).T.double() for each in attentions]
    shares = attentions[0]
    for later in attentions[1:]:
        shares = later @ shares
    height, width = window.shape[1:]
    shares = shares.reshape(1, len(shares), height // PATCH, width // PATCH)
    region = functional.interpolate(shares, (height, width), mode="bilinear", align_corners=False)[0].argmax(0)
    logits = (scale * unit[0] @ words.T).tolist()
    picture = (unit[1] @ words.T)[0].tolist()
    shown = sorted(range(len(words)), key=lambda each: -picture[each])[:5]
    scores = []
    for row in logits:
        pre = np.exp(np.array(row) - logsumexp(row))
        post = np.zeros(len(row))
        post[shown] = np.exp(np.array(row)[shown] - logsumexp(np.array(row)[shown]))
        scores.append(pre * post)
    least = min(threshold, max(each.max() for each in scores))
    values = torch.zeros(1 + len(words), height, width, dtype=torch.double)
    for index, row in enumerate(scores):
        column = torch.from_numpy(np.array([float(row.max() < least), *row]))
        values[:, region == index] = column[:, None]
    return values


def starts(side: int) -> list[int]:
    count = max(0, math.ceil((side - WINDOW) / STRIDE)) + 1
    return [min(each * STRIDE, max(0, side - WINDOW)) for each in range(count)]


def plain_labels(window: Callable[[Tensor], Tensor], resized: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """§5.5, 5: values of a picture of RGB bytes [3, H, W] at another size, the background first; and their winner."""
    height, width = resized.shape[1:]
    total: Tensor | float = 0.0
    count = torch.zeros(height, width, dtype=torch.double)
    for top in starts(height):
        for left in starts(width):
            place = (slice(top, top + WINDOW), slice(left, left + WINDOW))
            values = window(resized[(slice(None), *place)])
            whole = torch.zeros(len(values), height, width, dtype=torch.double)
            whole[(slice(None), *place)] = values
            total = total + whole
            count[place] += 1
    assert isinstance(total, Tensor)
    mean = functional.interpolate((total / count)[None], size, mode="bilinear", align_corners=False)[0]
    return mean, mean.softmax(0).argmax(0)


def confident(segmenter: GroupViT, photo: Tensor, count: int, *, seed: int = 0) -> Tensor:
    """Unit vectors of words that differ as the groups of a picture do, so that some of them are told apart."""
    windows = torch.cat([photo[None, :, :WINDOW, :WINDOW], photo[None, :, -WINDOW:, -WINDOW:]])
    features = functional.normalize(segmenter.embed_image(windows).features.flatten(0, 1), dim=1)
    noise = torch.randn(count, features.shape[1], generator=torch.Generator().manual_seed(seed))
    apart = (features - features.mean(0))[torch.arange(count) % len(features)]
    return functional.normalize(apart + 0.3 * apart.norm(dim=1).mean() * functional.normalize(noise, dim=1), dim=1)


def with_words(predictor: Predictor, weight: Tensor, scale: float) -> Predictor:
    segmenter: Any = predictor.segmenter
    segmenter.embed_text = lambda words, prompts, cache=None: TextClassifier.of(words, weight, scale)
    return predictor


@BOTH
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("threshold", [0.1, 0.35, 0.7])
@torch.no_grad()
def test_photographs_are_labelled_as_a_plain_reading_does(
    variant: str, hard: bool, threshold: float, tmp_path: Path
) -> None:
    """Six windows of a photograph that is not resized: every pixel, and the value that its class wins with."""
    maps = "hard" if hard else "soft"
    settings: dict[str, Any] = {"product_threshold": threshold, "region_maps": maps, "short_side": 88}
    predictor = lexiseg.load(f"groupvit/{variant}", device="cpu", dtype="fp32", text_cache=False, **settings)
    segmenter: Any = predictor.segmenter
    photo = pictures(1, 88, 120, seed=3)[0]
    words = confident(segmenter, photo, len(WORDS))
    segmenter.towers.save(tmp_path)
    model = GroupViTModel.from_pretrained(tmp_path).double().eval()

    def window(part: Tensor) -> Tensor:
        return plain_window(model, part, words.double(), SCALE, threshold, hard=hard)

    values, winner = plain_labels(window, photo, (88, 120))
    found = with_words(predictor, words, SCALE).segment(photo.permute(1, 2, 0).numpy(), WORDS)
    expected = torch.where(winner == 0, 255, winner - 1)
    assert (torch.from_numpy(found.labels).long() == expected).all()
    assert (winner == 0).any()
    assert len(winner.unique()) >= (3 if threshold < 0.5 else 2)  # the rule has something to decide
    np.testing.assert_allclose(found.scores, values.amax(0), atol=1e-3)


@torch.no_grad()
def test_a_photograph_of_another_size_is_labelled_at_its_own(tmp_path: Path) -> None:
    """The mean of windows is brought to the photograph's size, not the labels; windows are of the resized pixels."""
    predictor = lexiseg.load("groupvit/tiny", device="cpu", dtype="fp32", text_cache=False, product_threshold=0.1)
    segmenter: Any = predictor.segmenter
    photo = pictures(1, 75, 110, seed=3)[0]
    seen: list[Tensor] = []
    embed = segmenter.embed_image
    segmenter.embed_image = lambda images: (seen.append(images), embed(images))[1]
    embedded = predictor.embed(photo.permute(1, 2, 0).numpy())
    segmenter.embed_image = embed
    assert embedded.resized == (64, 94)  # int(110 * 64 / 75 + 0.5)
    windows = torch.cat(seen)
    assert len(windows) == 2
    resized = torch.cat([windows[0], windows[1][..., 2 * WINDOW - 94 :]], dim=2)
    words = confident(segmenter, resized, len(WORDS))
    segmenter.towers.save(tmp_path)
    model = GroupViTModel.from_pretrained(tmp_path).double().eval()

    def window(part: Tensor) -> Tensor:
        return plain_window(model, part, words.double(), SCALE, 0.1, hard=False)

    _, winner = plain_labels(window, resized, (75, 110))
    found = with_words(predictor, words, SCALE).classify(embedded, WORDS)
    assert (torch.from_numpy(found.labels).long() == torch.where(winner == 0, 255, winner - 1)).all()
    assert len(winner.unique()) >= 3


@torch.no_grad()
def test_photographs_in_a_batch_are_labelled_as_one_by_one() -> None:
    predictor = lexiseg.load("groupvit/tiny", device="cpu", dtype="fp32", text_cache=False, product_threshold=0.35)
    photos = [each.permute(1, 2, 0).numpy() for each in pictures(3, 88, 120, seed=1)]
    with_words(predictor, confident(predictor.segmenter, pictures(1, 88, 120, seed=1)[0], len(WORDS)), SCALE)  # type: ignore[arg-type]
    together = list(predictor.segment_many(photos, WORDS, batch_size=3))
    assert any(len(np.unique(each.labels)) > 2 for each in together)
    for photo, each in zip(photos, together, strict=True):
        assert np.array_equal(predictor.segment(photo, WORDS).labels, each.labels)


@BOTH
@torch.no_grad()
def test_regions_are_masks_without_words(variant: str) -> None:
    segmenter = tiny(variant)
    embedding = segmenter.embed_image(pictures(2, 50, 61))
    proposals = embedding.proposals
    assert proposals.covers == embedding.covers == (56, 64)
    labels = embedding.labels()
    assert torch.equal(proposals.masks.float().argmax(1), labels)
    assert torch.equal(proposals.valid.sum(1), torch.tensor([len(each.unique()) for each in labels]))
    assert labels.unique().numel() > 1
    assert segmenter.traits.regions


@torch.no_grad()
def test_a_window_of_many_classes_is_a_few_masks_and_their_scores() -> None:
    segmenter = tiny()
    weight = functional.normalize(torch.randn(847, 32), dim=1)
    words = TextClassifier.of(Vocabulary([f"word {each}" for each in range(847)]), weight, 50.0)
    result = segmenter.classify(segmenter.embed_image(pictures(1, 64, 64)), words)
    assert (result.masks.shape, result.scores.shape) == ((1, 4, 64, 64), (1, 4, 848))
    assert result.weights == "linear"
    assert torch.equal(result.masks.sum(1), torch.ones(1, 64, 64))
    assert ((result.scores[..., :-1] > 0).sum(2) <= 5).all()


# --- text, settings


def test_the_scale_is_held_at_100() -> None:
    segmenter = tiny()
    assert segmenter.embed_text(WORDS, Prompts.open("single")).scale == pytest.approx(1 / 0.07, rel=1e-3)
    segmenter.towers.text.log_scale.data.fill_(5.5)
    assert segmenter.embed_text(WORDS, Prompts.open("single")).scale == 100


def test_presets_are_the_papers_and_the_released_codes() -> None:
    paper, released = (catalog.resolve("groupvit/cc-yfcc", preset=name)[1] for name in ("paper", "released"))
    assert (paper.config.product_threshold, paper.config.region_maps) == (0.9, "hard")
    assert (released.config.product_threshold, released.config.region_maps) == (0.95, "soft")
    for each in (paper, released):
        used: Inference = each.inference
        assert (used.short_side, used.long_side, used.window, used.stride) == (448, 2048, 448, 224)
        assert (used.blend, used.prompts, used.antialias, each.config.statistics) == (
            "logits", "single", False, "imagenet",
        )  # fmt: skip


def test_settings_that_sweeps_leave_to_the_end_change_nothing_in_an_embedding() -> None:
    images = pictures(1, 32, 32)
    changes: dict[str, Any] = {"product_threshold": 0.5, "top_classes": 2, "adaptive_threshold": False}
    assert set(changes) == set(tiny().traits.classify_settings)
    one, other = tiny().embed_image(images), tiny(**changes).embed_image(images)
    for name in one.per_image:
        assert torch.equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("changes", [{"product_threshold": 1.5}, {"top_classes": 0}, {"statistics": ((0,) * 3,) * 2}])
def test_a_mistake_is_a_sentence(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        Config(**changes)


# --- weights


def test_names_of_the_hub_are_those_of_the_published_models() -> None:
    for variant, name in (("cc-yfcc", "yfcc"), ("cc-redcaps", "redcaps")):
        weights = groupvit.VARIANTS[variant].weights
        assert weights is not None
        assert (weights.kind, weights.name, weights.shape) == (
            "hub", f"nvidia/groupvit-gcc-{name}", groupvit.TWO_STAGE,
        )  # fmt: skip


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    groupvit.save(tiny(), tmp_path)
    with pytest.raises(WeightsError, match=r"2-1-1 layers of 64.*this model is a GroupViT of 6-3-3 layers of 384"):
        catalog.load("groupvit/cc-yfcc", weights=tmp_path)
    loaded, _ = catalog.load("groupvit", weights=tmp_path)
    images = pictures(1, 40, 40)
    with torch.no_grad():
        assert torch.equal(loaded.embed_image(images).features, tiny().embed_image(images).features)


def test_fresh_models_of_the_papers_size_need_a_tokenizer() -> None:
    with pytest.raises(WeightsError, match="clip-vit-base-patch32"):
        groupvit.load(dataclasses.replace(groupvit.VARIANTS["cc-yfcc"], weights=None))


@pytest.mark.parametrize(("architecture", "blocks"), [("small", 2), ("small-one-stage", 1)])
def test_one_stage_and_two_have_as_many_layers_and_groups(architecture: Any, blocks: int) -> None:
    variant = dataclasses.replace(groupvit.VARIANTS["custom"], config=Config(architecture=architecture))
    segmenter = groupvit.load(variant)
    with torch.no_grad():
        groups = segmenter.towers.vision(torch.zeros(1, 3, 128, 128))
    assert len(groups.assignments) == blocks
    assert groups.tokens.shape == (1, 8, 128)
    assert len(segmenter.towers.vision.layers) == 6
    shapes = groupvit.SHAPES
    assert [sum(shapes[name].depths) for name in ("two-stage", "one-stage")] == [12, 12]


# --- training


def batch(count: int = 4) -> dict[str, Any]:
    texts = ["a red cat", "two dogs on grass", "the sky over a road", "a car at sea", "trees"][:count]
    prompts = [[f"a photo of a {word}." for word in (*text.split(), "thing", "thing")][:3] for text in texts]
    return {"images": pictures(count, 32, 32), "texts": texts, "prompts": prompts}


def test_losses_are_those_of_their_definitions() -> None:
    """§5.4, from unit vectors in float64."""
    objective = Training().build(tiny()).eval()
    objective.segmenter.towers.text.log_scale.data.fill_(2.0)
    assert objective.prompt_scale is not None
    objective.prompt_scale.data.fill_(3.0)
    made = batch()
    with torch.no_grad():
        losses = objective(made)
        segmenter = objective.segmenter
        image, _ = segmenter.towers.image_features(segmenter.normalised(made["images"]))
        unit = functional.normalize(image, dim=1).double().numpy()
        texts = functional.normalize(segmenter.text_features(made["texts"]), dim=1).double().numpy()
        several = [functional.normalize(segmenter.text_features(each), dim=1).numpy() for each in made["prompts"]]
    logits = math.exp(2) * unit @ texts.T
    own = np.diag(logits)
    contrast = (np.mean(logsumexp(logits, axis=1) - own) + np.mean(logsumexp(logits, axis=0) - own)) / 2
    assert float(losses["contrast"]) == pytest.approx(contrast, rel=1e-5)
    logits = math.exp(3) * unit @ np.concatenate(several).astype(np.float64).T  # [B, 3 B]
    own = np.stack([logits[each, 3 * each : 3 * each + 3] for each in range(4)])
    to_texts = np.mean(logsumexp(logits, axis=1) - own.mean(1))
    to_images = np.mean(logsumexp(logits, axis=0) - own.flatten())
    assert float(losses["multi_label"]) == pytest.approx((to_texts + to_images) / 2, rel=1e-5)


def test_the_loss_of_prompts_can_be_weighted_and_left_out() -> None:
    made = batch()
    with torch.no_grad():
        whole, half = (Training(multi_label=weight).build(tiny()).eval()(made) for weight in (1.0, 0.5))
    assert float(half["multi_label"]) == pytest.approx(float(whole["multi_label"]) / 2)
    without = Training(multi_label=0.0).build(tiny()).eval()
    made.pop("prompts")
    assert set(without(made)) == {"contrast"}
    assert "prompt_scale" not in dict(without.named_parameters())
    with pytest.raises(DataError, match=r"captions\.prompts=3"):
        Training().build(tiny())(made)


def test_scales_are_held_at_100_after_a_step() -> None:
    objective = Training().build(tiny())
    scales = [objective.segmenter.towers.text.log_scale, objective.prompt_scale]
    for scale in scales:
        assert scale is not None
        scale.data.fill_(9.0)
    with torch.no_grad():
        clamped = objective.eval()(batch())
    objective.after_step(0)
    assert [float(scale.detach().exp()) for scale in scales if scale is not None] == pytest.approx([100, 100])
    with torch.no_grad():
        assert {name: float(each) for name, each in objective(batch()).items()} == pytest.approx(
            {name: float(each) for name, each in clamped.items()}
        )


def test_it_learns_without_a_teacher() -> None:
    with pytest.raises(SettingError, match="leave the teacher out"):
        Training().build(tiny(), teacher=object())


def test_noise_decides_groups_in_training_alone() -> None:
    """Where two pieces of noise differ, so do the groups' vectors; without training nothing is drawn."""
    objective = Training(drop_path=0.0).build(tiny()).train()
    vision, images = objective.segmenter.towers.vision, torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.manual_seed(0)
        one, again = vision(images).tokens, vision(images).tokens
        torch.manual_seed(0)
        same = vision(images).tokens
        assert torch.equal(one, same)
        assert not torch.equal(one, again)
        state = torch.random.get_rng_state()
        vision.eval()(images)
        assert torch.equal(state, torch.random.get_rng_state())


def test_halves_of_layers_are_skipped_as_often_as_the_schedule_says() -> None:
    """Of 4 layers none, a third, two thirds, all of the rate; what stays is scaled, so that the mean is that of all."""
    rate = 0.6
    objective: Objective = Training(drop_path=rate).build(tiny()).train()
    torch.manual_seed(0)
    count = 4000
    for place, layer in enumerate(objective.segmenter.towers.vision.layers):
        share = rate * place / 3
        states = torch.randn(1, 2, 64).expand(count, -1, -1)
        with torch.no_grad():
            for half in (lambda x, layer=layer: layer.self_attn(x)[0], layer.mlp):
                layer.eval()
                whole = half(states[:1])
                layer.train()
                found = half(states)
                skipped = (found == 0).all(dim=(1, 2)) if found.ndim == 3 else None
                assert skipped is not None
                assert float(skipped.float().mean()) == pytest.approx(share, abs=0.03)
                kept = found[~skipped]
                torch.testing.assert_close(kept, (whole / (1 - share)).expand_as(kept), atol=1e-5, rtol=1e-4)


def test_it_reports_how_groups_are_used() -> None:
    """By the groups that patches have without noise, over all pieces of a step."""
    objective = Training().build(tiny()).eval()
    objective.before_step(0)
    pieces = [pictures(3, 32, 32, seed=1), pictures(2, 32, 32, seed=2)]
    with torch.no_grad():
        for images in pieces:
            objective({**batch(len(images)), "images": images})
        embedded = [objective.segmenter.embed_image(images).soft for images in pieces]
    report = objective.report()
    labels = torch.cat(
        [
            objective.segmenter.towers.vision(objective.segmenter.normalised(images)).shares(hard=True).argmax(1)
            for images in pieces
        ]
    )
    assert torch.cat(embedded).shape == (5, 4, 4, 4)
    counts = torch.stack([each.flatten().bincount(minlength=4) for each in labels]).numpy()
    assert report["usage_entropy"] == pytest.approx(entropy(counts.sum(0)) / math.log(4), abs=1e-6)
    assert report["groups_used"] == pytest.approx((counts > 0).mean())
    objective.before_step(1)
    with torch.no_grad():
        objective({**batch(3), "images": pieces[0]})
    assert objective.report()["usage_entropy"] == pytest.approx(entropy(counts[:3].sum(0)) / math.log(4), abs=1e-6)


def test_what_was_trained_is_used_in_windows_of_twice_its_size() -> None:
    inference = Training().build(tiny()).inference(Inference(short_side=448, window=448, stride=224, blend="logits"))
    assert (inference.short_side, inference.window, inference.stride, inference.blend) == (64, 64, 32, "logits")
