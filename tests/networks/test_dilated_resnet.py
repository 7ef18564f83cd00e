from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification, ResNetModel

from lexiseg.errors import WeightsError
from lexiseg.networks.dilated_resnet import RESNETS, DilatedResNet, DilatedResNetShape, our_name

Stride = Literal[8, 16, 32]
Stem = Literal["v1", "v1c"]
TINY, WIDTH = RESNETS["tiny"]
CONFIG = ResNetConfig(embedding_size=WIDTH, hidden_sizes=[32, 64, 128, 256], depths=list(TINY), num_labels=3)


def randomise(module: nn.Module) -> None:
    """Statistics and scales that matter."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor, low in ((part.running_mean, -0.2), (part.running_var, 0.5), (part.weight.data, 0.5)):
                tensor.uniform_(low, low + 1)
            part.bias.data.uniform_(-0.2, 0.2)


def network(stem: Stem = "v1c", stride: Stride = 8, name: str = "tiny") -> DilatedResNet:
    torch.manual_seed(0)
    layers, width = RESNETS[name]
    resnet = DilatedResNet(DilatedResNetShape(layers, width, stem, stride)).eval().requires_grad_(False)
    randomise(resnet)
    return resnet


def empty(name: str, stem: Stem, stride: Stride = 8) -> DilatedResNet:
    layers, width = RESNETS[name]
    with torch.device("meta"):
        return DilatedResNet(DilatedResNetShape(layers, width, stem, stride))


@pytest.fixture(scope="module")
def published() -> ResNetForImageClassification:
    torch.manual_seed(2)
    model = ResNetForImageClassification(CONFIG).eval().requires_grad_(False)
    randomise(model)
    return model


@pytest.fixture
def folder(published: ResNetForImageClassification, tmp_path: Path) -> Path:
    published.save_pretrained(tmp_path / "resnet")
    return tmp_path / "resnet"


# -- published numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "parameters"), [("rn50", 23_508_032), ("rn101", 42_500_160)])
def test_the_trunk_has_as_many_parameters_as_published(name: str, parameters: int) -> None:
    assert sum(parameter.numel() for parameter in empty(name, "v1").parameters()) == parameters


@pytest.mark.parametrize("name", ["rn50", "rn101"])
def test_the_deep_stem_costs_19232_parameters_more(name: str) -> None:
    deep, usual = (sum(p.numel() for p in empty(name, stem).parameters()) for stem in ("v1c", "v1"))
    stem = 9 * (3 * 32 + 32 * 32 + 32 * 64) + 2 * (32 + 32 + 64)
    assert deep - usual == stem - (49 * 3 * 64 + 2 * 64) == 19_232


@pytest.mark.parametrize("stem", ["v1", "v1c"])
@pytest.mark.parametrize(("stride", "sides"), [(8, (64, 32, 32, 32)), (16, (64, 32, 16, 16)), (32, (64, 32, 16, 8))])
def test_maps_of_a_256_pixel_image_have_the_published_shapes(stem: Stem, stride: Stride, sides: tuple[int]) -> None:
    resnet = empty("rn50", stem, stride)
    maps = resnet(torch.zeros(1, 3, 256, 256, device="meta"))
    expected = [(1, channels, side, side) for channels, side in zip((256, 512, 1024, 2048), sides, strict=True)]
    assert [tuple(x.shape) for x in maps] == expected
    assert resnet.channels == tuple(x.shape[1] for x in maps)
    assert resnet.strides == tuple(256 // side for side in sides)


def test_strides_and_dilations_at_output_stride_8_are_the_published_ones() -> None:
    """Strides (1, 2, 1, 1), dilations (1, 1, 2, 4), the first of a stage contracted."""
    resnet = empty("rn50", "v1c")
    stages = (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4)
    assert [[block.conv2.dilation[0] for block in stage] for stage in stages] == [  # type: ignore[union-attr,index]
        [1, 1, 1],
        [1, 1, 1, 1],
        [1, 2, 2, 2, 2, 2],
        [2, 4, 4],
    ]
    assert [stage[0].conv2.stride[0] for stage in stages] == [1, 2, 1, 1]  # type: ignore[union-attr,index]


# -- against transformers, and against itself --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (33, 31)])
def test_at_stride_32_it_is_the_resnet_of_transformers(
    published: ResNetForImageClassification, folder: Path, size: tuple[int, int]
) -> None:
    resnet = network("v1", 32)
    resnet.fill(folder)
    images = torch.randn(2, 3, *size)
    expected = published.resnet(images, output_hidden_states=True).hidden_states[1:]
    for ours, theirs in zip(resnet(images), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stem", ["v1", "v1c"])
@pytest.mark.parametrize("size", [(64, 64), (65, 97), (50, 31)])
def test_every_fourth_place_of_the_dilated_network_is_a_place_of_the_strided_one(
    stem: Stem, size: tuple[int, int]
) -> None:
    """Exact, borders and odd sides included; without the contracted first dilation it would not hold."""
    strided = network(stem, 32).double()
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = strided(images)
    for stride in (8, 16):
        dilated = network(stem, stride).double()  # type: ignore[arg-type]
        dilated.load_state_dict(strided.state_dict())
        for ours, theirs in zip(dilated(images), expected, strict=True):
            step = -(-ours.shape[-1] // theirs.shape[-1])
            torch.testing.assert_close(ours[..., ::step, ::step], theirs, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("name", "depths"), [("rn50", [3, 4, 6, 3]), ("rn101", [3, 4, 23, 3])])
def test_every_tensor_of_the_published_resnets_has_its_place(name: str, depths: list[int]) -> None:
    with torch.device("meta"):
        model = ResNetForImageClassification(ResNetConfig(depths=depths))
    theirs = {our_name(key): tensor.shape for key, tensor in model.state_dict().items() if "classifier" not in key}
    assert theirs == {key: tensor.shape for key, tensor in empty(name, "v1").state_dict().items()}


# -- pretrained weights ------------------------------------------------------------------------------------------------


def test_a_trunk_saved_without_its_classifier_fits_too(
    published: ResNetForImageClassification, folder: Path, tmp_path: Path
) -> None:
    trunk: ResNetModel = published.resnet
    trunk.save_pretrained(tmp_path / "trunk")
    with_classifier, without = network("v1"), network("v1")
    with_classifier.fill(folder)
    without.fill(tmp_path / "trunk")
    for name, tensor in without.state_dict().items():
        assert torch.equal(tensor, with_classifier.state_dict()[name]), name


@pytest.mark.parametrize("stem", ["v1", "v1c"])
def test_a_file_with_the_names_of_torchvision_and_mmsegmentation_fits(stem: Stem, tmp_path: Path) -> None:
    source, target = network(stem), network(stem)
    nn.init.normal_(source.layer4[1].conv3.weight)  # type: ignore[union-attr,arg-type]
    tensors = {key: value for key, value in source.state_dict().items() if "num_batches" not in key}
    tensors |= {"fc.weight": torch.zeros(10, 256), "fc.bias": torch.zeros(10)}
    save_file(tensors, tmp_path / "resnet.safetensors")
    torch.save({"state_dict": tensors}, tmp_path / "resnet.pth")
    for file in ("resnet.safetensors", "resnet.pth"):
        target = network(stem)
        target.fill(tmp_path / file, allow_pickle=True)
        assert torch.equal(target.layer4[1].conv3.weight, source.layer4[1].conv3.weight)  # type: ignore[union-attr]


def test_a_pickle_is_refused_unless_allowed(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(WeightsError, match="allow_pickle"):
        network().fill(tmp_path / "resnet.pth")


def test_weights_with_the_other_stem_are_refused_and_the_setting_is_named(folder: Path) -> None:
    with pytest.raises(WeightsError, match="set stem=v1,"):
        network("v1c").fill(folder)


def test_every_tensor_that_does_not_fit_is_named(tmp_path: Path) -> None:
    tensors = network("v1").state_dict()
    del tensors["layer1.0.conv1.weight"]
    tensors["layer4.1.bn3.bias"] = torch.zeros(7)
    save_file(tensors, tmp_path / "resnet.safetensors")
    with pytest.raises(WeightsError, match=r"layer1\.0\.conv1\.weight .* is missing; layer4\.1\.bn3\.bias is \[7\]"):
        network("v1").fill(tmp_path / "resnet.safetensors")


@pytest.mark.parametrize(
    ("blocks", "complaint"),
    [(1, r"layer4\.1\.bn1\.bias, .* find no place"), (3, r"layer4\.2\.conv1\.weight .* is missing")],
)
def test_the_weights_of_a_deeper_or_shallower_resnet_are_refused(folder: Path, blocks: int, complaint: str) -> None:
    shape = DilatedResNetShape((1, 1, 2, blocks), WIDTH, "v1")
    with pytest.raises(WeightsError, match=complaint):
        DilatedResNet(shape).fill(folder)


def test_a_resnet_with_strides_elsewhere_is_refused(tmp_path: Path) -> None:
    config = ResNetConfig(**{**CONFIG.to_dict(), "downsample_in_bottleneck": True})
    ResNetModel(config).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="1x1"):
        network("v1").fill(tmp_path)


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "resnet.safetensors").write_bytes(b"not a file of tensors")
    with pytest.raises(WeightsError, match="damaged"):
        network().fill(tmp_path / "resnet.safetensors")
