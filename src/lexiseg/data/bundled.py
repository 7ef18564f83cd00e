"""Finds the photographs that every installation has, with words for each."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from lexiseg.errors import DataError

__all__ = ["ABOUT", "PHOTOGRAPHS", "photograph"]

# photographs that scikit-image ships, and what a person would name in them
PHOTOGRAPHS = {
    "chelsea.png": "cat, blanket, wall, grass, bird, car",
    "astronaut.png": "person, wall, banner|flag, cat, car",
    "coffee.png": "cup, spoon, table, grass, sky",
    "motorcycle_left.png": "motorcycle, floor, wall, shelf, car",
    "camera.png": "person, grass, sky, building, dog",
    "horse.png": "horse, sky, dog, car",
    "rocket.jpg": "rocket|missile, sky, tree, boat",
    "grass.png": "grass, sky, water, sheep",
}
ABOUT = {  # for those who do not see them
    "chelsea.png": "A cat's face",
    "astronaut.png": "An astronaut before a flag",
    "coffee.png": "A cup of coffee with a spoon on a table",
    "motorcycle_left.png": "A motorcycle in a garage",
    "camera.png": "A man with a camera on a lawn, in grey",
    "horse.png": "The outline of a horse",
    "rocket.jpg": "A rocket at night, just launched",
    "grass.png": "Grass from above, in grey",
}


def photograph(name: str) -> Path:
    """Where scikit-image keeps one of its photographs."""
    path = Path(str(resources.files("skimage"))) / "data" / name
    if not path.is_file():
        raise DataError(f"scikit-image ships no {name} here; reinstall it: pip install --force-reinstall scikit-image")
    return path
