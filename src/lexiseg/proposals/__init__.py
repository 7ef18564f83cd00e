"""Makes masks without words: clusters, superpixels, regions.

There is one file for each way to make them.
"""
