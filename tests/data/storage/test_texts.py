from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lexiseg.data.storage.texts import Texts


@given(st.lists(st.text(), max_size=8))
def test_texts_are_a_sequence_of_what_went_in(texts):
    kept = Texts(texts)
    assert list(kept) == kept[:] == texts
    assert kept[::-2] == texts[::-2]
    assert [kept[at] for at in range(-len(texts), len(texts))] == texts + texts
    assert list(pickle.loads(pickle.dumps(kept))) == texts


def test_the_hash_sees_where_texts_end():
    assert Texts(["ab", "c"]).sha256 != Texts(["a", "bc"]).sha256
    assert Texts(["ab", "c"]).sha256 == Texts(iter(["ab", "c"])).sha256


def test_there_is_nothing_beyond_the_end():
    with pytest.raises(IndexError):
        Texts(["a"])[1]
