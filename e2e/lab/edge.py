"""Edge machines."""

from __future__ import annotations


class Edge:
    """Placeholder."""
