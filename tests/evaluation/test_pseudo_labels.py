"""A teacher's label maps: what is written, how an interruption goes on, and a run that trains, labels and trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lexiseg.benchmarks import _benchmark
from lexiseg.data.labelled.dense import DenseAugmentation, Relabelling
from lexiseg.data.labelled.descriptions import PhotographData
from lexiseg.data.labelled.source import DenseSource
from lexiseg.data.opening import Opening, Workers
from lexiseg.data.scenes import class_names, unseen_classes
from lexiseg.errors import OutputError, SettingError
from lexiseg.evaluation.pseudo_labels import _Weighed, label
from lexiseg.methods.student import Training
from lexiseg.recipes import maskclip_plus as recipes
from lexiseg.segmenter import DenseLogits, MaskScores
from lexiseg.training.benchmark_data import BenchmarkData
from lexiseg.training.recipe import Labelling, Stage
from lexiseg.training.train import train

RED, GREEN, BLUE, NONE = 0, 1, 2, 255


@dataclass(frozen=True)
class Pictures(Opening):
    """The two pictures, of which only red is known."""

    root: str
    suppressed: tuple[int, ...] = (GREEN, BLUE)
    background: bool = False
    workers: Workers = field(default_factory=Workers)

    def source(self) -> DenseSource:
        opened = _benchmark.open("folder", self.root)
        more: dict[str, Any] = {"vocabulary": opened.vocabulary, "background": self.background}
        relabel = Relabelling(suppressed=self.suppressed)
        return DenseSource(opened.samples, DenseAugmentation(), relabel=relabel, **more)


def labelling(data: Any, **changes: Any) -> Labelling:
    return Labelling(**{"name": "guess", "teacher": "colours/plain", "data": data, **changes})


def maps(folder: Path) -> dict[str, list[list[int]]]:
    return {path.stem: np.asarray(Image.open(path)).tolist() for path in folder.glob("*.png")}


def test_known_labels_stay_and_the_teacher_chooses_among_the_rest(two: Path, tmp_path: Path) -> None:
    """Picture "one" is rrg, rbb, its labels are rrg, gb., of which only red is known."""
    assert label(labelling(Pictures(str(two))), tmp_path / "out") == {"labelled": 2, "skipped": 0}
    found = maps(tmp_path / "out")
    # (1, 0) is red to look at, labelled green, and may be green or blue, which are as near
    assert found["one"] == [[RED, RED, GREEN], [GREEN, BLUE, NONE]]
    assert found["two"][0] == [RED, GREEN]  # red to look at too, but labelled green


def test_without_the_known_labels_every_pixel_is_the_teachers(two: Path, tmp_path: Path) -> None:
    label(labelling(BenchmarkData("folder", str(two), labels="none"), keep_seen=False), tmp_path / "out")
    assert maps(tmp_path / "out")["one"] == [[RED, RED, GREEN], [RED, BLUE, BLUE]]


def test_pixels_below_the_confidence_stay_unlabelled(two: Path, tmp_path: Path) -> None:
    """A red pixel is as green as it is blue: one half."""
    label(labelling(Pictures(str(two)), confidence=0.6), tmp_path / "out")
    assert maps(tmp_path / "out")["one"] == [[RED, RED, GREEN], [NONE, BLUE, NONE]]


@pytest.mark.parametrize(
    ("prior", "pixel"),
    [(0.0, GREEN), (1e-6, GREEN), (1.0, RED)],  # it is e^10 times as red as it is green
)
def test_with_a_prior_the_teacher_compares_with_all_classes(
    prior: float, pixel: int, two: Path, tmp_path: Path
) -> None:
    label(labelling(Pictures(str(two)), prior=prior), tmp_path / "out")
    assert maps(tmp_path / "out")["one"] == [[RED, RED, GREEN], [pixel, BLUE, NONE]]


def test_a_prior_weighs_the_sums_of_masks_too() -> None:
    """Against the sums by hand; a background of the method's own is left alone."""
    masks, scores = torch.rand(1, 4, 3, 5), torch.rand(1, 4, 3)
    inner = SimpleNamespace(config=None, classify=lambda *_: MaskScores(masks, scores, weights="linear"))
    weighed = _Weighed(inner, torch.tensor([1.0, 0.25])).classify(None, None)
    assert isinstance(weighed, MaskScores)
    torch.testing.assert_close(weighed.scores, scores * torch.tensor([1.0, 0.25, 1.0]))
    assert weighed.masks is masks
    inner.classify = lambda *_: DenseLogits(masks[:, :3].log())
    logits = _Weighed(inner, torch.tensor([1.0, 0.25, 0.0])).classify(None, None).logits
    torch.testing.assert_close(logits.exp(), masks[:, :3] * torch.tensor([1.0, 0.25, 0.0]).view(3, 1, 1))


def test_a_prior_that_is_no_factor_is_refused(two: Path) -> None:
    with pytest.raises(SettingError, match="prior is 2"):
        labelling(Pictures(str(two)), prior=2)


@pytest.mark.parametrize(
    ("suppressed", "background", "holes"),
    [
        ((RED, GREEN, BLUE, 3), True, 3),  # everything is unlabelled, the background too
        ((RED, GREEN, BLUE), True, NONE),  # the background is labelled, so what is unlabelled is not it
        ((RED, GREEN, BLUE), False, NONE),  # there is no such class
    ],
)
def test_what_the_teacher_calls_background_is_the_datas_where_it_may_be(
    two: Path, tmp_path: Path, suppressed: tuple[int, ...], background: bool, holes: int
) -> None:
    """A threshold that nothing passes: all is background to this teacher."""
    stage = labelling(
        Pictures(str(two), suppressed, background), teacher="s_seg/tiny", teacher_settings={"own_background": 1.0}
    )
    label(stage, tmp_path / "out")
    assert maps(tmp_path / "out")["one"] == [[holes] * 3, [holes, holes, NONE]]  # the last pixel is ignored
    with pytest.raises(SettingError, match="rule of its own"):
        label(replace(stage, confidence=0.5), tmp_path / "other")


def test_the_settings_of_the_teacher_count(two: Path, tmp_path: Path) -> None:
    data = BenchmarkData("folder", str(two), labels="none")
    label(labelling(data, teacher_settings={"swap": True}), tmp_path / "out")
    assert maps(tmp_path / "out")["one"] == [[GREEN, GREEN, RED], [GREEN, BLUE, BLUE]]


def test_what_is_there_is_not_made_again_unless_it_would_differ(two: Path, tmp_path: Path) -> None:
    stage, out = labelling(Pictures(str(two))), tmp_path / "out"
    assert label(stage, out, stop=lambda: True)["labelled"] == 0
    label(stage, out)
    (out / "two.png").unlink()
    before = (out / "one.png").stat().st_mtime_ns
    assert label(stage, out)["labelled"] == 1
    assert (out / "one.png").stat().st_mtime_ns == before
    with pytest.raises(OutputError, match="another model, other classes or settings"):
        label(replace(stage, confidence=0.5), out)


def test_processes_share_the_pictures(two: Path, tmp_path: Path) -> None:
    stage = labelling(Pictures(str(two)))
    assert [label(stage, tmp_path / "out", rank=rank, world=2)["labelled"] for rank in (1, 0)] == [1, 1]
    label(stage, tmp_path / "whole")
    assert maps(tmp_path / "out") == maps(tmp_path / "whole")


def test_a_picture_that_cannot_be_read_is_left_out(two: Path, tmp_path: Path) -> None:
    (two / "images" / "one.png").write_bytes(b"no picture")
    assert label(labelling(Pictures(str(two))), tmp_path / "out") == {"labelled": 1, "skipped": 1}


def test_photographs_without_classes_are_refused(two: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"the stage 'guess' \(PhotographData\) has no classes"):
        label(labelling(PhotographData((str(two),))), tmp_path / "out")


def test_a_benchmark_reads_what_was_written(two: Path, tmp_path: Path) -> None:
    data = BenchmarkData("folder", str(two), labels="annotation_free")
    label(labelling(data), tmp_path / "out")
    source = replace(data, pseudo_labels=str(tmp_path / "out")).source()
    assert source.read(0)[1].tolist() == [[RED, RED, GREEN], [RED, BLUE, NONE]]


# --- a whole run

UNSEEN = unseen_classes()
HOLES = replace(recipes.TOY.data, relabelling=Relabelling(suppressed=UNSEEN))  # type: ignore[type-var]
SHORT: dict[str, Any] = {"steps": 4, "checkpoint_every": 2}


def self_training() -> tuple[Stage, ...]:
    """A student learns from its teacher, labels the photographs, and a second one learns those labels."""
    names = tuple(class_names()[place] for place in UNSEEN)
    filled = replace(HOLES, pseudo_labels="@guess")  # type: ignore[type-var]
    return (
        replace(recipes.TOY, name="first", objective=Training(unseen=names), data=HOLES, **SHORT),
        Labelling(name="guess", teacher="@first", data=HOLES),
        replace(recipes.TOY, weights="@first", teacher=None, objective=Training(guided=False), data=filled, **SHORT),
    )


class Killed(BaseException):
    pass


def dying(after: int) -> Callable[..., dict[str, int]]:
    """The callback of a process that ends after some label maps."""

    def progress(done: int, total: int) -> None:
        if done == after:
            raise Killed

    return partial(label, progress=progress)


def test_a_run_trains_labels_and_trains_and_may_be_killed_in_between(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    run = train(self_training(), tmp_path / "whole", label=label, tensorboard=False)
    assert run.finished
    assert len(list((tmp_path / "whole" / "guess" / "labels").glob("*.png"))) == 32
    with pytest.raises(Killed):
        train(self_training(), tmp_path / "parts", label=dying(5), tensorboard=False)
    assert len(list((tmp_path / "parts" / "guess" / "labels").glob("*.png"))) == 5
    assert train(self_training(), tmp_path / "parts", label=label, resume=True, tensorboard=False).finished
    for path in sorted((tmp_path / "whole").rglob("model.safetensors")) + sorted((tmp_path / "whole").rglob("*.png")):
        assert (tmp_path / "parts" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()
