"""Makes the record: label maps, scores and training losses of every method at the commit before the redesign.

python tests/record/record.py        writes maps.npz and losses.json anew; say in the commit what changed and why
"""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import lexiseg
from lexiseg import catalog
from lexiseg.training.recipe import Recipe
from lexiseg.training.train import train

HERE = Path(__file__).parent
MAPS, LOSSES, MACHINE = HERE / "maps.npz", HERE / "losses.json", HERE / "machine.json"

WORDS = "cat|kitty, blanket, cup|coffee cup, table, spoon, wall"
SIZES = {"mini": (150, 200), "tiny": (45, 61)}  # height, width
STEPS = 5


@dataclass(frozen=True)
class Case:
    """A model, what is changed about it, and how it is asked."""

    model: str
    changes: dict[str, Any] = field(default_factory=dict)
    background: str | None = None
    threshold: float | None = None

    @property
    def name(self) -> str:
        told = [f"{key}={value}" for key, value in self.changes.items()]
        told += [f"background={self.background}"] * (self.background is not None)
        told += [f"threshold={self.threshold}"] * (self.threshold is not None)
        model = self.model
        for now, then in RENAMED.items():
            model = then if model == now else model
        return " ".join([model, *told])


# the record has the older names
RENAMED = {
    "maskclip/mini-vit": "maskclip/mini",
    "mini_clip_vit/mini": "mini_clip/mini",
    "mini_clip_vit/tiny": "mini_clip/tiny",
    "student/mini": "maskclip_plus/mini",
    "student/tiny": "maskclip_plus/tiny",
}

MODELS = (
    "maskclip/mini-vit",
    "maskclip/tiny",
    "maskclip/tiny-rn",
    "student/mini",
    "student/tiny",
    "mini_clip_vit/mini",
    "mini_clip_vit/tiny",
    "simseg/mini",
    "simseg/tiny",
    "simseg/tiny-clip",
)

CASES = (
    *(Case(model) for model in MODELS),
    *(Case(model, background="floor, hand") for model in MODELS if not model.startswith("simseg/tiny")),
    Case("maskclip/mini-vit", threshold=0.4),
    Case("maskclip/mini-vit", {"key_smoothing": True}),
    Case("maskclip/mini-vit", {"prompt_denoising": True, "prompt_denoising_threshold": 0.2}),
    Case("maskclip/mini-vit", {"last_block": "attention"}),
    Case("maskclip/mini-vit", {"long_side": None, "window": 96, "stride": 48}),
    Case("maskclip/mini-vit", {"long_side": None, "window": 96, "stride": 48, "blend": "logits"}),
    Case("maskclip/mini-vit", {"refine": "pamr"}),
    Case("maskclip/tiny", {"refine": "crf"}),
    Case("maskclip/tiny-rn", {"key_smoothing": True, "position_embedding": "interpolate"}),
    Case("simseg/mini", {"rule": "simseg", "deviations": -10.0}),
    Case("simseg/tiny", {"binarise": "otsu"}),
    Case("simseg/tiny-clip", {"binarise": "half", "pooling": "class_token"}),
)

PHOTOGRAPHS = ("chelsea.png", "coffee.png")


def photograph(name: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    """One of scikit-image's photographs, small."""
    path = Path(str(resources.files("skimage"))) / "data" / name
    with Image.open(path) as image:
        small = image.convert("RGB").resize((size[1], size[0]), Image.Resampling.BOX)
    return np.asarray(small)


def maps(case: Case) -> dict[str, NDArray[Any]]:
    """Labels and scores of both photographs, in fp32."""
    predictor = lexiseg.load(case.model, device="cpu", dtype="fp32", text_cache=False, **case.changes)
    size = SIZES["mini" if "/mini" in case.model else "tiny"]
    found = {}
    for photo in PHOTOGRAPHS:
        result = predictor.segment(photograph(photo, size), WORDS, background=case.background, threshold=case.threshold)
        assert result.scores is not None
        found[f"{case.name}: {photo} labels"] = np.asarray(result.labels)
        found[f"{case.name}: {photo} scores"] = np.asarray(result.scores)
    return found


def toys() -> Iterator[str]:
    """The recipes whose losses are recorded."""
    yield from ("maskclip_plus", "mini_clip_vit", "simseg")


def losses(recipe: str) -> list[dict[str, float]]:
    """The named losses of the first steps of a recipe's TOY."""
    toy = catalog.get("recipes", recipe).TOY
    stages: tuple[Recipe, ...] = (toy,) if isinstance(toy, Recipe) else tuple(toy)
    short = [replace(stage, steps=STEPS, log_every=1, evaluate_every=None) for stage in stages]
    with tempfile.TemporaryDirectory() as folder:
        train(short, folder, tensorboard=False)
        lines = (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    left_out = ("samples_per_second", "time", "report/pseudo_labelled")
    return [{key: value for key, value in json.loads(line).items() if key not in left_out} for line in lines]


def machine() -> dict[str, str]:
    """Where equal mathematics gives equal bytes."""
    return {
        "torch": torch.__version__,
        "processor": _processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    wanted = ("vendor_id", "model name", "cpu family", "model\t", "stepping")
    told = dict.fromkeys(line.partition(":")[2].strip() for line in lines if line.startswith(wanted))
    return " ".join(told) or platform.processor()


def main() -> None:
    torch.set_num_threads(1)
    arrays: dict[str, Any] = {}
    for case in CASES:
        arrays |= maps(case)
    np.savez_compressed(MAPS, **arrays)
    LOSSES.write_text(json.dumps({name: losses(name) for name in toys()}, indent=1) + "\n", encoding="utf-8")
    MACHINE.write_text(json.dumps(machine(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
