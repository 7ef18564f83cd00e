"""Device and precision: what "auto" takes, and what is refused."""

from __future__ import annotations

import pytest
import torch

from lexiseg.errors import SettingError, UnknownName
from lexiseg.inference import devices

CPU = torch.device("cpu")


def with_instructions(monkeypatch, *names):
    probes = ("_is_amx_fp16_supported", "_is_amx_tile_supported", "_is_avx512_bf16_supported")
    for probe in probes:
        monkeypatch.setattr(torch.cpu, probe, lambda has=probe in names: has, raising=False)


def test_auto_device_is_cuda_only_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.device() == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert devices.device("auto").type == "cuda"


@pytest.mark.parametrize("given", ["gpu", "cpuu", "meta", "cuda:x", ""])
def test_unknown_devices_are_named(given):
    with pytest.raises(UnknownName, match="no device"):
        devices.device(given)


def test_a_device_that_is_not_here_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert devices.device("cuda:0").index == 0
    with pytest.raises(SettingError, match="1 CUDA devices"):
        devices.device("cuda:1")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(SettingError, match="mps"):
        devices.device("mps")


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [
        ((), torch.float32),
        (("_is_avx512_bf16_supported",), torch.bfloat16),
        (("_is_amx_tile_supported",), torch.bfloat16),
        (("_is_amx_tile_supported", "_is_amx_fp16_supported"), torch.float16),
    ],
)
def test_auto_precision_is_what_the_cpu_has_instructions_for(monkeypatch, instructions, expected):
    with_instructions(monkeypatch, *instructions)
    assert devices.dtype("auto", CPU) == expected
    assert devices.dtype("auto", torch.device("cuda")) == torch.float16


def test_a_torch_without_the_probes_means_fp32(monkeypatch):
    for probe in ("_is_amx_fp16_supported", "_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, probe, raising=False)
    assert devices.dtype("auto", CPU) == torch.float32


@pytest.mark.parametrize(
    ("given", "expected"), [("fp32", torch.float32), ("half", torch.float16), ("bf16", torch.bfloat16)]
)
def test_named_precisions_are_taken_as_they_are(given, expected):
    assert devices.dtype(given, CPU) == expected
    assert devices.dtype(expected, CPU) == expected


@pytest.mark.parametrize("given", ["fp64", "int8", torch.float64])
def test_unknown_precisions_are_named(given):
    with pytest.raises(UnknownName, match="no dtype"):
        devices.dtype(given, CPU)


def test_overflow_leads_to_ever_wider_precisions(monkeypatch):
    with_instructions(monkeypatch, "_is_amx_tile_supported", "_is_amx_fp16_supported")
    assert devices.safer(torch.float16, CPU) == torch.bfloat16
    assert devices.safer(torch.bfloat16, CPU) == torch.float32
    assert devices.safer(torch.float32, CPU) is None
    with_instructions(monkeypatch)
    assert devices.safer(torch.float16, CPU) == torch.float32
