"""Reads classes in plain text, by commas or by lines.

Lines may begin with numbers, bullets or names.

Only what can be read in one way is read. Numbers of a list are left out; numbers before a colon, comma or tab are ids.
"""

from __future__ import annotations

import re

from lexiseg.errors import VocabularyError
from lexiseg.words.entry import Entry, barred, by_id, clean, shown

__all__ = ["looks_like_a_file", "named", "read_text"]

FILE = re.compile(r"[^,;|\n]*\.(?:txt|json|ya?ml|csv|tsv|names)", re.IGNORECASE)
ID = re.compile(r"[0-9]{1,6}")
NUMBERED = re.compile(r"([0-9]{1,6})(?:\s*([.):=,;\t])(?![0-9])\s*|\s+-\s+|\s+)(\S.*)")  # "1. road", "1: road"
BULLET = re.compile(r"[-*•]\s+(\S.*)")
NAMED = re.compile(r"([^|:]+):\s+(\S.*)")  # "vehicle: car|bus"
COMMENT = re.compile(r"(?:^|\s)#.*")
SEPARATORS = ",;\t"
LIST_MARKS = (".", ")", None)  # what follows the number of a list; anything else follows an id


def read_text(text: str) -> list[Entry]:
    """The classes of a text; by id where ids are given. Raises `VocabularyError`."""
    lines = [line for line in text.splitlines() if line.strip()]
    if "\n" in text:
        lines = [line for line in (COMMENT.sub("", line).strip(" ") for line in lines) if line.strip()]
    if len(lines) == 1:
        lines = _divided(lines[0])
    return by_id(_pieces([line.strip().rstrip(SEPARATORS).strip() if len(lines) > 1 else line for line in lines]))


def looks_like_a_file(text: str) -> bool:
    """Whether a text is the name of a file of words, by its ending, rather than a word."""
    return FILE.fullmatch(text.strip()) is not None


def _divided(line: str) -> list[str]:
    """One line at the only kind of separator that it has; a comma or the like at its end divides nothing."""
    if "," in line or ";" in line:
        line = line.replace("\t", " ")
    used = [mark for mark in SEPARATORS if mark in line.strip()]
    if len(used) > 1:
        raise VocabularyError(
            f"{shown(line)} has commas and semicolons; put commas between classes, bars between words"
        )
    parts = re.sub(rf"{used[0]}\s*$", "", line).split(used[0]) if used else [line]
    return [line] if len(parts) == 2 and ID.fullmatch(parts[0].strip()) else parts  # "7, road" is an id with its class


def _pieces(pieces: list[str]) -> list[Entry]:
    """A class each, without the numbers or bullets that all of them have in front."""
    bullets = [BULLET.fullmatch(piece.strip()) for piece in pieces]
    pieces = [bullet[1] if all(bullets) and bullet else piece for bullet, piece in zip(bullets, pieces, strict=True)]
    numbered = _numbered(pieces)
    found = [named(piece, f"class {place}") for place, (_, piece) in enumerate(numbered, 1)]
    if all(entry.name not in entry.words and ID.fullmatch("|".join(entry.words)) for entry in found):  # "road: 7"
        return [Entry(entry.name, (entry.name,), int(entry.words[0])) for entry in found]
    return [Entry(entry.name, entry.words, number) for (number, _), entry in zip(numbered, found, strict=True)]


def _numbered(pieces: list[str]) -> list[tuple[int | None, str]]:
    """The id and the text of each; numbers of a list are not ids, only its order."""
    matches = [match for piece in pieces if (match := NUMBERED.fullmatch(piece.strip()))]
    marks = {match[2] for match in matches}
    numbers = [int(match[1]) for match in matches]
    in_order = numbers == list(range(len(numbers))) or numbers == list(range(1, len(numbers) + 1))
    if len(matches) < len(pieces) and marks - {None}:
        other = next(piece for piece in pieces if not NUMBERED.fullmatch(piece.strip()))
        raise VocabularyError(f"{shown(matches[0][0])} has a number and {shown(other)} has none; number all, or none")
    if len(matches) < len(pieces) or (None in marks and not (in_order and len(pieces) > 1)):  # "4 door car" is a word
        return [(None, piece) for piece in pieces]
    if in_order and marks <= set(LIST_MARKS):
        return [(None, match[3]) for match in matches]
    return list(zip(numbers, [match[3] for match in matches], strict=True))


def named(piece: str, where: str) -> Entry:
    """One class in a text: "road", "person|pedestrian" or "vehicle: car|bus"."""
    if looks_like_a_file(piece):
        raise VocabularyError(f"{piece.strip()!r} looks like a file; read it with --words-file or Vocabulary.from_file")
    match = NAMED.fullmatch(piece.strip())
    words = barred(match[2] if match else piece, where)
    return Entry(clean(match[1], where) if match else words[0], words)
