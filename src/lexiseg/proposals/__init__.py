"""Masks without words: clusters, superpixels, regions. One file for each way to make them."""
