"""Photographs with label maps: layouts, samples, augmentation."""
