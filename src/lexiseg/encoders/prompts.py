"""Holds what a word is put into: sentences or learned vectors.

clip.md §1.8 has the facts about prompts.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from lexiseg import files
from lexiseg.errors import SettingError, UnknownName, WeightsError, first_line

__all__ = ["SLOT", "Prompts", "names"]

SLOT = "{}"  # where the word goes
LEARNED = ".safetensors"  # the ending of a file of learned prompts
CONTEXT = "context"  # the tensor in it


@dataclass(frozen=True, eq=False)
class Prompts:
    """What a word is put into before a text tower reads it.

    sentences: with {} where the word goes; the vectors of all of them are averaged. With a context: the word alone.
    context: learned vectors [T, W] in the place of tokens, W being the text tower's width; they serve every word.
    word_at: how many of them stand between the start token and the sentence, the others after it; None: all of them.

    Two are equal where they make the same of every word. Raises `SettingError` for what cannot be used.

    >>> import lexiseg
    >>> lexiseg.Prompts.open("single")("cat")
    ['a photo of a cat.']
    >>> own = lexiseg.Prompts(("a satellite image of {}.", "{} seen from above."))
    >>> own.save("prompts.txt")
    >>> lexiseg.load("maskclip/mini", prompts="prompts.txt").prompts == own
    True
    """

    sentences: tuple[str, ...] = ()
    context: Tensor | None = None
    word_at: int | None = None

    def __post_init__(self) -> None:
        if not self.sentences:
            if self.context is None:
                raise SettingError("there are no prompts; give sentences with {} where the word goes, or a context")
            object.__setattr__(self, "sentences", (SLOT,))
        for sentence in self.sentences:
            if SLOT not in sentence:
                raise SettingError(f"{sentence!r} has no {{}}; write {{}} where the word goes")
        if self.context is not None:
            _check(self.context, self.word_at)

    @classmethod
    def open(cls, name_or_file: str | os.PathLike[str]) -> Prompts:
        """Those of a name, of a text file (a sentence a line, `#` starts a comment), or of a file that `save` wrote.

        A sentence with {} is a set of its own: "a sculpture of a {}.".

        Raises `UnknownName` for what is neither a name nor a file, `SettingError` for a file that cannot be used,
        `WeightsError` for learned prompts that cannot be read.
        """
        name = os.fspath(name_or_file)
        if name in _SETS:
            return cls(_SETS[name])
        if SLOT in name:
            return cls((name,))
        path = Path(name).expanduser()
        if path.is_file():
            return _read_learned(path) if path.suffix == LEARNED else cls(_read_sentences(path))
        if os.sep in name or path.suffix:
            raise SettingError(
                f"there is no file of prompts at {path}; give a text file, a {LEARNED} file of learned prompts, "
                f"or one of {', '.join(_SETS)}"
            )
        raise UnknownName("set of prompts", name, _SETS)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes what `open` reads: FILE.safetensors where there is a context, else a text file.

        Raises `OutputError`, and `SettingError` for a file's name that says the other kind.
        """
        if (Path(path).suffix == LEARNED) != (self.context is not None):
            kind = f"sentences go into a text file, not {LEARNED}" if self.context is None else f"end it with {LEARNED}"
            raise SettingError(f"{path} is not a name for these prompts: {kind}")
        if self.context is None:
            files.write_text(path, "".join(f"{sentence}\n" for sentence in self.sentences))
            return
        facts = {"sentences": json.dumps(self.sentences), "word_at": json.dumps(self.word_at)}
        content = to_safetensors({CONTEXT: self.context.detach().float().cpu().contiguous()}, metadata=facts)
        files.write_bytes(path, content)

    @property
    def digest(self) -> str:
        """Hash of all that decides what becomes of a word."""
        digest = hashlib.sha256("\n".join(self.sentences).encode())
        if self.context is not None:
            digest.update(f"\n{tuple(self.context.shape)} {self.before}\n".encode())
            digest.update(self.context.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def before(self) -> int:
        """How many vectors of the context stand before the sentence."""
        count = 0 if self.context is None else len(self.context)
        return count if self.word_at is None else self.word_at

    def __call__(self, word: str) -> list[str]:
        """The sentences with the word in them; a context is not text, and comes in at the text tower."""
        return [sentence.replace(SLOT, word) for sentence in self.sentences]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prompts) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def names() -> tuple[str, ...]:
    """The names that `Prompts.open` knows."""
    return tuple(_SETS)


def _check(context: Tensor, word_at: int | None) -> None:
    if context.ndim != 2 or not context.is_floating_point() or not context.numel():
        raise SettingError(
            f"a context is a vector of numbers for each token, [T, W], and this one is {list(context.shape)} of "
            f"{str(context.dtype).removeprefix('torch.')}; one context serves every word"
        )
    if word_at is not None and not 0 <= word_at <= len(context):
        raise SettingError(f"word_at is {word_at}; give a place among the {len(context)} vectors, 0 to {len(context)}")
    if not torch.isfinite(context.detach()).all():
        raise SettingError("the context holds numbers that are not finite; learn it again, at a lower rate")


def _read_learned(path: Path) -> Prompts:
    try:
        with safe_open(path, framework="pt") as file:
            held, facts = list(file.keys()), dict(file.metadata() or {})
            context = file.get_tensor(CONTEXT) if CONTEXT in held else None
        sentences, word_at = json.loads(facts.get("sentences", "[]")), json.loads(facts.get("word_at", "null"))
        if not all(isinstance(each, str) for each in sentences) or not isinstance(word_at, int | None):
            raise ValueError("its header is not one that lexiseg writes")
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise WeightsError(f"{path} cannot be read as learned prompts ({first_line(error)}); copy it again") from error
    if context is None:
        raise WeightsError(
            f"{path} holds {', '.join(held) or 'nothing'}, not the tensor {CONTEXT!r} of learned prompts"
        )
    try:
        return Prompts(tuple(sentences), context, word_at)
    except SettingError as error:
        raise SettingError(f"{path}: {error}") from error


def _read_sentences(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"cannot read the prompts in {path}: {error}; give a UTF-8 text file") from error
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
        raise SettingError(f"{path} has no prompts; write one sentence with {{}} a line")
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


_SETS: Mapping[str, tuple[str, ...]] = {
    "single": ("a photo of a {}.",),
    "imagenet80": tuple(_imagenet()),
    "maskclip85": (*_imagenet(), *_in_the_scene()),
    "vild14": tuple(_vild()),
}
