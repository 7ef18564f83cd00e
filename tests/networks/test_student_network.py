from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from openai_files import half_precise
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetModel, SwinConfig, SwinModel

from lexiseg import settings
from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_shape import TINY_RESNET
from lexiseg.errors import SettingError, UnknownName, WeightsError
from lexiseg.networks.student_network import StudentNetwork, StudentShape

DIMENSION = 32
SIZES = [(64, 64), (65, 97), (40, 129)]
NAMES = [
    "deeplabv2/tiny",
    "deeplabv3plus/tiny",
    "pspnet/tiny",
    "fcn/tiny",
    "fpn/tiny",
    "mini/tiny",
    "clip/CLIP",
    "deeplabv2/clip:CLIP",
    "deeplabv3plus/clip:CLIP",
    "transformers/SWIN",
    "transformers/clip:CLIP",
    "fcn/transformers:SWIN",
]
STRIDES = dict.fromkeys(NAMES, 8) | {
    "fpn/tiny": 4,
    "deeplabv3plus/tiny": 4,
    "deeplabv3plus/clip:CLIP": 4,
    "fcn/transformers:SWIN": 32,
}


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of a CLIP with a ResNet and of a Swin, with numbers that tell."""
    folder = tmp_path_factory.mktemp("sources")
    clip = Clip.random(TINY_RESNET)
    half_precise(clip.vision)
    clip.save(folder / "clip")
    torch.manual_seed(0)
    config = SwinConfig(embed_dim=8, depths=[1, 1, 2, 1], num_heads=[1, 2, 2, 4], window_size=4, image_size=64)
    half_precise(SwinModel(config)).save_pretrained(folder / "swin")
    return {"CLIP": folder / "clip", "SWIN": folder / "swin"}


def shape_of(name: str, sources: dict[str, Path]) -> StudentShape:
    network, _, backbone = name.partition("/")
    for word, place in sources.items():
        backbone = backbone.replace(word, str(place))
    return StudentShape(network, backbone)  # type: ignore[arg-type]


@pytest.fixture(params=NAMES)
def student(request: pytest.FixtureRequest, sources: dict[str, Path]) -> StudentNetwork:
    torch.manual_seed(0)
    return half_precise(StudentNetwork(shape_of(request.param, sources), DIMENSION)).eval()  # type: ignore[return-value]


@pytest.fixture
def threads() -> Iterator[None]:
    """One: two would sum in another order from run to run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def images(height: int = 64, width: int = 64, *, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(height * 1000 + width))


# -- what all students promise -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_features_cover_the_image_cell_by_cell(student: StudentNetwork, size: tuple[int, int]) -> None:
    with torch.no_grad():
        features = student(images(*size))
    assert features.shape == (2, DIMENSION, -(-size[0] // student.stride), -(-size[1] // student.stride))
    assert features.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_the_stride_is_8_except_where_the_head_says_otherwise(name: str, sources: dict[str, Path]) -> None:
    assert StudentNetwork(shape_of(name, sources), DIMENSION).stride == STRIDES[name]


def test_gradients_reach_every_parameter(student: StudentNetwork) -> None:
    features = student.train()(images())
    (features * torch.randn_like(features)).sum().backward()
    trained = {name: parameter for name, parameter in student.named_parameters() if parameter.requires_grad}
    assert [name for name, parameter in trained.items() if parameter.grad is None] == []
    # a constant that BatchNorm or a softmax takes out again has none
    silent = [name for name, parameter in trained.items() if parameter.grad is not None and not parameter.grad.any()]
    assert [name for name in silent if not name.endswith("bias")] == []


def test_only_what_nothing_reads_is_frozen(student: StudentNetwork) -> None:
    """As the norm at the end of a Swin, which stands in front of a classifier."""
    frozen = {name for name, parameter in student.named_parameters() if not parameter.requires_grad}
    swin = {f"backbone.model.swin.layernorm.{kind}" for kind in ("weight", "bias")}
    assert frozen == (swin if any("swin" in name for name in student.state_dict()) else set())


@torch.no_grad()
def test_images_in_a_batch_do_not_mix(student: StudentNetwork) -> None:
    pictures = images(65, 80, batch=3)
    together = student(pictures)
    alone = torch.cat([student(picture[None]) for picture in pictures])
    scale = float(together.abs().max())
    torch.testing.assert_close(together, alone, atol=1e-5 * scale, rtol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=1e-2 * scale)


@pytest.mark.usefixtures("threads")
@torch.no_grad()
def test_looking_twice_shows_the_same_and_changes_nothing(student: StudentNetwork) -> None:
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    first, second = student(images()), student.train(False)(images())
    assert torch.equal(first, second)
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())


@torch.no_grad()
def test_the_state_dict_carries_a_student_over_without_its_source(
    student: StudentNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the student looked for its source")

    monkeypatch.setattr("lexiseg.networks.backbones.find", refuse)
    config = getattr(student.backbone, "config", None)
    other = StudentNetwork(student.shape, DIMENSION, source_config=config).eval()
    assert not torch.equal(other(images()), student(images()))
    other.load_state_dict(student.state_dict())
    torch.testing.assert_close(other(images()), student(images()), atol=1e-5, rtol=1e-5)


def test_it_trains_in_half_precision_with_channels_last(student: StudentNetwork) -> None:
    student.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.autocast("cpu", torch.bfloat16):
        features = student(images().to(memory_format=torch.channels_last))
    features.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in student.parameters() if p.requires_grad)


def test_batch_norms_become_synchronised_ones_with_the_same_names(student: StudentNetwork) -> None:
    """What a run of many processes does to them."""
    names = set(student.state_dict())
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in student.modules())
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(student)
    assert set(converted.state_dict()) == names
    assert sum(isinstance(module, nn.SyncBatchNorm) for module in converted.modules()) == norms


# -- published sizes ---------------------------------------------------------------------------------------------------

TRUNKS = {"rn50": 23_508_032 + 19_232, "rn101": 42_500_160 + 19_232}  # the deep stem's 19,232 on top


@pytest.mark.parametrize("backbone", TRUNKS)
def test_deeplab_v2_is_as_large_as_published(backbone: str) -> None:
    with torch.device("meta"):
        student = StudentNetwork(StudentShape("deeplabv2", backbone), 1024)
        features = student(torch.zeros(1, 3, 512, 512))
    expected = TRUNKS[backbone] + 4 * (9 * 2048 * 1024 + 2 * 1024)
    assert sum(parameter.numel() for parameter in student.parameters()) == expected
    assert features.shape == (1, 1024, 64, 64)


def test_deeplab_v3_plus_ends_at_stride_4() -> None:
    with torch.device("meta"):
        student = StudentNetwork(StudentShape("deeplabv3plus", "rn50"), 1024).eval()
        assert student(torch.zeros(1, 3, 480, 480)).shape == (1, 1024, 120, 120)


def test_the_mini_student_is_small() -> None:
    with torch.device("meta"):
        student = StudentNetwork(StudentShape("mini", "mini"), 256)
    assert 1e6 < sum(parameter.numel() for parameter in student.parameters()) < 3.5e6


# -- pretrained weights ------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_resnets_backbone_is_filled_and_its_head_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[32, 64, 128, 256], depths=[1, 1, 2, 2])
    model = half_precise(ResNetModel(config).eval())
    model.save_pretrained(tmp_path)
    student = StudentNetwork(StudentShape("fcn", "tiny", stem="v1", output_stride=32), DIMENSION).eval()
    head = {name: tensor.clone() for name, tensor in student.head.state_dict().items()}
    student.load_pretrained(tmp_path)
    torch.testing.assert_close(student.backbone(images())[-1], model(images()).last_hidden_state, atol=1e-4, rtol=1e-4)
    assert all(torch.equal(tensor, head[name]) for name, tensor in student.head.state_dict().items())
    assert all(parameter.requires_grad for parameter in student.parameters())


@pytest.mark.parametrize("name", ["clip/CLIP", "deeplabv2/clip:CLIP", "transformers/SWIN", "fcn/transformers:SWIN"])
def test_a_source_fills_what_was_built_from_it(name: str, sources: dict[str, Path]) -> None:
    one, other = (StudentNetwork(shape_of(name, sources), DIMENSION) for _ in range(2))
    one.load_pretrained()
    other.load_pretrained()
    ours, theirs = one.backbone.state_dict(), other.backbone.state_dict()
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())
    third = StudentNetwork(shape_of(name, sources), DIMENSION).backbone.state_dict()
    assert not all(torch.equal(tensor, third[key]) for key, tensor in ours.items())


@torch.no_grad()
def test_a_pyramid_over_a_resnet_of_clip_reads_its_maps_as_they_are(sources: dict[str, Path]) -> None:
    student = StudentNetwork(shape_of("transformers/clip:CLIP", sources), DIMENSION).eval()
    student.load_pretrained()
    vision = Clip.load(sources["CLIP"]).vision
    found, expected = student.backbone(images()), vision.maps(images())[1:]  # type: ignore[union-attr,operator]
    assert len(found) == 3
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@torch.no_grad()
def test_a_student_can_start_as_the_embedded_clip() -> None:
    student = StudentNetwork(StudentShape("clip", "asset:mini-clip"), 256).eval()
    student.load_pretrained()
    clip = Clip.load("asset:mini-clip")
    weight = student.backbone.tower.projection.weight
    assert torch.equal(weight, clip.vision.projection.weight)  # type: ignore[union-attr,arg-type]
    assert student(images(96, 128)).shape == (2, 256, 12, 16)


@pytest.mark.parametrize("shape", [StudentShape("mini", "mini"), StudentShape("fcn", "tiny")])
def test_a_network_without_published_weights_says_so(shape: StudentShape) -> None:
    with pytest.raises(WeightsError, match="no pretrained weights"):
        StudentNetwork(shape, DIMENSION).load_pretrained()


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        (StudentShape("deeplabv2", "rn-50"), "'rn50'"),
        (StudentShape("deeplabv2", "mini"), "choose from rn50, rn101, tiny, clip:SOURCE"),
        (StudentShape("mini", "rn50"), "choose from mini, tiny"),
    ],
)
def test_an_unknown_backbone_is_answered_with_the_known_ones(shape: StudentShape, hint: str) -> None:
    with pytest.raises(UnknownName, match=hint):
        StudentNetwork(shape, DIMENSION)


def test_a_clip_of_another_width_than_the_words_is_refused() -> None:
    with pytest.raises(SettingError, match="256 channels, the teacher's words 512"):
        StudentNetwork(StudentShape("clip", "asset:mini-clip"), 512)


def test_a_vit_has_no_early_map_for_deeplab_v3_plus() -> None:
    with pytest.raises(SettingError, match="one map"):
        StudentNetwork(StudentShape("deeplabv3plus", "clip:asset:mini-clip"), 256)


def test_a_source_that_is_nowhere_is_named() -> None:
    with pytest.raises(WeightsError, match=r"nothing at \./no-such-folder"):
        StudentNetwork(StudentShape("transformers", "./no-such-folder"), 256)


def test_settings_change_a_shape_by_name() -> None:
    shape = settings.change(StudentShape(), {"network": "pspnet", "output_stride": "16", "stem": "v1"})
    assert shape == StudentShape("pspnet", "rn101", "v1", 16)
    assert settings.from_json(StudentShape, settings.to_json(shape)) == shape
    with pytest.raises(SettingError, match="network"):
        settings.change(StudentShape(), {"network": "deeplab"})
