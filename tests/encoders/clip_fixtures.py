"""One small random CLIP of transformers, whose weights survive half precision, and the folder it was saved in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from openai_files import half_precise
from small_clip import CONTEXT, small_config
from transformers import CLIPModel

from lexiseg.encoders.tokenizer import Tokenizer
from lexiseg.encoders.weights import find


@pytest.fixture(scope="session")
def model() -> CLIPModel:
    torch.manual_seed(0)
    return half_precise(CLIPModel(small_config()).eval()).requires_grad_(False)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_folder(find("asset:mini-clip"), CONTEXT)


@pytest.fixture
def folder(model: CLIPModel, tokenizer: Tokenizer, tmp_path: Path) -> Path:
    """What transformers writes."""
    model.save_pretrained(tmp_path / "clip")
    tokenizer.save(tmp_path / "clip")
    return tmp_path / "clip"
