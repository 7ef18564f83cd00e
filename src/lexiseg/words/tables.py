"""Reads classes in a table, with a header or one column.

The table is CSV, or has another separator.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from lexiseg.errors import VocabularyError
from lexiseg.words.entry import Entry, shown
from lexiseg.words.values import entries

__all__ = ["has_header", "read_table"]

NAME_COLUMNS = ("name", "class", "label", "category", "word", "class_name", "label_name", "names", "classes", "labels")
ID_COLUMNS = ("id", "index", "idx", "class_id", "label_id", "number", "value", "pixel")
WORD_COLUMNS = ("synonyms", "words", "aliases")


def has_header(text: str) -> bool:
    """Whether a plain text is a table that says so: several columns, one of them called as names are."""
    first, *others = [line for line in text.splitlines() if line.strip()][:2] or [""]
    cells = _cells(first)
    more = _column(cells, (*ID_COLUMNS, *WORD_COLUMNS))
    return len(cells) > 1 and bool(others) and _column(cells, NAME_COLUMNS) is not None and more is not None


def read_table(text: str) -> list[Entry]:
    lines = [line for line in text.lstrip("\ufeff").splitlines() if line.strip()]
    if not lines:
        return []
    mark = _mark(lines[0])
    rows = [row for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=mark, skipinitialspace=True) if any(row)]
    name = _column(rows[0], NAME_COLUMNS)
    if name is None:
        return _without_header(rows, lines)
    number, words = _column(rows[0], ID_COLUMNS), _column(rows[0], WORD_COLUMNS)
    found: list[dict[str, Any]] = []
    for place, row in enumerate(rows[1:], 1):
        if len(row) <= max(column for column in (name, number, words) if column is not None):
            raise VocabularyError(f"row {place} has {len(row)} cells and the header {len(rows[0])}; fill the row")
        first, *others = _synonyms(row[name])
        others += _synonyms(row[words]) if words is not None and row[words].strip() else []
        found.append({"name": first, "synonyms": others, "id": None if number is None else row[number]})
    return entries(found)


def _without_header(rows: list[list[str]], lines: list[str]) -> list[Entry]:
    """One column, one row, or ids and names."""
    if len(rows) == 1:
        return entries(rows[0])
    widths = {len(row) for row in rows}
    if widths == {1}:
        return entries("\n".join(lines))
    if widths == {2} and all(row[0].strip().isdecimal() for row in rows):
        return entries([{"id": number, "name": name} for number, name in rows])
    raise VocabularyError(
        f"which column has the names? Give the table a header, such as id,name; it has {shown(lines[0])}"
    )


def _synonyms(cell: str) -> list[str]:
    return cell.split("|") if "|" in cell else cell.split(";")


def _mark(line: str) -> str:
    return max(",;\t", key=line.count)


def _cells(line: str) -> list[str]:
    return next(csv.reader([line], delimiter=_mark(line), skipinitialspace=True), [])


def _column(header: Sequence[str], names: Sequence[str]) -> int | None:
    cells = [cell.strip("\ufeff ").lower().replace(" ", "_") for cell in header]
    return next((cells.index(name) for name in names if name in cells), None)
