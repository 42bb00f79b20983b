"""Names of the kinds of background jobs about pictures: who queues them, and who does them, need not know each other."""

from __future__ import annotations

IMAGE = "image"
"""All variants of an uploaded picture."""

ON_DEMAND = "picture"
"""One picture that a client asked for."""

LADDER = "ladder"
"""All widths of a release's picture."""
