"""The scripts of benchmarks/ run, print a table and write JSON; what they measure means nothing here."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = [path.stem for path in sorted(FOLDER.glob("*.py")) if path.stem != "script"]
SLOW = {
    "decoder",
    "memory",
    "refine",
    "scaling",
    "segment",
    "serving",
    "serving_faults",
    "windows",
}  # start processes, which import everything again
Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    monkeypatch.syspath_prepend(FOLDER)
    threads = torch.get_num_threads()
    yield importlib.import_module
    torch.set_num_threads(threads)
    for name in [*SCRIPTS, "script"]:
        sys.modules.pop(name, None)


@pytest.fixture
def run(load: Callable[[str], ModuleType], tmp_path: Path) -> Run:
    def runs(name: str, *options: str) -> list[dict[str, Any]]:
        out = tmp_path / f"{name}.json"
        load(name).main(["--quick", "--threads", "1", "--out", str(out), *options])
        document = json.loads(out.read_text())
        assert {"what", "when", "commit", "machine", "versions", "rows"} <= document.keys()
        rows: list[dict[str, Any]] = document["rows"]
        return rows

    return runs


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in SCRIPTS])
def test_every_script_runs_and_prints_a_table(name: str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(name)
    if name != "refine":  # prints lines
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
        assert len(lines) >= 3
        assert lines[1].replace(" ", "").strip("|-") == ""


def test_torch_ways_of_the_decoder_do_the_same_work(load: Callable[[str], ModuleType]) -> None:
    decoder = load("decoder")
    for features in ("smooth", "rough", "masks"):
        result, size = decoder.make(features, 171, 64), (64, 64)
        expected = decoder.WAYS["whole"](result, size)
        for name in ("classes", "rows"):
            assert torch.equal(decoder.WAYS[name](result, size), expected)
        ours = torch.from_numpy(decoder.WAYS["with posterior"](result, size).labels.astype("int64"))
        for name in ("classes posterior", "rows posterior"):
            theirs = decoder.WAYS[name](result, size)
            theirs = torch.where(theirs == 65_535, 255, theirs)
            assert (theirs == ours).double().mean() > 0.999
            if features != "masks":  # whose shares are all small
                assert 0 < (theirs == 255).double().mean() < 1


def test_rough_features_leave_nothing_to_prune_and_smooth_ones_do(load: Callable[[str], ModuleType]) -> None:
    decoder = load("decoder")

    def candidates(features: str) -> float:
        """The share of classes that could win somewhere in a cell."""
        logits = decoder.make(features, 171, 512).logits[0]
        corners = torch.stack([logits[:, y : y + 31, x : x + 31] for y in (0, 1) for x in (0, 1)])
        lowest = corners.amin(dim=0).amax(dim=0)
        return float((corners.amax(dim=0) >= lowest).double().mean())

    assert candidates("rough") > 0.5 > 0.3 > candidates("smooth")


def test_windows_one_by_one_are_labelled_as_together(run: Run) -> None:
    """So that both ways do the same work; resizing rounds by a level of a byte, which moves a few borders."""
    (row,) = run("windows", "--no-memory")
    assert row["alike"] > 0.99
    assert row["ms"].keys() == {"together", "together 32", "one by one"}
    assert 0 < row["network"] < 1
