"""Trains recipes: trainer, stages, checkpoints."""
