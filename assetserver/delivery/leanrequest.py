"""The quick reading of a plain GET or HEAD: one regular expression per client, and no Python object but for what decides.

Requests of one client have the same field names, in the same order. A ``Shape`` is made of the names of one request, once they
are seen to be harmless, and reads all others that have exactly those. What it does not match is left to the slow path.

Source: RFC 9112 §2.1, §5; RFC 9110 §5.5: a value holds no control character but HTAB. CR alone ends no line (RFC 9112 §2.2).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import itemgetter
from time import monotonic

from assetserver.observe import ASKED, PASSED_ON, Describe
from assetserver.semantics.tracecontext import REQUEST_ID

Key = tuple[bytes | None, ...]
"""What decides the answer, as sent: method and target, Host, ``Accept-Encoding``, ``If-None-Match``; and where there is a
``Range``, that and ``If-Range``, or else the dictionary that may be used, if there is one."""

WITH_DICTIONARY = 5
"""The length of a key with a dictionary."""

WITH_RANGE = 6
"""The length of a key with a range."""

_LEFT = frozenset(
    {
        b"authorization",
        b"content-length",
        b"expect",
        b"http2-settings",
        b"if-match",
        b"if-unmodified-since",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"want-repr-digest",
        b"x-deployment-id",
    }
)
"""Fields of requests that are left to the slow path: it decides with them, or they are about framing."""

OF_HOSTS = frozenset({b"forwarded", b"x-forwarded-host"})
"""Those that decide, too, where a proxy is believed what host was asked for."""

_PLAIN = bytes(byte ^ 1 if (byte < 32 and byte not in b"\t\r\n") or byte == 127 else byte for byte in range(256))  # noqa: PLR2004
"""Changes control characters: what it leaves as it is has none. 0.5 µs; in the pattern they would take 1.3."""

_DECIDING = (b"host", b"accept-encoding", b"if-none-match")
_OF_RANGES = (b"range", b"if-range")
_TAKEN = frozenset({*_DECIDING, *_OF_RANGES, *ASKED, b"accept"})
"""Fields whose values are looked at, and with those that count where a trusted proxy sent them."""
_TAKEN_OF_PROXIES = _TAKEN.union(PASSED_ON)

_DICTIONARY = b"available-dictionary"
_OF_DICTIONARIES = (_DICTIONARY, b"sec-fetch-site", b"sec-fetch-mode", b"origin")
"""Fields that decide where a dictionary is offered: what is no hash does not match, and is left to the slow path."""

_VALUES = {
    b"connection": b"(?i:keep-alive)",
    b"cookie": b"(?!.*__vdpl).*",
    _DICTIONARY: b"(?P<available_dictionary>:[A-Za-z0-9+/]{43}=:)",
}
"""What values must be where others are left to the slow path. ``__vdpl`` may name a release."""

BY_CORS = b"cors"
"""Begins what stands for the dictionary in a key if it may be used only where CORS lets all origins read the answer."""

_SITE, _MODE, _ORIGIN = 5, 6, 7
"""Where the fields about dictionaries stand behind what else decides."""
_OF_THIS_SITE = (None, b"same-origin")
_OF_THE_BROWSER = (None, b"navigate", b"same-origin")

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = 1
LIMIT_DATA_BYTES = 8 << 10
"""Longer requests are left: all that is kept of a request is bounded by this, and so is the time that reading it takes."""

_LIMIT_LINES = 34
_LIMIT_NAMES_BYTES = 1 << 10
_EVERY_S, _BURST = 0.1, 20
"""At most one shape is made in so many seconds, after so many at once."""

_LIMIT_SHAPES = 256
_LIMIT_SEEN = 4096


class Shape:
    """Requests with these field ``names``, so written, in this order. ``lines`` is the number of CRLFs.

    ``taken`` are those, in lower case, whose values are looked at.

    ``fullmatch`` takes a request without control characters and with as many CRs; ``key`` and ``describe`` pick from its match.
    The last group wants a NUL, of which there is none: it stands for fields that are not sent.
    """

    __slots__ = ("_groups", "describe", "fullmatch", "key", "lines")

    def __init__(self, names: tuple[bytes, ...], taken: frozenset[bytes] = _TAKEN) -> None:
        lower = {name.lower() for name in names}
        offers = _DICTIONARY in lower and b"range" not in lower
        of_dictionaries = _OF_DICTIONARIES if offers else ()
        taken = taken.union(of_dictionaries)
        lines = b"".join(_line_of(name, taken) for name in names)
        pattern = re.compile(b'((?:GET|HEAD) /[!"$-~]*) HTTP/1\\.1\r\n' + lines + b"\r\n(?P<nothing>\0)?")
        self.lines = len(names) + 2
        self.fullmatch = pattern.fullmatch
        groups = pattern.groupindex
        self._groups = {name: groups.get(_group_of(name), groups["nothing"]) for name in taken.union(_TAKEN_OF_PROXIES)}
        deciding = (*_DECIDING, *(_OF_RANGES if b"range" in lower else of_dictionaries))
        pick: Callable[[re.Match[bytes]], Key] = itemgetter(_TARGET, *(self._groups[name] for name in deciding))
        self.key = _with_dictionary(pick) if offers else pick
        told = [name for name in (*ASKED, *PASSED_ON) if name in taken]
        self.describe: Describe = itemgetter(_TARGET, *(self._groups[name] for name in told))

    def value(self, match: re.Match[bytes], name: bytes) -> bytes | None:
        """Return the value of one of the fields that are looked at, None if this client does not send it."""
        value: bytes | None = match[self._groups[name]]
        return value


def _line_of(name: bytes, taken: frozenset[bytes]) -> bytes:
    """Return the pattern of a field line; the values of the fields that are ``taken`` are groups."""
    lower = name.lower()
    pattern = REQUEST_ID if lower == b"x-request-id" else b".*"
    value = b"(?P<%b>%b)" % (_group_of(lower).encode(), pattern) if lower in taken else b".*"
    if lower in _VALUES and (lower in taken or lower != _DICTIONARY):
        value = _VALUES[lower]
    return re.escape(name) + b": " + value + b"\r\n"


def _with_dictionary(pick: Callable[[re.Match[bytes]], Key]) -> Callable[[re.Match[bytes]], Key]:
    """Return what makes keys of requests that offer a dictionary: without it where no delta may be read (RFC 9842 §9.3.3).

    ``pick`` gives what decides, the fields about dictionaries behind the others.
    """

    def key(match: re.Match[bytes]) -> Key:
        values = pick(match)
        if values[_SITE] in _OF_THIS_SITE or values[_MODE] in _OF_THE_BROWSER:
            return values[:WITH_DICTIONARY]
        plain = values[: WITH_DICTIONARY - 1]
        if values[_MODE] == BY_CORS and values[_ORIGIN] is not None:
            return (*plain, BY_CORS + (values[WITH_DICTIONARY - 1] or b""))
        return plain

    return key


def _group_of(name: bytes) -> str:
    return name.decode().replace("-", "_")


class Shapes:
    """The shapes that one process knows: of requests that a trusted proxy passed on if it ``is_behind_proxy``.

    ``left`` are other fields that are left to the slow path.
    """

    def __init__(
        self,
        *,
        is_behind_proxy: bool = False,
        left: frozenset[bytes] = frozenset(),
        clock_s: Callable[[], float] = monotonic,
    ) -> None:
        self._left = _LEFT | left
        self._taken = _TAKEN_OF_PROXIES if is_behind_proxy else _TAKEN
        self._clock_s = clock_s
        self._shapes: dict[tuple[bytes, ...], Shape] = {}
        self._seen: set[int] = set()
        self._earlier_s = float("-inf")

    def __len__(self) -> int:
        """Return the number of shapes."""
        return len(self._shapes)

    def find(self, data: bytes) -> Shape | None:
        """Return the shape of a request with its field names, or None if they decide in ways that no shape knows.

        A shape is made for names that come a second time, and not too often: it takes milliseconds, and anybody makes up names.
        """
        names = tuple(line.partition(b":")[0] for line in data[:-4].split(b"\r\n")[1:])
        shape = self._shapes.get(names)
        if shape is not None or not _are_harmless(names, self._left) or not self._comes_again(hash(names)):
            return shape
        now_s = self._clock_s()
        self._earlier_s = max(self._earlier_s, now_s - _BURST * _EVERY_S) + _EVERY_S
        if self._earlier_s > now_s:
            self._earlier_s -= _EVERY_S
            return None
        if len(self._shapes) >= _LIMIT_SHAPES:
            self._shapes.pop(next(iter(self._shapes)))
        shape = self._shapes[names] = Shape(names, self._taken)
        return shape

    def _comes_again(self, mark: int) -> bool:
        if mark in self._seen:
            return True
        if len(self._seen) >= _LIMIT_SEEN:
            self._seen.clear()
        self._seen.add(mark)
        return False


def _are_harmless(names: tuple[bytes, ...], left: frozenset[bytes]) -> bool:
    """Tell whether no other field decides than those that are taken, and none stands twice."""
    if sum(map(len, names)) > _LIMIT_NAMES_BYTES or not all(map(_NAME.fullmatch, names)):
        return False
    lower = {name.lower() for name in names}
    if len(lower) != len(names) or not left.isdisjoint(lower) or b"host" not in lower:
        return False
    if b"if-range" in lower and b"range" not in lower:  # to be ignored (RFC 9110 §13.1.5), which the slow path does
        return False
    return b"if-modified-since" not in lower or b"if-none-match" in lower  # ignored beside it (RFC 9110 §13.1.3)


class LeanReader:
    """Reads the requests of one connection. ``shape`` and ``match`` are of the last one that was read, once there was one."""

    __slots__ = ("_known", "_shapes", "match", "shape")

    shape: Shape
    match: re.Match[bytes]

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._known: dict[int, Shape] = {}

    def read(self, data: bytes, *, learns: bool = True) -> Key | None:
        """Return what decides the answer if ``data`` is exactly one request that the hot path may answer; else None.

        Not ``learns``: only if its shape is known to this connection.
        """
        lines = data.count(b"\r")
        shape = self._known.get(lines)
        if shape is not None and len(data) <= LIMIT_DATA_BYTES and data.translate(_PLAIN) == data:
            match = shape.fullmatch(data)
            if match is not None:
                self.shape, self.match = shape, match
                return shape.key(match)
        return self._learn(data, lines) if learns else None

    def value(self, name: bytes) -> bytes | None:
        """Return a field of the last request that was read: ``accept``, or another one that shapes look at."""
        return self.shape.value(self.match, name)

    def _learn(self, data: bytes, lines: int) -> Key | None:
        if (
            lines > _LIMIT_LINES
            or len(data) > LIMIT_DATA_BYTES
            or not data.startswith((b"GET /", b"HEAD /"))
            or data.find(b"\r\n\r\n") != len(data) - 4
        ):
            return None
        shape = self._shapes.find(data)
        if shape is None or lines != shape.lines or data.translate(_PLAIN) != data:
            return None
        match = shape.fullmatch(data)
        if match is None:
            return None
        self._known[lines] = self.shape = shape
        self.match = match
        return shape.key(match)
