"""Settings that all tests share."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # one thread a worker; OpenMP reads this when torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings

# a busy machine is no reason to fail; nothing here depends on time
settings.register_profile("lexiseg", deadline=None)
settings.load_profile("lexiseg")
