"""One file per paper: its maths, from docstring to VARIANTS."""
