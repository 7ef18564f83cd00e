"""SimSeg against independent readings of docs/papers/simseg.md: sorting, numpy, scipy.ndimage, closed forms."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from scipy import ndimage
from skimage.filters import threshold_otsu
from torch import Tensor
from torch.nn import functional

import lexiseg
from lexiseg import catalog
from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_shape import TINY_RESNET
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import TextCache
from lexiseg.errors import SettingError, WeightsError
from lexiseg.layers.pixels import IMAGENET_MEAN, normalise
from lexiseg.methods import simseg
from lexiseg.methods.simseg import (
    Config,
    SimSeg,
    SimSegEmbedding,
    Training,
    candidates,
    loda_pool,
    similarity,
    word_masks,
)
from lexiseg.segmenter import TextClassifier
from lexiseg.vocabulary import Vocabulary

BARE = Prompts(("{}",))

SINGLE = Prompts.open("single")
SENTENCES = ["a photo of a cat.", "sky", "two dogs on grass"]


def randn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def pictures(*size: int, seed: int = 0) -> Tensor:
    """Random RGB bytes of (count, height, width)."""
    count, *sides = size
    return torch.randint(0, 256, (count, 3, *sides), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def tiny(architecture: str = "tiny", **changes: Any) -> SimSeg:
    segmenter, _ = catalog.load(f"simseg/{architecture}", **changes)
    assert isinstance(segmenter, SimSeg)
    return segmenter


# --- pooling (§2.2)


def sorted_mean(tokens: Tensor, k: int, lengths: Sequence[int]) -> np.ndarray:
    """Row by row, channel by channel: sort what counts, take the mean of the last k, normalise."""
    rows = []
    for row, length in zip(tokens.double().numpy(), lengths, strict=True):
        pooled = np.array([np.mean(np.sort(row[:length, channel])[-k:]) for channel in range(row.shape[1])])
        rows.append(pooled / (np.sqrt((pooled**2).sum()) + 1e-8))
    return np.stack(rows)


@pytest.mark.parametrize("k", [1, 3, 5, 9])
def test_each_channel_is_the_mean_of_its_own_largest(k: int) -> None:
    tokens = randn(4, 9, 6)
    np.testing.assert_allclose(loda_pool(tokens, k), sorted_mean(tokens, k, [9] * 4), atol=1e-6)


def test_all_tokens_are_the_plain_mean() -> None:
    tokens = randn(4, 9, 6)
    expected = functional.normalize(tokens.mean(dim=1), dim=-1)
    torch.testing.assert_close(loda_pool(tokens, None), expected)
    torch.testing.assert_close(loda_pool(tokens, 100), expected)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_masked_tokens_never_count_and_each_sentence_bounds_its_own_k(k: int) -> None:
    tokens, lengths = randn(3, 8, 6), [2, 8, 4]
    mask = torch.arange(8) < torch.tensor(lengths)[:, None]
    np.testing.assert_allclose(loda_pool(tokens, k, mask=mask), sorted_mean(tokens, k, lengths), atol=1e-6)


def test_the_shortest_sentence_bounds_k_for_all_as_released() -> None:
    tokens, lengths = randn(3, 8, 6), [2, 8, 4]
    mask = torch.arange(8) < torch.tensor(lengths)[:, None]
    for k in (5, None):
        pooled = loda_pool(tokens, k, mask=mask, k_of="batch")
        np.testing.assert_allclose(pooled, sorted_mean(tokens, 2, lengths), atol=1e-6)


def test_without_a_mask_padding_can_win() -> None:
    tokens = torch.tensor([[[1.0, 1.0], [0.0, 9.0]]])
    mask = torch.tensor([[True, False]])
    torch.testing.assert_close(loda_pool(tokens, 1, mask=mask), torch.tensor([[0.5, 0.5]]).sqrt())
    assert loda_pool(tokens, 1)[0, 1] > 0.99


@pytest.mark.parametrize("architecture", ["tiny", "tiny-clip"])
def test_masked_text_does_not_depend_on_its_neighbours_and_unmasked_text_has_a_fixed_length(architecture: str) -> None:
    model = tiny(architecture)
    with torch.no_grad():
        together, alone = model.text_vectors(SENTENCES), model.text_vectors(SENTENCES[:1])
        torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=0)
        padded, single = model.text_vectors(SENTENCES, masked=False), model.text_vectors(SENTENCES[:1], masked=False)
        torch.testing.assert_close(padded[:1], single, atol=1e-5, rtol=0)
        assert (padded[:1] - alone).abs().max() > 1e-3


@pytest.mark.parametrize("architecture", ["tiny", "tiny-clip"])
def test_long_sentences_lose_their_end(architecture: str) -> None:
    model = tiny(architecture, text_length=8)
    with torch.no_grad():
        cut, whole = model.text_vectors(["cat " * 30, "cat " * 60]), tiny(architecture).text_vectors(["cat " * 12])
    torch.testing.assert_close(cut[0], cut[1])
    assert (cut[:1] - whole).abs().max() > 1e-3


def test_the_vanilla_baseline_pools_by_class_tokens() -> None:
    model = tiny("tiny-clip", pooling="class_token")
    images = pictures(2, 40, 32)
    with torch.no_grad():
        expected = functional.normalize(model.towers.clip.image_features(normalise(images, "clip")), dim=-1)
        torch.testing.assert_close(model.image_vectors(images), expected, atol=1e-5, rtol=0)
        ids = torch.nn.utils.rnn.pad_sequence(list(map(torch.tensor, model.towers.clip.tokenizer(SENTENCES))), True)
        expected = functional.normalize(model.towers.clip.text_features(ids), dim=-1)
        torch.testing.assert_close(model.text_vectors(SENTENCES), expected, atol=1e-5, rtol=0)


# --- text and image


def test_a_word_is_the_normalised_mean_of_its_sentences() -> None:
    model = tiny()
    classifier = model.embed_text(Vocabulary("cat, sky"), Prompts(("a photo of a {}.", "{}")))
    with torch.no_grad():
        sky = model.text_vectors(["a photo of a sky.", "sky"])
    torch.testing.assert_close(classifier.weight[1], functional.normalize(sky.mean(0), dim=0))
    assert classifier.scale == pytest.approx(1 / 0.02)


@pytest.mark.parametrize("architecture", ["tiny", "tiny-clip"])
def test_words_are_kept_between_runs_where_a_cache_is_given(architecture: str, tmp_path: Path) -> None:
    words = Vocabulary("cat, dog")
    first = tiny(architecture)
    weight = first.embed_text(words, SINGLE, cache=TextCache(tmp_path)).weight
    torch.testing.assert_close(weight, tiny(architecture).embed_text(words, SINGLE).weight, atol=0, rtol=0)
    again = tiny(architecture)
    again.text_vectors = None  # type: ignore[assignment,method-assign]  # what is kept needs no text tower
    assert torch.equal(again.embed_text(words, SINGLE, cache=TextCache(tmp_path)).weight, weight)


@pytest.mark.parametrize("architecture", ["tiny", "tiny-clip"])
def test_what_is_kept_is_not_taken_for_other_pooling_or_other_weights(architecture: str, tmp_path: Path) -> None:
    words = Vocabulary("cat, dog")

    def kept(model: SimSeg) -> Tensor:
        return model.embed_text(words, SINGLE, cache=TextCache(tmp_path)).weight

    kept(tiny(architecture))
    for changes in ({"text_k": 3}, {"text_length": 4}, {"pooling": "class_token"}):
        assert torch.equal(
            kept(tiny(architecture, **changes)), tiny(architecture, **changes).embed_text(words, SINGLE).weight
        )
    trained, alike = tiny(architecture), tiny(architecture)
    for model in (trained, alike):
        (model.towers.clip if architecture == "tiny-clip" else model.towers).text_projection.weight.data.mul_(-1)
    assert torch.equal(kept(trained), alike.embed_text(words, SINGLE).weight)


def test_settings_that_sweeps_leave_to_the_end_change_nothing_in_an_embedding() -> None:
    images = pictures(1, 32, 32)
    plain = tiny()
    changes: dict[str, Any] = {"text_k": 3, "text_k_of": "batch", "text_length": 9, "ranked_classes": 3}
    changes |= {"most_classes": 2, "deviations": 0.0, "background_prompt": None, "binarise": "otsu", "closing": 3}
    assert set(changes) == set(plain.traits.classify_settings)
    one, other = plain.embed_image(images), tiny(**changes).embed_image(images)
    for name in ("features", "colours", "image"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), atol=0, rtol=0)


def test_the_background_prompt_is_one_more_word_unless_the_vocabulary_brings_its_own() -> None:
    model = tiny()
    prompted = model.embed_text(Vocabulary("cat, sky"), BARE)
    assert (len(prompted.weight), prompted.channels, prompted.background) == (3, 3, True)
    torch.testing.assert_close(prompted.weight[2:], model.embed_text(Vocabulary("background"), BARE).weight)
    own = model.embed_text(Vocabulary("cat, sky").with_background("wall, tree"), BARE)
    assert (len(own.weight), own.channels) == (4, 3)
    for quiet in (tiny(background_prompt=None), tiny(rule="dense")):
        assert not quiet.embed_text(Vocabulary("cat, sky"), BARE).background


def test_the_temperature_is_raw_and_clamped_without_gradient_outside() -> None:
    model = tiny()
    for value, scale, slope in ((0.1, 10.0, True), (2.0, 2.0, False), (1e-5, 1000.0, False)):
        model.towers.temperature.data.fill_(value)
        model.towers.temperature.grad = None
        model.logit_scale.backward()
        assert float(model.logit_scale.detach()) == pytest.approx(scale)
        assert bool(model.towers.temperature.grad.abs() > 0) == slope


def test_an_embedding_keeps_the_photographs_own_levels() -> None:
    images = pictures(2, 30, 40)
    for how, wrong in (("own", 0.0), ("truncated", 0.6)):
        model = tiny(colours=how)
        with torch.no_grad():
            colours = functional.pixel_shuffle(model.embed_image(images).colours, model.patch)
        off = (images - colours[..., :30, :40]).float()
        assert off.abs().max() <= (how == "truncated")
        assert (how == "truncated") * 0.1 <= off.mean() <= wrong
        padded = {"own": np.round, "truncated": np.trunc}[how](255 * np.array(IMAGENET_MEAN))
        assert np.array_equal(colours[0, :, 31, 7], padded)


def test_a_third_of_the_levels_are_one_lower_as_released() -> None:
    """The spec counts 36 to 62 of the 256 of a channel that the authors' arithmetic truncates to the one below."""
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, -1, -1)
    with torch.no_grad():
        embedding = tiny(colours="truncated").embed_image(levels)
    lower = (levels - functional.pixel_shuffle(embedding.colours, 8)).flatten(2).sum(dim=2)[0].tolist()
    assert min(lower) >= 36
    assert max(lower) <= 62


def test_similarity_maps_are_cosines_of_patches_and_words() -> None:
    features, weight = randn(2, 6, 3, 4), functional.normalize(randn(5, 6, seed=1), dim=-1)
    embedding = SimSegEmbedding(features, torch.zeros(2, 0, 3, 4), torch.zeros(2, 6))
    classifier = TextClassifier.of(Vocabulary("a, b, c, d, e"), weight, 50.0)
    maps = similarity(embedding, classifier)
    assert maps.shape == (2, 5, 3, 4)
    expected = np.dot(weight[4], features[1, :, 2, 3]) / np.linalg.norm(features[1, :, 2, 3])
    assert float(maps[1, 4, 2, 3]) == pytest.approx(float(expected), abs=1e-6)


def test_the_dense_rule_is_the_softmax_over_cosines() -> None:
    model = tiny(rule="dense")
    words = Vocabulary("cat, sky, road")
    with torch.no_grad():
        embedding, classifier = model.embed_image(pictures(1, 64, 64)), model.embed_text(words, BARE)
        result = model.classify(embedding, classifier)
    assert not result.background
    assert (model.traits.whole_image, model.traits.background) == (False, "none")
    torch.testing.assert_close(result.logits, similarity(embedding, classifier) / 0.02)


# --- the zero-shot rule (§2.5)


def read_of_the_spec(
    scores: np.ndarray, maps: np.ndarray, *, size: int, ranked: int, background: int, cell: int
) -> np.ndarray:
    """§2.5, 3-5 by numpy and scipy, binarised at one half: the label map, `background` where nothing claims."""
    order = np.argsort(-scores, kind="stable")
    top = scores[order[:ranked]]
    theta = top.mean() + top.std(ddof=1)
    painted = np.zeros((len(scores), size, size))
    for n in order[:5]:
        if n == background:
            continue
        if scores[n] < theta:
            break
        m = np.kron(maps[n], np.ones((cell, cell)))
        mask = (m - m.min()) / (m.max() - m.min()) > 0.5
        square = np.ones((7, 7), bool)
        grown = ndimage.binary_dilation(mask, square)
        closed = ndimage.binary_erosion(grown, square, border_value=1)
        painted[n] = closed * 255 * scores[n]
    painted[background] = 0
    best = painted.max(axis=0)
    return np.where(best > 0, painted.argmax(axis=0), background)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("classes", "ranked"), [(20, 10), (40, 30)])
def test_an_image_is_labelled_as_an_independent_reading_of_the_spec_says(seed: int, classes: int, ranked: int) -> None:
    random = np.random.default_rng(seed)
    vectors = functional.normalize(torch.from_numpy(random.normal(size=(classes + 1, 32))).float(), dim=-1)
    smooth = ndimage.gaussian_filter(random.normal(size=(32, 9, 9)), (0, 1.5, 1.5))
    present = random.choice(classes + 1, 4, replace=False)
    image = vectors[present].sum(dim=0) + 0.1 * torch.from_numpy(random.normal(size=32)).float()
    words = Vocabulary([f"word {index}" for index in range(classes)]).with_background("background")
    classifier = TextClassifier.of(words, vectors, 50.0)
    embedding = SimSegEmbedding(
        torch.from_numpy(smooth).float()[None], torch.zeros(1, 3 * 64, 9, 9), functional.normalize(image, dim=0)[None]
    )
    model = tiny(binarise="half", ranked_classes=ranked, most_classes=5, deviations=1.0)
    labels = model.classify(embedding, classifier).logits[0].argmax(dim=0).numpy()
    scores = (vectors @ embedding.image[0]).double().numpy()
    maps = similarity(embedding, classifier)[0].double().numpy()
    expected = read_of_the_spec(scores, maps, size=72, ranked=ranked, background=classes, cell=8)
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(labels, expected)


def test_the_background_takes_a_place_and_enters_the_threshold_but_is_no_candidate() -> None:
    scores = torch.tensor([0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 1.0])
    with_it, high = candidates(scores, Config(), background=10)
    without, low = candidates(scores[:10], Config())
    assert with_it == without == [0]
    assert high > low
    crowded = torch.tensor([1.0, 0.99, 0.98, 0.97, 0.96, 0.95, *[0.0] * 30])
    first, _ = candidates(crowded, Config(ranked_classes=36), background=0)
    assert first == [1, 2, 3, 4]  # five places, one of them the background's


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_with_fewer_classes_than_are_ranked_the_best_one_always_passes(count: int) -> None:
    scores = torch.linspace(0.2, 0.3, count)
    chosen, threshold = candidates(scores, Config())
    assert chosen[0] == count - 1
    assert threshold <= 0.3 + 1e-6


def test_with_enough_classes_all_alike_none_passes_as_released() -> None:
    assert candidates(torch.tensor([0.5] * 5 + [0.1] * 5), Config())[0] == []


def test_a_flat_map_takes_the_image_and_nothing_is_nan() -> None:
    colours = torch.zeros(3, 16, 16, dtype=torch.uint8)
    for how in ("half", "otsu", "crf"):
        assert word_masks(torch.full((1, 2, 2), 0.3), colours, Config(binarise=how)).all()
    model = tiny("tiny-clip")
    with torch.no_grad():
        one = model.embed_image(torch.zeros(1, 3, 5, 5, dtype=torch.uint8))
        assert model.classify(one, model.embed_text(Vocabulary("cat"), BARE)).logits.isfinite().all()


def test_classes_that_point_away_from_the_image_paint_nothing() -> None:
    weight = functional.normalize(randn(3, 6), dim=-1)
    classifier = TextClassifier.of(Vocabulary("a, b, c"), weight, 50.0)
    embedding = SimSegEmbedding(randn(1, 6, 2, 2, seed=2), torch.zeros(1, 192, 2, 2), -weight.sum(0)[None])
    assert (weight @ -weight.sum(0) < 0).any()
    logits = tiny(binarise="half", background_prompt=None).classify(embedding, classifier).logits[0]
    scores = weight @ functional.normalize(-weight.sum(0), dim=0)
    for index in torch.nonzero(scores <= 0)[:, 0].tolist():
        assert (logits[index] == -50.0).all()


def test_masks_are_closed_with_seven_pixels_and_borders_neither_add_nor_take() -> None:
    random = np.random.default_rng(0)
    for density in (0.03, 0.3, 0.9):
        mask = random.random((40, 30)) < density
        grown = ndimage.binary_dilation(mask, np.ones((7, 7), bool))
        expected = ndimage.binary_erosion(grown, np.ones((7, 7), bool), border_value=1)
        np.testing.assert_array_equal(simseg._close(torch.from_numpy(mask)[None], 7)[0], expected)
        np.testing.assert_array_equal(simseg._close(torch.from_numpy(mask)[None], 1)[0], mask)


def test_otsu_binarises_at_the_threshold_of_scikit_image() -> None:
    cosines = randn(6, 6)
    mask = word_masks(cosines[None], torch.zeros(3, 48, 48, dtype=torch.uint8), Config(binarise="otsu", closing=1))[0]
    stretched = ((cosines - cosines.min()) / (cosines.max() - cosines.min())).numpy()
    expected = np.kron(stretched > threshold_otsu(np.kron(stretched, np.ones((8, 8)))), np.ones((8, 8), bool))
    np.testing.assert_array_equal(mask, expected)


def test_the_crf_sees_the_photograph() -> None:
    """A blurry map snaps to the edge between two colours, where the map's own middle lies elsewhere."""
    colours = torch.zeros(3, 48, 48, dtype=torch.uint8)
    colours[:, :, 24:] = 255
    cosines = torch.linspace(0, 1, 6).expand(6, 6) ** 0.5
    plain = word_masks(cosines[None], colours, Config(binarise="half", closing=1))[0]
    refined = word_masks(cosines[None], colours, Config(closing=1))[0]
    edge = torch.zeros(48, 48, dtype=torch.bool)
    edge[:, 24:] = True
    assert (refined == edge).float().mean() > 0.98 > (plain == edge).float().mean()


def test_rule_and_background_are_logged_values() -> None:
    config = tiny().config
    assert {"rule", "ranked_classes", "deviations", "most_classes", "background_prompt", "binarise", "closing"} <= {
        field.name for field in dataclasses.fields(config)
    }
    with pytest.raises(SettingError, match="closing"):
        Config(closing=4)
    with pytest.raises(SettingError, match="text_k"):
        Config(text_k=0)


# --- training (§2.3)


def batch() -> dict[str, Any]:
    return {"images": pictures(3, 32, 32), "texts": SENTENCES, "keys": ["a", "b", "c"]}


def test_the_loss_is_infonce_of_unmasked_pooled_tokens_over_the_temperature() -> None:
    model = tiny().eval()
    with torch.no_grad():
        loss = Training().build(model)(batch())
        images = model.towers.image_tokens(normalise(batch()["images"], "imagenet"))[0][:, 1:]
        texts = model.towers.text_tokens(SENTENCES, length=25, padded=True).vectors
    logits = (sorted_mean(images, 5, [16] * 3) @ sorted_mean(texts, 1, [25] * 3).T) / 0.02
    both = [np.log(np.exp(side).sum(axis=1)) - np.diag(side) for side in (logits, logits.T)]
    assert list(loss) == ["contrast"]
    assert float(loss["contrast"]) == pytest.approx(np.mean(both), rel=1e-4)


def test_masked_training_is_a_setting() -> None:
    model = tiny().eval()
    with torch.no_grad():
        texts = [Training(masked_text=masked).build(model).embed(batch())[1] for masked in (True, False)]
    assert (texts[0] - texts[1]).abs().max() > 1e-3
    torch.testing.assert_close(texts[0], model.text_vectors(SENTENCES), atol=1e-6, rtol=0)


@pytest.mark.parametrize("architecture", ["tiny", "tiny-clip"])
def test_gradients_reach_all_parameters_but_the_scale_that_the_temperature_replaces(architecture: str) -> None:
    objective = Training().build(tiny(architecture))
    objective(batch())["contrast"].backward()
    for name, parameter in objective.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert reached == (not name.endswith("log_scale")), name
        assert parameter.requires_grad == (not name.endswith("log_scale")), name


def test_the_temperature_returns_into_its_bounds_after_a_step() -> None:
    objective = Training().build(tiny())
    objective.segmenter.towers.temperature.data.fill_(3.0)
    objective.after_step(0)
    assert objective.segmenter.towers.temperature.item() == 0.5


# --- weights


def test_a_trained_temperature_survives_saving(tmp_path: Any) -> None:
    for architecture in ("tiny", "tiny-clip"):
        model = tiny(architecture)
        model.towers.temperature.data.fill_(0.123)
        folder = tmp_path / architecture
        catalog.save(model, folder, method="simseg", inference=simseg.VARIANTS[architecture].inference)
        again, _ = catalog.load(folder)
        assert again.towers.temperature.item() == pytest.approx(0.123, rel=1e-6)  # type: ignore[attr-defined]


def test_the_authors_models_ask_for_their_files() -> None:
    with pytest.raises(WeightsError, match="weights=FILE"):
        catalog.load("simseg/vit-b16")


def test_a_resnet_is_refused(tmp_path: Any) -> None:
    Clip.random(TINY_RESNET).save(tmp_path)
    with pytest.raises(WeightsError, match="ViT"):
        catalog.load("simseg/custom", weights=str(tmp_path))


def test_the_embedded_model_shares_what_it_did_not_train_and_knows_a_cat() -> None:
    model = lexiseg.load("simseg/mini", dtype="fp32")
    theirs = Clip.load("asset:mini-clip").state_dict()
    ours = model.segmenter.towers.clip.state_dict()  # type: ignore[attr-defined]
    for tower in ("vision.model", "text_model"):
        for layer, same in ((0, True), (1, True), (3 if tower[0] == "v" else 2, False)):
            name = f"{tower}.encoder.layers.{layer}.mlp.fc1.weight"
            assert torch.equal(ours[name], theirs[name]) == same, name
    found = model.segment(skimage.data.chelsea(), "cat, dog, wall, grass, person, flower, mortgage")
    assert found.mask("cat")[60:260, 60:320].mean() > 0.9
    assert any("mortgage" in warning for warning in found.warnings)
