"""Digests of what is uploaded, while it passes: names of algorithms, and running hashes that outlive a request.

Names are those of RFC 9530 (``sha-256``) and of tus (``sha256``). The state of a hash cannot be stored, so it is kept in memory
between the requests of one upload; where it is lost, the file is read once more at the end (about 1 s for a GiB).
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from assetserver.errors import BadRequestError, ChecksumMismatchError

OURS = "sha-256"

_MAKERS: dict[str, Callable[[], Any]] = {
    "sha-256": hashlib.sha256,
    "sha-512": hashlib.sha512,
    "sha256": hashlib.sha256,
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "md5": lambda: hashlib.md5(usedforsecurity=False),
}
ALGORITHMS = frozenset(_MAKERS)


class Hashes:
    """Running hashes of one sequence of bytes, by algorithm."""

    def __init__(self, algorithms: Iterable[str]) -> None:
        self._running: dict[str, Any] = {}
        for name in algorithms:
            if name not in _MAKERS:
                raise BadRequestError(f"{name[:40]!r} is not a digest that is known here")
            self._running[name] = _MAKERS[name]()

    def update(self, pieces: Sequence[bytes]) -> None:
        """Take ``pieces`` in. Long ones let other threads run meanwhile."""
        for running in self._running.values():
            for piece in pieces:
                running.update(piece)

    def copy(self) -> Hashes:
        """Return hashes of the same bytes that go on apart from these."""
        other = Hashes(())
        other._running = {name: running.copy() for name, running in self._running.items()}
        return other

    def hex_digest(self) -> str:
        """Return the SHA-256 so far, in hexadecimal."""
        return str(self._running[OURS].hexdigest())

    def check(self, expected: Mapping[str, bytes]) -> None:
        """Raise ``ChecksumMismatchError`` unless the bytes so far have all of ``expected``, by algorithm."""
        for name, digest in expected.items():
            if not hmac.compare_digest(self._running[name].digest(), digest):
                raise ChecksumMismatchError(f"the bytes are not those of the {name} digest that came with them")


def hash_whole(expected: Iterable[str]) -> Hashes:
    """Return what hashes a whole upload: SHA-256, and the algorithms of the digests that it came with.

    Raises ``BadRequestError`` for one that is not known.
    """
    return Hashes((OURS, *expected))


class HashMemory:
    """Running hashes of unfinished uploads, by how far they went. Bounded: the one unused for longest is forgotten."""

    def __init__(self, limit: int = 1024) -> None:
        self._limit = limit
        self._kept: OrderedDict[str, tuple[int, Hashes]] = OrderedDict()

    def take(self, upload_id: str, offset: int) -> Hashes | None:
        """Return the hashes of exactly the first ``offset`` bytes, and keep them no more; None if they are not known."""
        found, hashes = self._kept.pop(upload_id, (-1, None))
        return hashes if found == offset else None

    def keep(self, upload_id: str, offset: int, hashes: Hashes) -> None:
        """Keep the hashes of the first ``offset`` bytes, which never change any more."""
        self._kept[upload_id] = offset, hashes
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)
