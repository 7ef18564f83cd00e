from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers.models.maskformer.modeling_maskformer import MaskFormerPixelDecoder

from lexiseg.errors import SettingError
from lexiseg.networks.heads import DeepLabV2Head, DeepLabV3PlusHead, FcnHead, FpnHead, Head, PspHead, PyramidHead

HEADS = [DeepLabV2Head, DeepLabV3PlusHead, PspHead, FcnHead, FpnHead, PyramidHead]
CHANNELS, DIMENSION = (8, 16), 12
Array = np.ndarray
Weights = dict[str, Array]


def maps(*, batch: int = 2, fine: tuple[int, int] = (10, 14), coarse: tuple[int, int] = (5, 7)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    sizes = zip(CHANNELS, (fine, coarse), strict=True)
    return [torch.rand(batch, channels, *size, generator=generator, dtype=torch.float64) for channels, size in sizes]


def random_head(kind: type[Head], **settings: object) -> Head:
    """In eval mode and float64, with statistics that matter."""
    torch.manual_seed(0)
    head = kind(CHANNELS, DIMENSION, **settings).double().eval()  # type: ignore[arg-type]
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.running_mean, -0.2), (module.running_var, 0.5), (module.weight.data, 0.5)):
                tensor.uniform_(low, low + 1)
            module.bias.data.uniform_(-0.2, 0.2)
    return head.requires_grad_(False)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# -- the heads once more in numpy, from their formulas ----------------------------------------------------------------


def weights_of(head: nn.Module) -> Weights:
    return {name: tensor.numpy() for name, tensor in head.state_dict().items()}


def convolve(x: Array, kernel: Array, *, dilation: int = 1) -> Array:
    """x [B, C, H, W]; kernel [O, C, k, k], or [C, 1, k, k] for one of each channel by itself."""
    size, (height, width) = kernel.shape[-1], x.shape[-2:]
    reach = dilation * (size // 2)
    x = np.pad(x, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    total: Array = np.zeros((), x.dtype)
    for row in range(size):
        for column in range(size):
            shifted = x[..., row * dilation : row * dilation + height, column * dilation : column * dilation + width]
            tap = kernel[:, :, row, column]
            total = total + (
                shifted * tap[None, :, :, None]
                if kernel.shape[1] == 1 and x.shape[1] > 1
                else np.einsum("bchw,oc->bohw", shifted, tap)
            )
    return total


def layer(x: Array, weights: Weights, name: str, *, dilation: int = 1) -> Array:
    """Convolution, BatchNorm, ReLU."""
    x = convolve(x, weights[f"{name}.0.weight"], dilation=dilation)
    mean, variance = weights[f"{name}.1.running_mean"], weights[f"{name}.1.running_var"]
    scale, shift = weights[f"{name}.1.weight"], weights[f"{name}.1.bias"]
    return np.maximum(((x.swapaxes(1, 3) - mean) / np.sqrt(variance + 1e-5) * scale + shift).swapaxes(1, 3), 0)


def separable(x: Array, weights: Weights, name: str, *, dilation: int = 1) -> Array:
    return layer(layer(x, weights, f"{name}.0", dilation=dilation), weights, f"{name}.1")


def stretch(length: int, target: int) -> Array:
    """Matrix [target, length] of linear interpolation between the centres of cells."""
    matrix = np.zeros((target, length))
    for place in range(target):
        source = np.clip((place + 0.5) * length / target - 0.5, 0, length - 1)
        low = min(int(source), max(length - 2, 0))
        matrix[place, low] += 1 - (source - low)
        matrix[place, min(low + 1, length - 1)] += source - low
    return matrix


def resize(x: Array, size: tuple[int, int]) -> Array:
    return stretch(x.shape[2], size[0]) @ x @ stretch(x.shape[3], size[1]).T


def average(x: Array, regions: int) -> Array:
    """Over regions x regions parts, which overlap where the sides are no multiple."""
    height, width = x.shape[-2:]
    out = np.zeros((*x.shape[:2], regions, regions))
    for row in range(regions):
        for column in range(regions):
            top, bottom = row * height // regions, -(-(row + 1) * height // regions)
            left, right = column * width // regions, -(-(column + 1) * width // regions)
            out[..., row, column] = x[..., top:bottom, left:right].mean(axis=(2, 3))
    return out


def test_deeplab_v2_is_the_sum_of_four_dilated_convolutions_after_their_relus() -> None:
    head, (_, last) = random_head(DeepLabV2Head), maps()
    weights, x = weights_of(head), last.numpy()
    expected = sum(layer(x, weights, f"branches.{place}", dilation=6 * place + 6) for place in range(4))
    np.testing.assert_allclose(head(maps()).numpy(), expected, atol=1e-12)


def test_a_place_of_deeplab_v2_sees_33_others() -> None:
    """3x3 taps at 6, 12, 18 and 24 cells around one place, which all four share."""
    head = random_head(DeepLabV2Head)
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data.abs_()  # no ReLU closes
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.zero_()  # type: ignore[union-attr]
    last = torch.ones(1, CHANNELS[-1], 61, 61, dtype=torch.float64, requires_grad=True)
    head([last])[0, :, 30, 30].sum().backward()
    assert last.grad is not None
    seen = {(int(row) - 30, int(column) - 30) for row, column in last.grad[0].abs().sum(dim=0).nonzero()}
    assert seen == {(rate * i, rate * j) for rate in (6, 12, 18, 24) for i in (-1, 0, 1) for j in (-1, 0, 1)}


@pytest.mark.parametrize("fine", [(10, 14), (9, 13)])
def test_deeplab_v3_plus_equals_its_formula(fine: tuple[int, int]) -> None:
    head, (first, last) = random_head(DeepLabV3PlusHead, dilations=(2, 3, 4), low_level=6), maps(fine=fine)
    weights, x = weights_of(head), last.numpy()
    context = np.broadcast_to(layer(x.mean(axis=(2, 3), keepdims=True), weights, "pooled"), (2, DIMENSION, 5, 7))
    atrous = [separable(x, weights, f"atrous.{place}", dilation=place + 2) for place in range(3)]
    x = layer(np.concatenate([context, layer(x, weights, "pointwise"), *atrous], axis=1), weights, "bottleneck")
    x = np.concatenate([resize(x, fine), layer(first.numpy(), weights, "low_level")], axis=1)
    expected = separable(separable(x, weights, "refine.0"), weights, "refine.1")
    np.testing.assert_allclose(head([first, last]).numpy(), expected, atol=1e-12)


def test_pspnet_equals_its_formula_on_sides_that_its_regions_do_not_divide() -> None:
    head, (_, last) = random_head(PspHead), maps()
    weights, x = weights_of(head), last.numpy()
    regions = [
        resize(layer(average(x, size), weights, f"regions.{place}"), (5, 7)) for place, size in enumerate((1, 2, 3, 6))
    ]
    expected = layer(np.concatenate([x, *regions], axis=1), weights, "bottleneck")
    np.testing.assert_allclose(head(maps()).numpy(), expected, atol=1e-12)


def test_a_pyramid_equals_its_formula() -> None:
    head, (first, last) = random_head(PyramidHead, width=10), maps(fine=(9, 13))
    weights = weights_of(head)
    x = convolve(first.numpy(), weights["lateral.0.weight"])
    x = x + resize(convolve(last.numpy(), weights["lateral.1.weight"]), (9, 13))
    scale = weights["norm.weight"] / np.sqrt(weights["norm.running_var"] + 1e-5)
    x = (x.swapaxes(1, 3) - weights["norm.running_mean"]) * scale + weights["norm.bias"]
    x = layer(np.maximum(x.swapaxes(1, 3), 0), weights, "mix")
    expected = convolve(x, weights["project.weight"]) + weights["project.bias"][None, :, None, None]
    np.testing.assert_allclose(head([first, last]).numpy(), expected, atol=1e-12)


def test_an_fcn_is_two_convolutions() -> None:
    head, (_, last) = random_head(FcnHead), maps()
    weights = weights_of(head)
    expected = layer(layer(last.numpy(), weights, "layers.0"), weights, "layers.1")
    np.testing.assert_allclose(head(maps()).numpy(), expected, atol=1e-12)


def test_a_feature_pyramid_is_maskformers_pixel_decoder() -> None:
    """transformers' own on the same weights, on sides that do not divide each other; then a linear map."""
    channels, width = (8, 16, 24), 64
    torch.manual_seed(0)
    head = FpnHead(channels, DIMENSION, width=width).double().eval()
    for each in head.parameters():
        each.data.uniform_(-0.5, 0.5)
    decoder = MaskFormerPixelDecoder(
        in_features=24, lateral_widths=[8, 16], feature_size=width, mask_feature_size=width
    ).double()
    ours = head.state_dict()
    theirs = {name.replace("stem", "fpn.stem"): each for name, each in ours.items() if name.startswith("stem")}
    for finest, place in ((1, 0), (0, 1)):  # their layers begin with the coarsest
        theirs |= {
            f"fpn.layers.{place}.{part}{name.removeprefix(f'{kind}.{finest}')}": each
            for kind, part in (("lateral", "proj"), ("mix", "block"))
            for name, each in ours.items()
            if name.startswith(f"{kind}.{finest}.")
        }
    theirs |= {"mask_projection.weight": ours["last.weight"], "mask_projection.bias": ours["last.bias"]}
    decoder.load_state_dict(theirs)
    sizes = ((13, 9), (7, 5), (4, 3))
    features = [torch.rand(2, c, *size, dtype=torch.float64) for c, size in zip(channels, sizes, strict=True)]
    with torch.no_grad():
        mixed = decoder(features).last_hidden_state
        expected = torch.einsum("bchw,dc->bdhw", mixed, ours["project.weight"][..., 0, 0])
        expected += ours["project.bias"].view(-1, 1, 1)
        torch.testing.assert_close(head(features), expected, atol=1e-10, rtol=0)


# -- published sizes, on the last map of a ResNet-50 or 101 ------------------------------------------------------------

RESNET = (256, 512, 1024, 2048)


@pytest.mark.parametrize("dimension", [512, 768, 1024])
def test_deeplab_v2_has_as_many_parameters_as_published(dimension: int) -> None:
    with torch.device("meta"):
        head = DeepLabV2Head(RESNET, dimension)
    assert count(head) == 4 * (9 * 2048 * dimension + 2 * dimension)  # no biases, BatchNorm's scale and shift
    assert [branch[0].dilation for branch in head.branches] == [(6, 6), (12, 12), (18, 18), (24, 24)]  # type: ignore[index]


def test_deeplab_v3_plus_has_as_many_parameters_as_published() -> None:
    with torch.device("meta"):
        head = DeepLabV3PlusHead(RESNET, 1024)
    norm, d = 2, 1024  # a scale and a shift for each channel
    one = 2048 * d + norm * d
    atrous = 2048 * (9 + norm) + one
    bottleneck = 9 * 5 * d * d + norm * d
    low_level = 256 * 48 + norm * 48
    refine = (d + 48) * (9 + norm) + (d + 48) * d + norm * d + d * (9 + norm) + d * d + norm * d
    assert count(head) == 2 * one + 3 * atrous + bottleneck + low_level + refine
    assert [branch[0][0].dilation for branch in head.atrous] == [(12, 12), (24, 24), (36, 36)]  # type: ignore[index]


def test_pspnet_has_512_channels_for_each_size_of_region() -> None:
    with torch.device("meta"):
        head = PspHead(RESNET, 512)
    assert count(head) == 4 * (2048 * 512 + 2 * 512) + 9 * (2048 + 4 * 512) * 512 + 2 * 512


# -- what all heads promise --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", HEADS)
def test_the_result_has_the_resolution_of_the_heads_level(kind: type[Head]) -> None:
    given = maps()
    assert random_head(kind)(given).shape == (2, DIMENSION, *given[kind.level].shape[-2:])


@pytest.mark.parametrize("kind", HEADS)
def test_only_pyramids_are_ever_negative(kind: type[Head]) -> None:
    assert bool((random_head(kind)(maps()) < 0).any()) == (kind in (FpnHead, PyramidHead))


@pytest.mark.parametrize("kind", HEADS)
def test_images_in_a_batch_do_not_mix(kind: type[Head]) -> None:
    head, given = random_head(kind), maps()
    alone = torch.cat([head([x[place : place + 1] for x in given]) for place in (0, 1)])
    torch.testing.assert_close(head(given), alone, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", [DeepLabV3PlusHead, PspHead])
def test_one_image_cannot_train_a_head_that_averages_it(kind: type[Head]) -> None:
    head = random_head(kind).train()
    with pytest.raises(SettingError, match="two or more"):
        head(maps(batch=1))


def test_deeplab_v3_plus_needs_an_early_map() -> None:
    with pytest.raises(SettingError, match="one map"):
        DeepLabV3PlusHead((16,), 8)
