"""Settings of all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# Cores are shared with builds and with other tests: how long one example takes says nothing.
# The same examples each time, so that a change is judged by what it changed; `make test-all` looks for new ones.
settings.register_profile("same-examples", deadline=None, derandomize=True)
settings.register_profile("new-examples", deadline=None, max_examples=1000)
settings.load_profile("new-examples" if os.environ.get("HOSTED_CP_NEW_EXAMPLES") == "1" else "same-examples")
