"""The quick reading of a plain GET: no Python call per field, no object per request. What it cannot read, it leaves.

The dict of fields lives as long as its connection. Before each request all its values are blanked; if afterwards none is blank,
and there are as many names as field lines, it holds exactly the fields of this request: none of an earlier one, none repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

import httptools

from .hotcache import Variant

_LEFT = frozenset(
    {
        b"authorization",
        b"content-length",
        b"expect",
        b"http2-settings",
        b"if-match",
        b"if-range",
        b"if-unmodified-since",
        b"proxy-connection",
        b"range",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"want-repr-digest",
    }
)
"""Fields of requests that are left to the slow path: it decides with them, or they are about framing."""

_FORWARDED = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-proto"})
_LOGGED = frozenset({b"host", b"referer", b"user-agent"})


class _Verdict(NamedTuple):
    """Under which names, as this client writes them, the fields stand that are looked at; None for those it does not send."""

    host: bytes
    accept_encoding: bytes | None
    if_none_match: bytes | None
    connection: bytes | None


class _Sink:
    """What the parser calls for each field: the dict's own method."""

    __slots__ = ("on_header",)

    def __init__(self, on_header: Callable[[bytes, bytes], None]) -> None:
        self.on_header = on_header


class LeanRequest:
    """Reads the requests of one connection. ``is_behind_proxy``: fields that say who the client is decide, too."""

    def __init__(self, *, is_behind_proxy: bool = False) -> None:
        self._left = _LEFT | _FORWARDED if is_behind_proxy else _LEFT
        self._fields: dict[bytes | None, bytes | None] = {}
        self._blank: Mapping[bytes | None, None] = {}
        self._verdict: _Verdict | None = None
        self._parser: httptools.HttpRequestParser | None = None

    def read(self, data: bytes) -> tuple[bytes, bytes, Variant] | None:
        """Return Host, target and variant, as sent, if ``data`` is exactly one GET that the hot path may answer; else None."""
        end = data.find(b"\r\n")
        target = data[4 : end - 9]
        if not data.startswith(b"GET /") or data[end - 9 : end] != b" HTTP/1.1" or not data.endswith(b"\r\n\r\n"):
            return None
        if b" " in target or b"#" in target:
            return None
        count = data.count(b"\n") - 2  # field lines, if this is one request: of two, more lines than fields would be counted
        fields = self._fields
        fields.update(self._blank)
        if not self._parse(data):
            return None
        if len(self._blank) != count or len(fields) != count or None in fields.values():
            fields.clear()
            self._parser = None
            if not self._parse(data) or len(fields) != count:
                return None
            self._blank = dict.fromkeys(fields)
            self._verdict = _judge(fields, self._left)
        return self._pick(target) if self._verdict else None

    def _pick(self, target: bytes) -> tuple[bytes, bytes, Variant] | None:
        verdict, fields = self._verdict, self._fields
        assert verdict is not None  # noqa: S101 - asked by the caller
        host = fields[verdict.host]
        kept = fields.get(verdict.connection)
        if host is None or (kept is not None and kept.lower() != b"keep-alive"):
            self._parser = None  # it has seen the end of the connection
            return None
        return host, target, Variant(fields.get(verdict.accept_encoding), fields.get(verdict.if_none_match))

    def describe(self, target: bytes) -> dict[str, Any]:
        """Return of the request that was read last what the access log writes, as an ASGI scope has it."""
        path, _, query = target.partition(b"?")
        named = ((name.lower(), value) for name, value in self._fields.items() if name is not None and value is not None)
        return {
            "method": "GET",
            "http_version": "1.1",
            "path": unquote(path.decode("latin-1")),
            "raw_path": path,
            "query_string": query,
            "headers": [field for field in named if field[0] in _LOGGED],
        }

    def _parse(self, data: bytes) -> bool:
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(_Sink(self._fields.__setitem__))
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._parser = None
            return False
        return True


def _judge(fields: Mapping[bytes | None, bytes | None], left: frozenset[bytes]) -> _Verdict | None:
    """Return where the fields stand that are looked at, or None if any other decides, or one stands twice."""
    names = {name.lower(): name for name in fields if name is not None}
    if len(names) != len(fields) or not left.isdisjoint(names) or b"host" not in names:
        return None
    if b"if-modified-since" in names and b"if-none-match" not in names:  # ignored beside it (RFC 9110 §13.1.3)
        return None
    return _Verdict(names[b"host"], names.get(b"accept-encoding"), names.get(b"if-none-match"), names.get(b"connection"))
