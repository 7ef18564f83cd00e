"""Image-text pairs: readers, captions, packing."""
