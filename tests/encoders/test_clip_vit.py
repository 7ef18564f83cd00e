from __future__ import annotations

import pytest
import torch
from small_clip import small_config
from torch import Tensor
from torch.nn import functional
from transformers import CLIPModel

from lexiseg.encoders.clip_vit import ClipVit
from lexiseg.errors import UnknownName

# square as trained, wider, taller, the trained count of cells in another shape, no multiples of the patch, one pixel
SIZES = [(32, 32), (40, 72), (96, 24), (16, 64), (37, 50), (1, 1)]


@pytest.fixture
def vision(model: CLIPModel) -> ClipVit:
    return ClipVit(model.vision_model, model.visual_projection)


def padded(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    return functional.pad(images, (0, -width % 8, 0, -height % 8))


@pytest.mark.parametrize("size", SIZES)
def test_tokens_dense_and_global_features_are_those_of_transformers(
    model: CLIPModel, vision: ClipVit, size: tuple[int, int]
) -> None:
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    theirs = model.vision_model(pixel_values=padded(images), interpolate_pos_encoding=True, output_hidden_states=True)
    tokens, grid = vision.tokens(images)
    assert grid == (-(-size[0] // 8), -(-size[1] // 8))
    torch.testing.assert_close(tokens, theirs.hidden_states[-2], atol=1e-5, rtol=0)

    dense = model.visual_projection(model.vision_model.post_layernorm(theirs.last_hidden_state[:, 1:]))
    torch.testing.assert_close(vision.dense(images).flatten(2).mT, dense, atol=1e-5, rtol=0)

    pooled = model.get_image_features(pixel_values=padded(images), interpolate_pos_encoding=True).pooler_output
    torch.testing.assert_close(vision(images), pooled, atol=1e-5, rtol=0)


def test_the_grid_is_laid_out_row_by_row(vision: ClipVit) -> None:
    images = torch.zeros(1, 3, 24, 40)
    changed = images.clone()
    changed[:, :, 8:16, 32:40] = 1  # the cell in row 1, column 4
    difference = (vision.embed(changed)[0] - vision.embed(images)[0]).abs().sum(-1)[0, 1:].reshape(3, 5)
    assert difference.argmax() == 1 * 5 + 4
    assert difference.count_nonzero() == 1


def test_values_are_the_last_block_where_each_token_attends_to_itself_alone(vision: ClipVit) -> None:
    tokens, _ = vision.tokens(torch.randn(2, 3, 40, 24))
    length = tokens.shape[1]
    alone = torch.full((length, length), float("-inf")).fill_diagonal_(0).expand(2, 1, length, length)
    whole = vision.last_block(tokens, alone)[:, 1:]
    torch.testing.assert_close(vision.values(tokens), whole, atol=1e-5, rtol=0)
    before = vision.values(tokens, ffn=False)
    torch.testing.assert_close(before - tokens[:, 1:], vision.values(tokens, residual=False, ffn=False))
    block = vision.last_block
    torch.testing.assert_close(before + block.mlp(block.layer_norm2(before)), whole, atol=1e-5, rtol=0)


def test_images_of_a_batch_do_not_mix(vision: ClipVit) -> None:
    images = torch.randn(3, 3, 40, 24)
    one_by_one = torch.cat([vision.dense(image[None]) for image in images])
    torch.testing.assert_close(vision.dense(images), one_by_one, atol=1e-5, rtol=0)


def test_another_activation_and_epsilon_are_those_of_a_model_built_with_them(model: CLIPModel) -> None:
    other = CLIPModel(small_config(hidden_act="gelu", layer_norm_eps=1e-3)).eval()
    mine = CLIPModel(small_config()).eval()
    for copy in (other, mine):
        copy.load_state_dict(model.state_dict())
    vision, images = ClipVit(mine.vision_model, mine.visual_projection), torch.randn(1, 3, 32, 32)
    before = vision(images)
    vision.use(activation="gelu", norm_eps=1e-3)
    theirs = other.get_image_features(pixel_values=images).pooler_output
    torch.testing.assert_close(vision(images), theirs, atol=1e-5, rtol=0)
    assert not torch.allclose(vision(images), before, atol=1e-4)
    assert vision.model.config.hidden_act == "quick_gelu"  # what the weights were trained with
    vision.use(activation="quick_gelu", norm_eps=1e-5)
    torch.testing.assert_close(vision(images), before)


def test_an_unknown_activation_gets_the_nearest(vision: ClipVit) -> None:
    with pytest.raises(UnknownName, match="quick_gelu"):
        vision.use(activation="quickgelu")


def test_it_says_its_numbers(vision: ClipVit) -> None:
    assert (vision.patch, vision.image_size, vision.width, vision.embed_dim) == (8, 32, 128, 48)


def test_half_precision_runs_and_stays_close(model: CLIPModel) -> None:
    half = CLIPModel(model.config).eval()
    half.load_state_dict(model.state_dict())
    half.bfloat16()
    images = torch.randn(1, 3, 40, 72)
    fast = ClipVit(half.vision_model, half.visual_projection).dense(images)
    exact = ClipVit(model.vision_model, model.visual_projection).dense(images)
    assert fast.dtype == torch.bfloat16
    assert functional.cosine_similarity(fast.float(), exact, dim=1).min() > 0.98
