"""Reads photographs with label maps: layouts, samples, augmentation."""
