"""Prepares captions before a model reads them.

It cleans them, finds their nouns and verbs, puts words into prompts, and adds SimSeg's noise.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from lexiseg.data.pairs import lexicon

__all__ = ["Tokenizer", "WordPieceNoise", "clean", "nouns_and_verbs", "rejoin", "tag", "word_prompts", "words_alone"]

Kind = Literal["noun", "verb", "other"]

_TOKEN = re.compile(r"[a-z]+(?:[-'][a-z]+)*|[0-9]+|[^\sa-z0-9]")
_ENDINGS = ("ous", "less", "ly")  # of adjectives and adverbs


def clean(text: str) -> str:
    """The caption with HTML entities resolved and runs of white space as one blank; "" where nothing is left."""
    return " ".join(html.unescape(html.unescape(text)).split())


def nouns_and_verbs(caption: str) -> list[str]:
    """The words of a caption that name things or doings, lower case, in order, repeated ones once."""
    return list(dict.fromkeys(word for word, kind in tag(caption) if kind != "other"))


def tag(caption: str) -> list[tuple[str, Kind]]:
    """Each word and sign of a caption, lower case, with its kind.

    Word lists and spelling rules stand in for the tagger that GroupViT and S-Seg download. Auxiliaries (is, has, can)
    are "other". It is made for captions, not for prose: in 40 COCO captions tagged by hand after it was written, it
    found all 179 nouns and verbs and took one other word for one (nouns and verbs told apart less surely).
    """
    tagged: list[tuple[str, Kind]] = []
    tokens = _TOKEN.findall(clean(caption).lower())
    for at, word in enumerate(tokens):
        following = tokens[at + 1] if at + 1 < len(tokens) else "."
        tagged.append((word, _kind(word, tagged, following)))
    return tagged


def word_prompts(caption: str, random: np.random.Generator, *, templates: Sequence[str], count: int = 3) -> list[str]:
    """`count` sentences for the multi-label loss of GroupViT (docs/papers/simseg.md §5.4).

    At most `count` of the caption's nouns and verbs, without replacement, each in a random one of `templates`
    (sentences with {} where the word goes); the caption itself fills up what is missing.
    """
    words = nouns_and_verbs(caption)
    drawn = [words[at] for at in random.permutation(len(words))[:count]]
    prompts = [templates[int(random.integers(len(templates)))].format(word) for word in drawn]
    return prompts + [caption] * (count - len(prompts))


def words_alone(caption: str, random: np.random.Generator, *, form: str) -> str:
    """`form`, a sentence with {}, with the nouns and verbs of the caption in it (S-Seg; docs/papers/s_seg.md §4.4).

    The caption itself where it has none.
    """
    words = nouns_and_verbs(caption)
    return form.replace("{}", " ".join(words)) if words else caption


class Tokenizer(Protocol):
    """The part of a WordPiece tokenizer of `transformers` that `WordPieceNoise` needs."""

    mask_token: Any
    vocab_size: int

    def tokenize(self, text: str) -> list[str]: ...

    def convert_ids_to_tokens(self, ids: int) -> Any: ...


@dataclass(frozen=True)
class WordPieceNoise:
    """SimSeg's caption augmentation (simseg.md §2.4): each token is kept, masked, replaced or, else, deleted.

    A comment of the authors says that the last 8 % are kept; their code deletes them, and so does this.

    continuations: how many "##" pieces can be glued to a word's first piece when the tokens become text again. The
        released code glues two, so longer words lose their tail; None glues all.
    """

    tokenizer: Tokenizer
    keep: float = 0.80
    mask: float = 0.10
    replace: float = 0.02
    continuations: int | None = 2

    def __call__(self, caption: str, random: np.random.Generator) -> str:
        """The caption with noise, as text to be tokenised again."""
        tokens: list[str] = []
        for token in self.tokenizer.tokenize(caption):
            chance = random.random()
            if chance < self.keep:
                tokens.append(token)
            elif chance < self.keep + self.mask:
                tokens.append(self.tokenizer.mask_token)
            elif chance < self.keep + self.mask + self.replace:
                tokens.append(self.tokenizer.convert_ids_to_tokens(int(random.integers(self.tokenizer.vocab_size))))
        return rejoin(tokens, continuations=self.continuations)


def rejoin(tokens: Sequence[str], *, continuations: int | None = 2) -> str:
    """WordPiece tokens as text; a "##" piece with nothing to stand on, or beyond `continuations`, is lost."""
    words: list[str] = []
    glued = 0  # pieces on the last word
    for token in tokens:
        if not token.startswith("##"):
            words.append(token)
            glued = 0
        elif words and (continuations is None or glued < continuations):
            words[-1] += token[2:]
            glued += 1
    return " ".join(words)


def _kind(word: str, before: Sequence[tuple[str, Kind]], following: str) -> Kind:
    if not word[0].isalpha() or word in lexicon.FUNCTION_WORDS:
        return "other"
    if _is_verb(word, before, following):
        return "verb"
    if word in lexicon.ADJECTIVES or (word.endswith(_ENDINGS) and word not in lexicon.NOT_ADJECTIVES):
        return "other"
    return "noun"


def _is_verb(word: str, before: Sequence[tuple[str, Kind]], following: str) -> bool:
    last, last_kind = before[-1] if before else (".", "other")
    if last in lexicon.AUXILIARIES and word.endswith("ing"):
        return True
    if word in lexicon.NOT_VERBS or word in lexicon.ADJECTIVES:
        return False
    if _is_participle(word):
        # "the setting" is a thing, "a parked car" and "a man sitting" are doings
        return not (last in lexicon.DETERMINERS and _ends_phrase(following))
    if _stem(word) is None:
        return False
    if last in lexicon.AUXILIARIES | lexicon.SUBJECTS | {"to"}:
        return not (last == "to" and len(before) > 1 and before[-2][0] in ("next", "close"))
    plural = last in lexicon.PLURALS or (last.endswith("s") and last not in lexicon.NOT_VERBS)
    return last_kind == "noun" and plural != word.endswith("s") and not _starts_thing(following)


def _is_participle(word: str) -> bool:
    if word in lexicon.IRREGULAR_VERB_FORMS:
        return True
    return len(word) > 3 and word.endswith(("ing", "ed"))


def _stem(word: str) -> str | None:
    """The verb that a base form or third person belongs to; None where the list has none."""
    for candidate in (word, word.removesuffix("s"), word.removesuffix("es"), word.removesuffix("ies") + "y"):
        if candidate in lexicon.VERBS:
            return candidate
    return None


def _ends_phrase(following: str) -> bool:
    return not following[0].isalpha() or following in lexicon.FUNCTION_WORDS


def _starts_thing(following: str) -> bool:
    """Whether the next word goes on with a compound: "train tracks" is not what a train does."""
    return following[0].isalpha() and following not in lexicon.FUNCTION_WORDS | lexicon.ADJECTIVES
