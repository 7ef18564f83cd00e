"""Chooses device and precision; "auto" takes the fastest that exist."""

from __future__ import annotations

import torch

from lexiseg.errors import SettingError, UnknownName

__all__ = ["device", "dtype", "name", "safer"]

_DTYPES = {
    "fp32": torch.float32,
    "float32": torch.float32,
    "float": torch.float32,
    "bf16": torch.bfloat16,
    "bfloat16": torch.bfloat16,
    "fp16": torch.float16,
    "float16": torch.float16,
    "half": torch.float16,
}
_KINDS = ("auto", "cpu", "cuda", "mps")


def device(given: str | torch.device = "auto") -> torch.device:
    """ "auto" is CUDA where there is one, else the CPU; else what torch calls it: "cpu", "cuda:1", "mps".

    Raises `UnknownName` for a device that does not exist anywhere, `SettingError` for one that is not here.
    """
    if str(given) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(given)
    except RuntimeError as error:
        raise UnknownName("device", str(given), _KINDS) from error
    if chosen.type not in _KINDS:
        raise UnknownName("device", str(given), _KINDS)
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise SettingError(
            f"device {given} is not here: torch sees {torch.cuda.device_count()} CUDA devices; use 'auto'"
        )
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise SettingError("device mps is not here: this is no Apple machine, or torch is built without it; use 'auto'")
    return chosen


def dtype(given: str | torch.dtype = "auto", on: torch.device | None = None) -> torch.dtype:
    """ "auto" is the fastest precision that device `on` has instructions for: half precision where it pays, else fp32.

    fp16 rounds eight times finer than bf16 at the same speed where there is hardware for it (GPUs, CPUs with
    AMX-FP16); on other CPUs it is slower than fp32, and bf16 needs AMX or AVX512-BF16.
    """
    if isinstance(given, torch.dtype):
        if given not in _DTYPES.values():
            raise UnknownName("dtype", str(given), ["auto", *_DTYPES])
        return given
    if given != "auto":
        if given not in _DTYPES:
            raise UnknownName("dtype", given, ["auto", *_DTYPES])
        return _DTYPES[given]
    if on is not None and on.type != "cpu":
        return torch.float16
    if _cpu_has("_is_amx_fp16_supported"):
        return torch.float16
    if _cpu_has("_is_amx_tile_supported") or _cpu_has("_is_avx512_bf16_supported"):
        return torch.bfloat16
    return torch.float32


def safer(narrow: torch.dtype, on: torch.device) -> torch.dtype | None:
    """What to try when `narrow` overflows: bf16, whose range is that of fp32, where `on` is fast at it, then fp32."""
    if narrow == torch.float16 and (dtype("auto", on) != torch.float32):
        return torch.bfloat16
    return torch.float32 if narrow != torch.float32 else None


def name(precision: torch.dtype) -> str:
    """float32, bfloat16 or float16."""
    return str(precision).removeprefix("torch.")


def _cpu_has(probe: str) -> bool:
    """One of torch's private questions to the CPU; a torch without it is answered no."""
    try:
        return bool(getattr(torch.cpu, probe)())
    except (AttributeError, RuntimeError):
        return False
