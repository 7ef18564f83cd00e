"""The model card of a tiny CLIP with random weights on photographs made up here: numbers, pictures, going on."""

from __future__ import annotations

import importlib
import io
import json
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from lexiseg.data.mini.concepts import gather_concepts
from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_shape import TINY_VIT
from lexiseg.encoders.prompts import Prompts

TOOLS = Path(__file__).parents[2] / "tools"
CLASSES = [
    {"id": 16, "name": "cat", "synonyms": ["kitty"], "thing": True},
    {"id": 124, "name": "grass", "synonyms": ["lawn"], "thing": False},
    {"id": 18, "name": "dog", "synonyms": [], "thing": True},
]
NAMES = [["cat", "kitty"], ["grass", "lawn"], ["dog"], ["fork"], ["knife"], ["spoon"], ["airplane"], ["car"]]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    sys.path.insert(0, str(TOOLS))
    try:
        return importlib.import_module("model_card")
    finally:
        sys.path.remove(str(TOOLS))


@pytest.fixture(scope="module")
def words(script: ModuleType) -> ModuleType:
    return sys.modules["card_words"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for folder, shards in {
        "masks-val": {"msrc-odd": 6},
        "masks-train": {"msrc-even": 16, "coco-train2017-panoptic": 10},
    }.items():
        for shard, number in shards.items():
            write_tar(root / folder / f"{shard}.tar", [member for at in range(number) for member in masked(at)])
        (root / folder / "classes.json").write_text(json.dumps({"ignore": 255, "classes": CLASSES}))
    write_tar(root / "photos-val" / "tiny-imagenet-val-000.tar", [*sheet(0, ["cat", "kitty"]), *sheet(1, ["dog"])])
    (root / "words").mkdir()
    (root / "words" / "wordnet-noun-synsets.txt").write_text("cat, true cat\nfork\nairplane, aeroplane, plane\nplane\n")
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    Clip.random(TINY_VIT).save(folder)
    (folder / "concepts.json").write_text(json.dumps({"names": NAMES}))
    save_file({"concepts": torch.zeros(1)}, folder / "words.safetensors", {"words": json.dumps(["airliner"])})
    return folder


@pytest.fixture(scope="module")
def card(script: ModuleType, data: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("card")
    script.main(arguments(data, weights, out))
    return out


def arguments(data: Path, weights: Path, out: Path) -> list[str]:
    return ["--data", str(data), "--out", str(out), "--weights", str(weights), "--set", "prompts=single"]


def masked(at: int) -> list[tuple[str, bytes]]:
    labels = np.full((48, 64), 255, np.uint8)
    labels[10:] = 124
    labels[20:40, 20:50] = 18 if at % 2 else 16
    image = np.stack([labels, labels, np.full_like(labels, at)], axis=2)
    return [
        (f"{at:06d}.webp", encoded(image, "WEBP", lossless=True)),
        (f"{at:06d}.png", encoded(labels, "PNG")),
        (f"{at:06d}.json", json.dumps({"source": "made up", "id": at}).encode()),
    ]


def sheet(at: int, names: list[str]) -> list[tuple[str, bytes]]:
    content = {"names": names, "source": "made up", "tiles": [[0, 0, 64, 64], [64, 0, 64, 64]]}
    image = np.full((64, 128, 3), 100 * at, np.uint8)
    return [(f"{at:06d}.webp", encoded(image, "WEBP", lossless=True)), (f"{at:06d}.json", json.dumps(content).encode())]


def encoded(array: np.ndarray, kind: str, **options: object) -> bytes:
    data = io.BytesIO()
    Image.fromarray(array).save(data, kind, **options)
    return data.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_the_card_holds_every_part_beside_what_labels_without_knowledge_score(script: ModuleType, card: Path) -> None:
    content = json.loads((card / "card.json").read_text())
    assert list(content["parts"]) == list(script.PARTS)
    scores = content["parts"]["masks-val"]
    assert scores["photographs"] == 6
    assert scores["words"] == 3
    # two of three classes in each, and grass is 28 of 38 rows less the 20 x 30 pixels of the animal
    assert scores["all words"]["guesses"]["random"]["pixel_accuracy"] == pytest.approx(100 / 3, abs=0.01)
    largest = (38 * 64 - 600) / (38 * 64)
    assert scores["own words"]["guesses"]["largest class of each image"]["pixel_accuracy"] == pytest.approx(
        100 * largest, abs=0.01
    )


def test_held_out_folders_have_the_held_out_photographs_alone(card: Path) -> None:
    with tarfile.open(card / "held-out-MSRC" / "msrc-even.tar") as tar:
        assert {name.partition(".")[0] for name in tar.getnames()} == {"000012", "000013", "000014"}
    with tarfile.open(card / "held-out-COCO" / "coco-train2017-panoptic.tar") as tar:
        assert {name.partition(".")[0] for name in tar.getnames()} == {"000004", "000009"}


def test_unseen_words_take_the_places_of_seen_ones(card: Path) -> None:
    content = json.loads((card / "card.json").read_text())["parts"]["unseen-words"]
    assert content["words"] == {"cat": "kitten", "grass": "turf", "dog": "hound"}
    assert list(content["unseen"]["by class"]) == ["kitten", "hound", "turf"]
    assert list(content["seen"]["by class"]) == ["cat", "dog", "grass"]


def test_the_text_has_a_row_for_each_set_and_the_pictures_are_small(card: Path) -> None:
    text = (card / "card.md").read_text()
    for title in ("masks-val, 6", "held-out MSRC, 3", "held-out COCO, 2", "unseen words, 6", "class token, 64 pixels"):
        assert f"| {title}" in text
    assert "lexiseg evaluate maskclip/mini --on folder" in text
    for name in ("twelve.jpg", "demos.jpg"):
        assert (card / name).stat().st_size <= 300_000
        assert Image.open(card / name).format == "JPEG"


def test_what_is_finished_is_not_done_again(script: ModuleType, data: Path, weights: Path, card: Path) -> None:
    (card / "parts" / "demos.json").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in (card / "parts").iterdir()}
    text = json.loads((card / "card.json").read_text())
    script.main(arguments(data, weights, card))
    after = {path.name: path.stat().st_mtime_ns for path in (card / "parts").iterdir()}
    assert after.items() - before.items() == {("demos.json", after["demos.json"])}
    again = json.loads((card / "card.json").read_text())
    assert again["parts"]["masks-val"] == text["parts"]["masks-val"]


def test_a_card_is_not_mixed_of_two_models(script: ModuleType, data: Path, weights: Path, card: Path) -> None:
    with pytest.raises(SystemExit, match="other weights or settings"):
        script.main([*arguments(data, weights, card), "--set", "long_side=128"])


def test_quick_leaves_the_reported_photographs_alone(script: ModuleType, data: Path, weights: Path) -> None:
    card, parts = script.parse([*arguments(data, weights, Path("out")), "--quick"])
    assert "masks-val" not in parts
    assert "unseen-words" in parts
    assert card.data / "masks-val" == script.parse(arguments(data, weights, Path("out")))[0].scenes


def test_synonyms_are_nouns_of_one_meaning_that_share_it_with_a_concept(words: ModuleType, data: Path) -> None:
    found = words.synonyms(data / "words" / "wordnet-noun-synsets.txt", gather_concepts(NAMES))
    # "plane" has two meanings
    assert found == [("true cat", "cat"), ("aeroplane", "airplane")]


class Spelling:
    """A text tower that puts words where a table says."""

    def __init__(self, table: dict[str, int]) -> None:
        self.table = table

    def embed_words(self, words, prompts):
        return torch.eye(16)[[self.table.get(word, 15) for word in words]]


def test_a_word_is_right_next_to_its_concept_or_a_related_one(words: ModuleType, data: Path, weights: Path) -> None:
    known = words.read_known(str(weights))
    first = [one[0] for one in known.concepts.names]
    table = {name: at for at, name in enumerate(first)}
    nouns = data / "words" / "wordnet-noun-synsets.txt"
    # "taxi" is nowhere, "kitten" is with dogs, "airliner" and all that has to do with cutlery are right
    clip = Spelling({**table, "airliner": table["airplane"], "kitten": table["dog"], "cutlery": table["knife"]})
    found = words.measure(clip, known, nouns, prompts=Prompts.open("single"))
    misses = dict(miss.split(": ") for miss in found["by hand"]["misses"])
    assert misses["kitten"] == "dog"
    assert "airliner" not in misses
    assert found["by hand"]["taught, words"] == 1
    assert found["by hand"]["taught, first"] == 1
    assert found["hypernyms"]["nearest"]["cutlery"][0] == "knife"
