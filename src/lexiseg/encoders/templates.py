"""Prompt templates as data: sentences with {} where the word goes (docs/papers/clip.md §1.8)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lexiseg.errors import SettingError, UnknownName

__all__ = ["SLOT", "names", "templates"]

SLOT = "{}"  # where the word goes


def names() -> tuple[str, ...]:
    """The names that `templates` knows."""
    return tuple(_SETS)


def templates(name_or_path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The sentences of a named set, or those of a text file: one a line, `#` starts a comment line.

    Raises `UnknownName` for what is neither a name nor a file, `SettingError` for a file that cannot be used.
    """
    name = os.fspath(name_or_path)
    if name in _SETS:
        return _SETS[name]
    path = Path(name).expanduser()
    if path.is_file():
        return _read(path)
    if os.sep in name or path.suffix:
        raise SettingError(f"there is no file of templates at {path}; give a text file, or one of {', '.join(_SETS)}")
    raise UnknownName("set of templates", name, _SETS)


def _read(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"cannot read the templates in {path}: {error}; give a UTF-8 text file") from error
    sentences: dict[str, None] = {}
    for number, line in enumerate((line.strip() for line in lines), start=1):
        if not line or line.startswith("#"):
            continue
        if SLOT not in line:
            raise SettingError(
                f"line {number} of {path} is {line!r}, which has no {{}}; write {{}} where the word goes"
            )
        sentences[line] = None  # a dict, since a sentence given twice would count twice in the average
    if not sentences:
        raise SettingError(f"{path} has no templates; write one sentence with {{}} a line")
    return tuple(sentences)


def _imagenet() -> Iterator[str]:
    """The 80 sentences that CLIP's authors chose for ImageNet; "a" stays "a" before a vowel."""
    looks = (
        "bad, low resolution, cropped, bright, dark, close-up, black and white, pixelated, jpeg corrupted, blurry, good"
    )
    kinds = "hard to see, clean, dirty, cool, nice, weird, small, large"
    makes = "embroidered, plastic, cartoon, origami, toy, plushie"
    arts = "sculpture, rendering, tattoo, drawing, painting, sketch, doodle, rendition"
    yield from (f"a {look} photo of {article} {{}}." for look in looks.split(", ") for article in ("a", "the"))
    yield from (f"a photo of {article} {kind} {{}}." for kind in kinds.split(", ") for article in ("a", "the"))
    yield from (f"a photo of {article} {{}}." for article in ("many", "my", "one", "a", "the"))
    yield from (f"{article} {make} {{}}." for make in makes.split(", ") for article in ("a", "the"))
    yield from (f"a {art} of {article} {{}}." for art in arts.split(", ") for article in ("a", "the"))
    yield from (f"{art} of {article} {{}}." for art in ("graffiti", "art", "itap") for article in ("a", "the"))
    yield "itap of my {}."  # "I took a picture"
    yield from (f"{article} {{}} in a video game." for article in ("a", "the"))


def _in_the_scene() -> Iterator[str]:
    """What MaskCLIP adds to the 80."""
    yield from (f"there is {article} {{}} in the scene." for article in ("a", "the"))
    yield from (f"this is {article} {{}} in the scene." for article in ("a", "the", "one"))


def _vild() -> Iterator[str]:
    """ZSSeg's 14, full stops as its code has them."""
    yield "a photo of a {}."
    yield "This is a photo of a {}"
    yield from ("There is a {} in the scene", "There is the {} in the scene")
    yield "a photo of a {} in the scene"
    sizes = ("small", "medium", "large")
    yield from (f"a photo of a {size} {{}}." for size in sizes)
    yield from (f"This is a photo of a {size} {{}}." for size in sizes)
    yield from (f"There is a {size} {{}} in the scene." for size in sizes)


_SETS = {
    "single": ("a photo of a {}.",),
    "imagenet80": tuple(_imagenet()),
    "maskclip85": (*_imagenet(), *_in_the_scene()),
    "vild14": tuple(_vild()),
}
