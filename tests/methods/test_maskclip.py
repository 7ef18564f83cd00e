"""MaskCLIP equals an independent reading of its description, and each setting does what it says."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import maskclip_reference as reference
import numpy as np
import official_clip
import pytest
import skimage.data
import torch
from torch import Tensor
from torch.nn import functional

import lexiseg
from lexiseg import catalog
from lexiseg.data.bundled import photograph
from lexiseg.encoders.clip_shape import ClipShape
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import TextCache
from lexiseg.errors import SettingError, UnknownName, WeightsError
from lexiseg.layers.pixels import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD
from lexiseg.methods import maskclip
from lexiseg.methods.maskclip import Config, MaskClip, MaskClipEmbedding
from lexiseg.segmenter import TextClassifier, Variant
from lexiseg.vocabulary import Vocabulary
from lexiseg.weights import Weights

BARE = Prompts(("{}",))

VIT, RESNET = official_clip.vit_weights(), official_clip.resnet_weights()
VIT_SIZES = [(32, 32), (24, 64), (37, 50), (5, 70)]  # the grid it was trained on, not square, not whole patches
SMALL_RESNET = ClipShape(48, 96, 8, (2, 1, 2, 1), None, 64, 1, vocabulary=4093)  # as `official_clip` makes it
RESNET_SIZES = [(96, 96), (64, 160), (75, 110)]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("official")
    official_clip.write_archive(folder / "vit.pt", VIT, image_size=32)
    official_clip.write_archive(folder / "rn.pt", RESNET, image_size=96)
    return {"vit": folder / "vit.pt", "rn": folder / "rn.pt"}


@pytest.fixture
def load(archives: dict[str, Path]) -> Callable[..., MaskClip]:
    def with_settings(tower: str, **settings: object) -> MaskClip:
        # the file brings no tokenizer; the embedded model's has as many tokens as these weights
        segmenter, _ = catalog.load("maskclip", weights=archives[tower], tokenizer="asset:mini-clip", **settings)
        assert isinstance(segmenter, MaskClip)
        return segmenter

    return with_settings


def random_images(height: int, width: int, *, batch: int = 2) -> np.ndarray:
    """RGB bytes."""
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (batch, 3, height, width), np.uint8)


def normalised(images: np.ndarray, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD) -> np.ndarray:
    """What the towers see, in float64."""
    return (images / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))


def assert_close(ours: Tensor, theirs: np.ndarray) -> None:
    """To 1e-5 of the largest value."""
    assert ours.shape == theirs.shape
    assert np.abs(ours.double().numpy() - theirs).max() <= 1e-5 * max(1.0, np.abs(theirs).max())


# --- the towers


@pytest.mark.parametrize("size", VIT_SIZES)
@pytest.mark.parametrize("last_block", ["value+residual+ffn", "value+residual", "value", "attention"])
def test_vit_features_equal_the_reference(
    load: Callable[..., MaskClip], size: tuple[int, int], last_block: str
) -> None:
    images = random_images(*size)
    expected, _, _ = reference.vit(normalised(images), VIT, last_block=last_block)
    assert_close(load("vit", last_block=last_block).embed_image(torch.tensor(images)).features, expected)


def test_vit_features_of_the_released_preset_equal_the_reference(load: Callable[..., MaskClip]) -> None:
    images = random_images(37, 50)
    seen = normalised(images, IMAGENET_MEAN, IMAGENET_STD)
    expected, _, _ = reference.vit(seen, VIT, activation=reference.gelu, eps=1e-6)
    as_trained, _, _ = reference.vit(seen, VIT)
    assert np.abs(expected - as_trained).max() > 1e-3
    assert_close(load("vit", preset="released").embed_image(torch.tensor(images)).features, expected)


def test_epsilon_alone_can_be_set(load: Callable[..., MaskClip]) -> None:
    images = random_images(16, 16)
    expected, _, _ = reference.vit(normalised(images), VIT, eps=0.5)
    assert_close(load("vit", layer_norm_eps=0.5).embed_image(torch.tensor(images)).features, expected)


@pytest.mark.parametrize("size", RESNET_SIZES)
@pytest.mark.parametrize("position_embedding", ["none", "interpolate"])
@pytest.mark.parametrize("last_block", ["value+residual+ffn", "attention"])
def test_resnet_features_equal_the_reference(
    load: Callable[..., MaskClip], size: tuple[int, int], position_embedding: str, last_block: str
) -> None:
    images = random_images(*size)
    expected, _ = reference.resnet(
        normalised(images), RESNET, last_block=last_block, position_embedding=position_embedding
    )
    segmenter = load("rn", last_block=last_block, position_embedding=position_embedding)
    assert_close(segmenter.embed_image(torch.tensor(images)).features, expected)


@pytest.mark.parametrize("form", ["paper", "released"])
def test_vit_keys_equal_the_reference(load: Callable[..., MaskClip], form: str) -> None:
    images = random_images(37, 50)
    _, raw, projected = reference.vit(normalised(images), VIT)
    segmenter = load("vit", key_smoothing=True, key_smoothing_form=form)
    assert_close(segmenter.embed_image(torch.tensor(images)).keys, {"paper": raw, "released": projected}[form])


@pytest.mark.parametrize("form", ["paper", "released"])
@pytest.mark.parametrize("position_embedding", ["none", "interpolate"])
def test_resnet_keys_equal_the_reference(load: Callable[..., MaskClip], form: str, position_embedding: str) -> None:
    images = random_images(75, 110)
    _, keys = reference.resnet(normalised(images), RESNET, position_embedding=position_embedding)
    segmenter = load("rn", key_smoothing=True, key_smoothing_form=form, position_embedding=position_embedding)
    assert_close(segmenter.embed_image(torch.tensor(images)).keys, keys)


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_image_to_refined_scores_equals_the_reference(load: Callable[..., MaskClip], preset: str) -> None:
    """Both towers in float64 with both refinements, from the pixels to the result of `classify`."""
    images, text = random_images(75, 110), dense_case(0, classes=7)[2]
    activation = {"activation": reference.gelu, "eps": 1e-6} if preset == "released" else {}
    last_block = {"paper": "value+residual", "released": "value+residual+ffn"}[preset]
    seen = normalised(images, *((IMAGENET_MEAN, IMAGENET_STD) if preset == "released" else (CLIP_MEAN, CLIP_STD)))
    features, raw, projected = reference.vit(seen, VIT, last_block=last_block, **activation)  # type: ignore[arg-type]
    cases = {"vit": (features, {"paper": raw, "released": projected}[preset]), "rn": reference.resnet(seen, RESNET)}
    threshold = {"paper": None, "released": 1.0}[preset]
    for tower, (features, keys) in cases.items():
        scores = reference.denoise(reference.cosines(features, text), threshold=0.5, scale=100.0)
        expected = reference.smooth(scores, keys, scale=100.0, form=preset, threshold=threshold)
        segmenter = load(tower, preset=preset, key_smoothing=True, prompt_denoising=True).double()
        with torch.no_grad():
            embedding = segmenter.embed_image(torch.tensor(images))
        ours = segmenter.classify(embedding, classifier_of(text, 100.0)).logits
        assert_close(ours.softmax(1) if preset == "paper" else ours, expected)


def test_keys_are_computed_only_for_key_smoothing(load: Callable[..., MaskClip]) -> None:
    for tower in ("vit", "rn"):
        embedding = load(tower).embed_image(torch.tensor(random_images(64, 96)))
        assert embedding.keys.shape == (2, 0, *embedding.grid)


# --- scores and refinements


def dense_case(seed: int, *, classes: int = 5, height: int = 6, width: int = 9) -> tuple[np.ndarray, ...]:
    """(features, keys, unit text vectors) of three noisy images that show the classes 1 and 2, 2 and 3, 3 and 4."""
    random = np.random.default_rng(seed)
    text = random.standard_normal((classes, 48))
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    shown = np.stack([random.integers(image + 1, image + 3, (height, width)) for image in range(3)])
    features = random.standard_normal((3, 48, height, width)) + 4 * text[shown].transpose(0, 3, 1, 2)
    keys = random.standard_normal((3, 32, height, width)) + 0.3
    return features, keys, text


def classifier_of(text: np.ndarray, scale: float, words: object = None, background: str = "") -> TextClassifier:
    names = [f"class {row}" for row in range(len(text))] if words is None else words
    return TextClassifier.of(Vocabulary(names, background=background), torch.tensor(text), scale)  # type: ignore[arg-type]


def classify(case: tuple[np.ndarray, ...], scale: float, **settings: object) -> Tensor:
    features, keys, text = case
    embedding = MaskClipEmbedding(torch.tensor(features), torch.tensor(keys))
    return MaskClip(EmptyClip(), Config(**settings)).classify(embedding, classifier_of(text, scale)).logits  # type: ignore[arg-type]


class EmptyClip(torch.nn.Module):
    """`classify` uses no weights."""

    vision = None


@pytest.mark.parametrize("seed", range(3))
def test_logits_are_scaled_cosines(seed: int) -> None:
    features, keys, text = dense_case(seed)
    assert_close(classify((features, keys, text), 7.0), 7 * reference.cosines(features, text))


def test_output_scale_changes_scores_but_no_label() -> None:
    case = dense_case(0)
    plain, flat = classify(case, 100.0), classify(case, 100.0, output_scale=1.0)
    assert_close(flat, reference.cosines(case[0], case[2]))
    assert torch.equal(plain.argmax(1), flat.argmax(1))


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.9995])
def test_prompt_denoising_equals_the_reference(threshold: float) -> None:
    features, keys, text = dense_case(1)
    scale = 12.0
    expected = scale * reference.denoise(reference.cosines(features, text), threshold=threshold, scale=scale)
    ours = classify((features, keys, text), scale, prompt_denoising=True, prompt_denoising_threshold=threshold)
    assert_close(ours, expected)


def test_the_denoising_cases_hold_every_kind() -> None:
    """Some classes go and some stay; at 0.9995 all would go."""
    features, _, text = dense_case(1)
    best = reference.softmax(12 * reference.cosines(features, text), axis=1).max((2, 3))
    assert (best < 0.5).any()
    assert (best >= 0.5).any(axis=1).all()
    assert (best < 0.9995).all()


def test_nothing_is_denoised_where_every_class_fails() -> None:
    case = dense_case(2)
    plain = classify(case, 0.01)
    assert torch.equal(classify(case, 0.01, prompt_denoising=True), plain)
    assert not (plain.argmax(1) == 0).all()  # as the released code has it


def test_a_denoised_class_wins_nowhere_and_others_keep_their_logits() -> None:
    case = dense_case(1)
    plain, denoised = classify(case, 12.0), classify(case, 12.0, prompt_denoising=True)
    removed = plain.softmax(1).amax((2, 3)) < 0.5
    assert denoised.softmax(1).amax((2, 3))[removed].eq(0).all()
    assert torch.equal(denoised[~removed], plain[~removed])


def test_the_background_is_never_denoised() -> None:
    features, keys, text = dense_case(1, classes=6)
    embedding = MaskClipEmbedding(torch.tensor(features), torch.tensor(keys))
    segmenter = MaskClip(EmptyClip(), Config(prompt_denoising=True))  # type: ignore[arg-type]
    plain = segmenter_without_refinement().classify(embedding, with_background(text)).logits
    denoised = segmenter.classify(embedding, with_background(text))
    assert denoised.background
    assert (plain.softmax(1).amax((2, 3))[:, -1] < 0.5).any()
    assert torch.equal(denoised.logits[:, -1], plain[:, -1])


def with_background(text: np.ndarray) -> TextClassifier:
    """The background words are the classes 0 and 5, which no image shows."""
    return classifier_of(text[[1, 2, 3, 4, 0, 5]], 12.0, ["a", "b", "c", "d"], "e, f")


def segmenter_without_refinement() -> MaskClip:
    return MaskClip(EmptyClip(), Config())  # type: ignore[arg-type]


def test_a_class_is_denoised_by_its_best_word() -> None:
    """Two words that stand for one class: the class stays as soon as one of them is likely somewhere."""
    features, keys, text = dense_case(1)
    embedding = MaskClipEmbedding(torch.tensor(features), torch.tensor(keys))
    pair = classifier_of(text, 12.0, [("a", "b"), "c", "d", "e"])
    denoised = MaskClip(EmptyClip(), Config(prompt_denoising=True)).classify(embedding, pair).logits  # type: ignore[arg-type]
    scores = reference.cosines(features, text)
    pooled = np.concatenate([scores[:, :2].max(1, keepdims=True), scores[:, 2:]], axis=1)
    assert_close(denoised, 12 * reference.denoise(pooled, threshold=0.5, scale=12.0))


@pytest.mark.parametrize("form", ["paper", "released"])
@pytest.mark.parametrize("threshold", [None, 0.4, 0.7, 1.0])
@pytest.mark.parametrize("denoised", [False, True])
def test_key_smoothing_equals_the_reference(form: str, threshold: float | None, denoised: bool) -> None:
    features, keys, text = dense_case(3)
    scale, scores = 12.0, reference.cosines(features, text)
    if denoised:
        scores = reference.denoise(scores, threshold=0.5, scale=scale)
    expected = reference.smooth(scores, keys, scale=scale, form=form, threshold=threshold)
    settings = {"key_smoothing_form": form, "key_smoothing_threshold": threshold, "prompt_denoising": denoised}
    ours = classify((features, keys, text), scale, key_smoothing=True, **settings)
    assert_close(ours.softmax(1) if form == "paper" else ours, expected)


def test_paper_smoothing_gives_cells_of_equal_keys_equal_posteriors() -> None:
    features, keys, text = dense_case(4)
    keys[:, :, :, 5] = 3 * keys[:, :, :, 2]  # a cosine does not see the factor
    posterior = classify((features, keys, text), 12.0, key_smoothing=True).softmax(1)
    assert torch.allclose(posterior[..., 5], posterior[..., 2], atol=1e-5)


def test_smoothing_a_uniform_image_changes_nothing() -> None:
    features, keys, text = dense_case(5)
    features, keys = features[:, :, :1, :1].repeat(6, 2).repeat(9, 3), keys[:, :, :1, :1].repeat(6, 2).repeat(9, 3)
    plain, smoothed = classify((features, keys, text), 12.0), classify((features, keys, text), 12.0, key_smoothing=True)
    assert torch.allclose(plain.softmax(1), smoothed.softmax(1), atol=1e-5)


def test_smoothing_many_cells_needs_no_square_of_them() -> None:
    """16,384 cells: their affinities alone would be 1 GiB."""
    torch.manual_seed(0)
    embedding = MaskClipEmbedding(torch.randn(1, 16, 128, 128), torch.randn(1, 16, 128, 128))
    text = functional.normalize(torch.randn(3, 16), dim=1)
    segmenter = MaskClip(EmptyClip(), Config(key_smoothing=True))  # type: ignore[arg-type]
    largest = LargestTensor()
    with largest:
        segmenter.classify(embedding, TextClassifier.of(Vocabulary("a, b, c"), text, 100.0))
    assert largest.numbers <= 16 * 128 * 128


class LargestTensor(torch.utils._python_dispatch.TorchDispatchMode):
    """Remembers the size of the largest tensor that an operation returned."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return result


def test_refinements_do_not_mix_the_images_of_a_batch() -> None:
    features, keys, text = dense_case(6)
    for form in ("paper", "released"):
        settings = {"key_smoothing": True, "prompt_denoising": True, "key_smoothing_form": form}
        together = classify((features, keys, text), 12.0, **settings)
        alone = [classify((features[i : i + 1], keys[i : i + 1], text), 12.0, **settings) for i in range(3)]
        assert torch.allclose(together, torch.cat(alone))


def test_only_refinements_need_the_whole_image() -> None:
    assert not maskclip.traits(Config()).whole_image
    for name in ("key_smoothing", "prompt_denoising"):
        assert maskclip.traits(Config(**{name: True})).whole_image  # type: ignore[arg-type]


# --- settings, weights, files


def test_presets_say_what_paper_code_and_default_do() -> None:
    resolved = {name: catalog.resolve("maskclip/vit-b16", preset=name)[1] for name in maskclip.PRESETS}
    paper, released, ours = (resolved[name] for name in ("paper", "released", "lexiseg"))
    assert ours == maskclip.VARIANTS["vit-b16"]
    assert (paper.config.last_block, released.config.last_block) == ("value+residual", "value+residual+ffn")
    assert (paper.config.activation, released.config.activation) == ("as_trained", "gelu")
    assert (released.config.layer_norm_eps, released.config.logit_scale) == (1e-6, 100)
    assert (released.config.key_smoothing_form, released.config.key_smoothing_threshold) == ("released", 1)
    assert (paper.config.key_smoothing_form, paper.config.key_smoothing_threshold) == ("paper", None)
    assert (paper.config.statistics, released.config.statistics) == ("clip", "imagenet")
    assert paper.inference.size == (512, 512)
    assert (released.inference.short_side, released.inference.long_side) == (512, 2048)
    assert (released.inference.antialias, released.inference.multiple) == (False, 1)


def test_a_preset_can_be_changed_further() -> None:
    _, variant = catalog.resolve("maskclip/mini", preset="released", key_smoothing="true", activation="quick_gelu")
    assert (variant.config.key_smoothing, variant.config.activation) == (True, "quick_gelu")


@pytest.mark.parametrize("setting", [{"activation": "relu"}, {"key_smoothing": "maybe"}, {"last_block": "query"}])
def test_a_value_that_does_not_fit_is_refused(setting: dict[str, str]) -> None:
    with pytest.raises(SettingError, match=next(iter(setting))):
        catalog.resolve("maskclip/tiny", **setting)


@pytest.mark.parametrize(
    "setting", [{"logit_scale": 0}, {"layer_norm_eps": -1}, {"output_scale": "nan"}, {"prompt_denoising_threshold": 50}]
)
def test_a_number_out_of_range_is_refused(setting: dict[str, object]) -> None:
    with pytest.raises(SettingError, match=next(iter(setting))):
        catalog.resolve("maskclip/tiny", **setting)


def test_an_unknown_setting_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="key_smoothing"):
        catalog.resolve("maskclip/tiny", key_smooting=True)


@pytest.mark.parametrize("tower", ["tiny", "tiny-rn"])
def test_the_scale_is_the_weights_own_unless_set(tower: str) -> None:
    words = Vocabulary("cat, dog")
    segmenter, _ = catalog.load(f"maskclip/{tower}")
    assert segmenter.embed_text(words, BARE).scale == pytest.approx(segmenter.clip.log_scale.exp().item())
    fixed, _ = catalog.load(f"maskclip/{tower}", logit_scale=40)
    assert fixed.embed_text(words, BARE).scale == 40


def test_how_weights_were_read_is_no_part_of_the_model(load: Callable[..., MaskClip]) -> None:
    """A folder saved from it has a tokenizer of its own and no pickles, and must not ask for either."""
    segmenter = load("vit", allow_pickle=True)
    assert (segmenter.config.tokenizer, segmenter.config.allow_pickle) == (None, False)


def test_words_are_kept_between_runs_where_a_cache_is_given(tmp_path: Path) -> None:
    words = Vocabulary("cat, dog")
    first, _ = catalog.load("maskclip/tiny")
    weight = first.embed_text(words, BARE, cache=TextCache(tmp_path)).weight
    again, _ = catalog.load("maskclip/tiny")
    again.clip._embed = None  # what is in the cache needs no text tower
    assert torch.equal(again.embed_text(words, BARE, cache=TextCache(tmp_path)).weight, weight)


def test_an_official_file_and_the_folder_saved_from_it_give_the_same_features(
    load: Callable[..., MaskClip], tmp_path: Path
) -> None:
    for tower in ("vit", "rn"):
        from_file = load(tower)
        folder = tmp_path / tower
        maskclip.save(from_file, folder)
        again = maskclip.load(Variant(from_file.config, Weights.of(folder), maskclip.VARIANTS["custom"].inference))
        images = torch.tensor(random_images(75, 110))
        assert torch.equal(from_file.embed_image(images).features, again.embed_image(images).features)


def test_a_saved_folder_keeps_the_activation_its_weights_were_trained_with(tmp_path: Path) -> None:
    segmenter, inference = catalog.load("maskclip/tiny", activation="gelu", layer_norm_eps=0.1)
    catalog.save(segmenter, tmp_path, method="maskclip", inference=inference)
    images = torch.tensor(random_images(32, 32))
    same, _ = catalog.load(tmp_path)
    trained, _ = catalog.load(tmp_path, activation="as_trained", layer_norm_eps=None)
    original, _ = catalog.load("maskclip/tiny")
    assert torch.equal(same.embed_image(images).features, segmenter.embed_image(images).features)
    assert torch.equal(trained.embed_image(images).features, original.embed_image(images).features)
    assert not torch.equal(trained.embed_image(images).features, same.embed_image(images).features)


@pytest.mark.parametrize("name", ["rn50", "rn101", "rn50x4", "rn50x16", "rn50x64"])
def test_a_resnet_without_its_file_says_which_file_it_needs(name: str) -> None:
    with pytest.raises(WeightsError, match=r"RN\d+(x\d+)?\.pt.*[0-9a-f]{64}.*weights="):
        catalog.load(f"maskclip/{name}")
    assert "weights=" in maskclip.VARIANTS[name].about


def test_custom_without_weights_says_what_to_do() -> None:
    with pytest.raises(WeightsError, match="weights="):
        catalog.load("maskclip/custom")


def test_a_variant_takes_no_file_of_another_architecture(archives: dict[str, Path]) -> None:
    for name, tower in (("rn50", "vit"), ("rn50", "rn"), ("vit-b16", "vit")):
        with pytest.raises(WeightsError, match=r"(rn|vit)\.pt holds") as caught:
            catalog.load(f"maskclip/{name}", weights=archives[tower], tokenizer="asset:mini-clip")
        assert str(maskclip.VARIANTS[name].weights.shape) in str(caught.value)  # type: ignore[union-attr]


def test_a_variant_takes_any_file_of_its_architecture(
    archives: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dataclasses.replace(maskclip.VARIANTS["rn50"], weights=Weights("by_hand", "RN50.pt", shape=SMALL_RESNET))
    monkeypatch.setitem(maskclip.VARIANTS, "rn50", small)  # type: ignore[arg-type]
    segmenter, inference = catalog.load("maskclip/rn50", weights=archives["rn"], tokenizer="asset:mini-clip")
    assert segmenter.clip.patch == inference.multiple == 32  # type: ignore[attr-defined]


def test_settings_survive_json() -> None:
    from lexiseg import settings

    for preset in maskclip.PRESETS:
        config = catalog.resolve("maskclip/vit-b16", preset=preset)[1].config
        assert settings.from_json(Config, json.loads(json.dumps(settings.to_json(config)))) == config
        assert dataclasses.is_dataclass(config)


def test_the_embedded_model_knows_what_is_on_the_bundled_photographs() -> None:
    """The face of scikit-image's cat; the astronaut's face, suit and wall; the cup; the motorcycle; the rocket."""
    model = lexiseg.load("maskclip/mini", dtype="fp32")
    cat = model.segment(skimage.data.chelsea(), "cat, dog, wall, grass, person, flower").mask("cat")
    assert cat[60:260, 60:320].mean() > 0.9
    astronaut = model.segment(skimage.data.astronaut(), "person, flag, wall, window, chair")
    assert astronaut.mask("wall")[:150, 310:380].mean() > 0.8
    assert astronaut.mask("person")[60:160, 190:260].mean() > 0.9
    assert astronaut.mask("person")[300:500, 60:250].mean() > 0.9
    coffee = model.segment(skimage.data.coffee(), "cup, spoon, table, grass, person")
    assert coffee.mask("cup")[60:180, 200:380].mean() > 0.9
    assert coffee.mask("table")[:100, :100].mean() > 0.9
    garage = model.segment(photograph("motorcycle_left.png"), "motorcycle, bicycle, floor, wall, person, dog")
    assert garage.found[0] == "motorcycle"
    launch = model.segment(photograph("rocket.jpg"), "rocket|missile, sky, tree, boat")
    assert launch.mask("rocket")[150:230, 300:340].mean() > 0.5
    assert launch.found[0] == "sky"
