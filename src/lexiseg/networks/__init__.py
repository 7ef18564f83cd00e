"""Networks that end in a segmentation: students, backbones, heads."""
