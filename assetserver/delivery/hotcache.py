"""Rendered answers, ready to write: what the slow path sent for a request, repeated for the next ones like it (invariant 5).

Two ways lead to an answer. The bytes of a whole request, seen before: the same bytes are the same request. Or its target, Host
and deciding fields, once a parser has read them. Either way the answer stands only as long as its ``Claim`` holds: that the
asset which gave it is still what its folder serves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from assetserver.errors import AssetServerError
from assetserver.observe import LogWriter, Record, RequestIds
from assetserver.semantics.representation import Field

HOT = "assetserver.hot"
"""Under this name the lifespan state of an application holds its ``HotCache``."""

OFFER = "assetserver.offer"
"""Under this name a scope may hold a function that takes a ``Claim``: the answer to come may be repeated."""

LIMIT_ANSWERS = 65_536
LIMIT_REQUESTS = 8192
LIMIT_REQUEST_BYTES = 1024
LIMIT_BODY_BYTES = 1 << 20
"""Larger bodies are written piece by piece, or by the kernel: one write of them would fill memory for a slow reader."""


_OVERHEAD_BYTES = 1024
_Key = tuple[bytes | None, bytes, bytes | None, bytes | None]
"""Host, target and ``Variant``."""


_TOLD = frozenset({b"content-encoding", b"cache-status"})
"""Fields of an answer that the access log tells."""


class Claim(NamedTuple):
    """Why an answer may be repeated: ``get(path)`` is still ``entry``, and ``clock_s()`` before ``deadline_s``."""

    get: Callable[[Any], object]
    path: str
    entry: object
    clock_s: Callable[[], float]
    deadline_s: float

    def holds(self) -> bool:
        """Tell whether the answer would be the same now."""
        try:
            return self.get(self.path) is self.entry and self.clock_s() < self.deadline_s
        except AssetServerError:  # the slow path says what is wrong
            return False


class Variant(NamedTuple):
    """What else of a request decides its answer, as sent: ``Accept-Encoding`` and ``If-None-Match``."""

    accept_encoding: bytes | None
    if_none_match: bytes | None


class Answer:
    """One rendered answer: ``head`` is all before the date, ``fields`` all after it, but for the request's id.

    ``stamped`` holds both, and between them the ``common`` fields; ``is_used`` since eviction last passed by.
    """

    __slots__ = ("body", "claim", "common", "fields", "head", "is_used", "stamped", "status", "told")

    def __init__(self, claim: Claim, status: int, head: bytes, fields: list[Field], body: bytes) -> None:
        self.claim: Claim | None = claim
        self.status = status
        self.told = [field for field in fields if field[0] in _TOLD]
        self.head = head
        self.fields = b"".join(b"%b: %b\r\n" % field for field in fields)
        self.body = body
        self.common: list[Field] = []
        self.stamped = b""
        self.is_used = False

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return _OVERHEAD_BYTES + len(self.body) + 2 * len(self.fields)

    def holds(self) -> bool:
        """Tell whether it may be repeated now."""
        self.is_used = True
        return self.claim is not None and self.claim.holds()

    def drop(self) -> None:
        """Let go of what it takes; whoever still knows it may not repeat it."""
        self.claim, self.body, self.stamped = None, b"", b""


class Known(NamedTuple):
    """A request whose bytes were seen before: its answer, and what the log says of it."""

    answer: Answer
    scope: dict[str, Any]


class HotCache:
    """The rendered answers of one process, ``limit_bytes`` of them. What was not used of late goes first."""

    def __init__(self, ids: RequestIds | None = None, writer: LogWriter | None = None, limit_bytes: int = 64 << 20) -> None:
        self._ids = ids
        self._writer = writer
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._answers: dict[_Key, Answer] = {}
        self._requests: dict[bytes, Known] = {}
        self._seen: set[int] = set()

    def __len__(self) -> int:
        """Return the number of answers."""
        return len(self._answers)

    @property
    def is_logging(self) -> bool:
        """Whether every answer is noted in the access log."""
        return self._writer is not None

    def find_request(self, data: bytes) -> Known | None:
        """Return what a request with exactly these bytes gets, or None."""
        known = self._requests.get(data)
        if known is None:
            return None
        if known.answer.holds():
            return known
        del self._requests[data]
        return None

    def find(self, host: bytes | None, target: bytes, variant: Variant) -> Answer | None:
        """Return what a GET of ``target`` at ``host`` gets, or None."""
        key = host, target, *variant
        answer = self._answers.get(key)
        if answer is None or answer.holds():
            return answer
        self._remove(key)
        return None

    def admit(self, host: bytes | None, target: bytes, variant: Variant, answer: Answer) -> None:
        """Keep an answer of the slow path; redirects when they come a second time: anybody can make them up."""
        key = host, target, *variant
        if answer.status not in _OF_FILES and not self._comes_again(hash(key)):
            return
        self._remove(key)
        self._answers[key] = answer
        self._bytes += answer.size
        while self._bytes > self._limit_bytes or len(self._answers) > LIMIT_ANSWERS:
            first = next(iter(self._answers))
            if self._answers[first].is_used:  # a second chance, at the end
                self._answers[first].is_used = False
                self._answers[first] = self._answers.pop(first)
            else:
                self._remove(first)

    def _remove(self, key: _Key) -> None:
        answer = self._answers.pop(key, None)
        if answer is not None:
            self._bytes -= answer.size
            answer.drop()

    def admit_request(self, data: bytes, answer: Answer, scope: dict[str, Any]) -> None:
        """Keep what a request of these bytes gets, if it comes a second time; ``scope`` is what the log is written from."""
        if len(data) > LIMIT_REQUEST_BYTES:
            return
        if not self._comes_again(hash(data)):
            return
        if len(self._requests) >= LIMIT_REQUESTS:
            self._requests.pop(next(iter(self._requests)))
        self._requests[data] = Known(answer, scope)

    def _comes_again(self, mark: int) -> bool:
        if mark in self._seen:
            return True
        if len(self._seen) >= LIMIT_REQUESTS:
            self._seen.clear()
        self._seen.add(mark)
        return False

    def render(self, answer: Answer, common: list[Field]) -> bytes:
        """Return the whole answer as it goes over the connection now; ``common`` are the fields of all answers, as ``Date``."""
        if answer.common is not common:  # a new list every second
            answer.common = common
            answer.stamped = answer.head + b"".join(b"%b: %b\r\n" % field for field in common) + answer.fields
        if self._ids is None:
            return answer.stamped + b"\r\n" + answer.body
        return b"%bx-request-id: %b\r\n\r\n%b" % (answer.stamped, self._ids.take(), answer.body)

    def note(self, answer: Answer, scope: dict[str, Any], client: tuple[str, int] | None) -> None:
        """Note an answer in the access log. Its request id is the last one taken."""
        if self._writer is not None:
            request_id = self._ids.last() if self._ids else ""
            self._writer.append(
                Record(time.time(), 0.0, scope, client, answer.status, len(answer.body), answer.told, request_id)
            )


_OF_FILES = frozenset({200, 304})
_REPEATABLE = frozenset({200, 301, 302, 303, 304, 307, 308})
_OWN = frozenset({b"set-cookie", b"connection", b"transfer-encoding"})


def is_repeatable(status: int, fields: Iterable[Field], body: bytes) -> bool:
    """Tell whether an answer may be kept: whole, of a known length, and setting nothing for one client alone."""
    values = dict(fields)
    is_whole = len(body) <= LIMIT_BODY_BYTES and values.get(b"content-length") == b"%d" % len(body)
    return status in _REPEATABLE and (is_whole or status == 304) and _OWN.isdisjoint(values)  # noqa: PLR2004 - Not Modified
