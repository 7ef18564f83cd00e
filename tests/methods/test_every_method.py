"""The contract that every file in `methods/` and in `doubles/` keeps, over every variant that needs no download.

A method that trains has a `Training`, whose contract is in test_every_objective.py; one that has none is frozen as a
whole.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from shelf import doubles
from torch import Tensor, nn
from torch.nn import functional

from lexiseg import catalog, settings
from lexiseg.encoders.prompts import Prompts
from lexiseg.inference import checking, windows
from lexiseg.inference.upsample import values_at
from lexiseg.proposals._proposals import SURE, Proposals
from lexiseg.segmenter import DenseLogits, Embedding, Inference, MaskScores, Segmenter, Traits, Variant
from lexiseg.vocabulary import Vocabulary
from lexiseg.weights import Weights

PROMPTS = Prompts(("a photo of a {}.", "{}"))
WORDS = Vocabulary("cat, grass, sky, road, dog")
SIZES = [(1, 1), (7, 33), (64, 48), (65, 40)]  # height, width


def offline(variant: Variant) -> bool:
    return variant.weights is None or variant.weights.kind == "asset"


def offline_models() -> Iterator[str]:
    with doubles():
        models = catalog.models()
    for name, variant in models.items():
        # "custom" stands for the user's own weights, so that nothing can be loaded without them
        if offline(variant) and not name.endswith("/custom"):
            yield name


def every_method() -> list[str]:
    with doubles():
        return catalog.names("methods")


@pytest.fixture(autouse=True, scope="module")
def _doubles() -> Iterator[None]:
    """The methods of `doubles/` are on the shelf too."""
    with doubles():
        yield


@pytest.fixture(scope="module", params=list(offline_models()))
def model(request: pytest.FixtureRequest) -> Model:
    return Model(request.param)


class Model:
    """One "method/variant", loaded once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.module, self.variant = catalog.resolve(name)
        self.segmenter: Any = self.module.load(self.variant)
        self.traits: Traits = self.module.traits(self.variant.config)
        self.own_background = self.traits.background == "own"


@pytest.fixture(scope="module", params=every_method())
def method(request: pytest.FixtureRequest) -> ModuleType:
    return catalog.get("methods", request.param)


def images(height: int = 64, width: int = 48, *, batch: int = 2) -> Tensor:
    """Smooth random pictures, RGB bytes."""
    generator = torch.Generator().manual_seed(height * 100 + width)
    coarse = torch.randint(0, 256, (batch, 3, 4, 4), generator=generator).float()
    return functional.interpolate(coarse, size=(height, width), mode="bilinear").to(torch.uint8)


@torch.no_grad()
def run(segmenter: Any, pictures: Tensor, words: Vocabulary = WORDS) -> DenseLogits | MaskScores:
    classifier = segmenter.embed_text(words, PROMPTS)
    result: DenseLogits | MaskScores = segmenter.classify(look(segmenter, pictures), classifier)
    return result


def look(segmenter: Any, pictures: Tensor) -> Embedding:
    embedding: Embedding = segmenter.finish(segmenter.embed_image(pictures))
    return embedding


def dense(result: DenseLogits | MaskScores) -> Tensor:
    """What the decoder takes the best channel of, on the result's own grid [B, C, h, w]."""
    result = result.float()  # as the decoder does
    if isinstance(result, DenseLogits):
        return result.logits
    return torch.einsum("bnhw,bnc->bchw", result.weigh(result.masks), result.scores)


def close(one: Tensor, other: Tensor, *, tolerance: float = 1e-4) -> bool:
    scale = max([1.0, *other.abs().flatten().tolist()])
    return one.shape == other.shape and bool(((one - other).abs() <= tolerance * scale).all())


# --- what comes out


def test_a_model_is_a_segmenter_and_a_module(model: Model) -> None:
    assert isinstance(model.segmenter, Segmenter)
    assert isinstance(model.segmenter, nn.Module)
    assert not model.segmenter.training
    assert isinstance(model.segmenter.config, model.module.Config)


@pytest.mark.parametrize("size", SIZES)
def test_there_is_one_channel_per_class_at_any_size(model: Model, size: tuple[int, int]) -> None:
    result = run(model.segmenter, images(*size))
    channels = dense(result)
    assert channels.shape[:2] == (2, len(WORDS) + model.own_background)
    assert result.background == model.own_background
    assert min(channels.shape[2:]) >= 1
    assert channels.isfinite().all()


@pytest.mark.parametrize("size", SIZES)
def test_what_classify_returns_is_what_the_contract_says(model: Model, size: tuple[int, int]) -> None:
    """The machinery checks the same of every result, and tells whoever runs the method."""
    for words in (WORDS, WORDS.with_background("wall")):
        result = checking.check(run(model.segmenter, images(*size, batch=1), words), model.name, words)
        checking.check_covers(result.covers, result.grid, size, model.name)
        assert dense(checking.sound(result)).isfinite().all()


def test_background_words_fill_one_last_channel(model: Model) -> None:
    with_background = WORDS.with_background("wall, tree")
    result = run(model.segmenter, images(), with_background)
    assert result.background
    assert dense(result).shape[1] == len(WORDS) + 1


def test_class_order_only_permutes_channels(model: Model) -> None:
    order = [3, 0, 4, 2, 1]
    straight = dense(run(model.segmenter, images()))
    permuted = dense(run(model.segmenter, images(), Vocabulary([WORDS.names[place] for place in order])))
    assert close(permuted[:, : len(order)], straight[:, order])
    assert close(permuted[:, len(order) :], straight[:, len(order) :])


def test_images_of_a_batch_do_not_mix(model: Model) -> None:
    pictures = images(batch=3)
    together = dense(run(model.segmenter, pictures))
    alone = torch.cat([dense(run(model.segmenter, picture[None])) for picture in pictures])
    assert close(together, alone)
    assert not close(together[0], together[1])


def test_other_statistics_are_another_light(model: Model) -> None:
    """A picture of half the contrast, seen with a deviation of half the size, is the picture itself."""
    given = images() // 2 * 2
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    shifted, halved = tuple(each / 2 for each in mean), tuple(each / 2 for each in std)
    if "statistics" not in settings.names(model.variant.config):
        pytest.skip("this method's networks have statistics of their own")
    plain, dark = (
        model.module.load(
            dataclasses.replace(model.variant, config=dataclasses.replace(model.variant.config, statistics=statistics))
        )
        for statistics in ((mean, std), (shifted, halved))
    )
    with torch.no_grad():
        bright, half = plain.embed_image(given), dark.embed_image(given // 2)
    assert close(half.features, bright.features)


def test_traits_are_known_before_anything_is_loaded(model: Model) -> None:
    assert isinstance(model.traits, Traits)
    assert model.segmenter.traits == model.traits
    assert model.segmenter.patch >= 1
    assert model.segmenter.multiple % model.segmenter.patch == 0


def test_an_embedding_names_what_is_per_image(model: Model) -> None:
    """Images that were embedded together can be taken apart, and each is what it would have been alone."""
    pictures = images(batch=3)
    with torch.no_grad():
        together = model.segmenter.embed_image(pictures)
        assert isinstance(together, Embedding)
        classifier = model.segmenter.embed_text(WORDS, PROMPTS)
        for place in range(3):
            taken, alone = windows.take(together, place), model.segmenter.embed_image(pictures[place, None])
            for name in (*together.grid_fields, *together.per_image):
                assert close(getattr(taken, name).float(), getattr(alone, name).float())
            ours, theirs = (
                dense(model.segmenter.classify(model.segmenter.finish(each), classifier)) for each in (taken, alone)
            )
            assert close(ours, theirs)


@pytest.mark.parametrize("size", SIZES)
def test_a_method_with_regions_offers_them_as_proposals(model: Model, size: tuple[int, int]) -> None:
    with torch.no_grad():
        embedding = look(model.segmenter, images(*size))
    assert model.traits.regions == hasattr(embedding, "proposals")
    if not model.traits.regions:
        return
    found = embedding.proposals
    assert isinstance(found, Proposals)
    assert found.masks.ndim == 4
    assert len(found.masks) == 2
    assert found.valid.shape == found.masks.shape[:2]
    assert found.valid.dtype == torch.bool
    assert found.valid.any()
    masks = found.at(size)
    assert masks.shape[-2:] == size
    assert masks.isfinite().all()
    assert (masks[~found.valid] == 0).all()


def test_a_method_says_whether_it_takes_masks_from_outside(model: Model) -> None:
    assert model.traits.accepts_masks == ("proposals" in inspect.signature(model.segmenter.embed_image).parameters)


def parts(height: int = 64, width: int = 48, *, batch: int = 2) -> Proposals:
    """The left and the right side of each picture, and what is above a slope, which overlaps both."""
    rows, columns = torch.arange(height)[:, None] / height, torch.arange(width) / width
    masks = torch.stack([columns < 0.4 + 0 * rows, columns >= 0.4 + 0 * rows, rows < columns])
    return Proposals.of_weights(masks[None].expand(batch, -1, -1, -1))


def run_with(model: Model, masks: Proposals, pictures: Tensor) -> MaskScores:
    if not model.traits.accepts_masks:
        pytest.skip("this method does not take masks from outside")
    with torch.no_grad():
        embedding = model.segmenter.finish(model.segmenter.embed_image(pictures, masks))
        assert torch.equal(embedding.proposals.valid, masks.valid)
        result = model.segmenter.classify(embedding, model.segmenter.embed_text(WORDS, PROMPTS))
    assert isinstance(result, MaskScores)
    return result


def at_pixels(result: MaskScores, height: int = 64, width: int = 48) -> Tensor:
    """What the decoder takes the best channel of [B, C, H, W]."""
    rows, columns = np.arange(height), np.arange(width)
    each = (
        dataclasses.replace(result, masks=one[None], scores=scores[None])
        for one, scores in zip(result.float().masks, result.float().scores, strict=True)
    )
    return torch.stack([values_at(one, (height, width), rows, columns) for one in each])


def test_masks_from_outside_are_what_is_classified(model: Model) -> None:
    """Their order means nothing, nor do masks that are not valid, and the pictures of a batch do not mix."""
    masks, pictures = parts(), images()
    result = at_pixels(run_with(model, masks, pictures))
    assert not close(result, at_pixels(run_with(model, parts(), images().flip(3))))
    order = torch.tensor([2, 0, 1])
    shuffled = Proposals(masks.masks[:, order], masks.valid[:, order])
    assert close(at_pixels(run_with(model, shuffled, pictures)), result)
    everywhere, none = torch.full_like(masks.masks[:, :1], SURE), torch.zeros_like(masks.valid[:, :1])
    more = Proposals(torch.cat([everywhere, masks.masks], 1), torch.cat([none, masks.valid], 1))
    assert close(at_pixels(run_with(model, more, pictures)), result)
    first = Proposals(masks.masks[:1], masks.valid[:1])
    assert close(at_pixels(run_with(model, first, pictures[:1])), result[:1])
    coarse = Proposals(functional.avg_pool2d(masks.masks.float(), 2), masks.valid)
    assert torch.corrcoef(torch.stack([at_pixels(run_with(model, coarse, pictures)).flatten(), result.flatten()]))[
        0, 1
    ] > 0.9  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_a_picture_without_valid_masks_has_no_scores(model: Model, size: tuple[int, int]) -> None:
    masks = Proposals.of_weights(torch.zeros(1, 1, *size))
    result = run_with(model, masks, images(*size, batch=1))
    checking.check(result, model.name, WORDS)
    assert checking.sound(result).scores.isfinite().all()
    assert (at_pixels(result, *size)[:, :-1].abs() < 1e-3).all()


def test_a_picture_of_one_window_is_finished_as_the_whole(model: Model) -> None:
    size = 2 * model.segmenter.multiple
    with torch.no_grad():
        embedding = model.segmenter.embed_image(images(size, size, batch=1))
        box = windows.Box(0, 0, size, size)
        if not windows.fits(box, embedding, model.segmenter.patch):
            pytest.skip("this method classifies each window")
        stitched = windows.stitch([(box, embedding)], (size, size), model.segmenter.patch)
        for name in embedding.grid_fields:
            one, other = (getattr(model.segmenter.finish(each), name) for each in (embedding, stitched))
            assert close(one, other)


def test_only_a_method_that_says_so_reads_which_classes_were_seen(model: Model) -> None:
    seen, unseen = (Vocabulary(WORDS, seen=[flag] * len(WORDS)) for flag in (True, False))
    one, other = (dense(run(model.segmenter, images(), words)) for words in (seen, unseen))
    assert torch.equal(one, other) != model.traits.reads_seen


def test_asking_twice_gives_the_same(model: Model) -> None:
    classifier = model.segmenter.embed_text(WORDS, PROMPTS)
    with torch.no_grad():
        embedding = model.segmenter.embed_image(images())
        first = dense(model.segmenter.classify(embedding, classifier))
        model.segmenter.classify(embedding, model.segmenter.embed_text(Vocabulary("sea"), PROMPTS))
        second = dense(model.segmenter.classify(embedding, classifier))
    assert torch.equal(first, second)
    assert torch.equal(first, dense(run(model.segmenter, images())))


def test_one_class_takes_every_pixel_unless_the_method_has_a_background_of_its_own(model: Model) -> None:
    result = run(model.segmenter, images(), Vocabulary("sky"))
    if model.own_background:
        assert result.background
        assert dense(result).shape[1] == 2
    else:
        assert not result.background
        assert (dense(result).argmax(1) == 0).all()
        assert dense(result).shape[1] == 1


def test_the_words_of_a_class_vote_by_the_best(model: Model) -> None:
    """The second word can only help its class; where logits are dense, a class is as good as its best word."""
    alone = run(model.segmenter, images(), Vocabulary("cat, dog, sky, road"))
    voting = run(model.segmenter, images(), Vocabulary([("cat", "dog"), "sky", "road"]))
    if isinstance(voting, DenseLogits) and not model.own_background:
        best = dense(alone)[:, :2].amax(1, keepdim=True)
        assert close(dense(voting), torch.cat([best, dense(alone)[:, 2:]], dim=1))
    else:
        single = dense(run(model.segmenter, images(), Vocabulary("cat, sky, road")))
        assert (dense(voting)[:, 0] >= single[:, 0] - 1e-5).all()


def test_embedding_needs_no_words(model: Model) -> None:
    """An image that was embedded before the words were known gives the same as one embedded after."""
    fresh = model.module.load(model.variant)
    with torch.no_grad():
        embedding = fresh.embed_image(images())
        before = dense(fresh.classify(embedding, fresh.embed_text(WORDS, PROMPTS)))
    assert torch.equal(before, dense(run(model.segmenter, images())))


def test_rows_can_be_classified_apart_unless_the_method_says_no(model: Model) -> None:
    """Large images are classified in bands of rows; the trait `whole_image` forbids it."""
    classifier = model.segmenter.embed_text(WORDS, PROMPTS)
    with torch.no_grad():
        embedding = model.segmenter.embed_image(images(96, 64))
        fields = embedding.grid_fields
        if not fields or model.traits.whole_image:
            pytest.skip("this method classifies an image at once")
        whole = model.segmenter.classify(embedding, classifier)
        for rows in (slice(0, 1), slice(1, None)):
            band = dataclasses.replace(embedding, **{name: getattr(embedding, name)[:, :, rows] for name in fields})
            result = model.segmenter.classify(band, classifier)
            assert close(dense(result), dense(whole)[:, :, rows])
            if whole.covers:  # a band covers its part of it
                assert result.covers[0] * whole.grid[0] == whole.covers[0] * result.grid[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_runs_on_the_cpu_without_nan(model: Model, dtype: torch.dtype) -> None:
    single = dense(run(model.segmenter, images()))
    half = model.module.load(model.variant).to(dtype)
    low = dense(run(half, images()))
    assert low.shape == single.shape
    assert low.isfinite().all()
    # the classes keep their places: a wrong cast would not leave them alike
    assert torch.corrcoef(torch.stack([low.float().flatten(), single.flatten()]))[0, 1] > 0.9


# --- weights


def test_saving_and_loading_changes_nothing(model: Model, tmp_path: Path) -> None:
    model.module.save(model.segmenter, tmp_path)
    again = model.module.load(dataclasses.replace(model.variant, weights=Weights.of(tmp_path)))
    assert close(dense(run(again, images())), dense(run(model.segmenter, images())), tolerance=1e-5)


def test_a_saved_folder_says_what_it_is(model: Model, tmp_path: Path) -> None:
    method = model.name.partition("/")[0]
    catalog.save(model.segmenter, tmp_path, method=method, inference=model.variant.inference)
    again, inference = catalog.load(tmp_path)
    assert inference == model.variant.inference
    assert again.config == model.segmenter.config  # type: ignore[attr-defined]
    assert close(dense(run(again, images())), dense(run(model.segmenter, images())), tolerance=1e-5)


def test_a_method_that_does_not_train_is_frozen(model: Model) -> None:
    if hasattr(model.module, "Training"):
        assert any(parameter.requires_grad for parameter in model.segmenter.parameters())
        return
    assert not any(parameter.requires_grad for parameter in model.segmenter.parameters())
    embedding = model.segmenter.embed_image(images())
    result = model.segmenter.classify(embedding, model.segmenter.embed_text(WORDS, PROMPTS))
    assert not dense(result).requires_grad


# --- the module


def test_a_method_has_a_tiny_variant_without_weights(method: ModuleType) -> None:
    assert method.VARIANTS["tiny"].weights is None


def test_settings_are_frozen_and_survive_json(method: ModuleType) -> None:
    for variant in method.VARIANTS.values():
        with pytest.raises(dataclasses.FrozenInstanceError):
            variant.config.anything = 1
        for value in (variant.config, variant.inference):
            assert settings.from_json(type(value), json.loads(json.dumps(settings.to_json(value)))) == value


def test_no_setting_of_a_method_hides_one_of_inference(method: ModuleType) -> None:
    """`--set` looks in Config first, so a name in both could not be set in the second."""
    assert not set(settings.names(method.Config())) & set(settings.names(Inference()))


def test_presets_name_settings_that_exist(method: ModuleType) -> None:
    name = method.__name__.rpartition(".")[2]
    for preset in getattr(method, "PRESETS", {}):
        for variant in method.VARIANTS:
            assert catalog.resolve(f"{name}/{variant}", preset=preset)


def test_every_variant_says_what_it_is_and_names_prompts_that_exist(method: ModuleType) -> None:
    for variant in method.VARIANTS.values():
        assert variant.about
        assert all("{}" in sentence for sentence in Prompts.open(variant.inference.prompts).sentences)
        assert variant.inference.multiple >= 1
