"""Encodes images and texts with CLIP's and other towers.

These are thin dense paths over transformers' models, and what transformers lacks.
"""
