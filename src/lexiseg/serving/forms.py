"""Reads and checks requests.

They are multipart with photographs, or JSON without; every value is checked before any work begins.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from lexiseg.serving.limits import Limits
from lexiseg.serving.problems import Problem
from lexiseg.vocabulary import Vocabulary

__all__ = ["Asked", "Form", "asked", "file_name", "json_body", "multipart"]

FIELDS = 32  # fields of a form, far more than have a meaning
FIELD_BYTES = 64_000
IMAGE = "image"

Body = TypeVar("Body", bound=BaseModel)


class _InMemory(MultiPartParser):
    """Uploads stay in memory: Starlette writes those above 1 MB to disk, and nothing of a request goes there."""

    spool_max_size = 2**62


@dataclass(frozen=True)
class Form:
    """The photographs of a request, each with its name, and its fields."""

    images: tuple[tuple[str, bytes], ...]
    fields: Mapping[str, str]


@dataclass(frozen=True)
class Asked:
    """A question that has been checked; `refine` and `prompts` are names that exist, or None for the model's own."""

    vocabulary: Vocabulary
    threshold: float | None = None
    prompts: str | None = None
    refine: str | None = None


async def multipart(request: Request, limits: Limits, known: Sequence[str], *, most: int) -> Form:
    """known: the fields that have a meaning. most: photographs. Raises `Problem`."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Problem("media-type", "send multipart/form-data, with the photograph in the field 'image'")
    parser = _InMemory(request.headers, request.stream(), max_files=most, max_fields=FIELDS, max_part_size=FIELD_BYTES)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Problem("malformed", error.message) from error
    images: list[tuple[str, bytes]] = []
    fields: dict[str, str] = {}
    for key, value in form.multi_items():
        if isinstance(value, UploadFile):
            if key != IMAGE:
                raise Problem.about(_shown(key), f"photographs are sent in the field {IMAGE!r}")
            images.append((file_name(value.filename), await value.read()))
            await value.close()
        elif key == IMAGE:
            raise Problem.about(IMAGE, "send the photograph as a file; an address or a path is not fetched")
        elif key not in known:
            raise Problem.about(_shown(key), f"there is no such field; the fields are {', '.join((IMAGE, *known))}")
        elif key in fields:
            raise Problem.about(key, "it is given twice")
        elif value.strip():
            fields[key] = value
    if not images:
        raise Problem.about(IMAGE, "no photograph was sent")
    return Form(tuple(images), fields)


async def json_body(request: Request, limits: Limits, model: type[Body]) -> Body:
    """Raises `Problem` for anything but JSON that fits `model`."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem("media-type", "send application/json")
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > limits.json_bytes:
            raise Problem("too-large", f"JSON of more than {limits.json_bytes:,} bytes is not read")
    try:
        return model.model_validate_json(bytes(content))
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        if any(one["type"] == "json_invalid" for one in found):
            raise Problem("malformed", f"this is not JSON: {found[0]['msg'][:200]}") from error
        errors = [{"at": _place(one["loc"]), "why": one["msg"]} for one in found[:8]]
        raise Problem("invalid", f"{errors[0]['at']}: {errors[0]['why']}", errors=errors) from error


def asked(
    limits: Limits,
    *,
    words: Any,
    background: Any = None,
    threshold: float | str | None = None,
    prompts: str | None = None,
    refine: str | None = None,
    known_prompts: Sequence[str],
    refiners: Sequence[str],
) -> Asked:
    """Raises `Problem`, and `VocabularyError` for words that cannot be used."""
    if words is None:
        raise Problem.about("words", "name what to look for, for example 'road, car, sky'")
    for at, value, choices in (("prompts", prompts, known_prompts), ("refine", refine, ("none", *refiners))):
        if value is not None and value not in choices:  # neither is ever opened or imported by a name from outside
            raise Problem.about(at, f"choose from {', '.join(choices)}")
    vocabulary = Vocabulary(_bounded("words", words, limits))
    if background is not None:
        vocabulary = vocabulary.with_background(_bounded("background", background, limits))
    _check(vocabulary, limits)
    return Asked(vocabulary, _number("threshold", threshold), prompts, refine)


def _bounded(at: str, given: Any, limits: Limits) -> Any:
    """The value of a field as text, list or mapping of limited size; a text may be JSON.

    Files of words may be YAML or CSV; a request may not.
    """
    if isinstance(given, str) and given.lstrip("\ufeff \t\r\n")[:1] in tuple("[{"):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise Problem.about(at, "it begins like JSON and is not; mend it, or separate words by commas") from error
    if isinstance(given, str):
        count = 1 + sum(given.count(mark) for mark in ",|;\n\t")
    else:
        count = _count(given, at)
    if count > 4 * limits.words:  # the exact number is known after reading
        raise Problem("words", f"{at} has more than {limits.words} words; ask for fewer at a time")
    return given


def _count(given: Any, at: str, depth: int = 0) -> int:
    """Texts in nested lists and mappings."""
    if isinstance(given, str):
        return 1
    if depth < 3 and isinstance(given, Mapping):
        return sum(_count(one, at, depth + 1) for one in given.values())
    if depth < 3 and isinstance(given, Sequence):
        return sum(_count(one, at, depth + 1) for one in given)
    raise Problem.about(at, "give a text, a list of texts, or a mapping of names to words")


def _check(vocabulary: Vocabulary, limits: Limits) -> None:
    words = vocabulary.queries
    if len(words) > limits.words:
        raise Problem("words", f"{len(words)} words are asked for, more than the limit of {limits.words}")
    for word in (*words, *vocabulary.names):
        if len(word) > limits.letters:
            raise Problem("words", f"{word[:30]!r}... has {len(word)} letters, more than the limit of {limits.letters}")


def _number(at: str, given: float | str | None) -> float | None:
    if given is None:
        return None
    try:
        number = float(given)
    except ValueError as error:
        raise Problem.about(at, "give a number from 0 to 1") from error
    if not 0 <= number <= 1:
        raise Problem.about(at, "give a number from 0 to 1")
    return number


def file_name(given: str | None) -> str:
    """The last part of a name, for messages and downloads; the server never opens it."""
    name = PurePosixPath(PureWindowsPath(given or "").name).name
    visible = "".join(letter for letter in name if letter.isprintable())[:100].strip()
    return visible or "the image"


def _shown(key: str) -> str:
    return "".join(letter for letter in key if letter.isprintable())[:40] or "a field"


def _place(parts: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in parts[:4]) or "the body"
