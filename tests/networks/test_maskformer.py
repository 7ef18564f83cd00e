"""MaskFormer's network against transformers' own on the same weights, and its grid against the picture's pixels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import MaskFormerConfig, MaskFormerForInstanceSegmentation, ResNetConfig, ResNetModel

from lexiseg.errors import SettingError, UnknownName, WeightsError
from lexiseg.networks.dilated_resnet import our_name
from lexiseg.networks.maskformer import MaskFormerNetwork, MaskFormerShape

SMALL = MaskFormerShape("tiny", queries=5, width=64, layers=3, heads=4, ffn=48, dropout=0.1)
SWIN = {
    "model_type": "swin", "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4,
    "image_size": 64,
}  # fmt: skip


def theirs(backbone: dict[str, Any], shape: MaskFormerShape) -> Any:
    """The whole model of transformers, with numbers that tell."""
    decoder = {
        "model_type": "detr", "d_model": shape.width, "num_queries": shape.queries, "decoder_layers": shape.layers,
        "decoder_attention_heads": shape.heads, "decoder_ffn_dim": shape.ffn,
    }  # fmt: skip
    config = MaskFormerConfig(
        backbone_config=backbone, decoder_config=decoder, fpn_feature_size=shape.width, mask_feature_size=shape.width
    )
    torch.manual_seed(0)
    model = MaskFormerForInstanceSegmentation(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def copy(network: MaskFormerNetwork, model: Any) -> None:
    """All of transformers' weights; that every name finds a place is checked by `load_state_dict`."""
    network.pixels.load_state_dict(model.model.pixel_level_module.decoder.state_dict())
    network.decoder.load_state_dict(model.model.transformer_module.state_dict())
    network.mask_head.load_state_dict(model.mask_embedder.state_dict())


def swin_name(name: str) -> str:
    """What transformers' plain Swin calls a tensor of the one inside its MaskFormer."""
    if found := re.fullmatch(r"hidden_states_norms\.(\d)\.(\w+)", name):
        return f"hidden_states_norms.stage{int(found[1]) + 1}.{found[2]}"
    for theirs, ours in (
        ("model.", "swin."),
        ("attention.self.query", "attention.q_proj"),
        ("attention.self.key", "attention.k_proj"),
        ("attention.self.value", "attention.v_proj"),
        ("attention.output.dense", "attention.o_proj"),
        ("self.relative_position_bias_table", "relative_position_bias.relative_position_bias_table"),
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
    ):
        name = name.replace(theirs, ours)
    return name


def images(height: int = 64, width: int = 96) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_it_is_the_maskformer_of_transformers_on_a_resnet() -> None:
    layers = {"depths": [1, 1, 2, 2], "hidden_sizes": [32, 64, 128, 256], "embedding_size": 8}  # those of "tiny"
    out = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
    model = theirs({"model_type": "resnet", **layers, **out}, SMALL)
    network = MaskFormerNetwork(SMALL).eval()
    copy(network, model)
    encoder = model.model.pixel_level_module.encoder.state_dict()
    network.backbone.load_state_dict({our_name(name): tensor for name, tensor in encoder.items()})
    found, wanted = network(images()), model(pixel_values=images())
    assert torch.allclose(found.queries[-1], wanted.transformer_decoder_last_hidden_state, atol=1e-4)
    assert torch.allclose(found.masks[-1], wanted.masks_queries_logits, rtol=1e-4, atol=1e-4)
    assert len(found.masks) == 1


@torch.no_grad()
def test_it_is_the_maskformer_of_transformers_on_a_swin() -> None:
    model = theirs(SWIN, SMALL)
    encoder = model.model.pixel_level_module.encoder
    shape = MaskFormerShape("transformers:nowhere/nothing", queries=5, width=64, layers=3, heads=4, ffn=48)
    network = MaskFormerNetwork(shape, source_config=SWIN).eval()
    copy(network, model)
    tensors = {swin_name(name): tensor for name, tensor in encoder.state_dict().items() if "_index" not in name}
    network.backbone.model.load_state_dict(tensors)
    found, wanted = network(images()), model(pixel_values=images())
    assert torch.allclose(found.masks[-1], wanted.masks_queries_logits, rtol=1e-4, atol=1e-4)
    assert network.stride == 4


@torch.no_grad()
def test_every_layer_is_what_a_decoder_of_so_many_layers_says() -> None:
    torch.manual_seed(0)
    network = MaskFormerNetwork(SMALL).eval()
    found = network(images(), deep=True)
    assert found.queries.shape == (3, 2, 5, 64)
    for layers in (1, 2, 3):
        shallow = MaskFormerNetwork(MaskFormerShape("tiny", queries=5, width=64, layers=layers, heads=4, ffn=48)).eval()
        shallow.load_state_dict(network.state_dict(), strict=False)
        assert torch.allclose(shallow(images()).masks[-1], found.masks[layers - 1], atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (33, 64), (64, 95), (100, 70)])
def test_pictures_are_padded_and_the_grid_says_how_far_it_reaches(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = MaskFormerNetwork(SMALL).eval()
    given = images(*size)
    found = network(given)
    covers = tuple(-(-side // 32) * 32 for side in size)
    assert found.covers == covers
    assert found.masks.shape[-2:] == tuple(side // network.stride for side in covers)
    padded = torch.zeros(2, 3, *covers)
    padded[..., : size[0], : size[1]] = given
    assert torch.equal(network(padded).masks, found.masks)


def test_fixed_norms_stay_as_they_came() -> None:
    torch.manual_seed(0)
    network = MaskFormerNetwork(SMALL).train()
    norms = [each for each in network.backbone.modules() if isinstance(each, nn.BatchNorm2d)]
    before = [each.running_mean.clone() for each in norms if each.running_mean is not None]
    network(images(), deep=True).masks.sum().backward()
    assert norms
    assert not any(each.training or each.weight.requires_grad for each in norms)
    assert all(torch.equal(each.running_mean, old) for each, old in zip(norms, before, strict=True))  # type: ignore[arg-type]
    free = MaskFormerNetwork(MaskFormerShape("tiny", fixed_norms=False, queries=5, width=64, heads=4)).train()
    assert all(each.training and each.weight.requires_grad for each in _norms(free))


def _norms(network: MaskFormerNetwork) -> list[nn.BatchNorm2d]:
    return [each for each in network.backbone.modules() if isinstance(each, nn.BatchNorm2d)]


def test_every_parameter_that_trains_gets_a_gradient() -> None:
    torch.manual_seed(0)
    network = MaskFormerNetwork(SMALL).train()
    found = network(images(), deep=True)
    (found.masks.square().sum() + found.queries.square().sum()).backward()
    reached = {name for name, each in network.named_parameters() if each.grad is not None and each.grad.any()}
    assert reached == {name for name, each in network.named_parameters() if each.requires_grad}


@torch.no_grad()
def test_what_the_first_self_attention_says_is_the_bias_of_its_norm() -> None:
    """Which is why the rest of it is not trained."""
    torch.manual_seed(0)
    network = MaskFormerNetwork(SMALL).eval()
    before = network(images()).masks
    first = network.decoder.decoder.layers[0]
    for parameter in (*first.self_attn.q_proj.parameters(), *first.self_attn.k_proj.parameters()):
        parameter.normal_()
    for parameter in (first.self_attn.v_proj.weight, first.self_attn.o_proj.weight, first.self_attn_layer_norm.weight):
        parameter.normal_()
    assert torch.equal(network(images()).masks, before)


@torch.no_grad()
@pytest.mark.parametrize("backbone", ["rn50", "rn50c", "rn101c", "swin-t"])
def test_published_backbones_have_the_shapes_of_the_papers(backbone: str) -> None:
    with torch.device("meta"):
        network = MaskFormerNetwork(MaskFormerShape(backbone))
    assert network.stride == 4
    wanted = (96, 192, 384, 768) if backbone == "swin-t" else (256, 512, 1024, 2048)
    assert tuple(network.backbone.channels) == wanted
    if backbone.endswith("c"):
        assert [block.conv2.dilation[0] for block in network.backbone.layer4] == [1, 2, 4]
        assert network.backbone.layer4[0].conv2.stride == (2, 2)


def test_a_backbone_is_filled_from_what_transformers_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = {"depths": [1, 1, 1, 1], "hidden_sizes": [32, 64, 128, 256], "embedding_size": 8}
    saved = ResNetModel(ResNetConfig(**layers))
    saved.save_pretrained(tmp_path)
    network = MaskFormerNetwork(
        MaskFormerShape(f"transformers:{tmp_path}", queries=5, width=64, layers=1, heads=4, ffn=48)
    )
    network.fill_backbone()
    wanted = saved.embedder.embedder.convolution.weight
    assert torch.equal(network.backbone.model.embedder.embedder.convolution.weight, wanted)
    assert network.source_config is not None


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(UnknownName, match="rn101"):
        MaskFormerNetwork(MaskFormerShape("rn102"))
    with pytest.raises(SettingError, match="multiple of 32"):
        MaskFormerShape(width=40)
    with pytest.raises(WeightsError, match="no usual weights"):
        MaskFormerNetwork(SMALL).fill_backbone()
