"""The embedded CLIP's objective beside plain readings of each loss."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from lexiseg.errors import SettingError
from lexiseg.methods import mini_clip
from lexiseg.methods.mini_clip import VARIANTS, Objective, Training, WordTraining
from lexiseg.segmenter import Variant
from lexiseg.weights import Weights

CONCEPTS = 5
PLAIN = Training(concepts=CONCEPTS, places=10_000, rare=0.0)


@pytest.fixture
def tiny() -> mini_clip.MiniClip:
    return mini_clip.load(VARIANTS["tiny"])


def batch_of(labels: Tensor, **changes: Any) -> dict[str, Any]:
    """A batch of two random images of 32 pixels with these labels at 4 x 4 places each."""
    random = torch.Generator().manual_seed(0)
    return {
        "images": torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8, generator=random),
        "labels": labels,
        "exclusive": torch.zeros(2, CONCEPTS, dtype=torch.bool),
        "things": torch.zeros(2, CONCEPTS, dtype=torch.bool),
        "sheets": torch.zeros(2, 0, 3, 1, 1, dtype=torch.uint8),
        "named": torch.zeros(2, 0, dtype=torch.long),
        **changes,
    }


def logits_of(objective: Objective, images: Tensor) -> Tensor:
    """Of every place [B, s s, C], in plain words: cells stretched to places, cosines times the scale."""
    cells = objective.segmenter.embed_image(images).features
    places = functional.interpolate(cells, scale_factor=2, mode="bilinear", align_corners=False)
    places = functional.normalize(places, dim=1)
    logits = torch.einsum("bdhw,cd->bhwc", places, objective.concepts) * objective.segmenter.clip.logit_scale
    return logits.flatten(1, 2)


def labels_of(seed: int, low: int = 0) -> Tensor:
    return torch.randint(low, CONCEPTS, (2, 4, 4), generator=torch.Generator().manual_seed(seed))


def test_the_loss_of_places_is_the_cross_entropy_over_those_with_a_label(tiny: mini_clip.MiniClip) -> None:
    objective = PLAIN.build(tiny).eval()
    labels = labels_of(0, low=-1)
    batch = batch_of(labels)
    known = labels.flatten(1) >= 0
    expected = functional.cross_entropy(logits_of(objective, batch["images"])[known], labels.flatten(1)[known])
    torch.testing.assert_close(objective(batch)["dense"], expected, atol=1e-5, rtol=1e-5)


def test_alike_concepts_are_excused_unless_the_annotators_told_them_apart(tiny: mini_clip.MiniClip) -> None:
    objective = PLAIN.build(tiny).eval()
    objective.close[0, 1] = objective.close[1, 0] = True
    labels = torch.zeros(2, 4, 4, dtype=torch.long)
    apart = torch.zeros(2, CONCEPTS, dtype=torch.bool)
    apart[1, :2] = True  # the second photograph's annotators know both
    batch = batch_of(labels, exclusive=apart)
    logits = logits_of(objective, batch["images"])
    without = torch.cat([logits[0][:, :1], logits[0][:, 2:]], dim=1)
    zeros = torch.zeros(16, dtype=torch.long)
    expected = (functional.cross_entropy(without, zeros) + functional.cross_entropy(logits[1], zeros)) / 2
    torch.testing.assert_close(objective(batch)["dense"], expected, atol=1e-5, rtol=1e-5)


def test_places_where_no_thing_is_lose_minus_the_log_of_the_rest(tiny: mini_clip.MiniClip) -> None:
    objective = replace(PLAIN, absent=1.0).build(tiny).eval()
    things = torch.zeros(2, CONCEPTS, dtype=torch.bool)
    things[:, [1, 3]] = True
    batch = batch_of(torch.full((2, 4, 4), -2), things=things)
    posterior = logits_of(objective, batch["images"]).softmax(dim=-1)
    expected = -(1 - posterior[..., 1] - posterior[..., 3]).log().mean()
    losses = objective(batch)
    torch.testing.assert_close(losses["absent"], expected, atol=1e-4, rtol=1e-4)
    assert losses["dense"] == 0


def test_rare_concepts_weigh_more_and_the_mean_weight_is_one(tiny: mini_clip.MiniClip) -> None:
    objective = replace(PLAIN, rare=0.5).build(tiny).eval()
    frequency = torch.tensor([0.5, 0.3, 0.1, 0.06, 0.04])
    objective.frequency.copy_(frequency)
    labels = labels_of(1)
    batch = batch_of(labels)
    power = (frequency + mini_clip.RAREST).rsqrt()
    weight = power / (frequency * power).sum()
    each = functional.cross_entropy(
        logits_of(objective, batch["images"]).flatten(0, 1), labels.flatten(), reduction="none"
    )
    expected = (each * weight[labels.flatten()]).mean()
    torch.testing.assert_close(objective(batch)["dense"], expected, atol=1e-5, rtol=1e-5)


def test_frequencies_follow_the_labels_after_each_step(tiny: mini_clip.MiniClip) -> None:
    objective = PLAIN.build(tiny).train()
    before = objective.frequency.clone()
    labels = torch.zeros(2, 4, 4, dtype=torch.long)
    objective(batch_of(labels))
    assert torch.equal(objective.frequency, before)  # pieces of a batch see the same numbers
    objective.after_step(0)
    expected = torch.lerp(before, torch.eye(CONCEPTS)[0], mini_clip.FORGETTING)
    torch.testing.assert_close(objective.frequency, expected)
    assert not objective.counts.any()


def test_a_photograph_of_one_concept_is_compared_by_its_image_vector(tiny: mini_clip.MiniClip) -> None:
    objective = replace(PLAIN, dense=0.0, cells=0.0).build(tiny).eval()
    sheets = torch.randint(256, (2, 2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    named = torch.tensor([[0, 1], [2, 4]])
    losses = objective(batch_of(labels_of(0), sheets=sheets, named=named))
    vectors = tiny.clip.image_features(mini_clip.pixels.normalise(sheets.flatten(0, 1), "clip"))
    logits = functional.normalize(vectors, dim=1) @ objective.concepts.T * tiny.clip.logit_scale
    expected = 0.5 * functional.cross_entropy(logits, named.flatten())
    torch.testing.assert_close(losses["image"], expected, atol=1e-5, rtol=1e-5)


def test_agreement_is_the_divergence_from_the_trunks_own_opinion(tiny: mini_clip.MiniClip) -> None:
    objective = PLAIN.build(tiny)
    objective.imagenet = torch.tensor([3, 0, 4])
    random = torch.Generator().manual_seed(0)
    vectors, opinion = torch.randn(6, 32, generator=random), torch.randn(6, 3, generator=random).softmax(dim=1)
    logits = functional.normalize(vectors, dim=1) @ objective.concepts[[3, 0, 4]].T * tiny.clip.logit_scale
    expected = (opinion * (opinion.log() - logits.log_softmax(dim=1))).sum(dim=1).mean()
    torch.testing.assert_close(objective._agreement(vectors, opinion), expected, atol=1e-5, rtol=1e-5)


def test_mean_and_deviation_of_the_trunks_features_are_measured_over_the_first_steps(
    tiny: mini_clip.MiniClip,
) -> None:
    objective = replace(PLAIN, measure=3).build(tiny).train()
    seen = []
    for step in range(5):
        images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(step))
        objective.before_step(step)
        objective(batch_of(labels_of(step), images=images))
        if step < 3:
            seen.append(tiny.vision.maps(mini_clip.pixels.normalise(images, "clip"))[1])
    cells = torch.stack(seen).movedim(2, -1).flatten(0, -2)
    torch.testing.assert_close(tiny.vision.mean, cells.mean(dim=0), atol=1e-4, rtol=1e-4)
    deviation = cells.var(dim=0, correction=0).sqrt()
    some = deviation > 0.05  # the others are held above 0.01, and differences of squares round there
    torch.testing.assert_close(tiny.vision.deviation[some], deviation[some], atol=1e-3, rtol=1e-2)
    assert tiny.vision.deviation.min() >= 0.0099


def test_a_place_is_in_the_cell_that_covers_it() -> None:
    places = torch.arange(16).reshape(4, 4)
    assert mini_clip._cell(places, 16, (2, 2)).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]


def test_words_learn_their_places(tiny: mini_clip.MiniClip) -> None:
    objective = WordTraining(concepts=CONCEPTS).build(tiny).eval()
    batch = {
        "sentences": [["a cat", "fog"]],
        "words": torch.tensor([[2, -1]]),
        "meanings": torch.nn.functional.one_hot(torch.tensor([[0, 1]]), 32).float(),
    }
    losses = objective(batch)
    rows = mini_clip.pad(tiny.clip.tokenizer(["a cat", "fog"]))
    vectors = functional.normalize(tiny.clip.text_features(rows), dim=1)
    targets = torch.stack([objective.concepts[2], batch["meanings"][0, 1]])
    torch.testing.assert_close(losses["places"], (1 - (vectors * targets).sum(dim=1)).mean(), atol=1e-5, rtol=1e-5)
    logits = vectors[:1] @ objective.concepts.T * mini_clip.FIRST_SCALE
    expected = 0.5 * functional.cross_entropy(logits, torch.tensor([2]))
    torch.testing.assert_close(losses["concepts"], expected, atol=1e-5, rtol=1e-5)


def test_prepared_words_are_read_and_others_refused(tiny: mini_clip.MiniClip, tmp_path: Path) -> None:
    path = tmp_path / "places.safetensors"
    near, related = torch.eye(3).bool(), torch.zeros(3, 3, dtype=torch.bool)
    tensors = {"concepts": torch.randn(3, 32), "near": near.roll(1, 0), "related": related}
    save_file(tensors, path, {"imagenet": json.dumps([2, 0])})
    objective = Training(words=str(path)).build(tiny)
    assert objective.imagenet.tolist() == [2, 0]
    assert torch.equal(objective.close, near.roll(1, 0))
    save_file({**tensors, "concepts": torch.randn(3, 8)}, path, {})
    with pytest.raises(SettingError, match="vectors of 8 numbers and the model has 32"):
        Training(words=str(path)).build(tiny)
    with pytest.raises(SettingError, match="cannot be read"):
        Training(words=str(tmp_path / "absent.safetensors")).build(tiny)
    with pytest.raises(SettingError, match="leave the teacher out"):
        Training().build(tiny, teacher=object())


def test_a_vit_is_refused_with_the_name_of_what_trains_it() -> None:
    with pytest.raises(SettingError, match="mini_clip_vit"):
        mini_clip.load(Variant(VARIANTS["tiny"].config, Weights.of("asset:mini-clip"), VARIANTS["tiny"].inference))


def test_the_scale_stays_below_clips_limit(tiny: mini_clip.MiniClip) -> None:
    objective = PLAIN.build(tiny)
    with torch.no_grad():
        tiny.clip.log_scale.fill_(math.log(400))
    objective.after_step(0)
    assert tiny.clip.logit_scale == pytest.approx(100)
