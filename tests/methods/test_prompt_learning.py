"""Prompts are learned through the trainer, saved apart, and serve every model on the same CLIP."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import lexiseg
from lexiseg import catalog
from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_shape import TINY_RESNET, TINY_VIT
from lexiseg.encoders.prompts import Prompts
from lexiseg.errors import DataError, SettingError, UnknownName, WeightsError
from lexiseg.methods import learned_prompts
from lexiseg.methods.learned_prompts import Config, LearnedPrompts, Training
from lexiseg.recipes.learned_prompts import TOY
from lexiseg.segmenter import Teacher
from lexiseg.training.train import train
from lexiseg.vocabulary import Vocabulary
from lexiseg.weights import Weights

WORDS = ("cat", "grass|lawn", "sky", "traffic light")


def fresh(clip: Clip | None = None, length: int = 4) -> LearnedPrompts:
    clip = clip or Clip.random(TINY_VIT)
    return LearnedPrompts(clip, 0.02 * torch.randn(length, clip.shape.text_width), Config(length))


def crops(count: int = 5, labels: tuple[int, ...] = (0, 1, 2, 3, 1)) -> dict[str, Any]:
    random = torch.Generator().manual_seed(0)
    return {
        "images": torch.randint(0, 256, (count, 3, 32, 40), dtype=torch.uint8, generator=random),
        "masks": torch.rand(count, 32, 40, generator=random) > 0.4,
        "labels": torch.tensor(labels),
    }


# --- the maths


@pytest.mark.parametrize("shape", [TINY_VIT, TINY_RESNET], ids=["vit", "resnet"])
def test_the_loss_is_the_cross_entropy_of_scaled_cosines(shape: Any) -> None:
    """In float64 numpy, from CLIP's own features of pictures that are filled by hand."""
    clip, batch = Clip.random(shape), crops()
    objective = Training(WORDS, logit_scale=37.0).build(fresh(clip)).eval()
    mean, std = (np.array(each)[:, None, None] for each in (clip.mean, clip.std))
    pictures = (batch["images"].double().numpy() / 255 - mean) / std
    pictures = np.where(batch["masks"].numpy()[:, None], pictures, 0.0)
    with torch.no_grad():
        vectors = clip.image_features(torch.from_numpy(pictures).float()).double().numpy()
        queries = ["cat", "grass", "lawn", "sky", "traffic light"]
        words = clip.embed_words(queries, objective.segmenter.prompts).double().numpy()
    cosines = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) @ words.T
    logits = 37 * np.stack([cosines[:, 0], cosines[:, 1:3].max(1), cosines[:, 3], cosines[:, 4]], axis=1)
    likely = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    wanted = -likely[np.arange(5), batch["labels"].numpy()].mean()
    assert float(objective(batch)["words"].detach()) == pytest.approx(wanted, rel=1e-4)
    assert objective.report() == {"accuracy": (logits.argmax(1) == batch["labels"].numpy()).mean()}


@pytest.mark.parametrize(
    ("fill", "level"), [("mean", (0.0, 0.0, 0.0)), ("released", (0.48145466, 0.4578275, 0.40821073)), ("black", None)]
)
def test_pixels_of_other_classes_are_filled(fill: Any, level: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The released mean of colours is taken where they have been normalised with it already (zsseg_fcn.md §7.2)."""
    objective, batch, given = Training(WORDS, fill=fill).build(fresh()), crops(), []

    def look(images: Tensor) -> Tensor:
        given.append(images)
        return images.new_ones(len(images), 32)

    monkeypatch.setattr(objective.segmenter.clip, "image_features", look)
    objective(batch)
    outside = given[0].permute(0, 2, 3, 1)[~batch["masks"]]
    wanted = objective.segmenter.normalise(torch.zeros(3, 1, 1, dtype=torch.uint8)).flatten()
    torch.testing.assert_close(outside, (wanted if level is None else torch.tensor(level)).expand_as(outside))
    seen = objective.segmenter.normalise(batch["images"]).permute(0, 2, 3, 1)[batch["masks"]]
    assert torch.equal(given[0].permute(0, 2, 3, 1)[batch["masks"]], seen)


def test_unseen_classes_do_not_compete() -> None:
    torch.manual_seed(0)
    model, batch = fresh(), crops(labels=(0, 3, 2, 3, 2))
    zero_shot = Training(WORDS, unseen=("grass",), start="has").build(model)
    three = Training(("cat", "sky", "traffic light"), start="has").build(model)
    alone = {**batch, "labels": torch.tensor((0, 2, 1, 2, 1))}
    assert float(zero_shot(batch)["words"].detach()) == pytest.approx(float(three(alone)["words"].detach()), rel=1e-5)
    with pytest.raises(DataError, match="labelled 'grass', which is said to be unseen"):
        zero_shot(crops())


def test_real_words_as_vectors_lose_what_their_sentence_would() -> None:
    """ "a photo of a {}." learned by heart."""
    clip, batch = Clip.random(TINY_VIT), crops()
    (row,) = clip.tokenizer(["a photo of a"])
    context = clip.text_model.embeddings.token_embedding.weight[row[1:-1]].detach().clone()
    model = LearnedPrompts(clip, context, Config(len(context)))
    objective = Training(WORDS, start="has").build(model)
    with torch.no_grad():
        words = clip.embed_words(["cat", "grass", "lawn", "sky", "traffic light"], Prompts(("a photo of a {}.",)))
        cosines = functional.normalize(objective.see(batch["images"], batch["masks"]), dim=-1) @ words.T
        logits = clip.logit_scale * torch.stack(
            [cosines[:, 0], cosines[:, 1:3].amax(1), cosines[:, 3], cosines[:, 4]], dim=1
        )
        wanted = functional.cross_entropy(logits, batch["labels"])
    torch.testing.assert_close(objective(batch)["words"].detach(), wanted, atol=1e-4, rtol=1e-4)


def test_gradients_reach_exactly_the_vectors() -> None:
    objective = Training(WORDS).build(fresh())
    objective(crops())["words"].backward()
    reached = {name for name, each in objective.named_parameters() if each.grad is not None}
    assert reached == {"segmenter.context"} == {n for n, each in objective.named_parameters() if each.requires_grad}
    assert (objective.segmenter.context.grad.abs().sum(dim=1) > 0).all()


def test_half_precise_towers_learn_prompts_too() -> None:
    objective = Training(WORDS).build(fresh().bfloat16())
    loss = objective(crops())["words"]
    assert loss.dtype == torch.float32
    loss.backward()
    assert objective.segmenter.context.grad.isfinite().all()


def test_the_vectors_begin_as_the_seed_says() -> None:
    contexts = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        contexts.append(Training(WORDS).build(fresh(length=16)).segmenter.context.detach().clone())
    assert torch.equal(contexts[0], contexts[1])
    assert not torch.equal(contexts[0], contexts[2])
    assert float(contexts[0].std()) == pytest.approx(0.02, rel=0.1)


# --- through the trainer


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("run")
    train(TOY, out, tensorboard=False)
    return out


def test_the_loss_falls_and_only_the_vectors_have_changed(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.7 * lines[0]["loss"]
    assert lines[-1]["report/accuracy"] > lines[0]["report/accuracy"]
    before, _ = catalog.load("learned_prompts/custom", weights="asset:mini-clip", length=4)
    after: Any = catalog.load(trained / "model")[0]
    states: Any = before.state_dict()  # type: ignore[attr-defined]
    assert {n for n, each in states.items() if not torch.equal(after.state_dict()[n], each)} == {"context"}


def test_a_checkpoint_holds_the_vectors_without_the_clip(trained: Path) -> None:
    largest = max(path.stat().st_size for path in (trained / "checkpoints").rglob("*") if path.is_file())
    assert largest < 100_000 < (trained / "model" / "model.safetensors").stat().st_size


@pytest.mark.parametrize("model", ["maskclip/mini-vit", "mini_clip_vit/mini"])
def test_the_file_serves_every_model_on_the_same_clip(model: str, trained: Path, tmp_path: Path) -> None:
    learned = trained / "model" / "learned.safetensors"
    prompts = Prompts.open(learned)
    assert prompts.context is not None
    assert prompts.context.shape == (4, 192)
    photo = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    words = "cat, grass, sky"
    options: Any = {"device": "cpu", "dtype": "fp32", "text_cache": False, "long_side": 64}
    if model == "mini_clip_vit/mini":
        options["weights"] = "asset:mini-clip"
    ours, plain = (lexiseg.load(model, prompts=each, **options) for each in (learned, "single"))
    found = ours.segment(photo, words)
    assert (found.labels != plain.segment(photo, words).labels).any()
    assert ours.settings["prompts"] != plain.settings["prompts"]
    ours.save(tmp_path / "saved")  # and they go with it
    again = lexiseg.load(tmp_path / "saved", device="cpu", dtype="fp32", text_cache=False)
    assert (again.segment(photo, words).labels == found.labels).all()


def test_as_a_model_it_is_maskclip_with_its_prompts(trained: Path) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    options: Any = {"device": "cpu", "dtype": "fp32", "text_cache": False, "short_side": 64, "multiple": 8}
    theirs = lexiseg.load(trained / "model", prompts="vild14", **options)
    file = trained / "model" / "learned.safetensors"
    ours = lexiseg.load("maskclip/mini-vit", prompts=file, **{**options, "long_side": 2048})
    assert (ours.segment(photo, "cat, sky").labels == theirs.segment(photo, "cat, sky").labels).all()


# --- bad input


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({}, SettingError, r"no words to train on; give for example --set words="),
        ({"words": ("cat",)}, SettingError, "1 seen classes leave nothing to tell apart"),
        ({"words": WORDS, "unseen": ("dog",)}, UnknownName, "dog"),
        ({"words": WORDS, "logit_scale": 0.0}, SettingError, "logit_scale must be a number above 0"),
    ],
)
def test_what_cannot_be_trained_is_said_before(settings: dict[str, Any], error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        Training(**settings).build(fresh())


def test_a_teacher_has_nothing_to_say() -> None:
    teacher = Teacher(fresh(), catalog.resolve("maskclip/tiny")[1].inference, Prompts.open("single"))
    with pytest.raises(SettingError, match="leave the teacher out"):
        Training(WORDS).build(fresh(), teacher=teacher)


def test_labels_beyond_the_words_are_told() -> None:
    with pytest.raises(DataError, match="a crop is labelled 7 and there are 4 classes"):
        Training(WORDS).build(fresh())(crops(labels=(0, 1, 2, 7, 1)))


def test_prompts_that_are_not_learned_yet_say_so(caplog: pytest.LogCaptureFixture) -> None:
    model, _ = catalog.load("learned_prompts/tiny")
    model.embed_text(Vocabulary("cat, sky"), Prompts.open("single"))
    assert "these prompts are random, not learned" in caplog.text


def test_a_variant_without_a_clip_asks_for_one() -> None:
    with pytest.raises(WeightsError, match="name one with weights="):
        catalog.load("learned_prompts/custom")
    with pytest.raises(SettingError, match="length must be 1 or more"):
        catalog.load("learned_prompts/tiny", length=0)


def test_a_file_of_another_kind_beside_the_weights_is_refused(tmp_path: Path) -> None:
    variant = learned_prompts.VARIANTS["tiny"]
    model = learned_prompts.load(variant)
    model.clip.save(tmp_path)
    Prompts(("a {}",), torch.randn(3, 64), word_at=1).save(tmp_path / "learned.safetensors")
    with pytest.raises(WeightsError, match="does not hold vectors that stand before a word"):
        learned_prompts.load(replace(variant, weights=Weights.of(tmp_path)))
