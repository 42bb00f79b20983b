"""``assetserver`` that counts nothing: what metrics cost is what it takes less. Started as ``python -m assetserver`` is.

No setting does this, since metrics cost next to nothing: the event loop's pulse does not beat, and who repeats answers has
nowhere to count them.
"""

from __future__ import annotations

from typing import Any

from assetserver import app
from assetserver.cli import main
from assetserver.delivery.hotcache import HotCache
from assetserver.metrics.pulse import Pulse


class Uncounted(HotCache):
    """Rendered answers of which nobody counts how often they are repeated."""

    def __init__(self, *args: Any, counts: object, **keywords: Any) -> None:
        del counts
        super().__init__(*args, **keywords)


def start_nothing(_: Pulse) -> None:
    """Begin no pulse."""


if __name__ == "__main__":
    app.HotCache = Uncounted
    Pulse.start = start_nothing
    main(prog_name="assetserver")
