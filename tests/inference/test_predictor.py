"""The predictor on a segmenter that knows colours: sizes, windows, batches, backgrounds, precision, bad files."""

from __future__ import annotations

import json
import pickle
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from lexiseg import catalog
from lexiseg.encoders.familiar import Familiar
from lexiseg.errors import ImageError, SettingError, UnknownName, VocabularyError
from lexiseg.inference.predictor import Predictor, load
from lexiseg.segmenter import Traits, Variant
from lexiseg.vocabulary import Vocabulary

from .fakes import PLAIN, WORDS, Colours, Config, Masks, Uncut, agreement, flag, predictor, truth


@pytest.mark.parametrize("segmenter", [Colours, Uncut, Masks])
def test_every_pixel_gets_the_nearest_colours_name(segmenter):
    image = flag()
    result = predictor(segmenter()).segment(image, WORDS)
    assert agreement(result.labels, truth()) > 0.93  # but for the patches on borders
    assert result.scores.dtype == np.float16
    assert result.image is image
    assert result.vocabulary == Vocabulary(WORDS)


@pytest.mark.parametrize("size", [(1, 1), (1, 77), (77, 1), (5, 3), (33, 200)])
@pytest.mark.parametrize("changes", [{}, {"short_side": 32}, {"window": 16}, {"window": 16, "blend": "logits"}])
def test_label_maps_have_the_size_of_the_photograph(size, changes):
    result = predictor(**changes).segment(np.full((*size, 3), (0, 255, 0), np.uint8), WORDS)
    assert result.labels.shape == size
    assert (result.labels == 1).all()


def test_one_class_takes_every_pixel():
    assert (predictor().segment(flag(), "blue").labels == 0).all()


@pytest.mark.parametrize("stride", [None, 16, 8, 12])
def test_windows_joined_as_features_see_what_the_whole_sees(stride):
    whole = predictor().segment(flag(50, 70), WORDS)
    joined = predictor(window=16, stride=stride).segment(flag(50, 70), WORDS)
    assert np.array_equal(whole.labels, joined.labels)
    assert np.allclose(whole.scores, joined.scores, rtol=2e-2, atol=1e-4)


@pytest.mark.parametrize("segmenter", [Colours, Uncut, Masks])
def test_windows_blended_as_logits_agree_with_the_whole(segmenter):
    blended = predictor(segmenter(), window=16, blend="logits").segment(flag(), WORDS)
    assert agreement(blended.labels, truth()) > 0.93


def test_an_embedding_that_nobody_may_cut_is_blended_as_logits():
    uncut = predictor(Uncut(), window=16).segment(flag(), WORDS)
    logits = predictor(Uncut(), window=16, blend="logits").segment(flag(), WORDS)
    assert np.array_equal(uncut.labels, logits.labels)


def test_the_papers_order_upsamples_twice():
    """Grid to network input, input to photograph: on a factor of three that is not one interpolation."""
    image = flag(30, 30)
    model = predictor(blend="logits", size=(12, 12))
    logits = model.segmenter.classify(model.embed(image).views[0][1], model.embed_text(WORDS)).logits
    resize = torch.nn.functional.interpolate
    twice = resize(resize(logits, size=(12, 12), mode="bilinear"), size=(30, 30), mode="bilinear")
    assert np.array_equal(model.segment(image, WORDS).labels, twice[0].argmax(0).numpy())


@pytest.mark.parametrize("changes", [{}, {"window": 16}, {"window": 16, "blend": "logits"}])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 10])
def test_batches_of_many_sizes_give_what_single_images_give(changes, batch_size):
    model = predictor(**changes)
    sizes = [(48, 64), (32, 32), (48, 64), (20, 64), (32, 32), (64, 48), (5, 7)]
    pictures = [np.roll(flag(*size), place, axis=1) for place, size in enumerate(sizes)]
    together = list(model.segment_many(iter(pictures), WORDS, batch_size=batch_size))
    assert len(together) == len(pictures)
    for picture, result in zip(pictures, together, strict=True):
        alone = model.segment(picture, WORDS)
        assert np.array_equal(result.labels, alone.labels)
        assert np.array_equal(result.scores, alone.scores)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_bad_file_does_not_stop_the_others(tmp_path, batch_size):
    paths = [tmp_path / f"{place}.png" for place in range(5)]
    for path in paths:
        Image.fromarray(flag()).save(path)
    paths[1].write_bytes(b"")
    paths[3].write_text("no photograph")
    skipped = []
    results = predictor().segment_many(paths, WORDS, batch_size=batch_size, skip=lambda *given: skipped.append(given))
    assert len(list(results)) == 3
    assert [path for path, _ in skipped] == [paths[1], paths[3]]
    assert "empty" in str(skipped[0][1])
    results = predictor().segment_many(paths, WORDS, batch_size=batch_size)
    next(results)
    with pytest.raises(ImageError, match=r"1\.png"):
        next(results)


@pytest.mark.parametrize("changes", [{}, {"window": 16}, {"window": 16, "blend": "logits"}])
def test_pixels_that_are_fully_transparent_stay_unlabelled(changes):
    model = predictor(**changes)
    rgba = np.dstack([flag(), np.full((48, 64), 255, np.uint8)])
    rgba[:10, :20, 3] = 0
    found = model.segment(rgba, WORDS)
    assert (found.labels[:10, :20] == 255).all()
    assert (found.scores[:10, :20] == 0).all()
    assert (found.labels[12:] != 255).all()
    assert found.warnings == ("the array: its fully transparent pixels stay unlabelled",)
    assert np.array_equal(model.classify(model.embed(rgba), WORDS).labels, found.labels)
    assert model.classify(model.embed(rgba), WORDS).warnings == found.warnings


def test_above_255_classes_transparent_pixels_are_65535():
    words = Vocabulary({**{f"dark {place}": "black" for place in range(300)}, "bright": "blue"}, shared_words=True)
    rgba = np.dstack([flag(), np.full((48, 64), 255, np.uint8)])
    rgba[0, 0, 3] = 0
    assert predictor().segment(rgba, words).labels[0, 0] == 65_535


def test_12_bits_in_a_wider_array_are_labelled_as_8_are():
    deep = np.round(flag() / 255 * 4095)
    expected = predictor().segment(flag(), WORDS)
    for array in (deep.astype(np.uint16), deep.astype(np.int32), flag() / 255, flag().astype(np.uint16)):
        assert np.array_equal(predictor().segment(array, WORDS).labels, expected.labels)


def test_nothing_in_nothing_out():
    assert list(predictor().segment_many([], WORDS)) == []


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, "2", None])
def test_a_batch_size_that_is_none_is_refused_at_once(batch_size):
    with pytest.raises(SettingError, match=rf"batch_size must be a whole number of 1 or more, got {batch_size!r}"):
        predictor().segment_many([flag()], WORDS, batch_size=batch_size)


def test_a_folder_or_one_path_are_photographs_too(tmp_path):
    (tmp_path / "inner").mkdir()
    for name in ("a.png", "inner/b.jpg"):
        Image.fromarray(flag()).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no photograph")
    model = predictor()
    for folder in (tmp_path, str(tmp_path)):
        assert len(list(model.segment_many(folder, WORDS))) == 2
    for one in (tmp_path / "a.png", str(tmp_path / "a.png"), flag(), Image.fromarray(flag())):
        (result,) = model.segment_many(one, WORDS)
        assert agreement(result.labels, truth()) > 0.93
    with (tmp_path / "a.png").open("rb") as file:
        assert len(list(model.segment_many(file, WORDS))) == 1
    assert len(list(model.segment_many((tmp_path / "a.png").read_bytes(), WORDS))) == 1
    assert len(list(model.segment_many(np.stack([flag()] * 3), WORDS))) == 3
    for nothing in (5, None):
        with pytest.raises(ImageError, match="give a folder"):
            model.segment_many(nothing, WORDS)
    with pytest.raises(ImageError, match="nowhere"):
        model.segment_many(tmp_path / "nowhere", WORDS)


def test_a_file_that_was_opened_as_text_is_refused(tmp_path):
    Image.fromarray(flag()).save(tmp_path / "a.jpg")
    with (tmp_path / "a.jpg").open() as file, pytest.raises(ImageError, match=r"opened as text.*'rb'"):
        predictor().segment(file, WORDS)


def test_words_change_without_looking_again():
    segmenter = Colours()
    model = predictor(segmenter)
    questions = (WORDS, ["blue", "yellow"])
    expected = [model.segment(flag(), words).labels for words in questions]
    seen = model.embed(flag())
    before = len(segmenter.batches)
    for words, labels in zip(questions, expected, strict=True):
        assert np.array_equal(model.classify(seen, words).labels, labels)
    assert len(segmenter.batches) == before


def test_windows_are_kept_for_other_words():
    model = predictor(window=16, blend="logits")
    seen = model.embed(flag())
    for words in (WORDS, WORDS[::-1]):
        assert np.array_equal(model.classify(seen, words).labels, model.segment(flag(), words).labels)


def test_words_are_embedded_once_and_the_latest_are_kept():
    segmenter = Colours()
    model = predictor(segmenter)
    for _ in range(3):
        model.segment(flag(), WORDS)
    assert len(segmenter.texts) == 1
    model.segment(flag(), WORDS, background="white")
    assert len(segmenter.texts) == 2
    for place in range(40):
        model.embed_text({f"class {place}": "red"})
    model.embed_text({"class 39": "red"})
    assert len(segmenter.texts) == 42
    model.embed_text(WORDS)
    assert len(segmenter.texts) == 43


def test_what_was_seen_in_training_is_part_of_the_question_for_a_method_that_reads_it():
    flags = Vocabulary(WORDS, seen=[True] * 4), Vocabulary(WORDS, seen=[False] * 4)
    blind, reader = Colours(), Colours()
    reader.traits = Traits(reads_seen=True)
    for segmenter, texts in ((blind, 1), (reader, 2)):
        model = predictor(segmenter)
        for vocabulary in (*flags, *flags):
            model.embed_text(vocabulary)
        assert len(segmenter.texts) == texts


def test_a_method_finishes_what_it_sees_of_a_picture_once():
    class Finishing(Colours):
        finished = ()

        def finish(self, embedding):
            self.finished = (*self.finished, tuple(embedding.features.shape[-2:]))
            return super().finish(embedding)

    for changes, grids in (({}, [(12, 16)]), ({"window": 16}, [(12, 16)]), ({"window": 48, "blend": "logits"}, 2)):
        model = predictor(Finishing(), **changes)
        seen = model.embed(flag())
        for words in ("red, blue", "green, red"):
            model.classify(seen, words)
        expected = grids if isinstance(grids, list) else [(12, 12)] * grids
        assert list(model.segmenter.finished) == expected


def test_windows_begin_at_multiples_that_the_method_names():
    class Coarser(Colours):
        multiple = 8

    model = predictor(Coarser(), window=20, stride=12)
    plan = model._embedder._plan((48, 64))
    assert all(box.top % 8 == box.left % 8 == 0 for box in plan)
    assert {box.size for box in plan} == {(16, 16)}
    assert agreement(model.segment(flag(), WORDS).labels, truth()) > 0.93


def test_background_words_win_pixels_that_stay_unlabelled():
    model = predictor()
    assert (model.segment(flag(), "red, blue").labels != 255).all()
    named = model.segment(flag(), "red, blue", background=["green", "yellow"])
    expected = np.where(np.isin(truth(), (1, 3)), 255, np.where(truth() == 2, 1, 0))
    assert agreement(named.labels, expected) > 0.93
    vocabulary = Vocabulary("red, blue", background="green, yellow")
    assert np.array_equal(model.segment(flag(), vocabulary).labels, named.labels)
    assert (model.segment(flag(), vocabulary, background=()).labels != 255).all()


def test_a_threshold_leaves_doubtful_pixels_unlabelled():
    model = predictor(background_threshold=0.9)
    doubtful = model.segment(flag(), "red, blue")
    assert (doubtful.labels[:16, 26:36] == 255).all()  # green, as far from red as from blue
    assert (doubtful.labels[:, :16] == 0).all()
    assert (model.segment(flag(), "red, blue", threshold=0).labels != 255).all()
    with pytest.raises(SettingError, match="threshold must be a number from 0 to 1, got 2"):
        model.segment(flag(), WORDS, threshold=2)


@pytest.mark.parametrize("threshold", ["0.5", True, float("nan"), -1, [0.5]])
def test_a_threshold_that_is_not_a_posterior_is_refused(threshold):
    with pytest.raises(SettingError, match="threshold must be a number from 0 to 1, got"):
        predictor().segment(flag(), WORDS, threshold=threshold)


def test_what_another_model_has_embedded_is_refused_by_the_names_of_both():
    class Blurred(Colours):
        pass

    seen = predictor().embed(flag())
    other = Predictor(Blurred(), PLAIN, name="blurred", device="cpu", dtype="fp32")
    with pytest.raises(SettingError, match=r"embedded by colours and cannot be classified by blurred; embed it with"):
        other.classify(seen, WORDS)
    trained = Colours()
    trained.gain.data[0] = 0.5
    for same_name in (predictor(trained), predictor(Colours(Config(scale=2)))):
        with pytest.raises(SettingError, match="colours with other weights or settings and cannot"):
            same_name.classify(seen, WORDS)
    with pytest.raises(SettingError, match="got a str; call segment"):
        other.classify("a.jpg", WORDS)


def test_the_same_model_loaded_again_or_in_another_precision_classifies_what_was_embedded():
    seen = pickle.loads(pickle.dumps(predictor().embed(flag())))
    for dtype in ("fp32", "bf16"):
        again = pickle.loads(pickle.dumps(predictor(dtype=dtype)))
        assert agreement(again.classify(seen, WORDS).labels, truth()) > 0.93


def test_settings_that_embeddings_do_not_depend_on_may_differ():
    class Late(Colours):
        traits = Traits(classify_settings=("scale",))

    seen = predictor(Late()).embed(flag())
    assert agreement(predictor(Late(Config(scale=20)), window=16).classify(seen, WORDS).labels, truth()) > 0.93


def test_a_question_is_put_to_any_number_of_pictures():
    segmenter = Colours()
    model = predictor(segmenter, background_threshold=0.9)
    question = model.ask("red, blue", background="green", threshold=0)
    for picture in (flag(), flag(30, 40)):
        direct = model.segment(picture, "red, blue", background="green", threshold=0)
        answer = question.answer(model.embed(picture))
        assert np.array_equal(answer.labels, direct.labels)
        assert answer.settings == direct.settings
    assert len(segmenter.texts) == 1
    known = model.embed_text(WORDS)
    few = model.ask(WORDS, classifier=known, scores=False).label(model.embed(flag()))
    assert few.scores is None
    assert len(segmenter.texts) == 2


def test_threads_that_share_a_model_get_what_one_gets():
    shared, vocabularies = predictor(), (WORDS, ["red", "black"], "white, blue|yellow")
    jobs = [(flag(40 + place % 5, 64), vocabularies[place % 3]) for place in range(72)]
    expected = [predictor().segment(*job) for job in jobs]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda job: shared.segment(*job), jobs))
    for one, other in zip(expected, found, strict=True):
        assert one.names == other.names
        assert np.array_equal(one.labels, other.labels)
        assert np.array_equal(one.scores, other.scores)


def test_a_result_travels_to_other_processes():
    result = predictor().segment(flag(), WORDS)
    copy = pickle.loads(pickle.dumps(result))
    assert np.array_equal(copy.labels, result.labels)
    assert (copy.vocabulary, copy.settings, copy.warnings) == (result.vocabulary, result.settings, result.warnings)
    assert copy.area("red") == result.area("red")


def test_more_than_255_classes_widen_the_label_map():
    dark = {f"dark {place}": "black" for place in range(300)}
    result = predictor().segment(flag(), Vocabulary({**dark, "bright": "blue"}, shared_words=True))
    assert result.labels.dtype == np.uint16
    assert (result.labels[:, 45:] == 300).all()
    assert (result.labels[:, :18] == 0).all()


def test_results_are_deterministic():
    model = predictor(window=16)
    first, second = (model.segment(flag(), WORDS) for _ in range(2))
    assert np.array_equal(first.labels, second.labels)
    assert np.array_equal(first.scores, second.scores)


@pytest.mark.parametrize("words", ["", "red, red", ["red", ""]])
def test_words_that_cannot_be_used_are_refused(words):
    with pytest.raises(VocabularyError):
        predictor().segment(flag(), words)


def test_settings_say_everything_that_decides_a_result_as_json():
    model = predictor(window=16)
    settings = json.loads(json.dumps(model.segment(flag(), WORDS).settings))
    assert settings["model"] == "colours"
    assert settings["config"] == {"scale": 30.0}
    assert settings["inference"]["window"] == 16
    assert settings["threshold"] is None
    assert model.segment(flag(), WORDS, threshold=0.4).settings["threshold"] == 0.4
    assert predictor(background_threshold=0.3).segment(flag(), WORDS).settings["threshold"] == 0.3
    assert settings["dtype"] == "float32"
    assert settings["device"] == "cpu"
    assert len(settings["prompts"]) == 16
    assert predictor(prompts="vild14").settings["prompts"] != settings["prompts"]


def test_an_unknown_refiner_or_set_of_prompts_is_found_at_once():
    with pytest.raises(UnknownName, match="refiner"):
        predictor(refine="no-such-refiner")
    with pytest.raises(UnknownName, match="prompts"):
        predictor(prompts="no-such-set")


@pytest.fixture
def shelf(monkeypatch):
    """A method called "colours" on the shelf."""
    module = types.ModuleType("lexiseg.methods.colours")
    seen = {}

    def fake_resolve(model, **given):
        seen.update(given, model=model)
        return module, Variant(None, None, PLAIN)

    module.load = lambda variant: Colours()
    monkeypatch.setattr(catalog, "resolve", fake_resolve)
    monkeypatch.setitem(sys.modules, "lexiseg.methods.colours", module)
    return seen


def test_load_hands_settings_on_and_remembers_them(shelf):
    model = load("colours/mini", weights="w", preset="paper", device="cpu", dtype="fp32", key=1)
    assert shelf == {"model": "colours/mini", "weights": "w", "preset": "paper", "key": 1}
    assert model.name == "colours/mini"
    assert model.settings["preset"] == "paper"
    assert model.settings["weights"] == "w"
    assert model.dtype == torch.float32


@pytest.mark.parametrize("wrong", [None, 5, Colours])
def test_a_model_is_named_by_a_text_or_a_folder(wrong):
    with pytest.raises(SettingError, match="a model is named by a text such as 'maskclip/mini'"):
        load(wrong)
    with pytest.raises(SettingError, match="weights are a hub id, a folder or a file"):
        load("maskclip/custom", weights=5)


def test_wrong_devices_and_precisions_are_said_before_anything_is_loaded(shelf):
    for wrong in ({"device": "gpu"}, {"dtype": "fp8"}):
        with pytest.raises(UnknownName):
            load("colours/mini", **wrong)
    assert not shelf


def test_words_that_the_model_does_not_know_are_warned_of_and_change_nothing():
    known = predictor()
    warned = Predictor(Colours(), PLAIN, name="colours", device="cpu", familiar=Familiar(frozenset({"red"})))
    plain, noted = (one.segment(flag(), ["red", "green"], background="blue") for one in (known, warned))
    assert plain.warnings == ()
    assert [warning.split("'")[1] for warning in noted.warnings] == ["green", "blue"]
    assert (plain.labels == noted.labels).all()


def test_an_embedded_model_knows_what_it_was_shown_and_random_weights_say_nothing():
    assert load("maskclip/mini", device="cpu").familiar.knows("sheep")
    assert load("maskclip/tiny", device="cpu").familiar is None
