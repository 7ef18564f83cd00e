"""S-Seg against its formulas in float64: combination, backgrounds, losses; where its pseudo-masks come from."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lexiseg import catalog
from lexiseg.encoders.prompts import Prompts
from lexiseg.errors import DataError, SettingError, WeightsError
from lexiseg.inference.labelling import decode
from lexiseg.methods import s_seg
from lexiseg.methods.s_seg import Config, SSeg, Training
from lexiseg.proposals import kmeans
from lexiseg.segmenter import TextClassifier
from lexiseg.vocabulary import Vocabulary

TINY: Any = s_seg.VARIANTS["tiny"]
COLOURS = kmeans.Config("colours", k=4, side=8)
WORDS = Vocabulary("cat, grass, sky")
PROMPTS = Prompts(("a photo of a {}.",))


def model(**changes: Any) -> SSeg:
    return s_seg.load(replace(TINY, config=replace(TINY.config, **changes)))


def images(batch: int = 3, side: int = 64) -> Tensor:
    coarse = torch.rand(batch, 3, 4, 4, generator=torch.Generator().manual_seed(3)) * 255
    return functional.interpolate(coarse, size=(side, side), mode="bilinear").to(torch.uint8)


def batch(**more: Any) -> dict[str, Any]:
    texts = ["a cat on grass", "a dog under the sky", "red cars"]
    return {"images": images(), "texts": texts, "keys": ["a", "b", "c"], **more}


def objective(segmenter: SSeg | None = None, **settings: Any) -> s_seg.Objective:
    return Training(**{"pseudo_masks": COLOURS, **settings}).build(segmenter or model())


# --- segmenting


def sums(segmenter: SSeg, pictures: Tensor, classifier: TextClassifier) -> tuple[np.ndarray, np.ndarray]:
    """S_c(x) = sum over q of softmax_c(cos(feature q, word c) / sigma) sigmoid(mask q(x)), and the sum of sigmoids."""
    with torch.no_grad():
        found = segmenter.network(segmenter.normalise(pictures))
        features = segmenter.image_projection(found.queries[-1]).double().numpy()  # [B, N, D]
    weight = classifier.weight.double().numpy()
    cosines = np.einsum("bnd,cd->bnc", features / np.linalg.norm(features, axis=-1, keepdims=True), weight)
    logits = classifier.scale * cosines
    share = np.exp(logits - logits.max(-1, keepdims=True))
    share /= share.sum(-1, keepdims=True)
    masks = functional.interpolate(found.masks[-1], size=tuple(pictures.shape[-2:]), mode="bilinear")
    inside = 1 / (1 + np.exp(-masks.double().numpy()))
    return np.einsum("bnc,bnhw->bchw", share, inside), inside.sum(1)


def test_a_pixel_has_the_mean_of_what_its_masks_show() -> None:
    segmenter = model()
    classifier = segmenter.embed_text(WORDS, PROMPTS)
    total, weight = sums(segmenter, images(), classifier)
    with torch.no_grad():
        result = segmenter.classify(segmenter.embed_image(images()), classifier)
    for place in range(3):
        one = replace(result, masks=result.masks[place, None], scores=result.scores[place, None])
        found = decode(one, (64, 64))
        assert found.scores is not None
        order = np.sort(total[place], axis=0)
        sure = order[-1] - order[-2] > 1e-3
        assert sure.any()
        assert (found.labels == total[place].argmax(0))[sure].all()
        posterior = total[place].max(0) / weight[place]
        assert np.allclose(found.scores.astype(np.float64), posterior, atol=2e-3)


@pytest.mark.parametrize("kind", ["posterior", "sum"])
def test_pixels_where_no_class_passes_the_threshold_are_background(kind: Any) -> None:
    segmenter = model()
    classifier = segmenter.embed_text(WORDS, PROMPTS)
    total, weight = sums(segmenter, images(1), classifier)
    value = (total / weight[:, None] if kind == "posterior" else total)[0].max(0)
    threshold = float(np.median(value))
    changed = model(own_background=threshold, own_background_of=kind)
    assert changed.traits.background == "own"
    with torch.no_grad():
        result = changed.classify(changed.embed_image(images(1)), classifier)
    assert result.background
    assert result.channels == len(WORDS) + 1
    found = decode(result, (64, 64)).labels
    near = 1e-3 * np.ptp(value)  # rounding
    assert np.ptp(value) > 1e-4
    assert (found[value < threshold - near] == 255).all()
    assert (found[value > threshold + near] != 255).all()
    assert (np.abs(value - threshold) > near).mean() > 0.9


def test_words_of_the_background_share_its_channel() -> None:
    """Their scores and the threshold add up."""
    with_words = WORDS.with_background("wall")
    plain, changed = model(), model(own_background=0.25)
    with torch.no_grad():
        embedding = plain.embed_image(images(1))
        one = plain.classify(embedding, plain.embed_text(with_words, PROMPTS))
        other = changed.classify(embedding, changed.embed_text(with_words, PROMPTS))
    assert torch.allclose(other.scores[..., :-1], one.scores[..., :-1])
    assert torch.allclose(other.scores[..., -1], one.scores[..., -1] + 0.25)


def test_a_threshold_must_be_one() -> None:
    with pytest.raises(SettingError, match="own_background must be from 0 to 1,"):
        Config(own_background=1.5)
    with pytest.raises(SettingError, match="from 0 to 64"):
        Config(own_background=65, own_background_of="sum")
    assert Config(own_background=20, own_background_of="sum").own_background == 20


# --- training


@torch.no_grad()
def test_the_pictures_vector_is_the_mean_of_the_queries() -> None:
    queries = torch.randn(2, 8, 64)
    for order in ("mean_first", "projected_first"):
        segmenter = model(image_vector=order, projection_norm="layer")
        each = [segmenter.image_projection(query[None])[0] for query in queries[0]]
        mean = torch.stack(each).mean(0)
        if order == "mean_first":
            mean = segmenter.image_projection(queries[0].mean(0)[None])[0]
        found = segmenter.image_vectors(queries)
        assert torch.allclose(found[0], functional.normalize(mean, dim=0), atol=1e-5)
        assert torch.allclose(found.norm(dim=1), torch.ones(2), atol=1e-5)


def test_the_contrastive_loss_is_the_sum_of_both_directions() -> None:
    """Eq. 2 and 3 in float64."""
    trained = objective(mask_weight=0.0)
    rows = [
        functional.normalize(torch.randn(5, 32, generator=torch.Generator().manual_seed(at)), dim=1) for at in (0, 1)
    ]
    x, y = (each.double().numpy() for each in rows)
    sigma = 0.07
    logits = np.exp(x @ y.T / sigma)
    wanted = -np.log(np.diag(logits) / logits.sum(1)).mean() - np.log(np.diag(logits) / logits.sum(0)).mean()
    assert float(trained.loss(*rows)["contrast"].detach()) == pytest.approx(wanted, rel=1e-4)
    halved = objective(mask_weight=0.0, directions="mean")
    assert float(halved.loss(*rows)["contrast"].detach()) == pytest.approx(wanted / 2, rel=1e-4)


def test_the_losses_have_the_papers_weights_and_are_means_over_masks() -> None:
    trained = objective()
    rows = torch.eye(2, 32), torch.eye(2, 32)
    focal, dice, parts = torch.tensor([3.0, 1.0]), torch.tensor([2.0, 5.0]), torch.tensor([4.0, 2.0])
    found = trained.loss(*rows, focal, dice, parts)
    assert float(found["focal"].detach()) == pytest.approx(20 * 4 / 6)
    assert float(found["dice"].detach()) == pytest.approx(7 / 6)
    half = objective(total="mean").loss(*rows, focal, dice, parts)
    for name, each in found.items():
        assert float(half[name].detach()) == pytest.approx(float(each.detach()) / 2)
    none = trained.loss(*rows, 0 * focal, 0 * dice, 0 * parts)
    assert float(none["focal"].detach()) == 0.0


def test_pseudo_masks_are_those_of_the_pictures_as_they_were_cropped() -> None:
    trained = objective().eval()
    found = trained.embed(batch())
    labels = kmeans.load(COLOURS).labels(images())  # [B, 8, 8]
    stored = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)
    from_data = objective(trained.segmenter, masks_from="data").eval()
    assert from_data.generator is None
    for one, other in zip(found, from_data.embed(batch(pseudo_masks=stored.int())), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_clusters_are_spread_to_pixels_by_the_nearest_or_the_strongest() -> None:
    labels = torch.tensor([[[0, 1], [1, 1]]])
    settings = Training(pseudo_masks=COLOURS)
    nearest = s_seg.spread(labels, (4, 4), settings)
    assert nearest[0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]
    smooth = s_seg.spread(labels, (8, 8), replace(settings, resize="bilinear"))
    share = functional.interpolate((labels == 0)[:, None].float(), (8, 8), mode="bilinear")[0, 0]
    assert torch.equal(smooth[0] == 0, share >= 0.5)


def test_stored_maps_may_have_holes_but_not_too_many_parts() -> None:
    trained = objective(masks_from="data").eval()
    parts = torch.zeros(3, 64, 64, dtype=torch.int32)
    parts[:, 32:] = 255
    assert trained.embed(batch(pseudo_masks=parts))[-1].tolist() == [1, 1, 1]
    parts[0, 0, 0] = 64
    with pytest.raises(DataError, match="a part of number 64, and there may be 64"):
        trained.embed(batch(pseudo_masks=parts))
    with pytest.raises(DataError, match="no pseudo_masks"):
        trained.embed(batch())


def test_the_generator_looks_at_a_picture_once_in_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradient caching embeds each piece twice."""
    trained = objective()
    assert trained.generator is not None
    asked: list[Tensor] = []
    labels = trained.generator.labels
    monkeypatch.setattr(trained.generator, "labels", lambda pictures: (asked.append(pictures), labels(pictures))[1])
    whole = batch()
    trained.before_step(0)
    trained.embed(whole)
    trained.embed(dict(whole))
    assert len(asked) == 1
    trained.before_step(1)
    trained.embed(whole)
    assert len(asked) == 2


def test_without_masks_nothing_is_clustered_and_without_captions_words_stay() -> None:
    blind = objective(mask_weight=0.0)
    assert blind.generator is None
    assert len(blind.embed(batch())) == 2
    assert blind.report()["parts"] == 0.0
    mute = objective(contrast_weight=0.0).train()
    torch.stack(list(mute(batch()).values())).sum().backward()
    gradients = [each.grad for each in mute.segmenter.text.parameters() if each.grad is not None]
    assert all(not each.any() for each in gradients)
    assert any(each.grad is not None and each.grad.any() for each in mute.segmenter.network.mask_head.parameters())


def test_it_reports_parts_and_their_overlap_over_the_pieces_of_a_step() -> None:
    trained = objective().eval()
    trained.before_step(0)
    whole = batch()
    trained.embed(whole)
    together = trained.report()
    trained.before_step(1)
    for place in range(3):
        trained.embed({name: value[place : place + 1] for name, value in whole.items()})
    assert trained.report() == pytest.approx(together, rel=1e-4)
    assert together["parts"] <= 4
    assert 0 < together["overlap"] < 1
    assert together["scale"] == pytest.approx(1 / 0.07, rel=1e-5)


def test_the_scale_is_bounded_after_a_step() -> None:
    trained = objective()
    with torch.no_grad():
        trained.segmenter.text.log_scale.fill_(9.0)
    trained.after_step(0)
    assert trained.segmenter.text.logit_scale == pytest.approx(100.0)
    free = objective(largest_scale=None)
    with torch.no_grad():
        free.segmenter.text.log_scale.fill_(math.log(300))
    free.after_step(0)
    assert free.segmenter.text.logit_scale == pytest.approx(300.0)


def test_earlier_layers_learn_masks_too_unless_they_are_told_not_to() -> None:
    deep, shallow = objective().eval(), objective(deep=False).eval()
    both, last = (each.embed(batch())[2] for each in (deep, shallow))
    assert (both > last).all()


def test_wrong_settings_are_told() -> None:
    with pytest.raises(SettingError, match="mask_weight must be 0 or more"):
        Training(mask_weight=-1.0)
    with pytest.raises(SettingError, match="dice_weight must be above 0"):
        Training(dice_weight=0.0, focal_weight=0.0)
    with pytest.raises(SettingError, match="leave the teacher out"):
        Training().build(model(), teacher=object())


# --- weights


def test_a_saved_model_has_its_tokenizer_and_needs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = model()
    s_seg.save(segmenter, tmp_path)
    config = replace(TINY.config, tokenizer="nowhere/nothing", start_from="usual")
    again = s_seg.load(replace(TINY, config=config, weights=catalog.Weights.of(tmp_path)))
    assert again.config.start_from is None
    for name, tensor in segmenter.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_another_models_folder_is_refused(tmp_path: Path) -> None:
    s_seg.save(model(), tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, "model_type": "clip"}))
    with pytest.raises(WeightsError, match="does not hold an s_seg"):
        s_seg.load(replace(TINY, weights=catalog.Weights.of(tmp_path)))


def test_published_variants_say_that_there_is_nothing_to_load() -> None:
    with pytest.raises(WeightsError, match="released nothing"):
        catalog.load("s_seg/swin-s")


def test_every_open_decision_is_a_setting() -> None:
    """What the notes mark as open, by name."""
    of_config = {
        "start_from", "projection_hidden", "projection_norm", "image_vector", "temperature", "own_background",
        "own_background_of", "statistics", "masks",
    }  # fmt: skip
    of_training = {"deep", "total", "directions", "resize", "losses_at", "largest_scale", "masks_from", "pseudo_masks"}
    of_clusters = {"read", "spherical", "seed", "iterations", "empty"}
    for kind, names in ((Config, of_config), (Training, of_training), (kmeans.Config, of_clusters)):
        assert names <= set(kind.__dataclass_fields__)
    assert "[?]" in (Config.__doc__ or "")
    assert "[?]" in (Training.__doc__ or "")
