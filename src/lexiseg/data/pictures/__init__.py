"""Reads picture files as RGB pixels, whatever their depth and bands."""
