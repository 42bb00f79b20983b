"""Lines about requests whose answers were repeated, many at a time, byte by byte as ``formats`` writes all others.

A line is put together from bytes that are there already: what a format says of a connection, of a second or millisecond, of an
answer, and of a request whose bytes are known to come again. What clients sent is looked through for all lines at once, and
only where that finds something to be escaped or kept secret, line by line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any
from urllib.parse import unquote

from assetserver.semantics.tracecontext import parse_traceparent

from .formats import FORMATS, LOGGER, encode_json, encode_line, format_date, format_host, format_moment, quote
from .records import ASKED, PASSED_ON, Address, Asked, Entry, Peer, Record, Remembered, Told
from .redacting import SECRET_NAMES, without_secrets

FindClient = Callable[[Address | None, bytes | None, bytes | None], Address | None]
"""Returns the client of a request: given the peer, and what ``X-Forwarded-For`` and ``Forwarded`` say, None for nothing."""


class Briefs:
    """Writes entries as ``form`` does, each by way of a record. ``prefix`` is of their identifiers, empty if they have none."""

    def __init__(self, form: str, prefix: bytes, find_client: FindClient | None = None) -> None:
        self._format = FORMATS[form]
        self._has_names = bool(prefix)
        self._name = prefix + b"-%x" if prefix else _NO_NAME
        self._find_client = find_client or _take_peer

    def meet(self, address: Address | None) -> Peer:
        """Return who has a connection."""
        return Peer(address, b"")

    def join(self, entries: Sequence[Entry], offset_s: float) -> bytes:
        """Return the lines of entries, in their order; ``offset_s`` makes their moments those since 1970. May be repeated."""
        return b"".join(
            asked if told is None else self._write(now_s + offset_s, peer, told, _unfold(asked), number)
            for now_s, peer, told, asked, number in entries
        )

    def _write(self, started: float, peer: Peer, told: Told, asked: Asked, number: int) -> bytes:
        """Return the line of the record that the slow path would have made."""
        line, *values, traceparent = asked[:_PASSED_ON]
        method, _, target = (line or b"").partition(b" ")
        path, _, query = target.partition(b"?")
        x_forwarded_for, forwarded, given = asked[_PASSED_ON:] or _NOTHING
        scope = {
            "method": method.decode(),
            "http_version": "1.1",
            "path": unquote(path.decode("latin-1")),
            "raw_path": path,
            "query_string": query,
            "headers": [field for field in zip(ASKED, values, strict=False) if field[1] is not None],
        }
        record = Record(
            started,
            0.0,
            scope,
            self._find_client(peer.address, x_forwarded_for, forwarded),
            told.status,
            told.sent,
            list(told.fields),
            self._identify(given, number).decode(),
            trace=parse_traceparent(traceparent) if traceparent else None,
            peer=peer.address,
        )
        return encode_line(self._format(record))

    def _identify(self, given: bytes | None, number: int) -> bytes:
        return given if given is not None and self._has_names else self._name % number


class _Pieced(Briefs):
    """Writes entries from pieces: whose connection it is, when, and what was asked and answered."""

    _begins_with_date = False
    """Whether the moment comes first, with the identifier behind it."""

    def __init__(self, form: str, prefix: bytes, find_client: FindClient | None = None) -> None:
        super().__init__(form, prefix, find_client)
        self._open_for = lru_cache(maxsize=512)(self._open_proxied)

    def meet(self, address: Address | None) -> Peer:
        """Return who has a connection, and what lines hold about that."""
        return Peer(address, self._open(address, address))

    def join(self, entries: Sequence[Entry], offset_s: float) -> bytes:
        """Return the lines of entries, in their order; ``offset_s`` makes their moments those since 1970. May be repeated."""
        pieces, fresh = self._list_pieces(entries, offset_s, self._say_plainly)
        if fresh and _are_doubtful(fresh):
            pieces, _ = self._list_pieces(entries, offset_s, self._say_each)
        return b"".join(pieces)

    def _list_pieces(
        self, entries: Sequence[Entry], offset_s: float, say: Callable[[Told, Asked], bytes]
    ) -> tuple[list[bytes], list[Asked]]:
        """Return what the lines consist of, and the requests of which ``say`` has said something."""
        pieces, fresh = list[bytes](), list[Asked]()
        add, name, begins_with_date = pieces.extend, self._name, self._begins_with_date
        is_proxied = self._find_client is not _take_peer
        latest_s, date = None, b""
        for now_s, peer, told, asked, number in entries:
            if told is None:
                pieces.append(asked)
                continue
            if now_s != latest_s:
                latest_s, date = now_s, self._date(now_s + offset_s)
            if type(asked) is Remembered:
                if asked.told is not told:
                    asked.told, asked.said = told, self._say_each(told, asked.describe())
                opening, given, said = peer.opening, None, asked.said
            else:
                fresh.append(asked)
                opening, given, said = peer.opening, None, say(told, asked)
                if is_proxied and len(asked) > _PASSED_ON:
                    opening, given = self._begin_proxied(peer, asked)
            if begins_with_date:
                add((date, name % number if given is None else given, opening, said))
            else:
                add((opening, date, said))
        return pieces, fresh

    def _begin_proxied(self, peer: Peer, asked: Asked) -> tuple[bytes, bytes | None]:
        """Return what lines hold about who asked by way of a proxy, and the identifier that it gave, if it counts."""
        x_forwarded_for, forwarded, given = asked[_PASSED_ON:]
        is_told = x_forwarded_for is not None or forwarded is not None
        opening = self._open_for(peer.address, x_forwarded_for, forwarded) if is_told else peer.opening
        return opening, given if self._has_names else None

    def _say_each(self, told: Told, asked: Asked) -> bytes:
        return self._say(told, asked) if _are_doubtful((asked,)) else self._say_plainly(told, asked)

    def _say(self, told: Told, asked: Asked) -> bytes:
        """Return the rest of a line, whatever the client sent."""
        raise NotImplementedError

    def _say_plainly(self, told: Told, asked: Asked) -> bytes:
        """Return what ``_say`` does, in less time, where nothing is to be escaped or secret."""
        raise NotImplementedError

    def _date(self, started: float) -> bytes:
        """Return what lines hold about a moment, in seconds since 1970."""
        raise NotImplementedError

    def _tell(self, told: Told) -> bytes:
        """Return what lines hold about an answer, and have it keep that."""
        raise NotImplementedError

    def _open(self, client: Address | None, peer: Address | None) -> bytes:
        """Return what lines hold about who asked."""
        raise NotImplementedError

    def _open_proxied(self, peer: Address | None, x_forwarded_for: bytes | None, forwarded: bytes | None) -> bytes:
        return self._open(self._find_client(peer, x_forwarded_for, forwarded), peer)


class _Combined(_Pieced):
    """The combined log format."""

    def _date(self, started: float) -> bytes:
        return _say_date(int(started))

    def _say(self, told: Told, asked: Asked) -> bytes:
        path, _, query = _text(asked[0]).partition("?")
        line = f"{path}?{without_secrets(query)}" if query else path
        referer, agent = ("-" if value is None else value.decode("latin-1") for value in (asked[2], asked[3]))
        told_as = (told.said or self._tell(told)).decode()
        return encode_line(f'{quote(line)}{told_as}{quote(without_secrets(referer))}" "{quote(agent)}"')

    def _say_plainly(self, told: Told, asked: Asked) -> bytes:
        line, referer, agent = asked[0], asked[2], asked[3]
        if line is None or line[-1] == _MARK:  # an empty query is not written
            return self._say(told, asked)
        referer, agent = b"-" if referer is None else referer, b"-" if agent is None else agent
        return b"".join((line, told.said or self._tell(told), referer, b'" "', agent, b'"\n'))

    def _tell(self, told: Told) -> bytes:
        told.said = b' HTTP/1.1" %d %b "' % (told.status, b"%d" % told.sent if told.sent else b"-")
        return told.said

    def _open(self, client: Address | None, peer: Address | None) -> bytes:
        del peer
        return f"{format_host(client)} - - [".encode()


class _Json(_Pieced):
    """JSON lines."""

    _begins_with_date = True

    def _date(self, started: float) -> bytes:
        return b'{"ts":"%b","level":"info","logger":"%b","request_id":"' % (format_moment(started).encode(), LOGGER.encode())

    def _say(self, told: Told, asked: Asked) -> bytes:
        line, host, referer, agent, range_, traceparent = asked[:_PASSED_ON]
        method, _, target = _text(line).partition(" ")
        path, _, query = target.partition("?")
        trace = parse_traceparent(traceparent) if traceparent else None
        row = {
            "trace_id": trace.trace_id if trace else "",
            "span_id": trace.span_id if trace else "",
            "method": method,
            "host": _text(host),
            "path": unquote(path),
            "query": without_secrets(query),
            **_describe_answer(told),
            "range": _text(range_),
            "referer": without_secrets(_text(referer)),
            "user_agent": _text(agent),
        }
        return b",%b\n" % encode_json(row)[1:]

    def _say_plainly(self, told: Told, asked: Asked) -> bytes:
        line, host, referer, agent, range_, traceparent = asked[:_PASSED_ON]
        if line is None or line[0] != _GET or traceparent is not None or _PERCENT in line:
            return self._say(told, asked)
        path, query = line[_METHOD:], b""
        if _MARK in path:
            path, _, query = path.partition(b"?")
        return b"".join(
            (
                b',"trace_id":"","span_id":"","method":"GET","host":"',
                host or b"",
                b'","path":"',
                path,
                b'","query":"',
                query,
                told.said or self._tell(told),
                range_ or b"",
                b'","referer":"',
                referer or b"",
                b'","user_agent":"',
                agent or b"",
                b'"}\n',
            )
        )

    def _tell(self, told: Told) -> bytes:
        told.said = b'",%b,"range":"' % encode_json(_describe_answer(told))[1:-1]
        return told.said

    def _open(self, client: Address | None, peer: Address | None) -> bytes:
        return f'","client_ip":"{format_host(client)}","peer":"{format_host(peer)}"'.encode()


def _text(value: bytes | None) -> str:
    return value.decode("latin-1") if value else ""


def _describe_answer(told: Told) -> dict[str, Any]:
    values = {name: value.decode("latin-1") for name, value in told.fields}
    return {
        "status": told.status,
        "bytes_sent": told.sent,
        "bytes_received": 0,
        "duration_ms": 0.0,
        "ttfb_ms": 0.0,
        "coding": values.get(b"content-encoding", "identity"),
        "cache": values.get(b"cache-status", ""),
    }


@lru_cache(maxsize=4)
def _say_date(seconds: int) -> bytes:
    return f'{format_date(seconds)}] "'.encode()


_PIECED: Mapping[str, type[_Pieced]] = {"combined": _Combined, "json": _Json}


def choose_briefs(form: str, prefix: bytes, find_client: FindClient | None = None) -> Briefs:
    """Return what writes entries as ``form`` does. ``prefix`` is of their identifiers, empty if they have none."""
    return _PIECED.get(form, Briefs)(form, prefix, find_client)


def _take_peer(peer: Address | None, *_: object) -> Address | None:
    return peer


def _unfold(asked: Asked | Remembered) -> Asked:
    return asked.describe() if isinstance(asked, Remembered) else asked


_PASSED_ON = 1 + len(ASKED)
"""Where in ``Asked`` that begins which counts only where a trusted proxy sent it."""

_NOTHING = (None,) * len(PASSED_ON)

_NO_NAME = b"%.0a"
"""Writes a number as nothing at all."""

# ``byte in data`` where that is a number: for bytes, Python 3.11 makes and drops an error first, 1,500 instructions of it.
_GET, _MARK, _EQUALS, _PERCENT, _QUOTE, _BACKSLASH, _TAB = b'G?=%"\\\t'
_METHOD = len("GET ")

_GRANT, _SIGNATURE, _TOKEN, _ = (name.encode() for name in SECRET_NAMES)


def _are_doubtful(fresh: Sequence[Asked]) -> bool:
    """Tell whether anything of requests may have to be escaped, or kept secret; ``access_token`` has ``token`` in it.

    What is left of all bytes is looked at: requests with control characters are refused.
    """
    lines, hosts, referers, agents, ranges, *_ = zip(*fresh, strict=False)
    urls = b"\n".join(filter(None, chain(lines, referers)))
    text = b"\n".join(filter(None, chain((urls,), hosts, agents, ranges)))
    if not text.isascii() or _QUOTE in text or _BACKSLASH in text or _TAB in text:
        return True
    if _EQUALS not in urls:
        return False
    return _PERCENT in urls or urls.find(_TOKEN) >= 0 or urls.find(_GRANT) >= 0 or urls.find(_SIGNATURE) >= 0
