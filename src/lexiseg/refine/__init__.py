"""Refiners: logits and image in, logits out."""
