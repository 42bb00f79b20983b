"""Skew protection: a page that is open says which release it is of, and gets the files of that, hashed or not.

The names are those that frameworks send to Vercel, so that their adapters work as they are: ``?dpl=`` (Next.js, on the files of
a page), ``x-deployment-id`` (on what its scripts ask for), and the cookie ``__vdpl``. A pin that means no kept release is
ignored: the site answers as without it.

Laws:
- Who asks for a document gets the newest, whatever a cookie says: else one visit would pin all that follow.
- What another release answered under the same URL is for nobody else, unless its bytes prove its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from starlette.types import Scope

from assetserver.errors import PublishError, ReleaseMissingError

from .requests import first_field

WAYS = ("query", "header", "cookie")

LIMIT_OPEN = 4
LIMIT_NAMES = 256
"""Names of which it is known what they mean. Anybody can make some up."""

QUERY_KEY = "dpl"
FIELD = b"x-deployment-id"
COOKIE = "__vdpl"
_FIELDS = {"header": FIELD, "cookie": b"cookie"}
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,128}")
_DOCUMENTS = frozenset({"document", "frame", "iframe"})
PRIVATE = "private, no-cache"


class Pin(NamedTuple):
    """Which release is asked for, by id or alias; ``is_by_url``: the URL says so, and any cache may keep the answer."""

    name: str
    is_by_url: bool


class Pins:
    """The pins of one site, in those of ``WAYS`` that are switched on.

    ``resolve`` returns the id of the kept release that a name means, "" where that is the active one, and raises
    ``ReleaseMissingError`` for no release; ``open_release`` opens what serves one. At most 4 are held open, the last used.
    """

    def __init__(self, ways: tuple[str, ...], resolve: Callable[[str], str], open_release: Callable[[str], Any]) -> None:
        self._readers = tuple((way == "query", read) for way, read in _READERS.items() if way in ways)
        self._resolve = resolve
        self._open_release = open_release
        self._open: dict[str, Any] = {}
        self._meant: dict[str, str] = {}
        self._mark: object = None
        self.vary = b", ".join(_FIELDS[way] for way in WAYS if way in _FIELDS and way in ways)

    def read(self, scope: Scope) -> Pin | None:
        """Return the pin of a request, or None. The field wins over the URL, and that over the cookie."""
        for is_by_url, read in self._readers:
            name = read(scope)
            if name and _NAME.fullmatch(name):
                return Pin(name, is_by_url)
        return None

    def find(self, pin: Pin, mark: object) -> Any | None:
        """Return what serves the release that ``pin`` means; None if that is the active one, or none. May read a file.

        ``mark`` changes whenever it may mean another, or the release may be gone.
        """
        if mark != self._mark:
            self._mark, self._meant, self._open = mark, {}, {}
        release = self._meant.get(pin.name)
        try:
            if release is None:
                release = self._resolve(pin.name)
            if release and release not in self._open:
                _make_room(self._open, LIMIT_OPEN)
                self._open[release] = self._open_release(release)
        except (ReleaseMissingError, PublishError):
            release = ""
        _make_room(self._meant, LIMIT_NAMES)
        self._meant[pin.name] = release
        if not release:
            return None
        files = self._open[release] = self._open.pop(release)
        return files


def keep_private(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the fields of an answer that a field of the request chose: for nobody else, unless it never changes."""
    if any(name == b"cache-control" and b"immutable" in value for name, value in fields):
        return fields
    others = [field for field in fields if not field[0].endswith((b"cache-control", b"surrogate-control"))]
    return [*others, (b"cache-control", PRIVATE.encode())]


def _read_field(scope: Scope) -> str | None:
    return first_field(scope, FIELD)


def _read_query(scope: Scope) -> str | None:
    query = scope.get("query_string", b"")
    if QUERY_KEY.encode() not in query:
        return None
    try:
        return dict(parse_qsl(query.decode("latin-1"), max_num_fields=100)).get(QUERY_KEY)
    except ValueError:
        return None


def _read_cookie(scope: Scope) -> str | None:
    """Clients that do not say what they want a file for are not pinned by a cookie: it may be a document."""
    destination, cookie = first_field(scope, b"sec-fetch-dest"), first_field(scope, b"cookie")
    if destination is None or destination in _DOCUMENTS or cookie is None or COOKIE not in cookie:
        return None
    try:
        found = SimpleCookie(cookie).get(COOKIE)
    except CookieError:
        return None
    return found.value if found else None


_READERS = {"header": _read_field, "query": _read_query, "cookie": _read_cookie}
"""How pins are read; the first wins."""


def _make_room(known: dict[str, Any], limit: int) -> None:
    while len(known) >= limit:
        known.pop(next(iter(known)))
