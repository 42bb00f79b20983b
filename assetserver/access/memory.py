"""Tokens that were looked up a moment ago: who sends a thousand small files need not be looked up a thousand times.

What is kept is the record alone: the secret is compared with its hash for every request, and its end looked at. A record is
trusted for ``TRUST_S``, and no longer than the mark stands, which ``token revoke`` moves: revoking counts at once, everywhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from .tokens import TokenRecord

TRUST_S = 0.9
"""How long a record is trusted whatever happens to the database meanwhile: that of names and files, too."""

_MOST = 1000


class TokenMemory:
    """Records by id, each with the mark that stood before it was looked up. Both methods may be called from any thread.

    ``read_mark`` raises ``OSError`` where nobody can tell whether it moved: then nothing is trusted.
    """

    def __init__(self, read_mark: Callable[[], bytes], clock: Callable[[], float] = time.monotonic) -> None:
        self._read_mark = read_mark
        self._clock = clock
        self._known: dict[str, tuple[TokenRecord, bytes, float]] = {}

    def recall(self, token_id: str) -> TokenRecord | None:
        """Return the record of a token, if it is known to be what a look-up would find."""
        found = self._known.get(token_id)
        if found is None:
            return None
        record, mark, until_s = found
        try:
            return record if self._clock() < until_s and self._read_mark() == mark else None
        except OSError:
            return None

    def look_up(self, token_id: str, find: Callable[[str], TokenRecord | None]) -> TokenRecord | None:
        """Return what ``find`` does, and keep it; what is not there is not kept, or made-up ids would push out real ones."""
        until_s = self._clock() + TRUST_S
        try:
            mark = self._read_mark()
        except OSError:
            return find(token_id)
        record = find(token_id)
        if record is not None:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[token_id] = record, mark, until_s
        return record
