from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lexiseg.data.photographs import read
from lexiseg.errors import SettingError, UnknownName
from lexiseg.evaluation.setup import Model
from lexiseg.speed import bench

TINY = Model("maskclip/tiny", dtype="fp32")


def rows(**options: Any) -> list[bench.Row]:
    return list(bench.bench(TINY, **{"size": 48, "classes": [3, 300], "repeats": 2, "memory": False, **options}))


def test_every_class_count_is_a_row_with_all_ways_and_stages() -> None:
    found = rows()
    assert [row.classes for row in found] == [3, 300]
    for row in found:
        assert tuple(row.ms) == bench.WAYS
        assert tuple(row.stages) == bench.STAGES
        assert all(taken["median"] >= 0 for taken in row.stages.values())
        assert set(row.faster_than) == {"peer fp32", "peer half"}
        whole = sum(taken["median"] for taken in row.stages.values())
        assert row.images_per_second == pytest.approx(1000 / whole)
        assert 1 + row.around == pytest.approx(whole / row.stages["encoder"]["median"])


def test_the_network_sees_what_the_model_says_or_the_size_itself() -> None:
    assert rows(classes=[3])[0].seen == (64, 64)  # maskclip/tiny's short side
    assert rows(classes=[3], network=True)[0].seen == (48, 48)


def test_threads_are_as_before_afterwards() -> None:
    before = torch.get_num_threads()
    rows(classes=[3], threads=before + 1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("model", ["simseg/tiny-clip", "maskclip/tiny-rn", "mini_clip/tiny"])
def test_any_method_can_be_measured(model: str) -> None:
    (row,) = bench.bench(Model(model, dtype="fp32"), size=64, classes=[3], repeats=1, memory=False)
    assert row.ms["lexiseg"]["median"] > 0


def test_operators_come_longest_first_and_matrix_products_are_among_them() -> None:
    found = bench.profile(TINY, size=48, classes=3)
    assert [operator.ms for operator in found] == sorted((operator.ms for operator in found), reverse=True)
    assert any(operator.name.startswith("aten::") and "mm" in operator.name for operator in found)


@pytest.mark.slow  # three new processes
def test_memory_of_the_peer_grows_with_classes_and_ours_does_not() -> None:
    few, many = rows(size=512, classes=[3, 300], network=True, memory=True)
    if few.extra_mb["lexiseg"] is None:
        pytest.skip("only Linux says")
    grown = {way: (many.extra_mb[way] or 0) - (few.extra_mb[way] or 0) for way in bench.WAYS}
    assert grown["peer fp32"] > 250  # 297 more maps of 1 MB
    assert grown["lexiseg"] < 40


def test_words_are_distinct_however_many() -> None:
    assert len(set(bench.words(1000).names)) == 1000


def test_the_photograph_survives_the_jpeg() -> None:
    image = bench.photograph(256)
    assert image.shape == (256, 256, 3)
    assert np.abs(read(bench.jpeg(image)).astype(int) - image).mean() < 4


@pytest.mark.parametrize(
    "options", [{"size": 0}, {"repeats": 0}, {"classes": [0]}, {"classes": [3, 70_000]}, {"threads": 0}]
)
def test_what_cannot_be_measured_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="give"):
        rows(**options)


def test_an_unknown_model_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(UnknownName, match="did you mean"):
        bench.bench(Model("maskclip/tini"))
