"""Classes as people name them, for tests that write them in some form and read them back."""

from __future__ import annotations

import unicodedata

from hypothesis import strategies as st

__all__ = ["classes"]

_letters = st.characters(categories=["Ll", "Lu", "Lo"]).filter(lambda one: unicodedata.normalize("NFC", one) == one)
_rest = st.text(st.one_of(_letters, st.sampled_from("0123456789-'.()")), max_size=5)
_parts = st.tuples(_letters, _rest).map("".join).filter(lambda text: not text.endswith("'"))
_words = st.lists(_parts, min_size=1, max_size=3).map(lambda parts: unicodedata.normalize("NFC", " ".join(parts)))


@st.composite
def classes(draw: st.DrawFn) -> list[tuple[str, ...]]:
    """The words of one or more classes; no word is given twice."""
    unique = draw(st.lists(_words, min_size=1, max_size=10, unique_by=str.casefold))
    cuts = sorted(draw(st.sets(st.integers(1, len(unique) - 1)))) if len(unique) > 1 else []
    return [tuple(unique[start:stop]) for start, stop in zip([0, *cuts], [*cuts, len(unique)], strict=True)]
