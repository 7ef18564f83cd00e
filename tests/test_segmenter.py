"""Words vote for classes as a loop over them would, and a text classifier survives a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from lexiseg import catalog, settings
from lexiseg.errors import SettingError, WeightsError
from lexiseg.segmenter import DenseEmbedding, Inference, Segmenter, TextClassifier, Traits, one_input_size
from lexiseg.vocabulary import Vocabulary

VOCABULARY = Vocabulary("cat|kitten|tabby, dog, road|street", background="sky, wall")


def classifier_of(vocabulary: Vocabulary, embedding: int = 8) -> TextClassifier:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(len(vocabulary.queries), embedding, generator=generator)
    return TextClassifier.of(vocabulary, torch.nn.functional.normalize(weight, dim=1), 100)


def pooled_by_hand(word_logits: Tensor, vocabulary: Vocabulary) -> Tensor:
    """The largest logit of each class's words, then of the background's, along dim 1."""
    groups, start = [], 0
    for words in (*vocabulary.words, vocabulary.background):
        if words:
            groups.append(word_logits[:, start : start + len(words)].amax(1))
        start += len(words)
    return torch.stack(groups, 1)


@given(st.lists(st.integers(1, 3), min_size=1, max_size=5), st.integers(0, 3), st.integers(0, 99))
def test_pooling_takes_the_best_word_of_each_class(sizes: list[int], background: int, seed: int) -> None:
    vocabulary = Vocabulary(
        [[f"class {i} word {j}" for j in range(size)] for i, size in enumerate(sizes)],
        background=[f"background {i}" for i in range(background)],
    )
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, len(vocabulary.queries), 3, 4, generator=generator)
    pooled = classifier_of(vocabulary).pool(logits)
    assert pooled.shape == (2, vocabulary.channels, 3, 4)
    assert torch.equal(pooled, pooled_by_hand(logits, vocabulary))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_logits_and_cosines_are_products_of_unit_vectors_place_by_place(dtype: torch.dtype) -> None:
    features = torch.randn(2, 8, 3, 4, generator=torch.Generator().manual_seed(1)).to(dtype)
    classifier = classifier_of(VOCABULARY)
    weight, places = classifier.weight.double().numpy(), features.double().numpy()
    unit = places / np.linalg.norm(places, axis=1, keepdims=True)
    cosines = np.stack([[[weight @ unit[b, :, y, x] for x in range(4)] for y in range(3)] for b in range(2)])
    found = classifier.cosines(features)
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    assert np.allclose(found.numpy(), np.moveaxis(cosines, -1, 1), atol=1e-6)
    expected = pooled_by_hand(100 * torch.from_numpy(np.moveaxis(cosines, -1, 1)), VOCABULARY)
    assert torch.allclose(classifier.logits(features).double(), expected, atol=1e-4)
    raw = np.einsum("bdhw,qd->bqhw", places, weight)
    expected = pooled_by_hand(100 * torch.from_numpy(raw), VOCABULARY)
    assert torch.allclose(classifier.logits(features, cosine=False).double(), expected, atol=1e-3)


def test_only_the_winning_words_receive_a_gradient() -> None:
    logits = torch.randn(2, len(VOCABULARY.queries), 3, 4, dtype=torch.float64)
    ours, by_hand = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    upstream = torch.randn(2, VOCABULARY.channels, 3, 4, dtype=torch.float64)
    (classifier_of(VOCABULARY).pool(ours) * upstream).sum().backward()
    (pooled_by_hand(by_hand, VOCABULARY) * upstream).sum().backward()
    assert ours.grad is not None
    assert torch.equal(ours.grad, by_hand.grad)
    assert (ours.grad != 0).sum() == upstream.numel()


@pytest.mark.parametrize("dim", [0, 2, -1])
def test_words_may_lie_along_any_dimension(dim: int) -> None:
    logits = torch.randn(2, len(VOCABULARY.queries), 3)
    pooled = classifier_of(VOCABULARY).pool(logits.movedim(1, dim), dim)
    assert torch.equal(pooled.movedim(dim, 1), pooled_by_hand(logits, VOCABULARY))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_pooling_keeps_the_dtype(dtype: torch.dtype) -> None:
    logits = torch.randn(2, len(VOCABULARY.queries), 3).to(dtype)
    pooled = classifier_of(VOCABULARY).pool(logits)
    assert pooled.dtype == dtype
    assert torch.equal(pooled, pooled_by_hand(logits, VOCABULARY))


def test_one_word_a_class_needs_no_pooling() -> None:
    vocabulary = Vocabulary("cat, dog", background="sky")
    logits = torch.randn(2, 3, 4)
    assert classifier_of(vocabulary).pool(logits) is logits


def test_a_row_is_missing_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="one row per word"):
        TextClassifier.of(VOCABULARY, torch.zeros(2, 8), 100)


def test_the_classifier_knows_its_channels_and_whether_the_last_is_background() -> None:
    with_background, without = classifier_of(VOCABULARY), classifier_of(VOCABULARY.with_background(()))
    assert (with_background.channels, with_background.background) == (4, True)
    assert (without.channels, without.background) == (3, False)
    assert with_background.class_of.tolist() == list(VOCABULARY.class_of)


def test_moving_to_a_dtype_leaves_the_class_numbers_alone() -> None:
    moved = classifier_of(VOCABULARY).to("cpu", torch.float16)
    assert (moved.weight.dtype, moved.class_of.dtype) == (torch.float16, torch.long)
    assert classifier_of(VOCABULARY).to(dtype=torch.float64).weight.dtype == torch.float64


@pytest.mark.parametrize("scale", [100.0, 1 / 3, 0.1 + 0.2])
@pytest.mark.parametrize("background", [(), ("sky",)])
def test_a_saved_classifier_comes_back_exactly(tmp_path: Path, scale: float, background: tuple[str, ...]) -> None:
    vocabulary = VOCABULARY.with_background(background)
    saved = TextClassifier.of(vocabulary, torch.randn(len(vocabulary.queries), 8).half(), scale)
    saved.save(tmp_path / "words.safetensors")
    loaded = TextClassifier.load(tmp_path / "words.safetensors")
    assert torch.equal(loaded.weight, saved.weight)
    assert loaded.weight.dtype == torch.float16
    assert torch.equal(loaded.class_of, saved.class_of)
    assert (loaded.scale, loaded.channels, loaded.background) == (saved.scale, saved.channels, saved.background)


def test_rows_that_are_a_view_of_something_larger_are_saved_alone(tmp_path: Path) -> None:
    weight = torch.randn(8, 100 * len(VOCABULARY.queries)).T[::100]
    TextClassifier.of(VOCABULARY, weight, 1).save(tmp_path / "a")
    assert torch.equal(TextClassifier.load(tmp_path / "a").weight, weight)
    assert (tmp_path / "a").stat().st_size < 2000


def test_files_that_are_no_classifier_are_weights_errors(tmp_path: Path) -> None:
    classifier_of(VOCABULARY).save(tmp_path / "whole")
    (tmp_path / "truncated").write_bytes((tmp_path / "whole").read_bytes()[:-5])
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("cat, dog")
    save_file({"weight": torch.zeros(2, 2)}, tmp_path / "other")
    for name in ("truncated", "empty", "text", "other", "nowhere"):
        with pytest.raises(WeightsError, match=f"{name} is not a saved text classifier"):
            TextClassifier.load(tmp_path / name)


class Least(Segmenter[DenseEmbedding, TextClassifier]):
    """What a method has to write; the rest it inherits."""

    config, traits, patch = None, Traits(), 16

    def embed_text(self, vocabulary: Vocabulary, prompts: Any, *, cache: Any = None) -> Any: ...
    def embed_image(self, images: Tensor) -> Any: ...
    def classify(self, embedding: Any, classifier: Any) -> Any: ...


def test_a_segmenter_needs_not_say_how_it_finishes_or_where_windows_begin() -> None:
    least, embedding = Least(), DenseEmbedding(torch.zeros(1, 2, 3, 4))
    assert isinstance(least, Segmenter)
    assert least.multiple == 16
    assert least.finish(embedding) is embedding
    assert not isinstance(torch.nn.Identity(), Segmenter)


def test_a_dense_embedding_knows_its_grid() -> None:
    assert DenseEmbedding(torch.zeros(2, 8, 3, 5)).grid == (3, 5)


def test_how_to_treat_pictures_survives_json() -> None:
    inference = Inference(size=(224, 336), window=320, background_threshold=0.25)
    assert settings.from_json(Inference, settings.to_json(inference)) == inference


OUT_OF_RANGE: list[tuple[str, Any]] = [
    *((name, value) for name in ("window", "short_side", "long_side", "stride", "multiple") for value in (0, -3)),
    ("size", (0, 32)),
    ("size", (32, -1)),
    ("background_threshold", 5),
    ("background_threshold", -0.1),
    ("background_threshold", float("nan")),
]


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE)
def test_values_out_of_range_are_refused_wherever_they_come_from(name: str, value: Any) -> None:
    """In Python, as a setting, as the text of a command line, in a saved file: one sentence with the range."""
    says = rf"^{name} must be .*(1 or more|0 to 1).*, got"
    ways = (
        lambda: Inference(**{name: value}),
        lambda: catalog.resolve("maskclip/mini", **{name: value}),
        lambda: catalog.resolve("maskclip/mini", **{name: json.dumps(value)}),
        lambda: settings.from_json(Inference, {name: value}),
    )
    for way in ways:
        with pytest.raises(SettingError, match=says):
            way()


@pytest.mark.parametrize("name", ["blend", "resample"])
def test_a_choice_that_does_not_exist_names_those_that_do(name: str) -> None:
    for way in (lambda: Inference(**{name: "foo"}), lambda: catalog.resolve("maskclip/mini", **{name: "foo"})):
        with pytest.raises(SettingError, match=r"'?(features|bilinear)'? or .*foo|foo.*'(features|bilinear)' or "):
            way()


def test_a_stride_beyond_the_window_would_leave_gaps() -> None:
    with pytest.raises(SettingError, match=r"stride must be at most the window \(64\), .* got 128"):
        catalog.resolve("maskclip/mini", window=64, stride=128)
    _, variant = catalog.resolve("maskclip/mini", window=224, stride=112)
    assert (variant.inference.window, variant.inference.stride) == (224, 112)


@pytest.mark.parametrize("given", [{"window": 64, "stride": 32}, {"stride": 32, "window": 64}])
def test_a_window_and_its_stride_change_together(given: dict[str, int]) -> None:
    wide = Inference(window=224, stride=112)
    assert settings.change(wide, given) == Inference(window=64, stride=32)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"long_side": "192", "multiple": 8}, (None, None, 192)),
        ({"short_side": 448}, (None, 448, None)),
        ({"size": "none"}, (None, None, None)),
        ({"size": (64, 64), "long_side": None}, ((64, 64), None, None)),
        ({"multiple": 8}, ((288, 288), None, None)),
    ],
)
def test_a_side_takes_the_place_of_a_size(changes: dict[str, Any], expected: tuple[Any, ...]) -> None:
    _, variant = catalog.resolve("simseg/custom", weights="asset:mini-clip", **changes)
    assert (variant.inference.size, variant.inference.short_side, variant.inference.long_side) == expected


def test_a_size_takes_the_place_of_sides() -> None:
    _, variant = catalog.resolve("maskclip/mini", size="[96, 64]")
    assert variant.inference.size == (96, 64)
    assert variant.inference.long_side is None


def test_a_size_and_a_side_at_once_are_refused() -> None:
    with pytest.raises(SettingError, match=r"size=64, 64 fixes .* long_side=192 says nothing"):
        one_input_size({"size": "64, 64", "long_side": 192})
