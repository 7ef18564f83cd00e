"""The corruptions of ImageNet-C, and which of them to apply."""
