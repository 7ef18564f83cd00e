"""Turns sentences into BERT's WordPiece ids with padding marked."""

from __future__ import annotations

import os
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import BertTokenizer

from lexiseg.errors import WeightsError, first_line

__all__ = ["LETTERS", "WordPieces"]

MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_SINGLE = string.ascii_lowercase + string.digits
LETTERS = (*MARKS, *string.punctuation, *_SINGLE, *(f"##{letter}" for letter in _SINGLE))


class WordPieces:
    """backend: a `BertTokenizer` of transformers."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str]) -> WordPieces:
        """Reads tokenizer.json or vocab.txt; raises `WeightsError`."""
        folder = Path(folder)
        if not (folder / "tokenizer.json").is_file() and not (folder / "vocab.txt").is_file():
            raise WeightsError(f"{folder} holds no tokenizer of BERT's; copy its tokenizer.json or vocab.txt there")
        try:
            backend = BertTokenizer.from_pretrained(os.fspath(folder), local_files_only=True)
        except Exception as error:  # the tokenizers library raises plain Exceptions
            raise WeightsError(
                f"the tokenizer in {folder} cannot be read ({first_line(error)}); copy it again"
            ) from error
        if backend.pad_token_id is None or backend.cls_token_id is None:
            raise WeightsError(f"the tokenizer in {folder} has no [PAD] or [CLS] and is not BERT's; give BERT's")
        return cls(backend)

    @classmethod
    def of_letters(cls) -> WordPieces:
        """Single letters as pieces, for random weights: a vocabulary needs no download that way."""
        return cls(BertTokenizer(vocab={piece: index for index, piece in enumerate(LETTERS)}))

    @property
    def fingerprint(self) -> str:
        """All that decides which ids a sentence gets, as text."""
        content: str = self.backend.backend_tokenizer.to_str()
        return content

    def __call__(self, sentences: Sequence[str], *, length: int, padded: bool = False) -> tuple[Tensor, Tensor]:
        """Ids and mask [N, T], marks included; longer sentences lose their end, but keep the closing mark.

        T is that of the longest sentence, or `length` where `padded`.
        """
        rows = self.backend(
            list(sentences),
            truncation=True,
            max_length=length,
            padding="max_length" if padded else "longest",
            return_tensors="pt",
        )
        return rows["input_ids"], rows["attention_mask"].bool()

    def save(self, folder: str | os.PathLike[str]) -> None:
        self.backend.save_pretrained(os.fspath(folder))
