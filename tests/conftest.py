"""Settings that all tests share."""

from __future__ import annotations

from hypothesis import settings

# a busy machine is no reason to fail; nothing here depends on time
settings.register_profile("lexiseg", deadline=None)
settings.load_profile("lexiseg")
