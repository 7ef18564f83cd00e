"""One server for all tests that change nothing about it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from inference.fakes import OwnBackground, predictor
from serving.servers import Running, running


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running({"colours": predictor(), "own": predictor(OwnBackground())}) as one:
        yield one
