"""The first baseline against CLIP on pictures that are blanked by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_shape import TINY_VIT
from lexiseg.encoders.prompts import Prompts
from lexiseg.errors import WeightsError
from lexiseg.layers import pixels
from lexiseg.methods import pseudo_mask_clip as method
from lexiseg.proposals._proposals import Proposals
from lexiseg.vocabulary import Vocabulary

TINY: Any = method.VARIANTS["tiny"]
WORDS = Vocabulary("cat, grass, sky")


def model(**changes: Any) -> method.PseudoMaskClip:
    return method.load(replace(TINY, config=replace(TINY.config, **changes)))


def image(height: int = 64, width: int = 96) -> Tensor:
    """Four squares of colours of their own."""
    colours = torch.randint(0, 256, (1, 3, 2, 2), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return colours.repeat_interleave(height // 2, 2).repeat_interleave(width // 2, 3)


@pytest.mark.parametrize(("fill", "colour"), [("zero", (0, 0, 0)), ("mean", (123, 117, 104))])
@torch.no_grad()
def test_each_part_is_what_clip_says_of_the_picture_with_the_rest_blanked(fill: str, colour: tuple[int, ...]) -> None:
    segmenter, picture = model(fill=fill), image()
    embedding = segmenter.embed_image(picture)
    assert int(embedding.valid.sum()) == 4
    clip = Clip.random(TINY_VIT)
    for mask in range(4):
        inside = embedding.proposals.of_image(0, (64, 96))[mask] > 0.5
        blanked = torch.where(inside, picture[0], torch.tensor(colour, dtype=torch.uint8).view(3, 1, 1))
        square = functional.interpolate(blanked[None], (32, 32), mode="bicubic", antialias=True)
        wanted = clip.image_features(pixels.normalise(square, "clip"))[0]
        assert torch.allclose(embedding.features[0, mask], wanted, atol=1e-4)


@torch.no_grad()
def test_a_pixel_has_the_class_that_its_part_looks_most_like() -> None:
    segmenter, clip, picture = model(), Clip.random(TINY_VIT), image()
    prompts = Prompts(("{}",))
    embedding = segmenter.embed_image(picture)
    result = segmenter.classify(embedding, segmenter.embed_text(WORDS, prompts))
    words = clip.embed_words(WORDS.queries, prompts)
    cosines = functional.normalize(embedding.features[0], dim=1) @ words.T
    assert torch.allclose(result.scores[0], (clip.logit_scale * cosines).softmax(-1), atol=1e-5)
    total = torch.einsum("nhw,nc->chw", result.masks[0].float().sigmoid(), result.scores[0])
    part = embedding.masks[0].float().argmax(0)
    assert torch.equal(total.argmax(0), cosines.argmax(1)[part])


@torch.no_grad()
def test_masks_of_the_user_are_named_in_place_of_its_own() -> None:
    labels = torch.zeros(1, 8, 12, dtype=torch.long)
    labels[:, 4:] = 2  # there is no part 1
    found = model().embed_image(image(), Proposals.of_labels(labels))
    assert found.valid.tolist() == [[True, False, True]]
    assert not found.features[0, 1].any()
    assert not torch.allclose(found.features[0, 0], found.features[0, 2])


@torch.no_grad()
def test_the_centre_of_a_wide_picture_is_all_that_clip_sees() -> None:
    """What lies beyond the middle square changes nothing."""
    segmenter = model(square="centre")
    everything = Proposals.of_labels(torch.zeros(1, 4, 8, dtype=torch.long))
    wide = image(32, 96)
    other = wide.clone()
    other[..., :16] = 255
    one, two = (segmenter.embed_image(each, everything).features for each in (wide, other))
    assert torch.allclose(one, two, atol=1e-5)
    stretched = model().embed_image(other, everything).features
    assert not torch.allclose(stretched, model().embed_image(wide, everything).features, atol=1e-3)


def test_a_clip_is_needed() -> None:
    with pytest.raises(WeightsError, match="name some with weights="):
        method.load(method.VARIANTS["custom"])
