"""robustness: one result for each corruption, and the share of the clean score that is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.pictures import noise
from lexiseg.evaluation.counting import Counting, Keep
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.evaluation.pipeline import Corruption
from lexiseg.evaluation.robustness import robustness
from lexiseg.evaluation.setup import Model, Setup
from lexiseg.evaluation.subject import prepare

KINDS = [("gaussian_noise", 1), ("gaussian_noise", 5), ("contrast", 5)]


def test_each_corruption_is_measured_as_on_its_own(tmp_path: Path) -> None:
    data = noise(tmp_path / "data", 6)
    subject = prepare(Setup(Model("colours/plain", device="cpu", dtype="fp32"), "folder", data))
    found = robustness(subject, KINDS, Counting(batch_size=2))
    alone = evaluate(
        "colours/plain", "folder", data=data, device="cpu", dtype="fp32", corrupt=Corruption("gaussian_noise", 5)
    )
    assert found.corrupted["gaussian_noise", 5].tallies.to_json() == alone.tallies.to_json()
    assert found.kinds == ["gaussian_noise", "contrast"]
    assert found.severities == [1, 5]
    lost = found.degradation("gaussian_noise", 5)
    assert lost == pytest.approx(1 - alone["miou"] / found.clean["miou"])
    assert lost > found.degradation("gaussian_noise", 1)
    both = (found.corrupted["gaussian_noise", 5]["miou"] + found.corrupted["contrast", 5]["miou"]) / 2
    assert found.mean(5) == pytest.approx(both)


def test_results_are_kept_one_by_one(tmp_path: Path) -> None:
    data = noise(tmp_path / "data", 3)
    subject = prepare(Setup(Model("colours/plain", device="cpu", dtype="fp32"), "folder", data))

    def keep(corruption: Corruption | None) -> Keep:
        name = "clean" if corruption is None else f"{corruption.kind}-{corruption.severity}"
        return Keep(tmp_path / f"{name}.json", resume=True)

    robustness(subject, KINDS[:1], Counting(), keep=keep)
    assert sorted(path.stem for path in tmp_path.glob("*.json")) == ["clean", "gaussian_noise-1"]
    told: list[int] = []
    robustness(subject, KINDS[:1], Counting(), keep=keep, progress=lambda done, _: told.append(done))
    assert not told  # both are there already
