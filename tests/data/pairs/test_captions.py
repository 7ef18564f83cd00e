from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertTokenizer

from lexiseg.data.pairs.captions import WordPieceNoise, clean, nouns_and_verbs, rejoin, tag, word_prompts, words_alone

# written and tagged by hand; a word after "/" is a verb
TAGGED = {
    "A large brown dog sits on the wet sand near two children.": "dog sand children / sits",
    "Two women are riding their bicycles down a narrow street.": "women bicycles street / riding",
    "a red car parked beside an old building": "car building / parked",
    "The family eats dinner at a round wooden table.": "family dinner table / eats",
    "A man in a blue shirt and tie talks on his phone.": "man shirt tie phone / talks",
    "Some sheep grazing on a green hill under a cloudy sky": "sheep hill sky / grazing",
    "A plate with a sandwich, some vegetables and a glass of milk.": "plate sandwich vegetables glass milk /",
    "There is a black cat sleeping on top of a laptop.": "cat top laptop / sleeping",
    "Several boats are tied to the pier at sunset": "boats pier sunset / tied",
    "He throws a frisbee to his friend in the park.": "frisbee friend park / throws",
    "A train travels along the tracks through a small village": "train tracks village / travels",
    "An empty kitchen with white cabinets and a stove.": "kitchen cabinets stove /",
    "three zebras drinking water from a river": "zebras water river / drinking",
    "A young boy is going to kick a soccer ball.": "boy soccer ball / going kick",
    "People wait at the bus stop while it rains quietly.": "people bus stop / wait rains",
    "The clock on this very tall tower shows noon.": "clock tower noon / shows",
    "Snow covered mountains rise behind the frozen lake.": "snow mountains lake / covered rise",
    "a butterfly on a yellow flower, seen from above": "butterfly flower / seen",
}


def test_nouns_and_verbs_are_found():
    wanted = {caption: set(truth.replace("/", " ").split()) for caption, truth in TAGGED.items()}
    found = {caption: set(nouns_and_verbs(caption)) for caption in TAGGED}
    right = sum(len(wanted[caption] & found[caption]) for caption in TAGGED)
    assert right / sum(map(len, found.values())) > 0.97  # precision
    assert right / sum(map(len, wanted.values())) > 0.97  # recall


def test_nouns_and_verbs_are_told_apart_mostly():
    right = total = 0
    for caption, truth in TAGGED.items():
        nouns, verbs = (set(part.split()) for part in truth.split("/"))
        kinds = dict(tag(caption))
        right += sum(kinds[word] == "noun" for word in nouns) + sum(kinds[word] == "verb" for word in verbs)
        total += len(nouns) + len(verbs)
    assert right / total > 0.9


def test_words_come_once_in_order_and_lower_case():
    assert nouns_and_verbs("A Dog, a cat and a DOG") == ["dog", "cat"]


@given(st.text(max_size=60))
def test_any_text_can_be_tagged(text):
    words = [word for word, _ in tag(text)]
    assert set(nouns_and_verbs(text)) <= set(words)


def test_cleaning_resolves_entities_and_white_space():
    assert clean(" a  dog\t&amp;\n a &lt;b&gt;cat ") == "a dog & a <b>cat"
    assert clean(" \n\t ") == ""


def test_prompts_hold_different_words_and_the_caption_fills_up():
    caption, templates = "A dog and a cat on a sofa.", ("a photo of a {}.", "a drawing of a {}.")
    drawn = [word_prompts(caption, np.random.default_rng(seed), templates=templates) for seed in range(200)]
    for prompts in drawn:
        words = [prompt.rpartition(" ")[2].rstrip(".") for prompt in prompts]
        assert sorted(words) == ["cat", "dog", "sofa"]
    assert {prompt.split()[1] for prompts in drawn for prompt in prompts} == {"photo", "drawing"}
    assert len({tuple(prompts) for prompts in drawn}) > 20
    few = word_prompts("A dog.", np.random.default_rng(0), templates=templates[:1])
    assert few == ["a photo of a dog.", "A dog.", "A dog."]
    assert word_prompts("Of the.", np.random.default_rng(0), templates=templates, count=2) == ["Of the."] * 2


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["a", "dog"], "a dog"),
        (["un", "##believ", "##able"], "unbelievable"),
        (["a", "##b", "##c", "##d", "##e", "x", "##y"], "abc xy"),  # the third continuation and all after it are lost
        (["##s", "dog"], "dog"),  # an orphan vanishes
        (["[MASK]", "##s"], "[MASK]s"),
        ([], ""),
    ],
)
def test_tokens_are_rejoined_as_the_released_code_does(tokens, text):
    assert rejoin(tokens) == text


def test_all_continuations_can_be_glued():
    assert rejoin(["a", "##b", "##c", "##d"], continuations=None) == "abcd"


class Letters:
    """A tokenizer whose tokens are the words of the text."""

    mask_token, vocab_size = "[MASK]", 50

    def tokenize(self, text):
        return text.split()

    def convert_ids_to_tokens(self, ids):
        return f"random{ids}"


def test_noise_keeps_masks_replaces_and_deletes_with_the_published_probabilities():
    noise, random = WordPieceNoise(Letters()), np.random.default_rng(0)
    count = 40_000
    words = noise(" ".join(["word"] * count), random).split()
    found = Counter("random" if word.startswith("random") else word for word in words)
    expected = {"word": 0.80, "[MASK]": 0.10, "random": 0.02}
    for kind, probability in expected.items():
        spread = 4 * (probability * (1 - probability) / count) ** 0.5
        assert found[kind] / count == pytest.approx(probability, abs=spread)
    assert 1 - len(words) / count == pytest.approx(0.08, abs=0.006)
    assert len({word for word in words if word.startswith("random")}) == 50


def test_noise_works_on_a_tokenizer_of_transformers(tmp_path):
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "skate", "##board", "##ing", "##s"])
    )
    tokenizer = BertTokenizer(str(vocabulary))
    quiet = WordPieceNoise(tokenizer, keep=1.0, mask=0.0, replace=0.0)
    assert quiet("A skateboarding", np.random.default_rng(0)) == "a skateboarding"
    masked = WordPieceNoise(tokenizer, keep=0.0, mask=1.0, replace=0.0)("a skate", np.random.default_rng(0))
    assert masked == "[MASK] [MASK]"
    assert tokenizer.tokenize(masked) == ["[MASK]", "[MASK]"]
    replaced = WordPieceNoise(tokenizer, keep=0.0, mask=0.0, replace=1.0)("a a a a a a a a", np.random.default_rng(0))
    assert replaced != "a a a a a a a a"


def test_words_take_the_captions_place_in_their_order() -> None:
    random = np.random.default_rng(0)
    for caption, tagged in TAGGED.items():
        wanted = {word for part in tagged.split("/") for word in part.split()}
        found = (
            words_alone(caption, random, form="a photo of {}.").removeprefix("a photo of ").removesuffix(".").split()
        )
        assert set(found) == wanted
        assert found == sorted(found, key=caption.lower().index)
    assert words_alone("of the and", random, form="a photo of {}.") == "of the and"
    assert words_alone("{} of a dog", random, form="{}!") == "dog!"
