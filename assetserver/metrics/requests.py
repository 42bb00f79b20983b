"""Requests, counted: by middleware those that an application answers; those repeated from memory, all of a second at once.

``Server-Timing`` is told here, too, where it is known how long an answer took: https://www.w3.org/TR/server-timing/.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from time import perf_counter
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .board import Block
from .families import ABANDONED, CACHE_RESULTS, CODINGS, OTHER, family

TALLY = "assetserver.tally"
"""Under this name the start of an answer has its ``Tally``, for who repeats it."""

COUNTS = "assetserver.counts"
"""Under this name the lifespan state of an application holds its ``RequestCounts``."""

QUIET = "assetserver.quiet"
"""Set in a scope of which the access log says nothing: those who ask whether a server lives do so all day."""

SPARED = "assetserver.spared"
"""Under this name a scope has how many bytes less a delta is than the best other coding."""

SERVER_TIMING = b"server-timing"
_FAILED = 500
_NOT_FOUND = 404
_REFUSED = 400
_SENDING = frozenset({"POST", "PUT", "PATCH"})
_RESULTS = {
    b"assetserver; hit": "hit",
    b"assetserver; fwd=miss; stored": "stored",
    b"assetserver; fwd=bypass": "bypass",
}
_OF_FILES = frozenset({"site", "folder", "preview", "media", "picture"})
_WITH_CONTENT = frozenset({200, 206, 304})
_OK = 200
_AS_DELTA = (b"content-encoding", b"dcz")

_REQUESTS, _BYTES = family("http_requests_total"), family("http_response_bytes_total")
_DURATION, _CACHE = family("http_request_duration_seconds"), family("cache_requests_total")
_IN_FLIGHT = family("http_requests_in_flight").slot()
_REFUSED_UPLOADS, _BROKEN = (family("uploads_total").slot(one) for one in ("refused", "broken"))
_OLD_HASHES = family("old_hash_misses_total").slot()
_DELTAS, _SAVED = family("delta_responses_total").slot(), family("delta_saved_bytes_total").slot()


class Tally(NamedTuple):
    """Where an answer is counted, as slots, -1 for nowhere: the request, its bytes, what came of the cache, now and repeated.

    ``upload``: one that came to nothing. ``path`` is that of the asset, to know what is asked for most, "" for what is none;
    ``is_missing``: there is nothing. ``spared``: how many bytes a delta spares, None for what is none.
    """

    request: int
    sent: int
    cache: int
    repeated: int
    upload: int
    path: str
    is_missing: bool
    spared: int | None = None


def _slot_of_upload(method: str, status: int) -> int:
    """Return where an upload is counted that was refused or broken off, or -1."""
    if method not in _SENDING or status < _REFUSED:
        return -1
    return _BROKEN if status == ABANDONED else _REFUSED_UPLOADS


class Interest:
    """Who wants to know which paths are asked for; this one does not."""

    def note(self, path: str, count: int, *, is_missing: bool) -> None:
        """Hear that ``path`` was asked for ``count`` times more."""


class RequestCounts:
    """Counts the requests of one application into ``block``, on the thread of its event loop.

    ``handlers`` tells by the id of an endpoint who it is; ``is_hashed``, whether a name has a fingerprint.
    """

    def __init__(
        self,
        block: Block,
        handlers: Mapping[int, str] | None = None,
        *,
        is_hashed: Callable[[str], bool] = lambda _: False,
        interest: Interest | None = None,
    ) -> None:
        self.block = block
        self._slots = block.slots
        self._handlers = {} if handlers is None else handlers
        self._is_hashed = is_hashed
        self._interest = interest or Interest()
        self._known: dict[tuple[str, int, str], int] = {}
        self._cached: dict[tuple[bytes | None, bytes], tuple[int, int]] = {}

    def begin(self) -> None:
        """Count a request that is being answered from now on."""
        self._slots[_IN_FLIGHT] += 1

    def tally(self, scope: Scope, status: int, fields: Collection[tuple[bytes, bytes]] = ()) -> Tally:
        """Return where an answer to the request of ``scope`` is counted."""
        handler = self.handler(scope)
        known = self._known.get((scope["method"], status, handler))
        if known is None:
            known = self._known[scope["method"], status, handler] = _REQUESTS.slot(scope["method"], str(status), handler)
        cache = repeated = -1
        if status in _WITH_CONTENT and handler in _OF_FILES:
            cache, repeated = self._slots_of_cache(fields)
        path = scope["path"] if handler in _OF_FILES else ""
        upload = _slot_of_upload(scope["method"], status) if handler == "upload" else -1
        spared = scope.get(SPARED) if status == _OK and _AS_DELTA in fields else None
        return Tally(known, _BYTES.slot(handler), cache, repeated, upload, path, status == _NOT_FOUND, spared)

    def handler(self, scope: Scope) -> str:
        """Return which part of the application answers."""
        return self._handlers.get(id(scope.get("endpoint")), OTHER)

    def end(self, tally: Tally, sent: int) -> None:
        """Count an answer that is complete, or was broken off; ``sent`` in bytes of content."""
        slots = self._slots
        slots[_IN_FLIGHT] -= 1
        slots[tally.request] += 1
        slots[tally.sent] += sent
        if tally.cache >= 0:
            slots[tally.cache] += 1
        if tally.upload >= 0:
            slots[tally.upload] += 1
        self._note(tally, 1)

    def time(self, scope: Scope, duration_s: float) -> None:
        """Note how long an answer took."""
        self.block.observe(_DURATION, _DURATION.slot(self.handler(scope)), duration_s)

    def repeat(self, tally: Tally, count: int, sent: int) -> None:
        """Count an answer that was repeated from memory ``count`` times more, and sent ``sent`` bytes in all."""
        slots = self._slots
        slots[tally.request] += count
        slots[tally.sent] += sent
        if tally.repeated >= 0:
            slots[tally.repeated] += count
        self._note(tally, count)

    def add_bytes(self, tally: Tally, sent: int) -> None:
        """Count bytes of a file that was sent for an answer that was repeated."""
        self._slots[tally.sent] += sent

    def _note(self, tally: Tally, count: int) -> None:
        if tally.spared is not None:
            self._slots[_DELTAS] += count
            self._slots[_SAVED] += count * tally.spared
        path = tally.path
        if not path:
            return
        if tally.is_missing:
            if not self._is_hashed(path):
                return
            self._slots[_OLD_HASHES] += count
        self._interest.note(path, count, is_missing=tally.is_missing)

    def _slots_of_cache(self, fields: Iterable[tuple[bytes, bytes]]) -> tuple[int, int]:
        """Return where an answer of a file is counted, and where when it is repeated."""
        coding, status = b"identity", None
        for name, value in fields:
            if name == b"content-encoding":
                coding = value
            elif name == b"cache-status":
                status = value
        known = self._cached.get((status, coding))
        if known is None:
            result = _RESULTS.get(status or b"", "unknown")
            name_of_coding = coding.decode("latin-1")
            known = _CACHE.slot(result, name_of_coding), _CACHE.slot(CACHE_RESULTS[0], name_of_coding)
            if len(self._cached) < len(CACHE_RESULTS) * len(CODINGS):
                self._cached[status, coding] = known
        return known


class Measured:
    """Pure ASGI middleware: counts every request, and tells who may know how long it took.

    ``tells``: whether the answer to the request of this scope has ``Server-Timing``; None for nobody's.
    """

    def __init__(self, app: ASGIApp, counts: RequestCounts, tells: Callable[[Scope], bool] | None = None) -> None:
        self.app = app
        self._counts = counts
        self._tells = tells

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        counts, begun = self._counts, perf_counter()
        tally: Tally | None = None
        sent = 0
        code = ABANDONED
        is_timed = self._tells is not None and self._tells(scope)

        async def send_counting(message: Message) -> None:
            nonlocal tally, sent
            if message["type"] == "http.response.start":
                fields = message.get("headers", ())
                tally = message[TALLY] = counts.tally(scope, message["status"], fields)
                if is_timed:
                    message["headers"] = [*fields, (SERVER_TIMING, _format_timing(perf_counter() - begun))]
            elif message["type"] == "http.response.body" and scope["method"] != "HEAD":
                sent += len(message.get("body", b""))
            try:
                await send(message)
            finally:  # of a file, the server notes what it sent
                sent += message.get("sent", 0)

        counts.begin()
        try:
            await self.app(scope, receive, send_counting)
        except Exception:
            code = _FAILED
            raise
        finally:
            counts.end(tally or counts.tally(scope, code), sent)
            counts.time(scope, perf_counter() - begun)


def _format_timing(duration_s: float) -> bytes:
    return b"total;dur=%.3f" % (duration_s * 1000)
