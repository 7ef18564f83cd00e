from __future__ import annotations

import gzip
import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lexiseg.encoders.tokenizer import MERGES_FILE, Tokenizer, clean, pad
from lexiseg.encoders.weights import find
from lexiseg.errors import WeightsError

MERGES = Path(__file__).parents[3] / "shared" / "data" / "clip-bpe" / MERGES_FILE
needs_merges = pytest.mark.skipif(not MERGES.is_file(), reason=f"OpenAI's {MERGES_FILE} is not at hand")
START, END = 49406, 49407

# docs/papers/clip.md §1.7, computed with OpenAI's own tokenizer
GOLDEN = {
    "a photo of a cat.": [320, 1125, 539, 320, 2368, 269],
    "a sculpture of a wall-concrete.": [320, 8757, 539, 320, 2569, 268, 9637, 269],
    "There is a tv monitor in the scene": [997, 533, 320, 1583, 10198, 530, 518, 3562],
    "playingfield": [47368, 1570],
    "tvmonitor": [3197, 10198],
    "HELLO &amp; world 123": [3306, 261, 1002, 272, 273, 274],
    "X.": [343, 269],
    "bed ": [2722],
}


@pytest.fixture(scope="module")
def official() -> Tokenizer:
    return Tokenizer.from_merges(MERGES)


@pytest.fixture
def embedded() -> Tokenizer:
    return Tokenizer.from_folder(find("asset:mini-clip"), 32)


@needs_merges
@pytest.mark.parametrize("sentence", GOLDEN)
def test_openai_s_rows_come_out(official: Tokenizer, sentence: str) -> None:
    assert official([sentence]) == [[START, *GOLDEN[sentence], END]]


@needs_merges
def test_openai_s_tokenizer_survives_being_saved(official: Tokenizer, tmp_path: Path) -> None:
    official.save(tmp_path)
    again = Tokenizer.from_folder(tmp_path, 77)
    assert again(list(GOLDEN)) == official(list(GOLDEN))
    assert again.end == official.end == END


@needs_merges
def test_the_oldest_layout_of_a_folder_is_read(official: Tokenizer, tmp_path: Path) -> None:
    # vocab.json and merges.txt, without tokenizer.json
    official.backend.backend_tokenizer.model.save(str(tmp_path))
    assert Tokenizer.from_folder(tmp_path, 77)(list(GOLDEN)) == official(list(GOLDEN))


@needs_merges
@given(st.text(max_size=30))
@settings(max_examples=50, deadline=None)
def test_any_text_becomes_a_row_between_the_two_marks(official: Tokenizer, text: str) -> None:
    (row,) = official([text])
    assert row[0] == START
    assert row[-1] == END
    assert len(row) <= 77
    assert max(row) <= END


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ("Caf\u00c3\u00a9 au lait", "café au lait"),  # UTF-8 read as Latin-1
        ("rock &amp;amp; roll", "rock & roll"),
        ("  two \t words\n", "two words"),
        ("\ufb02ower", "flower"),  # a ligature
        ("plain words.", "plain words."),
    ],
)
def test_text_is_repaired_before_it_is_split(broken: str, whole: str) -> None:
    assert clean(broken) == whole


def test_a_long_sentence_keeps_its_beginning_and_the_end_token(
    embedded: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        short, long = embedded(["a cat", "cat " * 100])
    assert len(long) == embedded.context == 32
    assert long[-1] == short[-1] == embedded.end
    assert embedded.end not in long[:-1]
    assert "1 of 2 sentences are longer than the model's 32 tokens" in caplog.text


def test_a_row_that_just_fits_is_not_touched(embedded: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    (row,) = embedded(["cat " * 30])
    assert len(row) == 32
    assert not caplog.text


def test_rows_are_padded_to_the_longest() -> None:
    assert pad([[1, 2, 3], [4]]).tolist() == [[1, 2, 3], [4, 0, 0]]


def test_a_folder_without_a_tokenizer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds no tokenizer"):
        Tokenizer.from_folder(tmp_path, 77)
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(WeightsError, match="cannot be read"):
        Tokenizer.from_folder(tmp_path, 77)


def test_a_file_that_holds_no_merges_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot read"):
        Tokenizer.from_merges(tmp_path / MERGES_FILE)
    (tmp_path / MERGES_FILE).write_bytes(gzip.compress(b"header\na b\n"))
    with pytest.raises(WeightsError, match="48,894 pairs"):
        Tokenizer.from_merges(tmp_path / MERGES_FILE)
    (tmp_path / MERGES_FILE).write_bytes(b"not gzip")
    with pytest.raises(WeightsError, match="cannot read"):
        Tokenizer.from_merges(tmp_path / MERGES_FILE)


def test_a_tokenizer_without_an_end_token_is_refused(embedded: Tokenizer) -> None:
    from tokenizers.processors import TemplateProcessing

    bare = embedded.backend
    bare.backend_tokenizer.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    with pytest.raises(WeightsError, match="end token"):
        Tokenizer(bare, 32)
