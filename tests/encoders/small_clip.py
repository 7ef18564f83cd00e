"""The shape of a CLIP that is small enough for tests, with the embedded tokenizer."""

from __future__ import annotations

from transformers import CLIPConfig

VOCABULARY, CONTEXT, END = 4093, 32, 4092  # those of the embedded tokenizer


def small_config(**vision: object) -> CLIPConfig:
    text = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 1}
    text |= {"vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT, "eos_token_id": END, "bos_token_id": 1}
    image = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 2}
    image |= {"image_size": 32, "patch_size": 8, **vision}
    return CLIPConfig(text_config={**text, "projection_dim": 48}, vision_config=image, projection_dim=48)
