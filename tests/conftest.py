"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# Cores are shared with builds and with other tests: how long one example takes says nothing.
settings.register_profile("shared-cores", deadline=None)
settings.load_profile("shared-cores")
