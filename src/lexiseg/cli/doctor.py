"""Checks this installation and this machine: `lexiseg doctor`.

It says what the machine can do, and what to change.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import typer

from lexiseg import __version__, files
from lexiseg.cli import common
from lexiseg.errors import LexisegError

# extra -> (package, what it is for)
EXTRAS = {
    "fast": ("numba", "the fast decoder"),
    "train": ("accelerate", "training"),
    "data": ("datasets", "Hugging Face data sets"),
    "serve": ("fastapi", "the server"),
    "export": ("onnxruntime", "export"),
    "scale": ("ray", "many machines"),
}


@dataclass(frozen=True)
class Finding:
    """state: ok, note (works, could be better) or problem (something does not work; `text` says what to do)."""

    name: str
    state: str
    text: str


def register(app: typer.Typer) -> None:
    app.command("doctor", epilog=common.examples("lexiseg doctor", "lexiseg doctor --json"))(doctor)


def doctor(json: common.Json = False) -> None:
    """Check this installation and this machine.

    The exit code is 1 if something must be changed.
    """
    findings = list(examine())
    if json:
        common.print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            typer.echo(f"{finding.state:8} {finding.name:14} {finding.text}")
    problems = sum(finding.state == "problem" for finding in findings)
    if problems:
        raise LexisegError(f"{problems} of {len(findings)} checks found a problem; each line above says what to do")


def examine() -> Iterator[Finding]:
    """Every check in turn; one that fails in an unforeseen way is a problem, not a crash."""
    for check in (_python, _packages, _torchvision, _machine, _cache, _model, _extras):
        try:
            yield from check()
        except Exception as error:
            yield Finding(check.__name__.strip("_"), "problem", f"{type(error).__name__}: {error}")


def _python() -> Iterator[Finding]:
    yield Finding("lexiseg", "ok", f"{__version__}, Python {platform.python_version()}, {platform.platform()}")


def _packages() -> Iterator[Finding]:
    import torch
    import transformers

    yield Finding("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")
    yield Finding("transformers", "ok", transformers.__version__)


def _torchvision() -> Iterator[Finding]:
    """A torchvision that does not match torch breaks transformers' CLIP on import; without any all is well."""
    if importlib.util.find_spec("torchvision") is None:
        yield Finding("torchvision", "ok", "not installed, not needed")
        return
    version = importlib.metadata.version("torchvision")
    try:
        __import__("torchvision")
    except Exception as error:
        reason = f"{version} does not match torch ({error}) and breaks transformers; run: pip uninstall -y torchvision"
        yield Finding("torchvision", "problem", reason)
    else:
        yield Finding("torchvision", "note", f"{version} imports here; lexiseg does not need it")


def _machine() -> Iterator[Finding]:
    import torch

    from lexiseg.inference import devices

    device = devices.device("auto")
    yield Finding(
        "device", "ok", f"{device}; dtype auto is {str(devices.dtype('auto', device)).removeprefix('torch.')}"
    )
    if torch.cuda.is_available():
        yield Finding("gpu", "ok", torch.cuda.get_device_name())


def _cache() -> Iterator[Finding]:
    folder = files.cache_folder()
    probe = folder / ".doctor"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        yield Finding(
            "cache", "note", f"{folder} cannot be written ({error.strerror}); words are embedded anew every time"
        )
        return
    free = shutil.disk_usage(folder).free / 1e9
    yield Finding("cache", "ok" if free > 1 else "note", f"{folder}, {free:.0f} GB free")


def _model() -> Iterator[Finding]:
    import numpy as np

    import lexiseg

    predictor = lexiseg.load(common.DEFAULT_MODEL)
    grey = np.full((64, 64, 3), 127, np.uint8)
    labels = predictor.segment(grey, "grass, sky").labels
    yield Finding("model", "ok", f"{common.DEFAULT_MODEL} labels a {labels.shape[0]} x {labels.shape[1]} picture")


def _extras() -> Iterator[Finding]:
    for extra, (package, purpose) in EXTRAS.items():
        if importlib.util.find_spec(package) is None:
            yield Finding(extra, "note", f"{package} is not installed ({purpose}): pip install 'lexiseg[{extra}]'")
        else:
            yield Finding(extra, "ok", f"{package} {importlib.metadata.version(package)}")
