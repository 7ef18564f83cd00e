from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from lexiseg import catalog
from lexiseg.encoders.prompts import Prompts
from lexiseg.errors import SettingError
from lexiseg.layers.pixels import CLIP_MEAN, CLIP_STD, normalise
from lexiseg.methods import maskclip, mini_clip_vit
from lexiseg.methods.mini_clip_vit import VARIANTS, Config, Objective, Training, choose, relight
from lexiseg.segmenter import Inference, Variant

BARE = Prompts(("{}",))

torch.set_num_threads(1)  # for tensors this small, threads only wait for each other

CONCEPTS = 5


def tiny() -> mini_clip_vit.MiniClip:
    return mini_clip_vit.load(VARIANTS["tiny"])


def pictures(*size: int, seed: int = 0) -> torch.Tensor:
    """Random RGB bytes of (count, height, width)."""
    count, *sides = size
    return torch.randint(0, 256, (count, 3, *sides), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def seen(images: torch.Tensor) -> torch.Tensor:
    return normalise(images, "clip")


def batch(labels: list[int], *, exact: bool = False, seed: int = 0) -> dict:
    """Pictures of 32 pixels, each with one label all over; the last patch of each is in a second cell, unknown."""
    generator = torch.Generator().manual_seed(seed)
    count = len(labels)
    maps = torch.tensor(labels)[:, None, None].expand(-1, 4, 4).clone()
    cells = torch.zeros(count, 4, 4, dtype=torch.long)
    maps[:, 3, 3], cells[:, 3, 3] = -1, 1
    return {
        "keys": [str(at) for at in range(count)],
        "images": pictures(count, 32, 32, seed=seed),
        "light": torch.tensor([[1.0, 0.0, 0.0, 0.0]] * count),
        "labels": maps,
        "cells": cells,
        "exact": torch.tensor([[exact, False, False, False]] * count),
        "absent": torch.tensor([[False, True, False, True, False]] * count),
        "sentences": [("a photo of a cat.", "dog")] * count,
        "words": torch.tensor([[1, -1]] * count),
        "meanings": functional.normalize(torch.randn(count, 2, 32, generator=generator), dim=-1),
    }


def plain(**changes) -> Training:
    """Without taking frequencies out."""
    return Training(concepts=CONCEPTS, balance=0.0, **changes)


def with_relation(objective: Objective, first: int, second: int) -> Objective:
    objective.related[first, second] = objective.related[second, first] = True
    return objective


def losses(objective: Objective, data: dict) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return objective(data)


def test_patches_are_those_of_maskclip_and_the_class_token_is_clips_own():
    segmenter, images = tiny(), pictures(2, 40, 48)
    with torch.no_grad():
        dense = segmenter.embed_image(images).features
        expected = maskclip.MaskClip(segmenter.clip, maskclip.Config()).embed_image(images).features
        vision = segmenter.clip.vision
        _, image = mini_clip_vit.last_block(vision, vision.tokens(seen(images))[0])
        torch.testing.assert_close(dense, expected)
        torch.testing.assert_close(vision.project(image), segmenter.clip.image_features(seen(images)))


def test_dropping_no_patches_is_the_plain_pass():
    segmenter = tiny()
    objective = Objective(segmenter, Training(concepts=CONCEPTS, keep=1.0))
    images = pictures(2, 32, 32)
    with torch.no_grad():
        places, image, kept = objective._embed(seen(images), (4, 4))
        torch.testing.assert_close(places.mT.reshape(2, -1, 4, 4), segmenter.embed_image(images).features)
        torch.testing.assert_close(image, segmenter.clip.image_features(seen(images)))
    assert kept.tolist() == [list(range(16))] * 2


def test_light_scales_levels_around_the_middle_and_brightens_each_channel():
    images = pictures(2, 3, 5)
    light = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.7, 0.1, -0.2, 0.0]])
    mean, std = (np.reshape(of, (3, 1, 1)) for of in (CLIP_MEAN, CLIP_STD))
    contrast, gain = np.array([1, 0.7]).reshape(2, 1, 1, 1), np.array([[0, 0, 0], [0.1, -0.2, 0]]).reshape(2, 3, 1, 1)
    expected = (0.5 + contrast * (images.numpy() / 255 - 0.5) + gain - mean) / std
    np.testing.assert_allclose(relight(seen(images), light, "clip"), expected, atol=1e-5)


def test_a_share_of_the_patches_is_drawn_for_each_picture_without_repeats():
    kept = choose(50, 16, 0.5, torch.device("cpu"))
    assert kept.shape == (50, 8)
    assert all(row == sorted(set(row)) for row in kept.tolist())
    assert kept.unique().tolist() == list(range(16))
    assert len({tuple(row) for row in kept.tolist()}) > 40


@pytest.mark.parametrize("exact", [False, True])
def test_a_related_concept_is_no_negative_and_an_unrelated_one_is(exact):
    def image_losses(objective: Objective) -> torch.Tensor:
        found = losses(objective, batch([0, 0, 0, 0], exact=exact))
        return torch.stack([found["places"], found["regions"], found["image"]])

    def moved(objective: Objective) -> Objective:
        objective.concepts[2] = -objective.concepts[2]
        return objective

    def fresh() -> Objective:
        return Objective(tiny(), plain())

    related = image_losses(with_relation(fresh(), 0, 2))
    torch.testing.assert_close(image_losses(moved(with_relation(fresh(), 0, 2))), related)
    assert not torch.allclose(image_losses(moved(fresh())), image_losses(fresh()))


def test_a_concept_in_the_picture_counts_although_it_is_related_to_another():
    data = batch([0, 0])
    data["labels"][:, :2] = 2  # half of each picture
    objective = with_relation(Objective(tiny(), plain(keep=1.0, image=1.0)), 0, 2)
    with torch.no_grad():
        vectors = functional.normalize(objective.segmenter.clip.image_features(seen(data["images"])), dim=-1)
        scores = (vectors @ objective.concepts.T * objective.segmenter.clip.log_scale.exp()).log_softmax(dim=1)
        expected = -(scores[:, 0] * 7 / 15 + scores[:, 2] * 8 / 15).mean()
        torch.testing.assert_close(losses(objective, data)["image"], expected)


def test_places_are_weighted_by_whether_their_labels_are_exact():
    rough = Objective(tiny(), plain(keep=1.0, roughly=0.25))
    exactly = losses(rough, batch([0, 1], exact=True))
    roughly = losses(rough, batch([0, 1], exact=False))
    torch.testing.assert_close(roughly["places"], exactly["places"] * 0.25)
    assert exactly["regions"] == 0
    assert roughly["regions"] > 0


def test_regions_take_the_mean_of_the_patches_of_each_cell():
    objective = Objective(tiny(), plain(keep=1.0))
    data = batch([0, 1])
    data["labels"][:, 3, 3] = 4  # the second cell is known now
    with torch.no_grad():
        places, _, _ = objective._embed(seen(data["images"]), (4, 4))
        cosines = functional.normalize(places, dim=-1) @ objective.concepts.T * objective.segmenter.clip.log_scale.exp()
        means = torch.stack([cosines[:, :15].mean(dim=1), cosines[:, 15]], dim=1).flatten(0, 1)
        expected = functional.cross_entropy(means, torch.tensor([0, 4, 1, 4]))
        torch.testing.assert_close(losses(objective, data)["regions"], expected)


def test_what_is_absent_may_have_no_share():
    objective = with_relation(Objective(tiny(), plain(keep=1.0, absent=2.0)), 0, 4)
    data = batch([0, 0])
    data["labels"][0, 0] = -2  # none of the listed: 1 and 3
    data["labels"][1, 0] = -3 - 4  # not 4, nor 0, which is related to it
    with torch.no_grad():
        places, _, _ = objective._embed(seen(data["images"]), (4, 4))
        cosines = functional.normalize(places, dim=-1) @ objective.concepts.T * objective.segmenter.clip.log_scale.exp()
        shares = cosines.softmax(dim=-1)[:, :4]
        left = torch.cat([shares[0][:, [0, 2, 4]].sum(dim=1), shares[1][:, [1, 2, 3]].sum(dim=1)])
        torch.testing.assert_close(losses(objective, data)["absent"], 2 * -left.log().mean())


def test_frequent_concepts_are_believed_less_often_the_more_balance_there_is():
    """What the vectors must say is the posterior over the frequencies: at full balance all concepts count alike."""
    even, seen = (
        Objective(tiny(), plain(keep=1.0)),
        Objective(tiny(), Training(concepts=CONCEPTS, keep=1.0, balance=1.0)),
    )
    for objective in (even, seen):
        objective.eval()
        objective.frequency.copy_(torch.tensor([0.9, 0.025, 0.025, 0.025, 0.025]))
    frequent, seldom = batch([0, 0], exact=True), batch([1, 1], exact=True)
    assert losses(seen, frequent)["places"] < losses(even, frequent)["places"]
    assert losses(seen, seldom)["places"] > losses(even, seldom)["places"]


def test_frequencies_follow_the_labels_in_training_alone():
    objective = Objective(tiny(), Training(concepts=CONCEPTS, keep=1.0))
    for _ in range(600):
        objective._prior(torch.tensor([[0, 0, 0, 2, -1, -2]]))
    torch.testing.assert_close(objective.frequency, torch.tensor([0.75, 0, 0.25, 0, 0]), atol=1e-2, rtol=0)
    before = objective.eval().frequency.clone()
    objective._prior(torch.tensor([[1]]))
    torch.testing.assert_close(objective.frequency, before)


def test_pictures_of_which_nothing_is_known_teach_nothing():
    objective = Objective(tiny(), Training(concepts=CONCEPTS))
    data = batch([-1, -1])
    found = losses(objective, data)
    assert found["places"] == found["regions"] == found["image"] == found["absent"] == 0
    sum(found.values()).backward()  # and still have gradients


def test_words_are_compared_with_their_places():
    objective = Objective(tiny(), Training(concepts=CONCEPTS, text=2.0))
    data = batch([0])
    clip = objective.segmenter.clip
    with torch.no_grad():
        cat, dog = functional.normalize(clip.embed_words(["cat", "dog"], BARE), dim=-1)
        data |= {"sentences": [("cat", "dog")]}
        cosines = torch.stack([cat @ objective.concepts[1], dog @ data["meanings"][0, 1]])
        logits = clip.log_scale.exp() * cat @ objective.concepts.T
        expected = (1 - cosines).mean() + 0.5 * functional.cross_entropy(logits[None], torch.tensor([1]))
        torch.testing.assert_close(losses(objective, data)["text"], 2 * expected)


def test_words_can_be_learned_without_pictures():
    objective = Objective(tiny(), Training(concepts=CONCEPTS))
    data = batch([0, 1])
    with torch.no_grad():
        expected = losses(objective, data)["text"]
        found = losses(objective, {name: data[name] for name in ("keys", "sentences", "words", "meanings")})
    assert found == {"text": expected}


def test_gradients_reach_all_of_the_clip_and_the_words_places_stay():
    objective = Objective(tiny(), Training(concepts=CONCEPTS))
    sum(losses(objective, batch([0, 1, 2, 3])).values()).backward()
    names = {name for name, _ in objective.named_parameters()}
    reached = {name for name, one in objective.named_parameters() if one.grad is not None and one.grad.any()}
    # a key's bias adds the same to all logits of a softmax, so its gradient is zero but for rounding
    assert names - reached <= {name for name in names if name.endswith("k_proj.bias")}
    assert not any("concepts" in name for name in names)


def test_the_scale_stays_below_clips_largest():
    objective = Objective(tiny(), Training(concepts=CONCEPTS))
    with torch.no_grad():
        objective.segmenter.clip.log_scale.fill_(9.0)
    objective.after_step(0)
    assert objective.segmenter.clip.logit_scale == pytest.approx(100)


def test_places_of_words_come_from_the_prepared_file(tmp_path):
    vectors = functional.normalize(torch.randn(3, 32), dim=-1)
    related = torch.zeros(3, 3, dtype=torch.bool)
    path = tmp_path / "words.safetensors"
    save_file({"concepts": vectors.half(), "related": related}, path, {"concepts": json.dumps([])})
    objective = Objective(tiny(), Training(words=str(path)))
    torch.testing.assert_close(objective.concepts, vectors.half().float())
    save_file({"concepts": vectors[:, :8].contiguous(), "related": related}, path)
    with pytest.raises(SettingError, match="vectors of 8 numbers"):
        Objective(tiny(), Training(words=str(path)))
    path.write_bytes(b"nothing")
    with pytest.raises(SettingError, match="prepare the words"):
        Objective(tiny(), Training(words=str(path)))


@pytest.mark.parametrize(("name", "value"), [("keep", 0.0), ("keep", 1.5), ("concepts", 1)])
def test_settings_that_make_no_sense_are_refused(name, value):
    with pytest.raises(SettingError, match=name):
        Training(**{name: value})


def test_a_resnet_is_trained_on_what_maskclip_reads_of_it():
    segmenter = mini_clip_vit.load(Variant(Config("tiny-rn"), None, Inference()))
    vision, images = segmenter.clip.vision, pictures(2, 96, 64)
    objective = Objective(segmenter, plain(keep=1.0))
    with torch.no_grad():
        dense = segmenter.embed_image(images).features  # [2, D, 3, 2]
        torch.testing.assert_close(
            dense, maskclip.MaskClip(segmenter.clip, maskclip.Config()).embed_image(images).features
        )
        places, image, kept = objective._embed(seen(images), (12, 8))
        finer = functional.interpolate(dense, size=(12, 8), mode="bilinear", align_corners=False)
        torch.testing.assert_close(places.mT.reshape(2, -1, 12, 8), finer)
        torch.testing.assert_close(image, vision(seen(images)))
        assert kept.tolist() == [list(range(96))] * 2


def test_a_resnet_drops_places_behind_the_tower_alone():
    objective = Objective(mini_clip_vit.load(Variant(Config("tiny-rn"), None, Inference())), plain(keep=0.25))
    images = pictures(2, 32, 32)
    torch.manual_seed(0)
    with torch.no_grad():
        places, _, kept = objective._embed(seen(images), (4, 4))
        everything, _, _ = Objective(objective.segmenter, plain(keep=1.0))._embed(seen(images), (4, 4))
        torch.testing.assert_close(places, everything.gather(1, kept[..., None].expand(-1, -1, 32)))
    assert places.shape[1] == 4
    sum(objective(batch([0, 1])).values()).backward()
    assert objective.segmenter.clip.vision.conv1.weight.grad.abs().sum() > 0


def test_a_text_tower_that_knows_the_words_can_be_taken():
    segmenter = mini_clip_vit.load(Variant(Config("base-rn", text_tower="asset:mini-clip"), None, Inference()))
    known = mini_clip_vit.load(VARIANTS["mini"])
    sentences = ["a photo of a cat.", "grass"]
    torch.testing.assert_close(segmenter.clip.embed_words(sentences, BARE), known.clip.embed_words(sentences, BARE))


def test_without_a_weight_for_words_none_are_read():
    segmenter = tiny()
    found = Objective(segmenter, plain(text=0.0))(batch([0, 1]) | {"sentences": None, "words": None, "meanings": None})
    assert sorted(found) == ["absent", "image", "places", "regions"]


def test_transformers_loads_what_is_saved_and_sees_the_same(tmp_path):
    from PIL import Image
    from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

    catalog.save(tiny().half(), tmp_path, method="mini_clip_vit", inference=VARIANTS["tiny"].inference)
    model, tokenizer = CLIPModel.from_pretrained(tmp_path).float().eval(), AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.eos_token_id == max(tokenizer.get_vocab().values())
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    pixels = CLIPImageProcessorPil.from_pretrained(tmp_path)(Image.fromarray(picture), return_tensors="pt")
    again, _ = catalog.load(tmp_path)
    with torch.no_grad():
        texts = model.get_text_features(**tokenizer(["a cat", "grass"], padding=True, return_tensors="pt"))
        image = model.get_image_features(**pixels)
        texts, image = (getattr(one, "pooler_output", one) for one in (texts, image))
        expected = functional.normalize(texts, dim=-1)
        torch.testing.assert_close(again.clip.embed_words(["a cat", "grass"], BARE), expected)
        torch.testing.assert_close(again.clip.image_features(pixels["pixel_values"]), image)


def test_the_base_shape_is_the_embedded_models():
    base = mini_clip_vit.load(dataclasses.replace(VARIANTS["mini"], weights=None))
    embedded = mini_clip_vit.load(VARIANTS["mini"])
    shapes = {name: one.shape for name, one in base.clip.named_parameters()}
    assert shapes == {name: one.shape for name, one in embedded.clip.named_parameters()}
