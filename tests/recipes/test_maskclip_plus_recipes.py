"""What the recipes of MaskCLIP+ promise: the paper's numbers, a switch that survives a resume, and the user's job."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from lexiseg import catalog
from lexiseg.cli.main import app
from lexiseg.data.labelled.dense import Relabelling
from lexiseg.data.mini.masked import read_masked
from lexiseg.data.scenes import class_names, unseen_classes
from lexiseg.errors import DataError, LexisegError, SettingError, UnknownName
from lexiseg.evaluation.choosing import protocol
from lexiseg.methods.student import Training
from lexiseg.networks.student_network import StudentNetwork
from lexiseg.recipes import maskclip_plus as recipes
from lexiseg.training.optimiser import factor
from lexiseg.training.recipe import Recipe
from lexiseg.training.train import train

MASKS_TRAIN = Path(__file__).parents[3] / "shared" / "data" / "masks-train"
ALL = {name: getattr(recipes, name) for name in recipes.__all__ if isinstance(getattr(recipes, name), Recipe)}
ANNOTATION_FREE = {"VOC20": 2_000, "CONTEXT59": 4_000, "COCO_STUFF171": 8_000, "ADE150": 8_000, "CITYSCAPES19": 4_000}
ZERO_SHOT = {"VOC_15_5": 20_000, "CONTEXT_50_10": 40_000, "COCO_STUFF_156_15": 80_000}


# --- the numbers


@pytest.mark.parametrize(("name", "steps"), [*ANNOTATION_FREE.items(), *ZERO_SHOT.items()])
def test_the_papers_recipes_have_its_words_and_schedule(name: str, steps: int) -> None:
    recipe = ALL[name]
    asked = protocol("student", recipe.data.benchmark, "maskclip_plus")
    benchmark = catalog.get("benchmarks", recipe.data.benchmark).BENCHMARK.vocabulary(asked.wording)
    vocabulary = recipe.config.vocabulary()
    assert (vocabulary.names, vocabulary.words) == (benchmark.names, benchmark.words)  # it is asked what it learned
    assert (recipe.steps, recipe.batch_size) == (steps, 16)
    rate = 0.004 if name == "CONTEXT_50_10" else 0.01
    for done in (0, steps // 3, steps - 1):  # the formula of maskclip_plus.md §3.6
        formula = (rate - 1e-4) * (1 - done / steps) ** 0.9 + 1e-4
        assert recipe.optimiser.rate * factor(recipe.schedule, done, steps) == pytest.approx(formula)
    if name in ZERO_SHOT:
        assert recipe.objective.self_training == steps // 10
        assert {vocabulary.index(word) for word in recipe.objective.unseen} == {
            place for place, seen in enumerate(benchmark.seen) if not seen
        }


def test_the_unseen_classes_are_the_ids_of_the_spec() -> None:
    """§3.3; there Context's background is class 0, here it comes last."""
    places = {
        name: {ALL[name].config.vocabulary().index(word) for word in ALL[name].objective.unseen} for name in ZERO_SHOT
    }
    assert places["VOC_15_5"] == set(range(15, 20))
    assert places["CONTEXT_50_10"] == {number - 1 for number in (20, 34, 49, 15, 8, 25, 7, 55, 32, 1)}
    coco = {19, 23, 28, 29, 36, 51, 76, 88, 94, 112, 133, 136, 137, 157, 160}
    assert places["COCO_STUFF_156_15"] == coco


def test_words_are_the_authors_and_not_the_data_sets() -> None:
    """docs/papers/maskclip.md §2.9."""
    voc = ALL["VOC_15_5"]
    renamed = {"airplane", "dining table", "potted plant", "tv monitor"}
    assert renamed <= set(voc.config.vocabulary().queries)
    assert set(voc.objective.unseen) == {"pottedplant", "sheep", "sofa", "train", "tvmonitor"}  # classes, by name
    stuff = ALL["COCO_STUFF171"].config.vocabulary().queries
    assert {"brick wall", "wood floor", "structural"} <= set(stuff)
    assert not any("-" in word for word in stuff)
    for name in ("RELEASED", "RELEASED_VOC_15_5"):
        other = {"RELEASED": "CONTEXT59", "RELEASED_VOC_15_5": "VOC_15_5"}[name]
        assert ALL[name].config.words == ALL[other].config.words


def test_photographs_of_the_web_have_the_seven_classes_of_the_authors() -> None:
    vocabulary = ALL["WEB"].config.vocabulary()
    assert vocabulary.names == ("batman", "joker", "building", "ground", "grass", "tree", "sky")
    assert not vocabulary.background


def test_a_backbone_without_a_source_asks_for_one() -> None:
    shape = ALL["FROM_RESNET"].config.student
    with pytest.raises(SettingError, match=r"names no model; give one, for example student\.backbone=clip:FOLDER"):
        StudentNetwork(shape, 256)


def test_released_recipes_have_the_quirks_of_the_code() -> None:
    context, voc = ALL["RELEASED"], ALL["RELEASED_VOC_15_5"]
    assert context.data.labels == "annotation_free"  # ignored pixels are the truth's
    assert context.config.student.backbone == "rn50"
    assert voc.objective.self_training == 1_999  # the first of the forwards, counted from 1, to teach itself is 2,000
    for recipe in (context, voc):
        assert recipe.objective.loss_mean == "all"
        settings = {**recipe.teacher_settings, "weights": None}
        assert catalog.resolve(recipe.teacher, **settings)[1].config.statistics == "imagenet"  # CLIP's are others


@pytest.mark.skipif(not MASKS_TRAIN.is_dir(), reason="the photographs of shared/data/masks-train are not here")
def test_the_words_of_the_miniature_are_the_classes_of_its_label_maps() -> None:
    classes = read_masked(MASKS_TRAIN, shards=("msrc",), occurring=True).classes
    assert tuple("|".join(each.names) for each in classes) == recipes.MSRC
    data = dataclasses.replace(recipes.MINI.data, root=str(MASKS_TRAIN.parent))
    sample = data.source().load(0, np.random.default_rng(0))
    assert set(sample["labels"].unique().tolist()) <= {-1, 255}
    assert (sample["labels"] == -1).float().mean() > 0.4  # nothing but the padding is ignored


# --- a zero-shot run, its switch and its resume

SWITCH, STEPS = 3, 6


def zero_shot(**changes: Any) -> Recipe:
    unseen = unseen_classes()
    names = tuple(class_names()[place] for place in unseen)
    split: dict[str, Any] = {
        "objective": Training(unseen=names, self_training=SWITCH),
        "data": dataclasses.replace(recipes.TOY.data, relabelling=Relabelling(suppressed=unseen)),
        "steps": STEPS,
    }
    return dataclasses.replace(recipes.TOY, **{**split, **changes})


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("whole")
    assert train(zero_shot(), out, tensorboard=False).finished
    return weights(out)


@pytest.mark.parametrize("stopped", [SWITCH - 1, SWITCH, SWITCH + 1])
def test_a_run_that_is_stopped_around_the_switch_goes_on_to_the_same_bytes(
    stopped: int, whole: bytes, tmp_path: Path
) -> None:
    def stop(segmenter: Any, step: int) -> dict[str, Any]:
        if step == stopped - 1:  # the signal is heard at the end of the next step
            signal.raise_signal(signal.SIGTERM)
        return {}

    torch.set_num_threads(1)
    halted = train(zero_shot(evaluate_every=1), tmp_path, evaluate=stop, tensorboard=False)
    assert (halted.finished, halted.step) == (False, stopped)
    assert train(zero_shot(), tmp_path, resume=True, tensorboard=False).finished
    assert weights(tmp_path) == whole


def test_measuring_on_the_way_moves_no_switch(whole: bytes, tmp_path: Path) -> None:
    """The authors' counter counts evaluations too."""

    def look(segmenter: Any, step: int) -> dict[str, Any]:
        with torch.no_grad():
            segmenter.embed_image(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
        return {}

    torch.set_num_threads(1)
    train(zero_shot(evaluate_every=1), tmp_path, evaluate=look, tensorboard=False)
    assert weights(tmp_path) == whole


def test_the_switch_matters(whole: bytes, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    guided = dataclasses.replace(zero_shot().objective, self_training=None)
    train(zero_shot(objective=guided), tmp_path, tensorboard=False)
    assert weights(tmp_path) != whole


def test_half_precise_weights_train_too(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    run = train(zero_shot(precision="bf16_weights", steps=2, objective=Training()), tmp_path, tensorboard=False)
    assert run.finished


def test_the_teachers_settings_reach_it(tmp_path: Path) -> None:
    from lexiseg.training.building import build

    recipe = dataclasses.replace(recipes.TOY, teacher_settings={"prompt_denoising": True, "preset": "released"})
    teacher = build(recipe).objective.teacher
    assert (teacher.config.prompt_denoising, teacher.config.key_smoothing_form) == (True, "released")


# --- the user's job


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(4):
        coarse = Image.fromarray(random.integers(0, 255, (4, 5, 3), np.uint8))
        coarse.resize((80, 60 + number)).save(folder / f"{number}.jpg")
    return folder


def lexiseg(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


SHORT = ("--set", "student.backbone=tiny", "--set", "steps=2", "--set", "batch_size=2", "--set", "workers.number=0")


def test_words_and_a_folder_of_photographs_become_a_network_that_segments(photos: Path, tmp_path: Path) -> None:
    out, labelled = tmp_path / "run", tmp_path / "labelled"
    asked = ("--set", "teacher=maskclip/mini", "--set", "words=cat, grass|lawn, sky", "--data", photos)
    made = json.loads(lexiseg("train", "maskclip_plus", *asked, *SHORT, "--out", out, "--json"))
    assert made["finished"]
    assert made["model"] == str(out / "model")
    picture = photos / "0.jpg"
    options = ("--model", out / "model", "--out", labelled)
    lexiseg("segment", picture, "--words", "sky, cat", *options)
    assert np.isin(np.asarray(Image.open(labelled / "0.png")), [0, 1]).all()
    lexiseg("segment", picture, "--words", "sky, horse", *options, "--overwrite")  # never trained on
    model, inference = catalog.load(out / "model")
    assert inference.prompts == catalog.resolve("maskclip/mini")[1].inference.prompts
    assert sum(each.numel() for each in model.parameters()) < 3_000_000  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (["--data", "photos"], SettingError, "--set words="),
        (["--set", "words=cat", "--data", "nowhere"], DataError, "nowhere is not a folder"),
        (["--set", "words=cat", "--data", "empty"], DataError, "holds no pictures"),
        (["--set", "words=cat"], DataError, "give the one with the photographs"),
        (["--set", "words=cat", "--data", "photos", "--set", "teacher=maskclip/minni"], UnknownName, "maskclip/mini"),
        (["--set", "words=cat, cat", "--data", "photos"], LexisegError, "'cat' is given twice"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(
    arguments: list[str],
    error: type[LexisegError],
    says: str,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for check in (["--dry-run"], []):
        with pytest.raises(error, match=says):
            lexiseg("train", "maskclip_plus", *arguments, *SHORT, *check)
