"""The compiled loops where they can be looked at alone."""

from __future__ import annotations

import numpy as np
import pytest

numba = pytest.importorskip("numba")

from lexiseg.inference import _kernels  # noqa: E402


def test_the_exponential_is_numpys():
    values = np.concatenate([np.linspace(-86, 80, 4001), np.linspace(-1, 1, 4001), [0]]).astype(np.float32)
    out, bits = np.empty_like(values), np.empty(len(values), np.int32)
    _kernels._exp(values, len(values), out, bits)
    assert np.allclose(out, np.exp(values.astype(np.float64)), rtol=1e-5)


def test_what_underflows_is_almost_nothing():
    values = np.array([-88, -1e4, -3e38], np.float32)
    out = np.empty_like(values)
    _kernels._exp(values, 3, out, np.empty(3, np.int32))
    assert (out >= 0).all()
    assert (out < 2e-38).all()


def test_a_place_that_keeps_no_compiled_code_is_no_error():
    names: dict = {}
    exec("def twice(x):\n    return 2 * x", names)  # numba cannot keep what has no file
    with pytest.raises(RuntimeError, match="cache"):
        numba.njit(cache=True)(names["twice"])
    assert _kernels._compiled(names["twice"])(21) == 42
