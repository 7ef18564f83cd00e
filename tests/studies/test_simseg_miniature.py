"""The ablation's measures on cases with a known answer; the script itself runs for hours."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from lexiseg.data.mini.masked import IGNORE, MaskedClass, MaskedPhotograph, MaskedSet
from lexiseg.methods.simseg import SimSegEmbedding
from lexiseg.metrics import scores
from lexiseg.metrics.confusion import Confusion
from lexiseg.segmenter import Inference, TextClassifier
from script_files import load


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load("studies/simseg_miniature")


def test_as_many_context_words_go_as_object_words(script: ModuleType) -> None:
    names = frozenset({"dog", "traffic light"})
    found = list(script.variants("Two dogs run past a fence at night.", names))
    assert found[0] == "Two dogs run past a fence at night."
    assert found[1] == "Two run past a fence at night."
    assert found[2] == "Two dogs past a fence at night."
    assert list(script.variants("A dog.", names)) == []
    assert list(script.variants("A fence at night.", names)) == []


class OneHot(torch.nn.Module):
    """Sees red at the left as word 0, and everything else as word 1."""

    def embed_text(self, vocabulary, prompts, *, cache=None):
        return TextClassifier.of(vocabulary, torch.eye(2), 1.0)

    def embed_image(self, images):
        left = torch.zeros(1, 2, 4, 4)
        left[:, 0, :, :2] = 1
        left[:, 1, :, 2:] = 1
        return SimSegEmbedding(left, torch.zeros(1, 0, 4, 4), torch.zeros(1, 2))


def measured(script: ModuleType, truth: np.ndarray):
    photograph = MaskedPhotograph("a", (), np.zeros((8, 8, 3), np.uint8), truth.astype(np.uint8))
    classes = (MaskedClass(0, ("red",), True), MaskedClass(1, ("sky",), False))
    return script.Measured(MaskedSet(classes, (photograph,), {}), (photograph,), ())


def test_a_map_that_is_the_mask_has_nothing_outside_and_its_opposite_all(script: ModuleType) -> None:
    truth = np.ones((8, 8))
    truth[:, :4] = 0
    inference = Inference(size=(8, 8), prompts="single")
    right = script.outside(OneHot(), inference, measured(script, truth))
    wrong = script.outside(OneHot(), inference, measured(script, 1 - truth))
    assert (right["outside"], right["flat"], right["ratio"], right["own words"]) == (0, 0.5, 0, 100)
    assert (wrong["outside"], wrong["flat"], wrong["ratio"], wrong["own words"]) == (1, 0.5, 2, 0)


def test_pixels_that_nobody_labelled_count_nowhere(script: ModuleType) -> None:
    truth = np.zeros((8, 8))
    truth[:, 4], truth[:, 5:] = 1, IGNORE
    found = script.outside(OneHot(), Inference(size=(8, 8), prompts="single"), measured(script, truth))
    assert (found["outside"], found["flat"]) == (0, 0.5)  # one word has a fifth of the known pixels, one four fifths


def a_result(script: ModuleType, pooling: str, seed: int | None, labels: np.ndarray) -> dict:
    """Of two photographs, of which the first is all class 0 and the second all class 1."""
    confusion = Confusion.empty(2)
    for at in range(2):
        confusion.update(labels[at], np.full((2, 2), at, np.uint8), image=str(at))
    miou = 100 * float(scores.mean_iou(confusion.tallies))
    result = {"pooling": pooling, "seed": seed, "steps": 0 if seed is None else 3}
    result |= {rule: {"mIoU": miou, "accuracy": 0.0, "confusion": confusion.to_json()} for rule in script.RULES}
    result |= {"problem 1": {"ratio": 0.5, "own words": 60.0}}
    return result | {"problem 2": {"cosine": 0.9, "fall without objects": 0.1, "fall without context": 0.2}}


def report_of(script: ModuleType, folder: Path, results: list[dict], capsys: pytest.CaptureFixture[str]) -> list[str]:
    for at, result in enumerate(results):
        (folder / str(at)).mkdir()
        (folder / str(at) / "result.json").write_text(json.dumps(result))
    script.report(folder)
    return capsys.readouterr().out.splitlines()


def test_the_report_has_means_and_deviations_over_seeds_and_the_start_by_itself(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong, right = np.zeros((2, 2, 2), np.uint8), np.stack([np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8)])
    results = [
        a_result(script, "image-5-text-1", seed, labels) for seed, labels in ((None, wrong), (0, wrong), (1, right))
    ]
    lines = report_of(script, tmp_path, results, capsys)
    assert lines[2].startswith("| image-5-text-1, before | 1 | 25.0 | ")
    assert lines[3].startswith("| image-5-text-1 | 2 | 62.5 ± 53.0 | ")  # n - 1
    assert len(json.loads((tmp_path / "results.json").read_text())) == 3


def test_a_gain_is_that_of_equal_seeds(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong, right = np.zeros((2, 2, 2), np.uint8), np.stack([np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8)])
    results = [a_result(script, "class-token", seed, wrong) for seed in (0, 1, 2)]
    results += [a_result(script, "image-5-text-1", seed, right) for seed in (0, 1)]
    lines = report_of(script, tmp_path, results, capsys)
    (row,) = (line for line in lines if line.startswith("| image-5-text-1 | +"))
    assert row.split(" | ")[1].startswith("+75.0 [+75.0, +75.0] ")  # both seeds alike


def test_a_folder_holds_runs_of_one_budget(script: ModuleType, tmp_path: Path) -> None:
    def decide(*more: str) -> int:
        return script.decide_steps(script.parse(["--data", "data", "--out", str(tmp_path), *more]))

    assert decide("--steps", "7") == 7
    assert decide("--steps", "9") == 7
    with pytest.raises(SystemExit, match="another rate, size"):
        decide("--rate", "0.5", "--size", "64")
