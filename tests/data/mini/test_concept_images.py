from __future__ import annotations

import pickle
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from photographs import write_root

from lexiseg.data.mini import meanings
from lexiseg.data.mini.concept_images import SENTENCES, CanvasConcepts, PhotographConcepts, SceneConcepts, WordConcepts
from lexiseg.data.mini.meanings import prepare, read_words
from lexiseg.data.mini.pairs import Mini, MiniPairs
from lexiseg.data.opening import Workers
from lexiseg.data.scenes import Scenes, class_names
from lexiseg.errors import DataError

SETTINGS = {"batch_size": 8, "seed": 3, "max_bad_fraction": 0.0}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A data root, and the words prepared for it."""
    folder = tmp_path_factory.mktemp("data")
    root, words, nouns = write_root(folder / "root"), folder / "words.safetensors", folder / "nouns.txt"
    nouns.write_text("entity\nkitten, pussycat\n" + "\n".join(f"thing {at}" for at in range(30)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            meanings, "sentence_vectors", lambda texts: np.random.default_rng(0).normal(size=(len(texts), 24))
        )
        prepare(MiniPairs(root, Mini(size=48)).concepts, nouns, words, dimension=16)
    return {"root": str(root), "words": str(words)}


def first(description, count=1):
    return [batch for batch, _ in islice(description.open(**SETTINGS).stream(), count)]


def canvases(place, **changes):
    settings = {"size": 48, "canvases": 30, "masked": 0.5, **changes}
    return CanvasConcepts(**place, pairs=Mini(**settings), sentences=3, workers=Workers(0))


def photographs(place):
    return PhotographConcepts(**place, size=32, workers=Workers(0))


def test_batches_have_the_shapes_that_the_objective_reads(place):
    (batch,) = first(canvases(place))
    assert batch["images"].shape == (8, 3, 48, 48)
    assert batch["images"].dtype == torch.uint8
    assert batch["light"].shape == (8, 4)
    assert (batch["light"][:, 0] - 1).abs().max() <= 0.3  # the contrast
    assert batch["light"][:, 1:].abs().max() <= 0.3  # what each channel gains
    assert batch["labels"].shape == batch["cells"].shape == (8, 6, 6)
    assert batch["exact"].shape == (8, 4)
    assert batch["words"].shape == (8, 3)
    assert batch["meanings"].shape == (8, 3, 16)
    assert [len(one) for one in batch["sentences"]] == [3] * 8
    assert len(batch["keys"]) == 8


def test_photographs_show_the_concept_of_their_sheet_or_a_coarser_one(place):
    names = read_words(Path(place["words"])).concepts.names
    for batch in first(photographs(place), 6):
        for key, image, labels in zip(batch["keys"], batch["images"], batch["labels"], strict=True):
            (label,) = labels.unique().tolist()
            cat = "/000000/" in key
            assert names[label][0] in (("cat", "animal") if cat else ("apple", "fruit", "food"))
            colour = image.float().mean(dim=(1, 2))  # the cats' sheet is red, the other one green
            assert (colour[0] > colour[1]) == cat
        assert not batch["exact"].any()


def test_coarse_names_are_used_now_and_then(place):
    names = read_words(Path(place["words"])).concepts.names
    labels = torch.cat([batch["labels"][:, 0, 0] for batch in first(photographs(place), 40)])
    coarse = np.mean([names[label][0] in ("animal", "fruit", "food") for label in labels.tolist()])
    assert 0.1 < coarse < 0.3


def test_labels_of_canvases_are_those_of_the_miniature_set(place):
    description = canvases(place, cells=(1.0, 0.0, 0.0, 0.0), masked=1.0)
    pairs = MiniPairs(Path(place["root"]), description.pairs)
    coarser = read_words(Path(place["words"])).concepts.coarser
    (batch,) = first(description)
    for key, labels, exact in zip(batch["keys"], batch["labels"], batch["exact"], strict=True):
        truth = pairs.canvas(int(key.removeprefix("canvas-"))).labels
        allowed = set(np.unique(truth).tolist())
        assert set(labels.unique().tolist()) <= allowed | {up for at in allowed if at >= 0 for up in coarser[at]}
        assert exact.tolist() == [True, False, False, False]


def test_sentences_name_concepts_and_other_nouns(place):
    words = read_words(Path(place["words"]))
    concepts = {name.lower(): at for at, one in reversed(list(enumerate(words.concepts.names))) for name in one}
    concepts |= {one[0]: at for at, one in enumerate(words.concepts.names)}  # "fruit" is fruit, not the apple's sheet
    seen = set()
    for batch in first(photographs(place), 12):
        for (sentence,), (word,), (meaning,) in zip(
            batch["sentences"], batch["words"].tolist(), batch["meanings"], strict=True
        ):
            forms = [form.split("{}") for form in SENTENCES]
            named = {
                sentence[len(start) : len(sentence) - len(end)]
                for start, end in forms
                if sentence.startswith(start) and sentence.endswith(end)
            }
            if word >= 0:
                assert named & {name for name, at in concepts.items() if at == word}
                assert not meaning.any()
            else:
                (noun,) = named & set(words.words)
                np.testing.assert_array_equal(meaning.numpy(), words.vectors[words.words.index(noun)].astype("f4"))
            seen.add(word >= 0)
    assert seen == {True, False}


@pytest.mark.parametrize("make", [canvases, photographs])
def test_a_stream_goes_on_where_it_was_left(place, make):
    loader = make(place).open(**SETTINGS)
    whole = list(islice(loader.stream(), 4))
    (_, position), wanted = whole[1], whole[2][0]
    again, _ = next(loader.stream(position))
    assert again["keys"] == wanted["keys"]
    assert again["sentences"] == wanted["sentences"]
    assert torch.equal(again["images"], wanted["images"])
    assert torch.equal(again["labels"], wanted["labels"])


def test_sources_travel_to_worker_processes(place):
    source = canvases(place).open(**SETTINGS).source
    again = pickle.loads(pickle.dumps(source))
    random = np.random.default_rng
    assert np.array_equal(again.load(3, random(1))["image"], source.load(3, random(1))["image"])


def test_words_of_other_photographs_are_refused(place, tmp_path, monkeypatch):
    monkeypatch.setattr(
        meanings, "sentence_vectors", lambda texts: np.random.default_rng(0).normal(size=(len(texts), 8))
    )
    (tmp_path / "nouns.txt").write_text("entity")
    prepare([("zebra",)], tmp_path / "nouns.txt", tmp_path / "words.safetensors", dimension=1)
    with pytest.raises(DataError, match="other photographs"):
        canvases({**place, "words": str(tmp_path / "words.safetensors")}).open(**SETTINGS)


def test_words_come_without_pictures_too(place):
    (batch,) = first(WordConcepts(place["words"], sentences=5))
    assert set(batch) == {"keys", "sentences", "words", "meanings"}
    assert batch["words"].shape == (8, 5)
    assert batch["meanings"].shape == (8, 5, 16)


def test_scenes_have_their_classes_as_concepts():
    (batch,) = first(SceneConcepts(Scenes(count=16, size=32)))
    assert batch["exact"][:, 0].all()
    assert (batch["labels"] >= 0).all()
    named = zip(batch["sentences"], batch["words"].tolist(), strict=True)
    assert all(class_names()[word] in sentence for (sentence,), (word,) in named)
