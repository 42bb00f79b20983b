"""Identifiers of requests: made here, unless a trusted proxy gave one."""

from __future__ import annotations

import os

REQUEST_ID = b"x-request-id"
GIVEN = "assetserver.request_id"
"""Under this name a scope holds the identifier of its request, as text: first the one that a trusted proxy gave, if it did."""


class RequestIds:
    """Identifiers of requests: a random prefix for the process, and a number."""

    def __init__(self) -> None:
        self.prefix = os.urandom(5).hex().encode()
        self.last_number = 0

    def next_number(self) -> int:
        """Return the number of the next identifier."""
        self.last_number += 1
        return self.last_number

    def take(self) -> bytes:
        """Return the next identifier."""
        return b"%b-%x" % (self.prefix, self.next_number())
