"""Builds networks that segment: students, backbones, heads."""
