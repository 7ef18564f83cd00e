"""Picture files as RGB pixels: which formats are read, and what becomes of depth, bands and transparency."""
