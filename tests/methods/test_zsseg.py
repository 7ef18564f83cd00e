"""ZSSeg (zsseg.md): formulas in float64 numpy, the grid against known pixels, the authors' checkpoints, bad input."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lexiseg import catalog
from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_shape import TINY_RESNET, TINY_VIT
from lexiseg.encoders.prompts import Prompts
from lexiseg.errors import DataError, LexisegError, SettingError, UnknownName, WeightsError
from lexiseg.inference.predictor import Predictor
from lexiseg.layers import pixels
from lexiseg.methods import zsseg
from lexiseg.methods.zsseg import Config, Training, Words, ZsSeg, ZsSegEmbedding
from lexiseg.networks.maskformer import MaskFormerShape, Queries
from lexiseg.proposals._proposals import CERTAIN, Proposals
from lexiseg.segmenter import MaskScores
from lexiseg.vocabulary import Vocabulary
from lexiseg.weights import Weights

TINY = zsseg.VARIANTS["tiny"]
WORDS = Vocabulary("cat, grass, sky, road, dog", seen=[True, True, False, True, False])
PROMPTS = Prompts.open("single")


def segmenter(**changes: Any) -> ZsSeg:
    return zsseg.load(dataclasses.replace(TINY, config=dataclasses.replace(TINY.config, **changes)))


def images(height: int = 40, width: int = 56, *, batch: int = 2) -> Tensor:
    coarse = torch.randint(0, 256, (batch, 3, 5, 5), generator=torch.Generator().manual_seed(0)).float()
    return functional.interpolate(coarse, size=(height, width), mode="bilinear").to(torch.uint8)


def drawn(*rectangles: tuple[int, int, int, int], size: tuple[int, int] = (40, 56), batch: int = 2) -> Proposals:
    """Certain masks: top, left, bottom, right."""
    masks = torch.full((batch, len(rectangles), *size), -CERTAIN)
    for number, (top, left, bottom, right) in enumerate(rectangles):
        masks[:, number, top:bottom, left:right] = CERTAIN
    return Proposals(masks, torch.ones(batch, len(rectangles), dtype=torch.bool))


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def cosines(vectors: Tensor, words: Tensor) -> np.ndarray:
    one, other = vectors.double().numpy(), words.double().numpy()
    norm = np.linalg.norm(one, axis=-1, keepdims=True)
    return np.asarray((one / np.maximum(norm, 1e-12)) @ (other / np.linalg.norm(other, axis=-1, keepdims=True)).T)


@torch.no_grad()
def branches(model: ZsSeg, embedding: ZsSegEmbedding, words: Words) -> tuple[np.ndarray, np.ndarray]:
    """p and r (§4.4-4.5) in float64."""
    rows = torch.cat([words.queries.weight, model.no_object.detach()])
    own = softmax(words.queries.scale * cosines(embedding.queries, rows))[..., :-1]
    return own, softmax(words.regions.scale * cosines(embedding.regions, words.regions.weight))


# --- the two branches and their mean


@torch.no_grad()
def test_scores_are_the_geometric_mean_with_exponents_by_seen_and_unseen() -> None:
    model = segmenter(ensemble_weight=0.8, unseen_weight=0.6, query_scale=20.0, region_scale=30.0)
    embedding, words = model.embed_image(images()), model.embed_text(WORDS, PROMPTS)
    p, r = branches(model, embedding, words)
    share = np.array([0.8, 0.8, 1 - 0.6, 0.8, 1 - 0.6])
    wanted = np.where(embedding.cropped.numpy()[..., None], p**share * r ** (1 - share), p)
    found = model.classify(embedding, words)
    assert embedding.cropped.any()
    assert np.allclose(found.scores.numpy(), wanted, atol=1e-5)
    assert words.queries.scale == 20
    assert not words.regions.background


@torch.no_grad()
def test_each_branch_can_answer_alone() -> None:
    embedding = segmenter().embed_image(images())
    p, r = branches(segmenter(), embedding, segmenter().embed_text(WORDS, PROMPTS))
    queries, regions = segmenter(branches="queries"), segmenter(branches="regions")
    alone = queries.classify(queries.embed_image(images()), queries.embed_text(WORDS, PROMPTS))
    assert np.allclose(alone.scores.numpy(), p, atol=1e-5)
    found = regions.classify(regions.embed_image(images()), regions.embed_text(WORDS, PROMPTS))
    cropped = embedding.cropped.numpy()
    assert np.allclose(found.scores.numpy(), r * cropped[..., None], atol=1e-5)
    assert (found.masks[~embedding.cropped] < -1e3).all()  # a mask without a crop says nothing


@torch.no_grad()
def test_weights_of_one_and_zero_leave_one_branch() -> None:
    model = segmenter(ensemble_weight=1.0, invalid_regions="one")
    embedding, words = model.embed_image(images()), model.embed_text(WORDS, PROMPTS)
    p, r = branches(model, embedding, words)
    found = model.classify(embedding, words).scores.numpy()
    seen, cropped = np.array(WORDS.seen), embedding.cropped.numpy()
    assert np.allclose(found[..., seen], p[..., seen], atol=1e-5)
    assert np.allclose(found[cropped][:, ~seen], r[cropped][:, ~seen], atol=1e-5)
    assert np.allclose(found[~cropped][:, ~seen], 1)  # as released: CLIP says one of every class


@torch.no_grad()
def test_a_vocabulary_that_does_not_say_has_unseen_classes_and_so_has_the_background() -> None:
    model = segmenter()
    assert model.embed_text(Vocabulary("cat, dog"), PROMPTS).unseen.tolist() == [True, True]
    seen = Vocabulary("cat, dog", seen=[True, False]).with_background("wall, tree")
    assert model.embed_text(seen, PROMPTS).unseen.tolist() == [False, True, True]


@torch.no_grad()
@pytest.mark.parametrize("rule", ["one", "queries", "drop"])
def test_what_a_mask_without_a_crop_counts_for(rule: Any) -> None:
    model = segmenter(invalid_regions=rule)
    embedding, words = model.embed_image(images()), model.embed_text(WORDS, PROMPTS)
    cropped = embedding.cropped.clone()
    cropped[0, 0] = False
    embedding = dataclasses.replace(embedding, cropped=cropped)
    p, _ = branches(model, embedding, words)
    found = model.classify(embedding, words)
    share = np.where(WORDS.seen, 0.7, 0.3)
    wanted = {"one": p[0, 0] ** share, "queries": p[0, 0], "drop": 0 * p[0, 0]}[rule]
    assert np.allclose(found.scores[0, 0].numpy(), wanted, atol=1e-5)
    assert bool((found.masks[0, 0] < -1e3).all()) == (rule == "drop")


@torch.no_grad()
def test_the_label_of_a_pixel_is_that_of_the_sum_over_masks() -> None:
    """The decoder's map against an einsum at full size (Eq. 2)."""
    model = segmenter()
    predictor = Predictor(model, dataclasses.replace(TINY.inference, short_side=None), name="tiny", dtype="fp32")
    picture = images(batch=1)[0].permute(1, 2, 0).numpy()
    found = predictor.segment(picture, WORDS)
    result = model.classify(model.embed_image(images(batch=1)), model.embed_text(WORDS, PROMPTS))
    assert result.covers == (64, 64)
    full = functional.interpolate(result.masks, result.covers, mode="bilinear")[0, :, :40, :56].double().sigmoid()
    sums = torch.einsum("nhw,nc->chw", full, result.scores[0].double())
    assert (sums.argmax(0).numpy() == found.labels).mean() > 0.999
    posterior = (sums.amax(0) / full.sum(0)).numpy()
    assert found.scores is not None
    assert np.allclose(posterior, found.scores.astype(np.float64), atol=2e-3)


# --- crops


@torch.no_grad()
def test_a_region_is_what_clip_says_of_its_crop() -> None:
    """Each mask cropped, filled and resized by hand, one at a time."""
    model = segmenter(crop_antialias=False)
    rectangles = [(0, 0, 40, 56), (3, 5, 30, 20), (10, 40, 11, 41), (20, 0, 40, 56)]
    given, proposals = images(), drawn(*rectangles)
    embedding = model.embed_image(given, proposals)
    assert embedding.cropped.all()
    assert embedding.queries.shape == (2, 4, 0)
    for image in range(2):
        seen = pixels.normalise(given[image], (model.clip.mean, model.clip.std))
        for number, (top, left, bottom, right) in enumerate(rectangles):
            size = (model.clip.image_size,) * 2
            crop = functional.interpolate(seen[None, :, top:bottom, left:right], size, mode="bicubic")
            wanted = model.clip.image_features(crop)[0]
            assert torch.allclose(embedding.regions[image, number], wanted, atol=1e-4)


@torch.no_grad()
def test_crops_in_batches_are_crops_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = segmenter().embed_image(images())
    monkeypatch.setattr(zsseg, "CROPS_AT_ONCE", 3)
    monkeypatch.setattr(zsseg, "NUMBERS_AT_ONCE", 5000)  # two masks of the picture's size
    pieces = segmenter().embed_image(images())
    assert torch.equal(whole.cropped, pieces.cropped)
    assert torch.allclose(whole.regions, pieces.regions, atol=1e-5)


@torch.no_grad()
def test_a_mask_drawn_at_known_pixels_comes_back_at_those_pixels() -> None:
    """On a grid that covers the padded input: 50 x 70 is padded to 64 x 96, and nothing is stretched."""
    model = segmenter(branches="queries")

    class Drawing(nn.Module):
        stride = 4

        def forward(self, given: Tensor, *, deep: bool = False) -> Queries:
            masks = torch.full((1, len(given), 2, 16, 24), -30.0)
            masks[:, :, 0] = 0.0
            masks[0, :, 1, 5:10, 8:16] = 30.0  # cells of four pixels: rows 20-40, columns 32-64
            return Queries(
                torch.randn(1, len(given), 2, 64, generator=torch.Generator().manual_seed(0)), masks, (64, 96)
            )

    model.network = Drawing()  # type: ignore[assignment]
    embedding = model.embed_image(images(50, 70, batch=1))
    (_, found) = embedding.proposals.of_image(0, (50, 70))
    wanted = torch.zeros(50, 70, dtype=torch.bool)
    wanted[20:40, 32:64] = True
    wanted[[20, 20, 39, 39], [32, 63, 32, 63]] = False  # linear interpolation rounds corners off
    assert torch.equal(found > 0.5, wanted)


@torch.no_grad()
def test_crops_come_from_the_same_place_of_the_picture_as_their_masks() -> None:
    """A mask on the padded grid crops the pixels under it."""
    model = segmenter()
    given = torch.zeros(1, 3, 50, 70, dtype=torch.uint8)
    given[..., 20:40, :] = 200
    masks = torch.full((1, 1, 16, 24), -CERTAIN)
    masks[0, 0, 5:10] = CERTAIN
    found = model.embed_image(given, Proposals(masks, torch.ones(1, 1, dtype=torch.bool), (64, 96)))
    flat = pixels.normalise(torch.full((1, 3, 32, 32), 200, dtype=torch.uint8), (model.clip.mean, model.clip.std))
    assert torch.allclose(found.regions[0], model.clip.image_features(flat), atol=1e-4)


# --- masks from elsewhere, and bad ones


@torch.no_grad()
def test_pictures_without_masks_with_one_and_with_empty_ones_get_a_result() -> None:
    model = segmenter()
    words = model.embed_text(WORDS, PROMPTS)
    nothing = Proposals(torch.zeros(1, 0, 40, 56), torch.zeros(1, 0, dtype=torch.bool))
    found = model.classify(model.embed_image(images(batch=1), nothing), words)
    assert found.scores.shape == (1, 0, 5)
    beyond = Proposals(torch.full((1, 1, 16, 24), -CERTAIN), torch.ones(1, 1, dtype=torch.bool), (64, 96))
    beyond.masks[..., 13:, :] = CERTAIN  # rows 52 and on of a picture of 40
    for proposals in (drawn((0, 0, 0, 0), batch=1), beyond):
        embedding = model.embed_image(images(batch=1), proposals)
        assert not embedding.cropped.any()
        assert model.classify(embedding, words).scores.sum() == 0
    one = model.classify(model.embed_image(images(batch=1), drawn((5, 5, 6, 6), batch=1)), words)
    assert one.scores.sum() == pytest.approx(1, abs=1e-5)


@torch.no_grad()
def test_pictures_of_a_batch_may_have_different_numbers_of_masks() -> None:
    model = segmenter()
    proposals = drawn((0, 0, 20, 56), (20, 0, 40, 56), (5, 5, 15, 15))
    proposals.valid[1, 2] = False
    embedding = model.embed_image(images(), proposals)
    assert embedding.cropped.tolist() == [[True, True, True], [True, True, False]]
    found = model.classify(embedding, model.embed_text(WORDS, PROMPTS))
    assert (found.masks[1, 2] < -1e3).all()
    assert found.scores[1, 2].sum() == 0


@torch.no_grad()
def test_any_proposer_of_the_shelf_can_make_the_masks() -> None:
    model = segmenter(proposer="superpixels")
    assert model.network is None
    result = model.classify(model.embed_image(images()), model.embed_text(WORDS, PROMPTS))
    assert isinstance(result, MaskScores)
    assert result.scores.sum(-1).amax() == pytest.approx(1, abs=1e-5)


@torch.no_grad()
def test_a_saved_model_can_name_the_masks_of_another_proposer(tmp_path: Path) -> None:
    catalog.save(segmenter(), tmp_path / "whole", method="zsseg", inference=TINY.inference)
    loaded, _ = catalog.load(tmp_path / "whole", proposer="kmeans")
    again: Any = loaded
    assert again.network is None
    found = again.classify(again.embed_image(images()), again.embed_text(WORDS, PROMPTS))
    assert found.scores.shape[1] <= 8
    catalog.save(again, tmp_path / "regions", method="zsseg", inference=TINY.inference)
    same, _ = catalog.load(tmp_path / "regions")
    assert torch.equal(same.classify(same.embed_image(images()), same.embed_text(WORDS, PROMPTS)).scores, found.scores)
    with pytest.raises(WeightsError, match="saved without MaskFormer"):
        catalog.load(tmp_path / "regions", proposer="maskformer")


def test_settings_that_exclude_each_other_are_told() -> None:
    with pytest.raises(SettingError, match="give masks, or name a proposer"):
        segmenter(proposer="none").embed_image(images())
    with pytest.raises(SettingError, match="has no queries"):
        Config(proposer="kmeans", branches="queries")
    with pytest.raises(UnknownName, match="superpixels"):
        Config(proposer="superpixel")
    with pytest.raises(SettingError, match="mask_threshold"):
        Config(mask_threshold=1.0)
    with pytest.raises(SettingError, match="ensemble_weight"):
        Config(ensemble_weight=1.5)
    with pytest.raises(SettingError, match="learned=FILE"):
        segmenter(learned_prompts="both")


# --- learned prompts


@torch.no_grad()
def test_learned_vectors_that_are_words_embed_like_those_words(tmp_path: Path) -> None:
    model = segmenter()
    tokens = model.clip.tokenizer(["a photo of a"])[0][1:-1]
    table = model.clip.text_model.embeddings.token_embedding.weight
    Prompts(("{}.",), table[tokens].clone()).save(tmp_path / "learned.safetensors")
    plain = model.embed_text(WORDS, PROMPTS)
    other = Prompts(("{}",))
    for which in ("both", "regions"):
        learned = segmenter(learned_prompts=which, learned=str(tmp_path / "learned.safetensors"))
        found = learned.embed_text(WORDS, other)
        assert torch.allclose(found.regions.weight, plain.regions.weight, atol=1e-5)
        assert torch.allclose(found.queries.weight, plain.queries.weight, atol=1e-5) == (which == "both")


@torch.no_grad()
def test_learned_prompts_are_saved_with_the_model(tmp_path: Path) -> None:
    Prompts(("{}.",), torch.randn(3, TINY_VIT.text_width)).save(tmp_path / "some.safetensors")
    model = segmenter(learned_prompts="regions", learned=str(tmp_path / "some.safetensors"))
    catalog.save(model, tmp_path / "model", method="zsseg", inference=TINY.inference)
    again, _ = catalog.load(tmp_path / "model")
    one, other = (each.embed_text(WORDS, PROMPTS) for each in (model, again))
    assert torch.equal(one.regions.weight, other.regions.weight)
    assert torch.equal(one.queries.weight, other.queries.weight)
    assert not torch.equal(one.queries.weight, one.regions.weight)


# --- weights


@torch.no_grad()
def test_another_clip_can_name_the_regions_of_a_saved_model(tmp_path: Path) -> None:
    zsseg.save(segmenter(), tmp_path / "model")
    Clip.random(TINY_RESNET).save(tmp_path / "clip")
    saved = dataclasses.replace(TINY, weights=Weights.of(tmp_path / "model"))

    def changed(**changes: Any) -> ZsSeg:
        return zsseg.load(dataclasses.replace(saved, config=dataclasses.replace(TINY.config, **changes)))

    model = changed(clip=str(tmp_path / "clip"), branches="regions")
    assert model.clip.image_size == TINY_RESNET.image_size
    result = model.classify(model.embed_image(images()), model.embed_text(WORDS, PROMPTS))
    assert result.scores.isfinite().all()
    with pytest.raises(SettingError, match="branches=regions"):
        changed(clip=str(tmp_path / "clip"))
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(WeightsError, match="does not hold a zsseg"):
        changed()


def released(model: ZsSeg) -> dict[str, Tensor]:
    """Its tensors as the authors' code, on detectron2, would have stored them; written part by part."""
    own, found = model.state_dict(), {}

    def put(theirs: str, ours: str, kinds: tuple[str, ...] = ("weight", "bias")) -> None:
        found.update({f"{theirs}.{kind}": own[f"{ours}.{kind}"].clone() for kind in kinds})

    norm = ("weight", "bias", "running_mean", "running_var")
    for number in range(3):  # DeepLab's stem
        put(f"backbone.stem.conv{number + 1}", f"network.backbone.stem.{3 * number}", ("weight",))
        put(f"backbone.stem.conv{number + 1}.norm", f"network.backbone.stem.{3 * number + 1}", norm)
    for stage, blocks in enumerate((1, 1, 2, 2)):
        for block in range(blocks):
            ours, theirs = f"network.backbone.layer{stage + 1}.{block}", f"backbone.res{stage + 2}.{block}"
            for number in (1, 2, 3):
                put(f"{theirs}.conv{number}", f"{ours}.conv{number}", ("weight",))
                put(f"{theirs}.conv{number}.norm", f"{ours}.bn{number}", norm)
            if not block:
                put(f"{theirs}.shortcut", f"{ours}.downsample.0", ("weight",))
                put(f"{theirs}.shortcut.norm", f"{ours}.downsample.1", norm)
    pixel = "sem_seg_head.pixel_decoder"
    put(f"{pixel}.mask_features", "network.pixels.mask_projection")
    put(f"{pixel}.layer_4", "network.pixels.fpn.stem.0", ("weight",))
    put(f"{pixel}.layer_4.norm", "network.pixels.fpn.stem.1")
    for place, number in enumerate((3, 2, 1)):  # from coarse to fine
        for theirs, part in (("adapter", "proj"), ("layer", "block")):
            put(f"{pixel}.{theirs}_{number}", f"network.pixels.fpn.layers.{place}.{part}.0", ("weight",))
            put(f"{pixel}.{theirs}_{number}.norm", f"network.pixels.fpn.layers.{place}.{part}.1")
    head = "sem_seg_head.predictor"
    put(f"{head}.query_embed", "network.decoder.queries_embedder", ("weight",))
    put(f"{head}.input_proj", "network.decoder.input_projection")
    put(f"{head}.transformer.decoder.norm", "network.decoder.decoder.layernorm")
    for layer in range(2):
        ours, theirs = f"network.decoder.decoder.layers.{layer}", f"{head}.transformer.decoder.layers.{layer}"
        for attention, name in (("self_attn", "self_attn"), ("encoder_attn", "multihead_attn")):
            for kind in ("weight", "bias"):
                thirds = [own[f"{ours}.{attention}.{part}_proj.{kind}"] for part in "qkv"]
                found[f"{theirs}.{name}.in_proj_{kind}"] = torch.cat(thirds)
            put(f"{theirs}.{name}.out_proj", f"{ours}.{attention}.o_proj")
        put(f"{theirs}.linear1", f"{ours}.mlp.fc1")
        put(f"{theirs}.linear2", f"{ours}.mlp.fc2")
        put(f"{theirs}.norm1", f"{ours}.self_attn_layer_norm")
        put(f"{theirs}.norm2", f"{ours}.encoder_attn_layer_norm")
        put(f"{theirs}.norm3", f"{ours}.final_layer_norm")
    for number in range(3):
        put(f"{head}.mask_embed.layers.{number}", f"network.mask_head.{number}.0")
    put(f"{head}.class_embed.layers.0", "head.0")
    put(f"{head}.class_embed.layers.1", "head.2")
    found["clip_adapter.non_object_embedding"] = own["no_object"].clone()
    extra = {"criterion.empty_weight": torch.ones(6), "pixel_mean": torch.ones(3, 1, 1)}
    return {**found, **extra, "clip_adapter.clip_model.visual.proj": torch.ones(2, 2)}


@torch.no_grad()
@pytest.mark.parametrize("adapter", ["clip_adapter", "region_clip_adapter"])
def test_the_authors_checkpoint_is_read_name_by_name(tmp_path: Path, adapter: str) -> None:
    Clip.random(TINY_VIT).save(tmp_path / "clip")
    masks = dataclasses.replace(TINY.config.masks, backbone="tinyc")
    config = dataclasses.replace(TINY.config, masks=masks, clip=str(tmp_path / "clip"), allow_pickle=True)
    torch.manual_seed(3)
    model = zsseg.load(dataclasses.replace(TINY, config=config))
    for each in (*model.network.parameters(), *model.network.buffers()):  # type: ignore[union-attr]
        if each.is_floating_point():
            each.copy_(torch.randn_like(each).abs() if each.ndim == 1 else 0.1 * torch.randn_like(each))
    prefix = 0.02 * torch.randn(4, TINY_VIT.text_width)
    content = {**released(model), f"{adapter}.prompt_learner.prefix_prompt": prefix}
    torch.save({"model": content, "iteration": 60_000}, tmp_path / "model_final.pth")
    again = zsseg.load(dataclasses.replace(TINY, config=config, weights=Weights.of(tmp_path / "model_final.pth")))
    assert again.config.learned_prompts == ("both" if adapter == "clip_adapter" else "regions")
    assert again.context is not None
    assert torch.equal(again.context, prefix)
    for name, wanted in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(again.state_dict()[name], wanted), name
    one, other = (each.embed_image(images()) for each in (model, again))
    assert torch.equal(one.masks, other.masks)
    del content["sem_seg_head.predictor.query_embed.weight"]
    torch.save({"model": content}, tmp_path / "model_final.pth")
    with pytest.raises(WeightsError, match=re.escape("sem_seg_head.predictor.query_embed.weight [8, 64] is missing")):
        zsseg.load(dataclasses.replace(TINY, config=config, weights=Weights.of(tmp_path / "model_final.pth")))


def test_the_variants_are_those_of_the_paper() -> None:
    assert zsseg.VARIANTS["rn101"].config.masks == MaskFormerShape("rn101c")
    assert zsseg.VARIANTS["rn101"].config.clip == "openai/clip-vit-base-patch16"
    with pytest.raises(LexisegError, match="train it"):
        zsseg.load(zsseg.VARIANTS["swin-b"])


# --- training

NAMES = ("cat", "grass", "sky", "road", "dog")


def batch(labels: Tensor) -> dict[str, Any]:
    return {"images": images(64, 64, batch=len(labels)), "labels": labels}


def labels() -> Tensor:
    found = torch.zeros(2, 64, 64, dtype=torch.long)
    found[:, 32:] = 3
    found[1, :, 40:] = 4
    return found


def losses(training: Training, given: dict[str, Any]) -> dict[str, float]:
    objective = training.build(segmenter(query_scale=5.0)).eval()
    objective.before_step(0)
    with torch.no_grad():
        return {name: float(each) for name, each in objective(given).items()}


def test_pixels_without_a_label_may_be_anything_or_are_negatives_as_released() -> None:
    """With most of the picture unlabelled the ignoring loss is that of the labelled part; the released one is not."""
    seen, whole = labels(), labels()
    seen[:, :32] = -1
    whole[:, :32] = 255
    hidden = NAMES[:3]
    for unlabelled in ("ignored", "negative"):
        one, other = (losses(Training(NAMES, hidden, unlabelled=unlabelled), batch(each)) for each in (seen, whole))
        assert one == other  # unlabelled or ignored: neither is known
    ignoring = losses(Training(NAMES, hidden), batch(seen))
    negative = losses(Training(NAMES, hidden, unlabelled="negative"), batch(seen))
    assert negative["focal"] != pytest.approx(ignoring["focal"], rel=1e-2)
    assert negative["classes"] > ignoring["classes"]  # a query on unlabelled pixels is nothing there, and free here


def test_pixels_that_are_known_to_be_foreign_are_in_no_mask_but_may_be_something() -> None:
    seen, whole = labels(), labels()
    seen[:, :32] = -1
    whole[:, :32] = 255
    ignored, foreign, negative = (
        losses(Training(NAMES, NAMES[:3], unlabelled=each), batch(seen)) for each in ("ignored", "foreign", "negative")
    )
    assert foreign["focal"] == negative["focal"] != ignored["focal"]
    assert foreign["classes"] < negative["classes"]
    unknown = losses(Training(NAMES, NAMES[:3], unlabelled="foreign"), batch(whole))
    assert unknown == losses(Training(NAMES, NAMES[:3]), batch(whole))  # the data does not say that these are foreign


def test_a_picture_without_any_label_teaches_nothing() -> None:
    nothing = torch.full((2, 64, 64), -1)
    assert losses(Training(NAMES), batch(nothing)) == {"classes": 0.0, "focal": 0.0, "dice": 0.0}


def test_losses_on_the_grid_are_those_of_labels_that_are_as_coarse() -> None:
    """With labels of whole cells (of four pixels) all that is left is how masks are interpolated between cells."""
    given = batch(labels())
    coarse, fine = (losses(Training(NAMES, losses_at=at), given) for at in ("grid", "pixels"))
    assert coarse["classes"] == pytest.approx(fine["classes"], rel=1e-6)
    assert coarse["dice"] == pytest.approx(fine["dice"], rel=0.02)
    assert coarse["dice"] != fine["dice"]


def test_counting_over_the_whole_batch_makes_pieces_add_up() -> None:
    objective = Training(NAMES).build(segmenter()).eval()
    objective.before_step(0)
    given = batch(labels())
    with torch.no_grad():
        whole = objective(given)
        objective.before_batch(given, lambda own: own)
        pieces = [objective({name: each[place, None] for name, each in given.items()}) for place in range(2)]
    for name, wanted in whole.items():
        assert float(sum(piece[name] for piece in pieces) / 2) == pytest.approx(float(wanted), rel=1e-5)
    objective.before_batch(given, lambda own: 2 * own)  # another process has three times as many
    with torch.no_grad():
        assert float(objective(given)["dice"]) == pytest.approx(float(whole["dice"]) / 2, rel=1e-5)


def test_a_trained_model_keeps_the_prompts_of_its_queries() -> None:
    objective = Training(NAMES, prompts="imagenet80").build(segmenter())
    assert objective.inference(TINY.inference).prompts == "imagenet80"


def test_mistakes_before_and_in_training_are_told() -> None:
    with pytest.raises(SettingError, match="no words"):
        Training().build(segmenter())
    with pytest.raises(SettingError, match="teacher"):
        Training(NAMES).build(segmenter(), teacher=object())
    with pytest.raises(SettingError, match="proposer=maskformer"):
        Training(NAMES).build(segmenter(proposer="superpixels"))
    with pytest.raises(DataError, match="'dog', which is said to be unseen"):
        losses(Training(NAMES, ("dog",)), batch(labels()))
    with pytest.raises(DataError, match="there are 3 classes"):
        losses(Training(NAMES[:3]), batch(labels()))
