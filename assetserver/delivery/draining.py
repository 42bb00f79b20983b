"""The end of connections whose server accepts no more: what was asked is answered, and nothing is asked after that.

Source: RFC 9112 §9.6 (tear-down).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

ON_STOP = "assetserver.on_stop"
"""Under this name the application's state has what ends those who wait for news, called when the server begins to stop."""


def close_after_answers(connections: Iterable[Any]) -> None:
    """Have the newest answer that is on its way say ``Connection: close``, if it says nothing yet, and be the last."""
    for connection in connections:
        pipeline = getattr(connection, "pipeline", None)
        newest = pipeline[0][0] if pipeline else getattr(connection, "cycle", None)
        if newest is not None and not newest.response_complete:
            newest.keep_alive = False
