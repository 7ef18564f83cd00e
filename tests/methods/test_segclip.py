"""SegCLIP against an independent reading of docs/papers/segclip.md, and through the whole machinery."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import segclip_reference as reference
import torch
from torch import Tensor
from torch.nn import functional

from lexiseg import catalog
from lexiseg.data.loader import Loader
from lexiseg.encoders.checkpoints import read_file
from lexiseg.encoders.clip import EMBEDDED
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.tokenizer import pad
from lexiseg.encoders.weights import find
from lexiseg.errors import DataError, SettingError, WeightsError
from lexiseg.inference.predictor import load
from lexiseg.layers.mae import patchify
from lexiseg.layers.pixels import normalise
from lexiseg.methods import segclip
from lexiseg.methods.segclip import Config, Objective, SegClip, Training
from lexiseg.proposals._region_embedding import RegionEmbedding
from lexiseg.recipes.segclip import TOY
from lexiseg.segmenter import DenseLogits, Inference, MaskScores, TextClassifier
from lexiseg.vocabulary import Vocabulary
from lexiseg.weights import Weights

SHAPE = reference.Shape()
SIZE = SHAPE.patch * SHAPE.side
TEXTS = ["a photo of a cat.", "sky", "two dogs on grass", "a road " * 30]


def randn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def pictures(*size: int, seed: int = 0) -> Tensor:
    """Random RGB bytes of (count, height, width)."""
    count, *sides = size
    return torch.randint(0, 256, (count, 3, *sides), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def tiny(**changes: Any) -> SegClip:
    segmenter, _ = catalog.load("segclip/tiny", **changes)
    assert isinstance(segmenter, SegClip)
    return segmenter


@pytest.fixture(scope="module")
def released() -> dict[str, Tensor]:
    return reference.random_weights(SHAPE)


def written(weights: dict[str, Tensor], folder: Path) -> Path:
    """A released checkpoint on disk, beside the embedded model's tokenizer."""
    folder.mkdir(exist_ok=True)
    torch.save(weights, folder / "segclip.bin")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((find(EMBEDDED) / name).read_bytes())
    return folder / "segclip.bin"


def convert(weights: dict[str, Tensor], folder: Path, **changes: Any) -> SegClip:
    """Heads are of 16 channels, where all real ones have 64."""
    how = {"allow_pickle": True, **changes}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lexiseg.encoders.clip_shape.HEAD_DIM", SHAPE.head)
        segmenter, _ = catalog.load("segclip/custom", weights=written(weights, folder), **how)
    assert isinstance(segmenter, SegClip)
    return segmenter


@pytest.fixture(scope="module")
def model(released: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> SegClip:
    return convert(released, tmp_path_factory.mktemp("released"))


def close(found: Tensor, wanted: Any) -> None:
    np.testing.assert_allclose(found.detach().double().numpy(), wanted, atol=1e-5, rtol=1e-5)


# --- the image tower, and the released layout


@pytest.mark.parametrize("size", [(SIZE, SIZE), (2 * SIZE, 2 * SIZE), (20, 28)])
@torch.no_grad()
def test_regions_are_those_of_the_reference(model: SegClip, released: dict[str, Tensor], size: tuple[int, int]) -> None:
    images = pictures(3, *size)
    found = model.embed_image(images)
    for place, image in enumerate(normalise(images, "clip")):
        wanted = reference.embed(released, SHAPE, image)
        close(found.soft[place].flatten(1), wanted["soft"])
        close(found.hard()[place].flatten(1), wanted["hard"])
        close(found.features[place], wanted["features"])
        close(found.image[place], wanted["image"])


@torch.no_grad()
def test_names_that_the_page_does_not_know_are_told_by_their_shapes(model: SegClip, tmp_path: Path) -> None:
    other = convert(reference.random_weights(SHAPE, naming=1), tmp_path)
    assert other.config == model.config
    images = pictures(1, SIZE, SIZE)
    one, two = model.embed_image(images), other.embed_image(images)
    for name in one.per_image:
        torch.testing.assert_close(getattr(one, name), getattr(two, name))


def test_the_checkpoint_decides_the_shape_of_the_group_module(model: SegClip) -> None:
    config = model.config
    assert (config.centres, config.cross_layers, config.plug_layer) == (3, 2, 2)
    assert (config.architecture, config.tokenizer, config.allow_pickle) == ("of_weights", None, False)


@torch.no_grad()
def test_the_text_tower_is_the_checkpoints(model: SegClip, released: dict[str, Tensor]) -> None:
    shape = dataclasses.replace(SHAPE, head=SHAPE.head)
    ids = model.clip.tokenizer(["a cat"])[0]
    x = reference.number_of(released, "clip.token_embedding.weight")[ids]
    x = x + reference.number_of(released, "clip.positional_embedding")[: len(ids)]
    # causal attention: the row of the end token is the last, so that only its own query needs all keys
    rows = [x[: stop + 1] for stop in range(len(ids))]
    inner = [reference.norm(row, released, "clip.transformer.resblocks.0.ln_1") for row in rows]
    name = "clip.transformer.resblocks.0"
    mixed = np.stack([reference.attend(row[-1:], row, released, f"{name}.attn", shape.head)[0] for row in inner])
    x = x + mixed
    hidden = reference.norm(x, released, f"{name}.ln_2")
    x = x + reference.feed_forward(hidden, released, f"{name}.mlp", reference.quick_gelu)
    wanted = reference.norm(x, released, "clip.ln_final")[-1] @ reference.number_of(released, "clip.text_projection")
    close(model.text_features(["a cat"], 32)[0], wanted)


@torch.no_grad()
def test_a_converted_checkpoint_is_saved_as_a_clip_with_a_group_module(model: SegClip, tmp_path: Path) -> None:
    catalog.save(model, tmp_path, method="segclip", inference=Inference())
    again, _ = catalog.load(tmp_path)
    images = pictures(1, SIZE, SIZE)
    torch.testing.assert_close(again.embed_image(images).features, model.embed_image(images).features)
    stored = read_file(tmp_path / "model.safetensors")
    assert {"grouping.centres", "text_model.final_layer_norm.bias"} <= set(stored)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"clip.visual.transformer.semantic_layer2.norm.weight": None}, "norm.weight .* is missing"),
        ({"clip.visual.transformer.layers0.1.ln_1.bias": None}, "resblocks.1.ln_1.bias .* is missing"),
        ({"clip.visual.transformer.semantic_layer2.centres": None}, "has no centres"),
        ({"clip.visual.transformer.semantic_layer2.more.weight": torch.ones(32, 32)}, "more, which .* has not"),
        ({"clip.visual.transformer.semantic_layer2.more": torch.ones(3, 32)}, "two tensors that may be centres"),
        ({"clip.visual.conv1.weight": None}, "does not hold a CLIP"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_told(
    released: dict[str, Tensor], change: dict[str, Any], says: str, tmp_path: Path
) -> None:
    weights = {name: tensor for name, tensor in {**released, **change}.items() if tensor is not None}
    with pytest.raises(WeightsError, match=says):
        convert(weights, tmp_path)


def test_the_papers_variant_takes_no_other_architecture(released: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"and 3 centres of 2 .* after layer 2, but this model is .* after layer 10"):
        catalog.load("segclip/vit-b16", weights=written(released, tmp_path), allow_pickle=True)


def test_tensors_of_unknown_parts_are_named_and_left_out(
    released: dict[str, Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    convert({**released, "clip.queue.ptr": torch.zeros(1)}, tmp_path)
    assert "queue.ptr not known" in caplog.text


def test_a_clip_that_does_not_group_has_to_be_trained_first() -> None:
    with pytest.raises(WeightsError, match="without SegCLIP's group module; train one"):
        catalog.load("segclip", weights=EMBEDDED)
    with pytest.raises(WeightsError, match="name some with weights="):
        catalog.load("segclip/custom")
    started, _ = catalog.load("segclip", weights=EMBEDDED, architecture="from_clip", centres=4)
    assert isinstance(started, SegClip)
    assert started.config.architecture == "of_weights"
    assert (started.plug_layer, len(started.grouping.centres)) == (5, 4)


def test_the_tower_of_the_paper_has_as_many_weights_as_the_authors() -> None:
    """§3.1: millions of parameters; the decoder's fixed positions, 197 x 384, are not weights here."""
    shape = dataclasses.replace(segclip.VIT_B16, context=32, vocabulary=4093, text_width=64, text_layers=1)
    with torch.device("meta"), pytest.MonkeyPatch.context() as patch:
        patch.setitem(segclip.SHAPES, "tiny", shape)
        objective = Training().build(segclip.load(segclip.VARIANTS["tiny"]))
    model, painting = objective.segmenter, objective.reconstruction
    assert painting is not None
    third = [*painting.blocks, painting.spread]
    counts = {"grouping": [model.grouping], "third": third, "tower": [model.vision, model.grouping, *third]}
    millions = {
        name: sum(each.numel() for part in parts for each in part.parameters()) / 1e6 for name, parts in counts.items()
    }
    assert millions == pytest.approx({"grouping": 19.01, "third": 14.18, "tower": 119.38}, abs=0.006)
    decoder = sum(each.numel() for each in painting.decoder.parameters())
    assert (decoder + 197 * 384) / 1e6 == pytest.approx(5.99, abs=0.006)
    assert model.plug_layer == 10


@pytest.mark.parametrize(("layers", "first"), [(2, 1), (6, 5), (12, 10), (24, 20)])
def test_the_group_module_comes_after_ten_of_twelve_layers_in_proportion(layers: int, first: int) -> None:
    tower: Any = SimpleNamespace(model=SimpleNamespace(encoder=SimpleNamespace(layers=[None] * layers)))
    assert segclip.plugged_after(Config(), tower) == first


@pytest.mark.parametrize("after", [0, 1, 2])
@torch.no_grad()
def test_the_group_module_goes_after_any_layer(after: int) -> None:
    model = tiny(plug_layer=after)
    assert model.embed_image(pictures(2, 40, 24)).soft.shape == (2, 8, 5, 3)
    objective = Training(superpixels=0).build(model)
    assert objective.reconstruction is not None
    assert len(objective.reconstruction.blocks) == 2 - after
    with pytest.raises(SettingError, match="the image tower has 2 layers"):
        tiny(plug_layer=3)


@torch.no_grad()
def test_the_class_token_changes_nothing() -> None:
    model, images = tiny(), pictures(1, 32, 32)
    before = model.embed_image(images)
    model.vision.model.embeddings.class_embedding.add_(1.0)
    model.vision.model.embeddings.position_embedding.weight[0].add_(1.0)
    assert torch.equal(model.embed_image(images).features, before.features)


# --- labels


def test_the_papers_text_gives_each_patch_the_cosines_of_its_region() -> None:
    model = tiny(rule="assignment")
    assert model.traits.background == "none"
    words = model.embed_text(Vocabulary("cat, sky, road"), Prompts(("{}",)))
    with torch.no_grad():
        embedding = model.embed_image(pictures(2, 40, 32))
        found = model.classify(embedding, words)
    assert isinstance(found, DenseLogits)
    for place in range(2):
        for row in range(5):
            for column in range(4):
                region = int(embedding.soft[place, :, row, column].argmax())
                cosines = functional.cosine_similarity(embedding.features[place, region], words.weight)
                torch.testing.assert_close(found.logits[place, :, row, column], words.scale * cosines)


def test_a_logit_scale_is_at_most_a_hundred() -> None:
    model = tiny()
    model.clip.log_scale.data.fill_(9.0)
    assert model.embed_text(Vocabulary("cat"), Prompts(("{}",))).scale == 100


CLASSES = 20
NAMES = [f"class {number}" for number in range(CLASSES)]


class Synthetic:
    """Confident regions, which the pixel at the top left of a window decides."""

    def __init__(self, words: Tensor, grid: int = 14) -> None:
        self.words, self.grid = words, grid

    def __call__(self, images: Tensor) -> RegionEmbedding:
        made = [self.of(image) for image in images]
        return RegionEmbedding(*(torch.stack(parts) for parts in zip(*made, strict=True)), patch=16)

    def of(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        random = torch.Generator().manual_seed(int(image[:, 0, 0].to(torch.int64).sum()))
        blobs = functional.interpolate(torch.randn(1, 8, 4, 4, generator=random), (self.grid, self.grid))[0]
        classes = torch.randperm(CLASSES, generator=random)[:8]
        strength = torch.rand(8, 1, generator=random)  # so that some regions are below every threshold
        noise = torch.randn(8, self.words.shape[1], generator=random) / self.words.shape[1] ** 0.5
        features = strength * self.words[classes] + (1 - strength) * noise
        return (4 * blobs).softmax(0), features, self.words[classes[:5]].sum(0) + noise[0]


@pytest.mark.parametrize("threshold", [0.25, 0.65, 0.75, 0.80])
@pytest.mark.parametrize(
    ("size", "scale"),
    # at 12 a sure score is 0.95; at 30 it is exactly 1, and ties with the background of the other window
    [((375, 500), 12), ((300, 225), 12), ((130, 97), 12), ((375, 500), 30)],
)
def test_windows_are_labelled_as_the_released_code_does(threshold: float, size: tuple[int, int], scale: float) -> None:
    """Every label; `by_hand` is the whole of §3.8 in a few dense steps."""
    preset = segclip.PRESETS["released"] | {"product_threshold": threshold}
    predictor = load("segclip/tiny", device="cpu", dtype="fp32", **preset)
    words = functional.normalize(randn(CLASSES, 32, seed=3), dim=1)
    classifier = TextClassifier.of(Vocabulary(NAMES), words, scale)
    model: Any = predictor.segmenter
    model.embed_image, model.embed_text = Synthetic(words), lambda *_, **__: classifier
    photo = pictures(1, *size, seed=7)[0].permute(1, 2, 0).numpy()
    embedded = predictor.embed(photo)
    views = list(embedded.views)
    found = predictor.segment(photo, NAMES).labels
    wanted = by_hand(views, embedded.resized, size, scale * words, threshold)
    assert np.array_equal(found, wanted)
    assert (wanted == 255).any()
    assert len(np.unique(wanted)) > 3


def by_hand(views: Any, resized: tuple[int, int], size: tuple[int, int], words: Tensor, threshold: float) -> np.ndarray:
    total, count = torch.zeros(1, 1 + CLASSES, *resized), torch.zeros(resized)
    for box, view in views:
        soft = functional.interpolate(view.soft, view.covers, mode="bilinear", align_corners=False)[0]
        region = soft.argmax(0)[: box.size[0], : box.size[1]]
        vectors, image = functional.normalize(view.features[0], dim=1), functional.normalize(view.image[0], dim=0)
        logits = vectors @ words.T
        top = (words @ image).topk(5).indices
        post = torch.zeros_like(logits)
        post[:, top] = logits[:, top].softmax(1)
        product = logits.softmax(1) * post  # [G, N]
        background = (product.amax(1) < min(threshold, float(product.max()))).float()
        values = torch.cat([background[:, None], product], dim=1)[region].permute(2, 0, 1)  # [1 + N, H, W]
        total[0][(..., *box.slices)] += values
        count[box.slices] += 1
    whole = functional.interpolate(total / count, size, mode="bilinear", align_corners=False).softmax(1)
    labels = whole[0].argmax(0)
    return torch.where(labels == 0, 255, labels - 1).numpy()


def test_pictures_of_several_windows_are_what_each_is_alone() -> None:
    predictor = load("segclip/tiny", device="cpu", dtype="fp32")
    photos = [pictures(1, 50, 80, seed=seed)[0].permute(1, 2, 0).numpy() for seed in range(3)]
    together = list(predictor.segment_many(photos, "cat, sky, road, dog", batch_size=3))
    for photo, found in zip(photos, together, strict=True):
        assert np.array_equal(found.labels, predictor.segment(photo, "cat, sky, road, dog").labels)


def test_the_masks_of_many_classes_stay_few() -> None:
    """8 masks of 448 pixels and 847 scores each, where dense logits would be 681 MB."""
    model = tiny()
    words = functional.normalize(randn(847, 32), dim=1)
    classifier = TextClassifier(words, torch.arange(847), 100.0, channels=847)
    with torch.no_grad():
        result = model.classify(model.embed_image(pictures(1, 448, 448)), classifier)
    assert isinstance(result, MaskScores)
    assert result.masks.nbytes + result.scores.nbytes < 7e6
    assert torch.equal(result.masks.sum(1), torch.ones(1, 448, 448))


# --- training


def objective(settings: Training | None = None, **changes: Any) -> Objective:
    torch.manual_seed(0)
    return (settings or Training()).build(tiny(**changes))


def batch(count: int = 4) -> dict[str, Any]:
    maps = torch.randint(0, 5, (count, 4, 4), generator=torch.Generator().manual_seed(5)).int()
    return {
        "images": pictures(count, 32, 32),
        "texts": TEXTS[:count],
        "superpixels": maps.repeat_interleave(8, 1).repeat_interleave(8, 2),
    }


@pytest.mark.parametrize("reconstructed", ["hidden", "all"])
@torch.no_grad()
def test_hidden_patches_are_painted_as_in_the_reference(
    released: dict[str, Tensor], model: SegClip, reconstructed: Any
) -> None:
    settings = Training(reconstructed=reconstructed)
    torch.manual_seed(1)
    made = settings.build(model).train()
    assert made.reconstruction is not None
    for weight in made.reconstruction.parameters():
        weight.add_(0.2 * torch.randn(weight.shape))
    images, length = pictures(2, SIZE, SIZE), SHAPE.side**2
    order, noise = torch.rand(2, length), 3 * torch.randn(2, SHAPE.centres, 3)  # int(17 / 4) - 1 patches are kept
    patches, grid = model.embed_patches(images)
    wanted = patchify(normalise(images, "clip"), SHAPE.patch)
    found = made.of_hidden(patches, grid, wanted, order=order, noise=noise)
    for place, image in enumerate(normalise(images, "clip")):
        ranked = order[place].argsort().tolist()
        cells = reference.patches(released, SHAPE, image)[ranked[:3]]
        _, hard, regions = reference.group(released, SHAPE, cells, noise[place].double().numpy())
        painted = reference.paint(made, SHAPE, regions, hard, ranked, grid)
        error = ((painted - wanted[place].double().numpy()) ** 2).mean(1)
        expected = error.mean() if reconstructed == "all" else error[ranked[3:]].mean()
        assert float(found[place]) == pytest.approx(expected, rel=1e-5)
    model.eval()


def test_losses_are_those_of_the_formulas() -> None:
    made, given = objective().eval(), batch()
    model = made.segmenter
    with torch.no_grad():
        losses = made(given)
        image = functional.normalize(model.embed_image(given["images"]).image, dim=1)
        rows = [row if len(row) <= 32 else [*row[:31], row[-1]] for row in model.clip.tokenizer(TEXTS)]
        text = functional.normalize(model.clip.text_features(pad(rows)), dim=1)
        logits = model.clip.logit_scale * image @ text.T
        own = torch.arange(4)
        contrast = (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
        assert float(losses["contrast"]) == pytest.approx(float(contrast), rel=1e-5)
        assigned = model.embed_image(given["images"]).hard().flatten(2)  # [B, G, L]
        ids = given["superpixels"][:, ::8, ::8].flatten(1)
        total = 0.0
        for hard, numbers in zip(assigned, ids, strict=True):
            for patch in range(16):
                mean = hard[:, numbers == numbers[patch]].mean(1).softmax(0)
                one = hard[:, patch].softmax(0)
                total += float((mean * (mean / one).log()).sum() + (one * (one / mean).log()).sum())
        assert float(losses["superpixels"]) == pytest.approx(total / 2 / (4 * 16 * 8), rel=1e-5)


def test_a_loss_of_no_weight_is_left_out_with_its_weights() -> None:
    made = objective(Training(reconstruction=0, superpixels=0))
    given = batch()
    del given["superpixels"]
    assert set(made(given)) == {"contrast"}
    assert not any(name.startswith("reconstruction") for name in made.state_dict())
    with pytest.raises(DataError, match=r"data\.superpixels"):
        objective()(given)


def test_weights_multiply_their_losses() -> None:
    once, twice = (objective(Training(reconstruction=each, superpixels=3 * each)).eval() for each in (1.0, 2.0))
    with torch.no_grad():
        one, two = once(batch()), twice(batch())
    assert float(two["reconstruction"]) == pytest.approx(2 * float(one["reconstruction"]))
    assert float(two["superpixels"]) == pytest.approx(2 * float(one["superpixels"]))
    assert float(two["contrast"]) == pytest.approx(float(one["contrast"]))


def test_the_legacy_mistake_mixes_the_images_of_a_batch_in_training_alone() -> None:
    wrong, right = (objective(Training(legacy_scramble=each)) for each in (True, False))
    given = batch()
    with torch.no_grad():
        for one, two in zip(wrong.eval().embed(given), right.eval().embed(given), strict=True):
            assert torch.equal(one, two)
        for made in (wrong, right):
            made.train()
        other = {**given, "images": given["images"].clone()}
        other["images"][1:] = 0
        for made, mixes in ((wrong, True), (right, False)):
            first, second = [], []
            for each, rows in ((given, first), (other, second)):
                torch.manual_seed(3)
                rows.append(made.embed(each)[0][0])
            assert torch.allclose(first[0], second[0], atol=1e-6) != mixes


def test_the_report_says_how_the_centres_are_used() -> None:
    made = objective(centres=4)
    made.before_step(0)
    made._used += [torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.5, 0.5]])]
    report = made.report()
    share = np.array([1 / 3, 1 / 3, 1 / 6, 1 / 6])
    assert report["usage_entropy"] == pytest.approx(-(share * np.log(share)).sum() / np.log(4))
    assert report["image_entropy"] == pytest.approx((0 + 0 + np.log(2)) / 3 / np.log(4))
    assert report["centres_used"] == pytest.approx((1 + 1 + 2) / 12)
    made.before_step(1)
    made(batch())
    assert all(0 <= value <= 1 for value in made.report().values())


def test_one_centre_has_no_entropy() -> None:
    made = objective(centres=1)
    made(batch())
    assert made.report() == {"usage_entropy": 0.0, "image_entropy": 0.0, "centres_used": 1.0}


def test_the_scale_is_held_below_a_hundred() -> None:
    made = objective()
    made.segmenter.clip.log_scale.data.fill_(7.0)
    made.after_step(0)
    assert float(made.segmenter.clip.log_scale.detach().exp()) == pytest.approx(100)


def test_a_trained_model_looks_at_windows_of_the_size_it_was_trained_at() -> None:
    found = objective().inference(segclip.VARIANTS["custom"].inference)
    assert (found.short_side, found.window, found.stride, found.blend) == (32, 32, 32, "logits")


def test_the_toy_has_superpixels_of_its_scenes() -> None:
    source = TOY.data.open(batch_size=3, seed=0, max_bad_fraction=0)
    assert isinstance(source, Loader)
    given, _ = next(source.stream())
    assert given["superpixels"].shape == (3, 32, 32)
    assert len(given["superpixels"][0].unique()) > 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"centres": 0}, {"cross_layers": -1}, {"plug_layer": -1}, {"temperature": 0.0}, {"product_threshold": 1.5},
        {"top_classes": 0},
    ],
)  # fmt: skip
def test_a_mistake_in_the_config_is_a_sentence(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="must be"):
        Config(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"mask_ratio": 1.0}, {"reconstruction": -1.0}, {"superpixels": float("nan")}, {"text_length": 1}]
)
def test_a_mistake_in_the_training_is_a_sentence(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="must be"):
        Training(**wrong)


def test_a_teacher_and_a_decoder_that_does_not_divide_are_refused() -> None:
    with pytest.raises(SettingError, match="leave the teacher out"):
        Training().build(tiny(), teacher=object())
    with pytest.raises(SettingError, match="decoder_width is 20"):
        Training(decoder_width=20).build(tiny())


def test_a_resnet_is_refused(tmp_path: Path) -> None:
    clip, _ = catalog.load("maskclip/tiny-rn")
    clip.clip.save(tmp_path)  # type: ignore[attr-defined]
    with pytest.raises(WeightsError, match="give one with a ViT"):
        segclip.load(
            dataclasses.replace(
                segclip.VARIANTS["custom"], weights=Weights.of(tmp_path), config=Config(architecture="from_clip")
            )
        )
