"""The short way: URLs whose answer was decided a moment ago, answered from memory. No disk, no thread, no hashing.

Only repeats what the long way decided and made (invariant 4); in doubt it returns None, and the long way decides again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from starlette.types import Scope

from assetserver.semantics.representation import ContentCoding, Field
from assetserver.semantics.respond import AssetResponses
from assetserver.semantics.targets import AssetPath

from .claims import OFFER, Claim
from .livefolder import LIMIT_PATH_BYTES, Entry
from .memory import MemoryCache
from .probe import Roots
from .requests import DECIDING

LIMIT_PATHS = 3072

Messages = tuple[dict[str, Any], bytes]
"""The start of a response as ASGI sends it, and its whole body."""

_Key = tuple[str, bytes | None, str]


class Known(Protocol):
    """What is known of paths now."""

    @property
    def clock_s(self) -> Callable[[], float]:
        """Monotonic seconds."""
        ...

    def get(self, path: AssetPath) -> Entry | None:
        """Return the entry of ``path`` if it is known and to be trusted."""
        ...


class AssetFolder(Known, Protocol):
    """Where ``AssetFiles`` finds what is served: a live folder, or a release."""

    @property
    def roots(self) -> Roots:
        """The folders that can be listed."""
        ...

    async def lookup(self, path: AssetPath) -> Entry:
        """Return the entry of ``path``, looking at the disk if need be."""
        ...

    def distrust(self, path: AssetPath) -> None:
        """Have the disk looked at before ``path`` is answered again."""
        ...


class _HotPath(NamedTuple):
    """A URL whose answer is decided until ``deadline_s``: ``responses`` of ``entry`` at this URL, status 200 or 304."""

    entry: Entry
    responses: AssetResponses
    deadline_s: float
    fields: dict[tuple[int, ContentCoding], list[Field]]


class HotPaths:
    """The URLs of one ``AssetFiles``; ``mark`` is added to every answer, to say that it came from here.

    ``claim`` says why an answer may be repeated; if not given, as long as the folder's entry stands. ``reads`` tells
    whether more of a request decides the answer: such ones are left to the long way.
    """

    def __init__(
        self,
        folder: Known,
        memory: MemoryCache,
        mark: tuple[Field, ...],
        claim: Callable[[Entry, float], Claim] | None = None,
        reads: Callable[[Scope], bool] | None = None,
    ) -> None:
        self._folder = folder
        self._memory = memory
        self._mark = mark
        self._claim = claim or self._claim_entry
        self._reads = reads
        self._paths: dict[_Key, _HotPath] = {}

    def __len__(self) -> int:
        """Return the number of URLs remembered."""
        return len(self._paths)

    def remember(self, scope: Scope, entry: Entry, responses: AssetResponses, deadline_s: float) -> None:
        """Let the URL of ``scope`` be answered with ``responses``, as long as ``entry`` stands, until ``deadline_s``.

        Not a long one: where a fallback answers everything, anybody can make up URLs.
        """
        path, raw, prefix = key = _key(scope)
        longest = max(len((prefix + path).encode("utf-8", "surrogatepass")), len(raw or b"") // 3)  # "%C3" is one byte
        if longest > LIMIT_PATH_BYTES:
            return
        if len(self._paths) >= LIMIT_PATHS:
            self._paths.pop(next(iter(self._paths)), None)
        hot = self._paths[key] = _HotPath(entry, responses, deadline_s, {})
        self._offer(scope, hot)

    def answer(self, scope: Scope) -> Messages | None:
        """Return the messages for a plain GET of a known URL, or None.

        Any field that could change the answer, other than ``Accept-Encoding`` and an ``If-None-Match`` that holds exactly the
        current tag, is left to the long way.
        """
        hot = self._paths.get(_key(scope))
        if hot is None or scope["method"] != "GET" or self._folder.clock_s() >= hot.deadline_s:
            return None
        if self._reads is not None and self._reads(scope):
            return None
        accept = match = None
        dated = False
        for name, value in scope["headers"]:
            if name in DECIDING:
                if name == b"accept-encoding" and accept is None:
                    accept = value
                elif name == b"if-none-match" and match is None:
                    match = value
                elif name == b"if-modified-since":
                    dated = True  # ignored beside If-None-Match (RFC 9110 §13.1.3)
                else:
                    return None
        if dated and match is None:
            return None
        offer = scope.get(OFFER)
        claim = self._claim(hot.entry, hot.deadline_s) if offer is not None else None  # before what it says is looked at
        messages = self._repeat(hot, accept, match)
        if messages is not None and offer is not None:
            offer(claim)
        return messages

    def _offer(self, scope: Scope, hot: _HotPath) -> None:
        if (offer := scope.get(OFFER)) is not None:
            offer(self._claim(hot.entry, hot.deadline_s))

    def _claim_entry(self, entry: Entry, deadline_s: float) -> Claim:
        return Claim(self._folder.get, entry.path, entry, self._folder.clock_s, deadline_s)

    def _repeat(self, hot: _HotPath, accept: bytes | None, match: bytes | None) -> Messages | None:
        if self._folder.get(hot.entry.path) is not hot.entry:
            return None
        responses = hot.responses
        chosen = responses.select(None if accept is None else accept.decode("latin-1"))
        if chosen is None or chosen.digest is None:
            return None
        status = 200 if match is None else 304
        fields = hot.fields.get((status, chosen.coding))
        if fields is None:
            plan = responses.whole(chosen, head=False) if match is None else responses.not_modified(chosen)
            fields = hot.fields[status, chosen.coding] = [*plan.fields, *self._mark]
        if match is not None and fields[0] != (b"etag", match):
            return None
        content = self._memory.get(chosen.digest) if match is None else b""
        if content is None:
            return None
        return {"type": "http.response.start", "status": status, "headers": fields.copy()}, content


def _key(scope: Scope) -> _Key:
    """Return all of a scope that says which URL is asked for: middleware may have rewritten one part and not the others."""
    return scope["path"], scope.get("raw_path"), scope.get("root_path", "")
