"""UperNet against transformers' whole model, the pyramid against BEiT's, and what MAE's weights become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    BeitConfig,
    ResNetConfig,
    UperNetConfig,
    UperNetForSemanticSegmentation,
    ViTConfig,
    ViTMAEConfig,
    ViTMAEForPreTraining,
    ViTMAEModel,
    ViTModel,
)
from transformers.models.beit.modeling_beit import BeitFPNNeck

from lexiseg.errors import SettingError, WeightsError
from lexiseg.networks.student_network import StudentNetwork, StudentShape
from lexiseg.networks.upernet import UperHead, VitPyramid

SMALL: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
MAE = {"model_type": "vit_mae", **SMALL, "decoder_hidden_size": 16, "decoder_num_attention_heads": 2}


def images(height: int = 64, width: int = 48) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def mae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole MAE, decoder included, as it is on the hub."""
    folder = tmp_path_factory.mktemp("mae")
    torch.manual_seed(0)
    config = {name: value for name, value in MAE.items() if name != "model_type"}
    model = ViTMAEForPreTraining(ViTMAEConfig(**config, decoder_num_hidden_layers=1, decoder_intermediate_size=16))
    model.save_pretrained(folder)
    return folder


@torch.no_grad()
def test_the_head_is_that_of_transformers() -> None:
    torch.manual_seed(0)
    resnet = ResNetConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32], embedding_size=8, layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = UperNetConfig(backbone_config=resnet, hidden_size=12, num_labels=5, use_auxiliary_head=False)
    theirs = UperNetForSemanticSegmentation(config).eval()
    for each in theirs.decode_head.modules():
        if isinstance(each, torch.nn.BatchNorm2d):
            each.running_mean.normal_()  # type: ignore[union-attr]
            each.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    head = UperHead((8, 16, 24, 32), 5, width=12).eval()
    head.layers.load_state_dict(theirs.decode_head.state_dict())
    maps = theirs.backbone(images()).feature_maps
    wanted = theirs(images()).logits
    found = torch.nn.functional.interpolate(head(maps), size=(64, 48), mode="bilinear")
    assert torch.allclose(found, wanted, atol=1e-5)


@torch.no_grad()
def test_the_pyramid_is_beits_on_the_layers_of_a_vit(mae: Path) -> None:
    """Of six layers the second, third, fourth and sixth are read; the ViT is MAE's that masks nothing."""
    torch.manual_seed(0)
    pyramid = VitPyramid(MAE).eval()
    pyramid.fill(mae)
    assert (pyramid.reads, pyramid.strides, pyramid.channels) == ((2, 3, 4, 6), (2, 4, 8, 16), (16,) * 4)
    encoder: Any = ViTMAEModel.from_pretrained(mae, mask_ratio=0.0).eval()
    given = images(32, 32)
    noise = torch.arange(16).expand(2, -1)  # so that the patches stay in order
    states = encoder(given, noise=noise, output_hidden_states=True).hidden_states
    cells = [states[depth][:, 1:].mT.reshape(2, 16, 4, 4) for depth in (2, 3, 4, 6)]
    neck = BeitFPNNeck(BeitConfig(hidden_size=16)).eval()
    first, second = pyramid.steps[0], pyramid.steps[1]
    for ours, beits in ((first[0], neck.fpn1.conv_transpose1), (first[1], neck.fpn1.normalization),  # type: ignore[index]
                        (first[3], neck.fpn1.conv_transpose2), (second, neck.fpn2)):  # type: ignore[index]  # fmt: skip
        beits.load_state_dict(ours.state_dict())
    for found, wanted in zip(pyramid(given), neck(tuple(cells)), strict=True):
        assert torch.allclose(found, wanted, atol=1e-4)


@torch.no_grad()
def test_a_twelve_layer_vit_is_read_where_the_paper_says() -> None:
    with torch.device("meta"):
        assert VitPyramid({"model_type": "vit", **SMALL, "num_hidden_layers": 12}).reads == (4, 6, 8, 12)


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (33, 64), (40, 15)])
def test_features_cover_pictures_of_any_size(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    shape = StudentShape("upernet", "transformers:nowhere/nothing")
    network = StudentNetwork(shape, 7, source_config=MAE).eval()
    assert network.stride == 2
    assert network(images(*size)).shape == (2, 7, -(-size[0] // 2), -(-size[1] // 2))


def test_every_weight_learns() -> None:
    torch.manual_seed(0)
    network = StudentNetwork(StudentShape("upernet", "transformers:a/b"), 7, source_config=MAE).train()
    network(images(32, 32)).square().sum().backward()
    still = [name for name, each in network.named_parameters() if each.grad is None or not each.grad.any()]
    assert [name for name in still if not name.endswith("k_proj.bias")] == []  # the softmax takes no notice of it


def test_weights_of_a_plain_vit_fit_too_and_others_are_told(mae: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    ViTModel(ViTConfig(**SMALL)).save_pretrained(tmp_path)
    pyramid = VitPyramid({"model_type": "vit", **SMALL})
    pyramid.fill(tmp_path)
    assert torch.equal(
        pyramid.model.layers[5].mlp.fc1.weight, ViTModel.from_pretrained(tmp_path).layers[5].mlp.fc1.weight
    )
    for given in ({**MAE, "hidden_size": 32}, {**MAE, "num_hidden_layers": 7}):
        with pytest.raises(WeightsError, match="weights of this ViT"):
            VitPyramid(given).fill(mae)


def test_a_mistake_is_a_sentence() -> None:
    with pytest.raises(WeightsError, match="plain ViT, not on a swin"):
        VitPyramid({"model_type": "swin"})
    with pytest.raises(SettingError, match="multiple of 4 pixels"):
        VitPyramid({"model_type": "vit", **SMALL, "patch_size": 14})
    network = StudentNetwork(StudentShape("upernet", "tiny", output_stride=32), 7).train()
    with pytest.raises(SettingError, match="one image at a time"):
        network(images()[:1])
    assert network.eval()(images()[:1]).shape == (1, 7, 16, 12)
