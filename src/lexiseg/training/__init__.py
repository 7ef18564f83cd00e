"""The engine: recipe, trainer, checkpoints."""
