"""Identifiers of requests: made here, unless a trusted proxy gave one."""

from __future__ import annotations

import os

REQUEST_ID = b"x-request-id"
GIVEN = "assetserver.request_id"
"""Under this name a scope holds the identifier of its request, as text: first the one that a trusted proxy gave, if it did."""


BLOCK = 1 << 24
"""How many numbers are taken at once: more than one process can answer requests in the second that it uses them."""


class RequestIds:
    """Identifiers of requests: a random prefix for the process, and a number.

    Who repeats an answer takes numbers by the block: how many of it are used tells how often that was.
    """

    def __init__(self) -> None:
        self.prefix = os.urandom(5).hex().encode()
        self._last = 0

    def take_block(self) -> int:
        """Return a number; it and the ``BLOCK`` - 1 behind it are nobody else's."""
        self._last += BLOCK
        return self._last

    def take(self) -> bytes:
        """Return the next identifier."""
        return b"%b-%x" % (self.prefix, self.take_block())
