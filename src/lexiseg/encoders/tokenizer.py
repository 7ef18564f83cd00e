"""Turns sentences into the token ids that CLIP reads.

docs/papers/clip.md §1.7 has the facts.
"""

from __future__ import annotations

import gzip
import html
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ftfy
import torch
from torch import Tensor
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

from lexiseg.encoders.weights import home_of
from lexiseg.errors import WeightsError, first_line

__all__ = ["MERGES_FILE", "Tokenizer", "clean"]

MERGES_FILE = "bpe_simple_vocab_16e6.txt.gz"  # the name of OpenAI's file
START, END = "<|startoftext|>", "<|endoftext|>"
MERGES = (
    49_408 - 2 * 256 - 2
)  # what OpenAI's vocabulary leaves beside the bytes, with and without </w>, and the two marks

logger = logging.getLogger(__name__)


class Tokenizer:
    """A tokenizer of transformers that closes every sentence with its end token.

    context: the most tokens in a row. Raises `WeightsError` where the tokenizer adds no end token, since the text
    tower's answer is read there.
    """

    def __init__(self, backend: Any, context: int) -> None:
        self.backend = backend
        self.context = context
        row = self._rows(["a"])[0]
        if not row or row[-1] != backend.eos_token_id:
            raise WeightsError(
                f"the tokenizer reads 'a' as {row}, which does not end with its end token {backend.eos_token_id}; "
                "give the tokenizer that the weights were trained with"
            )

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str], context: int) -> Tokenizer:
        """Reads tokenizer.json, or vocab.json and merges.txt. Raises `WeightsError`."""
        folder = home_of("tokenizer.json", Path(folder))
        # the two classes rather than AutoTokenizer, which may want to run code that lies in the folder
        if (folder / "tokenizer.json").is_file():
            kind = PreTrainedTokenizerFast
        elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            kind = CLIPTokenizer
        else:
            raise WeightsError(
                f"{folder} holds no tokenizer; copy the model's tokenizer.json, or give tokenizer=FOLDER"
            )
        try:
            backend = kind.from_pretrained(os.fspath(folder), local_files_only=True)
        except Exception as error:  # the tokenizers library raises plain Exceptions
            raise WeightsError(
                f"the tokenizer in {folder} cannot be read ({first_line(error)}); copy it again"
            ) from error
        return cls(backend, context)

    @classmethod
    def from_merges(cls, path: str | os.PathLike[str], context: int = 77) -> Tokenizer:
        """Builds OpenAI's tokenizer from its merges file, gzipped or not. Raises `WeightsError`."""
        path = Path(path)
        try:
            data = path.read_bytes()
            lines = (gzip.decompress(data) if path.suffix == ".gz" else data).decode().split("\n")
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise WeightsError(f"cannot read the merges in {path}: {error}; give OpenAI's {MERGES_FILE}") from error
        merges = [tuple(line.split()) for line in lines[1 : MERGES + 1]]  # the first line is a header
        if len(merges) < MERGES or any(len(merge) != 2 for merge in merges):
            raise WeightsError(f"{path} does not hold {MERGES:,} pairs, one a line; give OpenAI's {MERGES_FILE}")
        symbols = _byte_symbols()
        symbols += [symbol + "</w>" for symbol in symbols]
        symbols += ["".join(merge) for merge in merges] + [START, END]
        vocabulary = {symbol: index for index, symbol in enumerate(symbols)}
        return cls(CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=context), context)

    @property
    def end(self) -> int:
        """The id of the end token."""
        return int(self.backend.eos_token_id)

    @property
    def fingerprint(self) -> str:
        """All that decides which ids a sentence gets, as text."""
        content: str = self.backend.backend_tokenizer.to_str()
        return f"{self.context} {content}"

    def __call__(self, sentences: Sequence[str], *, reserved: int = 0) -> list[list[int]]:
        """A row of ids for each sentence, start and end token included.

        A row longer than the context keeps its first `context - 1` ids and closes with the end token; a warning is
        logged, since what was cut off no longer counts.
        reserved: tokens of the context that others take.
        """
        room = self.context - reserved
        rows = self._rows([clean(sentence) for sentence in sentences])
        long = [index for index, row in enumerate(rows) if len(row) > room]
        if long:
            logger.warning(
                "%d of %d sentences are longer than the model's %d tokens and were cut, the first of them %r",
                *(len(long), len(rows), room, sentences[long[0]]),
            )
        for index in long:
            rows[index] = [*rows[index][: room - 1], self.end]
        return rows

    def save(self, folder: str | os.PathLike[str]) -> None:
        self.backend.save_pretrained(os.fspath(folder))

    def _rows(self, sentences: list[str]) -> list[list[int]]:
        # verbose: transformers would warn about long rows, which __call__ cuts
        rows: list[list[int]] = self.backend(sentences, verbose=False)["input_ids"]
        return rows


def clean(sentence: str) -> str:
    """Repairs broken text, resolves HTML entities twice, trims, joins blanks and lower-cases, as OpenAI does."""
    if not (sentence.isascii() and sentence.isprintable()) or "&" in sentence:
        sentence = html.unescape(html.unescape(ftfy.fix_text(sentence)))  # plain text needs none of it
    return " ".join(sentence.split()).lower()


def pad(rows: Sequence[Sequence[int]]) -> Tensor:
    """Rows of ids as one tensor [N, longest], zeros at the right; attention is causal, so no row sees its padding."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])


def _byte_symbols() -> list[str]:
    """A printable character for each byte, in GPT-2's order: those printable in Latin-1 as they are, then the rest."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printable] + [chr(256 + rest) for rest in range(256 - len(printable))]
