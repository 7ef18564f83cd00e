"""Self-training in one command: what its stages are, what the guesses are, and that a run may be killed anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lexiseg import catalog
from lexiseg.data.labelled.source import DenseSource
from lexiseg.data.scenes import class_names, unseen_classes
from lexiseg.encoders.prompts import Prompts
from lexiseg.errors import SettingError
from lexiseg.evaluation.pseudo_labels import label
from lexiseg.losses.pseudo_labels import UNLABELLED
from lexiseg.networks.student_network import StudentNetwork
from lexiseg.recipes import _zero_shot, learned_prompts, maskclip_plus, zsseg_fcn
from lexiseg.training.recipe import Labelling, Recipe
from lexiseg.training.train import train
from lexiseg.vocabulary import Vocabulary

# --- the numbers of the paper and of the released code (zsseg_fcn.md §7.1-7.4)


def test_the_fcn_has_the_schedule_of_its_rival() -> None:
    coco, voc = zsseg_fcn.RECIPE, zsseg_fcn.VOC_15_5
    assert [(each.steps, each.batch_size) for each in (coco, voc)] == [(60_000, 32), (20_000, 16)]
    assert [each.data.augmentation.crop for each in (coco, voc)] == [(640, 640), (512, 512)]
    for recipe in (coco, voc):
        assert (recipe.optimiser.name, recipe.optimiser.rate, recipe.optimiser.weight_decay) == ("adamw", 1e-4, 1e-4)
        assert (recipe.schedule.name, recipe.schedule.power, recipe.schedule.warmup) == ("poly", 0.9, 0)
        assert recipe.groups[0].rate == 0.1
        assert recipe.objective.prompts == "a sculpture of a {}."
    assert [len(each.objective.words) - len(each.objective.unseen) for each in (coco, voc)] == [156, 15]
    assert {"wall-concrete", "playingfield"} <= set(coco.objective.unseen)  # the data set's own names


def test_the_rules_for_rates_and_decay_name_the_parts_they_mean() -> None:
    with torch.device("meta"):
        network = StudentNetwork(zsseg_fcn.RECIPE.config.network, 512)
    backbone, norms = zsseg_fcn.RECIPE.groups
    names = [f"segmenter.network.{name}" for name, _ in network.named_parameters()]
    matched = {name for name in names if any(fnmatchcase(name, each) for each in norms.names)}
    assert all(any(fnmatchcase(name, each) for name in names) for each in (*norms.names, *backbone.names))
    groups = {name for name, each in network.head.named_modules() if isinstance(each, torch.nn.GroupNorm)}
    assert matched == {f"segmenter.network.head.{name}.{kind}" for name in groups for kind in ("weight", "bias")}
    assert catalog.resolve(zsseg_fcn.RECIPE.model)[1].config.network == zsseg_fcn.RECIPE.config.network


def test_prompts_are_learned_for_as_many_passes_as_the_paper_says() -> None:
    coco, voc = learned_prompts.RECIPE, learned_prompts.VOC_15_5
    for recipe, seen, per_class, passes in ((coco, 156, 32, 103), (voc, 15, 128, 53)):
        assert len(recipe.objective.words) - len(recipe.objective.unseen) == seen
        assert recipe.data.per_class == per_class
        assert recipe.steps * recipe.batch_size / (seen * per_class) == pytest.approx(passes, abs=0.5)
        assert (recipe.optimiser.name, recipe.optimiser.rate) == ("sgd", 0.02)
        assert recipe.schedule.name == "cosine"
        assert recipe.schedule.warmup * recipe.steps == pytest.approx(100)
        assert catalog.resolve(recipe.model)[1].config.length == 16
    released = learned_prompts.RELEASED
    assert (released.clip, released.objective.fill, released.data.augmentation.size) == (0.01, "released", (244, 224))
    assert (coco.clip, coco.objective.fill, coco.data.augmentation.size) == (None, "mean", (224, 224))


def test_the_miniatures_unseen_classes_were_chosen_by_name() -> None:
    names = sorted(Vocabulary(maskclip_plus.MSRC, shared_words=True).names)
    assert (names[4], names[9], names[14], names[19]) == _zero_shot.MSRC_UNSEEN
    for recipe in (zsseg_fcn.MINI, learned_prompts.MINI):
        assert recipe.objective.unseen == _zero_shot.MSRC_UNSEEN


# --- the stages


def test_self_training_is_three_stages_of_one_recipe() -> None:
    first, labelling, last = _zero_shot.self_training(zsseg_fcn.RECIPE, confidence=0.5, steps=7)
    assert isinstance(labelling, Labelling)
    assert (first.name, labelling.name, last.name) == ("seen", "guess", "all")
    assert replace(first, name="") == zsseg_fcn.RECIPE
    assert (labelling.teacher, labelling.confidence, labelling.prior, labelling.keep_seen) == ("@seen", 0.5, 0.0, True)
    assert labelling.data == first.data
    assert (last.data.pseudo_labels, last.objective.unseen, last.carry, last.steps) == ("@guess", (), False, 7)
    assert replace(last.data, pseudo_labels=None) == first.data


def test_recipes_that_cannot_be_filled_are_refused() -> None:
    with pytest.raises(SettingError, match=r"cannot train itself: this recipe has no data\.pseudo_labels"):
        _zero_shot.self_training(learned_prompts.RECIPE)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("whole")
    assert train(zsseg_fcn.TOY_SELF_TRAINED, out, label=label, tensorboard=False).finished
    return out


def test_guesses_are_the_best_unseen_classes_among_all(whole: Path) -> None:
    """By hand: both branches over all classes, seen ones out of the running, and the truth wherever it is known."""
    segmenter: Any
    segmenter, inference = catalog.load(whole / "seen" / "model")
    vocabulary, unseen = Vocabulary(class_names()), list(unseen_classes())
    source: Any = zsseg_fcn.TOY.data.source()
    checked = 0
    for index in range(16):
        image, known = source.read(index)
        guess = np.asarray(Image.open(whole / "guess" / "labels" / f"{source.key(index)}.png")).astype(int)
        holes = known == UNLABELLED
        assert (guess[~holes] == known[~holes]).all()
        assert set(np.unique(guess[holes])) <= set(unseen)
        # the size that the network sees is twice the picture's
        with torch.no_grad():
            pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
            seen = torch.nn.functional.interpolate(pixels, (64, 64), mode="bilinear", antialias=True)
            words = segmenter.embed_text(vocabulary, Prompts.open(inference.prompts))
            weights = segmenter.classify(segmenter.embed_image(seen), words).masks
            weights = torch.nn.functional.interpolate(weights, image.shape[:2], mode="bilinear")[0].numpy()
        best = np.array(unseen)[weights[unseen].argmax(0)]
        assert (best == guess)[holes].all()
        checked += int(holes.sum())
    assert checked > 100
    assert inference.prompts == "a sculpture of a {}."


def test_the_second_network_learns_from_guesses(whole: Path) -> None:
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    labelled = {stage: [x["report/labelled"] for x in lines if x["stage"] == stage] for stage in (1, 3)}
    assert max(labelled[1]) < 1
    assert labelled[3] == [1.0] * len(labelled[3])
    filled: Any = replace(zsseg_fcn.TOY.data, pseudo_labels=str(whole / "guess" / "labels"))  # type: ignore[type-var]
    source = filled.source()
    assert isinstance(source, DenseSource)
    assert not any((source.read(index)[1] == UNLABELLED).any() for index in range(8))


class Killed(BaseException):
    pass


def dying(after: int) -> Callable[..., dict[str, int]]:
    def progress(done: int, total: int) -> None:
        if done == after:
            raise Killed

    return partial(label, progress=progress)


def test_a_run_that_is_killed_goes_on_to_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    with pytest.raises(Killed):
        train(zsseg_fcn.TOY_SELF_TRAINED, tmp_path, label=dying(9), tensorboard=False)
    assert train(zsseg_fcn.TOY_SELF_TRAINED, tmp_path, label=label, resume=True, tensorboard=False).finished
    for path in [*whole.rglob("model.safetensors"), *whole.rglob("*.png")]:
        assert (tmp_path / path.relative_to(whole)).read_bytes() == path.read_bytes()


def test_settings_of_all_stages_change_at_once() -> None:
    from lexiseg.training import stages

    changed = stages.change(
        zsseg_fcn.VOC_15_5_SELF_TRAINED, {"confidence": "0.4", "@all.steps": "5", "data.root": "elsewhere"}
    )
    first, guess, last = changed
    assert isinstance(first, Recipe)
    assert isinstance(guess, Labelling)
    assert isinstance(last, Recipe)
    assert (guess.confidence, last.steps, first.steps) == (0.4, 5, 20_000)
    assert {each.data.root for each in changed} == {"elsewhere"}  # type: ignore[attr-defined]
