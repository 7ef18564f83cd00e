"""What the tool asks about a photograph, and what it prints."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from script_files import load

NAMES = ["cat", "dog", "car", "road", "sheep", "bus", "boat"]


def test_own_and_absent_classes_are_asked_about_and_none_that_a_common_word_gives_way_to() -> None:
    truth = np.array([[0, 0, 255], [0, 3, 3]])
    asked = dict(load("tools/absent_words").questions(truth, NAMES, random.Random(0)))
    assert asked["its own"] == ["cat", "road"]
    assert asked["its largest and 2 absent"][0] == "cat"
    for count in (1, 2, 4):
        words = asked[f"{count} absent"]
        assert len(set(words)) == count
        assert not {"cat", "road"} & set(words)


def test_each_question_has_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    (tmp_path / "classes.json").write_text(json.dumps(NAMES))
    one, others = np.zeros((60, 60), np.uint8), 1 + np.arange(60, dtype=np.uint8)[:, None] // 10
    for name, truth in (("one", one), ("others", others.repeat(60, axis=1))):
        Image.fromarray(skimage.data.astronaut()[:60, :60]).save(tmp_path / "images" / f"{name}.png")
        Image.fromarray(truth).save(tmp_path / "masks" / f"{name}.png")
    load("tools/absent_words").main(["--data", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 photographs")
    assert [line.strip().split("  ")[0] for line in lines[1:]] == [
        "its own", "its largest and 2 absent", "1 absent", "2 absent", "4 absent",
    ]  # fmt: skip
