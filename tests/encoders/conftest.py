"""One small random CLIP of transformers, whose weights survive half precision, and the folder it was saved in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from openai_files import half_precise
from transformers import CLIPConfig, CLIPModel

from lexiseg.encoders.tokenizer import Tokenizer
from lexiseg.encoders.weights import find

VOCABULARY, CONTEXT, END = 4093, 32, 4092  # those of the embedded tokenizer


def small_config(**vision: object) -> CLIPConfig:
    text = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 1}
    text |= {"vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT, "eos_token_id": END, "bos_token_id": 1}
    image = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 2}
    image |= {"image_size": 32, "patch_size": 8, **vision}
    return CLIPConfig(text_config={**text, "projection_dim": 48}, vision_config=image, projection_dim=48)


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
