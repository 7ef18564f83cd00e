"""Every script of examples/ does what its first line says, on a small photograph that scikit-image bundles."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lexiseg
from lexiseg.cli.demo import photograph
from script_files import ROOT, load

SCRIPTS = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    with Image.open(photograph("chelsea.png")) as image:
        image.convert("RGB").resize((90, 60)).save(tmp_path / "cat.jpg")
    return tmp_path / "cat.jpg"


def test_areas_of_a_folder_become_a_table(cat: Path, tmp_path: Path) -> None:
    load("examples/label_a_folder").main(str(cat.parent), "cat, wall", str(tmp_path / "areas.csv"))
    with (tmp_path / "areas.csv").open(newline="") as file:
        header, (path, *areas) = csv.reader(file)
    assert header == ["photograph", "cat", "wall", "unlabelled"]
    assert Path(path) == cat
    assert sum(map(float, areas)) == pytest.approx(1, abs=1e-3)


def test_each_list_of_words_gets_an_answer(cat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load("examples/ask_again").main(str(cat), "cat, wall", "animal, sky, grass")
    first, second = capsys.readouterr().out.strip().splitlines()
    assert "2 classes" in first
    assert "3 classes" in second


def test_two_models_are_compared(cat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = ("maskclip/mini", "simseg/mini")
    load("examples/compare_models").main(str(cat), "cat, wall, grass", *models, str(tmp_path / "differ.png"))
    one, other = (lexiseg.load(model).segment(cat, "cat, wall, grass").labels for model in models)
    with Image.open(tmp_path / "differ.png") as picture:
        assert np.array_equal(np.asarray(picture) == 255, one != other)
    assert "they disagree on" in capsys.readouterr().out


def test_a_class_is_cut_out(cat: Path, tmp_path: Path) -> None:
    load("examples/cut_out").main(str(cat), "cat, grass", "cat", str(tmp_path / "cut.png"))
    mask = lexiseg.load("maskclip/mini").segment(cat, "cat, grass").mask("cat")
    with Image.open(tmp_path / "cut.png") as picture:
        assert picture.mode == "RGBA"
        assert np.array_equal(np.asarray(picture)[..., 3] == 255, mask)


def test_a_student_is_taught(cat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load("examples/teach_a_student").main(str(cat.parent), "cat, wall", str(tmp_path / "run"), "2")
    assert "trained 2 steps" in capsys.readouterr().out
    assert lexiseg.load(tmp_path / "run" / "model").segment(cat, "cat, wall").labels.shape == (60, 90)


def test_a_space_shows_the_overlay_and_the_notes() -> None:
    space = load("examples/gradio_space")
    with Image.open(photograph("chelsea.png")) as image:
        small = np.asarray(image.convert("RGB").resize((90, 60)))
    overlay, notes = space.label(lexiseg.load("maskclip/mini"), small, "cat, saucer")
    assert overlay.size[0] >= 90
    assert "'saucer'" in notes


def test_every_script_is_short_says_what_it_does_and_is_listed() -> None:
    listed = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    for name in SCRIPTS:
        text = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 40
        assert f"python examples/{name}.py" in text
        assert f"[{name}.py]" in listed
