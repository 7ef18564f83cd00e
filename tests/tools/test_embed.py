"""A trained model as one of the package's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lexiseg import catalog
from lexiseg.methods import simseg
from script_files import load


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """The embedded CLIP as SimSeg's, with an image tower that learned something and a text tower that did not."""
    segmenter, inference = catalog.load("simseg/custom", weights="asset:mini-clip")
    with torch.no_grad():
        segmenter.towers.clip.vision.projection.weight.mul_(1.5)
    catalog.save(segmenter, tmp_path / "model", method="simseg", inference=inference)
    return tmp_path / "model"


def test_an_embedded_model_is_half_as_precise_and_leaves_out_what_the_embedded_clip_has(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load("tools/embed").main([str(trained), "other", "--shelf", str(tmp_path)])
    own = load_file(tmp_path / "other" / "model.safetensors")
    assert list(own) == ["visual_projection.weight"]
    assert {tensor.dtype for tensor in own.values()} == {torch.float16}
    assert "131,200 bytes" in capsys.readouterr().out
    shared = json.loads((tmp_path / "other" / "shared.json").read_text())
    assert (shared["weights"], shared["files"]) == ("asset:mini-clip", ["tokenizer.json"])
    assert not list((tmp_path / "other").glob("tokenizer*"))
    again, _ = catalog.load("simseg/custom", weights=str(tmp_path / "other"))
    before, _ = catalog.load(str(trained))
    picture = torch.randint(0, 256, (1, 3, 32, 32)).to(torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(again.image_vectors(picture), before.image_vectors(picture), atol=1e-3, rtol=0)
        torch.testing.assert_close(again.text_vectors(["a cat"]), before.text_vectors(["a cat"]), atol=1e-3, rtol=0)
    assert isinstance(again, simseg.SimSeg)
