"""Corrupts photographs as ImageNet-C does, and names the corruptions."""
