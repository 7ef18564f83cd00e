"""The ablation's measures on cases with a known answer; the script itself runs for hours."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from lexiseg.data.masked import IGNORE, MaskedClass, MaskedPhotograph, MaskedSet
from lexiseg.methods.simseg import SimSegEmbedding
from lexiseg.segmenter import Inference, TextClassifier

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simseg_miniature", ROOT / "examples" / "simseg_miniature.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


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

    def embed_text(self, vocabulary, templates):
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
    inference = Inference(size=(8, 8), templates="single")
    right = script.outside(OneHot(), inference, measured(script, truth))
    wrong = script.outside(OneHot(), inference, measured(script, 1 - truth))
    assert (right["outside"], right["flat"], right["ratio"]) == (0, 0.5, 0)
    assert (wrong["outside"], wrong["flat"], wrong["ratio"]) == (1, 0.5, 2)


def test_pixels_that_nobody_labelled_count_nowhere(script: ModuleType) -> None:
    truth = np.zeros((8, 8))
    truth[:, 4], truth[:, 5:] = 1, IGNORE
    found = script.outside(OneHot(), Inference(size=(8, 8), templates="single"), measured(script, truth))
    assert (found["outside"], found["flat"]) == (0, 0.5)  # one word has a fifth of the known pixels, one four fifths


def test_the_report_is_a_table_of_means_over_seeds(script: ModuleType, tmp_path: Path, capsys) -> None:
    for seed, value in enumerate((10.0, 20.0)):
        result = {"pooling": "image-5-text-1", "seed": seed}
        result |= {rule: {"mIoU": value, "accuracy": 0.0} for rule in script.RULES}
        result |= {"problem 1": {"ratio": 0.5}}
        result |= {"problem 2": {"fall without objects": 0.1, "fall without context": 0.2}}
        (tmp_path / f"run-{seed}").mkdir()
        (tmp_path / f"run-{seed}" / "result.json").write_text(json.dumps(result))
    script.report(tmp_path)
    assert "15.0 ± 5.0" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "results.json").read_text())) == 2
