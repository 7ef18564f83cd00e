"""What README and docs/data.md show runs as written, on photographs that scikit-image bundles."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.io
from imageio.v3 import imread
from PIL import Image

import lexiseg
from docs.markdown import ROOT, blocks, commands
from lexiseg.cli.demo import photograph
from lexiseg.cli.main import main

README, DATA = ROOT / "README.md", ROOT / "docs" / "data.md"
PHOTOGRAPHS = {
    "street.jpg": "motorcycle_left.png",
    "a.jpg": "astronaut.png",
    "b.jpg": "chelsea.png",
    "photos/coffee.jpg": "coffee.png",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, which becomes the current one, with the photographs and the words that README names."""
    (tmp_path / "photos").mkdir()
    for name, bundled in PHOTOGRAPHS.items():
        with Image.open(photograph(bundled)) as picture:
            small = picture.convert("RGB")
            small.thumbnail((160, 160))
            small.save(tmp_path / name)
    (tmp_path / "classes.txt").write_text("cup\nspoon\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(block: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(block, "a block of a page", "exec"), names)
    return names


def test_every_python_block_of_readme_runs(folder: Path) -> None:
    (block,) = blocks(README, "python")
    names = run(block)
    assert names["words"].words == (("person", "pedestrian"), ("road", "street"))
    assert Image.open("street-labelled.png").size[0] >= Image.open("street.jpg").size[0]
    for name in "ab":
        assert lexiseg.Segmentation.load(f"labelled/{name}.png").names == ("person", "road")


def test_the_commands_of_readme_that_need_no_data_run_in_its_order(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line for line in commands(README) if line.startswith(("lexiseg segment", "lexiseg list"))]
    lines = [line for line in lines if "runs/" not in line]  # models that README trains; docs/training.md trains too
    assert len(lines) == 6
    for line in lines:
        assert main(shlex.split(line)[1:]) == 0, f"{line}\n{capsys.readouterr().err}"
    assert {path.name for path in Path("labelled").iterdir()} >= {"street.png", "coffee.png"}


def test_readme_names_the_extra_that_training_needs_before_it_trains() -> None:
    text = README.read_text(encoding="utf-8")
    assert 0 < text.index("pip install '.[train]'") < text.index("lexiseg train ")


def test_label_maps_are_read_by_other_programs_as_the_page_says(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = lexiseg.load("maskclip/mini").segment("street.jpg", "road, car, sky")
    result.save("labelled/street.png")
    (block,) = blocks(DATA, "python")
    labels = run(block)["labels"]
    np.testing.assert_array_equal(labels, result.labels)
    printed = capsys.readouterr().out
    assert all(name in printed for name in result.found)
    # the table's row of scikit-image: the colours, unless it is told otherwise
    assert skimage.io.imread("labelled/street.png").shape == (*labels.shape, 3)
    np.testing.assert_array_equal(imread("labelled/street.png", mode="P"), labels)
