"""Measures speed and memory on the user's machine: `lexiseg bench`."""
