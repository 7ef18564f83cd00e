"""Label maps and their facts come back as they were written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lexiseg.errors import DataError, OutputError
from lexiseg.formats.label_maps import check_pair, read_npz, read_png, write_npz, write_png

FACTS = {"size": [3, 4], "classes": ["Straße"]}
PALETTE = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)


def labels(dtype: type) -> np.ndarray:
    return np.arange(12, dtype=dtype).reshape(3, 4)


@pytest.mark.parametrize(
    ("dtype", "palette", "kind", "mode"),
    [(np.uint8, PALETTE, "palette", "P"), (np.uint8, None, "grey", "L"), (np.uint16, None, "grey", "I;16")],
)
def test_a_png_comes_back_with_its_facts_and_what_kind_it_is(
    tmp_path: Path, dtype: type, palette: np.ndarray | None, kind: str, mode: str
) -> None:
    path = tmp_path / "a.png"
    write_png(path, labels(dtype), FACTS, palette, made_with="x")
    found, facts = read_png(path)
    assert np.array_equal(found, labels(dtype))
    assert FACTS.items() <= facts.items()
    assert (facts["png"], facts["made_with"], Image.open(path).mode) == (kind, "x", mode)
    check_pair(path, facts)


def test_a_png_that_was_changed_is_no_pair_with_its_facts(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_png(path, labels(np.uint8), FACTS, None, made_with="")
    facts = json.loads((tmp_path / "a.json").read_text())
    Image.fromarray(labels(np.uint8)[::-1]).save(path)
    with pytest.raises(DataError, match=r"not the label map that a\.json was written with"):
        check_pair(path, facts)


@pytest.mark.parametrize("scores", [None, np.full((3, 4), 0.5, np.float16)])
def test_an_npz_comes_back_with_its_facts_and_scores(tmp_path: Path, scores: np.ndarray | None) -> None:
    write_npz(tmp_path / "a.npz", labels(np.uint16), scores, FACTS, made_with="")
    found, kept, facts = read_npz(tmp_path / "a.npz")
    assert np.array_equal(found, labels(np.uint16))
    assert np.array_equal(kept, scores) if scores is not None else kept is None
    assert FACTS.items() <= facts.items()


def test_a_file_of_another_program_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"mine")
    with pytest.raises(OutputError, match="lexiseg did not write it"):
        write_npz(tmp_path / "a.npz", labels(np.uint8), None, FACTS, made_with="")
