"""The fixtures of `clip_fixtures` for these tests."""

from clip_fixtures import folder, model, tokenizer

__all__ = ["folder", "model", "tokenizer"]
