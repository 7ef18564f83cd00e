"""Finds the photographs that every installation has, with words for each."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from lexiseg.errors import DataError

__all__ = ["ABOUT", "PHOTOGRAPHS", "photograph"]

# photographs that scikit-image ships, and what a person would name in them
PHOTOGRAPHS = {
    "chelsea.png": "cat, blanket, wall, person, couch, bird, grass",
    "astronaut.png": "person, flag, wall, window, chair, sky",
    "coffee.png": "cup|coffee cup, saucer, spoon, table, wall, grass",
    "motorcycle_left.png": "motorcycle, floor, wall, shelf, car, tree, sky",
}
ABOUT = {  # for those who do not see them
    "chelsea.png": "A cat's face",
    "astronaut.png": "An astronaut before a flag",
    "coffee.png": "A cup of coffee with a spoon on a table",
    "motorcycle_left.png": "A motorcycle in a garage",
}


def photograph(name: str) -> Path:
    """Where scikit-image keeps one of its photographs."""
    path = Path(str(resources.files("skimage"))) / "data" / name
    if not path.is_file():
        raise DataError(f"scikit-image ships no {name} here; reinstall it: pip install --force-reinstall scikit-image")
    return path
