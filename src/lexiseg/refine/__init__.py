"""Refines logits with the image they belong to."""
