from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from openai_files import half_precise, resnet_tensors, vit_tensors, write_archive
from torch import Tensor
from torch.nn import functional
from transformers import (
    AutoModel,
    CLIPModel,
    ConvNextConfig,
    Dinov2Config,
    HieraConfig,
    PreTrainedConfig,
    ResNetConfig,
    SwinConfig,
    ViTConfig,
)

from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_resnet import ClipResNet, ResNetShape
from lexiseg.encoders.clip_shape import TINY_RESNET, TINY_VIT
from lexiseg.encoders.clip_vit import ClipVit
from lexiseg.errors import SettingError, WeightsError
from lexiseg.layers import pixels
from lexiseg.methods import maskclip
from lexiseg.networks.backbones import ClipBackbone, TransformersBackbone, clip_config, transformers_config

WIDTHS, DEPTHS, HEADS = [8, 16, 32, 64], [1, 1, 2, 1], [1, 2, 2, 4]
CONFIGS: dict[str, PreTrainedConfig] = {
    "resnet": ResNetConfig(embedding_size=8, hidden_sizes=WIDTHS, depths=DEPTHS),
    "swin": SwinConfig(embed_dim=8, depths=DEPTHS, num_heads=HEADS, window_size=4, image_size=64),
    "convnext": ConvNextConfig(hidden_sizes=WIDTHS, depths=DEPTHS),
    "dinov2": Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14),
}


def images(height: int = 64, width: int = 64) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height * 100 + width))


def saved(name: str, folder: Path) -> Any:
    """The plain model of transformers, with numbers that tell, and its folder."""
    torch.manual_seed(0)
    model = half_precise(AutoModel.from_config(CONFIGS[name]).eval()).requires_grad_(False)
    model.save_pretrained(folder)
    return model


def tower(clip: Clip, **settings: Any) -> ClipBackbone:
    backbone = ClipBackbone(clip.config, **settings).eval().requires_grad_(False)
    backbone.tower.load_state_dict(clip.vision.state_dict(), strict=False)
    return backbone


@pytest.fixture(scope="module", params=["vit", "resnet"])
def clip(request: pytest.FixtureRequest) -> Clip:
    clip = Clip.random(TINY_VIT if request.param == "vit" else TINY_RESNET)
    half_precise(clip.vision).requires_grad_(False)
    return clip


# -- CLIP --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 64), (70, 45)])
def test_a_read_out_tower_starts_as_maskclip(
    clip: Clip, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ResNet undilated, as MaskCLIP takes it, which drops what is left of the last cell; here it is padded."""
    monkeypatch.setattr(pixels, "normalise", lambda pictures, *_: pictures)  # MaskCLIP's own work, on its bytes
    pictures = images(*size)
    backbone = tower(clip, read_out=True, output_stride=32)
    padded = functional.pad(pictures, (0, -size[1] % backbone.strides[0], 0, -size[0] % backbone.strides[0]))
    embed = maskclip.embed_vit if isinstance(clip.vision, ClipVit) else maskclip.embed_resnet
    expected = embed(clip.vision, padded, maskclip.Config()).features  # type: ignore[arg-type]
    (features,) = backbone(pictures)
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-5)
    assert backbone.channels == (clip.embed_dim,)
    assert backbone.strides == (clip.patch,)


def test_under_a_head_a_vit_gives_its_tokens_after_the_last_norm(clip: Clip, model: CLIPModel) -> None:
    config = model.config.to_dict()
    backbone = ClipBackbone(config).eval()
    backbone.tower.load_state_dict(
        {f"model.{name}": tensor for name, tensor in model.vision_model.state_dict().items()}, strict=False
    )
    pictures = images(32, 32)
    states = model.vision_model(pictures).last_hidden_state[:, 1:]
    expected = model.vision_model.post_layernorm(states).mT.reshape(2, 128, 4, 4)
    torch.testing.assert_close(backbone(pictures)[0], expected, atol=1e-5, rtol=1e-5)
    assert (backbone.channels, backbone.strides) == ((128,), (8,))


SHAPE = ResNetShape((1, 2, 3, 2), 8, 64, 24)


def resnet_clip() -> tuple[ClipResNet, dict[str, Any]]:
    torch.manual_seed(0)
    config = Clip.random(TINY_RESNET).config
    config["resnet"] = {"layers": SHAPE.layers, "width": SHAPE.width, "image_size": 64, "embed_dim": 24}
    return half_precise(ClipResNet(SHAPE).eval()).requires_grad_(False), config


def dilated_stage(x: Tensor, weights: dict[str, Tensor], name: str, rates: list[int], pool: int) -> Tensor:
    """A stage of clip.md §1.3, dilated by `rates`, with an average pool of the first bottleneck, by its formula."""

    def norm(x: Tensor, bn: str) -> Tensor:
        numbers = [weights[f"{bn}.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(x, *numbers)

    for block, rate in enumerate(rates):
        here, size = f"{name}.{block}", pool if block == 0 else 1
        y = norm(functional.conv2d(x, weights[f"{here}.conv1.weight"]), f"{here}.bn1").relu()
        y = functional.conv2d(y, weights[f"{here}.conv2.weight"], padding=rate, dilation=rate)
        y = functional.avg_pool2d(norm(y, f"{here}.bn2").relu(), size)
        y = norm(functional.conv2d(y, weights[f"{here}.conv3.weight"]), f"{here}.bn3")
        if block == 0:
            x = functional.conv2d(functional.avg_pool2d(x, size), weights[f"{here}.downsample.0.weight"])
            x = norm(x, f"{here}.downsample.1")
        x = (x + y).relu()
    return x


@pytest.mark.parametrize(
    ("stride", "plan"),
    [
        (8, [([1], 1), ([1, 1], 2), ([1, 2, 2], 1), ([2, 4], 1)]),
        (16, [([1], 1), ([1, 1], 2), ([1, 1, 1], 2), ([1, 2], 1)]),
        (32, [([1], 1), ([1, 1], 2), ([1, 1, 1], 2), ([1, 1], 2)]),
    ],
)
def test_under_a_head_a_clip_resnet_is_dilated(stride: int, plan: list[tuple[list[int], int]]) -> None:
    network, config = resnet_clip()
    backbone = ClipBackbone(config, output_stride=stride).eval()
    backbone.tower.load_state_dict(network.state_dict(), strict=False)
    pictures, weights = images(64, 96), network.state_dict()
    x = pictures
    for place, step in ((1, 2), (2, 1), (3, 1)):
        x = network.get_submodule(f"bn{place}")(
            functional.conv2d(x, weights[f"conv{place}.weight"], stride=step, padding=1)
        ).relu()
    x = functional.avg_pool2d(x, 2)
    for place, (found, (rates, pool)) in enumerate(zip(backbone(pictures), plan, strict=True), start=1):
        x = dilated_stage(x, weights, f"layer{place}", rates, pool)
        torch.testing.assert_close(found, x, atol=1e-4, rtol=1e-4)
        assert found.shape[1] == backbone.channels[place - 1]
        assert 64 // found.shape[2] == backbone.strides[place - 1]


@pytest.mark.parametrize("read_out", [True, False])
def test_every_parameter_of_a_tower_plays_a_part(clip: Clip, read_out: bool) -> None:
    backbone = ClipBackbone(clip.config, read_out=read_out)
    backbone(images())[-1].square().sum().backward()
    assert [name for name, parameter in backbone.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("read_out", [True, False])
def test_a_tower_is_filled_from_a_saved_clip(clip: Clip, tmp_path: Path, read_out: bool) -> None:
    clip.save(tmp_path)
    backbone = ClipBackbone(clip_config(str(tmp_path)), read_out=read_out, output_stride=32).eval()
    backbone.fill(tmp_path)
    expected = tower(clip, read_out=read_out, output_stride=32)(images())
    torch.testing.assert_close(backbone(images()), expected, atol=0, rtol=0)


def test_a_tower_is_filled_from_a_file_of_openais(model: CLIPModel, folder: Path) -> None:
    """With the tokenizer beside it, which `Clip` asks for though a tower has no use for it."""
    file = write_archive(vit_tensors(model), folder / "ViT.pt")
    backbone = ClipBackbone(clip_config(str(file)), read_out=True).eval()
    backbone.fill(file)
    expected = tower(Clip.load(folder), read_out=True)(images(32, 32))
    torch.testing.assert_close(backbone(images(32, 32)), expected, atol=1e-6, rtol=1e-6)


def test_a_resnet_is_filled_from_a_file_of_openais(model: CLIPModel, folder: Path) -> None:
    torch.manual_seed(0)
    network = half_precise(ClipResNet(ResNetShape((1, 1, 2, 1), 8, 32, 48)).eval()).requires_grad_(False)
    file = write_archive(resnet_tensors(network, model), folder / "RN.pt")
    backbone = ClipBackbone(clip_config(str(file)), output_stride=32).eval()
    backbone.fill(file)
    torch.testing.assert_close(backbone(images())[-1], network.trunk(images()), atol=1e-6, rtol=1e-6)


def test_the_weights_of_another_tower_are_refused_by_name(clip: Clip, tmp_path: Path) -> None:
    clip.save(tmp_path)
    config = dict(Clip.random(TINY_VIT if isinstance(clip.vision, ClipResNet) else TINY_RESNET).config)
    with pytest.raises(WeightsError, match=r"conv1|position_embedding"):
        ClipBackbone(config).fill(tmp_path)


def test_a_resnet_has_three_output_strides() -> None:
    with pytest.raises(SettingError, match="8, 16, 32"):
        ClipBackbone(Clip.random(TINY_RESNET).config, output_stride=4)


# -- transformers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "finest", "strides"),
    [
        ("resnet", 8, (8, 16, 32)),
        ("resnet", 4, (4, 8, 16, 32)),
        ("swin", 8, (8, 16, 32)),
        ("convnext", 16, (16, 32)),
        ("dinov2", 8, (14,)),
        ("dinov2", 32, (14,)),
    ],
)
def test_the_last_map_of_each_resolution_is_taken(name: str, finest: int, strides: tuple[int, ...]) -> None:
    backbone = TransformersBackbone(CONFIGS[name].to_dict(), finest=finest).eval()
    maps = backbone(images(56 * 4, 56 * 4))
    assert backbone.strides == strides
    assert [tuple(x.shape[1:]) for x in maps] == [
        (channels, 224 // stride, 224 // stride) for channels, stride in zip(backbone.channels, strides, strict=True)
    ]


@pytest.mark.parametrize(("reads", "strides"), [("all", (8, 16, 32)), ("first and last", (8, 32)), ("last", (32,))])
def test_maps_that_nobody_reads_are_not_made(reads: str, strides: tuple[int, ...]) -> None:
    backbone = TransformersBackbone(CONFIGS["swin"].to_dict(), reads=reads)
    maps = backbone(images())
    assert backbone.strides == tuple(64 // x.shape[-1] for x in maps) == strides
    torch.stack([x.square().sum() for x in maps]).sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in backbone.parameters())


@pytest.mark.parametrize("name", CONFIGS)
def test_a_backbone_is_filled_from_what_transformers_saved(name: str, tmp_path: Path) -> None:
    model = saved(name, tmp_path)
    backbone = TransformersBackbone(transformers_config(str(tmp_path))).eval()
    backbone.fill(tmp_path)
    # a plain Swin changes its windows for maps smaller than one, its backbone does not
    pictures = images(*{"dinov2": (56, 56), "swin": (192, 256)}.get(name, (64, 96)))
    output = model(pictures, output_hidden_states=True)
    if name == "dinov2":
        expected = output.last_hidden_state[:, 1:].mT.reshape(2, 32, 4, 4)
    elif name == "resnet":
        expected = output.hidden_states[-1]
    else:  # maps have a norm of their own, which no pretrained model holds
        states = output.reshaped_hidden_states if name == "swin" else output.hidden_states
        expected = functional.layer_norm(states[-1].movedim(1, -1), (64,)).movedim(-1, 1)
    torch.testing.assert_close(backbone(pictures)[-1], expected, atol=1e-4, rtol=1e-3)


def test_a_folder_that_lacks_a_tensor_is_refused_by_name(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    saved("resnet", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    gone = "encoder.stages.0.layers.0.layer.1.convolution.weight"
    del tensors[gone]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    backbone = TransformersBackbone(transformers_config(str(tmp_path)))
    with pytest.raises(WeightsError, match=gone):
        backbone.fill(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    CONFIGS["resnet"].save_pretrained(tmp_path)
    backbone = TransformersBackbone(transformers_config(str(tmp_path)))
    with pytest.raises(WeightsError, match="cannot be read as a backbone"):
        backbone.fill(tmp_path)


@pytest.mark.parametrize(
    "config",
    [ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2), {"model_type": "no-such-model"}, {}],
)
def test_a_model_that_is_no_backbone_is_refused(config: Any) -> None:
    with pytest.raises(WeightsError, match="no backbone for model_type"):
        TransformersBackbone(config if isinstance(config, dict) else config.to_dict())


def test_a_backbone_for_one_size_of_pictures_is_refused() -> None:
    config = HieraConfig(embed_dim=16, image_size=[64, 64], depths=DEPTHS, num_heads=HEADS)
    with pytest.raises(WeightsError, match="cannot look at"):
        TransformersBackbone(config.to_dict())
